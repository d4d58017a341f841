"""Money is `Decimal` US dollars, twelve places, never `float`.

Inside, an amount is a whole number of pico-dollars (1e-12 USD): the cheapest published
token costs 2.5e-9 USD, so a nano-dollar would be too coarse.
"""

from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from typing import NewType

Usd = NewType("Usd", Decimal)
"""US dollars with twelve decimal places. Made by `usd` or `from_pico`."""

PICO_PER_USD = 10**12
STEP = Decimal("0.000000000001")
"""One pico-dollar: the step of `Decimal(18, 12)` in ClickHouse."""


def usd(amount: Decimal | int | str) -> Usd:
    """Return `amount` as dollars, rounded half-even to twelve places.

    Raises:
        TypeError: `amount` is a float, whose decimal digits are an accident.
    """
    if isinstance(amount, float):
        msg = "money from a float; pass Decimal or str"
        raise TypeError(msg)
    with localcontext() as context:
        context.prec = 80
        return Usd(Decimal(amount).quantize(STEP, rounding=ROUND_HALF_EVEN))


def from_pico(pico: int) -> Usd:
    """Return a whole number of pico-dollars as dollars."""
    return Usd(Decimal(pico).scaleb(-12))


def to_pico(amount: Usd) -> int:
    """Return dollars as a whole number of pico-dollars."""
    return int(amount.scaleb(12))


def plain(amount: Decimal) -> str:
    """Return `amount` without exponent and without trailing zeros, `0.000471` for a person."""
    text = format(amount, "f")
    return (text.rstrip("0").rstrip(".") or "0") if "." in text else text


def plain_pico(pico: int) -> str:
    """Return pico-dollars as `plain` shows dollars; quicker, since each call needs it."""
    dollars, rest = divmod(pico, PICO_PER_USD)
    return f"{dollars}.{rest:012d}".rstrip("0").rstrip(".")
