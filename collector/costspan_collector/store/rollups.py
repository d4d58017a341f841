"""Sums by hour and latencies by five minutes, recomputed from the calls and never added up.

The insert of a call marks its hour as touched. A recompute reads each call of the hour once and
puts new rows in place of the old ones. So a span that comes twice, late, or with another price
changes the rollups as it changes the calls.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import groupby

from costspan_collector.store.client import Store
from costspan_collector.store.sql import load_sql

OVERLAP = timedelta(minutes=2)
"""An insert marks its hour a moment before its rows can be read; longer than that moment."""

REACH = timedelta(hours=1)
"""How long before the inner span of a call an outer one may start."""

MOST_CALLS = 1_000_000
"""In the days that are read at once: to plan a statement takes as long as to read a quiet day."""

MOST_DAYS = 14
"""From the first to the last of them: their five minutes are a parameter, of which a server takes
128 KiB, and an insert may be into a hundred days."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A sum in a rollup that is not the sum of the calls."""

    rollup: str
    at: datetime
    kind: tuple[str, ...]
    """The dimensions of the row, in the order of the table's columns."""
    figure: str
    kept: str
    counted: str

    @property
    def hour(self) -> datetime:
        """Return the hour it lies in."""
        return self.at.replace(minute=0)

    def waits_for(self, hours: frozenset[datetime]) -> bool:
        """Return whether it may go once `hours` are recomputed."""
        if self.rollup == "latency_daily":
            return any(hour.date() == self.at.date() for hour in hours)
        return self.hour in hours

    def __str__(self) -> str:
        kind = ", ".join(value or "(none)" for value in self.kind)
        return (
            f"{self.rollup} {self.at:%Y-%m-%d %H:%M} ({kind}): "
            f"{self.figure} is {self.kept}, the calls say {self.counted}"
        )


@dataclass(frozen=True, slots=True)
class Proof:
    """How the rollups stand against the calls."""

    checked_hours: int
    waiting_hours: int
    """Not held against the calls: a refresh is due that recomputes them."""
    differences: tuple[Difference, ...]

    @property
    def hours(self) -> list[datetime]:
        """Return the hours with a difference."""
        return sorted({row.hour for row in self.differences})

    def __str__(self) -> str:
        parts = [f"{self.checked_hours} hours checked"]
        if self.waiting_hours:
            parts.append(f"{self.waiting_hours} wait to be recomputed")
        if self.differences:
            parts.append(f"{len(self.differences)} sums differ in {len(self.hours)} hours")
        return "; ".join(parts)


@dataclass(frozen=True, slots=True)
class _Hour:
    hour: datetime


@dataclass(frozen=True, slots=True)
class _Complete:
    hour: datetime
    complete_until: datetime


@dataclass(frozen=True, slots=True)
class _Slot:
    slot: datetime


@dataclass(frozen=True, slots=True)
class _Scope:
    scope: str


@dataclass(frozen=True, slots=True)
class _Day:
    day: date
    calls: int


@dataclass(frozen=True, slots=True)
class _Now:
    at: datetime


def refresh(store: Store, *, overlap: timedelta = OVERLAP) -> int:
    """Recompute the hours that calls came for since they last were; return how many.

    Raises:
        Unavailable: the store did not answer; the next refresh makes up for it.
    """
    return rebuild(store, _hours(store, "dirty_hours"), overlap=overlap)


def rebuild(store: Store, hours: Sequence[datetime], *, overlap: timedelta = OVERLAP) -> int:
    """Recompute `hours`, some days at a time; return how many.

    Raises:
        Unavailable: the store did not answer. The days that are not done are as they were.
    """
    for some in _at_once(store, hours):
        supersede(store, some)
        (now,) = store.select(_sql("engine_now"), _Now)
        version = (now.at - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1)
        for name in ("write_costs", "write_latencies", "write_days", "write_signals"):
            store.command(_sql(name), hours=some, version=version)
        store.insert("rollup_hours", [_Complete(hour, now.at - overlap) for hour in some])
    return len(hours)


def supersede(store: Store, hours: Sequence[datetime]) -> None:
    """Leave one of two spans of the same call uncounted, if one of the two lies in `hours`.

    Raises:
        Unavailable: the store did not answer.
    """
    near = {"since": hours[0] - REACH, "until": hours[-1] + timedelta(hours=1) + REACH}
    if not store.select(_sql("other_scopes"), _Scope, **near):
        return
    slots = [row.slot for row in store.select(_sql("double_slots"), _Slot, **near)]
    if slots:
        store.command(_sql("supersede"), **near, slots=slots)


def verify(store: Store) -> Proof:
    """Hold every rollup against the calls. Changes nothing.

    Raises:
        Unavailable: the store did not answer.
    """
    hours = known_hours(store)
    found: list[Difference] = []
    dirty = frozenset(_hours(store, "dirty_hours"))
    for some in _at_once(store, hours):
        rows = _differences(store, some)
        # What came meanwhile is no fault, nor is what a refresh was about to mend.
        before, dirty = dirty, frozenset(_hours(store, "dirty_hours"))
        found += (row for row in rows if not row.waits_for(before | dirty))
    return Proof(
        checked_hours=len(set(hours) - dirty),
        waiting_hours=len(dirty),
        differences=tuple(found),
    )


def known_hours(store: Store) -> list[datetime]:
    """Return the hours that have calls or rollups, without the days whose calls were dropped.

    Raises:
        Unavailable: the store did not answer.
    """
    return _hours(store, "known_hours")


def _differences(store: Store, hours: list[datetime]) -> list[Difference]:
    return store.select(_sql("differences"), Difference, hours=hours)


def _hours(store: Store, name: str) -> list[datetime]:
    return [row.hour for row in store.select(_sql(name), _Hour)]


def _at_once(store: Store, hours: Sequence[datetime]) -> Iterator[list[datetime]]:
    """Yield the hours of as many days as may be read at once; a day is never split."""
    stored = store.select(_sql("day_calls"), _Day)
    taken: list[datetime] = []
    for day, some in groupby(hours, datetime.date):
        first = taken[0].date() if taken else day
        calls = sum(one.calls for one in stored if first <= one.day <= day)
        if taken and (calls > MOST_CALLS or (day - first).days >= MOST_DAYS):
            yield taken
            taken = []
        taken += some
    if taken:
        yield taken


def _sql(name: str) -> str:
    return load_sql("costspan_collector.store", name)
