"""See a stream go by without changing what it is: the iterator inside is replaced, not the stream."""

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from contextlib import closing, nullcontext
from typing import Any, cast

import wrapt

from costspan.capture.answer import mapping
from costspan.capture.call import Call
from costspan.counters import count


def watch(call: Call, chunks: Iterator[Any]) -> Generator[Any, None, None]:
    """Yield `chunks`, and end the call when they end, fail or are closed."""
    try:
        yield from (_without_ours(chunks) if call.asked_for_usage else chunks)
    except GeneratorExit:
        _end(call)
        raise
    except BaseException as error:
        _end(call, error)
        raise
    _end(call, completed=True)


def _without_ours(chunks: Iterator[Any]) -> Generator[Any, None, None]:
    """Yield `chunks` but for the one that the shim asked for."""
    with closing(cast("Any", chunks)) if hasattr(chunks, "close") else nullcontext():
        for chunk in chunks:
            if not answers_us(chunk):
                yield chunk


class AsyncWatch:
    """Does what `watch` does for an async stream.

    Not a generator: an event loop closes each async generator that is dropped, and this one
    would be closed while the SDK's inside of it is.
    """

    __slots__ = ("__weakref__", "_call", "_chunks", "is_reading")

    def __init__(self, call: Call, chunks: AsyncGenerator[Any, None]) -> None:
        self._call = call
        self._chunks = chunks
        self.is_reading = False

    def __aiter__(self) -> "AsyncWatch":
        return self

    async def __anext__(self) -> Any:  # noqa: ANN401
        call = self._call
        self.is_reading = True
        try:
            chunk = await anext(self._chunks)
            if call.asked_for_usage and answers_us(chunk):
                chunk = await anext(self._chunks)
        except StopAsyncIteration:
            _end(call, completed=True)
            raise
        except GeneratorExit:
            _end(call)
            raise
        except BaseException as error:
            _end(call, error)
            raise
        finally:
            self.is_reading = False
        return chunk

    async def aclose(self) -> None:
        """Close the stream, and end the call."""
        await self._chunks.aclose()
        _end(self._call)


def answers_us(chunk: Any) -> bool:  # noqa: ANN401
    """Return whether a chunk, parsed or raw, is the one that `include_usage` adds."""
    choices = getattr(chunk, "choices", None)
    if choices:
        return False  # as soon as may be, for nearly all have some
    if raw := mapping(chunk):
        return raw.get("choices") == [] and raw.get("usage") is not None
    return choices == [] and getattr(chunk, "usage", None) is not None


class WatchedBytes(wrapt.ObjectProxy[Any]):
    """A response's byte stream that says when it is closed; closing is how the helpers stop."""

    def __init__(self, stream: Any, call: Call) -> None:  # noqa: ANN401
        super().__init__(stream)
        self._self_call = call
        self._self_at_end = False

    def __iter__(self) -> Iterator[bytes]:
        call = self._self_call
        for data in self.__wrapped__:
            if passed := call.passes(data):
                yield passed
        if rest := call.raw_rest():
            yield rest
        self._self_at_end = True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        call = self._self_call
        async for data in self.__wrapped__:
            if passed := call.passes(data):
                yield passed
        if rest := call.raw_rest():
            yield rest
        self._self_at_end = True

    def close(self) -> None:
        """Close, then end the call."""
        try:
            self.__wrapped__.close()
        finally:
            self._closed()

    async def aclose(self) -> None:
        """Close, then end the call."""
        try:
            await self.__wrapped__.aclose()
        finally:
            self._closed()

    def _closed(self) -> None:
        try:
            self._self_call.closed(at_end=self._self_at_end)
        except Exception as error:  # noqa: BLE001
            count("stream_end_unseen", error)


def _end(call: Call, error: BaseException | None = None, *, completed: bool = False) -> None:
    try:
        if error is not None:
            call.failed(error)
        elif completed:
            call.completed()
        else:
            call.closed()
    except Exception as fault:  # noqa: BLE001
        count("stream_end_unseen", fault)
