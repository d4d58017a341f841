"""One call from its start to its one end, and the attributes of its span."""

import inspect
import json
import os
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from queue import Empty, SimpleQueue
from typing import Any, cast

from opentelemetry.trace import Span, Status, StatusCode, TracerProvider

from costspan import semconv
from costspan.capture.answer import (
    Attributes,
    from_error,
    from_headers,
    from_usage,
    mapping,
    may_be_billed,
    put,
    text,
)
from costspan.capture.operation import Operation
from costspan.counters import count
from costspan.errors import InvalidUsage
from costspan.money import plain
from costspan.pricing import Status as PriceStatus
from costspan.pricing import default_book, price
from costspan.usage import Usage, read_usage

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_INT64 = 2**63 - 1
_MOST_KEPT_BYTES = 2**20
_HEAD = {
    "model": semconv.RESPONSE_MODEL,
    "service_tier": semconv.RESPONSE_TIER,
    "system_fingerprint": semconv.SYSTEM_FINGERPRINT,
}


@dataclass(frozen=True, slots=True)
class Request:
    """What is known of a call before it is sent."""

    operation: Operation
    model: str
    tier: str | None
    host: str
    priced: bool
    """Whether the host charges OpenAI's prices."""
    asked_for_usage: bool
    """Whether the shim, and not the app, asked the stream for its usage."""
    started_ns: int


class Call:
    """What is seen of one call. Ends its span exactly once, however the call ends."""

    def __init__(
        self, span: Span, request: Request, provider: TracerProvider, *, http_spans: bool
    ) -> None:
        self.span = span
        self.provider = provider
        self.http_spans = http_spans
        self.reading = False
        """The SDK is inside the stream: a close seen now is its own, at the end or an error."""
        self.hide_next = False
        """The chunk being read answers our own question; the app must not see it."""
        self._request = request
        self._found: Attributes = {}
        self._head: dict[str, object] = {}
        self._finish_reasons: dict[int, str] = {}
        self._usage: Usage | None = None
        self._reported: Mapping[str, Any] = {}
        self._invalid = False
        self._billable = request.operation.billed
        self._seen = False
        self._response: Any = None
        self._pending = False
        self._body: _Body | None = None
        self._outcome: str | None = None
        self._chunks = 0
        self._started = time.perf_counter()
        self._first_chunk = self._last_chunk = 0.0
        self._token = [True]

    # What happens, in order.

    def arrived(self, response: Any, retries: int, *, pending: bool) -> None:  # noqa: ANN401
        """Note the answer's headers. `pending`: its body is read after the call returned."""
        self._found |= from_headers(response.headers)
        self._found[semconv.RETRIES] = retries
        self._pending = pending
        if not pending:
            self._response = response
            return
        if self._billable and _is_text(response):
            self._body = _Body(cast("type[Any]", type(response)), response.headers)
        _pending_calls.add(self)
        weakref.finalize(response, self.abandoned).atexit = False

    def conceal(self, data: Any) -> None:  # noqa: ANN401
        """Take what `include_usage` adds out of a stream that did not ask for it."""
        if not self._request.asked_for_usage or not isinstance(data, dict) or "usage" not in data:
            return
        chunk = cast("dict[str, Any]", data)
        if chunk["usage"] is None:
            del chunk["usage"]
        elif chunk.get("choices") == []:
            self.hide_next = True

    def saw(self, data: object) -> None:
        """Note what a body, or one event of a stream, tells."""
        event = mapping(data)
        if event is None:
            return
        body = mapping(event.get("response")) or event
        self._seen = True
        head = self._head
        for name in _HEAD:
            if value := body.get(name):
                head[name] = value
        if "id" not in head and "id" in body:
            head["id"] = body["id"]
        if body.get("usage") is not None:
            self._read_usage(body)
        choices = body.get("choices")
        if isinstance(choices, list):
            self._read_choices(cast("list[object]", choices))
        elif body.get("object") == "response":
            self._read_response(body)

    def chunk(self) -> None:
        """Note that the app is given one chunk."""
        self._last_chunk = time.perf_counter()
        if not self._chunks:
            self._first_chunk = self._last_chunk
        self._chunks += 1

    def watched(self) -> None:
        """Note that the SDK reads the stream, so its bytes need not be kept."""
        self._body = None

    def keep(self, data: bytes) -> None:
        """Keep bytes of a body that the app may read by itself."""
        if self._body is not None and not self._body.keep(data):
            self._body = None
            count("body_too_large")

    @property
    def keeps_bytes(self) -> bool:
        """Whether the bytes of the body are the only way to see it."""
        return self._body is not None

    def returned(self) -> None:
        """End, unless the body is still to be read."""
        if self._pending:
            return
        response, self._response = self._response, None
        if (
            not self._seen
            and self._billable
            and response is not None
            and _is_text(response)
            and len(response.content) <= _MOST_KEPT_BYTES
        ):
            self.saw(json.loads(response.content))
        self.end()

    def failed(self, error: BaseException) -> None:
        """End with an error."""
        self._found |= from_error(error)
        if self._pending:
            self._outcome = "failed"
        elif self._usage is None and not self._seen:
            self._billable = self._billable and may_be_billed(error)
        self.end()

    def completed(self) -> None:
        """End a stream that was read to its end."""
        self._outcome = "completed"
        self.end()

    def closed(self, *, at_end: bool = False) -> None:
        """End a body that was closed; `at_end`: all of it had been read."""
        if not self.reading:
            if self._outcome is None and not at_end:
                self._outcome = "closed_early"
            self.end()

    def abandoned(self) -> None:
        """End a stream that nobody holds any more.

        Runs inside the garbage collector, so possibly inside an exporter that holds its lock on
        this very thread; then the end waits in a queue for the next call.
        """
        if not self._take():
            return
        self._outcome = "abandoned"
        if _inside_telemetry():
            _late.put((self, time.time_ns()))
        else:
            self._finish()

    def end(self) -> None:
        """End the span, the first time only."""
        if self._take():
            self._finish()

    # How it is written.

    def _take(self) -> bool:
        """Return True once; the pop is atomic."""
        try:
            return self._token.pop()
        except IndexError:
            return False

    def _finish(self, end_ns: int | None = None) -> None:
        try:
            if self._body is not None:
                self._read_kept(self._body)
        except Exception as error:  # noqa: BLE001
            count("body_unread", error)
        try:
            self.span.set_attributes(self._attributes())
            if failure := self._found.get(semconv.ERROR_TYPE):
                self.span.set_status(Status(StatusCode.ERROR, str(failure)))
        except Exception as error:  # noqa: BLE001
            count("span_incomplete", error)
        self._response = self._body = None
        try:
            self.span.end(end_ns)
        except Exception as error:  # noqa: BLE001
            count("span_lost", error)

    def _attributes(self) -> Attributes:
        found = self._found
        for name, field in (*_HEAD.items(), ("id", semconv.RESPONSE_ID)):
            put(found, field, text(self._head.get(name)))
        if self._finish_reasons:
            found[semconv.FINISH_REASONS] = [
                self._finish_reasons[index] for index in sorted(self._finish_reasons)
            ]
        if self._pending:
            put(found, semconv.STREAM_OUTCOME, self._outcome)
        if self._chunks:
            found[semconv.STREAM_CHUNKS] = self._chunks
            found[semconv.TIME_TO_FIRST_CHUNK] = self._first_chunk - self._started
        if self._chunks > 1:
            between = self._last_chunk - self._first_chunk
            found[semconv.TIME_PER_CHUNK] = between / (self._chunks - 1)
        return found | self._cost()

    def _cost(self) -> Attributes:
        """Return tokens, cost and status.

        An answer of 4xx or 5xx has none of them: it is not billed, which is not the same as a
        cost that is unknown.
        """
        if not self._request.operation.billed:
            return {semconv.PRICE_STATUS: PriceStatus.NOT_BILLED.value}
        if not self._billable:
            return {}
        usage = self._usage
        found = from_usage(usage, self._reported) if usage is not None else {}
        if not self._request.priced:
            found[semconv.PRICE_STATUS] = PriceStatus.UNKNOWN_MODEL.value
            return found
        if self._invalid:
            found[semconv.PRICE_STATUS] = PriceStatus.INVALID_USAGE.value
            found[semconv.PRICE_BOOK] = default_book().version
            return found
        priced = price(
            usage,
            model=text(self._head.get("model")) or self._request.model,
            at=_EPOCH + timedelta(microseconds=self._request.started_ns // 1000),
            tier=text(self._head.get("service_tier")),
            host=self._request.host,
        )
        found[semconv.PRICE_STATUS] = priced.status.value
        found[semconv.PRICE_BOOK] = priced.book
        put(found, semconv.PRICE_PATH, text(priced.path))
        if priced.usd is not None:
            if any(part.pico > _MOST_INT64 for part in priced.parts):
                found[semconv.PRICE_STATUS] = PriceStatus.INVALID_USAGE.value
                return found
            found[semconv.COST_USD] = plain(priced.usd)
            for part in priced.parts:
                found[semconv.COST_PART + part.meter] = part.pico
        return found

    def _read_usage(self, body: Mapping[str, Any]) -> None:
        try:
            usage = read_usage(body)
        except InvalidUsage:
            self._invalid, self._usage = True, None
            return
        if usage is not None:
            self._invalid, self._usage = False, usage
            self._reported = mapping(body["usage"]) or {}

    def _read_choices(self, choices: list[object]) -> None:
        for position, item in enumerate(choices):
            choice = mapping(item)
            if choice and (given := choice.get("finish_reason")) and (reason := text(given)):
                index = choice.get("index")
                self._finish_reasons[index if isinstance(index, int) else position] = reason

    def _read_response(self, body: Mapping[str, Any]) -> None:
        status = text(body.get("status"))
        incomplete = mapping(body.get("incomplete_details")) or {}
        if status in {"completed", "incomplete", "failed", "cancelled"}:
            self._finish_reasons = {0: text(incomplete.get("reason")) or status}
        if status == "failed":
            code = text((mapping(body.get("error")) or {}).get("code"))
            put(self._found, semconv.ERROR_CODE, code)
            self._found[semconv.ERROR_TYPE] = code or "response_failed"

    def _read_kept(self, body: "_Body") -> None:
        for data in body.read():
            self.saw(data)


class _Body:
    """The raw bytes of a body that the app reads by itself."""

    def __init__(self, response_class: type[Any], headers: Mapping[str, str]) -> None:
        self._response_class = response_class
        self._headers = {
            name: headers[name] for name in ("content-type", "content-encoding") if name in headers
        }
        self._parts: list[bytes] = []
        self._size = 0

    def keep(self, data: bytes) -> bool:
        """Add bytes; False if there are too many by now."""
        self._parts.append(data)
        self._size += len(data)
        return self._size <= _MOST_KEPT_BYTES

    def read(self) -> list[object]:
        """Return the JSON document, or each event of a stream; the HTTP library decompresses."""
        if not self._parts:
            return []
        raw = b"".join(self._parts)
        content: bytes = self._response_class(200, headers=self._headers, content=raw).content
        if "event-stream" not in self._headers.get("content-type", ""):
            return [json.loads(content)]
        events = (line[5:].strip() for line in content.splitlines() if line.startswith(b"data:"))
        return [json.loads(event) for event in events if event.startswith(b"{")]


_pending_calls: weakref.WeakSet[Call] = weakref.WeakSet()
_late: SimpleQueue[tuple[Call, int]] = SimpleQueue()


def end_late() -> None:
    """End the spans of streams that were collected at a bad moment."""
    while True:
        try:
            call, end_ns = _late.get_nowait()
        except Empty:
            return
        call._finish(end_ns)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def end_all() -> None:
    """End every span that is still open: the process is about to end."""
    for call in list(_pending_calls):
        call.abandoned()
    end_late()


def _leave_to_parent() -> None:
    """Forget, in a forked child, the calls that the parent is making and will end."""
    for call in list(_pending_calls):
        call._take()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    _pending_calls.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)


def _inside_telemetry() -> bool:
    frame = inspect.currentframe()
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).startswith("opentelemetry.sdk"):
            return True
        frame = frame.f_back
    return False


def _is_text(response: Any) -> bool:  # noqa: ANN401
    kind = str(response.headers.get("content-type", "")).split(";")[0].strip().lower()
    return kind.endswith("json") or kind == "text/event-stream"
