"""What a request is: its name without ids, and whether OpenAI bills tokens for it."""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

_OPERATIONS = {
    "chat.completions": ("chat", "chat_completions"),
    "responses": ("chat", "responses"),
    "completions": ("text_completion", "completions"),
    "embeddings": ("embeddings", "embeddings"),
}
"""OpenTelemetry's names for what it names; the rest is called by its path."""

_BILLED = frozenset({"chat", "responses", "completions", "embeddings", "images", "audio", "videos"})
_UNBILLED = frozenset({"responses.input_tokens"})
_WORD = re.compile(r"[a-z]+(?:_[a-z]+)*")
_NAMED_BY_USERS = frozenset({"models", "deployments", "engines"})
_MOST_WORDS = 6
_LONGEST_WORD = 32


@dataclass(frozen=True, slots=True)
class Operation:
    """A request by kind."""

    name: str
    api_type: str
    billed: bool
    """Whether an answer is billed by what it used. Reading or cancelling one is not."""
    streams_usage_on_request: bool
    """Whether a stream reports its usage only if `stream_options` asks."""


def operation_of(method: str, url: str) -> Operation:
    """Return what a request with this method and path does.

    Ids are left out: a word of a path is letters and underscores, an id has more in it.
    """
    words: list[str] = []
    segments = [part for part in urlsplit(url).path.split("/") if part]
    before = ""
    for segment in segments:
        if (
            _WORD.fullmatch(segment)
            and len(segment) <= _LONGEST_WORD
            and before not in _NAMED_BY_USERS
        ):
            words.append(segment)
        before = segment
    path = ".".join(words[:_MOST_WORDS]) or "request"
    if method.lower() != "post":
        return Operation(f"{path}.{method.lower()}", words[0] if words else path, False, False)
    whole = len(words) == len(segments)
    name, api_type = _OPERATIONS.get(path, (path, words[0] if words else path))
    if not whole:
        name, api_type = path, words[0] if words else path
    return Operation(
        name=name,
        api_type=api_type,
        billed=whole and path.split(".")[0] in _BILLED and path not in _UNBILLED,
        streams_usage_on_request=path in {"chat.completions", "completions"},
    )
