"""From the ledger to the rows of FOCUS: pure, and exact to the last digit."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Context, Decimal
from fractions import Fraction

from costspan_reconcile.amounts import kept
from costspan_reconcile.book_prices import Prices
from costspan_reconcile.focus.columns import COLUMNS, Row, Value
from costspan_reconcile.focus.products import (
    DAY,
    NOT_ITEMISED,
    book_price,
    product_of,
    unit_of,
    unit_price,
)
from costspan_reconcile.period.bridge import BridgeLine
from costspan_reconcile.period.month import Month

QUANTITY_PLACES = 12
"""Of the part of a quantity that goes with a share of its dollars."""
_USD_PLACES = 12
_EXACT = Context(prec=160)
_EMPTY: dict[str, Value] = {column.name: None for column in COLUMNS}


Share = tuple[str, str, str, str, str, Decimal]
"""Team, feature, customer, kind, rule, dollars."""


@dataclass(frozen=True, slots=True)
class Bill:
    """What all rows of a month share."""

    month: Month
    state: str
    account: str
    invoice_id: str


@dataclass(frozen=True, slots=True)
class Line:
    """A billed line of a day and who bears it."""

    day: date
    project: str
    project_name: str
    api_key_id: str
    key_name: str
    line_item: str
    quantity_unit: str
    billed_usd: Decimal
    billed_quantity: Decimal | None
    estimated_usd: Decimal | None
    cause: str
    verdict: str
    day_state: str
    shares: tuple[Share, ...]


@dataclass(frozen=True, slots=True)
class Correction:
    """What a month owes for a line of a month that was locked before, and who bore that line."""

    original_month: date
    day: date
    project: str
    api_key_id: str
    line_item: str
    quantity_unit: str
    amount_usd: Decimal
    shares: tuple[Share, ...]


@dataclass(frozen=True, slots=True)
class Books:
    """The prices that OpenAI publishes, and those that were negotiated."""

    published: Prices
    contracted: Prices


def line_rows(bill: Bill, line: Line, books: Books) -> Iterator[Row]:
    """Return the rows of a billed line: one for each share; their costs are its dollars."""
    shares = line.shares or (("", "", "", "", "", line.billed_usd),)
    weights = [share[-1] for share in shares]
    estimates: Sequence[Decimal | None] = [None] * len(shares)
    if line.estimated_usd is not None:
        estimates = split(line.estimated_usd, weights, _USD_PLACES)
    common = _line_row(bill, line)
    if line.billed_usd < 0:  # a refund or a promotion: nothing was used at a price
        priced: list[dict[str, Value]] = [{"ChargeCategory": "Credit"}] * len(shares)
    else:
        priced = _priced(line, weights, books)
    for share, estimated, price in zip(shares, estimates, priced, strict=True):
        yield {
            **common,
            **_costs(share[-1]),
            **price,
            **_bearer(share),
            "x_EstimatedCost": None if estimated is None else _trimmed(estimated),
        }


def correction_rows(bill: Bill, booked: Correction) -> Iterator[Row]:
    """Return the rows of what changed in a locked month: whoever bore the line bears that too."""
    shares = booked.shares or (("", "", "", "unattributed", "", booked.amount_usd),)
    common = _correction_row(bill, booked)
    parts = split(booked.amount_usd, [share[-1] for share in shares], _USD_PLACES)
    for share, part in zip(shares, parts, strict=True):
        if part:
            yield {**common, **_costs(part), **_bearer(share)}


def _bearer(share: Share) -> dict[str, Value]:
    team, feature, customer, kind, rule, _ = share
    tags = {"team": team, "feature": feature, "customer": customer}
    return {
        "Tags": _json({name: value for name, value in tags.items() if value}),
        "x_AttributionMethod": kind or None,
        "x_AllocationRule": rule or None,
        "x_Team": team or None,
        "x_Feature": feature or None,
        "x_Customer": customer or None,
    }


def _correction_row(bill: Bill, booked: Correction) -> Row:
    day = booked.day
    product = product_of(booked.line_item, booked.quantity_unit)
    return {
        **_row(bill),
        **_days(day, day + timedelta(days=1)),
        **_project(booked.project, ""),
        "ChargeCategory": "Adjustment",
        "ChargeClass": "Correction",
        "ChargeFrequency": "Usage-Based",
        "ChargeDescription": f"correction of {booked.line_item} on {day}",
        "SkuId": product.sku_id,
        "SkuPriceId": product.sku_price_id,
        "SkuMeter": product.meter,
        "x_ApiKeyId": booked.api_key_id or None,
        "x_LineItem": booked.line_item,
        "x_CorrectedMonth": str(Month(booked.original_month)),
    }


def bridge_row(bill: Bill, line: BridgeLine) -> Row:
    """Return the row of a tax, fee, credit or rounding that only the invoice states."""
    row: dict[str, Value] = {
        **_row(bill),
        **_costs(line.amount_usd),
        **_days(bill.month.first, bill.month.until),
        "ChargeCategory": line.charge_category,
        "ChargeClass": line.charge_class or None,
        "ChargeFrequency": "One-Time",
        "ChargeDescription": line.description,
    }
    if line.charge_category == "Purchase":
        sku = f"fee/{line.description}"
        price = _trimmed(line.amount_usd)
        row |= {
            "SkuId": sku,
            "SkuPriceId": sku,
            "SkuMeter": "Fee",
            **_price(price, price, Decimal(1), "Fees"),
            "PricingCategory": "Other",
        }
    return row


def split(total: Decimal, weights: Sequence[Decimal], places: int) -> list[Decimal]:
    """Return parts of `total` by `weights`: they sum to it, and all but the last end at `places`."""
    whole = sum(map(Fraction, weights), Fraction(0))
    if not whole:
        return [total, *[Decimal(0)] * (len(weights) - 1)]
    parts: list[Decimal] = []
    running, given = Fraction(0), Decimal(0)
    for weight in weights[:-1]:
        running += Fraction(weight)
        upto = Decimal(round(Fraction(total) * running / whole * 10**places)).scaleb(
            -places, _EXACT
        )
        parts.append(_EXACT.subtract(upto, given))
        given = upto
    return [*parts, _EXACT.subtract(total, given)]


def _priced(line: Line, weights: Sequence[Decimal], books: Books) -> list[dict[str, Value]]:
    """Return, for each share, what was used and at what price."""
    if line.billed_quantity:
        unit = unit_of(line.quantity_unit)
        consumed = _EXACT.multiply(line.billed_quantity, Decimal(unit.consumed_per_quantity))
        quantity = kept(Fraction(consumed) / unit.consumed_per_price)
        where = (line.line_item, line.quantity_unit, line.day, line.project)
        published, contracted = (
            book_price(book, *where) for book in (books.published, books.contracted)
        )
    else:
        unit, quantity, published, contracted = DAY, Decimal(1), None, None
    paid = unit_price(Fraction(line.billed_usd) / Fraction(quantity))
    listed = paid if published is None else published
    agreed = listed if contracted is None else contracted
    return [
        {
            "ChargeCategory": "Usage",
            "ConsumedQuantity": _trimmed(_EXACT.multiply(part, Decimal(unit.consumed_per_price))),
            "ConsumedUnit": unit.consumed,
            **_price(_trimmed(listed), _trimmed(agreed), _trimmed(part), unit.priced),
            "PricingCategory": "Standard",
            "x_UnitPriceSource": "bill" if published is None else "price book",
            **_sku(line),
        }
        for part in split(quantity, weights, QUANTITY_PLACES)
    ]


def _price(listed: Decimal, agreed: Decimal, quantity: Decimal, unit: str) -> dict[str, Value]:
    return {
        "PricingQuantity": quantity,
        "PricingUnit": unit,
        "ListUnitPrice": listed,
        "ListCost": _trimmed(_EXACT.multiply(listed, quantity)),
        "ContractedUnitPrice": agreed,
        "ContractedCost": _trimmed(_EXACT.multiply(agreed, quantity)),
        "PricingCurrencyListUnitPrice": listed,
        "PricingCurrencyContractedUnitPrice": agreed,
    }


def _sku(line: Line) -> dict[str, Value]:
    product = product_of(line.line_item, line.quantity_unit)
    return {
        "SkuId": product.sku_id,
        "SkuPriceId": product.sku_price_id,
        "SkuMeter": product.meter,
        "SkuPriceDetails": _json(product.details),
    }


def _line_row(bill: Bill, line: Line) -> dict[str, Value]:
    return {
        **_row(bill),
        **_days(line.day, line.day + timedelta(days=1)),
        **_project(line.project, line.project_name),
        "ChargeFrequency": "Usage-Based",
        "ChargeDescription": line.line_item or NOT_ITEMISED,
        "x_ApiKeyId": line.api_key_id or None,
        "x_ApiKeyName": line.key_name or None,
        "x_LineItem": line.line_item or None,
        "x_SettlementState": bill.state if bill.state == "LOCKED" else line.day_state,
        "x_Verdict": line.verdict or None,
        "x_VarianceCause": line.cause or None,
    }


def _row(bill: Bill) -> dict[str, Value]:
    return {
        **_EMPTY,
        "BillingAccountId": bill.account,
        "BillingAccountType": "Organization",
        "BillingCurrency": "USD",
        "BillingPeriodStart": _midnight(bill.month.first),
        "BillingPeriodEnd": _midnight(bill.month.until),
        "InvoiceId": bill.invoice_id,
        "InvoiceIssuerName": "OpenAI",
        "PricingCurrency": "USD",
        "ProviderName": "OpenAI",
        "PublisherName": "OpenAI",
        "ServiceCategory": "AI and Machine Learning",
        "ServiceSubcategory": "Generative AI",
        "ServiceName": "OpenAI API",
        "x_SettlementState": bill.state,
    }


def _costs(usd: Decimal) -> dict[str, Value]:
    """Return what a charge without a unit price says; one with a price states two of them anew."""
    costs = ("BilledCost", "EffectiveCost", "PricingCurrencyEffectiveCost")
    return dict.fromkeys((*costs, "ListCost", "ContractedCost"), _trimmed(usd))


def _project(project: str, name: str) -> dict[str, Value]:
    return {
        "SubAccountId": project or None,
        "SubAccountName": name or None if project else None,
        "SubAccountType": "Project" if project else None,
    }


def _days(since: date, until: date) -> dict[str, Value]:
    return {"ChargePeriodStart": _midnight(since), "ChargePeriodEnd": _midnight(until)}


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time.min, UTC)


def _json(values: dict[str, str]) -> str | None:
    return json.dumps(values, sort_keys=True, ensure_ascii=False) if values else None


def _trimmed(number: Decimal) -> Decimal:
    """Return `number` without trailing zeros: the ledger keeps forty places."""
    return number.normalize(_EXACT)
