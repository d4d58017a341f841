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
    """One column: of FOCUS 1.2, whether it must be there and whether every row has a value."""

    name: str
    kind: Kind = Kind.STRING
    mandatory: bool = False
    nullable: bool = True


def _must(name: str, kind: Kind = Kind.STRING, *, nullable: bool = False) -> Column:
    return Column(name, kind, mandatory=True, nullable=nullable)


COLUMNS = (
    _must("BilledCost", Kind.DECIMAL),
    _must("BillingAccountId"),
    _must("BillingAccountName", nullable=True),
    Column("BillingAccountType", nullable=False),
    _must("BillingCurrency"),
    _must("BillingPeriodEnd", Kind.INSTANT),
    _must("BillingPeriodStart", Kind.INSTANT),
    _must("ChargeCategory"),
    _must("ChargeClass", nullable=True),
    _must("ChargeDescription", nullable=True),
    Column("ChargeFrequency", nullable=False),
    _must("ChargePeriodEnd", Kind.INSTANT),
    _must("ChargePeriodStart", Kind.INSTANT),
    Column("CommitmentDiscountStatus"),
    Column("ConsumedQuantity", Kind.DECIMAL),
    Column("ConsumedUnit"),
    _must("ContractedCost", Kind.DECIMAL),
    Column("ContractedUnitPrice", Kind.DECIMAL),
    _must("EffectiveCost", Kind.DECIMAL),
    Column("InvoiceId"),
    _must("InvoiceIssuerName"),
    _must("ListCost", Kind.DECIMAL),
    Column("ListUnitPrice", Kind.DECIMAL),
    Column("PricingCategory"),
    Column("PricingCurrency", nullable=False),
    Column("PricingCurrencyContractedUnitPrice", Kind.DECIMAL),
    Column("PricingCurrencyEffectiveCost", Kind.DECIMAL, nullable=False),
    Column("PricingCurrencyListUnitPrice", Kind.DECIMAL),
    _must("PricingQuantity", Kind.DECIMAL, nullable=True),
    _must("PricingUnit", nullable=True),
    _must("ProviderName"),
    _must("PublisherName"),
    _must("ServiceCategory"),
    _must("ServiceName"),
    Column("ServiceSubcategory", nullable=False),
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
    Column("x_SettlementState", nullable=False),
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
