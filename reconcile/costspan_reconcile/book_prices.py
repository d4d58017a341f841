"""What the price book says a unit of a billed product costs, now and at other times."""

from datetime import UTC, date, datetime, time
from fractions import Fraction

from costspan.money import PICO_PER_USD
from costspan.pricing import Book
from costspan_reconcile.line_items import Form, LineItem

TIERS = ("standard", "flex", "batch", "priority", "ultrafast")
KINDS = ("input", "cached_input", "cache_write", "output")

_METERS = {
    ("text", "input"): "input",
    ("text", "cached_input"): "cached_input",
    ("text", "cache_write"): "cache_write_30m",
    ("text", "output"): "output",
    ("audio", "input"): "audio_input",
    ("audio", "cached_input"): "cached_audio_input",
    ("audio", "output"): "audio_output",
    ("image", "input"): "image_input",
    ("image", "cached_input"): "cached_image_input",
    ("image", "output"): "image_output",
}
_SERVICES = {
    "web search": ("*", "any", "any", "web_search"),
    "file search": ("*", "any", "any", "file_search"),
    "transcription": ("whisper-1", "standard", "short", "audio_seconds"),
}


class Prices:
    """A price book, asked by line items; each answer is computed once."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self._found: dict[tuple[LineItem, date, str], Fraction | None] = {}

    def of(self, item: LineItem, day: date, project: str = "") -> Fraction | None:
        """Return the dollars for one unit of `item` on `day`, None where we know none.

        It is the list price, or what was negotiated for the project.
        """
        key = (item, day, project if self.book.overrides else "")
        if key not in self._found:
            self._found[key] = self._price(item, day, project)
        return self._found[key]

    def versions(self, item: LineItem, day: date) -> list[tuple[date, Fraction]]:
        """Return the list prices of `item` at other times than `day`, with their first day."""
        row = self._row(item, day)
        if row is None:
            return []
        now = self.of(item, day)
        *where, meter = row
        others = {
            Fraction(listed.usd[meter]) / listed.per: listed.valid_from.date()
            for listed in self.book.rows.get((where[0], where[1], where[2]), ())
            if meter in listed.usd
        }
        return [(since, price) for price, since in others.items() if price != now]

    def residency(self, item: LineItem, day: date) -> Fraction | None:
        """Return the factor on `item` where data stay in a region; None where there is none."""
        row = self._row(item, day)
        return self.book.region_factor if row and row[0] in self.book.region_models else None

    def _price(self, item: LineItem, day: date, project: str) -> Fraction | None:
        row = self._row(item, day)
        if row is None:
            return None
        name, tier, context, meter = row
        at = _midnight(day)
        rates = self.book.rates(name, tier, context, at)
        if rates is None or meter not in rates.pico:
            return None
        longer = rates.pico.get("cache_write_12h")
        if meter == "cache_write_30m" and longer not in {None, rates.pico[meter]}:
            return None  # the bill does not say how long the cache was kept
        pico = rates.pico[meter]
        for override in self.book.overrides:  # the last one that fits holds
            if override.covers({name}, tier, meter, project or None, at):
                pico = override.rate(rates.pico[meter])
        return pico / PICO_PER_USD

    def _row(self, item: LineItem, day: date) -> tuple[str, str, str, str] | None:
        """Return model, tier, context and meter of the row that has the price of `item`."""
        if item.form is Form.SERVICE:
            return _SERVICES.get(item.name)
        meter = _METERS.get((item.modality, item.kind))
        if item.form is not Form.TOKENS or item.surface or meter is None:
            return None
        model = f"{'ft:' if item.fine_tuned else ''}{item.name}"
        name = self.book.canonical(model, _midnight(day))
        return (name, item.tier, item.context, meter) if name else None


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time.min, UTC)
