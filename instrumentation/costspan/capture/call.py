"""One call from its start to its one end, and the attributes of its span."""

import inspect
import os
import time
import weakref
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, cast

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
from costspan.capture.body import RawBody
from costspan.capture.operation import Operation
from costspan.counters import count
from costspan.errors import InvalidUsage
from costspan.money import plain
from costspan.pricing import Status as PriceStatus
from costspan.pricing import default_book, price
from costspan.usage import Usage, read_usage

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_INT64 = 2**63 - 1
_HEAD = {
    "model": semconv.RESPONSE_MODEL,
    "service_tier": semconv.RESPONSE_TIER,
    "system_fingerprint": semconv.SYSTEM_FINGERPRINT,
}


class Request(NamedTuple):
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

    __slots__ = (
        "__weakref__",
        "_billable",
        "_body",
        "_finish_reasons",
        "_found",
        "_head",
        "_invalid",
        "_outcome",
        "_pending",
        "_reported",
        "_request",
        "_response",
        "_seen",
        "_started",
        "_token",
        "_usage",
        "asked_for_usage",
        "chunks",
        "first_chunk",
        "http_spans",
        "last_chunk",
        "provider",
        "reading",
        "span",
    )

    def __init__(
        self, span: Span, request: Request, provider: TracerProvider, *, http_spans: bool
    ) -> None:
        self.span = span
        self.provider = provider
        self.http_spans = http_spans
        self.asked_for_usage = request.asked_for_usage
        self.reading = False
        """The SDK is inside the stream: a close seen now is its own, at the end or an error."""
        self.chunks = 0
        self.first_chunk = self.last_chunk = 0.0
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
        self._body: RawBody | None = None
        self._outcome: str | None = None
        self._started = time.perf_counter()
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
        self._body = RawBody(
            response, keeps=self._billable, asked_for_usage=self._request.asked_for_usage
        )
        _pending_calls.add(self)
        weakref.finalize(response, self.abandoned).atexit = False

    def saw(self, data: object) -> None:
        """Note what a body, or one event of a stream, tells."""
        event = mapping(data)
        if event is None:
            return
        if self.reading and "model" in self._head and _is_delta(event):
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

    def read_raw(self, data: bytes) -> bytes:
        """Note bytes that the app reads by itself; return what it is to see of them."""
        try:
            return self._body.read(data) if self._body is not None else data
        except Exception as error:  # noqa: BLE001
            self._body = None
            count("body_unread", error)
            return data

    def raw_rest(self) -> bytes:
        """Return what is left for the app when such a body ends."""
        return self._body.rest() if self._body is not None else b""

    def returned(self) -> None:
        """End, unless the body is still to be read."""
        if self._pending:
            return
        response, self._response = self._response, None
        if not self._seen and self._billable and response is not None:
            body = RawBody(response, keeps=True, asked_for_usage=False)
            body.read(response.content)
            self._body = body
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
            if self._outcome is None:
                self._outcome = "completed" if at_end else "closed_early"
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
            _late.append((self, time.time_ns()))
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
                for document in self._body.documents():
                    self.saw(document)
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
        if self.chunks:
            found[semconv.STREAM_CHUNKS] = self.chunks
            found[semconv.TIME_TO_FIRST_CHUNK] = self.first_chunk - self._started
        if self.chunks > 1:
            between = self.last_chunk - self.first_chunk
            found[semconv.TIME_PER_CHUNK] = between / (self.chunks - 1)
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


def _is_delta(event: Mapping[str, Any]) -> bool:
    """Return whether an event carries content only; nearly all do, and each costs the app time."""
    if event.get("usage") or "response" in event:
        return False
    choices: object = event.get("choices")
    if choices is None:
        return True
    if not isinstance(choices, list) or len(cast("list[object]", choices)) != 1:
        return False
    choice = mapping(cast("list[object]", choices)[0])
    return choice is not None and not choice.get("finish_reason")


_pending_calls: weakref.WeakSet[Call] = weakref.WeakSet()
_late: deque[tuple[Call, int]] = deque()


def end_late() -> None:
    """End the spans of streams that were collected at a bad moment."""
    while _late:
        try:
            call, end_ns = _late.popleft()
        except IndexError:  # another thread took it
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
