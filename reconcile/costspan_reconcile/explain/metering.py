"""Step 3: the bill counts other tokens than OpenAI's own Usage endpoint."""

from collections.abc import Iterator
from fractions import Fraction

from costspan_reconcile.amounts import step
from costspan_reconcile.explain.classes import Class, Component
from costspan_reconcile.explain.identity import Parts
from costspan_reconcile.explain.states import DayState
from costspan_reconcile.explain.surroundings import Surroundings
from costspan_reconcile.free_tokens import pool_of
from costspan_reconcile.match import Line

_PREPAID = "scale"


def metering(line: Line, parts: Parts, around: Surroundings) -> Iterator[Component]:
    """Yield the metering of a line by class; they sum to it."""
    whole, price = parts.metering, parts.price
    usage = line.usage_quantity
    if not whole or price is None or not usage:
        if whole:
            yield _part(Class.METERING_BASIS, whole)
        return
    prepaid = (line.usage or {}).get(_PREPAID, 0)
    if prepaid and whole < 0:
        bundled = -min(-whole, step(prepaid * price))
        yield _part(Class.BUNDLED, bundled)
        whole -= bundled
    if whole:
        yield _part(_cause(line, whole, around), whole)


def _cause(line: Line, usd: Fraction, around: Surroundings) -> Class:
    pool = pool_of(line.item)
    if not line.billed:
        return Class.FREE_TOKENS if pool else Class.UNEXPLAINED
    if around.state is not DayState.FINAL:
        return Class.LAG
    return Class.FREE_TOKENS if usd < 0 and pool in around.pools else Class.METERING_BASIS


def _part(cause: Class, usd: Fraction) -> Component:
    return Component("metering", cause, usd)
