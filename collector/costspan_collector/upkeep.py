"""Scheduled work on the store: rollups brought up to date, proven each night, old days let go."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from apscheduler.schedulers.base import BaseScheduler

from costspan.errors import Rejected
from costspan_collector.jobs import run_job
from costspan_collector.settings import Upkeep
from costspan_collector.store import Store
from costspan_collector.store.retention import Keep, let_go, outdated
from costspan_collector.store.rollups import rebuild, refresh, verify
from costspan_collector.store.sql import load_sql
from costspan_collector.telemetry import Counters

ROLLUPS, VERIFY, RETENTION, BALANCE = "rollups", "verify", "retention", "balance"
_NAMED = 3


def refreshed(store: Store) -> str:
    """Bring the rollups up to date."""
    return f"{refresh(store)} hours recomputed"


def proven(store: Store) -> str:
    """Prove the rollups, and mend what is wrong in them.

    Raises:
        Rejected: something was wrong; the message says what.
    """
    proof = verify(store)
    if proof.differences:
        rebuild(store, proof.hours)
        named = "; ".join(map(str, proof.differences[:_NAMED]))
        msg = f"{proof}, which are recomputed now: {named}"
        raise Rejected(msg)
    return str(proof)


@dataclass(frozen=True, slots=True)
class Balance:
    """What became of the spans of a stretch of receipt."""

    received: int
    refused: int
    duplicates: int
    dropped_by_apps: int

    def __str__(self) -> str:
        return (
            f"{self.received} spans received in a day, {self.refused} refused, "
            f"{self.duplicates} delivered again; apps dropped {self.dropped_by_apps}"
        )


def balanced(store: Store, counters: Counters, now: datetime) -> str:
    """Count what was delivered again, and what never came, within a day."""
    sql = load_sql("costspan_collector.store", "balance")
    (found,) = store.select(sql, Balance, since=now - timedelta(days=1))
    counters.set("costspan_spans_duplicate", found.duplicates)
    counters.set("costspan_spans_dropped_by_apps", found.dropped_by_apps)
    return str(found)


def let_go_of_old(store: Store, keep: Keep, now: datetime) -> str:
    """Let go of what is older than it is kept."""
    found = outdated(store, keep, now.date())
    let_go(store, found, now)
    return str(found)


def add_jobs(scheduler: BaseScheduler, store: Store, settings: Upkeep, counters: Counters) -> None:
    """Have the scheduler look after the store.

    Raises:
        Rejected: the settings contradict each other.
    """
    keep = settings.keep()
    once: dict[str, Any] = {"max_instances": 1, "coalesce": True, "misfire_grace_time": None}
    scheduler.add_job(
        run_job,
        "interval",
        args=[store, ROLLUPS, lambda: refreshed(store)],
        seconds=settings.rollup_seconds,
        next_run_time=datetime.now(UTC),
        id=ROLLUPS,
        **once,
    )
    scheduler.add_job(
        run_job,
        "cron",
        args=[store, VERIFY, lambda: proven(store)],
        hour=2,
        minute=20,
        id=VERIFY,
        **once,
    )
    scheduler.add_job(
        run_job,
        "cron",
        args=[store, BALANCE, lambda: balanced(store, counters, datetime.now(UTC))],
        minute=40,
        id=BALANCE,
        **once,
    )
    if keep != Keep():
        scheduler.add_job(
            run_job,
            "cron",
            args=[store, RETENTION, lambda: let_go_of_old(store, keep, datetime.now(UTC))],
            hour=2,
            minute=50,
            id=RETENTION,
            **once,
        )
