"""What is told of the pipeline itself: jobs, what became of spans, the bill, the price book."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal

from costspan.pricing import Book
from costspan_collector.store import Store, load_sql
from costspan_dashboards.alerts.frame import Drift, JobHealth, Plumbing
from costspan_reconcile.settings import MISSING_ADMIN_KEY

_PACKAGE = "costspan_dashboards.alerts"
_JOBS = timedelta(days=2)
_BILL = timedelta(days=14)
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
_IN_USE = timedelta(days=7)


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
    lost_spans: int
    quarantined_files: int


@dataclass(frozen=True, slots=True)
class _Model:
    model: str


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
    jobs = store.select(
        load_sql(_PACKAGE, "jobs"),
        _Job,
        since=now - _JOBS,
        until=now,
        not_set_up=MISSING_ADMIN_KEY,
    )
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
        lost_spans=fates.lost_spans,
        quarantined_files=fates.quarantined_files,
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


def with_reviews(plumbing: Plumbing, store: Store, book: Book, now: datetime) -> Plumbing:
    """Return it with the first price of a model in use whose promise has ended.

    Raises:
        Unavailable: the store did not answer.
    """
    used = store.select(load_sql(_PACKAGE, "models_in_use"), _Model, since=now - _IN_USE)
    ended = dict(_ended(book, {row.model for row in used}, now))
    if not ended:
        return plumbing
    return replace(
        plumbing,
        price_book=book.name,
        price_book_review_at=min(ended.values()),
        price_book_models=tuple(sorted(ended)),
    )


def _ended(book: Book, used: set[str], now: datetime) -> Iterator[tuple[str, datetime]]:
    """Yield the models that are used, and until when a price was promised that is past that."""
    names = {book.canonical(model, now) for model in used}
    for (model, _, _), rows in book.rows.items():
        ends = [
            datetime.combine(row.review_by, time(), UTC) + _DAY
            for row in rows
            if row.review_by and row.valid_from <= now < row.valid_to
        ]
        if model in names and ends and min(ends) <= now:
            yield model, min(ends)
