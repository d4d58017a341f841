"""Hold the bill of each day against the spans, and keep the result."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from fractions import Fraction
from functools import cached_property
from uuid import UUID, uuid4

from costspan.pricing import Book, default_book
from costspan_collector.settings import read_settings
from costspan_collector.store import Store, load_sql
from costspan_reconcile.amounts import kept
from costspan_reconcile.book_prices import Prices
from costspan_reconcile.explain import (
    DayState,
    Explained,
    Parts,
    Place,
    Surroundings,
    Verdict,
    day_verdict,
    explain,
    parts,
    place,
)
from costspan_reconcile.facts import (
    DayFacts,
    Facts,
    Keys,
    billed,
    counted,
    estimated,
    name_key,
    read_facts,
    traffic,
)
from costspan_reconcile.free_tokens import free_by_pool, is_whole_pool
from costspan_reconcile.line_items import GRAMMAR
from costspan_reconcile.match import Estimated, Line, match
from costspan_reconcile.price_truth import (
    CHANGE_WITHIN,
    DISCOUNT_WITHIN,
    Discount,
    PriceChange,
    changes,
    discounts,
    is_discounted,
    unit_prices,
)
from costspan_reconcile.results import ReconRun, Results
from costspan_reconcile.tolerances import Tolerances

__all__ = ["Reconciled", "name_key", "reconcile_days"]

_ONE_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What one run did."""

    days: int
    changed: int
    blocked: int


@dataclass(frozen=True, slots=True)
class _Inputs:
    day: date
    inputs_sha256: str


def reconcile_days(
    store: Store,
    since: date,
    until: date,
    now: datetime,
    book: Book | None = None,
    tolerances: Tolerances | None = None,
) -> Reconciled:
    """Compare the days in `since <= day < until` that were ever read; write what changed.

    Equal inputs give an equal result, so a day whose inputs are those of its newest run is left.
    So are the days of a month that is locked, and those that were compared before their calls
    were dropped.
    """
    facts = read_facts(store, since, until)
    run = _Run(
        uuid4(), now, facts, Prices(book or default_book()), tolerances or read_settings(Tolerances)
    )
    before = {
        row.day: row.inputs_sha256
        for row in store.select(
            load_sql("costspan_reconcile", "recon_inputs"), _Inputs, since=since, until=until
        )
    }
    days = [day for day in facts.days if since <= day < until]
    left = facts.locked | (facts.dropped & before.keys())
    changed = blocked = 0
    for yesterday, today, tomorrow in run.days(min(days, default=since), max(days, default=since)):
        if today.facts.day not in days or today.facts.day in left:
            continue
        blocked += today.facts.blocked
        inputs = run.sha256(yesterday, today, tomorrow)
        if before.get(today.facts.day) != inputs:
            run.judge(yesterday, today, tomorrow, inputs)
            changed += 1
    run.results.write()
    return Reconciled(len(days), changed, blocked)


class _Day:
    """A day and what is computed of it, once and only where it is needed."""

    def __init__(self, facts: DayFacts, keys: Keys, prices: Prices) -> None:
        self.facts = facts
        self._keys = keys
        self._prices = prices

    @cached_property
    def sha256(self) -> str:
        return self.facts.sha256()

    @cached_property
    def spans(self) -> list[Estimated]:
        return [*estimated(self.facts.kinds, self._keys)]

    @cached_property
    def lines(self) -> list[tuple[Line, Parts]]:
        """Each line and its parts; none where there is no bill to compare with."""
        facts = self.facts
        if facts.good is None:
            return []
        lines = match(
            map(billed, facts.bill),
            self.spans,
            counted(facts.counts),
            keyed=facts.keyed,
            counts_all=facts.counts_all,
        )
        return [(line, parts(line, facts.day, self._prices)) for line in lines]

    def pools(self, known: Sequence[Discount]) -> frozenset[str]:
        """Return the pools of free tokens that the bill shows to be used up."""
        day = self.facts.day
        rows = [
            (line.item, Fraction(quantity), line.billed, price)
            for line, _ in self.lines
            if (quantity := _most(line)) and (price := self._prices.of(line.item, day))
            if not is_discounted(line.billed / (quantity * price), known)
        ]
        found = free_by_pool(rows)
        return frozenset(pool for pool, tokens in found.items() if is_whole_pool(tokens))

    @cached_property
    def coverage(self) -> Mapping[Place, Fraction]:
        """The coverage of each line that has any, in dollars."""
        return {place(line): found.coverage for line, found in self.lines if found.coverage}


class _Run:
    """One run over some days."""

    def __init__(
        self, run_id: UUID, now: datetime, facts: Facts, prices: Prices, tolerances: Tolerances
    ) -> None:
        self.results = Results(facts.store)
        self._run_id = run_id
        self._now = now
        self._facts = facts
        self._prices = prices
        self._tolerances = tolerances
        self._paid = unit_prices(facts.paid, prices)
        self._truth: tuple[date, tuple[Discount, ...], tuple[PriceChange, ...]] | None = None

    def days(self, first: date, last: date) -> Iterator[tuple[_Day, _Day, _Day]]:
        """Yield each day between those before and after it."""
        window: list[_Day] = []
        for facts in self._facts.of_days(first - _ONE_DAY, last + 2 * _ONE_DAY, self._now):
            window = [*window[-2:], _Day(facts, self._facts.keys, self._prices)]
            if len(window) == 3:
                yield window[0], window[1], window[2]

    def sha256(self, yesterday: _Day, today: _Day, tomorrow: _Day) -> str:
        """Return the hash of everything that the result of a day depends on, in a fixed order."""
        facts, keys = today.facts, self._facts.keys
        instrumented, unnamed = keys.around(facts.day)
        found_discounts, found_changes = self._prices_of(facts.day)
        dropped = facts.day in self._facts.dropped
        inputs = (
            (self._prices.book.version, GRAMMAR, self._tolerances.model_dump_json()),
            (facts.state, facts.settled, facts.blocked, facts.reason, dropped),
            today.sha256,
            [day.sha256 for day in self._comparable(yesterday, tomorrow)],
            (keys.listed, sorted(instrumented), unnamed),
            ([discount.share for discount in found_discounts], found_changes),
        )
        return hashlib.sha256(repr(inputs).encode()).hexdigest()

    def _comparable(self, *days: _Day) -> list[_Day]:
        """Return the days that can make up for calls at midnight."""
        return [
            day
            for day in days
            if day.facts.good
            and day.facts.state is not DayState.OPEN
            and day.facts.day not in self._facts.dropped
        ]

    def judge(self, yesterday: _Day, today: _Day, tomorrow: _Day, inputs_sha256: str) -> None:
        """Explain a day and add it to the results."""
        facts = today.facts
        dropped = facts.day in self._facts.dropped
        around = self._surroundings(yesterday, today, tomorrow)
        lines = (
            []
            if dropped
            else [explain(line, around, self._prices, found) for line, found in today.lines]
        )
        reason = facts.reason
        if dropped:
            reason = "the calls of this day were dropped by retention, so it is not compared"
        self.results.add(
            self._row(today, lines, reason, inputs_sha256, blocked=facts.blocked or dropped),
            lines,
            around,
        )

    def _row(
        self,
        today: _Day,
        lines: Sequence[Explained],
        reason: str,
        inputs_sha256: str,
        *,
        blocked: bool,
    ) -> ReconRun:
        facts, good = today.facts, today.facts.good
        verdict = Verdict.BLOCKED
        if not blocked:
            verdict = day_verdict(facts.state, lines, self._tolerances, awaited=facts.is_awaited)
        return ReconRun(
            run_id=self._run_id,
            day=facts.day,
            run_at=self._now,
            day_state=facts.state,
            verdict=verdict,
            reason=reason,
            price_book=self._prices.book.version,
            grammar=GRAMMAR,
            tolerances=self._tolerances.model_dump_json(),
            inputs_sha256=inputs_sha256,
            costs_fetch_id=good.fetch_id if good else None,
            costs_revision=good.revision if good else 0,
            usage_fetch_ids=tuple(reading.fetch_id for reading in facts.usage),
            billed_usd=kept(_sum(Fraction(line.amount_usd) for line in facts.bill))
            if good
            else None,
            estimated_usd=kept(_sum(spans.usd for spans in today.spans if spans.usd)),
            calls=sum(kind.calls for kind in facts.kinds),
            unpriced_calls=sum(kind.unpriced_calls for kind in facts.kinds),
        )

    def _surroundings(self, yesterday: _Day, today: _Day, tomorrow: _Day) -> Surroundings:
        facts, keys = today.facts, self._facts.keys
        instrumented, unnamed = self._facts.keys.around(facts.day)
        found_discounts, found_changes = self._prices_of(facts.day)
        around = Surroundings(
            facts.day,
            facts.state,
            facts.settled,
            instrumented,
            unnamed,
            keys.names,
            traffic(facts.kinds, facts.counts, keys),
            neighbours=_neighbours(today, self._comparable(yesterday, tomorrow)),
            discounts=found_discounts,
            changes=found_changes,
            pools=today.pools(found_discounts),
            tolerances=self._tolerances,
        )
        if any(usd < 0 for usd in today.coverage.values()):
            around = replace(around, repeated=self._facts.repeated(facts.day))
        return around

    def _prices_of(self, day: date) -> tuple[tuple[Discount, ...], tuple[PriceChange, ...]]:
        """Return the discounts and changed prices that may hold on a day."""
        if self._truth is None or self._truth[0] != day:
            near = [one for one in self._paid if abs(one.day - day) <= DISCOUNT_WITHIN]
            past = [one for one in self._paid if -DISCOUNT_WITHIN <= day - one.day <= CHANGE_WITHIN]
            found = (change for change in changes(past) if change.since <= day)
            self._truth = day, discounts(near), tuple(found)
        return self._truth[1], self._truth[2]


def _most(line: Line) -> Fraction | int:
    """Return the tokens that were used: as counted, or as billed where that is more."""
    billed_quantity = line.bill.quantity if line.bill else None
    return max(billed_quantity or 0, line.usage_quantity or 0)


def _neighbours(today: _Day, others: Sequence[_Day]) -> dict[Place, tuple[Fraction, ...]]:
    """Return the coverage of the same lines on other days, of the lines that have any."""
    return {
        where: tuple(day.coverage[where] for day in others if where in day.coverage)
        for where in today.coverage
    }


def _sum(amounts: Iterator[Fraction]) -> Fraction:
    return sum(amounts, Fraction(0))
