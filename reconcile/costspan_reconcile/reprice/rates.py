"""What the engine multiplies by: the exact prices of each kind of call, taken from the price engine.

A price is linear in the quantities, so one call of a kind tells the rates of all. Everything that
is not (tiers, long context, segments in time) is resolved here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from fractions import Fraction
from typing import NamedTuple
from uuid import UUID

from costspan.errors import Rejected
from costspan.pricing import Book, Part, Price, Status, price
from costspan.pricing.offer import offer_for
from costspan.quantities import INPUT, flat, whole
from costspan.usage import Usage

_LIST_HOST = "api.openai.com"
_SEARCH_REQUEST, _SEARCH_CONTENT = "search_request", "search_content"
_MANY_SEARCHES = 10**12
"""So many that their blocks of input have no room in any input."""
_MOST_DIGITS = 38
"""Of a numerator or denominator: with them no product in the engine leaves 256 bits."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Calls whose price depends on the same things, time set aside."""

    kind: str
    model: str
    tier: str
    host: str
    project: str
    has_usage: bool
    meters: tuple[str, ...]
    buckets: tuple[int, ...]
    """For each worker, in order of name, how many thresholds its input is longer than."""
    first: datetime
    last: datetime


class Term(NamedTuple):
    """One term of a cost: pico-dollars for `per` units of `meter`, at list and negotiated."""

    meter: str
    part: str
    list_pico: int
    list_per: int
    pico: int
    per: int


@dataclass(frozen=True, slots=True)
class Rates:
    """A row of `reprice_rates`."""

    run_id: UUID
    kind: bytes
    valid_from: datetime
    status: str
    book: str
    path: str
    overrides: tuple[str, ...]
    search_block: int
    terms: tuple[Term, ...]


def thresholds(book: Book) -> list[int]:
    """Return the lengths of input at which a price changes."""
    return sorted(set(book.long_context_above.values()))


def rates(kind: Kind, book: Book, run_id: UUID) -> Iterator[Rates]:
    """Yield what holds for the calls of a kind, from each moment at which it changes.

    Raises:
        Rejected: a rate has more digits than the engine can multiply exactly.
    """
    usage = _sample(kind, thresholds(book)) if kind.has_usage else None
    at, before = kind.first, None
    while at <= kind.last:
        found = price(
            usage,
            model=kind.model,
            at=at,
            tier=kind.tier or None,
            host=kind.host or _LIST_HOST,
            batch=kind.tier == "batch",
            book=book,
            project=kind.project or None,
        )
        resolved = _resolved(found, usage or Usage(0, 0), kind, at, run_id)
        if before is None or replace(resolved, valid_from=before.valid_from) != before:
            yield resolved
            before = resolved
        at = _until(kind, usage, at, book)


def _sample(kind: Kind, lengths: Sequence[int]) -> Usage:
    """Return a call of the kind: one unit of each meter, in the context of the kind."""
    workers = sorted({meter.rpartition("/")[0] for meter in kind.meters})
    least = {
        worker: lengths[bucket - 1] + 1 if bucket else 1
        for worker, bucket in zip(workers, kind.buckets, strict=True)
    }
    counts: dict[str, int | Fraction] = {}
    for meter in kind.meters:
        worker, _, name = meter.rpartition("/")
        counts[meter] = least.pop(worker, 1) if name in INPUT else 1
    if "web_search" in counts:
        counts["web_search"] = _MANY_SEARCHES
    return whole(counts)


def _resolved(found: Price, usage: Usage, kind: Kind, at: datetime, run_id: UUID) -> Rates:
    terms: list[Term] = []
    block = 0
    if found.status is Status.PRICED:
        meters = iter(flat(usage))
        for listed, paid in zip(found.parts, found.contracted or found.parts, strict=True):
            if listed.meter == _SEARCH_REQUEST:
                meter = ""
            elif listed.meter == _SEARCH_CONTENT:
                meter, block = _SEARCH_CONTENT, int(listed.quantity) // _MANY_SEARCHES
            else:
                meter = next(meters)
            terms.append(Term(meter, listed.meter, *_ratio(listed), *_ratio(paid)))
    return Rates(
        run_id=run_id,
        kind=bytes.fromhex(kind.kind),
        valid_from=at,
        status=found.status,
        book=found.book,
        path=found.path,
        overrides=tuple(sorted(found.overrides)),
        search_block=block,
        terms=tuple(terms),
    )


def _ratio(part: Part) -> tuple[int, int]:
    pico, per = Fraction(part.pico_per_unit).as_integer_ratio()
    if max(pico, per) >= 10**_MOST_DIGITS:
        msg = (
            f"the price of {part.meter} has more than {_MOST_DIGITS} digits; "
            "write the override that makes it with fewer"
        )
        raise Rejected(msg)
    return pico, per


def _until(kind: Kind, usage: Usage | None, at: datetime, book: Book) -> datetime:
    """Return the first moment after `at` at which any price that was looked up may be another."""
    batch, host, project = kind.tier == "batch", kind.host or _LIST_HOST, kind.project or None
    offers = [
        offer_for(book, kind.model, kind.tier or None, host, batch, project, at),
        *(
            offer_for(book, other.model, None, host, batch, project, at)
            for other in (usage.others if usage else ())
        ),
    ]
    midnight = datetime.combine(at.date() + timedelta(days=1), time(), UTC)
    return min(midnight if offer.refusal else offer.valid_to for offer in offers)
