"""The bytes of a body that the app reads by itself, below the SDK's parser."""

import json
import re
from collections.abc import Mapping
from typing import Any, cast

from costspan.counters import count

MOST_BYTES = 2**20
"""How much of a body is kept; of a longer one nothing is known."""

_NULL_USAGE = re.compile(rb',\s*"usage":\s*null')


class RawBody:
    """Passes bytes on and keeps them, to be parsed when the call has ended."""

    def __init__(self, response: Any, *, keeps: bool, asked_for_usage: bool) -> None:  # noqa: ANN401
        self._kind: str = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        self._encoding: str | None = response.headers.get("content-encoding")
        self._response_class = cast("type[Any]", type(response))
        self._keeps = keeps and (self._kind.endswith("json") or self._is_stream)
        self._hides = asked_for_usage and self._is_stream and not self._encoding
        self._kept: list[bytes] = []
        self._size = 0
        self._held = b""

    @property
    def _is_stream(self) -> bool:
        return self._kind == "text/event-stream"

    def read(self, data: bytes) -> bytes:
        """Return what the app is to see of `data` now."""
        if self._keeps:
            self._kept.append(data)
            self._size += len(data)
            if self._size > MOST_BYTES:
                self._keeps = False
                self._kept.clear()
                count("body_too_large")
        return self._without_usage(data) if self._hides else data

    def rest(self) -> bytes:
        """Return what was held back when the body ends inside an event."""
        held, self._held = self._held, b""
        return held

    def documents(self) -> list[object]:
        """Return the JSON document, or each event of a stream; the HTTP library decompresses."""
        if not self._kept:
            return []
        headers = {"content-encoding": self._encoding} if self._encoding else {}
        raw = b"".join(self._kept)
        content: bytes = self._response_class(200, headers=headers, content=raw).content
        if not self._is_stream:
            return [json.loads(content)]
        events = (line[5:].strip() for line in content.splitlines() if line.startswith(b"data:"))
        return [json.loads(event) for event in events if event.startswith(b"{")]

    def _without_usage(self, data: bytes) -> bytes:
        """Take out what `include_usage` adds: one event, and a null in each of the others.

        Quotes are escaped inside JSON texts, so neither pattern can be part of one.
        """
        whole, end, self._held = (self._held + data).rpartition(b"\n\n")
        events = (whole + end).split(b"\n\n")
        shown = [_NULL_USAGE.sub(b"", each) for each in events if not _answers_us(each)]
        return b"\n\n".join(shown)


def _answers_us(event: bytes) -> bool:
    if b'"usage"' not in event or not event.startswith(b"data:"):
        return False
    document: object = json.loads(event[5:])
    if not isinstance(document, dict):
        return False
    chunk = cast("Mapping[str, object]", document)
    return chunk.get("choices") == [] and chunk.get("usage") is not None
