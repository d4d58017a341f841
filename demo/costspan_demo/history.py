"""Sends the traced calls of the past as spans, through the same OTLP door as an app's.

The spans are what the shim would have written: names by `costspan.semconv`, cost by
`costspan.pricing`. The local OpenAI charged the same calls by a price table of its own.
"""

import hashlib
from collections.abc import Callable, Sequence
from datetime import timedelta
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

from costspan import semconv
from costspan.errors import Unavailable
from costspan.pricing import price
from costspan.usage import Usage
from costspan_demo.organization import Organization
from costspan_demo.spans import Attributes, cost, nanoseconds
from costspan_demo.traffic import Call

ENVIRONMENT = "demo"
_CALLS_PER_REQUEST = 500


def load(
    calls: Sequence[Call],
    organization: Organization,
    *,
    collector_url: str,
    openai_url: str,
    progress: Callable[[int], None],
) -> int:
    """Send every traced call of `calls`; return how many that were. `progress` hears how many so far.

    Raises:
        Unavailable: the collector did not take them.
    """
    traced = [call for call in calls if call.key.traced]
    ended = _Ended()
    providers = {service: _provider(service, ended) for service in _services(traced)}
    exporter = OTLPSpanExporter(endpoint=f"{collector_url}/v1/traces", timeout=60)
    for first in range(0, len(traced), _CALLS_PER_REQUEST):
        some = traced[first : first + _CALLS_PER_REQUEST]
        for call in some:
            _write(providers[call.key.service], call, organization, openai_url)
        if exporter.export(ended.take()) is not SpanExportResult.SUCCESS:
            msg = (
                f"{collector_url} took {first} of {len(traced)} calls of the history, then refused"
            )
            raise Unavailable(msg)
        progress(first + len(some))
    exporter.shutdown()
    return len(traced)


class _Ended(SpanProcessor):
    """Keeps spans that ended until they are sent."""

    def __init__(self) -> None:
        self._spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self._spans.append(span)

    def take(self) -> list[ReadableSpan]:
        spans, self._spans = self._spans, []
        return spans


def _services(calls: Sequence[Call]) -> list[str]:
    return sorted({call.key.service for call in calls})


def _provider(service: str, ended: _Ended) -> TracerProvider:
    resource = Resource({semconv.SERVICE_NAME: service, semconv.ENVIRONMENT: ENVIRONMENT})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(ended)
    return provider


def _write(
    provider: TracerProvider, call: Call, organization: Organization, openai_url: str
) -> None:
    server = urlsplit(openai_url)
    place: Attributes = {
        semconv.SERVER_ADDRESS: server.hostname or "",
        semconv.SERVER_PORT: server.port or 80,
    }
    operation = "embeddings" if call.feature.api == "embeddings" else "chat"
    span = provider.get_tracer("costspan").start_span(
        f"{operation} {call.feature.model}",
        kind=SpanKind.CLIENT,
        attributes={semconv.OPERATION: operation} | place | _attributes(call, organization),
        start_time=nanoseconds(call.started_at),
    )
    if call.failure is not None:
        span.set_status(Status(StatusCode.ERROR, call.failure.error))
    inside = set_span_in_context(span)
    tracer = provider.get_tracer("opentelemetry.instrumentation.httpx")
    # The attempts share the time of the call; the last one has what OpenAI finally answered.
    share = call.duration / (call.retries + 1)
    for attempt in range(call.retries + 1):
        final = attempt == call.retries
        refused = call.failure.status if call.failure else 200 if final else 500
        http = tracer.start_span(
            "POST",
            inside,
            SpanKind.CLIENT,
            place
            | {
                semconv.HTTP_METHOD: "POST",
                semconv.HTTP_STATUS: refused,
                semconv.ATTEMPT: attempt,
            },
            start_time=nanoseconds(call.started_at + share * attempt),
        )
        if refused >= 400:
            http.set_attribute(semconv.ERROR_TYPE, str(refused))
            http.set_status(Status(StatusCode.ERROR))
        http.end(nanoseconds(call.started_at + share * (attempt + 1)))
    span.end(nanoseconds(call.ended_at))


def _attributes(call: Call, organization: Organization) -> Attributes:
    found: Attributes = {
        semconv.PROVIDER: "openai",
        semconv.API_TYPE: call.feature.api,
        semconv.REQUEST_MODEL: call.feature.model,
        semconv.KEY_FINGERPRINT: call.key.fingerprint,
        semconv.KEY_HINT: call.key.hint,
        semconv.TEAM: call.key.team,
        semconv.FEATURE: call.feature.name,
        semconv.USER: hashlib.sha256(call.user.encode()).hexdigest()[:16],
        semconv.ORGANIZATION: organization.slug,
        semconv.PROJECT: call.key.project,
        semconv.REQUEST_ID: call.request_id,
        semconv.RETRIES: call.retries,
    }
    if call.feature.streamed:
        found[semconv.REQUEST_STREAM] = True
    if call.failure is not None:
        found[semconv.ERROR_TYPE] = call.failure.error
        found[semconv.ERROR_CODE] = call.failure.code
        found[semconv.HTTP_STATUS] = call.failure.status
        return found
    found[semconv.RESPONSE_MODEL] = call.served
    if call.feature.api != "embeddings":
        responses = call.feature.api == "responses"
        found[semconv.RESPONSE_ID] = call.response_id
        found[semconv.RESPONSE_TIER] = "default"
        found[semconv.FINISH_REASONS] = ["completed" if responses else "stop"]
        found[semconv.CACHED_TOKENS] = call.cached_tokens
        found[semconv.OUTPUT_TOKENS] = call.output_tokens
        found[semconv.REASONING_TOKENS] = call.reasoning_tokens
    found[semconv.INPUT_TOKENS] = call.input_tokens
    return found | _streamed(call) | _cost(call)


def _streamed(call: Call) -> Attributes:
    if call.first_chunk is None:
        return {}
    chunks = max(2, call.output_tokens - call.reasoning_tokens)
    between = (call.duration - call.first_chunk) / timedelta(seconds=1)
    return {
        semconv.STREAM_OUTCOME: "completed",
        semconv.STREAM_CHUNKS: chunks,
        semconv.TIME_TO_FIRST_CHUNK: call.first_chunk / timedelta(seconds=1),
        semconv.TIME_PER_CHUNK: between / (chunks - 1),
    }


def _cost(call: Call) -> Attributes:
    usage = Usage(
        input_tokens=call.input_tokens,
        output_tokens=call.output_tokens,
        cached_tokens=call.cached_tokens,
        reasoning_tokens=call.reasoning_tokens,
    )
    tier = None if call.feature.api == "embeddings" else "default"
    return cost(price(usage, model=call.served, at=call.started_at, tier=tier))
