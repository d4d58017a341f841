"""What a call costs: the price book and the arithmetic that applies it."""

from costspan.pricing.book import Book, Rates, default_book, read_book
from costspan.pricing.engine import Part, Price, Status, price

__all__ = ["Book", "Part", "Price", "Rates", "Status", "default_book", "price", "read_book"]
