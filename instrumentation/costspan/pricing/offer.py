"""What the arguments of a call decide, compiled once: which rates hold, and until when.

A look-up of a call is then one `dict.get`. Rates are whole pico-dollars a unit wherever they can be.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, time, timedelta
from fractions import Fraction
from typing import NamedTuple

from costspan.counters import count
from costspan.pricing.book import ANY_MODEL, Book, Rates, RowKey
from costspan.pricing.cost import Price, Status

PAST_REVIEW = "price_past_review_by"
"""Counted when a promotional rate is used after the last day it was promised for."""


class Sheet(NamedTuple):
    """The rates of one kind of call, in pico-dollars a unit by meter."""

    path: str
    rates: Mapping[str, int | Fraction]
    contract: Mapping[str, tuple[int | Fraction, str]]
    """The negotiated rate and the name of its override, for the meters that have one."""
    search_block: int
    note: str = ""


class Offer(NamedTuple):
    """What holds for one model, tier and host in `valid_from <= t < valid_to`."""

    valid_from: datetime
    valid_to: datetime
    refusal: Price | None
    path: str
    is_free: bool = False
    long_above: int = 2**62
    short: Sheet | None = None
    long: Sheet | None = None


_TIERS = {
    None: "standard",
    "": "standard",
    "default": "standard",
    "standard": "standard",
    "priority": "priority",
    "fast": "priority",
    "flex": "flex",
    "batch": "batch",
    "ultrafast": "ultrafast",
}
_TOKENS = frozenset({
    "input", "cached_input", "cache_write_30m", "cache_write_12h", "output",
    "audio_input", "cached_audio_input", "audio_output",
    "image_input", "cached_image_input", "image_output", "decision_input",
})  # fmt: skip
"""The meters that a region's factor holds for."""
_SINCE_EVER = datetime.min.replace(tzinfo=UTC)
_FOR_EVER = datetime.max.replace(tzinfo=UTC)
_DAY = timedelta(days=1)
_MOST_OFFERS = 4_096
_offers: dict[tuple[str, str, str | None, str, bool, str | None], Offer] = {}


def offer_for(
    book: Book,
    model: str,
    tier: str | None,
    host: str,
    batch: bool,
    project: str | None,
    at: datetime,
) -> Offer:
    """Return what holds for such a call at `at`; compiled at first, then looked up."""
    key = (book.version, model, tier, host, batch, project if book.overrides else None)
    offer = _offers.get(key)
    if offer is None or not offer.valid_from <= at < offer.valid_to:
        offer = _compile(book, model, "batch" if batch else tier, host, project, at)
        if len(_offers) >= _MOST_OFFERS:
            _offers.clear()
        _offers[key] = offer
    return offer


def _compile(
    book: Book, model: str, tier: str | None, host: str, project: str | None, at: datetime
) -> Offer:
    served, name = _TIERS.get(tier), book.canonical(model, at)
    path = "/".join(filter(None, (name or model, served or tier)))

    def refused(status: Status, why: str) -> Offer:
        refusal = Price(status, (), book.version, path, why)
        return Offer(at, at + _DAY, refusal, path)  # a dated snapshot may be known tomorrow

    if tier == "scale":
        why = "scale tier is prepaid, a call has no price of its own"
        return refused(Status.PREPAID_TIER, why)
    if name is None:
        return refused(Status.UNKNOWN_MODEL, f"the book has no model {model!r}")
    if served is None:
        return refused(Status.UNKNOWN_TIER, f"the book has no tier {tier!r}")
    keys: tuple[RowKey, ...] = (
        (name, served, "short"),
        (name, served, "long"),
        (name, "any", "any"),
        (ANY_MODEL, "any", "any"),
    )
    short, long, own, tools = (book.rates(*key, at) for key in keys)
    if short is None and served == "standard":
        short = own  # a model without tiers, such as a video model
    valid_from, valid_to = _valid(book, keys, at)
    late = _past_review((short, long), at)
    region = host if name in book.region_models and book.region_hosts.fullmatch(host) else ""
    sheets = {
        context: _sheet(
            book, (name, served, context, region), (tools, own, rates), model, project, at
        )._replace(note=late)
        for context, rates in (("short", short), ("long", long))
        if rates is not None
    }
    return Offer(
        valid_from=valid_from,
        valid_to=valid_to,
        refusal=None,
        path=path,
        is_free=name in book.free,
        long_above=book.long_context_above.get(name, 2**62),
        short=sheets.get("short"),
        long=sheets.get("long"),
    )


def _valid(book: Book, keys: Iterable[RowKey], at: datetime) -> tuple[datetime, datetime]:
    """Return the span of time around `at` in which nothing that was looked at changes."""
    changes = [_SINCE_EVER, _FOR_EVER]
    for key in keys:
        for row in book.rows.get(key, ()):
            changes += row.valid_from, row.valid_to
            if row.review_by:
                changes.append(datetime.combine(row.review_by + _DAY, time(), UTC))
    for override in book.overrides:
        changes += override.valid_from, override.valid_to
    return max(t for t in changes if t <= at), min(t for t in changes if t > at)


def _sheet(
    book: Book,
    where: tuple[str, str, str, str],
    found: tuple[Rates | None, ...],
    model: str,
    project: str | None,
    at: datetime,
) -> Sheet:
    name, tier, context, region = where
    listed: dict[str, Fraction] = {}
    for rates in found:
        listed |= rates.pico if rates else {}
    if name in book.free_cache_writes and "input" in listed:
        listed |= dict.fromkeys(("cache_write_30m", "cache_write_12h"), listed["input"])
    if region:
        listed |= {
            meter: rate * book.region_factor for meter, rate in listed.items() if meter in _TOKENS
        }
    contract: dict[str, tuple[int | Fraction, str]] = {}
    for meter, rate in listed.items():
        for override in book.overrides:  # the last one that fits holds
            if override.covers({name, model}, tier, meter, project, at):
                contract[meter] = (_whole(override.rate(rate)), override.name)
    return Sheet(
        path="/".join(filter(None, (name, tier, context, region.partition(".")[0]))),
        rates={meter: _whole(rate) for meter, rate in listed.items()},
        contract=contract,
        search_block=book.search_block.get(name, 0),
    )


def _past_review(found: Iterable[Rates | None], at: datetime) -> str:
    """Return a remark about a promotion that nobody has promised for as long as until `at`."""
    reviews = {rates.review_by for rates in found if rates and rates.review_by}
    late = min((day for day in reviews if at.date() > day), default=None)
    if late is None:
        return ""
    count(PAST_REVIEW)
    return f"the rate was promised until {late}; look at the price again"


def _whole(rate: Fraction) -> int | Fraction:
    return rate.numerator if rate.denominator == 1 else rate
