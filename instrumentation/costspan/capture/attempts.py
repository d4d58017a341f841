"""A child span for each HTTP attempt, by OpenTelemetry's httpx instrumentation.

Only requests made inside one of our calls are traced, on the client's own transport, so a
client that the app shares with other uses, and every other client, is left alone.

The instrumentation is shown method, address and status, in the form that old versions of httpx
called transports in, and never a header. So it need not read them, which is most of its cost,
and what it writes into them, the trace id and the baggage, is not sent to a third party.
"""

import os
import re
import sys
import threading
import weakref
from collections.abc import Callable
from functools import lru_cache
from typing import Any, cast

from opentelemetry import context
from opentelemetry.context import Context
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.trace import INVALID_SPAN, Span, TracerProvider, get_current_span

from costspan import semconv
from costspan.capture.answer import Attributes, put, text, whole
from costspan.capture.call import Call
from costspan.counters import count

_KEY = re.compile(r"\bsk-[^/]*")
_CALL = context.create_key("costspan-call")
_preparing = threading.Lock()
if hasattr(os, "register_at_fork"):  # a child must not inherit a lock that nobody will release
    os.register_at_fork(
        before=_preparing.acquire,
        after_in_parent=_preparing.release,
        after_in_child=_preparing.release,
    )


def current_call() -> Call | None:
    """Return the call that is being made in this context."""
    found = context.get_value(_CALL)
    return found if isinstance(found, Call) else None


def with_call(call: Call | None, inside: Context) -> Context:
    """Return the context of a call; of None where it is not recorded."""
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
    """One attempt: what is sent, and what came of it, whatever the instrumentation makes of it."""

    __slots__ = ("error", "request", "response", "span")

    def __init__(self, request: Any) -> None:  # noqa: ANN401
        self.request = request
        self.response: Any = None
        self.error: BaseException | None = None
        self.span: Span = INVALID_SPAN

    @property
    def shown(self) -> tuple[bytes, Any]:
        """Return method and address; a query may hold a key, and with a gateway the path."""
        url = self.request.url
        if url.query or b"sk-" in url.raw_path:
            url = url.copy_with(query=None, path=_KEY.sub("-", url.path))
        return self.request.method.encode(), url

    def begins(self) -> None:
        """Describe what is sent, on the span that is current now."""
        self.span = get_current_span()
        attributes: Attributes = {semconv.HTTP_METHOD: self.request.method}
        put(
            attributes,
            semconv.ATTEMPT,
            whole(self.request.headers.get("x-stainless-retry-count")),
        )
        self.span.set_attributes(attributes)

    def answered(self, response: Any) -> tuple[int, list[Any], None, dict[str, Any]]:  # noqa: ANN401
        """Keep the answer; return of it what the instrumentation is shown."""
        self.response = response
        attributes: Attributes = {semconv.HTTP_STATUS: response.status_code}
        put(attributes, semconv.REQUEST_ID, text(response.headers.get("x-request-id")))
        self.span.set_attributes(attributes)
        return response.status_code, [], None, {}

    def failed(self, error: BaseException) -> BaseException:
        """Keep the error; return one of the same name that says nothing.

        The instrumentation writes down what an exception says, and that may quote the key.
        """
        self.error = error
        self.span.set_attribute(semconv.ERROR_TYPE, type(error).__name__)
        return _silent(type(error))() if isinstance(error, Exception) else error

    def raise_error(self) -> None:
        """Raise what was kept, if anything, and forget it: it refers to the frames it came by."""
        error, self.error = self.error, None
        try:
            if error is not None:
                raise error
        finally:
            del error


@lru_cache(maxsize=64)
def _silent(kind: type[Exception]) -> type[Exception]:
    return type(kind.__name__, (Exception,), {"__module__": kind.__module__})


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
        if call is None or not call.recording.settings.http_spans:
            return None
        try:
            if self._traced_by_app():
                return None
            provider = call.recording.provider
            if self._traced is None or self._traced[0] is not provider:
                self._traced = (provider, self._make(provider))
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
        exchange = _Exchange(request)
        try:
            traced(*exchange.shown, extensions=exchange)
        except Exception as error:  # noqa: BLE001
            if exchange.error is None:
                count("http_span_failed", error)
            # The instrumentation's frames hold this error: no circle back to them.
            error.__traceback__ = error.__context__ = None
        exchange.raise_error()
        return exchange.response if exchange.response is not None else self._plain(request)

    def handle_request(self, *_: Any, extensions: _Exchange, **__: Any) -> Any:  # noqa: ANN401
        """Send under the span."""
        extensions.begins()
        try:
            response = self._plain(extensions.request)
        except BaseException as error:  # noqa: BLE001  a cancellation too
            raise extensions.failed(error) from None
        return extensions.answered(response)

    def _make(self, provider: TracerProvider) -> Callable[..., Any]:
        return self._named("Sync")(
            self, tracer_provider=provider, meter_provider=NoOpMeterProvider()
        ).handle_request


class _AsyncRoute(_Route):
    async def __call__(self, request: Any) -> Any:  # noqa: ANN401
        traced = self._tracing()
        if traced is None:
            return await self._plain(request)
        exchange = _Exchange(request)
        try:
            await traced(*exchange.shown, extensions=exchange)
        except Exception as error:  # noqa: BLE001
            if exchange.error is None:
                count("http_span_failed", error)
            # The instrumentation's frames hold this error: no circle back to them.
            error.__traceback__ = error.__context__ = None
        exchange.raise_error()
        if exchange.response is not None:
            return exchange.response
        return await self._plain(request)

    async def handle_async_request(self, *_: Any, extensions: _Exchange, **__: Any) -> Any:  # noqa: ANN401
        """Send under the span."""
        extensions.begins()
        try:
            response = await self._plain(extensions.request)
        except BaseException as error:  # noqa: BLE001  a cancellation too
            raise extensions.failed(error) from None
        return extensions.answered(response)

    def _make(self, provider: TracerProvider) -> Callable[..., Any]:
        return self._named("Async")(
            self, tracer_provider=provider, meter_provider=NoOpMeterProvider()
        ).handle_async_request


def _is_httpx2(client: object) -> bool:
    module = sys.modules.get("httpx2")
    return module is not None and isinstance(client, (module.Client, module.AsyncClient))
