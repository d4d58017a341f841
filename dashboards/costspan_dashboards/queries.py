"""What the pages ask the store. Each function is one `.sql` file; its shape is the row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

from costspan_collector.store import Store, load_sql
from costspan_dashboards.filters import Filters, TimeRange

DIMENSIONS = ("model", "team", "feature", "user", "project", "tier")
"""What spend can be broken down by; besides, by part of the cost."""


@dataclass(frozen=True, slots=True)
class Overview:
    """What happened in one stretch of time."""

    calls: int
    errors: int
    cost_usd: Decimal | None
    unpriced: int
    p95_us: int | None

    @property
    def spend_usd(self) -> Decimal | None:
        """The estimated cost; zero where nothing was called, None where nothing has a price."""
        return self.cost_usd if self.calls else Decimal(0)


def overview(store: Store, filters: Filters) -> Overview:
    """Return calls, errors, cost and latency."""
    by_slot = not filters.teams and not filters.projects
    (row,) = store.select(_sql("overview"), Overview, **filters.parameters(), by_slot=by_slot)
    return row


@dataclass(frozen=True, slots=True)
class Extent:
    """How far the calls in the store reach."""

    first_started_at: datetime
    received_at: datetime

    def covers(self, time: TimeRange) -> bool:
        """Whether calls were kept for all of `time`, but for a hundredth at its start.

        An app may be quiet for a while before its first call.
        """
        return self.first_started_at <= time.since + time.length / 100


def extent(store: Store) -> Extent | None:
    """Return how far the calls reach, None where there are none."""
    rows = store.select(_sql("extent"), Extent)
    return rows[0] if rows else None


@dataclass(frozen=True, slots=True)
class LastRun:
    """The last run of a scheduled job."""

    job: str
    status: str
    ended_at: datetime
    worked_at: datetime | None
    detail: str


def last_runs(store: Store) -> dict[str, LastRun]:
    """Return the last run of each job, by its name."""
    return {run.job: run for run in store.select(_sql("last_runs"), LastRun)}


@dataclass(frozen=True, slots=True)
class Choices:
    """What the filter bar offers, as stored: '' is a call that carries none."""

    teams: tuple[str, ...]
    features: tuple[str, ...]
    models: tuple[str, ...]
    projects: tuple[str, ...]


def choices(store: Store, time: TimeRange) -> Choices:
    """Return the values that calls in `time` carry."""
    (row,) = store.select(_sql("choices"), Choices, since=time.since, until=time.until)
    return row


@dataclass(frozen=True, slots=True)
class Spend:
    """Cost and tokens of one step of time and one value."""

    step: datetime
    is_other: bool
    value: str
    cost_usd: Decimal | None
    tokens: int
    calls: int
    unpriced: int


def spend_largest(store: Store, filters: Filters, *, by: str, measure: str, room: int) -> list[str]:
    """Return the values of a dimension with the most spend (`usd`) or `tokens`."""
    sql = _sql("spend_largest")
    found = filters.parameters() | {"by": by, "measure": measure, "room": room}
    found["by_hour"] = _by_hour(by)
    return [row.value for row in store.select(sql, _Value, **found)]


@dataclass(frozen=True, slots=True)
class _Value:
    value: str


def spend_by_dimension(
    store: Store, filters: Filters, *, by: str, largest: Sequence[str], step_seconds: int = 0
) -> list[Spend]:
    """Return spend by step and value; values not in `largest` are one, `is_other`."""
    return store.select(
        _sql("spend_by_dimension"),
        Spend,
        **filters.parameters(),
        by_hour=_by_hour(by, step_seconds),
        by=by,
        largest=list(largest),
        step_seconds=step_seconds,
    )


@dataclass(frozen=True, slots=True)
class PartSpend:
    """Cost or tokens of one step of time and one part; the other of the two is zero."""

    step: datetime
    value: str
    cost_usd: Decimal
    tokens: int
    calls: int


def spend_by_part(
    store: Store, filters: Filters, *, measure: str, step_seconds: int = 0
) -> list[PartSpend]:
    """Return spend by step and part of the cost (`usd`), or by kind of token (`tokens`)."""
    return store.select(
        _sql("spend_by_part"),
        PartSpend,
        **filters.parameters(),
        by_hour=_by_hour(step_seconds=step_seconds),
        measure=measure,
        step_seconds=step_seconds,
    )


@dataclass(frozen=True, slots=True)
class ListedCall:
    """A call as the list shows it."""

    started_at: datetime
    trace_id: str
    span_id: str
    service_name: str
    api_type: str
    model: str
    team: str
    feature: str
    project: str
    status: str
    error_type: str
    error_code: str
    duration_us: int
    retries: int
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: Decimal | None
    unpriced: bool
    price_status: str


def calls(
    store: Store, filters: Filters, *, only: str = "", order: str = "newest", most: int = 200
) -> list[ListedCall]:
    """Return calls: `only` '', 'errors' or 'unpriced'; `order` 'newest' or 'cost'."""
    found: list[ListedCall] = []
    for time in _newest_first(filters.time) if order == "newest" else [filters.time]:
        asked = replace(filters, time=time).parameters()
        found = store.select(_sql("calls"), ListedCall, **asked, only=only, order=order, most=most)
        if len(found) == most:
            break
    return found


def _newest_first(time: TimeRange) -> list[TimeRange]:
    """Return ever longer ends of a stretch: what is newest is mostly in a short one."""
    ends = [
        TimeRange(time.until - end, time.until) for end in (timedelta(hours=1), timedelta(days=1))
    ]
    return [end for end in ends if end.since > time.since] + [time]


@dataclass(frozen=True, slots=True)
class TracedCall:
    """A call with everything kept of it."""

    started_at: datetime
    trace_id: str
    span_id: str
    parent_span_id: str
    service_name: str
    environment: str
    operation: str
    api_type: str
    provider: str
    server_address: str
    request_model: str
    response_model: str
    request_tier: str
    response_tier: str
    response_id: str
    request_id: str
    organization: str
    project: str
    key_fingerprint: str
    key_hint: str
    team: str
    feature: str
    user: str
    customer: str
    prompt: str
    streamed: bool
    stream_outcome: str
    finish_reasons: tuple[str, ...]
    duration_us: int
    time_to_first_chunk_us: int | None
    retries: int
    status: str
    error_type: str
    error_code: str
    input_tokens: int | None
    cached_tokens: int | None
    cache_write_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None
    cost_usd: Decimal | None
    list_cost_usd: Decimal | None
    unpriced: bool
    cost_parts_usd: Mapping[str, Decimal]
    price_status: str
    price_book: str
    price_path: str
    price_overrides: tuple[str, ...]
    estimate: Mapping[str, str]
    received_at: datetime

    @property
    def model(self) -> str:
        """The model that answered; the one asked for where none did."""
        return self.response_model or self.request_model


def trace_calls(store: Store, trace_id: str) -> list[TracedCall]:
    """Return the calls of a trace, in order of start."""
    return store.select(_sql("trace_calls"), TracedCall, trace_id=trace_id)


@dataclass(frozen=True, slots=True)
class TracedAttempt:
    """One HTTP request of a call."""

    started_at: datetime
    span_id: str
    parent_span_id: str
    attempt: int
    method: str
    server_address: str
    http_status: int
    error_type: str
    duration_us: int


def trace_attempts(store: Store, trace_id: str) -> list[TracedAttempt]:
    """Return the HTTP attempts of a trace, in order of start."""
    return store.select(_sql("trace_attempts"), TracedAttempt, trace_id=trace_id)


def _by_hour(by: str = "", step_seconds: int = 0) -> bool:
    """Whether the sums of whole hours answer: they know no users and no shorter steps."""
    return by != "user" and step_seconds % 3600 == 0


def _sql(name: str) -> str:
    return load_sql("costspan_dashboards", name)
