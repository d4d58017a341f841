"""When the bill is read: at the start far back, then often for the last two days, daily for a week."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from threading import Lock

from apscheduler.schedulers.base import BaseScheduler
from openai import OpenAI

from costspan.errors import CostspanError, Rejected, Unavailable
from costspan.pricing import Book
from costspan_collector.jobs import run_job
from costspan_collector.store import Store, load_sql
from costspan_reconcile import ledger
from costspan_reconcile.explain import WINDOW
from costspan_reconcile.ledger import Kept
from costspan_reconcile.openai_costs import (
    BY_KEY,
    Bill,
    Dimension,
    admin_client,
    read_api_keys,
    read_bill,
)
from costspan_reconcile.reconcile import Reconciled, reconcile_days
from costspan_reconcile.settings import Reconcile

JOB = "reconcile"
_RECENT_DAYS = 2
"""Today and yesterday: what every run reads."""
_IN_FLIGHT = timedelta(minutes=5)
"""A call is stamped when it is received and stored a moment later."""
_ONE_AT_A_TIME = Lock()
"""The pages are one chain, so one reading at a time may add to it."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What one reading of the bill brought."""

    kept: Kept
    grouped_by: tuple[Dimension, ...]
    failure: CostspanError | None
    notes: tuple[str, ...]
    """What is missing beside the bill itself, and why."""

    def check(self) -> None:
        """Do nothing if the bill was read.

        Raises:
            Unavailable: OpenAI did not answer; the same may work later.
            Rejected: what it answered cannot be used.
        """
        if self.failure is not None:
            msg = f"{self.failure}; what was read before is kept"
            raise (Unavailable if isinstance(self.failure, Unavailable) else Rejected)(msg)


@dataclass(frozen=True, slots=True)
class Summary:
    """What one run of the reconciliation did."""

    fetched: Fetched
    reconciled: Reconciled

    def line(self) -> str:
        """Return it in one line."""
        fetched, kept = self.fetched, self.fetched.kept
        parts = [
            f"{kept.days_read} days read ({kept.days_changed} changed)",
            f"{self.reconciled.changed} of {self.reconciled.days} days reconciled anew",
        ]
        if self.reconciled.blocked:
            parts.append(f"{self.reconciled.blocked} days blocked")
        return "; ".join([*parts, *kept.blocked[:3], *fetched.notes])


def reconcile_now(
    store: Store,
    settings: Reconcile,
    now: datetime,
    *,
    days: int | None = None,
    compared_days: int = 0,
    grouped_by: tuple[Dimension, ...] = BY_KEY,
    book: Book | None = None,
) -> Summary:
    """Read the bill of the last `days` days, today included, and hold it against the spans.

    `compared_days` may be more than are read: late spans change days whose bill stands. Where the
    bill cannot be read the last good one is compared, and marked as old.

    Raises:
        Rejected: there is no admin key; the message says what to set.
        Unavailable: the store did not answer.
    """
    count = days or settings.lookback_days
    with _ONE_AT_A_TIME:
        fetched = _fetch(store, settings, now, count, grouped_by)
        tomorrow = now.date() + timedelta(days=1)
        since = tomorrow - timedelta(days=max(count, compared_days))
        return Summary(fetched, reconcile_days(store, since, tomorrow, now, book))


def fetch_now(store: Store, settings: Reconcile, now: datetime, *, days: int) -> Fetched:
    """Read the bill of the last `days` days, today included, and keep it.

    Raises:
        Rejected: there is no admin key; the message says what to set.
        Unavailable: the store did not answer.
    """
    with _ONE_AT_A_TIME:
        return _fetch(store, settings, now, days, BY_KEY)


def _fetch(
    store: Store,
    settings: Reconcile,
    now: datetime,
    days: int,
    grouped_by: tuple[Dimension, ...],
) -> Fetched:
    today = now.date()
    wanted = [today - timedelta(days=back) for back in reversed(range(days))]
    with admin_client(settings) as client:
        bill = read_bill(client, wanted, now, grouped_by)
        kept = ledger.keep_bill(store, bill)
        notes = [f"no usage: {error}" for error in bill.usage_failures.values()]
        if bill.costs_failure is None:
            if "api_key_id" not in bill.grouped_by:
                notes.append("the bill is not split by key: this organization's Costs refuse it")
            notes += _refresh_keys(store, client, bill)
    return Fetched(kept, bill.grouped_by, bill.costs_failure, tuple(notes))


def _refresh_keys(store: Store, client: OpenAI, bill: Bill) -> list[str]:
    """Read the names of the keys where the bill has one that is not known, or on a long look back."""
    known = {key.api_key_id for key in ledger.api_keys(store)}
    billed = {row.api_key_id for day in bill.costs.values() for row in day.rows} - {""}
    if known and billed <= known and len(bill.days) <= _RECENT_DAYS:
        return []
    try:
        keys = read_api_keys(client)
    except CostspanError as error:
        return [f"no names of keys: {error}"]
    ledger.keep_api_keys(store, keys, bill.fetched_at)
    return []


def add_jobs(
    scheduler: BaseScheduler, store: Store, settings: Reconcile, book: Book | None = None
) -> None:
    """Have the scheduler reconcile at once and then by the clock.

    Without an admin key it says so once, and the rest of the product runs.
    """
    first = datetime.now(UTC)
    try:
        settings.key()
    except Rejected as error:
        scheduler.add_job(run_job, args=[store, JOB, _fail(error)], next_run_time=first, id=JOB)
        return
    cadence = _Cadence(store, settings, book)
    scheduler.add_job(
        run_job,
        "interval",
        args=[store, JOB, cadence.work],
        seconds=settings.interval_seconds,
        next_run_time=first,
        id=JOB,
        max_instances=1,
        coalesce=True,
        misfire_grace_time=None,
    )


def _fail(error: CostspanError) -> Callable[[], str]:
    def work() -> str:
        raise error

    return work


@dataclass(frozen=True, slots=True)
class _Earliest:
    day: date | None


class _Cadence:
    """Decides how far each run looks back, and remembers how the organization may be asked."""

    def __init__(self, store: Store, settings: Reconcile, book: Book | None = None) -> None:
        self._book = book
        self._store = store
        self._settings = settings
        self._grouped_by: tuple[Dimension, ...] = BY_KEY
        self._rechecked_at: datetime | None = None
        self._last_run_at: datetime | None = None

    def work(self) -> str:
        now = datetime.now(UTC)
        days = self._days(now)
        if days > _RECENT_DAYS:
            self._grouped_by = BY_KEY  # the organization may allow it by now
        summary = reconcile_now(
            self._store,
            self._settings,
            now,
            days=days,
            compared_days=self._compared_days(now),
            grouped_by=self._grouped_by,
            book=self._book,
        )
        self._last_run_at = now
        self._grouped_by = summary.fetched.grouped_by
        summary.fetched.check()
        if days > _RECENT_DAYS:
            self._rechecked_at = now
        return summary.line()

    def _days(self, now: datetime) -> int:
        if self._rechecked_at is None:
            return self._settings.lookback_days
        due = self._rechecked_at + timedelta(seconds=self._settings.recheck_seconds)
        return max(self._settings.recheck_days, _RECENT_DAYS) if now >= due else _RECENT_DAYS

    def _compared_days(self, now: datetime) -> int:
        """Return how far back spans came in since the last run, and the week their keys touch."""
        if self._last_run_at is None:
            return self._settings.lookback_days
        (earliest,) = self._store.select(
            load_sql("costspan_reconcile", "earliest_received"),
            _Earliest,
            since=now.date() - timedelta(days=self._settings.lookback_days),
            received_since=self._last_run_at - _IN_FLIGHT,
        )
        back = (now.date() - (earliest.day or now.date())) + WINDOW
        return min(back.days + 1, self._settings.lookback_days)
