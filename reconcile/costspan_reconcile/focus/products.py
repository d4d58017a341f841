"""What a billed line is in a price list: its product, its unit, and the price of a unit."""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache

from costspan_reconcile.book_prices import Prices
from costspan_reconcile.line_items import Form, LineItem, read_line_item

PRICE_PLACES = 12
"""A unit price has no more: a price that is derived from a bill would never end."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A `quantity_unit` of the bill, as FOCUS names it."""

    consumed: str
    consumed_per_quantity: int = 1
    pricing: str = ""
    consumed_per_price: int = 1
    book_units: int = 0
    """How many units of the price book are one pricing unit; 0 where the book counts otherwise."""

    @property
    def priced(self) -> str:
        """Return the name of the pricing unit."""
        return self.pricing or self.consumed


_MILLION = 10**6
UNITS = {
    "tokens": Unit("Tokens", 1, "1000000 Tokens", _MILLION, _MILLION),
    "1000_tokens": Unit("Tokens", 1000, "1000000 Tokens", _MILLION, _MILLION),
    "duration_seconds": Unit("Seconds", book_units=1),
    "duration_minutes": Unit("Minutes", book_units=60),
    "duration_hours": Unit("Hours", book_units=3600),
    "gibibyte_hours": Unit("GiB-Hours"),
    "images": Unit("Images"),
    "characters": Unit("Characters", 1, "1000000 Characters", _MILLION),
}
UNNAMED = Unit("Units", book_units=1)
"""A quantity without a unit: OpenAI sends none for web searches, for one."""
DAY = Unit("Days")
"""Without a quantity, what was billed is one day of the service."""
NOT_ITEMISED = "not itemised"
_METERS = {
    "input": "Input Tokens",
    "cached_input": "Cache Read Input Tokens",
    "cache_write": "Cache Write Input Tokens",
    "output": "Output Tokens",
}


@dataclass(frozen=True, slots=True)
class Product:
    """A billed line as a price list has it."""

    sku_id: str
    sku_price_id: str
    meter: str
    details: dict[str, str]


@lru_cache(65_536)
def product_of(line_item: str, quantity_unit: str) -> Product:
    """Return what `line_item` is; what the grammar cannot read is known by its text."""
    item = read_line_item(line_item, quantity_unit)
    if item.form is not Form.TOKENS:
        name = item.name or NOT_ITEMISED
        return Product(name, name, name, {"x_Service": name})
    model = f"{'ft:' if item.fine_tuned else ''}{item.name}"
    sku_id = "/".join(filter(None, (item.surface, model, item.modality, item.kind)))
    meter = _METERS[item.kind]
    return Product(
        sku_id,
        f"{sku_id}/{item.tier}/{item.context}",
        meter if item.modality == "text" else f"{item.modality.capitalize()} {meter}",
        {
            "x_Context": item.context,
            "x_Modality": item.modality,
            "x_Model": model,
            "x_ServiceTier": item.tier,
            **({"x_Surface": item.surface} if item.surface else {}),
        },
    )


def unit_of(quantity_unit: str) -> Unit:
    """Return the unit of a billed quantity."""
    return UNITS.get(quantity_unit) or (
        Unit(quantity_unit.replace("_", " ").title()) if quantity_unit else UNNAMED
    )


def book_price(
    prices: Prices, line_item: str, quantity_unit: str, day: date, project: str
) -> Decimal | None:
    """Return the price of a pricing unit in a price book; None where it has none."""
    item = read_line_item(line_item, quantity_unit)
    unit = unit_of(quantity_unit)
    if not unit.book_units or not _counts_alike(item, quantity_unit):
        return None
    price = prices.of(item, day, project)
    return None if price is None else unit_price(price * unit.book_units)


def unit_price(usd: Fraction) -> Decimal:
    """Return a unit price as it is written: rounded half-even."""
    return Decimal(round(usd * 10**PRICE_PLACES)).scaleb(-PRICE_PLACES)


def _counts_alike(item: LineItem, quantity_unit: str) -> bool:
    """Return whether the book counts the product in what the bill counts it in."""
    tokens = quantity_unit in {"tokens", "1000_tokens"}
    seconds = quantity_unit.startswith("duration_")
    if item.form is Form.TOKENS:
        return tokens
    return seconds if item.name == "transcription" else not tokens and not seconds
