"""OTLP over HTTP: `POST /v1/traces`, and beside it `/healthz` and `/metrics`."""

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial

from anyio import CapacityLimiter, to_thread
from google.rpc.status_pb2 import Status
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from costspan.errors import CostspanError
from costspan.pricing import Book, default_book
from costspan_collector import otlp
from costspan_collector.intake import ENCODINGS, RETRY_SECONDS, Answer, Intake, Kind, response
from costspan_collector.pipeline import Pipeline
from costspan_collector.reports import figures
from costspan_collector.settings import Receiver
from costspan_collector.telemetry import render

_BODIES_HELD = 8
"""Times the largest body: what requests being read may hold together."""
_DECODERS = 2


def routes(
    pipeline: Pipeline,
    settings: Receiver,
    *,
    book: Book | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> list[Route]:
    """Return the receiver's routes, for whichever application serves them."""
    door = _Door(Intake(pipeline, settings, book or default_book(), now), settings)
    return [
        Route("/v1/traces", door.traces, methods=["POST"]),
        Route("/healthz", partial(_healthz, pipeline), methods=["GET"]),
        Route("/metrics", partial(_metrics, pipeline), methods=["GET"]),
    ]


class _Door:
    """Reads HTTP."""

    def __init__(self, intake: Intake, settings: Receiver) -> None:
        self._intake = intake
        self._most_bytes = settings.max_body_bytes
        self._held_bytes = 0  # touched by the event loop's thread only
        self._decoders: CapacityLimiter | None = None

    async def traces(self, request: Request) -> Response:
        """Answer `POST /v1/traces`."""
        kind = otlp.kind(request.headers.get("content-type", ""))
        try:
            body = await self._traces(request, kind)
        except Answer as answer:
            self._intake.count("http", answer)
            return _error(answer, kind or otlp.JSON)
        self._intake.count("http", None)
        return Response(body, media_type=kind)

    async def _traces(self, request: Request, kind: str) -> bytes:
        self._intake.admit(request.headers.get("authorization", ""))
        if not kind:
            msg = f"Content-Type must be {otlp.PROTOBUF} or {otlp.JSON}"
            raise Answer(Kind.UNKNOWN_FORM, "content_type", msg)
        encoding = request.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in {*ENCODINGS, "identity", ""}:
            msg = f"Content-Encoding must be {', '.join(sorted(ENCODINGS))}, or none"
            raise Answer(Kind.UNKNOWN_FORM, "content_encoding", msg)
        held = 0
        try:
            chunks: list[bytes] = []
            async for chunk in request.stream():
                held += len(chunk)
                self._held_bytes += len(chunk)
                if held > self._most_bytes:
                    raise self._intake.too_large()
                if self._held_bytes > _BODIES_HELD * self._most_bytes:
                    msg = "too many requests at once; send the spans again later"
                    raise Answer(Kind.BUSY, "bodies_held", msg)
                chunks.append(chunk)
            # CPU work goes beside the event loop, which pages are served from too.
            self._decoders = self._decoders or CapacityLimiter(_DECODERS)
            result = await to_thread.run_sync(
                self._intake.read, b"".join(chunks), kind, encoding, limiter=self._decoders
            )
        except ClientDisconnect as error:
            raise Answer(Kind.MALFORMED, "sender_left", "the sender left") from error
        finally:
            self._held_bytes -= held
        done = self._intake.submit(result)
        try:
            await asyncio.wrap_future(done)
        except CostspanError as error:
            raise self._intake.failed(result, error) from error
        return otlp.encode(response(result), kind)


def _error(answer: Answer, kind: str) -> Response:
    body = otlp.encode(Status(code=answer.kind.grpc_status, message=str(answer)), kind)
    headers: dict[str, str] = {}
    if answer.kind.later:
        headers["Retry-After"] = str(RETRY_SECONDS)
    if answer.kind is Kind.UNAUTHENTICATED:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(body, answer.kind.http_status, media_type=kind, headers=headers)


def _healthz(pipeline: Pipeline, request: Request) -> Response:
    """Answer 503 where spans are refused. A store that is only behind costs no span.

    Not on the event loop, as `_metrics` is not: both wait for the disk and the store.
    """
    del request
    behind = pipeline.behind
    if not behind:
        try:
            pipeline.check()
        except CostspanError as error:
            behind = str(error)
    refusing = pipeline.refuses()
    body = {
        "status": "failing" if refusing else "behind" if behind else "ok",
        "reason": refusing or behind,
        "queue_spans": pipeline.waiting,
        "spool": asdict(pipeline.backlog),
    }
    return JSONResponse(body, 503 if refusing else 200)


def _metrics(pipeline: Pipeline, request: Request) -> Response:
    del request
    return PlainTextResponse(render(figures(pipeline)), media_type="text/plain; version=0.0.4")
