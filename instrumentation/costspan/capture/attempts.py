"""A child span for each HTTP attempt, by OpenTelemetry's httpx instrumentation.

Only requests made inside one of our calls are traced, on the client's own transport, so a
client that the app shares with other uses, and every other client, is left alone. And
nothing is sent along: the instrumentation writes the trace id and the baggage into the request
headers, which would tell a third party who a call was for, so the headers are put back.
"""

import sys
import threading
import weakref
from collections.abc import Awaitable, Callable
from typing import Any, cast

from opentelemetry import context
from opentelemetry.context import Context
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.trace import Span, TracerProvider

from costspan import semconv
from costspan.capture.answer import text, whole
from costspan.capture.call import Call
from costspan.counters import count

_CALL = context.create_key("costspan-call")
_EXCHANGE = "costspan.exchange"
_preparing = threading.Lock()


def current_call() -> Call | None:
    """Return the call that is being made in this context."""
    found = context.get_value(_CALL)
    return found if isinstance(found, Call) else None


def with_call(call: Call, inside: Context) -> Context:
    """Return the context of a call."""
    return context.set_value(_CALL, call, inside)


def prepare(client: Any) -> None:  # noqa: ANN401
    """Route the transports of an HTTP client through us; once, and only those of its own."""
    with _preparing:
        _prepare(client)


def _prepare(client: Any) -> None:  # noqa: ANN401
    transport = client._transport  # noqa: SLF001
    method = "handle_async_request" if hasattr(client, "aclose") else "handle_request"
    if isinstance(vars(transport).get(method), _Route):
        return
    mounts: dict[object, object] = client._mounts  # noqa: SLF001
    for each in {id(found): found for found in (transport, *mounts.values()) if found}.values():
        route = _AsyncRoute if method == "handle_async_request" else _SyncRoute
        setattr(each, method, route(client, each, method))


class _Exchange:
    """What really happened under an HTTP span, whatever the instrumentation makes of it."""

    def __init__(self, headers: object) -> None:
        self.headers = headers
        self.response: Any = None
        self.error: Exception | None = None


class _Route:
    """Sends a request on: traced inside a call of ours, plain otherwise."""

    def __init__(self, client: Any, transport: Any, method: str) -> None:  # noqa: ANN401
        self._client: weakref.ref[Any] = weakref.ref(client)
        self._transport: weakref.ref[Any] = weakref.ref(transport)
        self._method = method
        self._before: Callable[..., Any] | None = vars(transport).get(method)
        self._generation = "2" if _is_httpx2(client) else ""
        self._traced: tuple[TracerProvider, Callable[..., Any]] | None = None

    def _plain(self, request: Any) -> Any:  # noqa: ANN401
        """Do what the transport would do without us, looked up now: it may be patched since."""
        if self._before is not None:
            return self._before(request)
        transport: Any = self._transport()
        return getattr(cast("Any", type(transport)), self._method)(transport, request)

    def _tracing(self) -> Callable[..., Any] | None:
        """Return the traced way, None outside our calls and where the app traces by itself."""
        call = current_call()
        if call is None or not call.http_spans:
            return None
        try:
            if self._traced_by_app():
                return None
            if self._traced is None or self._traced[0] is not call.provider:
                self._traced = (call.provider, self._make(call.provider))
            return self._traced[1]
        except Exception as error:  # noqa: BLE001
            count("http_span_failed", error)
            return None

    def _traced_by_app(self) -> bool:
        if getattr(self._client(), "_is_instrumented_by_opentelemetry", False):
            return True
        from opentelemetry.instrumentation import httpx

        instrumentor = getattr(httpx, f"HTTPX{self._generation}ClientInstrumentor")()
        return bool(instrumentor.is_instrumented_by_opentelemetry)

    def _make(self, provider: TracerProvider) -> Callable[..., Any]:
        raise NotImplementedError

    def _named(self, kind: str) -> Any:  # noqa: ANN401
        from opentelemetry.instrumentation import httpx

        return getattr(httpx, f"{kind}OpenTelemetryTransport{'Httpx2' if self._generation else ''}")


class _SyncRoute(_Route):
    def __call__(self, request: Any) -> Any:  # noqa: ANN401
        traced = self._tracing()
        if traced is None:
            return self._plain(request)
        exchange = _Exchange(request.headers)
        request.extensions[_EXCHANGE] = exchange
        try:
            return traced(request)
        except Exception as error:  # noqa: BLE001
            if exchange.error is None:
                count("http_span_failed", error)
        if exchange.error is not None:
            raise exchange.error
        return exchange.response if exchange.response is not None else self.handle_request(request)

    def handle_request(self, request: Any) -> Any:  # noqa: ANN401
        """Send under the span, with the headers as they were."""
        exchange = request.extensions.pop(_EXCHANGE, None) or _Exchange(request.headers)
        request.headers = exchange.headers
        try:
            exchange.response = self._plain(request)
        except Exception as error:  # noqa: BLE001
            exchange.error = error
            raise _wordless(error) from None
        return exchange.response

    def _make(self, provider: TracerProvider) -> Callable[..., Any]:
        return self._named("Sync")(
            self,
            tracer_provider=provider,
            meter_provider=NoOpMeterProvider(),
            request_hook=_starts,
            response_hook=_answered,
        ).handle_request


class _AsyncRoute(_Route):
    async def __call__(self, request: Any) -> Any:  # noqa: ANN401
        traced = self._tracing()
        if traced is None:
            return await self._plain(request)
        exchange = _Exchange(request.headers)
        request.extensions[_EXCHANGE] = exchange
        try:
            return await traced(request)
        except Exception as error:  # noqa: BLE001
            if exchange.error is None:
                count("http_span_failed", error)
        if exchange.error is not None:
            raise exchange.error
        if exchange.response is not None:
            return exchange.response
        return await self.handle_async_request(request)

    async def handle_async_request(self, request: Any) -> Any:  # noqa: ANN401
        """Send under the span, with the headers as they were."""
        exchange = request.extensions.pop(_EXCHANGE, None) or _Exchange(request.headers)
        request.headers = exchange.headers
        try:
            exchange.response = await self._plain(request)
        except Exception as error:  # noqa: BLE001
            exchange.error = error
            raise _wordless(error) from None
        return exchange.response

    def _make(self, provider: TracerProvider) -> Callable[..., Awaitable[Any]]:
        return self._named("Async")(
            self,
            tracer_provider=provider,
            meter_provider=NoOpMeterProvider(),
            request_hook=_starts_async,
            response_hook=_answered_async,
        ).handle_async_request


def _wordless(error: Exception) -> Exception:
    """Return an exception of the same name that says nothing.

    The instrumentation writes down what an exception says, and that may quote the key.
    """
    kind = type(error)
    return type(kind.__name__, (Exception,), {"__module__": kind.__module__})()


def _starts(span: Span, request: Any) -> None:  # noqa: ANN401
    for name in ("http.url", "url.full"):  # a query may hold a key
        attributes: dict[str, Any] = getattr(span, "attributes", None) or {}
        if name in attributes:
            span.set_attribute(name, str(attributes[name]).partition("?")[0])
    span.set_attribute(semconv.HTTP_METHOD, request.method.decode())
    attempt = whole(request.headers.get("x-stainless-retry-count"))
    if attempt is not None:
        span.set_attribute(semconv.ATTEMPT, attempt)


def _answered(span: Span, _request: Any, response: Any) -> None:  # noqa: ANN401
    span.set_attribute(semconv.HTTP_STATUS, response.status_code)
    request_id = text(response.headers.get("x-request-id"))
    if request_id is not None:
        span.set_attribute(semconv.REQUEST_ID, request_id)


async def _starts_async(span: Span, request: Any) -> None:  # noqa: ANN401
    _starts(span, request)


async def _answered_async(span: Span, request: Any, response: Any) -> None:  # noqa: ANN401
    _answered(span, request, response)


def _is_httpx2(client: object) -> bool:
    module = sys.modules.get("httpx2")
    return module is not None and isinstance(client, (module.Client, module.AsyncClient))
