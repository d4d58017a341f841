"""What the store tells of the pipeline itself: jobs, what became of spans, the bill."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from costspan_collector.store import Store, load_sql
from costspan_dashboards.alerts.frame import Drift, JobHealth, Plumbing

_PACKAGE = "costspan_dashboards.alerts"
_JOBS = timedelta(days=2)
_BILL = timedelta(days=14)
_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class _Job:
    job: str
    last_started_at: datetime
    last_ok_at: datetime | None
    usual_gap_seconds: int
    failures: int
    detail: str


@dataclass(frozen=True, slots=True)
class _Fates:
    refused_spans: int
    accepted_spans: int


@dataclass(frozen=True, slots=True)
class _BillFailing:
    failing_since: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class _Drift:
    day: datetime
    final: bool
    billed_usd: Decimal
    estimated_usd: Decimal
    explained: bool


def read_plumbing(store: Store, now: datetime) -> Plumbing:
    """Return how the pipeline is.

    Raises:
        Unavailable: the store did not answer.
    """
    jobs = store.select(load_sql(_PACKAGE, "jobs"), _Job, since=now - _JOBS, until=now)
    (fates,) = store.select(load_sql(_PACKAGE, "span_fates"), _Fates, since=now - _HOUR, until=now)
    failing = store.select(
        load_sql(_PACKAGE, "bill_failing"), _BillFailing, since=now - _BILL, until=now
    )
    drifts = store.select(
        load_sql(_PACKAGE, "drifts"), _Drift, since=(now - _BILL).date(), until=now
    )
    return Plumbing(
        refused_spans=fates.refused_spans,
        accepted_spans=fates.accepted_spans,
        jobs=tuple(
            JobHealth(
                job=row.job,
                last_started_at=row.last_started_at,
                last_ok_at=row.last_ok_at,
                expected_every=timedelta(seconds=max(row.usual_gap_seconds, 60)),
                failures=row.failures,
                detail=row.detail,
            )
            for row in jobs
        ),
        drifts=tuple(
            Drift(row.day, row.final, row.billed_usd, row.estimated_usd, row.explained)
            for row in drifts
        ),
        billing_failing_since=failing[0].failing_since if failing else None,
        billing_reason=failing[0].reason if failing else "",
    )
