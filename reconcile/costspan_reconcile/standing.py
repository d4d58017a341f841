"""How old the bill is, why, and how far back it was read."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from costspan_collector.store import Store, load_sql
from costspan_reconcile.cadence import Backfill, backfill
from costspan_reconcile.settings import Reconcile

_MISSED_RUNS = 3


@dataclass(frozen=True, slots=True)
class _Tries:
    read_at: datetime | None
    tried_at: datetime | None
    last_status: str
    last_reason: str
    older_read_at: datetime | None


@dataclass(frozen=True, slots=True)
class Standing:
    """How the bill stands."""

    read_at: datetime | None
    """When the newest days were last read with success."""
    stale: str
    """Why nothing newer is there; '' if it is as new as it should be."""
    backfill: Backfill
    older_read_at: datetime | None = None
    """When any day was, be it an older one."""

    def lines(self) -> list[str]:
        """Return it for a person to read."""
        found = [f"bill read: {_moment(self.read_at)}"]
        if self.older_read_at and not self.read_at:
            found = [f"bill of older days read: {_moment(self.older_read_at)}"]
        if self.stale:
            found.append(f"stale: {self.stale}")
        if self.backfill.due:
            found.append(f"backfill: {self.backfill}")
        return found


def bill_standing(store: Store, settings: Reconcile, now: datetime) -> Standing:
    """Return how old the bill is at `now`, and why.

    Raises:
        Unavailable: the store did not answer.
    """
    (tries,) = store.select(load_sql("costspan_reconcile", "newest_tries"), _Tries)
    return Standing(
        tries.read_at,
        _stale(tries, settings, now),
        backfill(store, settings, now),
        tries.older_read_at,
    )


def _moment(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC" if at else "never"


def _stale(tries: _Tries, settings: Reconcile, now: datetime) -> str:
    if tries.tried_at is None:
        what = "the bill of today and yesterday" if tries.older_read_at else "the bill"
        return f"{what} was never asked for; start `costspan serve` with an admin key"
    if tries.last_status != "ok":
        return f"{tries.last_reason} (tried {tries.tried_at:%Y-%m-%d %H:%M} UTC)"
    if now - tries.tried_at > _MISSED_RUNS * timedelta(seconds=settings.interval_seconds):
        return (
            f"nobody asked since {tries.tried_at:%Y-%m-%d %H:%M} UTC; is `costspan serve` running?"
        )
    return ""
