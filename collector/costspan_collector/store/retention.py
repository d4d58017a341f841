"""What is kept for how long: who called, then the calls, then their sums.

Days go as whole partitions. A day's calls go only after its sums are made once more from them,
and from then on nothing recomputes those sums.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from costspan_collector.store.client import Store
from costspan_collector.store.rollups import rebuild
from costspan_collector.store.sql import load_sql

_IDENTITIES = ("user", "customer", "response_id", "request_id")
_INDEXED = ("user",)


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
    """Days whose calls lose users, customers and ids."""
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
    for day in found.dropped:
        _drop_calls(store, day, now)
    for day in found.attempts:
        store.command(f"ALTER TABLE http_attempts DROP PARTITION '{day:%Y%m%d}'")
    for day in sorted(set(found.cleared) - set(found.dropped)):
        clears = [f"CLEAR COLUMN {name} IN PARTITION '{day:%Y%m%d}'" for name in _IDENTITIES]
        clears += [f"CLEAR INDEX ix_{name} IN PARTITION '{day:%Y%m%d}'" for name in _INDEXED]
        for clear in clears:
            store.command(f"ALTER TABLE calls {clear}")
    for table, partition in found.rollups:
        store.command(f"ALTER TABLE {table} DROP PARTITION '{partition}'")


def _drop_calls(store: Store, day: date, now: datetime) -> None:
    if day not in {row.day for row in store.select("SELECT day FROM dropped_days", _Day)}:
        midnight = datetime.combine(day, time(), UTC)
        rebuild(store, [midnight + timedelta(hours=hour) for hour in range(24)])
        store.insert("dropped_days", [_Dropped(day, now)])
    store.command(f"ALTER TABLE calls DROP PARTITION '{day:%Y%m%d}'")


def _stored(store: Store, table: str, until: date) -> list[_StoredDay]:
    return store.select(_sql("stored_days"), _StoredDay, table=table, until=until)


def _sql(name: str) -> str:
    return load_sql("costspan_collector.store", name)
