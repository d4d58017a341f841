"""Which days of the bill are due: often the newest, daily a week, weekly all that may still change.

What is due follows from what was read, so a run that failed, or that no process was there for, is
made up for by the next, and a restart reads nothing twice.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from costspan_collector.store import Store, load_sql
from costspan_reconcile.settings import Reconcile

_PACKAGE = "costspan_reconcile"
_MORNING = time(6, tzinfo=UTC)
_DAILY_DAYS = 7
_INVOICE_BY = 17
"""Of the month after, at the latest."""
_READ_AGAIN_AFTER = timedelta(days=1)
_DAY = timedelta(days=1)
_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class DayRead:
    """What became of the tries to read the bill of a day."""

    day: date
    tried_at: datetime
    answered_at: datetime | None
    """None: there was never an answer. One that cannot be used counts."""
    settled: bool
    """It was read more than 72 hours after its end, and no different for a day."""


@dataclass(frozen=True, slots=True)
class Month:
    """A calendar month, or what of it is read: `since <= day < until`."""

    since: date
    until: date

    @property
    def days(self) -> list[date]:
        """Return its days."""
        return [self.since + n * _DAY for n in range((self.until - self.since).days)]


@dataclass(frozen=True, slots=True)
class Backfill:
    """The months before those that are read by the clock."""

    months: Sequence[Month]
    """Newest first."""
    due: Sequence[Month]
    """In the order in which to read them."""
    read: int

    def __str__(self) -> str:
        if not self.months:
            return "no earlier month to read"
        return (
            f"{self.read} of {len(self.months)} earlier months read, "
            f"back to {self.months[-1].since:%Y-%m}"
        )


@dataclass(frozen=True, slots=True)
class _Earliest:
    day: date | None


@dataclass(frozen=True, slots=True)
class _State:
    state: str


def due_since(store: Store, settings: Reconcile, now: datetime) -> date:
    """Return the first day that a run at `now` must read; all that follow it are read with it."""
    oldest = min(_recent(settings, now), _month_before(now.date()).since)
    return first_due(
        now, _reads(store, oldest, now), settings.lookback_days, matched=_is_matched(store, now)
    )


def backfill(store: Store, settings: Reconcile, now: datetime) -> Backfill:
    """Return which months are read back to the first span, and which are due."""
    (earliest,) = store.select(load_sql(_PACKAGE, "earliest_call"), _Earliest)
    recent = _recent(settings, now)
    if earliest.day is None:
        return Backfill((), (), 0)
    cap = now.date().replace(day=1)
    for _ in range(settings.backfill_months - 1):
        cap = _month_before(cap).since
    months = tuple(_months(max(earliest.day.replace(day=1), cap), recent))
    reads = _reads(store, months[-1].since, now) if months else {}
    return Backfill(
        months,
        months_due(months, reads, now),
        sum(all(_answered(reads, day) > _NEVER for day in month.days) for month in months),
    )


def first_due(
    now: datetime, reads: Mapping[date, DayRead], lookback_days: int, *, matched: bool
) -> date:
    """Return the first day to read: of yesterday and what else was not read since it was due.

    `matched` says that the invoice of the month before is there and agrees.
    """
    today = now.date()
    morning = datetime.combine(today, _MORNING)
    morning -= _DAY if now < morning else timedelta(0)
    monday = morning - morning.weekday() * _DAY
    before = _month_before(today)
    look_back = {today - back * _DAY: monday for back in range(lookback_days)}
    look_back |= {day: morning for day in look_back if day > today - _DAILY_DAYS * _DAY}
    if today.day <= _INVOICE_BY and not matched:
        look_back |= dict.fromkeys(before.days, morning)
    due = (day for day, since in look_back.items() if _answered(reads, day) < since)
    return min((today - _DAY, *due))


def months_due(
    months: Sequence[Month], reads: Mapping[date, DayRead], now: datetime
) -> Sequence[Month]:
    """Return the months to read: those never tried first, then the one longest ago.

    A month is read until no day of it changes any more, once a day.
    """

    def is_due(day: date) -> bool:
        read = reads.get(day)
        if read is None or read.answered_at is None:
            return True
        return not read.settled and now - read.answered_at >= _READ_AGAIN_AFTER

    def tried(month: Month) -> datetime:
        return min(reads[day].tried_at if day in reads else _NEVER for day in month.days)

    return sorted((month for month in months if any(map(is_due, month.days))), key=tried)


def _answered(reads: Mapping[date, DayRead], day: date) -> datetime:
    read = reads.get(day)
    return read.answered_at or _NEVER if read else _NEVER


def _recent(settings: Reconcile, now: datetime) -> date:
    return now.date() - (settings.lookback_days - 1) * _DAY


def _month_before(day: date) -> Month:
    first = day.replace(day=1)
    return Month((first - _DAY).replace(day=1), first)


def _months(since: date, until: date) -> Iterator[Month]:
    """Yield the months of `since <= day < until`, newest first; the newest may end early."""
    while since < until:
        month = Month((until - _DAY).replace(day=1), until)
        yield month
        until = month.since


def _reads(store: Store, since: date, now: datetime) -> dict[date, DayRead]:
    sql = load_sql(_PACKAGE, "days_read")
    return {
        row.day: row for row in store.select(sql, DayRead, since=since, until=now.date() + _DAY)
    }


def _is_matched(store: Store, now: datetime) -> bool:
    sql = load_sql(_PACKAGE, "month_state")
    found = store.select(sql, _State, month=_month_before(now.date()).since)
    return any(row.state in {"INVOICE_MATCHED", "LOCKED"} for row in found)
