"""What is kept for how long: who called, then the calls, then their sums.

Days go as whole partitions. Before calls go, the rollups are brought up to date, and from then on
nothing recomputes the sums of their day.
"""

from dataclasses import dataclass
from datetime import date, datetime, timedelta

from costspan_collector.store.client import Store
from costspan_collector.store.rollups import refresh
from costspan_collector.store.sql import load_sql


@dataclass(frozen=True, slots=True)
class Keep:
    """How many days each is kept, today not counted; None is for good."""

    identities_days: int | None = None
    """Users, customers, ids of requests and responses, and the HTTP attempts."""
    calls_days: int | None = None
    rollups_days: int | None = None


@dataclass(frozen=True, slots=True)
class Outdated:
    """What is older than it is kept."""

    cleared: tuple[date, ...] = ()
    """Days whose calls lose users, customers and ids, and whose shares of the bill lose users."""
    attempts: tuple[date, ...] = ()
    """Days whose HTTP attempts go."""
    dropped: tuple[date, ...] = ()
    """Days whose calls go; their sums stay."""
    late_calls: int = 0
    """Came for a day that was dropped before: in no sum."""
    held: tuple[date, ...] = ()
    """Days whose calls stay, since their month is not final against the bill."""
    never_reconciled: bool = False
    """Nothing in the store was ever held against a bill."""
    rollups: tuple[tuple[str, str], ...] = ()
    """Table and month."""

    def __str__(self) -> str:
        parts = [
            f"{len(self.cleared)} days without users and ids",
            f"{len(self.attempts)} days of HTTP attempts and {len(self.dropped)} of calls dropped",
            f"{len(self.rollups)} months of rollups dropped",
        ]
        if self.held:
            parts.append(f"{len(self.held)} days held: their month is not final against the bill")
        if self.dropped and self.never_reconciled:
            parts.append("warning: these days were never held against a bill")
        if self.late_calls:
            parts.append(f"{self.late_calls} calls came for days dropped before, and are in no sum")
        return "; ".join(parts)


@dataclass(frozen=True, slots=True)
class _Day:
    day: date


@dataclass(frozen=True, slots=True)
class _StoredDay:
    day: date
    calls: int
    was_dropped: bool
    settled: bool | None


@dataclass(frozen=True, slots=True)
class _Partition:
    table: str
    partition: str


@dataclass(frozen=True, slots=True)
class _Dropped:
    day: date
    dropped_at: datetime


def outdated(store: Store, keep: Keep, today: date) -> Outdated:
    """Return what is older than `keep` says. Changes nothing.

    Raises:
        Unavailable: the store did not answer.
    """
    cleared: tuple[date, ...] = ()
    attempts: tuple[date, ...] = ()
    calls: list[_StoredDay] = []
    rollups: tuple[tuple[str, str], ...] = ()
    if keep.identities_days is not None:
        until = today - timedelta(days=keep.identities_days)
        cleared = tuple(row.day for row in store.select(_sql("clear_days"), _Day, until=until))
        attempts = tuple(row.day for row in _stored(store, "http_attempts", until))
    if keep.calls_days is not None:
        calls = _stored(store, "calls", today - timedelta(days=keep.calls_days))
    if keep.rollups_days is not None:
        until = today - timedelta(days=keep.rollups_days)
        found = store.select(_sql("rollup_months"), _Partition, until=until)
        rollups = tuple((row.table, row.partition) for row in found)
    held = [row for row in calls if row.settled is False and not row.was_dropped]
    return Outdated(
        cleared=cleared,
        attempts=attempts,
        dropped=tuple(row.day for row in calls if row not in held),
        late_calls=sum(row.calls for row in calls if row.was_dropped),
        held=tuple(row.day for row in held),
        never_reconciled=any(row.settled is None for row in calls),
        rollups=rollups,
    )


def let_go(store: Store, found: Outdated, now: datetime) -> None:
    """Clear and drop what was `found`. Doing it again finishes what was cut off.

    Raises:
        Unavailable: the store did not answer.
    """
    if found.dropped:
        refresh(store)
        store.insert("dropped_days", [_Dropped(day, now) for day in found.dropped])
    for day in found.dropped:
        store.command(f"ALTER TABLE calls DROP PARTITION '{day:%Y%m%d}'")
    for day in found.attempts:
        store.command(f"ALTER TABLE http_attempts DROP PARTITION '{day:%Y%m%d}'")
    if found.cleared:
        until = found.cleared[-1] + timedelta(days=1)
        store.command(_sql("clear_identities"), until=until)
        store.command(_sql("clear_shares"), until=until)
    for table, partition in found.rollups:
        store.command(f"ALTER TABLE {table} DROP PARTITION '{partition}'")


def _stored(store: Store, table: str, until: date) -> list[_StoredDay]:
    return store.select(_sql("stored_days"), _StoredDay, table=table, until=until)


def _sql(name: str) -> str:
    return load_sql("costspan_collector.store", name)
