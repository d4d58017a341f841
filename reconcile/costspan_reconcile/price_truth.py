"""What a unit really costs: billed dollars by billed quantity, held against the price book.

It shows what no single line can: a price that changed and the day it did, a discount that holds
for many models, and tokens that cost nothing.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction

from costspan.pricing import Book
from costspan_collector.store import Store, load_sql
from costspan_reconcile.book_prices import TIERS, Prices
from costspan_reconcile.free_tokens import free_by_pool, is_whole_pool, pool_of
from costspan_reconcile.line_items import Form, LineItem, plain_units, read_line_item

SAME_PRICE = Fraction(1, 10**6)
SAME_DISCOUNT = Fraction(1, 1000)
"""Either way, as a share of the price."""
LEAST_MODELS, LEAST_DAYS = 3, 5
"""A discount holds for so many models, on so many days."""
DISCOUNT_WITHIN = timedelta(days=15)
CHANGE_WITHIN = timedelta(days=92)
"""So far back a change of a price is looked for. Later the price book should know it."""


@dataclass(frozen=True, slots=True)
class Paid:
    """What was billed for a line item on a day at one price."""

    day: date
    line_item: str
    quantity_unit: str
    amount_usd: Decimal
    quantity: Decimal
    projects: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UnitPrice:
    """What a unit of a line item cost on a day, and what the book says."""

    day: date
    line_item: str
    item: LineItem
    amount_usd: Fraction
    quantity: Fraction
    paid_usd: Fraction
    """For one unit."""
    book_usd: Fraction | None
    """None where the book has no price."""
    same_as: str
    """What else costs exactly that: a tier, or `residency`; '' where nothing else does."""
    projects: tuple[str, ...]

    @property
    def ratio(self) -> Fraction | None:
        """Return the paid price as a share of the book's."""
        return self.paid_usd / self.book_usd if self.book_usd else None


@dataclass(frozen=True, slots=True)
class Discount:
    """One share of the book's price that was paid for several models on several days."""

    share: Fraction
    """The one that is paid: 0.88 where 12 percent are off."""
    models: tuple[str, ...]
    since: date
    last: date

    @property
    def off(self) -> str:
        """Return what is off, in percent: `12 %`."""
        return f"{float(100 * (1 - self.share)):.4g} %"


@dataclass(frozen=True, slots=True)
class PriceChange:
    """A line item that was billed at the book's price until a day, and at another one from it on."""

    line_item: str
    since: date
    before_usd: Fraction
    after_usd: Fraction


@dataclass(frozen=True, slots=True)
class FreeTokens:
    """Tokens of a day that are on the bill, by the models of one pool, and were not paid for."""

    day: date
    pool: str
    tokens: Fraction
    is_whole_pool: bool
    """They are as many as a pool has, so it was used up."""


@dataclass(frozen=True, slots=True)
class PriceTruth:
    """What the bill says of prices, in order of days."""

    prices: tuple[UnitPrice, ...]
    discounts: tuple[Discount, ...]
    changes: tuple[PriceChange, ...]
    free: tuple["FreeTokens", ...]


def price_truth(store: Store, since: date, until: date, book: Book) -> PriceTruth:
    """Return what the bill of `since <= day < until` says of prices."""
    prices = unit_prices(paid_prices(store, since, until), Prices(book))
    found = discounts(prices)
    return PriceTruth(prices, found, changes(prices), free_tokens(prices, found))


def paid_prices(store: Store, since: date, until: date) -> list[Paid]:
    """Return what was billed with a quantity, by day, line item and price."""
    sql = load_sql("costspan_reconcile", "price_truth")
    return store.select(sql, Paid, since=since, until=until)


def unit_prices(paid: Iterable[Paid], prices: Prices) -> tuple[UnitPrice, ...]:
    """Return the price of a unit of each line item that has one, by day."""
    found: list[UnitPrice] = []
    for row in paid:
        item = read_line_item(row.line_item, row.quantity_unit)
        amount = Fraction(row.amount_usd)
        units, _ = plain_units(item, row.quantity, row.quantity_unit)
        if item.form is Form.UNCLASSIFIED or units is None:
            continue
        book_usd = prices.of(item, row.day)
        paid_usd = amount / units
        if book_usd and abs(paid_usd - book_usd) <= book_usd * SAME_PRICE:
            paid_usd = book_usd
        same_as = "" if paid_usd == book_usd else _other_name(paid_usd, item, row.day, prices)
        found.append(
            UnitPrice(
                row.day,
                row.line_item,
                item,
                amount,
                units,
                paid_usd,
                book_usd,
                same_as,
                row.projects,
            )
        )
    return tuple(found)


def _other_name(paid_usd: Fraction, item: LineItem, day: date, prices: Prices) -> str:
    for tier in TIERS:
        price = prices.of(replace(item, tier=tier), day)
        if price is not None and item.form is Form.TOKENS and _same(paid_usd, price):
            return tier
    factor, listed = prices.residency(item, day), prices.of(item, day)
    resident = factor and listed and _same(paid_usd, listed * factor)
    return "residency" if resident else ""


def discounts(prices: Iterable[UnitPrice]) -> tuple[Discount, ...]:
    """Return the shares of the book's price that were paid for many models, on many days.

    What is the price of another tier, or the surcharge of a region, is no discount.
    """
    ratios = sorted(
        (ratio, one.item.model, one.day)
        for one in prices
        if not one.same_as and (ratio := one.ratio) and abs(ratio - 1) > SAME_DISCOUNT
    )
    found: list[Discount] = []
    start = 0
    while start < len(ratios):
        end = start
        while end < len(ratios) and ratios[end][0] <= ratios[start][0] * (1 + 2 * SAME_DISCOUNT):
            end += 1
        models = {model for _, model, _ in ratios[start:end]}
        days = {day for _, _, day in ratios[start:end]}
        if len(models) >= LEAST_MODELS and len(days) >= LEAST_DAYS:
            share = ratios[(start + end) // 2][0]
            found.append(Discount(share, tuple(sorted(models)), min(days), max(days)))
        start = end
    return tuple(found)


def changes(prices: Iterable[UnitPrice]) -> tuple[PriceChange, ...]:
    """Return the line items whose price left the book's on a day, and stayed at the new one since.

    Of several prices on a day the one counts at which the most was billed. One day is no witness.
    """
    by_item: defaultdict[str, dict[date, list[UnitPrice]]] = defaultdict(dict)
    for one in prices:
        if one.book_usd is not None and one.paid_usd:
            by_item[one.line_item].setdefault(one.day, []).append(one)
    found: list[PriceChange] = []
    for line_item, days in by_item.items():
        before: Fraction | None = None
        since: list[tuple[date, Fraction]] = []
        for day in sorted(days):
            if any(one.paid_usd == one.book_usd for one in days[day]):
                before, since = days[day][0].book_usd, []
                continue
            most = max(days[day], key=_quantity).paid_usd
            since = [*since, (day, most)] if since and _same(most, since[0][1]) else [(day, most)]
        if before is not None and len(since) >= _LEAST_DAYS_OF_A_PRICE:
            found.append(PriceChange(line_item, since[0][0], before, since[0][1]))
    return tuple(found)


def free_tokens(prices: Iterable[UnitPrice], known: Sequence[Discount]) -> tuple[FreeTokens, ...]:
    """Return the days on which tokens cost nothing at all, or a pool of them was used up."""
    by_day: defaultdict[date, list[UnitPrice]] = defaultdict(list)
    for one in prices:
        if one.book_usd and not is_discounted(one.paid_usd / one.book_usd, known):
            by_day[one.day].append(one)
    found: list[FreeTokens] = []
    for day, paid in sorted(by_day.items()):
        rows = [(one.item, one.quantity, one.amount_usd, one.book_usd or _NOTHING) for one in paid]
        nothing_paid = {pool_of(one.item) for one in paid if not one.paid_usd}
        for pool, tokens in sorted(free_by_pool(rows).items()):
            whole = is_whole_pool(tokens)
            if whole or pool in nothing_paid:
                found.append(FreeTokens(day, pool, tokens, whole))
    return tuple(found)


def is_discounted(ratio: Fraction, known: Iterable[Discount]) -> bool:
    """Return whether a share of the price is one that was agreed on."""
    return any(abs(ratio - discount.share) <= SAME_DISCOUNT for discount in known)


_NOTHING = Fraction(0)
_LEAST_DAYS_OF_A_PRICE = 2


def _quantity(one: UnitPrice) -> Fraction:
    return one.quantity


def _same(one: Fraction, other: Fraction) -> bool:
    return abs(one - other) <= SAME_PRICE * other
