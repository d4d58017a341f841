"""What is billed but read later: background responses, assistants' runs, lines of a batch.

The call that submits such work is answered before the work is done, so its span has the price
status `deferred` and no tokens. Whoever sees the end of the work, in this process or in another,
once or often, records a span for it. The ids and the start of that span come from the work
itself, so however often it is recorded, it is one row in the store.
"""

import copy
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Generic, TypeVar

from opentelemetry.context import Context
from opentelemetry.sdk.trace import Tracer
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TracerProvider

from costspan import semconv
from costspan.capture.answer import Answer, Attributes, put, text
from costspan.capture.cost import from_answer
from costspan.counters import count

BATCH_TIER = "batch"
"""The tier of a batch's line. Its body says `default`, but is not billed so."""

_ENDED = ("completed", "incomplete", "failed", "cancelled", "expired")
_KINDS = {
    "response": ("chat", "responses"),
    "chat.completion": ("chat", "chat_completions"),
    "text_completion": ("text_completion", "completions"),
    "thread.run": ("chat", "assistants"),
    "list": ("embeddings", "embeddings"),
    None: ("images.generations", "images"),
}
"""Operation and API type, by the `object` of a body."""

_CARRIED = (
    semconv.PROVIDER,
    semconv.SERVER_ADDRESS,
    semconv.SERVER_PORT,
    semconv.ORGANIZATION,
    semconv.PROJECT,
    semconv.KEY_FINGERPRINT,
    semconv.KEY_HINT,
)
_SECOND_NS = 10**9
_DAY_NS = 86_400 * _SECOND_NS
_EARLIEST_SECONDS = int(datetime(2020, 1, 1, tzinfo=UTC).timestamp())
_TIME_IN_ID = re.compile(r"[a-z_]+_([0-9a-f]{8})")
"""OpenAI's newer ids begin with the second they were made in; an embedding has no other time."""


@dataclass(frozen=True, slots=True)
class Read:
    """The call in which the end of the work, or its submission, is seen."""

    provider: TracerProvider
    span: SpanContext
    at_ns: int
    priced: bool
    """Whether the host charges OpenAI's prices."""
    submits: bool
    attributes: Mapping[str, Any]
    """Of its span: where, with which key, and for whom it was made."""

    @property
    def who(self) -> Attributes:
        """Who it was made for."""
        return {n: self.attributes[n] for n in semconv.ATTRIBUTION if n in self.attributes}


@dataclass(frozen=True, slots=True)
class Line:
    """The place of a body in a batch's output."""

    id: str
    request_id: str | None
    batch: str | None
    """The batch, where this process saw which one made the file."""


_Value = TypeVar("_Value")


class _Recent(Generic[_Value]):
    """The last few thousand values. Without a lock, so safe in a fork and in a finalizer."""

    def __init__(self, most: int = 4096) -> None:
        self._most = most
        self._values: dict[str, _Value] = {}

    def get(self, key: str) -> _Value | None:
        return self._values.get(key)

    def put(self, key: str, value: _Value) -> None:
        self._values[key] = value
        while len(self._values) > self._most:
            try:
                self._values.pop(next(iter(self._values)), None)
            except (RuntimeError, StopIteration):  # another thread is making room
                return


_submitted: _Recent[Attributes] = _Recent()
"""Who work was submitted for, by its id."""
_batch_of_file: _Recent[str] = _Recent()
_settled: _Recent[bool] = _Recent()
"""What was recorded with its usage: polling on need not record it again."""


def is_deferred(body: Mapping[str, Any]) -> bool:
    """Return whether a body is work that is billed when it is done, which it may be by now."""
    kind = body.get("object")
    if kind == "response":
        return body.get("background") is True
    return kind in ("thread.run", "batch")  # a tuple: what is compared may be unhashable


def saw(body: Mapping[str, Any], read: Read) -> None:
    """Note such a body, and record the work if it has ended."""
    id = text(body.get("id"))
    if id is None:
        count("settlement_without_id")
        return
    if read.submits and _submitted.get(id) is None:
        _submitted.put(id, read.who)
    if body.get("object") == "batch":
        if file := text(body.get("output_file_id")):
            _batch_of_file.put(file, id)
    elif body.get("status") in _ENDED and not _settled.get(id):
        settle(body, read)
        if body.get("usage") is not None:
            _settled.put(id, True)


def batch_of(file: str) -> str | None:
    """Return the batch that made a file, if this process saw it."""
    return _batch_of_file.get(file)


def settle(body: Mapping[str, Any], read: Read, line: Line | None = None) -> None:
    """Record finished work as a call of its own. Never raises."""
    try:
        _settle(body, read, line)
    except Exception as error:  # noqa: BLE001
        count("settlement_failed", error)


def _settle(body: Mapping[str, Any], read: Read, line: Line | None) -> None:
    tracer = _tracer_of(read.provider)
    if tracer is None:
        count("settlement_impossible")  # this provider gives no way to choose a span's ids
        return
    id = line.id if line is not None else str(body["id"])
    started_ns = _started_ns(body, id, read.at_ns)
    attributes = _attributes(body, read, started_ns, line)
    named = " ".join(
        str(attributes[name])
        for name in (semconv.OPERATION, semconv.RESPONSE_MODEL)
        if name in attributes
    )
    digest = hashlib.sha256(
        f"{read.attributes.get(semconv.SERVER_ADDRESS)} {id}".encode(errors="replace")
    ).digest()
    identified = copy.copy(tracer)
    identified.id_generator = _Ids(digest)
    span = identified.start_span(
        named, Context(), SpanKind.CLIENT, attributes, [Link(read.span)], started_ns
    )
    if failure := attributes.get(semconv.ERROR_TYPE):
        span.set_status(Status(StatusCode.ERROR, str(failure)))
    span.end(_ended_ns(body, started_ns, read.at_ns))


_tracer: tuple[TracerProvider, Tracer | None] | None = None


def _tracer_of(provider: TracerProvider) -> Tracer | None:
    """Return the SDK's tracer, None from a provider that is not the SDK's."""
    global _tracer
    known = _tracer
    if known is None or known[0] is not provider:
        made = provider.get_tracer("costspan", version("costspan"))
        known = _tracer = (provider, made if isinstance(made, Tracer) else None)
    return known[1]


@dataclass(frozen=True, slots=True)
class _Ids(IdGenerator):
    """The ids of one span, out of a hash of what it is."""

    digest: bytes

    def generate_trace_id(self) -> int:
        return int.from_bytes(self.digest[:16])

    def generate_span_id(self) -> int:
        return int.from_bytes(self.digest[16:24])

    def is_trace_id_random(self) -> bool:
        """Return True: a hash is spread as evenly as chance, which is what samplers need."""
        return True


def _attributes(
    body: Mapping[str, Any], read: Read, started_ns: int, line: Line | None
) -> Attributes:
    kind = body.get("object")
    operation, api_type = _KINDS.get(
        kind if isinstance(kind, str) else None, (text(kind) or "request", "batches")
    )
    if kind is None and "results" in body:
        operation = api_type = "moderations"
    answer = Answer()
    answer.saw(body)
    work = text(body.get("id")) if line is None else line.batch
    submitted = _submitted.get(work) if work else None
    found: Attributes = {
        **{name: read.attributes[name] for name in _CARRIED if name in read.attributes},
        semconv.OPERATION: operation,
        semconv.API_TYPE: api_type,
        **(read.who if submitted is None else submitted),
        **from_answer(
            answer,
            model="",
            host=str(read.attributes.get(semconv.SERVER_ADDRESS)),
            priced=read.priced,
            started_ns=started_ns,
            batch=line is not None,
        ),
    }
    if line is not None:
        found[semconv.RESPONSE_TIER] = BATCH_TIER
        put(found, semconv.REQUEST_ID, line.request_id)
        put(found, semconv.BATCH, line.batch)
    return found


def _started_ns(body: Mapping[str, Any], id: str, at_ns: int) -> int:
    """Return when the work began, as it says itself; at worst the day it is read on."""
    in_id = _TIME_IN_ID.match(id)
    for told in (
        body.get("created_at"),
        body.get("created"),
        int(in_id[1], 16) if in_id else None,
    ):
        seconds = _seconds(told, at_ns)
        if seconds is not None:
            return seconds * _SECOND_NS
    return at_ns // _DAY_NS * _DAY_NS


def _ended_ns(body: Mapping[str, Any], started_ns: int, at_ns: int) -> int:
    for name in ("completed_at", "failed_at", "cancelled_at"):
        seconds = _seconds(body.get(name), at_ns)
        if seconds is not None:
            return max(started_ns, seconds * _SECOND_NS)
    return started_ns


def _seconds(told: object, at_ns: int) -> int | None:
    """Return a time that was told if it can be true."""
    if isinstance(told, bool) or not isinstance(told, (int, float)):
        return None
    latest = (at_ns + _DAY_NS) // _SECOND_NS
    return int(told) if _EARLIEST_SECONDS <= told <= latest else None
