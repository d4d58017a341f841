"""What a request is: its name without ids, and whether OpenAI bills what it makes."""

import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

BATCH_OUTPUT = "files.content.get"
"""Reads a file, which may be what a batch made."""

_NAMES = {
    "chat/completions": "chat",
    "responses": "chat",
    "completions": "text_completion",
}
"""OpenTelemetry's names for what it names; the rest is called by its path."""

_API_TYPES = {"chat": "chat_completions", "threads": "assistants"}
"""OpenTelemetry's types, by the first word of a path; the rest is called by that word."""

_BILLED_ROOTS = frozenset(
    {
        "chat",
        "responses",
        "completions",
        "embeddings",
        "images",
        "audio",
        "videos",
        "decisions",
        "moderations",
    }
)
_BILLED_BESIDES = frozenset(
    {
        "batches",
        "threads/runs",
        "threads/*/runs",
        "videos/*/remix",
        "evals/*/runs",
        "agents/sessions",
        "agents/sessions/*/events",
        "fine_tuning/alpha/graders/run",
    }
)
_UNBILLED = frozenset(
    {"responses/input_tokens", "audio/voices", "audio/voice_consents", "videos/characters"}
)
_SETTLING = frozenset(
    {
        "responses",
        "responses/*",
        "responses/*/cancel",
        "threads/runs",
        "threads/*/runs",
        "threads/*/runs/*",
        "threads/*/runs/*/cancel",
        "threads/*/runs/*/submit_tool_outputs",
        "batches",
        "batches/*",
        "batches/*/cancel",
    }
)
_WORD = re.compile(r"[a-z]+(?:_[a-z]+)*")
_ID = re.compile(
    r"(?:asst|batch|chatcmpl|cntr|conv|eval|evalrun|ftjob|msg|resp|run|step|thread|upload|video|vs)_"
)
_VERSION = re.compile(r"v\d+")
_NAMED_BY_USERS = frozenset({"models", "deployments", "engines"})
_MOST_WORDS = 6
_LONGEST_WORD = 32
_LONGEST_REMEMBERED = 256


@dataclass(frozen=True, slots=True)
class Operation:
    """A request by kind."""

    name: str
    api_type: str
    billed: bool
    """Whether what it makes is billed by what was used, now or when it is done.

    Reading or cancelling is not. Nor is what costs by time, size or job, not by call: files,
    vector stores, containers, fine-tuning, realtime sessions. A moderation is: its price is 0.
    """
    streams_usage_on_request: bool
    """Whether a stream reports its usage only if `stream_options` asks."""
    settles: bool = False
    """Whether its answer may show work that is billed when it is done."""


def operation_of(method: str, url: str) -> Operation:
    """Return what a request with this method and path does.

    Ids are left out: a word of a path is letters and underscores, an id has more in it or begins
    with its kind.
    """
    if len(url) <= _LONGEST_REMEMBERED:
        return _remembered(method, url)
    return _operation(method, url)


def _operation(method: str, url: str) -> Operation:
    segments = [part for part in urlsplit(url).path.split("/") if part]
    if segments and _VERSION.fullmatch(segments[0]):
        del segments[0]
    shape = [
        segment if _is_word(segment) and before not in _NAMED_BY_USERS else "*"
        for before, segment in zip(["", *segments], segments, strict=False)
    ]
    words = [segment for segment in shape if segment != "*"][:_MOST_WORDS]
    template = "/".join(shape)
    name = ".".join(words) or "request"
    root = words[0] if words else name
    if creates := method.lower() == "post":
        name = _NAMES.get(template, name)
    else:
        name = f"{name}.{method.lower()}"
    under_root = root in _BILLED_ROOTS and "*" not in shape and template not in _UNBILLED
    return Operation(
        name=name,
        api_type=_API_TYPES.get(root, root),
        billed=creates and (under_root or template in _BILLED_BESIDES),
        streams_usage_on_request=creates and template in {"chat/completions", "completions"},
        settles=template in _SETTLING,
    )


_remembered = lru_cache(maxsize=512)(_operation)


def _is_word(segment: str) -> bool:
    return (
        len(segment) <= _LONGEST_WORD
        and _WORD.fullmatch(segment) is not None
        and _ID.match(segment) is None
    )
