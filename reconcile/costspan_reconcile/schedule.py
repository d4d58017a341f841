"""When the bill is read: every hour what `cadence` says is due, and at first month by month back."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from apscheduler.schedulers.base import BaseScheduler

from costspan.errors import CostspanError, Rejected
from costspan.pricing import Book
from costspan_collector.jobs import run_job
from costspan_collector.store import Store, load_sql
from costspan_reconcile.allocate.policy import NO_RULES, Policy
from costspan_reconcile.allocate.runs import allocate_days
from costspan_reconcile.cadence import backfill, due_since
from costspan_reconcile.chain import check_chain
from costspan_reconcile.explain import WINDOW
from costspan_reconcile.fetch import ONE_AT_A_TIME, Fetched, fetch
from costspan_reconcile.period.settle import settle
from costspan_reconcile.reconcile import Reconciled, reconcile_days
from costspan_reconcile.settings import Reconcile

JOB, BACKFILL, CHAIN = "reconcile", "backfill", "bill_chain"
_DAY = timedelta(days=1)
_IN_FLIGHT = timedelta(minutes=5)
"""A call is stamped when it is received and stored a moment later."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What one run of the reconciliation did."""

    fetched: Fetched
    reconciled: Reconciled
    allocated: int
    """Days whose dollars were shared out anew."""
    settled: tuple[str, ...]
    """What was done to months."""

    def line(self) -> str:
        """Return it in one line."""
        fetched, kept = self.fetched, self.fetched.kept
        parts = [
            f"{kept.days_read} days read ({kept.days_changed} changed)",
            f"{self.reconciled.changed} of {self.reconciled.days} days reconciled anew",
            f"{self.allocated} shared out",
        ]
        if self.reconciled.blocked:
            parts.append(f"{self.reconciled.blocked} days blocked")
        return "; ".join([*parts, *self.settled, *kept.blocked[:3], *fetched.notes])


def reconcile_now(
    store: Store,
    settings: Reconcile,
    now: datetime,
    *,
    days: int | None = None,
    compared_days: int = 0,
    book: Book | None = None,
    policy: Policy = NO_RULES,
) -> Summary:
    """Read the bill of the last `days` days, today included, and hold it against the spans.

    `compared_days` may be more than are read: late spans change days whose bill stands. Where the
    bill cannot be read the last good one is compared, and marked as old.

    Raises:
        Rejected: there is no admin key; the message says what to set.
        Unavailable: the store did not answer.
    """
    count = days or settings.lookback_days
    tomorrow = now.date() + _DAY
    return reconcile_range(
        store,
        settings,
        tomorrow - count * _DAY,
        tomorrow,
        now,
        compared_since=tomorrow - max(count, compared_days) * _DAY,
        book=book,
        policy=policy,
    )


def reconcile_range(
    store: Store,
    settings: Reconcile,
    since: date,
    until: date,
    now: datetime,
    *,
    compared_since: date | None = None,
    book: Book | None = None,
    policy: Policy = NO_RULES,
) -> Summary:
    """Read the bill of the days in `since <= day < until`, compare it, share it out, settle months.

    Raises:
        Rejected: there is no admin key; the message says what to set.
        Unavailable: the store did not answer.
    """
    with ONE_AT_A_TIME:
        fetched = fetch(store, settings, since, until, now)
        first = compared_since or since
        reconciled = reconcile_days(store, first, until, now, book)
        allocated = allocate_days(store, first, until, now, policy)
        return Summary(fetched, reconciled, allocated, settle(store, now))


def fetch_now(store: Store, settings: Reconcile, now: datetime, *, days: int) -> Fetched:
    """Read the bill of the last `days` days, today included, and keep it.

    Raises:
        Rejected: there is no admin key; the message says what to set.
        Unavailable: the store did not answer.
    """
    tomorrow = now.date() + _DAY
    return fetch(store, settings, tomorrow - days * _DAY, tomorrow, now)


def add_jobs(
    scheduler: BaseScheduler,
    store: Store,
    settings: Reconcile,
    book: Book | None = None,
    policy: Policy = NO_RULES,
) -> None:
    """Have the scheduler reconcile at once and then by the clock.

    Without an admin key it says so once, and the rest of the product runs.
    """
    try:
        settings.key()
    except Rejected as error:
        scheduler.add_job(run_job, args=[store, JOB, _fail(error)], id=JOB)
        return
    work = Work(store, settings, book, policy)
    once: dict[str, Any] = {"max_instances": 1, "coalesce": True, "misfire_grace_time": None}

    def run() -> None:
        run_job(store, JOB, lambda: work.recent(datetime.now(UTC)))
        go_back()

    def go_back() -> None:
        """Read one month; then the next, until none is due or one fails."""
        with ONE_AT_A_TIME:  # the hourly run goes back too, and may just have read the last one
            now = datetime.now(UTC)
            if not work.has_older(now):
                return
            run_job(store, BACKFILL, lambda: work.older(now))
            if work.went_back:
                scheduler.add_job(go_back, id=BACKFILL, replace_existing=True, **once)

    scheduler.add_job(run, id=f"{JOB} at the start", **once)
    scheduler.add_job(
        run,
        "interval",
        seconds=settings.interval_seconds,
        start_date=datetime(2026, 1, 1, tzinfo=UTC),  # on the hour, so that the morning's is at six
        id=JOB,
        **once,
    )
    scheduler.add_job(
        run_job,
        "cron",
        args=[store, CHAIN, lambda: check_chain(store)],
        day_of_week="sun",
        hour=3,
        minute=40,
        id=CHAIN,
        **once,
    )


def _fail(error: CostspanError) -> Callable[[], str]:
    def work() -> str:
        raise error

    return work


@dataclass(frozen=True, slots=True)
class _Earliest:
    day: date | None


class Work:
    """What the jobs do, and what they remember from run to run."""

    def __init__(
        self,
        store: Store,
        settings: Reconcile,
        book: Book | None = None,
        policy: Policy = NO_RULES,
    ) -> None:
        self._store = store
        self._settings = settings
        self._book = book
        self._policy = policy
        self._last_run_at: datetime | None = None
        self.went_back = False
        """Whether the last older month was read."""

    def recent(self, now: datetime) -> str:
        """Read what is due of the newest days, and compare all that spans came for."""
        with ONE_AT_A_TIME:
            first = due_since(self._store, self._settings, now)
            summary = reconcile_now(
                self._store,
                self._settings,
                now,
                days=(now.date() - first).days + 1,
                compared_days=self._compared_days(now),
                book=self._book,
                policy=self._policy,
            )
            self._last_run_at = now
        summary.fetched.check()
        return summary.line()

    def has_older(self, now: datetime) -> bool:
        """Return whether an older month is due."""
        return bool(backfill(self._store, self._settings, now).due)

    def older(self, now: datetime) -> str:
        """Read one month of those back to the first span, and compare it."""
        self.went_back = False
        with ONE_AT_A_TIME:
            month = backfill(self._store, self._settings, now).due[0]
            summary = reconcile_range(
                self._store,
                self._settings,
                month.since,
                month.until,
                now,
                book=self._book,
                policy=self._policy,
            )
        summary.fetched.check()
        self.went_back = True
        progress = backfill(self._store, self._settings, now)
        return f"{month.since:%Y-%m}: {summary.line()}; {progress}"

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
