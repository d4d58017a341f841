"""The hooks in the SDK's client, and what each of them passes on.

Every resource of the SDK, of any version since 1.40, goes through `request`. The answer that
wins goes through `_process_response`, every JSON body and every event of a stream through
`_process_response_data`. No hook may change an outcome: what fails in here is counted.
"""

import copy
import inspect
from collections.abc import Callable, Mapping
from functools import partial, wraps
from time import perf_counter
from types import ModuleType
from typing import Any, cast

import wrapt
from opentelemetry import context
from opentelemetry.context import Context
from opentelemetry.instrumentation.utils import is_instrumentation_enabled

from costspan.capture import attempts, background, websocket
from costspan.capture.answer import mapping, text
from costspan.capture.call import Call, end_all, end_late
from costspan.capture.client import key_sent
from costspan.capture.operation import operation_of
from costspan.capture.start import Starter
from costspan.capture.streams import AsyncWatch, WatchedBytes, answers_us, watch
from costspan.counters import count
from costspan.export import Destination
from costspan.settings import Settings

Arguments = tuple[Any, ...]
Named = dict[str, Any]
Method = Callable[..., Any]

_CLIENT_MODULE = "openai._base_client"
_ON_RESPONSE = "costspan.call"
_RAW_HEADER = "X-Stainless-Raw-Response"


_Begun = tuple[Context, Call | None, Arguments, Named]
"""What to make a call in and with. No call where the span is not recorded."""


class Capture:
    """The hooks, while they are in place."""

    def __init__(self, settings: Settings, destination: Destination) -> None:
        self._starter = Starter(settings, destination)
        self._destination = destination
        self._active = False
        self._patched: list[tuple[type, str, Method]] = []

    def start(self) -> "Capture":
        """Put the hooks in place, now or as soon as the app imports `openai`."""
        self._active = True
        wrapt.register_post_import_hook(self._imported, _CLIENT_MODULE)
        for name, place in websocket.patches(self._starter, lambda: self._active):
            wrapt.register_post_import_hook(partial(self._connects, place), name)
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
        drained = background.drain(timeout_seconds)
        return self._destination.flush(timeout_seconds) and drained

    def _imported(self, module: ModuleType) -> None:
        if not self._active:
            return
        try:
            for client in (module.SyncAPIClient, module.AsyncAPIClient):
                is_async = inspect.iscoroutinefunction(client.request)
                self._patch(client, "request", self._request_async if is_async else self._request)
                self._patch(client, "_process_response", _process_response)
                self._patch(client, "_process_response_data", _process_response_data)
            self._patch(module.Stream, "__init__", _stream_made)
            self._patch(module.AsyncStream, "__init__", _stream_made)
        except Exception as error:  # noqa: BLE001
            count("hook_missing", error)

    def _connects(self, place: websocket.Place, module: ModuleType) -> None:
        if not self._active:
            return
        try:
            place(module, self._patch)
        except Exception as error:  # noqa: BLE001
            count("hook_missing", error)

    def _patch(self, cls: type, name: str, hooked: Callable[[Method], Method]) -> None:
        """Replace a method, where it is defined and once, by `hooked` of it."""
        owner = next(base for base in cls.__mro__ if name in vars(base))
        if any(done[0] is owner and done[1] == name for done in self._patched):
            return
        if hooked in _STATELESS and _has_ours(vars(owner)[name]):
            return  # of an installation before, inside another library's
        hook = hooked(vars(owner)[name])
        setattr(owner, name, hook)
        self._patched.append((owner, name, hook))

    def _request(self, original: Method) -> Method:
        @wraps(original)
        def request(client: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            begun = self._begin(client, args, kwargs)
            if begun is None:
                return original(client, *args, **kwargs)
            inside, call, args, kwargs = begun
            token = context.attach(inside)
            try:
                result = original(client, *args, **kwargs)
            except BaseException as error:
                _end(call, error)
                raise
            finally:
                context.detach(token)
            _end(call)
            return result

        return request

    def _request_async(self, original: Method) -> Method:
        @wraps(original)
        async def request(client: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            begun = self._begin(client, args, kwargs)
            if begun is None:
                return await original(client, *args, **kwargs)
            inside, call, args, kwargs = begun
            token = context.attach(inside)
            try:
                result = await original(client, *args, **kwargs)
            except BaseException as error:
                _end(call, error)
                raise
            finally:
                # A coroutine that is dropped half-way is closed in another context than its own.
                if context.get_current() is inside:
                    context.detach(token)
            _end(call)
            return result

        return request

    def _begin(self, client: Any, args: Arguments, kwargs: Named) -> _Begun | None:  # noqa: ANN401
        try:
            if not self._active:
                return None
            if not is_instrumentation_enabled():
                if attempts.current_call() is None:
                    return None
                return attempts.with_call(None, context.get_current()), None, args, kwargs
            end_late()
            return self._started(client, args, kwargs)
        except Exception as error:  # noqa: BLE001
            count("call_unseen", error)
            return None

    def _started(self, client: Any, args: Arguments, kwargs: Named) -> _Begun:  # noqa: ANN401
        options = kwargs["options"] if "options" in kwargs else args[1]
        operation = operation_of(options.method, str(options.url))
        body = _body(options)
        streamed = bool(kwargs.get("stream"))
        asks = (
            streamed
            and operation.streams_usage_on_request
            and isinstance(options.json_data, Mapping)
            and self._starter.asks_for_usage(client, body)
        )
        inside, call = self._starter.start(
            client,
            operation,
            model=text(body.get("model")) or "",
            tier=text(body.get("service_tier")),
            streamed=streamed,
            asked_for_usage=asks,
            body=body,
            key=key_sent(options.headers) if options.headers else None,
        )
        if asks and call is not None:  # who else would take the usage out of the stream again?
            args, kwargs = _asking(args, kwargs, options, body.get("stream_options"))
        return inside, call, args, kwargs


def _process_response(original: Method) -> Method:
    @wraps(original)
    def process_response(client: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        _arrived(kwargs)
        return original(client, *args, **kwargs)

    @wraps(original)
    async def process_response_async(client: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        _arrived(kwargs)
        return await original(client, *args, **kwargs)

    return process_response_async if inspect.iscoroutinefunction(original) else process_response


def _arrived(kwargs: Named) -> None:
    call = attempts.current_call()
    if call is None:
        return
    try:
        response = kwargs["response"]
        lazy = not response.is_closed and response.request.headers.get(_RAW_HEADER) == "stream"
        pending = lazy or bool(kwargs.get("stream"))
        response.extensions[_ON_RESPONSE] = call
        call.arrived(response, int(kwargs.get("retries_taken", 0)), pending=pending)
        if pending:
            response.stream = WatchedBytes(response.stream, call)
    except Exception as error:  # noqa: BLE001
        count("response_unread", error)


def _process_response_data(original: Method) -> Method:
    @wraps(original)
    def process_response_data(
        client: Any,  # noqa: ANN401
        *,
        data: Any,  # noqa: ANN401
        cast_to: Any,  # noqa: ANN401
        response: Any,  # noqa: ANN401
        **more: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        try:
            call = response.extensions.get(_ON_RESPONSE)
            if call is not None:
                ours = False
                if call.asked_for_usage and "usage" in data:
                    # `include_usage` adds one to each chunk, and a last chunk that has only it.
                    if data["usage"] is None:
                        del data["usage"]
                    else:
                        ours = answers_us(data)
                if call.is_stream and not ours:
                    call.chunks += 1
                    call.last_chunk = perf_counter()
                # Written out here, because nearly all events of a stream end here.
                if call.skims:
                    choices = data.get("choices")
                    tells = (
                        data.get("usage") or len(choices) != 1 or choices[0].get("finish_reason")
                        if choices
                        else "response" in data or "usage" in data or "data" in data
                    )
                    if tells:
                        call.saw(data)
                    elif call.content is not None:
                        call.content.gather(data)
                else:
                    if call.chunks == 1:
                        call.first_chunk = call.last_chunk
                    call.saw(data)
        except Exception as error:  # noqa: BLE001
            count("body_unread", error)
        if more:
            return original(client, data=data, cast_to=cast_to, response=response, **more)
        return original(client, data=data, cast_to=cast_to, response=response)  # the quicker way

    return process_response_data


def _stream_made(original: Method) -> Method:
    @wraps(original)
    def init(stream: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        original(stream, *args, **kwargs)
        try:
            call = kwargs["response"].extensions.get(_ON_RESPONSE)
            if call is not None:
                chunks: Any = stream._iterator  # noqa: SLF001
                if hasattr(chunks, "__anext__"):
                    chunks = AsyncWatch(call, chunks)
                else:
                    chunks = watch(call, chunks)
                call.watched(chunks)
                stream._iterator = chunks  # noqa: SLF001
        except Exception as error:  # noqa: BLE001
            count("stream_unwatched", error)

    return init


_STATELESS = (_process_response, _process_response_data, _stream_made)


def _has_ours(method: Any) -> bool:  # noqa: ANN401
    while method is not None:
        code = getattr(method, "__code__", None)
        if code is not None and code.co_filename == __file__:
            return True
        method = getattr(method, "__wrapped__", None)
    return False


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
    body = mapping(options.json_data) or {}
    extra = mapping(getattr(options, "extra_json", None))
    return {**body, **extra} if extra else body


def _asking(
    args: Arguments,
    kwargs: Named,
    options: Any,  # noqa: ANN401
    stream_options: Mapping[str, Any] | None,
) -> tuple[Arguments, Named]:
    """Return the arguments with options that ask for usage; the app's own stay as they are."""
    asking = copy.copy(options)
    asked = {**(stream_options or {}), "include_usage": True}
    asking.json_data = {**options.json_data, "stream_options": asked}
    extra = getattr(options, "extra_json", None)
    if extra and "stream_options" in extra:
        asking.extra_json = {**extra, "stream_options": asked}
    if "options" in kwargs:
        return args, {**kwargs, "options": asking}
    return (args[0], asking, *args[2:]), kwargs
