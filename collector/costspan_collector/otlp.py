"""OTLP bodies, protobuf and JSON."""

import json
import re
from base64 import b64encode
from collections.abc import Iterator
from typing import Any, cast

from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from costspan.errors import Rejected

PROTOBUF = "application/x-protobuf"
JSON = "application/json"

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


class TooManySpans(Rejected):
    """More spans than one request may hold: empty ones are two bytes each, and costly to read."""


def decode(body: bytes, kind: str, *, most_spans: int) -> ExportTraceServiceRequest:
    """Return the request in `body`.

    Raises:
        TooManySpans: it holds more than `most_spans`.
        Rejected: it is none. The message says where, never what: that may be private.
    """
    if kind == JSON:
        return _decode_json(body, most_spans)
    try:
        request = ExportTraceServiceRequest.FromString(body)
    except DecodeError as error:
        msg = "the body is not a protobuf ExportTraceServiceRequest"
        raise Rejected(msg) from error
    scopes = (scope for spans in request.resource_spans for scope in spans.scope_spans)
    _bound(sum(len(scope.spans) for scope in scopes), most_spans)
    return request


def _bound(spans: int, most_spans: int) -> None:
    if spans > most_spans:
        msg = f"{spans} spans in one request; send at most {most_spans}"
        raise TooManySpans(msg)


def _decode_json(body: bytes, most_spans: int) -> ExportTraceServiceRequest:
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
    _bound(sum(1 for _ in _spans(document)), most_spans)
    for span in _spans(document):
        for name in ("traceId", "spanId", "parentSpanId"):
            if name in span:
                span[name] = _base64(span[name])
        for unread in ("events", "links"):
            span.pop(unread, None)
    request = ExportTraceServiceRequest()
    try:
        json_format.ParseDict(document, request, ignore_unknown_fields=True)
    except (json_format.ParseError, TypeError, ValueError, AttributeError) as error:
        where = ".".join(_FIELD.findall(str(error))) or "its fields"
        msg = f"the body is JSON, but no OTLP trace request: {where} cannot be read"
        raise Rejected(msg) from error
    return request


def _spans(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for resource_spans in _objects(document.get("resourceSpans")):
        for scope_spans in _objects(resource_spans.get("scopeSpans")):
            yield from _objects(scope_spans.get("spans"))


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
