"""The start of a call: its span, its context, and what is known before it is sent."""

import atexit
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from types import MappingProxyType
from typing import Any, cast

from opentelemetry import context
from opentelemetry.context import Context
from opentelemetry.trace import (
    NonRecordingSpan,
    NoOpTracer,
    Span,
    SpanContext,
    SpanKind,
    TracerProvider,
    set_span_in_context,
)
from opentelemetry.util import types

from costspan import semconv
from costspan.attribution import taken_out
from costspan.capture import attempts
from costspan.capture.answer import Attributes, text
from costspan.capture.call import Call, Recording, Request, end_all
from costspan.capture.client import Client, Clients
from costspan.capture.operation import Operation
from costspan.counters import count
from costspan.export import Destination
from costspan.settings import Settings
from costspan.tracing import OwnProvider

_MOST_OPENINGS = 256
_NO_BODY: Mapping[str, Any] = MappingProxyType({})


class Starter:
    """Opens the span of a call. One for each installation."""

    def __init__(self, settings: Settings, destination: Destination) -> None:
        self._settings = settings
        self._destination = destination
        self._clients = Clients(settings)
        self._known: tuple[Callable[..., Span], Recording] | None = None

    def start(
        self,
        client: Any,  # noqa: ANN401
        operation: Operation,
        *,
        model: str,
        tier: str | None = None,
        streamed: bool = False,
        asked_for_usage: bool = False,
        body: Mapping[str, Any] = _NO_BODY,
        key: Attributes | None = None,
    ) -> tuple[Context, Call | None]:
        """Return the context to make the call in, and the call; None where it is not recorded.

        `key` is what may be shown of a key that is this call's own.
        """
        seen = self._clients.seen(client)
        request = Request(
            operation,
            model,
            tier,
            seen.host,
            seen.priced,
            asked_for_usage,
            time.time_ns(),
            body,
        )
        outside = context.get_current()
        who, inside = taken_out(outside)
        name, attributes = _opening(seen, operation, model, tier, streamed=streamed)
        if who:
            attributes = attributes | {
                n: known for n, value in who.items() if (known := text(value))
            }
        if key is not None:
            attributes = {n: v for n, v in attributes.items() if n not in seen.key} | key
        start_span, recording = self._recording_of(self._destination.provider())
        span = start_span(name, outside, SpanKind.CLIENT, attributes, start_time=request.started_ns)
        inside = set_span_in_context(span, inside)
        if not span.is_recording():
            count("span_not_sampled")
            if not recording.metrics.listened:
                return attempts.with_call(None, inside), None
            span = _Unsampled(span.get_span_context(), attributes)
        if self._settings.http_spans:
            try:
                attempts.prepare(client._client)  # noqa: SLF001
            except Exception as error:  # noqa: BLE001
                count("http_span_failed", error)
        call = Call(span, request, recording)
        return attempts.with_call(call, inside), call

    def asks_for_usage(self, client: Any, body: Mapping[str, Any]) -> bool:  # noqa: ANN401
        """Return whether to ask a stream for the usage that the app did not ask for.

        Azure's older API versions and its data sources refuse the question.
        """
        options = body.get("stream_options")
        if options is not None and (not isinstance(options, Mapping) or "include_usage" in options):
            return False
        when = self._settings.stream_usage
        if when != "auto":
            return when == "always"
        seen = self._clients.seen(client)
        return seen.priced and not seen.host.endswith(".azure.com") and "data_sources" not in body

    def _recording_of(self, provider: TracerProvider) -> tuple[Callable[..., Span], Recording]:
        known = self._known
        if known is None or known[1].provider is not provider:
            tracer = provider.get_tracer("costspan", version("costspan"))
            start_span: Callable[..., Span] = tracer.start_span
            if isinstance(provider, OwnProvider) and not isinstance(tracer, NoOpTracer):
                start_span = provider.start_call
            known = (start_span, Recording(self._settings, provider, self._destination.metrics))
            self._known = known
            # Handlers run last first: open spans end before a provider made above shuts down.
            atexit.unregister(end_all)
            atexit.register(end_all)
        return known


class _Unsampled(NonRecordingSpan):
    """Keeps what a call's metrics are made of, which are of all calls."""

    def __init__(self, context: SpanContext, attributes: Attributes) -> None:
        super().__init__(context)
        self.attributes = dict(attributes)

    def set_attributes(self, attributes: Mapping[str, types.AttributeValue]) -> None:
        self.attributes.update(cast("Attributes", attributes))


def _opening(
    seen: Client, operation: Operation, model: str, tier: str | None, *, streamed: bool
) -> tuple[str, Attributes]:
    """Return the name and the first attributes of a span; made once for all calls of a kind."""
    kind = (operation.name, model, tier, streamed)
    known = seen.openings.get(kind)
    if known is None:
        if len(seen.openings) >= _MOST_OPENINGS:  # a server may have many models
            seen.openings.clear()
        known = seen.openings[kind] = (
            f"{operation.name} {model}" if model else operation.name,
            _attributes(seen, operation, model, tier, streamed=streamed),
        )
    return known


def _attributes(
    seen: Client, operation: Operation, model: str, tier: str | None, *, streamed: bool
) -> Attributes:
    found: Attributes = {
        semconv.OPERATION: operation.name,
        semconv.API_TYPE: operation.api_type,
        **seen.place,
    }
    if operation.api_type != "organization":  # which an admin key calls
        found |= seen.key
    if model:
        found[semconv.REQUEST_MODEL] = model
    if tier:
        found[semconv.REQUEST_TIER] = tier
    if streamed:
        found[semconv.REQUEST_STREAM] = True
    return found
