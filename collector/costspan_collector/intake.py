"""What both doors of the receiver, HTTP and gRPC, do with a request.

Answered by the OTLP specification: with what was kept once it is durable, and
`partial_success` where some can never be; or with an `Answer` that says whether to come again.
"""

import hmac
import sys
import zlib
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from datetime import datetime
from enum import Enum

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)

from costspan.errors import Rejected
from costspan.pricing import Book
from costspan_collector import otlp
from costspan_collector.attributes import Reason
from costspan_collector.normalise import Normalised, Refused, normalise
from costspan_collector.pipeline import Pipeline, QueueFull
from costspan_collector.sent import take
from costspan_collector.settings import Receiver

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

RETRY_SECONDS = 2
_REFUSALS_NAMED = 5


class Kind(Enum):
    """What went wrong: the HTTP status, the gRPC status, and whether to come again."""

    MALFORMED = (400, 3, False)
    UNAUTHENTICATED = (401, 16, False)
    TOO_LARGE = (413, 3, False)
    UNKNOWN_FORM = (415, 3, False)
    BUSY = (429, 8, True)
    INTERNAL = (500, 13, False)
    UNAVAILABLE = (503, 14, True)

    def __init__(self, http_status: int, grpc_status: int, later: bool) -> None:
        self.http_status = http_status
        self.grpc_status = grpc_status
        self.later = later


class Answer(Exception):
    """Any answer but success; `reason` is a few words, for counting."""

    def __init__(self, kind: Kind, reason: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.reason = reason


class Intake:
    """Takes requests; holds what they share."""

    def __init__(
        self, pipeline: Pipeline, settings: Receiver, book: Book, now: Callable[[], datetime]
    ) -> None:
        self._pipeline = pipeline
        self._book = book
        self._now = now
        self._most_bytes = settings.max_body_bytes
        self._most_spans = settings.max_request_spans
        tokens = settings.tokens.get_secret_value().split(",")
        self._tokens = [token.strip().encode() for token in tokens if token.strip()]

    def admit(self, authorization: str) -> None:
        """Check the sender's token.

        Raises:
            Answer: tokens are set and this is none of them.
        """
        scheme, _, given = authorization.partition(" ")
        is_bearer = scheme.lower() == "bearer"
        known = [hmac.compare_digest(token, given.strip().encode()) for token in self._tokens]
        if self._tokens and not (is_bearer and any(known)):
            msg = "send `Authorization: Bearer TOKEN`, with a token of COSTSPAN_RECEIVER_TOKENS"
            raise Answer(Kind.UNAUTHENTICATED, "token", msg)

    def read(self, body: bytes, kind: str, encoding: str) -> Normalised:
        """Return the rows of a request.

        Raises:
            Answer: it is no OTLP request, or a larger one than is taken.
        """
        try:
            plain = self._unpacked(body, encoding)
            request, unreadable = otlp.decode(plain, kind, most_spans=self._most_spans)
        except otlp.TooMany as error:
            raise Answer(Kind.TOO_LARGE, "spans", str(error)) from error
        except Rejected as error:
            raise Answer(Kind.MALFORMED, "malformed", str(error)) from error
        received_at, ingest_id = self._now(), self._pipeline.next_ingest_id()
        sent, places = (
            take(
                plain if kind == otlp.PROTOBUF else request.SerializeToString(),
                request,
                received_at=received_at,
                ingest_id=ingest_id,
            )
            if self._pipeline.reads_spans and not self._book.overrides
            else ([], set[int]())
        )
        result = normalise(
            request, received_at=received_at, ingest_id=ingest_id, book=self._book, without=places
        )
        result.sent.extend(sent)
        for span in unreadable:
            result.refuse(Refused(span.span, Reason.UNREADABLE, span.detail))
        return replace(result, size_bytes=len(plain))

    def submit(self, result: Normalised) -> Future[None]:
        """Hand over the rows of a request; the future is done when they are durable.

        Raises:
            Answer: they cannot be taken now.
        """
        try:
            return self._pipeline.submit(result)
        except Exception as error:
            raise self.failed(result, error) from error

    def failed(self, result: Normalised, error: Exception) -> Answer:
        """Return the answer to a request whose rows could not be kept."""
        spans = len(result.calls) + len(result.attempts) + sum(sent.spans for sent in result.sent)
        count = self._pipeline.counters.add
        if isinstance(error, QueueFull):
            count("costspan_spans_postponed_total", spans, reason="queue_full")
            return Answer(Kind.BUSY, "queue_full", str(error))
        if isinstance(error, Rejected):
            count("costspan_spans_refused_total", spans, reason="not_encodable")
            return Answer(Kind.INTERNAL, "not_encodable", str(error))
        count("costspan_spans_postponed_total", spans, reason="unavailable")
        return Answer(Kind.UNAVAILABLE, "unavailable", str(error))

    def count(self, door: str, answer: Answer | None) -> None:
        """Count a request that was answered."""
        add = self._pipeline.counters.add
        status = str(answer.kind.http_status) if answer else "200"
        add("costspan_requests_total", door=door, status=status)
        if answer:
            add("costspan_requests_refused_total", door=door, reason=answer.reason)

    def too_large(self) -> Answer:
        """Return the answer to a body beyond the limit, packed or unpacked."""
        msg = f"the body is larger than {self._most_bytes} bytes; send fewer spans at once"
        return Answer(Kind.TOO_LARGE, "bytes", msg)

    def _unpacked(self, body: bytes, encoding: str) -> bytes:
        if encoding not in ENCODINGS:
            return body
        unpack = _unzstd if encoding == "zstd" else _unzip
        try:
            plain, whole = unpack(body, self._most_bytes + 1)
        except (zlib.error, zstd.ZstdError) as error:
            msg = "the body is not what Content-Encoding says"
            raise Answer(Kind.MALFORMED, "encoding", msg) from error
        if len(plain) > self._most_bytes:
            raise self.too_large()
        if not whole:
            msg = "the compressed body is cut off, or something follows it"
            raise Answer(Kind.MALFORMED, "encoding", msg)
        return plain


ENCODINGS = frozenset({"gzip", "deflate", "zstd"})


def _unzip(body: bytes, most: int) -> tuple[bytes, bool]:
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # gzip or zlib, by its header
    plain = unpacker.decompress(body, most)
    return plain, unpacker.eof and not unpacker.unused_data


def _unzstd(body: bytes, most: int) -> tuple[bytes, bool]:
    unpacker = zstd.ZstdDecompressor(
        options={zstd.DecompressionParameter.window_log_max: _WINDOW_LOG}
    )
    plain = unpacker.decompress(body, most)
    return plain, unpacker.eof and not unpacker.unused_data


_WINDOW_LOG = 24
"""A frame may name a window of gigabytes; no body of ours needs more than 16 MiB."""


def response(result: Normalised) -> ExportTraceServiceResponse:
    """Return the answer to a request that was kept."""
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
