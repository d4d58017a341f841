"""What the rules look at, read from the calls: the present window and the same slots of the past.

A slot is the stretch of the day that ends at the watermark. It is shifted by whole days, never
rounded to a clock hour, so that the present and the past cover the same minutes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from costspan_collector.store import Store, load_sql
from costspan_dashboards.alerts.cause import Cell
from costspan_dashboards.alerts.rules import (
    ERROR_WINDOWS_MINUTES,
    LATENCY_WINDOWS_MINUTES,
    SPEND_WINDOWS_MINUTES,
    Basis,
    ErrorHistory,
    ErrorWindow,
    LatencyCell,
    Rule,
    SpendWindow,
)

_PACKAGE = "costspan_dashboards.alerts"
_LONGEST_DAYS = 28
_HOUR_OF_DAY_DAYS = 14
_ENOUGH_WEEKS = 3
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class _DayOfCalls:
    day: int
    first_at: datetime
    latest_at: datetime


@dataclass(frozen=True, slots=True)
class Seen:
    """What there is in the store before the watermark."""

    until: datetime
    first_at: datetime | None
    latest_at: datetime | None
    days: tuple[int, ...]
    """Days back in which any call was stored; on the others the collector may have been down."""


def watermark(now: datetime, delay: timedelta) -> datetime:
    """Return the whole minute before which calls are taken to have arrived."""
    return (now - delay).astimezone(UTC).replace(second=0, microsecond=0)


def read_seen(store: Store, until: datetime) -> Seen:
    """Return how far the history goes."""
    rows = store.select(
        load_sql(_PACKAGE, "history"),
        _DayOfCalls,
        since=until - (_LONGEST_DAYS + 1) * _DAY,
        until=until,
    )
    return Seen(
        until=until,
        first_at=min((row.first_at for row in rows), default=None),
        latest_at=max((row.latest_at for row in rows), default=None),
        days=tuple(row.day for row in rows),
    )


def choose_basis(seen: Seen) -> Basis:
    """Return the past to compare with: none in the first day, then days, then weeks.

    A past day counts if its whole hour lies in the history and anything was stored that day:
    no data is not a zero.
    """
    if seen.first_at is None:
        return Basis("objective", (), 0)
    history = seen.until - seen.first_at
    hours = int(history / timedelta(hours=1))
    if history < _DAY:
        return Basis("objective", (), hours)
    days = [
        day
        for day in seen.days
        if 1 <= day <= _LONGEST_DAYS and history >= day * _DAY + timedelta(hours=1)
    ]
    weeks = [day for day in days if day % 7 == 0]
    if len(weeks) >= _ENOUGH_WEEKS:
        return Basis("same hour of week", tuple(weeks), hours)
    recent = tuple(day for day in days if day <= _HOUR_OF_DAY_DAYS)
    return Basis("same hour of day" if recent else "objective", recent, hours)


def read_error_windows(store: Store, until: datetime) -> list[ErrorWindow]:
    """Return calls and failures of every scope in the windows that have just ended."""
    return store.select(
        load_sql(_PACKAGE, "error_windows"),
        ErrorWindow,
        since=until - timedelta(minutes=max(ERROR_WINDOWS_MINUTES)),
        until=until,
        windows_minutes=list(ERROR_WINDOWS_MINUTES),
    )


def read_error_history(store: Store, until: datetime, basis: Basis) -> list[ErrorHistory]:
    """Return how many calls fail, and how much that scatters, around the same slots."""
    return store.select(
        load_sql(_PACKAGE, "error_history"),
        ErrorHistory,
        since=_since(until, basis.days),
        until=until,
        days=list(basis.days),
    )


def read_latency_cells(store: Store, until: datetime, basis: Basis) -> list[LatencyCell]:
    """Return log durations and slow calls, now and in the same slots."""
    return store.select(
        load_sql(_PACKAGE, "latency_cells"),
        LatencyCell,
        since=_since(until, basis.days),
        until=until,
        days=list(basis.days),
        windows_minutes=list(LATENCY_WINDOWS_MINUTES),
    )


def read_spend_windows(store: Store, until: datetime, basis: Basis) -> list[SpendWindow]:
    """Return what was spent, now and in the same slots."""
    return store.select(
        load_sql(_PACKAGE, "spend_windows"),
        SpendWindow,
        since=_since(until, basis.days),
        until=until,
        days=list(basis.days),
        windows_minutes=list(SPEND_WINDOWS_MINUTES),
    )


def read_cells(
    store: Store, until: datetime, basis: Basis, *, rule: Rule, window_minutes: int
) -> list[Cell]:
    """Return the calls by all dimensions at once, now and in the same slots, for the cause."""
    return store.select(
        load_sql(_PACKAGE, "leaves"),
        Cell,
        since=_since(until, basis.days),
        until=until,
        days=list(basis.days),
        window_minutes=window_minutes,
        rule=rule,
    )


def _since(until: datetime, days: Sequence[int]) -> datetime:
    return until - (max(days, default=0) + 1) * _DAY
