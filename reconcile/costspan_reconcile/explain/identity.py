"""The identity: billed less estimated, in parts that add up to the last digit.

    billed - estimated = (U - Qe) * Pe    coverage: tokens the provider saw and the spans did not
                       + (Qb - U) * Pe    metering: the bill counts other than the Usage API
                       + (B - Pe * Qb)    rate:     the bill has another price than we have

B billed dollars, Qb billed quantity, U the Usage API's, Qe the spans', Pe our price of a unit.
The last part is what is left, so the sum holds to the last digit.
"""

from dataclasses import dataclass
from datetime import date
from fractions import Fraction

from costspan_reconcile.amounts import step
from costspan_reconcile.book_prices import Prices
from costspan_reconcile.match import Line

_NOTHING = Fraction(0)


@dataclass(frozen=True, slots=True)
class Parts:
    """The difference of a line, taken apart. A part that is None is inside another."""

    our_price: Fraction | None
    """Of the estimate, or of the book where there is none."""
    price: Fraction | None
    """The one that the parts are computed with: ours, or the bill's own where we know none."""
    coverage: Fraction | None
    metering: Fraction | None
    rate: Fraction | None
    unsplit: Fraction | None


def parts(line: Line, day: date, prices: Prices) -> Parts:
    """Return the parts of the difference of a line; those that are not None sum to it."""
    spans, bill = line.spans, line.bill
    our_price = price = None
    if spans and spans.usd is not None and spans.priced_quantity:
        our_price = price = spans.usd / spans.priced_quantity
    elif not (spans and spans.usd):
        our_price = price = prices.of(line.item, day, line.project)
    quantity = bill.quantity if bill else _NOTHING
    if price is None and bill and quantity and not (spans and spans.usd):
        price = bill.usd / quantity
    difference = line.billed - line.estimated
    counted = spans.priced_quantity if spans else 0
    usage = line.usage_quantity
    if price is None or counted is None or (quantity is None and usage is None):
        return Parts(our_price, None, None, None, None, difference)
    if usage is None:
        coverage = step(((quantity or 0) - counted) * price)
        return Parts(our_price, price, coverage, None, difference - coverage, None)
    coverage = step((usage - counted) * price)
    if quantity is None:
        return Parts(our_price, price, coverage, None, None, difference - coverage)
    metering = step((quantity - usage) * price)
    return Parts(our_price, price, coverage, metering, difference - coverage - metering, None)
