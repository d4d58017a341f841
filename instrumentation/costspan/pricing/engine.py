"""The arithmetic: disjoint counts times exact rates, rounded half-even once a part.

A total is the sum of its rounded parts, so parts always add up. What cannot be priced has no
cost and a status that says why; it is never 0.
"""

import math
from datetime import datetime
from fractions import Fraction

from costspan.pricing.book import RESOURCE, Book, default_book
from costspan.pricing.cost import Part, Price, Status
from costspan.pricing.offer import Sheet, offer_for
from costspan.usage import OtherModel, Quantity, Usage


def price(
    usage: Usage | None,
    *,
    model: str,
    at: datetime,
    tier: str | None = None,
    host: str = "api.openai.com",
    batch: bool = False,
    book: Book | None = None,
    project: str | None = None,
) -> Price:
    """Return the list price of one call, and the contracted one where the book has overrides.

    `tier` is the tier that served (`response.service_tier`), not the one asked for. A batch is
    invisible in the response, so the caller says it. `at` is aware UTC. `project` matters only
    to overrides.
    """
    book = book or default_book()
    offer = offer_for(book, model, tier, host, batch, project, at)
    if offer.refusal is not None:
        return offer.refusal
    if offer.is_free:
        return Price(Status.PRICED, (), book.version, offer.path)
    if usage is None:
        why = "the response reports no usage"
        return Price(Status.MISSING_USAGE, (), book.version, offer.path, why)
    context, sheet = "short", offer.short
    if usage.input_tokens > offer.long_above:
        context, sheet = "long", offer.long
    if sheet is None:
        why = f"no rate for {offer.path}, {context} context"
        return Price(Status.UNKNOWN_TIER, (), book.version, offer.path, why)
    found = _priced(usage, sheet, book)
    for other in usage.others:
        theirs = price(
            other.usage,
            model=other.model,
            at=at,
            host=host,
            batch=batch,
            book=book,
            project=project,
        )
        found = _with(found, other, theirs)
    return found


def price_meter(meter: str, quantity: Quantity, *, at: datetime, book: Book | None = None) -> Price:
    """Return the fee of a thing that lives on its own: it is no part of any call.

    Meters are `container_minutes_1g` (4g, 16g, 64g), which have a least quantity,
    `vector_store_gib_days` over the organization's first GiB, and `training_hours`.
    """
    book = book or default_book()
    for least in book.minimums:
        if meter in least.meters and least.valid_from <= at < least.valid_to:
            quantity = max(least.least, math.ceil(Fraction(quantity) / least.step) * least.step)
    rates = book.rates(RESOURCE, "any", "any", at)
    rate = rates.pico.get(meter) if rates else None
    path = f"{RESOURCE}/{meter}"
    if rate is None:
        why = f"the book has no fee for {meter!r}"
        return Price(Status.UNPRICED_COMPONENT, (), book.version, path, why)
    part = Part(meter, quantity, rate, round(quantity * rate))
    return Price(Status.PRICED, (part,) if quantity else (), book.version, path)


def _priced(usage: Usage, sheet: Sheet, book: Book) -> Price:
    parts: list[Part] = []
    missing: list[str] = []
    rates = sheet.rates
    for meter, quantity in usage.quantities():
        rate = rates.get(meter)
        if rate is None:
            missing.append(f"{quantity} {meter}")
            continue
        pico = quantity * rate
        parts.append(Part(meter, quantity, rate, pico if type(pico) is int else round(pico)))
    if "search_request" in rates:  # a search with every request
        parts.append(_part("search_request", 1, rates["search_request"]))
    if sheet.search_block and usage.metered:
        parts += _search_block(usage, sheet)
    found = Price(Status.PRICED, tuple(parts), book.version, sheet.path, sheet.note)
    if sheet.contract:
        found = _contracted(found, sheet)
    if missing:
        return _unpriced(found, f"no rate for {', '.join(missing)} on {sheet.path}")
    return found


def _part(meter: str, quantity: Quantity, rate: int | Fraction) -> Part:
    return Part(meter, quantity, rate, round(quantity * rate))


def _search_block(usage: Usage, sheet: Sheet) -> list[Part]:
    """Return the block of input that a search bills, unless the reported input has room for it.

    OpenAI does not say whether `usage` counts the block. Where it fits in, it is taken as counted.
    """
    block = sheet.search_block * dict(usage.metered).get("web_search", 0)
    if usage.input_tokens >= block:
        return []
    return [_part("search_content", block, sheet.rates["input"])]


def _contracted(found: Price, sheet: Sheet) -> Price:
    """Return `found` with the same parts at negotiated rates, if any part has one."""
    used: dict[str, None] = {}
    parts: list[Part] = []
    for part in found.parts:
        negotiated = sheet.contract.get("input" if part.meter == "search_content" else part.meter)
        if negotiated:
            rate, name = negotiated
            used[name] = None
            parts.append(_part(part.meter, part.quantity, rate))
        else:
            parts.append(part)
    return found._replace(contracted=tuple(parts), overrides=tuple(used)) if used else found


def _with(found: Price, other: OtherModel, theirs: Price) -> Price:
    """Return `found` with the parts of another model that worked for the call."""

    def named(parts: tuple[Part, ...]) -> tuple[Part, ...]:
        return tuple(part._replace(meter=f"{other.label}_{part.meter}") for part in parts)

    contracted = found.contracted
    if contracted is not None or theirs.contracted is not None:
        contracted = (contracted or found.parts) + named(theirs.contracted or theirs.parts)
    joined = found._replace(
        parts=found.parts + named(theirs.parts),
        contracted=contracted,
        overrides=tuple(dict.fromkeys(found.overrides + theirs.overrides)),
    )
    if theirs.status is Status.PRICED:
        return joined
    return _unpriced(joined, f"{other.label}: {theirs.reason}")


def _unpriced(found: Price, why: str) -> Price:
    whys = [why] if found.status is Status.PRICED else [found.reason, why]
    return found._replace(status=Status.UNPRICED_COMPONENT, reason="; ".join(whys))
