"""Scheduled work leaves a row behind: when it ran, whether it worked, and what it did."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID, uuid4

from costspan.errors import CostspanError
from costspan_collector.store import Store

_log = logging.getLogger("costspan.jobs")


@dataclass(frozen=True, slots=True)
class JobRun:
    """One run of a job, as kept in `job_runs`."""

    run_id: UUID
    job: str
    started_at: datetime
    ended_at: datetime
    status: str
    detail: str


def run_job(store: Store, job: str, work: Callable[[], str]) -> None:
    """Do `work` and keep a `job_runs` row with the line it returns.

    An error is kept and logged in one line and does not leave: the next run is the retry.
    """
    started_at = datetime.now(UTC)
    try:
        status, detail = "ok", work()
    except CostspanError as error:
        status, detail = "failed", str(error)
        _log.error("%s failed: %s", job, error)
    except Exception as error:  # noqa: BLE001 - the scheduler must go on
        status, detail = "failed", repr(error)
        _log.exception("%s failed", job)
    run = JobRun(uuid4(), job, started_at, datetime.now(UTC), status, detail)
    try:
        store.insert("job_runs", [run])
    except CostspanError as error:
        _log.error("%s ran (%s) but its row is not kept: %s", job, status, error)
