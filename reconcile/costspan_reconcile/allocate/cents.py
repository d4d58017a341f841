"""Amounts as cents that add up to the total as it is shown. For display: nothing stores them."""

from collections.abc import Sequence
from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal

_EXACT = Context(prec=120)
_CENT = Decimal("0.01")


def shown_cents(amounts: Sequence[Decimal]) -> list[Decimal]:
    """Return `amounts` in whole cents whose sum is their total, rounded half-even.

    By largest remainder: each is cut off toward minus infinity, and the cents left over go to those
    of which most was cut off, then to the larger, then to the earlier.
    """
    total = sum_exact(amounts).quantize(_CENT, ROUND_HALF_EVEN, _EXACT)
    cut = [amount.quantize(_CENT, ROUND_FLOOR, _EXACT) for amount in amounts]
    spare = int(_EXACT.subtract(total, sum_exact(cut)).scaleb(2))
    order = sorted(
        range(len(amounts)),
        key=lambda n: (_EXACT.subtract(cut[n], amounts[n]), -abs(amounts[n]), n),
    )
    for place in order[:spare]:
        cut[place] += _CENT
    return cut


def sum_exact(amounts: Sequence[Decimal]) -> Decimal:
    """Return the sum, to the last of the forty places."""
    total = Decimal(0)
    for amount in amounts:
        total = _EXACT.add(total, amount)
    return total
