"""Say why the bill and the estimate differ: three exact parts, and one class for every dollar.

    billed - estimated = (U - Qe) * Pe    coverage: tokens the provider saw and the spans did not
                       + (Qb - U) * Pe    metering: the bill counts other than the Usage API
                       + (B - Pe * Qb)    rate:     the bill has another price than we have

B billed dollars, Qb billed quantity, U the Usage API's, Qe the spans', Pe our price of a unit.
The last part is what is left, so the sum holds to the last digit.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from fractions import Fraction

from costspan.money import PICO_PER_USD
from costspan.pricing import Book
from costspan_reconcile.amounts import dollars, step
from costspan_reconcile.line_items import Form, LineItem
from costspan_reconcile.match import Line

WINDOW = timedelta(days=7)
"""A key that no span carries for so long before and after a day is not instrumented."""
SETTLED_AFTER = timedelta(hours=72)
STABLE_FOR = timedelta(hours=24)
LINE_TOLERANCE_USD, LINE_TOLERANCE_SHARE = Fraction(1, 100), Fraction(1, 100)
DAY_TOLERANCE_USD, DAY_TOLERANCE_SHARE = Fraction(1), Fraction(1, 100)


class DayState(StrEnum):
    """How settled the bill of a day is."""

    OPEN = "OPEN"
    PROVISIONAL = "PROVISIONAL"
    FINAL = "FINAL"


class Class(StrEnum):
    """Why dollars differ."""

    MATCHED = "MATCHED"
    UNINSTRUMENTED_KEY = "UNINSTRUMENTED_KEY"
    SERVICE_FEE = "SERVICE_FEE"
    PLATFORM_SURFACE = "PLATFORM_SURFACE"
    MISSING_SPANS = "MISSING_SPANS"
    SURPLUS_SPANS = "SURPLUS_SPANS"
    UNPRICED_CALLS = "UNPRICED_CALLS"
    METERING = "METERING"
    RATE = "RATE"
    UNSPLIT = "UNSPLIT"
    UNCLASSIFIED = "UNCLASSIFIED"
    AWAITING_PROVIDER = "AWAITING_PROVIDER"
    OPEN = "OPEN"


class Verdict(StrEnum):
    """What a person has to do about it: nothing, unless it says review."""

    OPEN = "OPEN"
    AWAITING = "AWAITING"
    MATCHED = "MATCHED"
    EXPLAINED = "EXPLAINED"
    REVIEW = "REVIEW"
    BLOCKED = "BLOCKED"


_KNOWN_CAUSES = frozenset({Class.UNINSTRUMENTED_KEY, Class.SERVICE_FEE, Class.PLATFORM_SURFACE})


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What has to be known of a day to judge its lines."""

    day: date
    state: DayState
    settled: bool
    """More than 72 hours have passed since the day ended."""
    instrumented: frozenset[tuple[str, str]]
    """(project, key id) that a span carries within a week of the day."""
    unnamed: Mapping[str, tuple[str, ...]]
    """Hints, by project, of keys in spans within a week that belong to no single listed key."""
    key_names: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Component:
    """A part of a difference and its class."""

    component: str
    cause: Class
    usd: Fraction


@dataclass(frozen=True, slots=True)
class Explained:
    """A line with its difference taken apart. A part that is None is inside another."""

    line: Line
    unit_price: Fraction | None
    coverage: Fraction | None
    metering: Fraction | None
    rate: Fraction | None
    unsplit: Fraction | None
    components: tuple[Component, ...]
    verdict: Verdict
    text: str

    @property
    def cause(self) -> Class:
        """Return the class of the largest component."""
        largest = max(self.components, key=lambda part: abs(part.usd), default=None)
        return largest.cause if largest else Class.MATCHED


def day_state(
    day: date, now: datetime, readings: list[tuple[datetime, str]]
) -> tuple[DayState, bool]:
    """Return the state of `day` and whether 72 hours have passed since it ended.

    `readings` are the times and content hashes of the good readings, oldest first. The bill has
    no published date of finality: it is final when it has stopped changing.
    """
    end = datetime.combine(day, time.min, UTC) + timedelta(days=1)
    if now < end:
        return DayState.OPEN, False
    settled = now >= end + SETTLED_AFTER
    same: list[datetime] = []
    for fetched_at, content in reversed(readings):
        if content != readings[-1][1]:
            break
        same.append(fetched_at)
    stable = bool(same) and same[0] - same[-1] >= STABLE_FOR
    return (DayState.FINAL if settled and stable else DayState.PROVISIONAL), settled


def book_price(item: LineItem, day: date, book: Book, project: str = "") -> Fraction | None:
    """Return the price in dollars of one unit of `item` on `day`, None where we know none.

    It is the list price, or what was negotiated for the project.
    """
    meter = {
        ("text", "input"): "input",
        ("text", "cached_input"): "cached_input",
        ("text", "cache_write"): "cache_write_30m",
        ("text", "output"): "output",
        ("audio", "input"): "audio_input",
        ("audio", "output"): "audio_output",
        ("image", "input"): "image_input",
        ("image", "output"): "image_output",
    }.get((item.modality, item.kind))
    if item.form is not Form.TOKENS or item.surface or meter is None:
        return None
    name = book.canonical(f"{'ft:' if item.fine_tuned else ''}{item.name}")
    at = datetime.combine(day, time.min, UTC)
    rates = book.rates(name, item.tier, item.context, at) if name else None
    if name is None or rates is None or meter not in rates.pico:
        return None
    longer = rates.pico.get("cache_write_12h")
    if meter == "cache_write_30m" and longer not in {None, rates.pico[meter]}:
        return None  # the bill does not say how long the cache was kept
    pico = rates.pico[meter]
    for override in book.overrides:  # the last one that fits holds
        if override.covers({name}, item.tier, meter, project or None, at):
            pico = override.rate(rates.pico[meter])
    return pico / PICO_PER_USD


def explain(line: Line, around: Surroundings, book: Book) -> Explained:
    """Take the difference of a line apart and give every dollar of it a class."""
    price = _unit_price(line, around.day, book)
    coverage, metering, rate, unsplit = _parts(line, price)
    whole = _whole(line, around)
    if whole is not None:
        components = (Component("whole", whole, line.billed - line.estimated),)
    else:
        components = _components(line, price, coverage, metering, rate, unsplit)
    components = tuple(part for part in components if part.usd)
    return Explained(
        line,
        price,
        coverage,
        metering,
        rate,
        unsplit,
        components,
        _verdict(line, components),
        _text(line, price, components, around),
    )


def day_verdict(state: DayState, lines: list[Explained]) -> Verdict:
    """Return the verdict of a day from its lines, within the tolerances of a day."""
    if state is DayState.OPEN:
        return Verdict.OPEN
    billed = sum((line.line.billed for line in lines), Fraction(0))
    parts = [part for line in lines for part in line.components]
    if parts and not billed and all(part.cause is Class.AWAITING_PROVIDER for part in parts):
        return Verdict.AWAITING
    review = sum(
        (
            abs(part.usd)
            for line in lines
            if line.verdict is Verdict.REVIEW
            for part in line.components
        ),
        Fraction(0),
    )
    if _beyond(review, billed, DAY_TOLERANCE_USD, DAY_TOLERANCE_SHARE):
        return Verdict.REVIEW
    if any(line.verdict is Verdict.AWAITING for line in lines):
        return Verdict.AWAITING
    known = any(line.verdict is Verdict.EXPLAINED for line in lines)
    return Verdict.EXPLAINED if known else Verdict.MATCHED


def _unit_price(line: Line, day: date, book: Book) -> Fraction | None:
    """Return the price the estimate was made with; the book's where nothing was estimated."""
    spans = line.spans
    if spans and spans.usd is not None and spans.priced_quantity:
        return spans.usd / spans.priced_quantity
    return book_price(line.item, day, book, line.project)


_Parts = tuple[Fraction | None, Fraction | None, Fraction | None, Fraction | None]


def _parts(line: Line, price: Fraction | None) -> _Parts:
    """Return coverage, metering, rate and unsplit; those that are not None sum to the difference."""
    difference = line.billed - line.estimated
    counted = line.spans.priced_quantity if line.spans else 0
    quantity = line.bill.quantity if line.bill else Fraction(0)
    usage = line.usage_quantity
    if price is None or counted is None or (quantity is None and usage is None):
        return None, None, None, difference
    if quantity is None or usage is None:
        seen = quantity if usage is None else Fraction(usage)
        coverage = step(((seen or 0) - counted) * price)
        rest = difference - coverage
        return (coverage, None, rest, None) if usage is None else (coverage, None, None, rest)
    coverage = step((usage - counted) * price)
    metering = step((quantity - usage) * price)
    return coverage, metering, difference - coverage - metering, None


def _whole(line: Line, around: Surroundings) -> Class | None:
    """Return the class of a line whose difference has one cause as a whole."""
    if around.state is DayState.OPEN:
        return Class.OPEN
    if line.bill is None and not around.settled:
        return Class.AWAITING_PROVIDER
    if line.item.form is Form.UNCLASSIFIED:
        return Class.UNCLASSIFIED
    if line.item.form is Form.SERVICE:
        return Class.SERVICE_FEE
    if line.item.surface:
        return Class.PLATFORM_SURFACE
    if (
        line.spans is None
        and line.api_key_id
        and (line.project, line.api_key_id) not in around.instrumented
        and line.project not in around.unnamed
    ):
        return Class.UNINSTRUMENTED_KEY
    return None


def _components(
    line: Line,
    price: Fraction | None,
    coverage: Fraction | None,
    metering: Fraction | None,
    rate: Fraction | None,
    unsplit: Fraction | None,
) -> tuple[Component, ...]:
    parts: list[Component] = []
    if coverage is not None:
        spans = line.spans
        unpriced = Fraction(0)
        if spans and price is not None and spans.quantity and spans.priced_quantity is not None:
            unpriced = step((spans.quantity - spans.priced_quantity) * price)
        missing = coverage - unpriced
        cause = Class.MISSING_SPANS if missing > 0 else Class.SURPLUS_SPANS
        parts.append(Component("coverage", Class.UNPRICED_CALLS, unpriced))
        parts.append(Component("coverage", cause, missing))
    parts.append(Component("metering", Class.METERING, metering or Fraction(0)))
    parts.append(Component("rate", Class.RATE, rate or Fraction(0)))
    if unsplit is not None:
        cause = Class.UNSPLIT
        if line.spans is None:
            cause = Class.MISSING_SPANS
        elif line.spans.usd is None:
            cause = Class.UNPRICED_CALLS
        parts.append(Component("unsplit", cause, unsplit))
    return tuple(parts)


def _verdict(line: Line, components: tuple[Component, ...]) -> Verdict:
    causes = {part.cause for part in components}
    if Class.OPEN in causes:
        return Verdict.OPEN
    if Class.AWAITING_PROVIDER in causes:
        return Verdict.AWAITING
    difference = sum((part.usd for part in components), Fraction(0))
    both = line.bill is not None and line.spans is not None
    within = not _beyond(difference, line.billed, LINE_TOLERANCE_USD, LINE_TOLERANCE_SHARE)
    if not components or (both and within):
        return Verdict.MATCHED
    return Verdict.EXPLAINED if causes <= _KNOWN_CAUSES else Verdict.REVIEW


def _beyond(amount: Fraction, whole: Fraction, least: Fraction, share: Fraction) -> bool:
    """Return whether `amount` is more than both tolerances allow."""
    return abs(amount) > least and abs(amount) > share * abs(whole)


def _text(
    line: Line,
    price: Fraction | None,
    components: tuple[Component, ...],
    around: Surroundings,
) -> str:
    sentences = [_sentence(part, line, around) for part in components]
    if not sentences:
        sentences = ["Billed and estimated are equal to the last digit."]
    if line.level == "M2":
        sentences.append("Compared by family: the bill and the spans name the model differently.")
    if line.level == "M3":
        which = f" ({', '.join(line.pooled_keys)})" if line.pooled_keys else ""
        sentences.append(f"Compared for the project as a whole{which}: the key is not known.")
    if line.spans and line.spans.unpriced_calls and price is None:
        sentences.append(f"{line.spans.unpriced_calls} calls have no price.")
    return " ".join(sentences)


def _sentence(part: Component, line: Line, around: Surroundings) -> str:
    amount, cause = dollars(part.usd), part.cause
    key = around.key_names.get(line.api_key_id, "")
    named = f'"{key}" ({line.api_key_id})' if key else line.api_key_id or "no key"
    billed = line.bill.quantity if line.bill else None
    seen = line.usage_quantity if line.usage_quantity is not None else billed
    spans = line.spans.quantity if line.spans else 0
    if cause is Class.UNINSTRUMENTED_KEY:
        first, last = around.day - WINDOW, around.day + WINDOW
        return (
            f"{amount} went to key {named}, which no span carries from {first} to {last}: "
            "add `import costspan.auto` to the program that uses it."
        )
    if (
        cause in {Class.MISSING_SPANS, Class.SURPLUS_SPANS}
        and seen is not None
        and spans is not None
    ):
        more = "fewer" if cause is Class.MISSING_SPANS else "more"
        hints = around.unnamed.get(line.project, ())
        why = (
            f" Spans with key hint {', '.join(hints)} belong to no single listed key."
            if hints
            else ""
        )
        return (
            f"{amount}: the spans hold {_count(spans)} tokens, {more} than the "
            f"{_count(seen)} that OpenAI counted for {named}.{why}"
        )
    return _SENTENCES[cause].format(
        amount=amount, named=named, what=line.item.surface or line.line_item
    )


def _count(value: Fraction | int) -> str:
    whole = Fraction(value)
    return f"{whole.numerator:,}" if whole.denominator == 1 else f"{float(whole):,.3f}"


_SENTENCES = {
    Class.OPEN: "{amount} so far: the day is not over, so this is no verdict.",
    Class.AWAITING_PROVIDER: "{amount}: not on the bill yet; OpenAI may take days.",
    Class.UNCLASSIFIED: "{amount} for {what!r}, a line item that is not understood.",
    Class.SERVICE_FEE: "{amount} for {what}, a fee that is not priced by tokens.",
    Class.PLATFORM_SURFACE: "{amount} was used through {what}, not through a traced program.",
    Class.MISSING_SPANS: "{amount} was billed for {named} and no span of it is here.",
    Class.SURPLUS_SPANS: "{amount}: the spans hold more than was billed.",
    Class.UNPRICED_CALLS: "{amount}: these calls were seen, but have no price.",
    Class.METERING: "{amount}: the bill counts other tokens than OpenAI's own Usage endpoint.",
    Class.RATE: "{amount}: the bill has another price for a unit than our price book.",
    Class.UNSPLIT: "{amount}: a quantity or a price is missing, so the cause cannot be told apart.",
}
