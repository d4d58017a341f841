"""What OpenAI changes in a locked month is owed by the month that is open when it is seen."""

import hashlib
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction
from uuid import UUID

from costspan_collector.store import Store, load_sql
from costspan_reconcile.amounts import kept
from costspan_reconcile.period.month import Month, month_of

_PACKAGE = "costspan_reconcile.period"


@dataclass(frozen=True, slots=True)
class Adjustment:
    """A row of `adjustments`."""

    month: date
    booked_at: datetime
    original_month: date
    day: date
    project: str
    api_key_id: str
    line_item: str
    quantity_unit: str
    locked_run_id: UUID
    old_usd: Decimal
    new_usd: Decimal
    amount_usd: Decimal
    old_content_sha256: str
    new_content_sha256: str
    costs_fetch_id: UUID


@dataclass(frozen=True, slots=True)
class _RestatedDay:
    original_month: date
    day: date
    locked_run_id: UUID
    old_fetch_id: UUID
    costs_fetch_id: UUID
    old_content_sha256: str
    new_content_sha256: str


@dataclass(frozen=True, slots=True)
class _RestatedLine:
    day: date
    project: str
    api_key_id: str
    line_item: str
    quantity_unit: str
    old_usd: Decimal
    new_usd: Decimal


def adjustments(store: Store, month: Month) -> list[Adjustment]:
    """Return what is booked in `month` for months that were locked before."""
    return store.select(load_sql(_PACKAGE, "adjustments"), Adjustment, month=month.first)


def book_adjustments(store: Store, now: datetime) -> list[Adjustment]:
    """Book what changed in locked months since the last time; return what was booked.

    Doing it again books nothing: what is booked counts as known.
    """
    days = store.select(load_sql(_PACKAGE, "restated_days"), _RestatedDay)
    if not days:
        return []
    lines = store.select(
        load_sql(_PACKAGE, "restated_lines"),
        _RestatedLine,
        days=[day.day for day in days],
        old_fetch_ids=[day.old_fetch_id for day in days],
        new_fetch_ids=[day.costs_fetch_id for day in days],
    )
    month, restated = month_of(now.date()), {day.day: day for day in days}
    booked = [
        Adjustment(
            month=month.first,
            booked_at=now,
            original_month=(of := restated[line.day]).original_month,
            day=line.day,
            project=line.project,
            api_key_id=line.api_key_id,
            line_item=line.line_item,
            quantity_unit=line.quantity_unit,
            locked_run_id=of.locked_run_id,
            old_usd=line.old_usd,
            new_usd=line.new_usd,
            amount_usd=kept(Fraction(line.new_usd) - Fraction(line.old_usd)),
            old_content_sha256=of.old_content_sha256,
            new_content_sha256=of.new_content_sha256,
            costs_fetch_id=of.costs_fetch_id,
        )
        for line in lines
    ]
    what = "\n".join(f"{row.day} {row.old_content_sha256} {row.costs_fetch_id}" for row in booked)
    token = hashlib.sha256(what.encode()).hexdigest()
    store.insert("adjustments", booked, token=token)
    return booked
