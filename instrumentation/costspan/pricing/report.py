"""A price for people and for machines, with the arithmetic that anyone can repeat."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

from costspan.money import PICO_PER_USD, from_pico, plain
from costspan.pricing.book import Book
from costspan.pricing.cost import Part, Price

_QUOTED = (
    ("search", 1_000),
    ("search_request", 1_000),
    ("search_preview", 1_000),
    ("audio_seconds", 60),
    ("gib_days", 1),
    ("hours", 1),
)


def as_document(priced: Price) -> dict[str, Any]:
    """Return a price as JSON values; an amount is text, so that no digit is lost."""
    document: dict[str, Any] = {
        "status": priced.status.value,
        "usd": None if priced.usd is None else plain(priced.usd),
        "reason": priced.reason or None,
        "path": priced.path,
        "book": priced.book,
        "parts": [_term(part) for part in priced.parts],
    }
    if priced.contracted is not None:
        contracted = priced.contracted_usd
        document["contracted"] = {
            "usd": None if contracted is None else plain(contracted),
            "overrides": list(priced.overrides),
            "parts": [_term(part) for part in priced.contracted],
        }
    return document


def as_text(priced: Price, book: Book) -> str:
    """Return a price as lines, a term of the sum on each."""
    lines = [f"{priced.path}, price book {book.name} ({priced.book})"]
    lines += [_line(part) for part in priced.parts]
    if priced.usd is None:
        return "\n".join([*lines, f"cost unknown: {priced.status.value}: {priced.reason}"])
    lines.append(f"total {plain(priced.usd)} USD")
    if priced.reason:
        lines.append(f"note: {priced.reason}")
    if priced.contracted is not None and priced.contracted_usd is not None:
        lines.append(f"contracted, by {', '.join(priced.overrides)}")
        lines += [_line(part) for part in priced.contracted]
        lines.append(f"total {plain(priced.contracted_usd)} USD")
    return "\n".join(lines)


def _line(part: Part) -> str:
    term = _term(part)
    quantity = term["quantity"]
    counted = f"{quantity:,}" if isinstance(quantity, int) else quantity
    return (
        f"  {part.meter:<20} {counted:>12} x {term['rate_usd']} / {term['per']:,}"
        f" = {term['usd']} USD"
    )


def _term(part: Part) -> dict[str, Any]:
    per = _per(part.meter)
    quantity = part.quantity
    return {
        "meter": part.meter,
        "quantity": quantity if isinstance(quantity, int) else _decimal(quantity),
        "rate_usd": _decimal(Fraction(part.pico_per_unit) * per / PICO_PER_USD),
        "per": per,
        "usd": plain(from_pico(part.pico)),
    }


def _per(meter: str) -> int:
    """Return the unit OpenAI quotes: a thousand calls of a tool, a minute, a million tokens."""
    if meter.startswith("container"):
        return 20
    if meter.startswith("video"):
        return 1
    return next((per for ending, per in _QUOTED if meter.endswith(ending)), 1_000_000)


def _decimal(value: Fraction) -> str:
    """Return `value` as decimal text; as a fraction where that has no end."""
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    if rest != 1:
        return str(value)
    return plain(Decimal(value.numerator) / Decimal(value.denominator))
