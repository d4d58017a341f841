"""The hooks in the SDK's client, and what each of them passes on.

Every resource of the SDK, of any version since 1.40, goes through `request`. The answer that
wins goes through `_process_response`, every JSON body and every event of a stream through
`_process_response_data`. No hook may change an outcome: what fails in here is counted.
"""

import atexit
import copy
import hashlib
import inspect
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from types import ModuleType
from typing import Any, cast
from urllib.parse import urlsplit

import wrapt
from opentelemetry import context
from opentelemetry.context import Context
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.trace import SpanKind, Tracer, TracerProvider, set_span_in_context

from costspan import semconv
from costspan.attribution import taken_out
from costspan.capture import attempts
from costspan.capture.answer import Attributes, put, text
from costspan.capture.call import Call, Request, end_all, end_late
from costspan.capture.operation import operation_of
from costspan.capture.streams import WatchedBytes, watch, watch_async
from costspan.counters import count
from costspan.export import Destination
from costspan.settings import Settings

Arguments = tuple[Any, ...]
Named = dict[str, Any]
Wrapped = Callable[..., Any]

_CLIENT_MODULE = "openai._base_client"
_ON_RESPONSE = "costspan.call"
_RAW_HEADER = "X-Stainless-Raw-Response"
_SHORTEST_KEY_WITH_HINT = 20


@dataclass(frozen=True, slots=True)
class _Begun:
    inside: Context
    call: Call | None
    """None where the span is not recorded."""
    args: Arguments
    kwargs: Named


class Capture:
    """The hooks, while they are in place."""

    def __init__(self, settings: Settings, destination: Destination) -> None:
        self._settings = settings
        self._destination = destination
        self._active = False
        self._patched: list[tuple[type, str, object]] = []
        self._tracer: tuple[TracerProvider, Tracer] | None = None

    def start(self) -> "Capture":
        """Put the hooks in place, now or as soon as the app imports `openai`."""
        self._active = True
        wrapt.register_post_import_hook(self._imported, _CLIENT_MODULE)
        return self

    def stop(self) -> None:
        """Take the hooks out; one that another library wrapped stays, and does nothing."""
        self._active = False
        for owner, name, hook in self._patched:
            if vars(owner).get(name) is hook:
                setattr(owner, name, cast("Any", hook).__wrapped__)
        self._patched.clear()
        end_all()
        self._destination.close()

    def flush(self, timeout_seconds: float) -> bool:
        """Send the spans that wait."""
        end_late()
        return self._destination.flush(timeout_seconds)

    # Hooks.

    def _imported(self, module: ModuleType) -> None:
        if not self._active:
            return
        try:
            for client in (module.SyncAPIClient, module.AsyncAPIClient):
                is_async = inspect.iscoroutinefunction(client.request)
                self._patch(client, "request", self._request_async if is_async else self._request)
                self._patch(client, "_process_response", self._process_response)
                self._patch(client, "_process_response_data", self._process_response_data)
            self._patch(module.Stream, "__init__", self._stream_made)
            self._patch(module.AsyncStream, "__init__", self._stream_made)
        except Exception as error:  # noqa: BLE001
            count("hook_missing", error)

    def _patch(self, cls: type, name: str, hook: Callable[..., Any]) -> None:
        owner = next(base for base in cls.__mro__ if name in vars(base))
        if any(done[0] is owner and done[1] == name for done in self._patched):
            return
        wrapper = wrapt.FunctionWrapper(vars(owner)[name], hook)
        setattr(owner, name, wrapper)
        self._patched.append((owner, name, wrapper))

    def _request(self, wrapped: Wrapped, client: Any, args: Arguments, kwargs: Named) -> Any:  # noqa: ANN401
        begun = self._begin(client, args, kwargs)
        if begun is None:
            return wrapped(*args, **kwargs)
        token = context.attach(begun.inside)
        try:
            result = wrapped(*begun.args, **begun.kwargs)
        except BaseException as error:
            _end(begun.call, error)
            raise
        finally:
            context.detach(token)
        _end(begun.call)
        return result

    async def _request_async(
        self,
        wrapped: Wrapped,
        client: Any,  # noqa: ANN401
        args: Arguments,
        kwargs: Named,
    ) -> Any:  # noqa: ANN401
        begun = self._begin(client, args, kwargs)
        if begun is None:
            return await wrapped(*args, **kwargs)
        token = context.attach(begun.inside)
        try:
            result = await wrapped(*begun.args, **begun.kwargs)
        except BaseException as error:
            _end(begun.call, error)
            raise
        finally:
            context.detach(token)
        _end(begun.call)
        return result

    def _process_response(
        self,
        wrapped: Wrapped,
        _client: Any,  # noqa: ANN401
        args: Arguments,
        kwargs: Named,
    ) -> Any:  # noqa: ANN401
        call = attempts.current_call()
        if call is not None:
            try:
                response = kwargs["response"]
                raw = response.request.headers.get(_RAW_HEADER)
                lazy = raw == "stream" and not response.is_closed
                pending = bool(kwargs.get("stream")) or lazy
                response.extensions[_ON_RESPONSE] = call
                call.arrived(response, int(kwargs.get("retries_taken", 0)), pending=pending)
                if pending:
                    response.stream = WatchedBytes(response.stream, call)
            except Exception as error:  # noqa: BLE001
                count("response_unread", error)
        return wrapped(*args, **kwargs)

    def _process_response_data(
        self,
        wrapped: Wrapped,
        _client: Any,  # noqa: ANN401
        args: Arguments,
        kwargs: Named,
    ) -> Any:  # noqa: ANN401
        try:
            call = kwargs["response"].extensions.get(_ON_RESPONSE)
            if call is not None:
                data = kwargs["data"]
                call.conceal(data)
                call.saw(data)
        except Exception as error:  # noqa: BLE001
            count("body_unread", error)
        return wrapped(*args, **kwargs)

    def _stream_made(
        self,
        wrapped: Wrapped,
        stream: Any,  # noqa: ANN401
        args: Arguments,
        kwargs: Named,
    ) -> None:
        wrapped(*args, **kwargs)
        try:
            call = kwargs["response"].extensions.get(_ON_RESPONSE)
            if call is None:
                return
            chunks: Any = stream._iterator  # noqa: SLF001
            is_async = hasattr(chunks, "__anext__")
            stream._iterator = (watch_async if is_async else watch)(call, chunks)  # noqa: SLF001
            call.watched()
        except Exception as error:  # noqa: BLE001
            count("stream_unwatched", error)

    # The start of a call.

    def _begin(self, client: Any, args: Arguments, kwargs: Named) -> _Begun | None:  # noqa: ANN401
        try:
            if not self._active or not is_instrumentation_enabled():
                return None
            end_late()
            return self._start_span(client, args, kwargs)
        except Exception as error:  # noqa: BLE001
            count("call_unseen", error)
            return None

    def _start_span(self, client: Any, args: Arguments, kwargs: Named) -> _Begun:  # noqa: ANN401
        options = kwargs["options"] if "options" in kwargs else args[1]
        body = _body(options)
        server = urlsplit(str(client.base_url))
        host = (server.hostname or "").lower()
        operation = operation_of(options.method, str(options.url))
        ask = (
            bool(kwargs.get("stream"))
            and operation.streams_usage_on_request
            and "stream_options" not in body
            and self._asks_for_usage(host, body)
            and _raw(options) is None  # who reads the raw answer would see the chunk we add
        )
        request = Request(
            operation=operation,
            model=text(body.get("model")) or "",
            tier=text(body.get("service_tier")),
            host=host,
            priced=self._settings.prices(host),
            asked_for_usage=ask,
            started_ns=time.time_ns(),
        )
        attributes = _attributes(client, request)
        attributes[semconv.SERVER_PORT] = server.port or (80 if server.scheme == "http" else 443)
        if kwargs.get("stream"):
            attributes[semconv.REQUEST_STREAM] = True
        outside = context.get_current()
        who, inside = taken_out(outside)
        for name, value in who.items():
            put(attributes, name, text(value))
        if ask:
            args, kwargs = _asking(args, kwargs, options)
        provider = self._destination.provider()
        span = self._tracer_of(provider).start_span(
            f"{operation.name} {request.model}".rstrip(),
            outside,
            SpanKind.CLIENT,
            attributes,
            start_time=request.started_ns,
        )
        inside = set_span_in_context(span, inside)
        if not span.is_recording():
            return _Begun(inside, None, args, kwargs)
        call = Call(span, request, provider, http_spans=self._settings.http_spans)
        if call.http_spans:
            try:
                attempts.prepare(client._client)  # noqa: SLF001
            except Exception as error:  # noqa: BLE001
                count("http_span_failed", error)
        return _Begun(attempts.with_call(call, inside), call, args, kwargs)

    def _asks_for_usage(self, host: str, body: Mapping[str, Any]) -> bool:
        """Return whether to ask; Azure's older API versions and its data sources refuse it."""
        when = self._settings.stream_usage
        accepts = not host.endswith(".azure.com") and "data_sources" not in body
        return when == "always" or (when == "auto" and accepts and self._settings.prices(host))

    def _tracer_of(self, provider: TracerProvider) -> Tracer:
        known = self._tracer
        if known is None or known[0] is not provider:
            known = (provider, provider.get_tracer("costspan", version("costspan")))
            self._tracer = known
            # Handlers run last first: open spans end before a provider made above shuts down.
            atexit.unregister(end_all)
            atexit.register(end_all)
        return known[1]


def _end(call: Call | None, error: BaseException | None = None) -> None:
    if call is None:
        return
    try:
        if error is None:
            call.returned()
        else:
            call.failed(error)
    except Exception as fault:  # noqa: BLE001
        count("call_end_unseen", fault)
        call.end()


def _body(options: Any) -> Mapping[str, Any]:  # noqa: ANN401
    merged: dict[str, Any] = {}
    for part in (options.json_data, getattr(options, "extra_json", None)):
        if isinstance(part, Mapping):
            merged |= cast("Mapping[str, Any]", part)
    return merged


def _raw(options: Any) -> object:  # noqa: ANN401
    headers = options.headers
    return (
        cast("Mapping[str, object]", headers).get(_RAW_HEADER)
        if isinstance(headers, Mapping)
        else None
    )


def _asking(args: Arguments, kwargs: Named, options: Any) -> tuple[Arguments, Named]:  # noqa: ANN401
    """Return the arguments with options that ask for usage; the app's own stay as they are."""
    asking = copy.copy(options)
    asking.json_data = {**options.json_data, "stream_options": {"include_usage": True}}
    if "options" in kwargs:
        return args, {**kwargs, "options": asking}
    return (args[0], asking, *args[2:]), kwargs


def _attributes(client: Any, request: Request) -> Attributes:  # noqa: ANN401
    operation = request.operation
    azure = request.host.endswith(".azure.com") or "Azure" in type(client).__name__
    found: Attributes = {
        semconv.OPERATION: operation.name,
        semconv.PROVIDER: "azure.ai.openai" if azure else "openai",
        semconv.API_TYPE: operation.api_type,
        semconv.SERVER_ADDRESS: request.host,
    }
    put(found, semconv.REQUEST_MODEL, request.model or None)
    put(found, semconv.REQUEST_TIER, request.tier)
    key = _key(client) if operation.api_type != "organization" else None
    if key:
        digest = hashlib.sha256(key.encode(errors="replace")).hexdigest()
        found[semconv.KEY_FINGERPRINT] = digest[:16]
        if len(key) >= _SHORTEST_KEY_WITH_HINT:
            put(found, semconv.KEY_HINT, text(key[-4:]))
    return found


def _key(client: Any) -> str | None:  # noqa: ANN401
    """Return the API key if it is one: a token that changes names nobody in a bill."""
    for token in ("_azure_ad_token", "_azure_ad_token_provider", "_api_key_provider"):
        if getattr(client, token, None) is not None:
            return None
    key = getattr(client, "api_key", None)
    key = key.strip() if isinstance(key, str) else ""
    return key if key and not key.startswith("<") else None
