"""Rows out of the pages of the Costs endpoint, exactly as stated and nothing assumed.

Source: openai-python 3.52.0, types/admin/organization/usage_*, and live answers, read 2026-11:
an amount is a JSON number or a text of up to 34 digits, and `0E-6176` is an exact zero.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import Any

from costspan_reconcile.amounts import dollars, step
from costspan_reconcile.usage_pages import UsageRow
from costspan_reconcile.wire_json import Incomplete, decode, fail, number, record, records, text

CURRENCY = "usd"
CONTROL_TOLERANCE_USD = Fraction(1, 10**9)
"""Amounts that come as floats are printed with 17 digits, so two groupings of one day can differ
by as much; a missing row differs by more."""


@dataclass(frozen=True, slots=True)
class CostRow:
    """What was billed on a day for one project, key and line item. A null id is ''."""

    day: date
    project: str
    api_key_id: str
    line_item: str
    currency: str
    organization: str
    amount: str
    """As sent."""
    usd: Fraction
    quantity: Fraction | None
    quantity_unit: str


@dataclass(frozen=True, slots=True)
class CostDay:
    """The bill of one day, or the reason why it cannot be used."""

    rows: tuple[CostRow, ...]
    control: Fraction | None
    """The same day asked for as a whole. None: not all of it is in dollars."""
    blocked: str = ""
    """The name of the gate, and why it is shut."""

    @property
    def billed(self) -> Fraction | None:
        """Return the sum of the grouped rows. None: not all of them are in dollars."""
        if self.control is None:
            return None
        return sum((row.usd for row in self.rows), Fraction(0))


@dataclass(slots=True)
class Buckets:
    """Daily buckets, taken in page by page, each wanted day exactly once."""

    wanted: Sequence[date]
    by_day: dict[date, list[Mapping[str, Any]]] = field(
        default_factory=dict[date, list[Mapping[str, Any]]]
    )

    def take(self, body: str) -> str | None:
        """Take in one page; return the cursor of the next, None after the last.

        Raises:
            Incomplete: the page is not what the endpoint promises.
        """
        page = record(decode(body), "the page")
        for entry in records(page.get("data"), "data"):
            bucket = record(entry, "a bucket")
            day = _day(bucket.get("start_time"))
            if day not in self.wanted:
                fail(f"bucket {day} was not asked for")
            if day in self.by_day:
                fail(f"bucket {day} came twice")
            self.by_day[day] = [
                record(result, "a result")
                for result in records(bucket.get("results"), f"results of {day}")
            ]
        more = page.get("has_more")
        if not isinstance(more, bool):
            fail(f"has_more is {more!r}, so the end cannot be known")
        if not more:
            return None
        cursor = page.get("next_page")
        if not isinstance(cursor, str) or not cursor:
            fail("has_more is true, but there is no next_page")
        return cursor

    def complete(self) -> Mapping[date, list[Mapping[str, Any]]]:
        """Return the results of each wanted day.

        Raises:
            Incomplete: a day is missing; an empty day comes as an empty bucket.
        """
        missing = [day for day in self.wanted if day not in self.by_day]
        if missing:
            fail(f"no bucket for {', '.join(map(str, missing[:5]))}")
        return self.by_day


def cost_days(
    grouped: Mapping[date, list[Mapping[str, Any]]],
    control: Mapping[date, list[Mapping[str, Any]]],
    *,
    today: date,
) -> dict[date, CostDay]:
    """Return the bill of each day; rows with equal dimensions are added up.

    Raises:
        Incomplete: a row lacks its amount or is of another kind.
    """
    return {
        day: _cost_day(
            _added_up(_cost_row(day, result) for result in results),
            [_cost_row(day, result) for result in control[day]],
            closed=day < today,
        )
        for day, results in grouped.items()
    }


def content_sha256(rows: Iterable[CostRow | UsageRow]) -> str:
    """Return the hash of what the rows say, whatever their order and way of writing a number."""
    lines = sorted(
        json.dumps([str(getattr(row, name)) for name in row.__slots__ if name != "amount"])
        for row in rows
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _cost_day(rows: tuple[CostRow, ...], whole: Sequence[CostRow], *, closed: bool) -> CostDay:
    currencies = sorted({row.currency for row in [*rows, *whole]} - {CURRENCY})
    if currencies:
        reason = f"a row is in {currencies[0]!r}, and only {CURRENCY!r} can be compared"
        return CostDay(rows, None, f"BLOCKED_CURRENCY: {reason}")
    control = sum((row.usd for row in whole), Fraction(0))
    billed = sum((row.usd for row in rows), Fraction(0))
    # The open day grows between two requests.
    if closed and abs(control - billed) > CONTROL_TOLERANCE_USD:
        reason = (
            f"the rows add up to {dollars(billed)}, "
            f"the day asked for as a whole to {dollars(control)}"
        )
        return CostDay(rows, control, f"{Incomplete.gate}: {reason}")
    return CostDay(rows, control)


def _cost_row(day: date, result: Mapping[str, Any]) -> CostRow:
    if result.get("object") != "organization.costs.result":
        fail(f"a costs row of {day} calls itself {result.get('object')!r}")
    amount = record(result.get("amount"), f"amount of {day}")
    value, currency = amount.get("value"), amount.get("currency")
    if not isinstance(currency, str):
        fail(f"a row of {day} has no currency")
    quantity = result.get("quantity")
    return CostRow(
        day,
        text(result, "project_id"),
        text(result, "api_key_id"),
        text(result, "line_item"),
        currency.lower(),
        text(result, "organization_id"),
        str(value),
        step(number(value, f"amount.value of {day}")),
        None if quantity is None else step(number(quantity, f"quantity of {day}")),
        text(result, "quantity_unit"),
    )


def _added_up(rows: Iterable[CostRow]) -> tuple[CostRow, ...]:
    """Add up rows of equal dimensions; the result does not depend on the order they came in."""
    found: dict[tuple[str, str, str, str, str], CostRow] = {}
    for row in sorted(rows, key=lambda row: (row.usd, row.amount, row.organization)):
        key = (row.project, row.api_key_id, row.line_item, row.currency, row.quantity_unit)
        old = found.get(key)
        if old is None:
            found[key] = row
            continue
        known = old.quantity is not None and row.quantity is not None
        found[key] = CostRow(
            row.day,
            *key[:4],
            old.organization or row.organization,
            f"{old.amount} + {row.amount}",
            old.usd + row.usd,
            (old.quantity or Fraction(0)) + (row.quantity or Fraction(0)) if known else None,
            row.quantity_unit,
        )
    return tuple(found[key] for key in sorted(found))


def _day(value: object) -> date:
    if isinstance(value, bool) or not isinstance(value, int) or value % 86_400:
        fail(f"a bucket starts at {value!r}, not at midnight UTC")
    try:
        return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=value)).date()
    except OverflowError:
        fail(f"a bucket starts at {value!r}")
