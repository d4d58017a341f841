"""The grammar of a billed line item, which OpenAI does not document.

    line item   prefix " | " ... body
    prefix      a service tier, or the surface that was billed, such as `evals`
    body        model[ modality]", "kind[", long context"], or the name of a service

What does not fit is unclassified: kept, shown in dollars, and never guessed at.

Source: line items that the live service sent, collected 2026-11; they are in tests/data/billing.
"""

import re
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from functools import lru_cache

GRAMMAR = "2"
"""Changes when any string would be read differently; kept with every run."""


class Form(StrEnum):
    """What sort of line an item is."""

    TOKENS = "tokens"
    SERVICE = "service"
    UNCLASSIFIED = "unclassified"


@dataclass(frozen=True, slots=True)
class LineItem:
    """A line item, read. Two that are equal are the same product."""

    form: Form
    name: str
    """The model of a token line, the service of a service line, else the text as it came."""
    kind: str = ""
    """input, cached_input, cache_write or output; empty unless a token line."""
    modality: str = "text"
    tier: str = "standard"
    context: str = "short"
    fine_tuned: bool = False
    surface: str = ""
    """What was billed besides plain API calls, such as `evals`."""

    @property
    def family(self) -> "LineItem":
        """Return the product without the date of its model."""
        return _family(self)

    @property
    def product(self) -> "LineItem":
        """Return it whatever served it: without tier and context."""
        return _product(self)

    @property
    def model(self) -> str:
        """Return the family of its model, whatever was counted of it."""
        return f"{'ft:' if self.fine_tuned else ''}{_family(self).name}"


_MOST_ITEMS = 65_536
"""An organization has some hundreds; they are compared often, so the same one is the same object."""


@lru_cache(_MOST_ITEMS)
def _family(item: LineItem) -> LineItem:
    return replace(item, name=_DATE.sub("", item.name))


@lru_cache(_MOST_ITEMS)
def _product(item: LineItem) -> LineItem:
    return replace(item, tier="standard", context="short")


_DATE = re.compile(r"-\d{4}-\d{2}-\d{2}$")
_MODALITIES = frozenset({"text", "image", "audio"})
_KINDS = {
    "input": "input",
    "input_tokens": "input",
    "cached input": "cached_input",
    "cached_input_tokens": "cached_input",
    "cache writes": "cache_write",
    "cache write": "cache_write",
    "output": "output",
    "output_tokens": "output",
}
_TIERS = {
    "": "standard",
    "auto": "standard",
    "default": "standard",
    "standard": "standard",
    "priority": "priority",
    "fast": "priority",  # asked for as fast, answered and billed as priority
    "flex": "flex",
    "batch": "batch",
    "scale": "scale",
    "ultrafast": "ultrafast",
}
_SERVICES = {
    ("", "web search tool calls"): "web search",
    ("", "vector storage"): "vector storage",
    ("assistants api", "file search"): "file search storage",
    ("", "scale tier"): "scale tier",
    ("", "reserved tier"): "reserved tier",
}
_TRANSCRIPTION = "whisper"
_SECONDS = frozenset({"", "duration_seconds", "duration_minutes", "duration_hours"})


@lru_cache(_MOST_ITEMS)
def read_line_item(text: str, unit: str = "") -> LineItem:
    """Return what `text` says; `unit` is the `quantity_unit` of its row, empty if there is none."""
    *prefixes, body = text.split(" | ")
    tiers = [_TIERS[prefix.lower()] for prefix in prefixes if prefix.lower() in _TIERS]
    surfaces = [prefix.lower() for prefix in prefixes if prefix.lower() not in _TIERS]
    unclassified = LineItem(Form.UNCLASSIFIED, text)
    if len(tiers) > 1 or len(surfaces) > 1:
        return unclassified
    surface = surfaces[0] if surfaces else ""
    tier = tiers[0] if tiers else "standard"
    head, *rest = body.split(", ")
    context = "short"
    if len(rest) == 2 and rest[1] == "long context":
        context, rest = "long", rest[:1]
    if len(rest) == 1 and rest[0].lower() in _KINDS:
        return _token_line(head, _KINDS[rest[0].lower()], tier, context, surface) or unclassified
    service = _SERVICES.get((surface, body.lower()))
    if service and not tiers:
        return LineItem(Form.SERVICE, service, surface=surface)
    if text == _TRANSCRIPTION and unit in _SECONDS:
        return LineItem(Form.SERVICE, "transcription")
    return unclassified


def _token_line(head: str, kind: str, tier: str, context: str, surface: str) -> LineItem | None:
    model, _, modality = head.rpartition(" ")
    if modality not in _MODALITIES:
        model, modality = head, "text"
    if not model or " " in model:
        return None
    fine_tuned = model.startswith("ft-")
    return LineItem(
        Form.TOKENS,
        model.removeprefix("ft-"),
        kind=kind,
        modality=modality,
        tier=tier,
        context=context,
        fine_tuned=fine_tuned,
        surface=surface,
    )


@lru_cache(_MOST_ITEMS)
def usage_item(
    model: str, kind: str, *, modality: str = "text", tier: str = "", context: str = "short"
) -> LineItem:
    """Return the product that a span or the Usage API names by `model`.

    There a fine-tuned model is `ft:base:organization:name:id`; the bill says `ft-base`.
    """
    fine_tuned = model.startswith("ft:")
    return LineItem(
        Form.TOKENS,
        model.split(":")[1] if fine_tuned else model,
        kind=kind,
        modality=modality,
        tier=_TIERS.get(tier, tier),
        context=context,
        fine_tuned=fine_tuned,
    )


def plain_units(item: LineItem, quantity: Decimal | None, unit: str) -> tuple[Fraction | None, str]:
    """Return a billed quantity in tokens or seconds, and its unit.

    None where a token line is billed in a unit that is no number of tokens.
    """
    plain, factor = _UNITS.get(unit, (unit, 1))
    strange = item.form is Form.TOKENS and plain not in {"", "tokens"}
    if quantity is None or strange:
        return None, unit
    return Fraction(quantity) * factor, plain


_UNITS = {
    "1000_tokens": ("tokens", 1000),
    "duration_minutes": ("duration_seconds", 60),
    "duration_hours": ("duration_seconds", 3600),
}


def billed_name(item: LineItem) -> str:
    """Return how the bill would write `item`: the name of a line that only we know of."""
    if item.form is not Form.TOKENS:
        return item.name
    tier = "" if item.tier == "standard" else f"{item.tier} | "
    model = f"{'ft-' if item.fine_tuned else ''}{item.name}"
    modality = "" if item.modality == "text" else f" {item.modality}"
    context = ", long context" if item.context == "long" else ""
    return f"{tier}{model}{modality}, {_WRITTEN.get(item.kind, item.kind)}{context}"


_WRITTEN = {"cached_input": "cached input", "cache_write": "cache writes"}
