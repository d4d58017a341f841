"""What the local OpenAI charges: a price list of its own, by date, tier and length of the prompt.

Nothing here is shared with the estimator's price book: the two agree only if both are right.
"""

from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from typing import NamedTuple

LONG_ABOVE = 272_000
"""A prompt of more tokens than this has long-context prices, for the models that have any."""
_RESIDENCY_SINCE = date(2026, 3, 5)
_RESIDENCY_FACTOR = Fraction(11, 10)
STORAGE_USD = Fraction(1, 10)
"""A GiB and day, after the first GiB."""


class Unit(NamedTuple):
    """What is charged by the piece and not by the token."""

    usd: Fraction
    line_item: str
    unit: str | None


UNITS = {
    "web_search_calls": Unit(Fraction(10, 1000), "web search tool calls", None),
    "file_search_calls": Unit(Fraction("2.5") / 1000, "file search tool calls", None),
    "code_interpreter_sessions": Unit(Fraction("0.03"), "code interpreter sessions", None),
    "audio_transcriptions": Unit(Fraction("0.006") / 60, "whisper", "duration_seconds"),
    "audio_speeches": Unit(Fraction(15, 1_000_000), "tts-1", "characters"),
    "images": Unit(Fraction("0.04"), "dall-e-3", "images"),
}
"""By the usage endpoint that counts it. Of the names only the first and `whisper` were ever seen."""

_LIST = """
gpt-4o-mini-2024-07-18   2024-07-18 default  short input=0.15 cached_input=0.075 output=0.60
gpt-4o-mini-2024-07-18   2024-07-18 batch    short input=0.075 output=0.30
gpt-4o-2024-08-06        2024-08-06 default  short input=2.50 cached_input=1.25 output=10
gpt-4o-2024-11-20        2024-11-20 default  short input=2.50 cached_input=1.25 output=10
ft:gpt-4o-2024-08-06     2024-08-06 default  short input=3.75 cached_input=1.875 output=15
gpt-4.1-2025-04-14       2025-04-14 default  short input=2.00 cached_input=0.50 output=8.00
gpt-4.1-2025-04-14       2025-04-14 priority short input=3.50 cached_input=0.875 output=14
gpt-4.1-2025-04-14       2025-04-14 batch    short input=1.00 output=4.00
gpt-5-mini-2025-08-07    2025-08-07 default  short input=0.25 cached_input=0.025 output=2.00
gpt-5-mini-2025-08-07    2025-08-07 flex     short input=0.125 cached_input=0.0125 output=1.00
gpt-5.4-mini-2026-03-17  2026-03-17 default  short input=0.75 cached_input=0.075 output=4.50
gpt-5.5-2026-04-23       2026-04-23 default  short input=5.00 cached_input=0.50 output=30.00
gpt-5.5-2026-04-23       2026-04-23 default  long  input=10 cached_input=1 output=45
gpt-5.6-sol              2026-06-25 default  short input=5.00 cached_input=0.50 output=30
gpt-5.6-sol              2026-08-21 default  short input=4.00 cached_input=0.40 output=20
gpt-image-2              2026-04-21 default  short input=5 image_input=8 image_output=30
text-embedding-3-small   2024-01-25 default  short input=0.02
text-embedding-3-small   2024-01-25 batch    short input=0.01
omni-moderation-latest   2024-09-26 default  short input=0
"""
"""Model, first day, tier, context, and dollars for a million tokens of each kind."""


class Product(NamedTuple):
    """One thing on the price list: tokens of a model and meter, at a tier and context."""

    model: str
    meter: str
    """input, cached_input or output, with `image_` before it where it is not text."""
    tier: str = "default"
    context: str = "short"


@dataclass(frozen=True, slots=True)
class _Row:
    since: date
    usd: dict[str, Fraction]
    """For one token."""


def _read(text: str) -> dict[tuple[str, str, str], list[_Row]]:
    rows: dict[tuple[str, str, str], list[_Row]] = {}
    for line in text.strip().splitlines():
        model, since, tier, context, *prices = line.split()
        pairs = (price.split("=") for price in prices)
        usd = {meter: Fraction(amount) / 1_000_000 for meter, amount in pairs}
        rows.setdefault((model, tier, context), []).append(_Row(date.fromisoformat(since), usd))
    return rows


_ROWS = _read(_LIST)
_RELEASED = {
    model: min(row.since for (name, _, _), rows in _ROWS.items() if name == model for row in rows)
    for model, _, _ in _ROWS
}


def listed(model: str) -> str:
    """Return the name that a model has on the list: all fine-tuned ones of a base have one price."""
    return ":".join(model.split(":")[:2])


def context_of(model: str, input_tokens: int) -> str:
    """Return the context that a prompt is charged at."""
    has_long = (listed(model), "default", "long") in _ROWS
    return "long" if has_long and input_tokens > LONG_ABOVE else "short"


def meters(model: str, tier: str, context: str) -> list[str]:
    """Return the meters that have a price there."""
    return list(_rows(model, tier, context)[-1].usd)


def rate(product: Product, day: date, *, resident: bool = False) -> Fraction:
    """Return the dollars for one token on `day`; `resident`: the project's data stay in a region."""
    rows = _rows(product.model, product.tier, product.context)
    usd = [row for row in rows if row.since <= day][-1].usd[product.meter]
    uplift = resident and _RELEASED[listed(product.model)] >= _RESIDENCY_SINCE
    return usd * _RESIDENCY_FACTOR if uplift else usd


def _rows(model: str, tier: str, context: str) -> list[_Row]:
    # The tokens of a scale tier are paid for in advance; on the list they are ordinary ones.
    return _ROWS[listed(model), "default" if tier == "scale" else tier, context]
