"""Step 2: tokens that the provider counted and the spans did not, or the other way round.

The provider counts requests too. With them it can be told whether calls are missing, are there
twice, or hold other tokens than were counted.
"""

from collections.abc import Iterator
from fractions import Fraction

from costspan_reconcile.amounts import step
from costspan_reconcile.explain.classes import Class, Component
from costspan_reconcile.explain.identity import Parts
from costspan_reconcile.explain.surroundings import Repeated, Surroundings, Traffic, place
from costspan_reconcile.match import Line

CUTOFF_WITHIN = Fraction(1, 50)
"""How well two neighbouring days have to cancel out, as a share."""
_NOTHING = Fraction(0)


def coverage(line: Line, parts: Parts, around: Surroundings) -> Iterator[Component]:
    """Yield the coverage of a line by class; they sum to it."""
    whole, price = parts.coverage, parts.price
    if not whole or price is None:
        return
    spans = line.spans
    if spans and spans.quantity is not None and spans.priced_quantity is not None:
        unpriced = step((spans.quantity - spans.priced_quantity) * price)
        if unpriced:
            yield _part(Class.UNPRICED_CALLS, unpriced)
            whole -= unpriced
    if not whole:
        return
    if _is_cut_off(line, whole, around):
        yield _part(Class.CUTOFF, whole)
    elif whole > 0:
        yield from _missing(line, whole, price, around)
    else:
        yield from _too_many(line, whole, price, around)


def _is_cut_off(line: Line, coverage: Fraction, around: Surroundings) -> bool:
    """Return whether the same line of a neighbouring day makes up for it."""
    return any(
        other * coverage < 0
        and abs(other + coverage) <= CUTOFF_WITHIN * max(abs(other), abs(coverage))
        for other in around.neighbours.get(place(line), ())
    )


def _missing(
    line: Line, missing: Fraction, price: Fraction, around: Surroundings
) -> Iterator[Component]:
    for cause, quantity in (
        (Class.AGENTS_API, line.agents_quantity),
        (Class.BATCH_UNTRACED, _untraced_batch(line)),
    ):
        amount = min(missing, step(quantity * price))
        if amount:
            yield _part(cause, amount)
            missing -= amount
    if not missing:
        return
    traffic = around.traffic_of(line)
    requests = traffic.requests
    if requests is None:
        cause = Class.COVERAGE_UNKNOWN if traffic.calls else Class.RETRIES_OR_MISSING_SPANS
        yield _part(cause, missing)
    elif requests > traffic.calls:
        unseen = _unseen(line, missing, price, traffic, requests - traffic.calls)
        yield _part(Class.ABORTED_OR_TIMED_OUT, unseen)
        yield _part(Class.RETRIES_OR_MISSING_SPANS, missing - unseen)
    elif requests == traffic.calls:
        yield _part(Class.TOKEN_CAPTURE, missing)
    else:
        yield _part(Class.COVERAGE_UNKNOWN, missing)


def _untraced_batch(line: Line) -> int | Fraction:
    """Return the tokens of batches, where no span is of one."""
    batch = (line.usage or {}).get("batch", 0)
    traced = line.spans is not None and line.item.tier == "batch"
    return 0 if traced or line.level == "M4" else batch


def _unseen(
    line: Line, missing: Fraction, price: Fraction, traffic: Traffic, requests: int
) -> Fraction:
    """Return the dollars of calls that ended before their usage was told, at most what is missing.

    Where all missing requests are such calls, so are all tokens, up to their bounds.
    """
    if not traffic.unseen_calls:
        return _NOTHING
    bounded = traffic.bounded_calls == traffic.unseen_calls
    if bounded and line.item.kind == "output":
        return min(missing, step(traffic.unseen_output * price))
    if requests <= traffic.unseen_calls:
        return missing
    if bounded:
        return min(missing, step(traffic.unseen_input * price))
    return step(missing * Fraction(traffic.unseen_calls, requests))


def _too_many(
    line: Line, surplus: Fraction, price: Fraction, around: Surroundings
) -> Iterator[Component]:
    traffic = around.traffic_of(line)
    if traffic.requests is not None and traffic.requests == traffic.calls:
        yield _part(Class.TOKEN_CAPTURE, surplus)
        return
    if traffic.requests is None or traffic.requests < traffic.calls:
        for cause, quantity in _not_billed(line, around):
            amount = -min(-surplus, step(quantity * price))
            yield _part(cause, amount)
            surplus -= amount
    yield _part(Class.COVERAGE_UNKNOWN, surplus)


def _not_billed(line: Line, around: Surroundings) -> list[tuple[Class, Fraction]]:
    """Return the tokens that are surely in the spans and not on the bill, by class."""
    keys = [*line.keys, ""] if line.pooled_keys else line.keys
    found = [
        around.repeated.get((line.project, key, line.item.product.family), _NONE) for key in keys
    ]
    return [
        (Class.PRICED_FAILURES, sum((one.failures for one in found), _NOTHING)),
        (Class.DUPLICATE_SPANS, sum((one.duplicates for one in found), _NOTHING)),
    ]


_NONE = Repeated(_NOTHING, _NOTHING)


def _part(cause: Class, usd: Fraction) -> Component:
    return Component("coverage", cause, usd)
