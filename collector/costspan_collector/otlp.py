"""OTLP bodies, protobuf and JSON."""

import json
import re
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from costspan.errors import Rejected

PROTOBUF = "application/x-protobuf"
JSON = "application/json"

_AnyMessage = TypeVar("_AnyMessage", bound=Message)
_MOST_JSON = 2**20
"""Objects and lists of one body. Empty ones are three bytes each, and take a thousand times that."""
_FIELD = re.compile(r"Failed to parse (\w+) field")


def kind(content_type: str) -> str:
    """Return `PROTOBUF` or `JSON`, whichever the header names; empty if neither."""
    named = content_type.partition(";")[0].strip().lower()
    return named if named in {PROTOBUF, JSON} else ""


def encode(message: Message, kind: str) -> bytes:
    """Return `message` in the form `kind`."""
    if kind == PROTOBUF:
        return message.SerializeToString()
    return json_format.MessageToJson(message, indent=None).encode()


class TooMany(Rejected):
    """More pieces than one request may hold: empty ones are two bytes each, and costly to read."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A span of an OTLP/JSON request that is none."""

    span: str
    """Which one: its place in the request."""
    detail: str


Decoded = tuple[ExportTraceServiceRequest, list[Unreadable]]


def decode(body: bytes, kind: str, *, most_spans: int) -> Decoded:
    """Return the request in `body`, and what in it is no span.

    Raises:
        TooMany: it holds more than `most_spans`, or as many resources or scopes.
        Rejected: it is none. The message says where, never what: that may be private.
    """
    request, unreadable = _decode_json(body, most_spans) if kind == JSON else (_message(body), [])
    resources = request.resource_spans
    _bound("resources", len(resources), most_spans)
    _bound("scopes", sum(len(some.scope_spans) for some in resources), most_spans)
    scopes = (scope for some in resources for scope in some.scope_spans)
    _bound("spans", sum(len(scope.spans) for scope in scopes), most_spans)
    return request, unreadable


def _message(body: bytes) -> ExportTraceServiceRequest:
    try:
        return ExportTraceServiceRequest.FromString(body)
    except DecodeError as error:
        msg = "the body is not a protobuf ExportTraceServiceRequest"
        raise Rejected(msg) from error


def _bound(what: str, number: int, most: int) -> None:
    if number > most:
        msg = f"{number} {what} in one request; send at most {most}"
        raise TooMany(msg)


def _decode_json(body: bytes, most_spans: int) -> Decoded:
    _bound("objects and lists", body.count(b"{") + body.count(b"["), _MOST_JSON)
    try:
        parsed: object = json.loads(body)
    except json.JSONDecodeError as error:
        msg = f"the body is not JSON: {error.msg} at line {error.lineno} column {error.colno}"
        raise Rejected(msg) from error
    except (ValueError, RecursionError) as error:
        msg = "the body is not JSON in UTF-8, or holds a number or a nesting beyond any bound"
        raise Rejected(msg) from error
    if not isinstance(parsed, dict):
        msg = "the body is JSON, but no object with resourceSpans"
        raise Rejected(msg)
    document = cast("dict[str, Any]", parsed)
    _bound("spans", sum(1 for _ in _spans(document)), most_spans)
    for span in _spans(document):
        for name in ("traceId", "spanId", "parentSpanId"):
            if name in span:
                span[name] = _base64(span[name])
        for unread in ("events", "links"):
            span.pop(unread, None)
    try:
        return _parsed(document, ExportTraceServiceRequest()), []
    except Rejected:
        unreadable = _without_unreadable(document)
    return _parsed(document, ExportTraceServiceRequest()), unreadable


def _without_unreadable(document: dict[str, Any]) -> list[Unreadable]:
    """Take out of `document` what is no span; return what was taken."""
    unreadable: list[Unreadable] = []
    number = 0
    for scope_spans in _scopes(document):
        readable: list[object] = []
        found: object = scope_spans.get("spans")
        if not isinstance(found, list):
            continue
        for span in cast("list[object]", found):
            try:
                _parsed(span, Span())
                readable.append(span)
            except Rejected as error:
                unreadable.append(Unreadable(f"span {number}", str(error)))
            number += 1
        scope_spans["spans"] = readable
    return unreadable


def _parsed(document: object, message: _AnyMessage) -> _AnyMessage:
    try:
        if not isinstance(document, dict):
            raise TypeError  # noqa: TRY301 - the same as what the parser raises deeper down
        return json_format.ParseDict(
            cast("dict[str, Any]", document), message, ignore_unknown_fields=True
        )
    except (json_format.ParseError, TypeError, ValueError, AttributeError) as error:
        where = ".".join(_FIELD.findall(str(error))) or "its fields"
        msg = f"the body is JSON, but no OTLP trace request: {where} cannot be read"
        raise Rejected(msg) from error


def _spans(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for scope_spans in _scopes(document):
        yield from _objects(scope_spans.get("spans"))


def _scopes(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for resource_spans in _objects(document.get("resourceSpans")):
        yield from _objects(resource_spans.get("scopeSpans"))


def _objects(value: object) -> list[dict[str, Any]]:
    items = cast("list[object]", value) if isinstance(value, list) else []
    return [cast("dict[str, Any]", item) for item in items if isinstance(item, dict)]


def _base64(identity: object) -> str:
    """Return an id, which OTLP/JSON writes in hex, as protobuf's own JSON has bytes.

    What is no hex becomes an empty id, so that its span is refused and the others are not.
    """
    try:
        return b64encode(bytes.fromhex(str(identity))).decode()
    except ValueError:
        return ""
