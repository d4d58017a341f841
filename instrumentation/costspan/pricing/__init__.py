"""What a call costs: the price book and the arithmetic that applies it."""

from costspan.pricing.book import Book, Rates, default_book, read_book
from costspan.pricing.cost import Part, Price, Status
from costspan.pricing.engine import price, price_meter

__all__ = [
    "Book",
    "Part",
    "Price",
    "Rates",
    "Status",
    "default_book",
    "price",
    "price_meter",
    "read_book",
]
