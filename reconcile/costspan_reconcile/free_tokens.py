"""Tokens that OpenAI gives to organizations that share their data: the first ones of each UTC day.

A pool is shared by a group of models and by the whole organization, and has one of a few sizes.
So a bill of fewer tokens than were used is explained by a pool only where the tokens that it lacks
add up to exactly such a size, over all lines of the day. What is not billed at all needs no such
proof.

From a source: the models of both pools, that a pool is shared by them and begins anew at 00:00
UTC, the sizes (250 thousand and 2.5 million tokens, or 1 and 10 million), and that fine-tuned models,
evals and tools are left out. OpenAI help article 10306912, as public copies have it: the newest of
2026-08, those of 2025 and early 2026 for models that it names no more.

Not known: whether an organization takes part and which sizes it has (no endpoint tells), whether cached
tokens count toward a pool like others, and how the bill shows a request that crosses the limit. So a
model that is newer than the list is not called free, and stays unexplained.
"""

from collections import defaultdict
from collections.abc import Iterable
from fractions import Fraction

from costspan_reconcile.line_items import LineItem

POOL_TOKENS = frozenset({250_000, 1_000_000, 2_500_000, 10_000_000})
_LARGE = frozenset({
    "chatgpt-4o-latest", "gpt-4.1", "gpt-4.5-preview", "gpt-4o", "gpt-5", "gpt-5-chat-latest",
    "gpt-5-codex", "gpt-5.1", "gpt-5.1-codex", "gpt-5.2", "gpt-5.4", "gpt-5.5", "gpt-5.6-sol", "o1",
    "o1-preview", "o3",
})  # fmt: skip
_SMALL = frozenset({
    "codex-mini-latest", "gpt-4.1-mini", "gpt-4.1-nano", "gpt-4o-mini", "gpt-5-mini", "gpt-5-nano",
    "gpt-5.1-codex-mini", "gpt-5.4-mini", "gpt-5.4-nano", "gpt-5.6-luna", "gpt-5.6-terra",
    "o1-mini", "o3-mini", "o4-mini",
})  # fmt: skip


def pool_of(item: LineItem) -> str:
    """Return which pool the tokens of `item` may come from; '' where none is known."""
    if item.fine_tuned or item.surface:
        return ""
    return "large" if item.model in _LARGE else "small" if item.model in _SMALL else ""


def free_by_pool(
    rows: Iterable[tuple[LineItem, Fraction, Fraction, Fraction]],
) -> dict[str, Fraction]:
    """Return the tokens of each pool that were used and not paid for.

    A row is a product, the tokens that were used, the dollars that were paid, the price of one.
    """
    found: defaultdict[str, Fraction] = defaultdict(Fraction)
    for item, quantity, usd, price in rows:
        pool = pool_of(item)
        if pool and price and 0 <= usd < quantity * price:
            found[pool] += quantity - usd / price
    return dict(found)


def is_whole_pool(tokens: Fraction) -> bool:
    """Return whether a number of tokens is a whole pool, give or take what amounts are rounded."""
    return round(tokens) in POOL_TOKENS and abs(tokens - round(tokens)) < _NEARLY


_NEARLY = Fraction(1, 100)
