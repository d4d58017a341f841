"""What a call cost whose usage nobody saw: the bounds, and what they leave out.

A stream that is closed early, cut or cancelled, a call that timed out, a host that was not asked:
OpenAI bills the tokens, but no usage arrives. Where a tokenizer is installed they are counted from
the texts, on a thread of our own. That is no measurement: it has attributes of its own, and the
call still has no cost.

- low: the input, and the output that was seen
- high: the input, and the longest output that the request allows; what was seen, where that is
  all of it; absent where nobody knows, because no bound was set or because the input holds more
  than texts
"""

from collections.abc import Callable, Generator, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, cast

from costspan import semconv
from costspan.capture.answer import Attributes, mapping
from costspan.capture.background import Background
from costspan.capture.body import RawBody
from costspan.capture.texts import Answered, Asked
from costspan.capture.tokenizer import tokens
from costspan.counters import count
from costspan.money import plain_pico
from costspan.pricing import Price, Status, price
from costspan.usage import Usage

OPERATIONS: Final = frozenset({"chat", "text_completion", "embeddings"})
"""What is billed by the texts of a call."""

_END_TOKENS: Final = 1
"""Of each text of an answer: billed always in Responses, now and then in chat completions."""
_CACHED_FROM_TOKENS: Final = 1024
"""From here on a part of the input may have been read from the cache, and be cheaper."""
_WITHIN_THE_HIGH: Final = frozenset({"reasoning", "cache"})
"""What is not counted, and does not lift the cost above the high bound either."""
_NOT_WHOLE: Final = frozenset({"failed", "cancelled", "expired", "content_filter"})

_background = Background("estimate", most=256)
start = _background.start
"""Called before a call is made: a finalizer, which may end it, must start no thread."""


class Unseen(NamedTuple):
    """A call whose usage nobody saw."""

    model: str
    tier: str | None
    host: str
    at: datetime
    asked: Asked
    answered: Answered
    kept: RawBody | None
    """The stream that the answer came in."""
    finished: bool
    """Whether as many answers came to an end as were asked for."""
    ends_billed: bool
    """Whether the end of each text is billed for sure."""


def unseen(
    body: Mapping[str, Any],
    api_type: str,
    answered: Answered,
    kept: RawBody | None,
    told: Attributes,
    *,
    model: str,
    tier: str | None,
    host: str,
    started_ns: int,
) -> Unseen | None:
    """Return what there is to count, None where the request is not known.

    `told` is what the answer told; `model` and `tier` are those asked for.
    """
    model = str(told.get(semconv.RESPONSE_MODEL, model))
    asked = Asked(body, api_type, model)
    if not asked.texts and not asked.tokens:
        return None
    finish_reasons = cast("list[str]", told.get(semconv.FINISH_REASONS, []))
    finished = sum(reason not in _NOT_WHOLE for reason in finish_reasons)
    return Unseen(
        model=model,
        tier=cast("str | None", told.get(semconv.RESPONSE_TIER, None if tier == "auto" else tier)),
        host=host,
        at=datetime.fromtimestamp(started_ns // 10**9, UTC),
        asked=asked,
        answered=answered,
        kept=kept,
        finished=finished >= asked.choices,
        ends_billed=api_type == "responses",
    )


def put(call: Unseen, end: Callable[[Attributes], None]) -> bool:
    """Count in the background and hand what was found to `end`, there.

    Returns False, and will not call `end`, where too much waits.
    """
    return _background.put(_work(call, end))


def _work(call: Unseen, end: Callable[[Attributes], None]) -> Iterator[None]:
    found: Attributes = {}
    try:
        found = yield from estimate(call)
    except Exception as error:  # noqa: BLE001
        count("estimate_failed", error)
    end(found)


def estimate(call: Unseen) -> Generator[None, None, Attributes]:
    """Return the bounds as attributes, nothing where they have no price; yield at each text."""
    asked = call.asked
    read = asked.tokens
    for text in asked.texts:
        read += yield from tokens(text, call.model)
    for document in call.kept.documents() if call.kept is not None else ():
        call.answered.keep(mapping(document) or {})
    cut = call.answered.cut or (call.kept is not None and call.kept.cut)
    answered = call.answered.texts()
    written = 0
    for text in answered:
        written += yield from tokens(text, call.model)
    ended = written + _END_TOKENS * len(answered)
    low = ended if call.ends_billed else written
    high = asked.most_tokens
    if call.finished and not asked.unseen and not cut:
        high = ended
    elif high is not None:
        high = max(low, high)

    at_least = _price(call, read, low)
    if at_least.pico is None:
        return {}
    found: Attributes = {
        semconv.PRICE_STATUS: Status.ESTIMATED.value,
        semconv.PRICE_PATH: at_least.path,
        semconv.ESTIMATE_INPUT_TOKENS: read,
        semconv.ESTIMATE_OUTPUT_TOKENS_LOW: low,
        semconv.ESTIMATE_LOW_USD: plain_pico(at_least.pico),
    }
    missing = [*asked.unseen, *(["cache"] if read >= _CACHED_FROM_TOKENS else [])]
    if missing:
        found[semconv.ESTIMATE_MISSING] = missing
    if high is not None:
        found[semconv.ESTIMATE_OUTPUT_TOKENS_HIGH] = high
        at_most = _price(call, read, high).pico
        if at_most is not None and _WITHIN_THE_HIGH.issuperset(missing):
            found[semconv.ESTIMATE_HIGH_USD] = plain_pico(at_most)
    return found


def _price(call: Unseen, read: int, written: int) -> Price:
    return price(Usage(read, written), model=call.model, at=call.at, tier=call.tier, host=call.host)
