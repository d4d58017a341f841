"""Is this FOCUS 1.2? Each rule of it that applies to our columns, row by row and in one pass."""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from decimal import Context, Decimal
from typing import cast

from costspan_reconcile.focus.columns import COLUMNS, Column, Kind, Row, Value

HEADER = 0
"""The row of a fault that is one of the header or of the whole file."""
_MOST_FAULTS = 20
"""That are told."""
_EXACT = Context(prec=160)
_OUR_COLUMN = re.compile(r"x_[A-Z][A-Za-z0-9]{0,47}")
_CURRENCY = re.compile(r"[A-Z]{3}")
_ALLOWED = {
    "ChargeCategory": frozenset({"Usage", "Purchase", "Tax", "Credit", "Adjustment"}),
    "ChargeClass": frozenset({"Correction"}),
    "ChargeFrequency": frozenset({"One-Time", "Recurring", "Usage-Based"}),
    "PricingCategory": frozenset({"Standard", "Dynamic", "Committed", "Other"}),
    "CommitmentDiscountStatus": frozenset({"Used", "Unused"}),
    "ServiceCategory": frozenset({"AI and Machine Learning"}),
    "ServiceSubcategory": frozenset(
        {
            "Bots",
            "Generative AI",
            "Machine Learning",
            "Natural Language Processing",
            "Other (AI and Machine Learning)",
        }
    ),
}
"""Of the categories of services, those that OpenAI can be in."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A rule that does not hold. Rows are counted from 1; HEADER is the file as a whole."""

    row: int
    column: str
    rule: str

    def __str__(self) -> str:
        where = f"row {self.row}, " if self.row else ""
        return f"{where}{self.column}: {self.rule}"


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found in a file."""

    rows: int
    billed_usd: Decimal
    """What the rows add up to, but those without a cost that can be read."""
    faults: tuple[Fault, ...]
    more_faults: int = 0
    """Beyond those that are told."""


@dataclass(frozen=True, slots=True)
class _Rule:
    column: str
    says: str
    holds: Callable[[Row], bool]


def check(names: Sequence[str], rows: Iterable[Row]) -> Checked:
    """Check a file by its header and its rows.

    A value that is none of its column's kind is still the text that it was read as.
    """
    faults = _header_faults(names)
    more, count, total = 0, 0, Decimal(0)
    known = {column.name: column for column in COLUMNS}
    value_rules = [(name, _value_rule(known.get(name) or Column(name))) for name in names]
    complete = not faults
    for count, row in enumerate(rows, 1):
        found = [(name, says) for name, broken in value_rules if (says := broken(row[name]))]
        if complete and not found:  # the rules are about values of the right kind
            found = [(rule.column, rule.says) for rule in _RULES if not rule.holds(row)]
        for name, says in found:
            if len(faults) < _MOST_FAULTS:
                faults.append(Fault(count, name, says))
            else:
                more += 1
        cost = row.get("BilledCost")
        if isinstance(cost, Decimal) and cost.is_finite():
            total = _EXACT.add(total, cost)
    return Checked(count, total, tuple(faults), more)


def _header_faults(names: Sequence[str]) -> list[Fault]:
    known = {column.name for column in COLUMNS}
    return [
        *(
            Fault(HEADER, column.name, "is not in the file and must be")
            for column in COLUMNS
            if column.name not in names and not column.name.startswith("x_")
        ),
        *(
            Fault(HEADER, name, "is no column of FOCUS 1.2; one of our own is x_Name")
            for name in dict.fromkeys(names)
            if name not in known and not _OUR_COLUMN.fullmatch(name)
        ),
        *(
            Fault(HEADER, name, "is in the file twice")
            for name in dict.fromkeys(names)
            if names.count(name) > 1
        ),
    ]


def _value_rule(column: Column) -> Callable[[Value], str | None]:
    """Return what tells the rule that a value of `column` breaks."""
    of_kind, allowed = _KINDS[column.kind], _ALLOWED.get(column.name)

    def broken(value: Value) -> str | None:
        if value is None:
            return None if column.nullable else "must not be null"
        if not of_kind(value):
            return f"{str(value)[:60]!r} is not {column.kind.value}"
        if allowed and value not in allowed:
            return f"{value!r} is none of {', '.join(sorted(allowed))}"
        return None

    return broken


def _is_text(value: Value) -> bool:
    return isinstance(value, str) and value != ""


def _is_decimal(value: Value) -> bool:
    return isinstance(value, Decimal) and value.is_finite()


def _is_instant(value: Value) -> bool:
    return isinstance(value, datetime) and value.utcoffset() == timedelta(0)


def _is_object(value: Value) -> bool:
    if not isinstance(value, str):
        return False
    try:
        found: object = json.loads(value)
    except ValueError:
        return False
    if not isinstance(found, dict):
        return False
    values = cast("dict[str, object]", found).values()
    return all(item is None or isinstance(item, str | int | float | bool) for item in values)


_KINDS: dict[Kind, Callable[[Value], bool]] = {
    Kind.STRING: _is_text,
    Kind.JSON: _is_object,
    Kind.DECIMAL: _is_decimal,
    Kind.INSTANT: _is_instant,
}


def _time(row: Row, name: str) -> datetime:
    value = row[name]
    return value if isinstance(value, datetime) else datetime.min.replace(tzinfo=UTC)


def _number(row: Row, name: str) -> Decimal | None:
    value = row[name]
    return value if isinstance(value, Decimal) else None


def _is_month(row: Row) -> bool:
    start = _time(row, "BillingPeriodStart")
    until = (start + timedelta(days=31)).replace(day=1)
    is_first = start.day == 1 and start.time() == time.min
    return is_first and _time(row, "BillingPeriodEnd") == until


def _in_period(row: Row) -> bool:
    return row["ChargeClass"] == "Correction" or (
        _time(row, "BillingPeriodStart") <= _time(row, "ChargePeriodStart")
        and _time(row, "ChargePeriodEnd") <= _time(row, "BillingPeriodEnd")
    )


def _is_sold(row: Row) -> bool:
    """Return whether the row is of something that has a quantity and a price."""
    return row["ChargeCategory"] in {"Usage", "Purchase"} and row["ChargeClass"] != "Correction"


def _known_of_a_sale(column: str) -> tuple[_Rule, _Rule]:
    return (
        _Rule(
            column,
            "must not be null where ChargeCategory is Usage or Purchase",
            lambda row: not _is_sold(row) or row[column] is not None,
        ),
        _Rule(
            column,
            "must be null where ChargeCategory is Tax",
            lambda row: row["ChargeCategory"] != "Tax" or row[column] is None,
        ),
    )


def _together(column: str, other: str) -> _Rule:
    return _Rule(
        column,
        f"must be null where {other} is, and only there",
        lambda row: (row[column] is None) == (row[other] is None),
    )


def _only_with(column: str, other: str) -> _Rule:
    return _Rule(
        column,
        f"must be null where {other} is",
        lambda row: row[column] is None or row[other] is not None,
    )


def _not_negative(column: str) -> _Rule:
    def holds(row: Row) -> bool:
        number = _number(row, column)
        return number is None or number >= 0

    return _Rule(column, "must not be negative", holds)


def _product(cost: str, price: str) -> _Rule:
    def holds(row: Row) -> bool:
        each, quantity, usd = (_number(row, name) for name in (price, "PricingQuantity", cost))
        if each is None or quantity is None or row["ChargeClass"] == "Correction":
            return True
        return _EXACT.multiply(each, quantity) == usd

    return _Rule(cost, f"must be {price} times PricingQuantity", holds)


def _without_price(cost: str, price: str) -> _Rule:
    return _Rule(
        cost,
        f"must be BilledCost where {price} is null",
        lambda row: (
            row[price] is not None
            or row["ChargeCategory"] == "Tax"
            or row[cost] == row["BilledCost"]
        ),
    )


def _same(column: str, other: str) -> _Rule:
    return _Rule(
        column,
        f"must be {other}, as the currency is the same",
        lambda row: row["PricingCurrency"] != row["BillingCurrency"] or row[column] == row[other],
    )


_RULES = (
    _Rule(
        "BillingCurrency",
        "must be a code of ISO 4217 such as USD",
        lambda row: bool(_CURRENCY.fullmatch(str(row["BillingCurrency"]))),
    ),
    _Rule(
        "PricingCurrency",
        "must be a code of ISO 4217 such as USD",
        lambda row: bool(_CURRENCY.fullmatch(str(row["PricingCurrency"]))),
    ),
    _Rule(
        "BillingPeriodStart", "must begin a calendar month that BillingPeriodEnd ends", _is_month
    ),
    _Rule(
        "ChargePeriodEnd",
        "must be after ChargePeriodStart",
        lambda row: _time(row, "ChargePeriodEnd") > _time(row, "ChargePeriodStart"),
    ),
    _Rule("ChargePeriodStart", "must be in the billing period, but for a Correction", _in_period),
    _Rule(
        "ChargeFrequency",
        "must not be Usage-Based where ChargeCategory is Purchase",
        lambda row: row["ChargeCategory"] != "Purchase" or row["ChargeFrequency"] != "Usage-Based",
    ),
    _Rule(
        "CommitmentDiscountStatus",
        "must be null: no commitment discount is named",
        lambda row: row["CommitmentDiscountStatus"] is None,
    ),
    _Rule(
        "ConsumedQuantity",
        "must not be null where ChargeCategory is Usage",
        lambda row: (
            row["ChargeCategory"] != "Usage"
            or row["ChargeClass"] == "Correction"
            or row["ConsumedQuantity"] is not None
        ),
    ),
    _Rule(
        "ConsumedQuantity",
        "must be null where ChargeCategory is not Usage",
        lambda row: row["ChargeCategory"] == "Usage" or row["ConsumedQuantity"] is None,
    ),
    _not_negative("ConsumedQuantity"),
    _together("ConsumedUnit", "ConsumedQuantity"),
    *_known_of_a_sale("PricingQuantity"),
    _together("PricingUnit", "PricingQuantity"),
    *_known_of_a_sale("PricingCategory"),
    *_known_of_a_sale("ListUnitPrice"),
    *_known_of_a_sale("ContractedUnitPrice"),
    _not_negative("ListUnitPrice"),
    _not_negative("ContractedUnitPrice"),
    _product("ListCost", "ListUnitPrice"),
    _product("ContractedCost", "ContractedUnitPrice"),
    _without_price("ListCost", "ListUnitPrice"),
    _without_price("ContractedCost", "ContractedUnitPrice"),
    *_known_of_a_sale("SkuId"),
    *_known_of_a_sale("SkuPriceId"),
    _only_with("SkuPriceId", "SkuId"),
    _together("SkuMeter", "SkuId"),
    _only_with("SkuPriceDetails", "SkuPriceId"),
    _only_with("SubAccountName", "SubAccountId"),
    _together("SubAccountType", "SubAccountId"),
    _same("PricingCurrencyListUnitPrice", "ListUnitPrice"),
    _same("PricingCurrencyContractedUnitPrice", "ContractedUnitPrice"),
    _same("PricingCurrencyEffectiveCost", "EffectiveCost"),
)
