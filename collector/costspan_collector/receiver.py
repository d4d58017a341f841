"""OTLP over HTTP: `POST /v1/traces`, and beside it `/healthz` and `/metrics`.

Answered by the OTLP specification: 200 once the spans are durable, with `partial_success`
where some can never be; 400, 413 and 415 for what will never work as sent; 429 and 503, with
`Retry-After`, for what will work later.
"""

import asyncio
import zlib
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

from anyio import CapacityLimiter, to_thread
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from costspan.errors import CostspanError, Rejected, Unavailable
from costspan.pricing import Book, default_book
from costspan_collector import otlp
from costspan_collector.normalise import Normalised, Refused, normalise
from costspan_collector.pipeline import Pipeline, QueueFull
from costspan_collector.settings import Receiver

_INVALID_ARGUMENT, _RESOURCE_EXHAUSTED, _INTERNAL, _UNAVAILABLE = 3, 8, 13, 14
_RETRY_SECONDS = 2
_BODIES_HELD = 8
"""Times the largest body: what requests being read may hold together."""
_DECODERS = 2
_REFUSALS_NAMED = 5


class _Answer(Exception):
    """Any answer but 200; `later` where the same request may work later."""

    def __init__(self, http_status: int, code: int, message: str, *, later: bool = False) -> None:
        super().__init__(message)
        self.http_status = http_status
        self.code = code
        self.later = later


def routes(
    pipeline: Pipeline,
    settings: Receiver,
    *,
    book: Book | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> list[Route]:
    """Return the receiver's routes, for whichever application serves them."""
    intake = _Intake(pipeline, settings, book or default_book(), now)
    return [
        Route("/v1/traces", intake.traces, methods=["POST"]),
        Route("/healthz", partial(_healthz, pipeline), methods=["GET"]),
        Route("/metrics", partial(_metrics, pipeline), methods=["GET"]),
    ]


class _Intake:
    """Takes requests; holds what they share."""

    def __init__(
        self, pipeline: Pipeline, settings: Receiver, book: Book, now: Callable[[], datetime]
    ) -> None:
        self._pipeline = pipeline
        self._book = book
        self._most_bytes = settings.max_body_bytes
        self._most_spans = settings.max_request_spans
        self._now = now
        self._held_bytes = 0  # touched by the event loop's thread only
        self._decoders: CapacityLimiter | None = None

    async def traces(self, request: Request) -> Response:
        """Answer `POST /v1/traces`."""
        kind = otlp.kind(request.headers.get("content-type", ""))
        try:
            body = await self._traces(request, kind)
            response = Response(body, media_type=kind)
        except _Answer as answer:
            response = _error(answer, kind or otlp.JSON)
        status = str(response.status_code)
        self._pipeline.counters.add("costspan_requests_total", status=status)
        return response

    async def _traces(self, request: Request, kind: str) -> bytes:
        if not kind:
            msg = f"Content-Type must be {otlp.PROTOBUF} or {otlp.JSON}"
            raise _Answer(415, _INVALID_ARGUMENT, msg)
        encoding = request.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in {"identity", "gzip", "deflate", ""}:
            raise _Answer(415, _INVALID_ARGUMENT, "Content-Encoding must be gzip or deflate")
        held = 0
        try:
            body = bytearray()
            async for chunk in request.stream():
                held += len(chunk)
                self._held_bytes += len(chunk)
                if held > self._most_bytes:
                    raise self._too_large()
                if self._held_bytes > _BODIES_HELD * self._most_bytes:
                    msg = "too many requests at once; send the spans again later"
                    raise _Answer(429, _RESOURCE_EXHAUSTED, msg, later=True)
                body += chunk
            if encoding in {"gzip", "deflate"}:
                result = await self._off_loop(partial(self._unpacked, kind, bytes(body)))
            else:
                result = await self._off_loop(partial(self._decoded, kind, bytes(body)))
        except ClientDisconnect as error:
            raise _Answer(400, _INVALID_ARGUMENT, "the sender left") from error
        finally:
            self._held_bytes -= held
        await self._keep(result)
        return otlp.encode(_response(result), kind)

    async def _off_loop(self, work: Callable[[], Normalised]) -> Normalised:
        """Do CPU work beside the event loop, which pages are served from too."""
        self._decoders = self._decoders or CapacityLimiter(_DECODERS)
        return await to_thread.run_sync(work, limiter=self._decoders)

    def _unpacked(self, kind: str, body: bytes) -> Normalised:
        unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # gzip or zlib, by its header
        try:
            plain = unpacker.decompress(body, self._most_bytes + 1)
        except zlib.error as error:
            msg = "the body is not what Content-Encoding says"
            raise _Answer(400, _INVALID_ARGUMENT, msg) from error
        if len(plain) > self._most_bytes:
            raise self._too_large()
        if not unpacker.eof or unpacker.unused_data:
            msg = "the compressed body is cut off, or something follows it"
            raise _Answer(400, _INVALID_ARGUMENT, msg)
        return self._decoded(kind, plain)

    def _decoded(self, kind: str, body: bytes) -> Normalised:
        try:
            request = otlp.decode(body, kind, most_spans=self._most_spans)
        except otlp.TooManySpans as error:
            raise _Answer(413, _INVALID_ARGUMENT, str(error)) from error
        except Rejected as error:
            raise _Answer(400, _INVALID_ARGUMENT, str(error)) from error
        return normalise(
            request,
            received_at=self._now(),
            ingest_id=self._pipeline.next_ingest_id(),
            book=self._book,
        )

    async def _keep(self, result: Normalised) -> None:
        count = self._pipeline.counters.add
        spans = len(result.calls) + len(result.attempts)
        if spans:
            try:
                done = self._pipeline.submit(result.calls, result.attempts)
                await asyncio.wrap_future(done)
            except QueueFull as error:
                count("costspan_spans_postponed_total", spans, reason="queue_full")
                raise _Answer(429, _RESOURCE_EXHAUSTED, str(error), later=True) from error
            except Unavailable as error:
                count("costspan_spans_postponed_total", spans, reason="store_unavailable")
                raise _Answer(503, _UNAVAILABLE, str(error), later=True) from error
            except Rejected as error:
                count("costspan_spans_refused_total", spans, reason="store_refused")
                raise _Answer(500, _INTERNAL, str(error)) from error
        # Counted here, not before: a request answered 503 comes again with the same spans.
        for reason, number in Counter(refused.reason for refused in result.refused).items():
            count("costspan_spans_refused_total", number, reason=reason)
        for reason, number in result.passed_by.items():
            count("costspan_spans_passed_by_total", number, reason=reason)
        for name, number in result.truncated.items():
            count("costspan_texts_truncated_total", number, attribute=name)

    def _too_large(self) -> _Answer:
        msg = f"the body is larger than {self._most_bytes} bytes; send fewer spans at once"
        return _Answer(413, _INVALID_ARGUMENT, msg)


def _response(result: Normalised) -> ExportTraceServiceResponse:
    if not result.refused:
        return ExportTraceServiceResponse()
    return ExportTraceServiceResponse(
        partial_success=ExportTracePartialSuccess(
            rejected_spans=len(result.refused), error_message=_named(result.refused)
        )
    )


def _named(refused: list[Refused]) -> str:
    named = "; ".join(map(str, refused[:_REFUSALS_NAMED]))
    more = len(refused) - _REFUSALS_NAMED
    return f"{named}; and {more} more" if more > 0 else named


def _error(answer: _Answer, kind: str) -> Response:
    body: Message = Status(code=answer.code, message=str(answer))
    headers = {"Retry-After": str(_RETRY_SECONDS)} if answer.later else None
    return Response(otlp.encode(body, kind), answer.http_status, media_type=kind, headers=headers)


async def _healthz(pipeline: Pipeline, request: Request) -> Response:
    del request
    try:
        await to_thread.run_sync(pipeline.check)
    except CostspanError as error:
        body = {"status": "failing", "reason": str(error), "queue_spans": pipeline.waiting}
        return JSONResponse(body, 503)
    return JSONResponse({"status": "ok", "queue_spans": pipeline.waiting})


async def _metrics(pipeline: Pipeline, request: Request) -> Response:
    del request
    text = pipeline.counters.render(costspan_queue_spans=pipeline.waiting)
    return PlainTextResponse(text, media_type="text/plain; version=0.0.4")
