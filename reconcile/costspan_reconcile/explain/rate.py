"""Step 4: the bill has another price for a unit than the estimate.

The billed price is looked for among the prices of other products: another tier, context, kind or
time, a mix of tiers, each with the surcharge of a region or a discount. Only what is equal to the
sixth digit counts; a discount is an agreement on many lines, so it may differ by a thousandth.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple

from costspan_reconcile.amounts import step
from costspan_reconcile.book_prices import KINDS, TIERS, Prices
from costspan_reconcile.explain.classes import Class, Component
from costspan_reconcile.explain.identity import Parts
from costspan_reconcile.explain.surroundings import Surroundings
from costspan_reconcile.free_tokens import pool_of
from costspan_reconcile.line_items import Form
from costspan_reconcile.match import Line
from costspan_reconcile.price_truth import SAME_PRICE, is_discounted

ROUNDING_USD = Fraction(1, 10**6)
"""Of one line."""


class Step(NamedTuple):
    """From one price to the next, and why they differ."""

    cause: Class
    detail: str
    price: Fraction


def rate(line: Line, parts: Parts, around: Surroundings, prices: Prices) -> Iterator[Component]:
    """Yield the rate of a line by class, or what cannot be split from it; they sum to it."""
    name = "rate" if parts.rate is not None else "unsplit"
    whole = parts.rate if parts.rate is not None else parts.unsplit
    if not whole:
        return
    credit = line.bill.credit if line.bill else Fraction(0)
    if credit:
        yield Component(name, Class.CREDIT_OR_CORRECTION, credit)
        whole -= credit
    if abs(whole) <= ROUNDING_USD:
        yield Component(name, Class.ROUNDING, whole)
        return
    quantity = line.bill.quantity if line.bill else None
    if quantity is None:
        quantity = line.usage_quantity
    if not quantity or parts.price is None:
        yield Component(name, _cannot_be_told(line, around), whole)
        return
    paid = (line.billed - credit) / quantity
    steps = _steps(paid, Fraction(quantity), line, parts.price, around, prices)
    if not steps:
        strange = line.bill is not None and line.bill.strange_unit
        unknown = Class.UNIT if strange else Class.RATE_UNKNOWN
        yield Component(
            name, unknown if parts.rate is not None or strange else Class.UNEXPLAINED, whole
        )
        return
    before = parts.price
    for one in steps[:-1]:
        amount = step((one.price - before) * quantity)
        yield Component(name, one.cause, amount, one.detail)
        whole -= amount
        before = one.price
    yield Component(name, steps[-1].cause, whole, steps[-1].detail)


def _cannot_be_told(line: Line, around: Surroundings) -> Class:
    """Return the class of a difference without a quantity or a price."""
    if line.bill and line.bill.strange_unit:
        return Class.UNIT
    if line.spans is None:
        seen = around.traffic_of(line).calls
        return Class.COVERAGE_UNKNOWN if seen else Class.RETRIES_OR_MISSING_SPANS
    if line.spans.usd is None:
        return Class.UNPRICED_CALLS
    return Class.UNEXPLAINED


def _steps(
    paid: Fraction,
    quantity: Fraction,
    line: Line,
    ours: Fraction,
    around: Surroundings,
    prices: Prices,
) -> list[Step]:
    """Return the way from our price to the paid one, empty where there is none."""
    if not paid:
        counted = line.bill is not None and line.bill.quantity is not None
        return [Step(Class.FREE_TOKENS, "", paid)] if counted or pool_of(line.item) else []
    sure, possible = _products(line, ours, around, prices)
    for product in sure:
        if _same(paid, product.price):
            return [product]
    listed = prices.of(line.item, around.day, line.project)
    plain = Step(Class.MATCHED, "", ours if listed is None else listed)
    bases = [plain, Step(Class.MATCHED, "", ours), *sure]
    factor = prices.residency(line.item, around.day)
    if factor:
        for base in bases:
            if _same(paid, base.price * factor):
                last = Step(Class.RESIDENCY, f"x {float(factor):g}", paid)
                return [last] if base.cause is Class.MATCHED else [base, last]
    for discount in around.discounts:
        for base in bases:
            if base.price and is_discounted(paid / base.price, [discount]):
                last = Step(Class.CONTRACT_DISCOUNT, discount.off, paid)
                return [last] if base.cause is Class.MATCHED else [base, last]
    for change in around.changes:
        if change.line_item == line.line_item and _same(paid, change.after_usd):
            return [Step(Class.PRICE_VERSION, f"since {change.since}", paid)]
    for product in possible:
        if _same(paid, product.price):
            return [product]
    if 0 < paid < plain.price and pool_of(line.item) in around.pools:
        free = round(quantity * (1 - paid / plain.price))
        return [Step(Class.FREE_TOKENS, f"{free:,} of {int(quantity):,} tokens", paid)]
    return []


def _products(
    line: Line, ours: Fraction, around: Surroundings, prices: Prices
) -> tuple[list[Step], list[Step]]:
    """Return the prices that the bill may have used: those with evidence, and the others.

    The evidence for a tier is the provider's count, by the tier that served it.
    """
    item, day, project = line.item, around.day, line.project
    if item.form is not Form.TOKENS:
        return [], []

    def price(**other: str) -> Fraction | None:
        return prices.of(replace(item, **other), day, project)

    counted = {tier for tier, quantity in (line.usage or {}).items() if quantity}
    tiers = [
        Step(Class.TIER_MISMATCH, tier, value)
        for tier in TIERS
        if tier != item.tier and (value := price(tier=tier))
    ]
    long = "long" if item.context == "short" else "short"
    contexts = [Step(Class.LONG_CONTEXT, long, value)] if (value := price(context=long)) else []
    kinds = [
        Step(Class.WRONG_KIND, kind, value)
        for kind in KINDS
        if kind != item.kind and (value := price(kind=kind))
    ]
    versions = [
        Step(
            Class.PRICE_VERSION,
            f"the price from {since}" if since.year > 1 else "an older price",
            value,
        )
        for since, value in prices.versions(item, day)
    ]
    listed = prices.of(item, day, project)
    sure: list[Step] = []
    if listed:
        sure.append(_own(listed, ours, line, versions))
    sure += [one for one in tiers if one.detail in counted]
    sure += _mix(line, prices, around)
    sure += contexts
    possible = [*(one for one in tiers if one.detail not in counted), *kinds, *versions]
    return sure, possible


def _own(listed: Fraction, ours: Fraction, line: Line, versions: Iterable[Step]) -> Step:
    """Return the step to the product's own price: the estimate was made with another one."""
    if line.spans and line.spans.item.tier != line.item.tier:
        return Step(Class.TIER_MISMATCH, line.item.tier, listed)
    if line.spans and line.spans.item.context != line.item.context:
        return Step(Class.LONG_CONTEXT, line.item.context, listed)
    was = next((one.detail for one in versions if _same(ours, one.price)), "another price")
    return Step(Class.PRICE_VERSION, f"the estimate has {was}", listed)


def _mix(line: Line, prices: Prices, around: Surroundings) -> list[Step]:
    """Return the price of all tiers together that the provider counted under one line item."""
    counted = {tier: quantity for tier, quantity in (line.usage or {}).items() if quantity}
    found = {
        tier: prices.of(replace(line.item, tier=tier), around.day, line.project) for tier in counted
    }
    known = {tier: price for tier, price in found.items() if price}
    if len(counted) < 2 or len(known) < len(counted):
        return []
    whole = sum(counted.values())
    mixed = sum((known[tier] * quantity for tier, quantity in counted.items()), Fraction(0)) / whole
    listed = prices.of(line.item, around.day, line.project) or mixed
    detail = ", ".join(
        f"{tier} {float(known[tier] / listed):.4g}, share {float(Fraction(quantity) / whole):.4g}"
        for tier, quantity in sorted(counted.items())
        if tier != line.item.tier
    )
    return [Step(Class.MIX, detail, mixed)]


def _same(one: Fraction, other: Fraction) -> bool:
    return abs(one - other) <= SAME_PRICE * other
