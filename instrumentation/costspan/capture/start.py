"""The start of a call: its span, its context, and what is known before it is sent."""

import atexit
import time
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from opentelemetry import context
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Tracer, TracerProvider, set_span_in_context

from costspan import semconv
from costspan.attribution import taken_out
from costspan.capture import attempts
from costspan.capture.answer import Attributes, text
from costspan.capture.call import Call, Request, end_all
from costspan.capture.client import Client, Clients
from costspan.capture.operation import Operation
from costspan.counters import count
from costspan.export import Destination
from costspan.settings import Settings


class Starter:
    """Opens the span of a call. One for each installation."""

    def __init__(self, settings: Settings, destination: Destination) -> None:
        self._settings = settings
        self._destination = destination
        self._clients = Clients(settings)
        self._tracer: tuple[TracerProvider, Tracer] | None = None

    def start(
        self,
        client: Any,  # noqa: ANN401
        operation: Operation,
        *,
        model: str,
        tier: str | None = None,
        streamed: bool = False,
        asked_for_usage: bool = False,
    ) -> tuple[Context, Call | None]:
        """Return the context to make the call in, and the call; None where it is not recorded."""
        seen = self._clients.seen(client)
        request = Request(
            operation, model, tier, seen.host, seen.priced, asked_for_usage, time.time_ns()
        )
        outside = context.get_current()
        who, inside = taken_out(outside)
        provider = self._destination.provider()
        span = self._tracer_of(provider).start_span(
            f"{operation.name} {model}" if model else operation.name,
            outside,
            SpanKind.CLIENT,
            _attributes(seen, request, who, streamed=streamed),
            start_time=request.started_ns,
        )
        inside = set_span_in_context(span, inside)
        if not span.is_recording():
            return inside, None
        call = Call(span, request, provider, http_spans=self._settings.http_spans)
        if call.http_spans:
            try:
                attempts.prepare(client._client)  # noqa: SLF001
            except Exception as error:  # noqa: BLE001
                count("http_span_failed", error)
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

    def _tracer_of(self, provider: TracerProvider) -> Tracer:
        known = self._tracer
        if known is None or known[0] is not provider:
            known = (provider, provider.get_tracer("costspan", version("costspan")))
            self._tracer = known
            # Handlers run last first: open spans end before a provider made above shuts down.
            atexit.unregister(end_all)
            atexit.register(end_all)
        return known[1]


def _attributes(
    seen: Client, request: Request, who: Mapping[str, str], *, streamed: bool
) -> Attributes:
    operation = request.operation
    found: Attributes = {
        semconv.OPERATION: operation.name,
        semconv.API_TYPE: operation.api_type,
        **seen.place,
    }
    if operation.api_type != "organization":  # which an admin key calls
        found |= seen.key
    if request.model:
        found[semconv.REQUEST_MODEL] = request.model
    if request.tier:
        found[semconv.REQUEST_TIER] = request.tier
    if streamed:
        found[semconv.REQUEST_STREAM] = True
    for name, value in who.items():
        if known := text(value):
            found[name] = known
    return found
