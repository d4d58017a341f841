"""What `costspan reconcile show` prints: how the bill stands against the spans."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction

from costspan.money import plain
from costspan.pricing import Book
from costspan_collector.store import Store
from costspan_reconcile import queries
from costspan_reconcile.allocate.queries import allocated_days
from costspan_reconcile.amounts import kept
from costspan_reconcile.bottom_line import BottomLine, bottom_line
from costspan_reconcile.columns import UNKNOWN, aligned, percent, sentence, usd
from costspan_reconcile.explain import Verdict
from costspan_reconcile.period.month import Month
from costspan_reconcile.period.states import MonthRow, months
from costspan_reconcile.price_truth import Discount, FreeTokens, PriceChange, price_truth
from costspan_reconcile.queries import ClassRow, DayRow, LineItemRow, UninstrumentedKey
from costspan_reconcile.settings import Reconcile
from costspan_reconcile.standing import Standing, bill_standing
from costspan_reconcile.tolerances import Tolerances


@dataclass(frozen=True, slots=True)
class Ownership:
    """Whose the billed dollars are, of the days that are shared out."""

    billed_usd: Decimal
    unattributed_usd: Decimal
    is_alarm: bool
    """More is nobody's than is tolerated."""


@dataclass(frozen=True, slots=True)
class Statement:
    """The days of a range, and what they are made of."""

    standing: Standing
    verdict: Verdict
    bottom_line: BottomLine
    ownership: Ownership
    days: Sequence[DayRow]
    classes: Sequence[ClassRow]
    unclassified: Sequence[LineItemRow]
    uninstrumented_keys: Sequence[UninstrumentedKey]
    discounts: Sequence[Discount]
    price_changes: Sequence[PriceChange]
    free_tokens: Sequence[FreeTokens]
    months: Sequence[MonthRow]


def statement(
    store: Store,
    settings: Reconcile,
    tolerances: Tolerances,
    book: Book,
    since: date,
    until: date,
    now: datetime,
) -> Statement:
    """Return how the days in `since <= day < until` stand.

    Raises:
        Unavailable: the store did not answer.
    """
    items = queries.recon_line_items(store, since, until)
    whole, prices = bottom_line(store, since, until), price_truth(store, since, until, book)
    return Statement(
        standing=bill_standing(store, settings, now),
        verdict=whole.verdict(tolerances),
        bottom_line=whole,
        ownership=_ownership(store, tolerances, since, until),
        days=queries.recon_days(store, since, until)[::-1],
        classes=queries.recon_classes(store, since, until),
        unclassified=[row for row in items if "UNCLASSIFIED" in row.causes],
        uninstrumented_keys=queries.uninstrumented_keys(store, since, until),
        discounts=prices.discounts,
        price_changes=prices.changes,
        free_tokens=prices.free,
        months=[
            row for row in months(store) if row.month < until and Month(row.month).until > since
        ],
    )


def _ownership(store: Store, tolerances: Tolerances, since: date, until: date) -> Ownership:
    days = [day for day in allocated_days(store, since, until) if day.allocated_usd is not None]
    billed = _sum(day.allocated_usd for day in days)
    nobodys = _sum(day.unattributed_usd for day in days)
    is_alarm = nobodys > Fraction(tolerances.unattributed_share) * billed
    return Ownership(kept(billed), kept(nobodys), is_alarm)


def statement_lines(found: Statement) -> list[str]:
    """Return it for a person; amounts are USD, to six places."""
    lines = _sentences(found.standing.lines())
    if not found.days:
        return [*lines, "nothing is reconciled in these days; run `costspan reconcile run`"]
    lines += ["", *_days(found.days), *_sentences(_whole(found)), "", *_classes(found)]
    notes = _sentences([*_owners(found.ownership), *_unknown(found), *_prices(found)])
    if notes:
        lines += ["", *notes]
    if found.months:
        lines += ["", *month_lines(found.months)]
    return lines


def _sentences(texts: Iterable[str]) -> list[str]:
    return [line for text in texts for line in sentence(text)]


def _whole(found: Statement) -> Iterator[str]:
    """Say how the days stand together, and what is to be known of some."""
    line = found.bottom_line
    left_out = len(found.days) - len(_known(found.days))
    if left_out:
        yield f"days left out of the total, open or without a bill: {left_out}"
    missing = f", {line.missing_days} days never reconciled" if line.missing_days else ""
    yield (
        f"as a whole {found.verdict}{missing}: billed beyond the estimate {usd(line.above_usd)}, below it "
        f"{usd(abs(line.below_usd))}, not explained {usd(line.to_review_usd)}"
    )
    yield from (f"{day.day}: {day.reason}" for day in found.days if day.reason)


def _owners(found: Ownership) -> Iterator[str]:
    """Say how much is nobody's, where that is too much."""
    if found.is_alarm:
        share = percent(Fraction(found.unattributed_usd), Fraction(found.billed_usd))
        yield (
            f"{share} of what was billed is nobody's, {usd(found.unattributed_usd)}: instrument the "
            "keys below, or say who bears it in COSTSPAN_ALLOCATION_POLICY"
        )


def _unknown(found: Statement) -> Iterator[str]:
    """Say what is billed and not known, with what to do."""
    for key in found.uninstrumented_keys:
        name = f'"{key.key_name}" ({key.api_key_id})' if key.key_name else key.api_key_id
        yield (
            f"key {name} of {key.project_name or key.project} is not instrumented: "
            f"{usd(key.amount_usd)} billed from {key.first_day} to {key.last_day}"
        )
    for item in found.unclassified:
        yield f"line item {item.line_item!r} is not understood: {usd(item.billed_usd)} billed"


def _prices(found: Statement) -> Iterator[str]:
    """Say where the bill has other prices than the book."""
    for change in found.price_changes:
        yield (
            f"price of {change.line_item} from {change.since} on: {plain(kept(change.after_usd))} "
            f"a unit, it was {plain(kept(change.before_usd))} as in the price book"
        )
    for discount in found.discounts:
        yield (
            f"discount of {discount.off} from {discount.since} to {discount.last}: "
            f"{', '.join(discount.models)}"
        )
    for free in found.free_tokens:
        used_up = ", the whole pool" if free.is_whole_pool else ""
        yield f"free tokens of {free.pool} on {free.day}: {int(free.tokens):,}{used_up}"


def month_lines(rows: Sequence[MonthRow]) -> list[str]:
    """Return the table of months."""
    table = [
        (
            str(Month(row.month)),
            row.state,
            f"{row.final_days} of {len(Month(row.month).days)}",
            usd(row.billed_usd if row.state == "LOCKED" else row.ledger_usd),
            "-" if row.invoice_usd is None else usd(row.invoice_usd),
            f"{row.actor}, {row.at:%Y-%m-%d %H:%M} UTC" if row.at else "",
        )
        for row in rows
    ]
    return aligned(("month", "state", "final days", "billed", "invoice", ""), table, words=2)


def _days(days: Sequence[DayRow]) -> list[str]:
    rows = [
        (
            str(day.day),
            day.day_state,
            day.verdict,
            usd(day.billed_usd),
            usd(day.estimated_usd),
            usd(None if day.billed_usd is None else _difference(day)),
            UNKNOWN
            if day.billed_usd is None
            else percent(Fraction(day.captured_usd or 0), Fraction(day.billed_usd)),
            f"{day.unpriced_calls:,}",
        )
        for day in days
    ]
    known = _known(days)
    billed = _sum(day.billed_usd for day in known)
    rows.append(
        (
            "total",
            "",
            "",
            usd(billed),
            usd(_sum(day.estimated_usd for day in known)),
            usd(_sum(day.billed_usd for day in known) - _sum(day.estimated_usd for day in known)),
            percent(_sum(day.captured_usd for day in known), billed),
            f"{sum(day.unpriced_calls for day in known):,}",
        )
    )
    head = ("day", "state", "verdict", "billed", "estimated", "difference", "captured")
    return aligned((*head, "unpriced"), rows, words=3, total=True)


def _known(days: Iterable[DayRow]) -> list[DayRow]:
    """Return the days that are over and have a bill."""
    return [day for day in days if day.billed_usd is not None and day.day_state != "OPEN"]


def _classes(found: Statement) -> list[str]:
    closed = {day.day for day in _known(found.days)}
    if not closed:
        return ["no day is over and has a bill, so nothing is compared"]
    totals: defaultdict[str, Fraction] = defaultdict(Fraction)
    for row in found.classes:
        if row.day in closed:
            totals[row.cause] += Fraction(row.amount_usd)
    if not totals:
        return ["billed and estimated are equal to the last digit"]
    rows = [
        (cause, usd(amount)) for cause, amount in sorted(totals.items(), key=lambda of: -abs(of[1]))
    ]
    rows.append(("billed less estimated", usd(sum(totals.values(), Fraction(0)))))
    return aligned(("class", "USD"), rows, total=True)


def _difference(day: DayRow) -> Fraction:
    return Fraction(day.billed_usd or 0) - Fraction(day.estimated_usd)


def _sum(amounts: Iterable[Decimal | None]) -> Fraction:
    return sum((Fraction(amount or 0) for amount in amounts), Fraction(0))
