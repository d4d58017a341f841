"""Exact arithmetic on money: `Fraction` inside, `Decimal` with forty places where it is kept.

The default decimal context has 28 digits and rounds longer amounts without a word; the live
service sends 34. A `Fraction` has no context.
"""

from decimal import Context, Decimal, InvalidOperation
from fractions import Fraction

from costspan.errors import Rejected
from costspan.money import plain

PLACES = 40
"""Of `Decimal(76, 40)` in ClickHouse: every digit of a 34-digit amount from 1e-6 USD up."""
_EXACT = Context(prec=120)
_LONGEST = 120
_LARGEST = 35
"""Digits before the point that `Decimal(76, 40)` holds."""


def read_amount(text: str) -> Fraction:
    """Return the number that `text` states, exactly.

    Raises:
        Rejected: it is no finite decimal number, or larger than any bill.
    """
    try:
        if len(text) > _LONGEST:
            raise InvalidOperation  # noqa: TRY301 - one message for all that is no amount
        number = Decimal(text)
    except InvalidOperation as error:
        msg = f"{text[:40]!r} is not a decimal number"
        raise Rejected(msg) from error
    if not number:
        return Fraction(0)  # `0E-6176`, the smallest exponent of decimal128, is an exact zero
    if not number.is_finite() or not -6200 < number.adjusted() < _LARGEST:
        msg = f"{text[:40]!r} is not an amount"
        raise Rejected(msg)
    return Fraction(number)


def step(value: Fraction) -> Fraction:
    """Return `value` rounded half-even to the forty places that are kept."""
    return Fraction(round(value * 10**PLACES), 10**PLACES)


def kept(value: Fraction) -> Decimal:
    """Return `value` as it is stored: a decimal with forty places."""
    return Decimal(round(value * 10**PLACES)).scaleb(-PLACES, _EXACT)


def dollars(value: Fraction) -> str:
    """Return `value` for a sentence: `$0.000471`, at most twelve places."""
    rounded = Decimal(round(abs(value) * 10**12)).scaleb(-12, _EXACT)
    return f"{'-' if value < 0 else ''}${plain(rounded)}"
