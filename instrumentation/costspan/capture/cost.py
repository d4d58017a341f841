"""A price as span attributes."""

from costspan import semconv
from costspan.capture.answer import Attributes, put, text
from costspan.money import plain
from costspan.pricing import Price, Status

_MOST_INT64 = 2**63 - 1


def from_price(price: Price) -> Attributes:
    """Return status, book, row, total and parts; what has no price has no total and no parts."""
    found: Attributes = {semconv.PRICE_STATUS: price.status.value, semconv.PRICE_BOOK: price.book}
    put(found, semconv.PRICE_PATH, text(price.path))
    if price.usd is None:
        return found
    if any(part.pico > _MOST_INT64 for part in price.parts):
        found[semconv.PRICE_STATUS] = Status.INVALID_USAGE.value
        return found
    found[semconv.COST_USD] = plain(price.usd)
    for part in price.parts:
        found[semconv.COST_PART + part.meter] = part.pico
    return found
