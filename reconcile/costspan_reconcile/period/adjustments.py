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
class _Restated:
    original_month: date
    day: date
    project: str
    api_key_id: str
    line_item: str
    quantity_unit: str
    locked_run_id: UUID
    old_usd: Decimal
    new_usd: Decimal
    old_content_sha256: str
    new_content_sha256: str
    costs_fetch_id: UUID


def adjustments(store: Store, month: Month) -> list[Adjustment]:
    """Return what is booked in `month` for months that were locked before."""
    return store.select(load_sql(_PACKAGE, "adjustments"), Adjustment, month=month.first)


def book_adjustments(store: Store, now: datetime) -> list[Adjustment]:
    """Book what changed in locked months since the last time; return what was booked.

    Doing it again books nothing: what is booked counts as known.
    """
    month = month_of(now.date())
    booked = [
        Adjustment(
            month=month.first,
            booked_at=now,
            original_month=row.original_month,
            day=row.day,
            project=row.project,
            api_key_id=row.api_key_id,
            line_item=row.line_item,
            quantity_unit=row.quantity_unit,
            locked_run_id=row.locked_run_id,
            old_usd=row.old_usd,
            new_usd=row.new_usd,
            amount_usd=kept(Fraction(row.new_usd) - Fraction(row.old_usd)),
            old_content_sha256=row.old_content_sha256,
            new_content_sha256=row.new_content_sha256,
            costs_fetch_id=row.costs_fetch_id,
        )
        for row in store.select(load_sql(_PACKAGE, "restated_lines"), _Restated)
    ]
    what = "\n".join(f"{row.day} {row.old_content_sha256} {row.costs_fetch_id}" for row in booked)
    token = hashlib.sha256(what.encode()).hexdigest()
    store.insert("adjustments", booked, token=token)
    return booked
