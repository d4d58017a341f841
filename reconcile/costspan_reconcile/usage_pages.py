"""The eleven Usage endpoints: how each is asked, and rows out of what it answers.

Source: openai-python 3.52.0, types/admin/organization/usage_*, read 2026-11.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from costspan_reconcile.wire_json import count, fail, text

Counts = Iterator[tuple[str, str, int]]
"""(modality, kind, quantity)"""


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What the provider counted on a day. A null id is ''."""

    day: date
    project: str
    api_key_id: str
    model: str
    batch: bool
    service_tier: str
    api_source: str
    modality: str
    kind: str
    quantity: int


@dataclass(frozen=True, slots=True)
class UsageEndpoint:
    """One of the endpoints under `/organization/usage`."""

    name: str
    result: str
    """What its rows call themselves: `organization.usage.NAME.result`."""
    groupings: tuple[tuple[str, ...], ...]
    """By what its rows are split, the finest first; the next is for who answers 400 to one."""
    counts: Callable[[Mapping[str, Any]], Counts]

    def rows(self, day: date, results: Iterable[Mapping[str, Any]]) -> list[UsageRow]:
        """Return what was counted on a day, one row a kind; zeros are left out.

        Raises:
            Incomplete: a count is not a whole number, or a row is of another kind.
        """
        counted: dict[tuple[str, str, str, bool, str, str, str, str], int] = {}
        for result in results:
            if result.get("object") != f"organization.usage.{self.result}.result":
                fail(f"a row of {self.name} calls itself {result.get('object')!r}")
            batch = result.get("batch")
            if batch is not None and not isinstance(batch, bool):
                fail(f"batch is {batch!r}")
            dimensions = (
                text(result, "project_id"),
                text(result, "api_key_id"),
                text(result, "model"),
                bool(batch),
                text(result, "service_tier"),
                text(result, "api_source"),
            )
            for modality, kind, quantity in self.counts(result):
                if quantity < 0:
                    fail(f"{modality} {kind} is negative: the parts are larger than their whole")
                if quantity:
                    key = (*dimensions, modality, kind)
                    counted[key] = counted.get(key, 0) + quantity
        return [UsageRow(day, *key, quantity) for key, quantity in sorted(counted.items())]


def _tokens(result: Mapping[str, Any]) -> Counts:
    """Yield the tokens of a model that reads and writes.

    Answers from before the split by modality name only the totals and the audio parts; what is
    not named there is text.
    """

    def counted(name: str) -> int:
        return count(result.get(name), name)

    def named(name: str, rest: int) -> int:
        return rest if result.get(name) is None else counted(name)

    cached = counted("input_cached_tokens")
    writes = counted("input_cache_write_tokens")
    audio, image = counted("input_audio_tokens"), counted("input_image_tokens")
    cached_audio = counted("input_cached_audio_tokens")
    cached_image = counted("input_cached_image_tokens")
    audio_out, image_out = counted("output_audio_tokens"), counted("output_image_tokens")
    fresh = counted("input_tokens") - cached - writes - audio - image
    cached_text = cached - cached_audio - cached_image
    yield "text", "input", named("input_text_tokens", fresh)
    yield "text", "cached_input", named("input_cached_text_tokens", cached_text)
    yield "text", "cache_write", writes
    text_out = counted("output_tokens") - audio_out - image_out
    yield "text", "output", named("output_text_tokens", text_out)
    yield "audio", "input", audio
    yield "audio", "cached_input", cached_audio
    yield "audio", "output", audio_out
    yield "image", "input", image
    yield "image", "cached_input", cached_image
    yield "image", "output", image_out
    yield "", "requests", counted("num_model_requests")


def _fields(**kinds: str) -> Callable[[Mapping[str, Any]], Counts]:
    """Count fields as they are; a field of tokens is text."""

    def counts(result: Mapping[str, Any]) -> Counts:
        for name, kind in kinds.items():
            yield "text" if kind == "input" else "", kind, count(result.get(name), name)

    return counts


_PROJECT = ("project_id",)
_KEY = ("project_id", "api_key_id")
_MODEL = (*_KEY, "model")
_CALL = (*_MODEL, "batch", "service_tier")
_SOURCE = "api_source"
_BY_MODEL = (_MODEL,)
_TOKENS = _fields(input_tokens="input", num_model_requests="requests")

ENDPOINTS = (
    UsageEndpoint("completions", "completions", ((*_CALL, _SOURCE), _CALL), _tokens),
    UsageEndpoint("decisions", "decisions", ((*_CALL, _SOURCE), _CALL), _tokens),
    UsageEndpoint("embeddings", "embeddings", _BY_MODEL, _TOKENS),
    UsageEndpoint("moderations", "moderations", _BY_MODEL, _TOKENS),
    UsageEndpoint(
        "images", "images", _BY_MODEL, _fields(images="images", num_model_requests="requests")
    ),
    UsageEndpoint(
        "audio_speeches",
        "audio_speeches",
        _BY_MODEL,
        _fields(characters="characters", num_model_requests="requests"),
    ),
    UsageEndpoint(
        "audio_transcriptions",
        "audio_transcriptions",
        _BY_MODEL,
        _fields(seconds="seconds", num_model_requests="requests"),
    ),
    UsageEndpoint(
        "vector_stores", "vector_stores", (_PROJECT,), _fields(usage_bytes="usage_bytes")
    ),
    UsageEndpoint(
        "code_interpreter_sessions",
        "code_interpreter_sessions",
        (_PROJECT,),
        _fields(num_sessions="sessions"),
    ),
    UsageEndpoint("file_search_calls", "file_searches", (_KEY,), _fields(num_requests="requests")),
    UsageEndpoint(
        "web_search_calls",
        "web_searches",
        ((*_MODEL, _SOURCE), _MODEL),
        _fields(num_requests="requests", num_model_requests="model_requests"),
    ),
)
