"""The spans of the traced calls: a view of the ledger that may be lossy.

What a shim would have written of each call it saw: names by `costspan.semconv`, cost by
`costspan.pricing`. The ledger charges the same calls by a price list of its own.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from costspan import semconv
from costspan.money import plain
from costspan.pricing import Book, Price, price
from costspan.usage import Usage
from costspan_demo.ledger import Entry

Attributes = dict[str, str | int | float | bool | list[str]]
_ESTIMATED = "estimated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """One call as a shim saw it."""

    entry: Entry
    """What it believes: a copy of the true entry, with what it got wrong."""
    model: str = ""
    """What the app asked for; the model that answered, if that was never heard of."""
    feature: str = ""
    user: str = ""
    tier: str = ""
    """Of the response; empty where it did not say."""
    usage_seen: bool = True
    error: str = ""
    stream_outcome: str = ""
    longest_answer: int | None = None
    """Where no usage was seen: the bound that the request set."""
    retries: int = 0
    priced_at: datetime | None = None
    """The prices of that day, where the shim has an old price book."""
    book: Book | None = None
    scope: str = "costspan"
    """Who wrote the span: the shim, or a gateway on the way."""


def request_of(sights: Iterable[Sight]) -> ExportTraceServiceRequest:
    """Return the OTLP request that carries the spans."""
    request = ExportTraceServiceRequest()
    for sight in sights:
        resource = Resource(attributes=_pairs({semconv.SERVICE_NAME: sight.entry.key.service}))
        scope = InstrumentationScope(name=sight.scope)
        spans = ScopeSpans(scope=scope, spans=[_span(sight)])
        request.resource_spans.append(ResourceSpans(resource=resource, scope_spans=[spans]))
    return request


def _span(sight: Sight) -> Span:
    entry = sight.entry
    operation = "embeddings" if entry.endpoint == "embeddings" else "chat"
    failed = sight.error != ""
    return Span(
        trace_id=_id(entry.request_id, 16),
        span_id=_id(f"{sight.scope} {entry.request_id}", 8),
        name=f"{operation} {sight.model or entry.model}",
        kind=Span.SPAN_KIND_CLIENT,
        start_time_unix_nano=nanoseconds(entry.started_at),
        end_time_unix_nano=nanoseconds(entry.at),
        attributes=_pairs({semconv.OPERATION: operation} | _attributes(sight)),
        status=Status(code=Status.STATUS_CODE_ERROR if failed else Status.STATUS_CODE_UNSET),
    )


def _attributes(sight: Sight) -> Attributes:
    entry = sight.entry
    found: Attributes = {
        semconv.PROVIDER: "openai",
        semconv.API_TYPE: "embeddings" if entry.endpoint == "embeddings" else "chat_completions",
        semconv.REQUEST_MODEL: sight.model or entry.model,
        semconv.SERVER_ADDRESS: "api.openai.com",
        semconv.KEY_FINGERPRINT: entry.key.fingerprint,
        semconv.KEY_HINT: entry.key.hint,
        semconv.TEAM: entry.key.team,
        semconv.FEATURE: sight.feature,
        semconv.USER: sight.user,
        semconv.PROJECT: entry.key.project,
        semconv.RETRIES: sight.retries,
    }
    if sight.stream_outcome:
        found |= {semconv.REQUEST_STREAM: True, semconv.STREAM_OUTCOME: sight.stream_outcome}
    if sight.error:
        found[semconv.ERROR_TYPE] = sight.error
    if not sight.usage_seen:
        return {name: value for name, value in (found | _bounds(sight)).items() if value != ""}
    found |= {
        semconv.REQUEST_ID: entry.request_id,
        semconv.RESPONSE_ID: f"chatcmpl-{entry.request_id}",
        semconv.RESPONSE_MODEL: entry.model,
        semconv.RESPONSE_TIER: sight.tier,
        semconv.INPUT_TOKENS: entry.input_tokens,
        semconv.CACHED_TOKENS: entry.cached_tokens,
        semconv.OUTPUT_TOKENS: entry.output_tokens,
        semconv.IMAGE_INPUT_TOKENS: entry.image_input_tokens,
        semconv.IMAGE_OUTPUT_TOKENS: entry.image_output_tokens,
    }
    return {name: value for name, value in (found | _cost(sight)).items() if value != ""}


def _bounds(sight: Sight) -> Attributes:
    """Return what the shim counted where nobody told it the usage."""
    if sight.longest_answer is None:
        return {semconv.PRICE_STATUS: "missing_usage"}
    entry, most = sight.entry, sight.longest_answer
    least = Usage(entry.input_tokens, entry.output_tokens, cached_tokens=entry.input_tokens)
    all_at = Usage(entry.input_tokens, most)
    low, high = (_priced(sight, usage) for usage in (least, all_at))
    return {
        semconv.PRICE_STATUS: _ESTIMATED,
        semconv.ESTIMATE_INPUT_TOKENS: entry.input_tokens,
        semconv.ESTIMATE_OUTPUT_TOKENS_LOW: entry.output_tokens,
        semconv.ESTIMATE_OUTPUT_TOKENS_HIGH: most,
        semconv.ESTIMATE_LOW_USD: low[semconv.COST_USD],
        semconv.ESTIMATE_HIGH_USD: high[semconv.COST_USD],
    }


def _cost(sight: Sight) -> Attributes:
    entry = sight.entry
    usage = Usage(
        entry.input_tokens,
        entry.output_tokens,
        cached_tokens=entry.cached_tokens,
        reasoning_tokens=entry.reasoning_tokens,
        image_input_tokens=entry.image_input_tokens,
        image_output_tokens=entry.image_output_tokens,
    )
    return _priced(sight, usage)


def _priced(sight: Sight, usage: Usage) -> Attributes:
    entry = sight.entry
    return cost(
        price(
            usage,
            model=entry.model,
            at=sight.priced_at or entry.started_at,
            tier=sight.tier or None,
            batch=entry.batch,
            book=sight.book,
        )
    )


def cost(priced: Price) -> Attributes:
    """Return the attributes that say what a call costs."""
    found: Attributes = {
        semconv.PRICE_STATUS: priced.status.value,
        semconv.PRICE_BOOK: priced.book,
        semconv.PRICE_PATH: priced.path,
    }
    if priced.usd is not None:
        found[semconv.COST_USD] = plain(priced.usd)
        found |= {semconv.COST_PART + part.meter: part.pico for part in priced.parts}
    return found


def _pairs(attributes: Mapping[str, str | float | list[str]]) -> list[KeyValue]:
    return [KeyValue(key=name, value=_any(value)) for name, value in attributes.items()]


def _any(value: str | float | list[str]) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    return AnyValue(string_value=str(value))


def _id(text: str, length: int) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:length]


def nanoseconds(moment: datetime) -> int:
    """Return nanoseconds since 1970, without a float in between."""
    since = moment - datetime.fromtimestamp(0, UTC)
    return since // timedelta(microseconds=1) * 1000
