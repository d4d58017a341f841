"""Scheduled work on the store: rollups brought up to date, proven each night, old days let go."""

from datetime import UTC, datetime
from typing import Any

from apscheduler.schedulers.base import BaseScheduler

from costspan.errors import Rejected
from costspan_collector.jobs import run_job
from costspan_collector.settings import Upkeep
from costspan_collector.store import Store
from costspan_collector.store.retention import Keep, let_go, outdated
from costspan_collector.store.rollups import rebuild, refresh, verify

ROLLUPS, VERIFY, RETENTION = "rollups", "verify", "retention"
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


def let_go_of_old(store: Store, keep: Keep, now: datetime) -> str:
    """Let go of what is older than it is kept."""
    found = outdated(store, keep, now.date())
    let_go(store, found, now)
    return str(found)


def add_jobs(scheduler: BaseScheduler, store: Store, settings: Upkeep) -> None:
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
