"""Spans that the engine can read by itself, kept as they were sent.

An outline of a span is what its attributes are called, without what they hold. The spans of our
shim have few outlines, so each is judged once: whether the engine's reading
(`sql/insert_sent_*.sql`) is all there is to say about it. What depends on the values (their types,
the length of a text, whether parts sum to their cost) the engine checks as it reads, and whether it
read all there is (`sql/sent_spans.sql`); where a check fails, the spans are read by `normalise`
after all.
"""

import struct
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from io import BytesIO
from typing import Any

from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.proto import parse_length_prefixed, serialize_length_prefixed
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from costspan import semconv
from costspan.errors import Rejected
from costspan_collector.attributes import MOST_ATTRIBUTES
from costspan_collector.normalise import (
    ALL_TOKENS,
    AUDIO_INPUT_TOKENS,
    AUDIO_OUTPUT_TOKENS,
    CACHE_WRITE_TOKENS,
    CACHED_TOKENS,
    EPOCH,
    GENAI,
    HTTP_ADDRESS,
    HTTP_METHOD,
    HTTP_STATUS,
    INPUT_TOKENS,
    METER,
    OPENINFERENCE,
    OUTPUT_TOKENS,
    PREDICTIONS,
    REASONING_TOKENS,
    TEXTS,
    Normalised,
    Origin,
    normalise,
    origin,
    times_taken,
)
from costspan_collector.record import Sent
from costspan_collector.store import load_sql

_FIELD = descriptor_pb2.FieldDescriptorProto
_TYPES = {
    "bytes": _FIELD.TYPE_BYTES,
    "string": _FIELD.TYPE_STRING,
    "uint64": _FIELD.TYPE_UINT64,
    "fixed64": _FIELD.TYPE_FIXED64,
    "int32": _FIELD.TYPE_INT32,
    "uint32": _FIELD.TYPE_UINT32,
}
_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    # The same request, once with its spans as bytes, and once with what makes an outline. What a
    # message does not name is dropped from it.
    "Request": {"resource_spans*": (1, "Resource")},
    "Resource": {"scope_spans*": (2, "Scope")},
    "Scope": {"spans*": (2, "bytes")},
    "OutlinedRequest": {"resource_spans*": (1, "OutlinedResource")},
    "OutlinedResource": {"scope_spans*": (2, "OutlinedScope")},
    "OutlinedScope": {"spans*": (2, "Outlined")},
    "Outlined": {
        "trace_id": (1, "bytes"),
        "span_id": (2, "bytes"),
        "parent_span_id": (4, "bytes"),
        "start_time_unix_nano": (7, "fixed64"),
        "end_time_unix_nano": (8, "fixed64"),
        "attributes*": (9, "Named"),
        "dropped_attributes_count": (10, "uint32"),
        "events*": (11, "Nothing"),
        "dropped_events_count": (12, "uint32"),
        "links*": (13, "Nothing"),
        "dropped_links_count": (14, "uint32"),
        "status": (15, "OutlinedStatus"),
    },
    "Named": {"key": (1, "bytes")},
    "Nothing": {},
    "OutlinedStatus": {"message": (2, "bytes"), "code": (3, "int32")},
    # What is wanted of a span.
    "Read": {
        "trace_id": (1, "bytes"),
        "span_id": (2, "bytes"),
        "parent_span_id": (4, "bytes"),
        "start_time_unix_nano": (7, "fixed64"),
        "end_time_unix_nano": (8, "fixed64"),
        "attributes*": (9, "bytes"),
        "status": (15, "ReadStatus"),
    },
    "ReadStatus": {"code": (3, "int32")},
    # As in sql/sent.proto.
    "Sent": {
        "calls*": (2, "bytes"),
        "http_attempts*": (3, "bytes"),
        "service_name": (101, "string"),
        "environment": (102, "string"),
        "scope_name": (103, "string"),
        "received_us": (104, "uint64"),
        "ingest_id": (105, "uint64"),
        "calls_bytes*": (106, "uint32"),
        "http_attempts_bytes*": (107, "uint32"),
    },
}


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="sent.proto", package="sent", syntax="proto2")
    for name, message_fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in message_fields.items():
            label = _FIELD.LABEL_REPEATED if field.endswith("*") else _FIELD.LABEL_OPTIONAL
            added = message.field.add(name=field.rstrip("*"), number=number, label=label)
            added.options.packed = field.endswith("*") and kind == "uint32"
            if kind in _TYPES:
                added.type = _TYPES[kind]
            else:
                added.type_name = f".sent.{kind}"
    pool = DescriptorPool()
    pool.Add(file)
    messages = {name: pool.FindMessageTypeByName(f"sent.{name}") for name in _MESSAGES}
    return {name: message_factory.GetMessageClass(found) for name, found in messages.items()}


_CLASS = _classes()

# How the outline of a span with ids and times begins: protobuf writes fields by their number.
_ROOT = struct.Struct("<2s16s2s8scQcQ")
_CHILD = struct.Struct("<2s16s2s8s10xcQcQ")
_RELAYED = struct.Struct("<2s16s2s8s2xcQcQ")
_TAGS = (b"\x0a\x10", b"\x12\x08", b"\x39", b"\x41")
_PARENT = b"\x22\x08"
_NO_PARENT = b"\x22\x00"
"""As the OpenTelemetry Collector writes it of a root."""
_HEADS = {_PARENT: _CHILD, _NO_PARENT: _RELAYED}
_NO_TRACE, _NO_SPAN = bytes(16), bytes(8)
_NOWHERE = "", False
_LONGEST = 8192
"""Of an outline that is remembered."""


def take(
    body: bytes, request: ExportTraceServiceRequest, *, received_at: datetime, ingest_id: int
) -> tuple[list[Sent], set[int]]:
    """Return what the engine can read of `request`, and the places of these spans in it.

    `body` is the request as it was sent: its spans are kept so.
    """
    plain = _CLASS["Request"].FromString(body)
    if plain.ByteSize() != len(body):  # some encoders write each length in four bytes
        plain = _CLASS["Request"].FromString(request.SerializeToString())
    outlined = _CLASS["OutlinedRequest"].FromString(body)
    outlined.DiscardUnknownFields()
    outlines = _scopes(_CLASS["Request"].FromString(outlined.SerializeToString()))
    resources = (
        (here.resource, scope.scope)
        for here in request.resource_spans
        for scope in here.scope_spans
    )
    earliest, latest = times_taken(received_at)
    sent: list[Sent] = []
    places: set[int] = set()
    place = 0
    for (resource, scope), some, some_outlined in zip(
        resources, _scopes(plain), outlines, strict=True
    ):
        spans = list(some.spans)
        first, place = place, place + len(spans)
        whence = origin(resource, scope)
        if whence is None:
            continue
        by_table: defaultdict[str, list[bytes]] = defaultdict(list)
        last, (table, as_sent) = b"", _NOWHERE
        for at, (span, outline) in enumerate(zip(spans, some_outlined.spans, strict=True), first):
            form = _form(outline, earliest, latest)
            if form != last:  # mostly it is not, which is quicker to see than to look it up
                last, (table, as_sent) = form, _judged(form)
            if table:
                by_table[table].append(span if as_sent else _wanted(span))
                places.add(at)
        sent += [
            _kept(table, some, whence, received_at, ingest_id) for table, some in by_table.items()
        ]
    return sent, places


def statement(table: str) -> str:
    """Return what has the engine read the spans of a segment that are for `table` into it."""
    spans = load_sql("costspan_collector", "sent_spans").replace("{table}", table)
    insert = load_sql("costspan_collector", f"insert_sent_{table}")
    return insert.replace("{sent_spans}", f"({spans})")


def _scopes(request: Any) -> Iterator[Any]:  # noqa: ANN401 - its class is made above
    return (scope for resource in request.resource_spans for scope in resource.scope_spans)


def _wanted(span: bytes) -> bytes:
    """Return what is wanted of a span: what happened within, or went wrong, may tell of a prompt."""
    found = _CLASS["Read"].FromString(span)
    found.DiscardUnknownFields()
    return found.SerializeToString()


def _form(outline: bytes, earliest: int, latest: int) -> bytes:
    """Return an outline without its ids and times; empty if they are not as they should be."""
    head = _HEADS.get(outline[28:30], _ROOT)
    if not head.size <= len(outline) <= _LONGEST:
        return b""
    ids, trace_id, of_span, span_id, begins, start, ends, end = head.unpack_from(outline)
    if (
        (ids, of_span, begins, ends) == _TAGS
        and earliest <= start <= end <= latest
        and trace_id != _NO_TRACE
        and span_id != _NO_SPAN
    ):
        return outline[head.size :]
    return b""


@lru_cache(maxsize=4096)
def _judged(form: bytes) -> tuple[str, bool]:
    """Return the table that spans of a form belong in, and whether they are kept as they were sent.

    The table is empty where reading them takes more than the engine.
    """
    found = _CLASS["Outlined"].FromString(form)
    return _table(found), not (
        found.events
        or found.links
        or found.dropped_attributes_count
        or found.dropped_events_count
        or found.dropped_links_count
        or found.status.message
    )


def _table(outline: Any) -> str:  # noqa: ANN401 - its class is made above
    names = {named.key.decode(errors="replace") for named in outline.attributes}
    if not len(names) == len(outline.attributes) <= MOST_ATTRIBUTES:
        return ""
    if any(name.startswith(_CONTENT) for name in names):
        return ""
    if any(name in names for name in GENAI):
        return "calls" if _is_settled(names) and _is_current(names, _OF_CALLS) else ""
    if semconv.ATTEMPT in names:
        return "http_attempts" if _is_current(names, _OF_ATTEMPTS) else ""
    return ""


def _is_settled(names: Collection[str]) -> bool:
    """Return whether it came with a price, or without one for good, and used nothing but text."""
    for name in names:
        if name.startswith(semconv.COST_PART):
            if not METER.fullmatch(name.removeprefix(semconv.COST_PART)):
                return False
        elif name.startswith(_UNCOMMON) and name not in PREDICTIONS:
            return False
    if semconv.PRICE_STATUS in names:
        return True
    has_figures = semconv.COST_USD in names or semconv.INPUT_TOKENS in names
    return semconv.ERROR_TYPE in names and not has_figures


def _is_current(names: Collection[str], read: Sequence[tuple[str, ...]]) -> bool:
    """Return whether nothing that is read goes by an older name of it alone."""
    return all(known[0] in names or not any(name in names for name in known) for known in read)


_OF_CALLS = (
    *TEXTS.values(),
    (semconv.OPERATION, OPENINFERENCE),
    (*INPUT_TOKENS, *ALL_TOKENS),
    OUTPUT_TOKENS,
    CACHED_TOKENS,
    CACHE_WRITE_TOKENS,
    REASONING_TOKENS,
    AUDIO_INPUT_TOKENS,
    AUDIO_OUTPUT_TOKENS,
)
_OF_ATTEMPTS = (HTTP_METHOD, HTTP_ADDRESS, HTTP_STATUS)
_UNCOMMON = (
    semconv.USAGE,
    semconv.ESTIMATE,
    semconv.AUDIO_INPUT_TOKENS,
    semconv.AUDIO_OUTPUT_TOKENS,
    semconv.IMAGE_INPUT_TOKENS,
    semconv.IMAGE_OUTPUT_TOKENS,
)
_CONTENT = (
    semconv.INPUT_MESSAGES,
    semconv.OUTPUT_MESSAGES,
    semconv.SYSTEM_INSTRUCTIONS,
    "gen_ai.tool.",
    "gen_ai.prompt",
    "gen_ai.completion",
    "gen_ai.content",
    "llm.",
    "input.",
    "output.",
    "embedding.",
    "traceloop.entity.",
)
"""What was asked and answered. It is in no row, so it shall be on no disk either."""


def _kept(
    table: str, spans: list[bytes], whence: Origin, received_at: datetime, ingest_id: int
) -> Sent:
    message = _CLASS["Sent"](
        **{table: spans, f"{table}_bytes": map(len, spans)},
        service_name=whence.service_name,
        environment=whence.environment,
        scope_name=whence.scope_name,
        received_us=(received_at - EPOCH) // timedelta(microseconds=1),
        ingest_id=ingest_id,
    )
    block = BytesIO()
    serialize_length_prefixed(message, block)
    return Sent(table, len(spans), block.getvalue())


def accepted(table: str, block: bytes | memoryview) -> Normalised:
    """Return what became of the spans of a block that the engine has read into `table`."""
    message: Any = parse_length_prefixed(_CLASS["Sent"], BytesIO(block))
    fates = Counter({(str(message.service_name), table, ""): len(getattr(message, table))})
    return Normalised(_received_at(message), fates=fates)


def read(block: bytes | memoryview) -> Normalised:
    """Return the rows that the spans of a block make, without the engine.

    Raises:
        Rejected: it is none.
    """
    try:
        message: Any = parse_length_prefixed(_CLASS["Sent"], BytesIO(block))
        scope = ScopeSpans(
            spans=[Span.FromString(span) for span in (*message.calls, *message.http_attempts)]
        )
    except (DecodeError, ValueError) as error:
        msg = "a block of spans cannot be read"
        raise Rejected(msg) from error
    scope.scope.name = message.scope_name
    whence = {semconv.SERVICE_NAME: message.service_name, semconv.ENVIRONMENT: message.environment}
    resource = Resource(
        attributes=[
            KeyValue(key=name, value=AnyValue(string_value=text)) for name, text in whence.items()
        ]
    )
    return normalise(
        ExportTraceServiceRequest(
            resource_spans=[ResourceSpans(resource=resource, scope_spans=[scope])]
        ),
        received_at=_received_at(message),
        ingest_id=message.ingest_id,
    )


def _received_at(message: Any) -> datetime:  # noqa: ANN401 - its class is made above
    return EPOCH + timedelta(microseconds=message.received_us)
