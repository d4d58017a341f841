"""Tables and sentences for a terminal: columns that line up, numbers to the right, lines that fit."""

import textwrap
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from fractions import Fraction

from costspan.money import plain
from costspan_reconcile.amounts import kept

UNKNOWN = "unknown"
_PLACES = 6
_WIDTH = 100


def aligned(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, words: int = 1, total: bool = False
) -> list[str]:
    """Return the lines of a table whose first `words` columns are texts, and the last if unnamed.

    With `total`, the last row is the sum of the others.
    """
    cells = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    notes = len(head) - 1 if not head[-1] else len(head)
    lines = [
        "  ".join(
            cell.ljust(width) if index < words or index == notes else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
    rule = "  ".join("-" * width for width in widths[:notes])
    return (
        [lines[0], rule, *lines[1:-1], rule, lines[-1]] if total else [lines[0], rule, *lines[1:]]
    )


def sentence(text: str, indent: str = "") -> list[str]:
    """Return `text` in lines that fit; ids and line items are not cut."""
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=indent,
        subsequent_indent=f"{indent}  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def usd(amount: Decimal | Fraction | None) -> str:
    """Return dollars with six places, so that they line up; what is smaller is not shown as zero."""
    if amount is None:
        return UNKNOWN
    micro = round(abs(Fraction(amount)) * 10**_PLACES)
    sign = "-" if amount < 0 else ""
    if amount and not micro:
        return f"{sign}<0.000001"
    whole, rest = divmod(micro, 10**_PLACES)
    return f"{sign}{whole:,}.{rest:06d}"


def every_digit(amounts: Sequence[Fraction]) -> list[str]:
    """Return dollars to the last digit of any of them, at least in cents, so that they line up."""
    exact = [kept(amount) for amount in amounts]
    places = max(2, *(len(plain(amount).partition(".")[2]) for amount in exact))
    return [f"{amount:,.{places}f}" for amount in exact]


def percent(part: Fraction, whole: Fraction) -> str:
    """Return `part` of `whole`; a dash where there is no whole."""
    return f"{float(part / whole):.1%}" if whole else "-"


def as_text(value: object) -> str:
    """Return what JSON has no type for: an amount with every digit, a day, an id."""
    if isinstance(value, Fraction):
        value = kept(value)
    if isinstance(value, Decimal):
        return plain(value)
    return value.isoformat() if isinstance(value, datetime) else str(value)
