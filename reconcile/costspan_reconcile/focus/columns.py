"""The columns of an export: FOCUS 1.2, those of it that apply to OpenAI, and our own as `x_...`."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum

VERSION = "1.2"

Value = str | int | Decimal | datetime | None
Row = Mapping[str, Value]


class Kind(Enum):
    """What a column holds."""

    STRING = "a text"
    JSON = "a JSON object"
    DECIMAL = "a decimal number such as 12.5"
    COUNT = "a whole number"
    INSTANT = "a time such as 2026-10-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class Column:
    """One column, and whether it may be empty."""

    name: str
    kind: Kind = Kind.STRING
    nullable: bool = True


def _filled(name: str, kind: Kind = Kind.STRING) -> Column:
    return Column(name, kind, nullable=False)


COLUMNS = (
    _filled("BilledCost", Kind.DECIMAL),
    _filled("BillingAccountId"),
    Column("BillingAccountName"),
    _filled("BillingAccountType"),
    _filled("BillingCurrency"),
    _filled("BillingPeriodEnd", Kind.INSTANT),
    _filled("BillingPeriodStart", Kind.INSTANT),
    _filled("ChargeCategory"),
    Column("ChargeClass"),
    Column("ChargeDescription"),
    _filled("ChargeFrequency"),
    _filled("ChargePeriodEnd", Kind.INSTANT),
    _filled("ChargePeriodStart", Kind.INSTANT),
    Column("CommitmentDiscountStatus"),
    Column("ConsumedQuantity", Kind.DECIMAL),
    Column("ConsumedUnit"),
    _filled("ContractedCost", Kind.DECIMAL),
    Column("ContractedUnitPrice", Kind.DECIMAL),
    _filled("EffectiveCost", Kind.DECIMAL),
    Column("InvoiceId"),
    _filled("InvoiceIssuerName"),
    _filled("ListCost", Kind.DECIMAL),
    Column("ListUnitPrice", Kind.DECIMAL),
    Column("PricingCategory"),
    _filled("PricingCurrency"),
    Column("PricingCurrencyContractedUnitPrice", Kind.DECIMAL),
    _filled("PricingCurrencyEffectiveCost", Kind.DECIMAL),
    Column("PricingCurrencyListUnitPrice", Kind.DECIMAL),
    Column("PricingQuantity", Kind.DECIMAL),
    Column("PricingUnit"),
    _filled("ProviderName"),
    _filled("PublisherName"),
    _filled("ServiceCategory"),
    _filled("ServiceName"),
    _filled("ServiceSubcategory"),
    Column("SkuId"),
    Column("SkuMeter"),
    Column("SkuPriceDetails", Kind.JSON),
    Column("SkuPriceId"),
    Column("SubAccountId"),
    Column("SubAccountName"),
    Column("SubAccountType"),
    Column("Tags", Kind.JSON),
    Column("x_ApiKeyId"),
    Column("x_ApiKeyName"),
    Column("x_LineItem"),
    _filled("x_SettlementState"),
    Column("x_Verdict"),
    Column("x_VarianceCause"),
    Column("x_EstimatedCost", Kind.DECIMAL),
    Column("x_UnitPriceSource"),
    Column("x_AttributionMethod"),
    Column("x_AllocationRule"),
    Column("x_Team"),
    Column("x_Feature"),
    Column("x_Customer"),
    Column("x_CorrectedMonth"),
)
"""In the order of the file."""
