"""The bytes of a body: read by the app itself, below the SDK's parser, or kept to count by."""

import json
import re
from collections.abc import Mapping
from typing import Any, cast

from costspan.counters import count

MOST_BYTES = 2**20
"""How much of a body is kept."""
_MOST_DECODED_BYTES = 2**23
_PIECE_BYTES = 2**14
"""Unpacked, a piece may be a thousand times as much."""

_NULL_USAGE = re.compile(rb',\s*"usage":\s*null')
_END_OF_EVENT = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_BULK = re.compile(rb'"(?:b64_json|embedding)"\s*:\s*(?:"[^"\\]*"|\[[^\[\]{}"]*\])')
"""Images and vectors, which tell nothing and make a body large."""


class RawBody:
    """Passes bytes on and keeps them, to be parsed when the call has ended."""

    def __init__(
        self,
        response: Any,  # noqa: ANN401
        *,
        keeps: bool,
        asked_for_usage: bool,
        decoded: bool = False,
    ) -> None:
        self._kind: str = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        self._encoding: str | None = None if decoded else response.headers.get("content-encoding")
        self._response_class = cast("type[Any]", type(response))
        self._keeps = keeps and (self._kind.endswith("json") or self._is_stream)
        self._hides = asked_for_usage and self._is_stream and not self._encoding
        self.cut = False
        """Whether there was more than is kept."""
        self._kept: list[bytes] = []
        self._size = 0
        self._held = b""

    @property
    def _is_stream(self) -> bool:
        return self._kind == "text/event-stream"

    def read(self, data: bytes) -> bytes:
        """Return what the app is to see of `data` now."""
        if self._keeps:
            self._keep(_BULK.sub(b'"":0', data) if len(data) > MOST_BYTES else data)
        return self._without_usage(data) if self._hides else data

    def rest(self) -> bytes:
        """Return what was held back when the body ends inside an event."""
        held, self._held = self._held, b""
        return held

    def _keep(self, data: bytes) -> None:
        if self._size + len(data) <= MOST_BYTES:
            self._kept.append(data)
            self._size += len(data)
            return
        self._keeps, self.cut = False, True
        if not self._is_stream:  # of which the events before are known
            self._kept.clear()

    def documents(self) -> list[object]:
        """Return the JSON document, or each whole event of a stream."""
        if self.cut:
            count("body_too_large")
        if not self._kept:
            return []
        content = self._content()
        if not content:
            return []
        if not self._is_stream:
            return [json.loads(content)]
        lines = content[: max(content.rfind(b"\n"), content.rfind(b"\r")) + 1].splitlines()
        events = (line[5:].strip() for line in lines if line.startswith(b"data:"))
        return [json.loads(event) for event in events if event.startswith(b"{")]

    def _content(self) -> bytes:
        raw = b"".join(self._kept)
        if not self._encoding:
            return raw
        pieces = (raw[at : at + _PIECE_BYTES] for at in range(0, len(raw), _PIECE_BYTES))
        packed = self._response_class(
            200, headers={"content-encoding": self._encoding}, content=pieces
        )
        content = bytearray()
        for piece in packed.iter_bytes():
            content += piece
            if len(content) > _MOST_DECODED_BYTES:
                count("body_too_large")
                return b""
        return bytes(content)

    def _without_usage(self, data: bytes) -> bytes:
        """Take out what `include_usage` adds: one event, and a null in each of the others.

        Quotes are escaped inside JSON texts, so neither pattern can be part of one.
        """
        data, start = self._held + data, 0
        shown: list[bytes] = []
        for end in _END_OF_EVENT.finditer(data):
            event, start = data[start : end.end()], end.end()
            if not _answers_us(event):
                shown.append(_NULL_USAGE.sub(b"", event))
        self._held = data[start:]
        if len(self._held) > MOST_BYTES:
            self._hides = False
            count("event_too_large")
            shown.append(self.rest())
        return b"".join(shown)


def _answers_us(event: bytes) -> bool:
    if b'"usage"' not in event or not event.startswith(b"data:"):
        return False
    try:
        document: object = json.loads(event[5:])
    except (ValueError, RecursionError):  # data in several lines, say
        return False
    if not isinstance(document, dict):
        return False
    chunk = cast("Mapping[str, object]", document)
    return chunk.get("choices") == [] and chunk.get("usage") is not None
