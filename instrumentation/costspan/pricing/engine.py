"""The arithmetic: disjoint counts times exact rates, rounded half-even once a part.

A total is the sum of its rounded parts, so parts always add up. What cannot be priced has no
cost and a status that says why; it is never 0.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from fractions import Fraction

from costspan.money import Usd, from_pico, half_even
from costspan.pricing.book import Book, default_book
from costspan.usage import Usage


class Status(StrEnum):
    """Whether a call has a price, and if not, why."""

    PRICED = "priced"
    UNKNOWN_MODEL = "unknown_model"
    UNKNOWN_TIER = "unknown_tier"
    UNPRICED_COMPONENT = "unpriced_component"
    PREPAID_TIER = "prepaid_tier"
    MISSING_USAGE = "missing_usage"
    INVALID_USAGE = "invalid_usage"
    NOT_BILLED = "not_billed"
    """An operation that OpenAI does not charge, such as listing models."""


@dataclass(frozen=True, slots=True)
class Part:
    """One term of the sum: `quantity` units of `meter`, in whole pico-dollars."""

    meter: str
    quantity: int
    pico_per_unit: Fraction
    pico: int


@dataclass(frozen=True, slots=True)
class Price:
    """What one call costs. `pico` is None unless `status` is priced."""

    status: Status
    parts: tuple[Part, ...]
    book: str
    path: str
    """model/tier/context[/region], as far as it was resolved."""
    reason: str = ""

    @property
    def pico(self) -> int | None:
        """Return the total in pico-dollars, None if unknown."""
        return sum(part.pico for part in self.parts) if self.status is Status.PRICED else None

    @property
    def usd(self) -> Usd | None:
        """Return the total in dollars, None if unknown."""
        pico = self.pico
        return None if pico is None else from_pico(pico)


_TIERS = {
    None: "standard",
    "": "standard",
    "default": "standard",
    "standard": "standard",
    "priority": "priority",
    "fast": "priority",
    "flex": "flex",
    "ultrafast": "ultrafast",
}
_TOOLS = frozenset({"web_search", "web_search_preview", "file_search", "image_tool"})


def price(
    usage: Usage | None,
    *,
    model: str,
    at: datetime,
    tier: str | None = None,
    host: str = "api.openai.com",
    batch: bool = False,
    book: Book | None = None,
) -> Price:
    """Return the list price of one call.

    `tier` is the tier that served (`response.service_tier`), not the one asked for. A batch is
    invisible in the response, so the caller says it. `at` is aware UTC.
    """
    book = book or default_book()
    served = "batch" if batch else _TIERS.get(tier)
    name = book.canonical(model) if model else None
    path = "/".join(filter(None, (name or model, served or tier)))
    if tier == "scale" and not batch:
        return Price(
            Status.PREPAID_TIER,
            (),
            book.version,
            path,
            "scale tier is prepaid, a call has no price of its own",
        )
    if name is None:
        return Price(
            Status.UNKNOWN_MODEL, (), book.version, path, f"the book has no model {model!r}"
        )
    if usage is None:
        return Price(Status.MISSING_USAGE, (), book.version, path, "the response reports no usage")
    threshold = book.long_context_above.get(name)
    context = "long" if threshold is not None and usage.input_tokens > threshold else "short"
    rates = book.rates(name, served, context, at) if served else None
    if rates is None or served is None:
        return Price(
            Status.UNKNOWN_TIER,
            (),
            book.version,
            path,
            f"no {tier or served} rate for {name}, {context} context",
        )
    factor = book.region_factor.get((name, host), Fraction(1))
    path = f"{name}/{served}/{context}" + ("" if factor == 1 else f"/{host.split('.', 1)[0]}")
    tools = book.rates(name, "any", "any", at)
    parts: list[Part] = []
    missing: list[str] = []
    for meter, quantity in _counts(usage):
        row = tools if meter in _TOOLS else rates
        rate = row.pico.get(meter) if row else None
        if rate is None:
            missing.append(f"{quantity} {meter}")
            continue
        unit = rate if meter in _TOOLS else rate * factor
        parts.append(Part(meter, quantity, unit, half_even(quantity * unit)))
    if missing:
        reason = f"no rate for {', '.join(missing)} on {path}"
        return Price(Status.UNPRICED_COMPONENT, tuple(parts), book.version, path, reason)
    return Price(Status.PRICED, tuple(parts), book.version, path)


def _counts(usage: Usage) -> Iterator[tuple[str, int]]:
    """Yield the disjoint quantities of `usage` by meter, zeros left out."""
    if usage.decision_tokens:
        yield "decision_input", usage.decision_tokens
        return
    fresh = usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens
    audio_in, image_in = usage.audio_input_tokens, usage.image_input_tokens
    spoken, drawn = usage.audio_output_tokens, usage.image_output_tokens
    for meter, quantity in (
        ("input", fresh - audio_in - image_in),
        ("cached_input", usage.cached_tokens),
        ("cache_write_30m", usage.cache_write_30m_tokens),
        ("cache_write_12h", usage.cache_write_12h_tokens),
        ("audio_input", audio_in),
        ("image_input", image_in),
        ("output", usage.output_tokens - spoken - drawn),
        ("audio_output", spoken),
        ("image_output", drawn),
        ("web_search", usage.web_searches),
        ("web_search_preview", usage.preview_web_searches),
        ("file_search", usage.file_searches),
        ("image_tool", usage.image_tool_tokens),
    ):
        if quantity:
            yield meter, quantity
