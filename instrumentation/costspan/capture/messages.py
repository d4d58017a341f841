"""What a message on a WebSocket is.

Nearly all messages are audio. What one is, is read from its first bytes; only the few that tell of
a start, an end or usage are decoded. None is kept.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from costspan.capture.answer import mapping
from costspan.counters import count

ENDS = frozenset(
    f"response.{how}" for how in ("done", "completed", "failed", "incomplete", "cancelled")
)
"""The events that end a response."""
TRANSCRIBED = "conversation.item.input_audio_transcription."
"""How the events begin that end a transcription."""

_TELLING = ENDS | {
    "response.created",
    "response.event",
    "decision.event",
    "rate_limits.updated",
    "session.created",
    "session.started",
    "session.updated",
    "transcription_session.created",
    "transcription_session.updated",
    "session.usage.updated",
    "session.closed",
    "input_audio_buffer.committed",
    f"{TRANSCRIBED}completed",
    f"{TRANSCRIBED}failed",
    "error",
}
_ASKING = frozenset({"response.create", "session.start"})
_LARGEST_REQUEST = 2**20

_FIRST = r'\s*\{\s*(?:"event_id"\s*:\s*"[^"\\]*"\s*,\s*)?"type"\s*:\s*"([a-z_.]+)"'
_FIRST_RECEIVED = re.compile(_FIRST.encode())
_FIRST_SENT = re.compile(_FIRST)
_ANY_TELLING = re.compile(f'"(?:{"|".join(map(re.escape, sorted(_TELLING)))})"'.encode())
_RESPONSE_ID = re.compile(rb'"response_id"\s*:\s*"([^"\\]+)"')
_LANE = re.compile(rb'"stream_id"\s*:\s*"([^"\\]+)"')


def asking(data: object) -> Mapping[str, Any] | None:
    """Return a sent message that asks for something; of one too large, no more than its type.

    Raises:
        ValueError: It is not JSON.
    """
    if isinstance(data, bytes):
        data = data.decode(errors="replace")
    if not isinstance(data, str):
        return None
    first = _FIRST_SENT.match(data)
    if first is not None and first[1] not in _ASKING:
        return None
    if first is None and not any(f'"{kind}"' in data for kind in _ASKING):
        return None
    if len(data) > _LARGEST_REQUEST:
        count("body_too_large")
        return {"type": first[1]} if first is not None else None
    return mapping(json.loads(data))


def head(data: bytes) -> tuple[str | None, int]:
    """Return the type of a received message and where that ends; None if it is not told first."""
    first = _FIRST_RECEIVED.match(data)
    return (first[1].decode(), first.end()) if first is not None else (None, 0)


def is_delta(kind: str | None) -> bool:
    """Return whether a type is that of a piece of a response."""
    return kind is not None and kind.startswith("response.") and kind.endswith(".delta")


def telling(kind: str | None, data: bytes) -> Mapping[str, Any] | None:
    """Return a received message, whose `head` has this type, if it tells of start, end or usage.

    Raises:
        ValueError: It is not JSON.
    """
    tells = kind in _TELLING if kind is not None else _ANY_TELLING.search(data)
    return mapping(json.loads(data)) if tells else None


def response_of(data: bytes, at: int) -> str | None:
    """Return the id of the response that a piece belongs to, if it is soon after `at`."""
    found = _RESPONSE_ID.search(data, at, at + 512)
    return found[1].decode() if found is not None else None


def lane_of(data: bytes, at: int) -> str | None:
    """Return the stream that a piece belongs to, where a connection has several."""
    found = _LANE.search(data, at)
    return found[1].decode() if found is not None else None
