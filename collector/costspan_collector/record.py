"""What the collector keeps: the fields are the columns of `calls` and `http_attempts`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

NO_PARENT = bytes(8)
"""The parent of a root span."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One row of `calls`: a GenAI call, known by its trace id and span id.

    A count of tokens, a cost or a time that was not reported is None, never zero; a text that
    was not reported is empty.
    """

    started_at: datetime
    trace_id: bytes
    """16 raw bytes."""
    span_id: bytes
    """8 raw bytes."""
    parent_span_id: bytes = NO_PARENT
    service_name: str = ""
    environment: str = ""
    scope_name: str = ""
    operation: str = ""
    api_type: str = ""
    provider: str = ""
    server_address: str = ""
    request_model: str = ""
    response_model: str = ""
    request_tier: str = ""
    response_tier: str = ""
    response_id: str = ""
    request_id: str = ""
    organization: str = ""
    project: str = ""
    key_fingerprint: str = ""
    key_hint: str = ""
    team: str = ""
    feature: str = ""
    user: str = ""
    customer: str = ""
    prompt: str = ""
    streamed: bool = False
    stream_outcome: str = ""
    finish_reasons: tuple[str, ...] = ()
    duration_us: int = 0
    time_to_first_chunk_us: int | None = None
    retries: int = 0
    status: str = "ok"
    """ok or error."""
    error_type: str = ""
    error_code: str = ""
    input_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    quantities: Mapping[str, Decimal] = field(default_factory=dict[str, Decimal])
    """Everything that has a price, disjoint, by meter as in `costspan.quantities`."""
    cost_usd: Decimal | None = None
    """What the organization is expected to pay: negotiated where an override holds, else list."""
    list_cost_usd: Decimal | None = None
    cost_parts_usd: Mapping[str, Decimal] = field(default_factory=dict[str, Decimal])
    """By meter; they sum to the cost."""
    price_status: str = ""
    price_book: str = ""
    price_path: str = ""
    price_overrides: tuple[str, ...] = ()
    """The overrides that hold for it, by name."""
    estimate: Mapping[str, str] = field(default_factory=dict[str, str])
    """Bounds where nobody saw the usage, by the names after `costspan.estimate.`."""
    received_at: datetime
    ingest_id: int
    """Of the rows with one identity, the one with the greatest is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAttempt:
    """One row of `http_attempts`: one HTTP request of a call, a child of its span."""

    started_at: datetime
    trace_id: bytes
    span_id: bytes
    parent_span_id: bytes = NO_PARENT
    service_name: str = ""
    attempt: int = 0
    """0 for the first."""
    method: str = ""
    server_address: str = ""
    http_status: int = 0
    """0 where no answer came."""
    error_type: str = ""
    duration_us: int = 0
    received_at: datetime
    ingest_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderCount:
    """One row of `sender_counts`: what became of an app's spans, by its own count, so far."""

    hour: datetime
    """Of receipt."""
    service_name: str
    sender: str
    """Random, of one process."""
    made: int
    exported: int
    queue_full: int
    failed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanCount:
    """One row of `span_counts`: how many spans of a service, received in an hour, became what."""

    hour: datetime
    service_name: str
    fate: str
    """The table they were accepted into, or refused, or passed_by."""
    reason: str
    spans: int


@dataclass(frozen=True, slots=True)
class Sent:
    """Spans of one scope as they were sent: rows of a table once the engine has read them."""

    table: str
    spans: int
    block: bytes
    """A message `Sent` (sql/sent.proto) after its length."""
