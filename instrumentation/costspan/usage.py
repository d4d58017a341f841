"""Token counts out of a response body, in one shape for every OpenAI API.

Source: openai-python 3.52.0, types `CompletionUsage`, `ResponseUsage`,
`CreateEmbeddingResponse`, `ImagesResponse`, `Transcription`, read 2026-11-20.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from costspan.errors import InvalidUsage


@dataclass(frozen=True, slots=True)
class Usage:
    """What one call used, in tokens, as OpenAI reports it.

    `input_tokens` holds the cached, cache-written, audio and image ones, `output_tokens` the
    reasoning and audio ones: a part is never added to its whole.
    """

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    cache_write_30m_tokens: int = 0
    cache_write_12h_tokens: int = 0
    reasoning_tokens: int = 0
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0
    image_input_tokens: int = 0
    image_output_tokens: int = 0
    web_searches: int = 0
    preview_web_searches: int = 0
    file_searches: int = 0
    decision_tokens: int = 0
    """All input of a decision, which has a rate of its own and no other charge."""
    image_tool_tokens: int = 0
    """Tokens of the image tool inside a response: billed at another model's rates."""

    @property
    def cache_write_tokens(self) -> int:
        """All tokens written to the prompt cache."""
        return self.cache_write_30m_tokens + self.cache_write_12h_tokens


def read_usage(body: Mapping[str, Any]) -> Usage | None:
    """Return the usage that a response body (or a stream's last event) reports; None if none.

    Raises:
        InvalidUsage: a count is not a whole number, is negative, or is larger than its whole.
    """
    reported = body.get("usage")
    if reported is None:
        return None
    usage = _mapping(reported, "usage")
    prefix = "input" if "input_tokens" in usage else "prompt"
    suffix = "output" if "output_tokens" in usage else "completion"
    if f"{prefix}_tokens" not in usage:
        return None
    read = _mapping(
        usage.get(f"{prefix}_tokens_details") or usage.get("input_token_details"), "input details"
    )
    written = _mapping(
        usage.get(f"{suffix}_tokens_details") or usage.get("output_token_details"), "output details"
    )
    writes = _mapping(read.get("cache_write_tokens_details"), "cache write details")
    written_12h = _count(writes, "ttl_12h_tokens")
    written_all = max(
        _count(read, "cache_write_tokens"), _count(writes, "ttl_30m_tokens") + written_12h
    )
    image_api = "image_tokens" in read and "quality" in body
    tools = _tool_calls(body)
    counted = Usage(
        input_tokens=_count(usage, f"{prefix}_tokens"),
        output_tokens=_count(usage, f"{suffix}_tokens"),
        cached_tokens=_count(read, "cached_tokens"),
        cache_write_30m_tokens=written_all - written_12h,
        cache_write_12h_tokens=written_12h,
        reasoning_tokens=_count(written, "reasoning_tokens"),
        audio_input_tokens=_count(read, "audio_tokens"),
        audio_output_tokens=_count(written, "audio_tokens"),
        image_input_tokens=_count(read, "image_tokens") if image_api else 0,
        image_output_tokens=_count(written, "image_tokens") if image_api else 0,
        decision_tokens=_count(usage, f"{prefix}_tokens") if "answers" in body else 0,
        **tools,
    )
    _check(counted)
    return counted


def _check(usage: Usage) -> None:
    if usage.cached_tokens + usage.cache_write_tokens > usage.input_tokens:
        msg = (
            f"{usage.cached_tokens} cached and {usage.cache_write_tokens} cache-written tokens "
            f"are more than the {usage.input_tokens} input tokens they are part of"
        )
        raise InvalidUsage(msg)
    if usage.audio_input_tokens + usage.image_input_tokens > usage.input_tokens:
        msg = f"audio and image input exceed the {usage.input_tokens} input tokens"
        raise InvalidUsage(msg)
    if (
        max(usage.reasoning_tokens, usage.audio_output_tokens + usage.image_output_tokens)
        > usage.output_tokens
    ):
        msg = f"reasoning, audio or image output exceeds the {usage.output_tokens} output tokens"
        raise InvalidUsage(msg)


def _tool_calls(body: Mapping[str, Any]) -> dict[str, int]:
    """Return the billable tool counts of a Responses body, by field of `Usage`.

    `tool_usage` is the billable count; without it, searches are counted from the output, where
    opening or finding in a page is free.
    """
    output = _objects(body.get("output"))
    reported = body.get("tool_usage")
    billable: Mapping[str, Any] = (
        cast("Mapping[str, Any]", reported) if isinstance(reported, Mapping) else {}
    )
    if "web_search" in billable:
        searches = _count(_mapping(billable["web_search"], "web_search"), "num_requests")
    else:
        calls = [item for item in output if item.get("type") == "web_search_call"]
        searches = sum(1 for call in calls if _action(call) == "search")
    preview = any(
        str(tool.get("type")).startswith("web_search_preview")
        for tool in _objects(body.get("tools"))
    )
    return {
        "preview_web_searches" if preview else "web_searches": searches,
        "file_searches": sum(1 for item in output if item.get("type") == "file_search_call"),
        "image_tool_tokens": _count(
            _mapping(billable.get("image_gen"), "image_gen"), "total_tokens"
        ),
    }


def _action(call: Mapping[str, Any]) -> object:
    action = call.get("action")
    return (
        cast("Mapping[str, Any]", action).get("type") if isinstance(action, Mapping) else "search"
    )


def _objects(value: object) -> list[Mapping[str, Any]]:
    items = cast("list[object]", value) if isinstance(value, list) else []
    return [cast("Mapping[str, Any]", item) for item in items if isinstance(item, Mapping)]


def _mapping(value: object, what: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        msg = f"{what} is a {type(value).__name__}, not an object"
        raise InvalidUsage(msg)
    return cast("Mapping[str, Any]", value)


def _count(counts: Mapping[str, Any], name: str) -> int:
    value = counts.get(name)
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or value < 0 or value > _MOST:
        msg = f"{name} is {value!r}, not a count of tokens"
        raise InvalidUsage(msg)
    return value


_MOST = 2**40
"""A count above this is a fault, not a call: it would be a million full context windows."""
