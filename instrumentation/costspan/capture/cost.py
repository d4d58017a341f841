"""Tokens, cost and status of a billed answer, as span attributes."""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, cast

from costspan import semconv
from costspan.capture.answer import Answer, Attributes, mapping, put, text
from costspan.money import plain_pico
from costspan.pricing import Price, Status, default_book, price
from costspan.quantities import exact, unspoken
from costspan.usage import Usage

_MOST_INT64 = 2**63 - 1
_NS_PER_SECOND = 10**9
_NOTHING_UNSPOKEN = Usage(0, 0)[10:]
"""From the cached audio on: the counts that have no name in OpenTelemetry."""


def from_answer(
    answer: Answer, *, model: str, host: str, priced: bool, started_ns: int, batch: bool = False
) -> Attributes:
    """Return what an answer tells, what it used, and what that costs when it began.

    `model` is the one asked for, where the answer names none. `priced`: its host charges
    OpenAI's prices.
    """
    found = answer.attributes()
    usage = answer.usage
    if usage is not None:
        found |= from_usage(usage, answer.reported)
    if not priced:
        found[semconv.PRICE_STATUS] = Status.UNKNOWN_MODEL.value
        return found
    if answer.invalid:
        found[semconv.PRICE_STATUS] = Status.INVALID_USAGE.value
        found[semconv.PRICE_BOOK] = default_book().version
        return found
    found |= from_price(
        price(
            usage,
            model=cast("str", found.get(semconv.RESPONSE_MODEL, model)),
            at=_second(started_ns // _NS_PER_SECOND),
            tier=cast("str | None", found.get(semconv.RESPONSE_TIER)),
            host=host,
            batch=batch,
        )
    )
    return found


@lru_cache(maxsize=16)
def _second(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def from_usage(usage: Usage, reported: Mapping[str, Any]) -> Attributes:
    """Return the token counts; one that was not reported is absent, not 0."""
    found: Attributes = {}
    if usage.input_tokens or _has(reported, "input_tokens", "prompt_tokens"):
        found[semconv.INPUT_TOKENS] = usage.input_tokens
    if usage.output_tokens or _has(reported, "output_tokens", "completion_tokens"):
        found[semconv.OUTPUT_TOKENS] = usage.output_tokens
    read = _details(
        reported, "input_tokens_details", "prompt_tokens_details", "input_token_details"
    )
    written = _details(
        reported, "output_tokens_details", "completion_tokens_details", "output_token_details"
    )
    if usage.cached_tokens or read.get("cached_tokens") is not None:
        found[semconv.CACHED_TOKENS] = usage.cached_tokens
    if usage.cache_write_tokens or read.get("cache_write_tokens") is not None:
        found[semconv.CACHE_WRITE_TOKENS] = usage.cache_write_tokens
    if usage.reasoning_tokens or written.get("reasoning_tokens") is not None:
        found[semconv.REASONING_TOKENS] = usage.reasoning_tokens
    if usage.audio_input_tokens:
        found[semconv.AUDIO_INPUT_TOKENS] = usage.audio_input_tokens
    if usage.audio_output_tokens:
        found[semconv.AUDIO_OUTPUT_TOKENS] = usage.audio_output_tokens
    if usage.image_input_tokens:
        found[semconv.IMAGE_INPUT_TOKENS] = usage.image_input_tokens
    if usage.image_output_tokens:
        found[semconv.IMAGE_OUTPUT_TOKENS] = usage.image_output_tokens
    if accepted := written.get("accepted_prediction_tokens"):
        found[semconv.ACCEPTED_PREDICTION_TOKENS] = accepted
    if rejected := written.get("rejected_prediction_tokens"):
        found[semconv.REJECTED_PREDICTION_TOKENS] = rejected
    if usage[10:] != _NOTHING_UNSPOKEN or usage.cache_write_12h_tokens:
        for meter, quantity in unspoken(usage).items():
            found[semconv.USAGE + meter] = exact(quantity)
    return found


def from_price(price: Price) -> Attributes:
    """Return status, book, row, total and parts; what has no price has no total and no parts."""
    status, parts, book, path = price[:4]
    found: Attributes = {semconv.PRICE_STATUS: status.value, semconv.PRICE_BOOK: book}
    put(found, semconv.PRICE_PATH, text(path))
    if status is not Status.PRICED:
        return found
    total = 0
    for meter, _, _, pico in parts:
        total += pico
        name = semconv.COST_PART + meter
        if name in found:  # two models worked as the same thing
            pico += cast("int", found[name])
        found[name] = pico
    if total > _MOST_INT64:
        return {semconv.PRICE_STATUS: Status.INVALID_USAGE.value, semconv.PRICE_BOOK: book}
    found[semconv.COST_USD] = plain_pico(total)
    return found


def _has(reported: Mapping[str, Any], name: str, older: str) -> bool:
    return reported.get(name) is not None or reported.get(older) is not None


def _details(reported: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    for name in names:
        if details := reported.get(name):
            return mapping(details) or {}
    return {}
