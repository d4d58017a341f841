"""One call from its start to its one end, and the attributes of its span."""

import inspect
import os
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from opentelemetry.trace import Span, Status, StatusCode, TracerProvider

from costspan import semconv
from costspan.capture import background, batch_output, deferred, estimate, tokenizer
from costspan.capture.answer import (
    Answer,
    Attributes,
    from_error,
    from_headers,
    mapping,
    may_be_billed,
    put,
)
from costspan.capture.body import RawBody
from costspan.capture.cost import from_answer
from costspan.capture.operation import BATCH_OUTPUT, Operation
from costspan.capture.texts import Answered
from costspan.content import Gathered, content_attributes
from costspan.counters import count
from costspan.metrics import Metrics
from costspan.pricing import Status as PriceStatus
from costspan.settings import Settings
from costspan.tracing import CallSpan


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
    body: Mapping[str, Any]
    """The app's own, only looked at."""


class Recording(NamedTuple):
    """Where calls are recorded, and how."""

    settings: Settings
    provider: TracerProvider
    metrics: Metrics


class Call:
    """What is seen of one call. Ends its span exactly once, however the call ends."""

    chunks = 0
    first_chunk = last_chunk = 0.0
    is_stream = False
    """Whether each body is an event of a stream that the app reads."""
    skims = False
    """Whether an event is worth a look only if it tells more than content."""
    kept: RawBody | None = None
    """The stream as it came, to count tokens by should no usage come: cheaper than its events."""
    _deferred = False
    _pending = False
    _response: Any = None
    _body: RawBody | None = None
    _output: batch_output.BatchOutput | None = None
    content: Gathered | None = None
    """Only where the app wants it on the span."""
    _answered: Answered | None = None
    """Only where tokens can be counted, should no usage be seen."""
    _outcome: str | None = None
    _reader: Callable[[], object] = staticmethod(lambda: None)

    def __init__(self, span: Span, request: Request, recording: Recording) -> None:
        self.span = span
        self.recording = recording
        self.asked_for_usage = request.asked_for_usage
        self._request = request
        self._found: Attributes = {}
        self._answer = Answer()
        self._billable = request.operation.billed
        if recording.settings.content and request.operation.name == "chat":
            self.content = Gathered()
        if (
            recording.settings.estimates
            and request.operation.name in estimate.OPERATIONS
            and tokenizer.installed()
        ):
            self._answered = Answered()
            estimate.start()
        self._started = time.perf_counter()
        self._token = [True]

    # What happens, in order.

    def arrived(self, response: Any, retries: int, *, pending: bool) -> None:  # noqa: ANN401
        """Note the answer's headers. `pending`: its body is read after the call returned."""
        self._found |= from_headers(response.headers)
        if retries:
            self._found[semconv.RETRIES] = retries
        self._pending = pending
        if self._request.operation.name == BATCH_OUTPUT:
            self._output = batch_output.BatchOutput(self._read(), response, decoded=not pending)
        if not pending:
            self._response = response
            return
        self._body = RawBody(
            response,
            keeps=self._billable or self._request.operation.settles,
            asked_for_usage=self._request.asked_for_usage,
        )
        if self._answered is not None:
            self.kept = RawBody(response, keeps=True, asked_for_usage=False)
        _pending_calls[id(self)] = self
        weakref.finalize(response, self.abandoned).atexit = False

    def watched(self, reader: Any) -> None:  # noqa: ANN401
        """Note what the app reads the stream through; it holds this call."""
        self._reader = weakref.ref(reader)
        self.is_stream = True

    @property
    def reading(self) -> bool:
        """The SDK is inside the stream: a close seen now is its own, at the end or an error."""
        reader = self._reader()
        return bool(getattr(reader, "gi_running", False) or getattr(reader, "is_reading", False))

    def told(self, found: Attributes, *, pending: bool = False) -> None:
        """Note what is known from other than an HTTP answer. `pending`: as in `arrived`."""
        self._found |= found
        if pending and not self._pending:
            self._pending = True
            _pending_calls[id(self)] = self

    def saw(self, data: object) -> None:
        """Note what a body, or one event of a stream, tells."""
        event = mapping(data)
        if event is None:
            return
        body = event
        if "response" in event or "data" in event:
            body = mapping(event.get("response")) or mapping(event.get("data")) or event
        if self._request.operation.settles and deferred.is_deferred(body):
            self._deferred = True
            self._answer.saw_head(body)
            deferred.saw(body, self._read())
        else:
            self._answer.saw(body, self._request.body)
        self.skims = self._answer.named
        if self.content is not None:
            self.content.gather(event)
        if self._answered is not None and not self._pending and self._answer.usage is None:
            self._answered.keep(event)

    def passes(self, data: bytes) -> bytes:
        """Note bytes of the body; return what the SDK, or an app that reads by itself, is to see."""
        try:
            if self.reading:
                if self.kept is not None:
                    self.kept.read(data)
                return data
            if self._output is not None:
                self._output.take(data)
            return self._body.read(data) if self._body is not None else data
        except Exception as error:  # noqa: BLE001
            self._body = self.kept = None
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
        if self._output is not None and response is not None:
            self._output.take(response.content)
        reads = self._billable or self._request.operation.settles
        if reads and not self._answer.seen and response is not None:
            body = RawBody(response, keeps=True, asked_for_usage=False, decoded=True)
            body.read(response.content)
            self._body = body
        self.end()

    def failed(self, error: BaseException) -> None:
        """End with an error."""
        self._found |= from_error(error)
        if self._pending:
            self._outcome = "failed"
        elif self._response is None:
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
            _late.append((self, self._now_ns()))
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
                    if self._answered is not None:
                        self._answered.keep(mapping(document) or {})
        except Exception as error:  # noqa: BLE001
            count("body_unread", error)
        if self._output is not None:
            self._output.end()
        ends_later = False
        try:
            attributes = self._noticed()
            if not self._tells_later():
                attributes = self._told() | attributes
            self.span.set_attributes(attributes)
            if failure := attributes.get(semconv.ERROR_TYPE):
                self.span.set_status(Status(StatusCode.ERROR, str(failure)))
            ends_later = self._estimates(attributes, end_ns)
        except Exception as error:  # noqa: BLE001
            count("span_incomplete", error)
        self._response = self._body = self._output = self.content = self._answered = None
        self.kept = None
        if not ends_later:
            self._conclude(end_ns or self._now_ns())

    def _estimates(self, found: Attributes, end_ns: int | None) -> bool:
        """Have tokens counted that nobody reported; return whether the span ends after that."""
        if self._answered is None or found.get(semconv.PRICE_STATUS) != PriceStatus.MISSING_USAGE:
            return False
        request = self._request
        unseen = estimate.unseen(
            request.body,
            request.operation.api_type,
            self._answered,
            self.kept,
            found,
            model=request.model,
            tier=request.tier,
            host=request.host,
            started_ns=request.started_ns,
        )
        end = partial(self._conclude, end_ns or self._now_ns())
        return unseen is not None and estimate.put(unseen, end)

    def _now_ns(self) -> int:
        """Return the time by the clock's reading at the start, whatever it was set to since."""
        elapsed_seconds = time.perf_counter() - self._started
        return self._request.started_ns + int(elapsed_seconds * 1e9)

    def _conclude(self, end_ns: int, found: Attributes | None = None) -> None:
        try:
            if found:
                self.span.set_attributes(found)
            if self.recording.metrics.listened:
                self._measure(end_ns)
        except Exception as error:  # noqa: BLE001
            count("span_incomplete", error)
        try:
            self.span.end(end_ns)
        except Exception as error:  # noqa: BLE001
            count("span_lost", error)

    def _noticed(self) -> Attributes:
        """Return what is known from other than the body."""
        found = self._found
        if self._pending:
            put(found, semconv.STREAM_OUTCOME, self._outcome)
        if self.chunks:
            found[semconv.STREAM_CHUNKS] = self.chunks
            found[semconv.TIME_TO_FIRST_CHUNK] = self.first_chunk - self._started
        if self.chunks > 1:
            between = self.last_chunk - self.first_chunk
            found[semconv.TIME_PER_CHUNK] = between / (self.chunks - 1)
        if self.content is not None:
            settings = self.recording.settings
            found |= content_attributes(
                self._request.body, self.content.body(), settings.content_limit, settings.redact
            )
        return found

    def _told(self) -> Attributes:
        """Return what the answer tells, with tokens, cost and status.

        An answer of 4xx or 5xx has none of them: it is not billed, which is not the same as a
        cost that is unknown.
        """
        request, answer = self._request, self._answer
        if not self._billable:
            status = None if request.operation.billed else PriceStatus.NOT_BILLED
        elif self._deferred:
            status = PriceStatus.DEFERRED
        else:
            if not answer.seen and semconv.ERROR_TYPE not in self._found:
                answer.saw({}, request.body)  # bytes, such as speech, which the request prices
            return self._priced()()
        found = answer.attributes()
        put(found, semconv.PRICE_STATUS, status and status.value)
        return found

    def _priced(self) -> Callable[[], Attributes]:
        request = self._request
        return partial(
            from_answer,
            self._answer,
            model=request.model,
            host=request.host,
            priced=request.priced,
            started_ns=request.started_ns,
        )

    def _tells_later(self) -> bool:
        """Leave tokens and cost to the export, where nobody asks for them before."""
        span, answer = self.span, self._answer
        if (
            not isinstance(span, CallSpan)
            or not self._billable
            or self._deferred
            or answer.usage is None
            or answer.failure is not None
            or self.recording.metrics.listened
        ):
            return False
        span.tells_later(self._priced())
        return True

    def _measure(self, end_ns: int) -> None:
        seconds = (end_ns - self._request.started_ns) / 1e9
        self.recording.metrics.record(getattr(self.span, "attributes", None) or {}, seconds)

    def _read(self) -> deferred.Read:
        """Return what a settlement takes over from this call."""
        begun: Mapping[str, Any] = getattr(self.span, "attributes", None) or {}
        return deferred.Read(
            provider=self.recording.provider,
            span=self.span.get_span_context(),
            at_ns=self._request.started_ns,
            priced=self._request.priced,
            submits=self._request.operation.billed,
            attributes={**begun, **self._found},
        )


_pending_calls: weakref.WeakValueDictionary[int, Call] = weakref.WeakValueDictionary()
"""By identity: a list of its references can be had while other threads add to it."""
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
    for call in _still_pending():
        call.abandoned()
    end_late()
    background.finish()


def _still_pending() -> list[Call]:
    return [call for known in _pending_calls.valuerefs() if (call := known()) is not None]


def _leave_to_parent() -> None:
    """Forget, in a forked child, the calls that the parent is making and will end."""
    for call in _still_pending():
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
