"""Hold the bill of each day against the spans, and keep the result."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction
from uuid import UUID, uuid4

from costspan.pricing import Book, default_book
from costspan_collector.store import Store, load_sql
from costspan_reconcile import ledger
from costspan_reconcile.amounts import kept
from costspan_reconcile.explain import (
    WINDOW,
    DayState,
    Explained,
    Surroundings,
    Verdict,
    day_state,
    day_verdict,
    explain,
)
from costspan_reconcile.ledger import COSTS, BilledLine, ProviderUsage, Reading
from costspan_reconcile.line_items import (
    GRAMMAR,
    Form,
    LineItem,
    read_line_item,
    usage_item,
)
from costspan_reconcile.match import Billed, Counted, Estimated, match
from costspan_reconcile.openai_costs import ApiKey

_PACKAGE = "costspan_reconcile"


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the spans of one day, project, key hint, model, tier and context hold on one meter."""

    day: date
    project: str
    key_hint: str
    model: str
    tier: str
    context: str
    meter: str
    calls: int
    uncounted_calls: int
    unpriced_calls: int
    quantity: int
    priced_quantity: int
    estimated_usd: Decimal


@dataclass(frozen=True, slots=True)
class ReconRun:
    """A row of `recon_runs`."""

    run_id: UUID
    day: date
    run_at: datetime
    day_state: str
    verdict: str
    reason: str
    price_book: str
    grammar: str
    inputs_sha256: str
    costs_fetch_id: UUID | None
    costs_revision: int
    usage_fetch_ids: tuple[UUID, ...]
    billed_usd: Decimal | None
    estimated_usd: Decimal
    calls: int
    unpriced_calls: int


@dataclass(frozen=True, slots=True)
class ReconLine:
    """A row of `recon_lines`."""

    run_id: UUID
    day: date
    project: str
    api_key_id: str
    line_item: str
    match_level: str
    billed_usd: Decimal
    billed_quantity: Decimal | None
    quantity_unit: str
    usage_quantity: Decimal | None
    estimated_quantity: Decimal | None
    unit_price_usd: Decimal | None
    estimated_usd: Decimal | None
    calls: int
    unpriced_calls: int
    coverage_usd: Decimal | None
    metering_usd: Decimal | None
    rate_usd: Decimal | None
    unsplit_usd: Decimal | None
    cause: str
    verdict: str
    day_state: str
    explanation: str


@dataclass(frozen=True, slots=True)
class ReconComponent:
    """A row of `recon_components`."""

    run_id: UUID
    day: date
    project: str
    api_key_id: str
    line_item: str
    component: str
    cause: str
    amount_usd: Decimal


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


@dataclass(frozen=True, slots=True)
class _KeySeen:
    day: date
    project: str
    key_hint: str
    calls: int


@dataclass(frozen=True, slots=True)
class _Calls:
    day: date
    calls: int
    unpriced_calls: int


@dataclass(frozen=True, slots=True)
class _Facts:
    """Everything read for a stretch of days."""

    readings: Mapping[tuple[str, date], Sequence[Reading]]
    bill: Mapping[date, Sequence[BilledLine]]
    usage: Mapping[date, Sequence[ProviderUsage]]
    estimates: Mapping[date, Sequence[Estimate]]
    seen: Sequence[_KeySeen]
    calls: Mapping[date, _Calls]
    keys: Sequence[ApiKey]


def reconcile_days(
    store: Store, since: date, until: date, now: datetime, book: Book | None = None
) -> Reconciled:
    """Compare the days in `since <= day < until` that were ever read; write what changed.

    Equal inputs give an equal result, so a day whose inputs are those of its newest run is left.
    """
    book = book or default_book()
    facts = _read(store, since, until)
    before = {
        row.day: row.inputs_sha256
        for row in store.select(
            load_sql(_PACKAGE, "recon_inputs"), _Inputs, since=since, until=until
        )
    }
    run_id = uuid4()
    days = sorted(day for source, day in facts.readings if source == COSTS)
    runs: list[ReconRun] = []
    lines: list[ReconLine] = []
    components: list[ReconComponent] = []
    blocked = 0
    for day in days:
        gathered = _gather(facts, day, now)
        blocked += gathered.blocked
        inputs = gathered.sha256(book)
        if before.get(day) == inputs:
            continue
        explained = _explained(gathered, book)
        runs.append(_run(run_id, gathered, explained, now, book, inputs))
        for line in explained:
            lines.append(_line(run_id, day, gathered.around.state, line))
            components += _components(run_id, day, line)
    store.insert("recon_lines", lines)
    store.insert("recon_components", components)
    store.insert("recon_runs", runs)  # last: it makes the others count
    return Reconciled(len(days), len(runs), blocked)


def _read(store: Store, since: date, until: date) -> _Facts:
    """Read what the days are made of; key names and hints from a week around them too."""
    readings: defaultdict[tuple[str, date], list[Reading]] = defaultdict(list)
    for reading in ledger.readings(store, since, until):
        readings[reading.source, reading.day].append(reading)
    bill: defaultdict[date, list[BilledLine]] = defaultdict(list)
    for line in ledger.billed_lines(store, since, until):
        bill[line.day].append(line)
    usage: defaultdict[date, list[ProviderUsage]] = defaultdict(list)
    for row in ledger.provider_usage(store, since, until):
        usage[row.day].append(row)
    estimates: defaultdict[date, list[Estimate]] = defaultdict(list)
    sql = load_sql(_PACKAGE, "estimates")
    for estimate in store.select(sql, Estimate, since=since, until=until):
        estimates[estimate.day].append(estimate)
    return _Facts(
        readings,
        bill,
        usage,
        estimates,
        store.select(
            load_sql(_PACKAGE, "keys_seen"),
            _KeySeen,
            since=since - WINDOW,
            until=until + WINDOW,
        ),
        {
            row.day: row
            for row in store.select(
                load_sql(_PACKAGE, "calls_by_day"), _Calls, since=since, until=until
            )
        },
        ledger.api_keys(store),
    )


@dataclass(frozen=True, slots=True)
class _Day:
    """What the result of a day depends on."""

    day: date
    around: Surroundings
    good: Reading | None
    """The newest reading of the bill that can be used."""
    bill: Sequence[BilledLine]
    usage: Sequence[Reading]
    counts: Sequence[ProviderUsage]
    spans: Sequence[Estimated]
    calls: _Calls
    blocked: bool
    reason: str

    def sha256(self, book: Book) -> str:
        """Return the hash of everything here, whose order is fixed."""
        inputs = (
            (book.version, GRAMMAR, self.blocked, self.reason, self.calls),
            (self.around.state, self.around.settled, self.good and self.good.grouped_by),
            [reading.content_sha256 for reading in self.usage],
            self.good and self.good.content_sha256,
            self.spans,
            sorted(self.around.instrumented),
            sorted(self.around.unnamed.items()),
            sorted(self.around.key_names.items()),
        )
        return hashlib.sha256(repr(inputs).encode()).hexdigest()


def _gather(facts: _Facts, day: date, now: datetime) -> _Day:
    costs = facts.readings[COSTS, day]
    good = [reading for reading in costs if reading.status == "ok"]
    usage = [
        readings[-1]
        for (source, of), readings in sorted(facts.readings.items())
        if of == day and source != COSTS and readings[-1].status == "ok"
    ]
    sources = {reading.source for reading in usage}
    state, settled = day_state(
        day, now, [(reading.fetched_at, reading.content_sha256) for reading in good]
    )
    blocked, reason = _standing(costs, good)
    return _Day(
        day,
        _surroundings(facts, day, state, settled=settled),
        good[-1] if good else None,
        facts.bill.get(day, ()) if good else (),
        usage,
        [row for row in facts.usage.get(day, ()) if row.source in sources],
        [_estimated(row, facts.keys) for row in facts.estimates.get(day, ())],
        facts.calls.get(day, _Calls(day, 0, 0)),
        blocked,
        reason,
    )


def _explained(day: _Day, book: Book) -> list[Explained]:
    """Return the lines of a day; none where there is no bill to compare with."""
    if day.good is None:
        return []
    lines = match(
        map(_billed, day.bill),
        day.spans,
        map(_counted, day.counts),
        keyed="api_key_id" in day.good.grouped_by,
    )
    return [explain(line, day.around, book) for line in lines]


def _standing(costs: Sequence[Reading], good: Sequence[Reading]) -> tuple[bool, str]:
    """Return whether there is no answer to judge by, and why the bill may be old."""
    last = costs[-1]
    if last.status == "ok":
        return False, ""
    earlier = (
        f"; the bill of {good[-1].fetched_at:%Y-%m-%d %H:%M} UTC is kept"
        if good
        else "; there is no earlier bill"
    )
    return last.status == "blocked" or not good, last.reason + earlier


def _surroundings(facts: _Facts, day: date, state: DayState, *, settled: bool) -> Surroundings:
    instrumented: set[tuple[str, str]] = set()
    unnamed: defaultdict[str, set[str]] = defaultdict(set)
    for row in facts.seen:
        if not day - WINDOW <= row.day <= day + WINDOW:
            continue
        project, key = name_key(row.project, row.key_hint, facts.keys)
        if key:
            instrumented.add((project, key))
        elif project:
            unnamed[project].add(row.key_hint or "(none)")
    return Surroundings(
        day,
        state,
        settled,
        frozenset(instrumented),
        {project: tuple(sorted(hints)) for project, hints in unnamed.items()},
        {key.api_key_id: key.name for key in facts.keys},
    )


def name_key(project: str, hint: str, keys: Sequence[ApiKey]) -> tuple[str, str]:
    """Return the project and id of the one key that a span's hint can mean; id '' if not one."""
    fitting = [
        key for key in keys if key.hint and hint.endswith(key.hint) and project in {"", key.project}
    ]
    if hint and len(fitting) == 1:
        return fitting[0].project, fitting[0].api_key_id
    return project, ""


def _billed(line: BilledLine) -> Billed:
    item = read_line_item(line.line_item, line.quantity_unit)
    quantity = None if line.quantity is None else Fraction(line.quantity)
    if item.form is Form.TOKENS and quantity is not None:
        # A token line in another unit (images, hours) cannot be set beside a count of tokens.
        factor = {"": 1, "tokens": 1, "1000_tokens": 1000}.get(line.quantity_unit)
        quantity = quantity * factor if factor else None
    return Billed(
        line.project,
        line.api_key_id,
        line.line_item,
        item,
        Fraction(line.amount_usd),
        quantity,
        line.quantity_unit,
    )


_SERVICES = {
    "web_search": "web search",
    "web_search_preview": "web search",
    "file_search": "file search",
}


def _estimated(row: Estimate, keys: Sequence[ApiKey]) -> Estimated:
    project, key = name_key(row.project, row.key_hint, keys)
    modality, _, kind = row.meter.rpartition("_")
    if row.meter in {"input", "cached_input", "cache_write", "output"}:
        item = usage_item(row.model, row.meter, tier=row.tier)
    elif modality in {"audio", "image"} and kind in {"input", "output"}:
        item = usage_item(row.model, kind, modality=modality, tier=row.tier)
    elif row.meter in _SERVICES:
        item = LineItem(Form.SERVICE, _SERVICES[row.meter])
    else:
        item = LineItem(Form.UNCLASSIFIED, f"{row.model}, {row.meter}")
    if item.form is Form.TOKENS and row.context == "long":
        item = replace(item, context="long")
    return Estimated(
        project,
        key,
        item,
        row.calls,
        row.unpriced_calls,
        None if row.uncounted_calls else row.quantity,
        None if row.uncounted_calls else row.priced_quantity,
        None if row.unpriced_calls == row.calls else Fraction(row.estimated_usd),
    )


def _counted(row: ProviderUsage) -> Counted:
    tier = row.service_tier
    item = usage_item(row.model, row.kind, modality=row.modality, tier=tier)
    return Counted(row.project, row.api_key_id, item, row.quantity)


def _run(
    run_id: UUID,
    day: _Day,
    lines: list[Explained],
    now: datetime,
    book: Book,
    inputs_sha256: str,
) -> ReconRun:
    good, state = day.good, day.around.state
    billed = sum((line.line.billed for line in lines), Fraction(0))
    estimated = sum((row.usd or Fraction(0) for row in day.spans), Fraction(0))
    return ReconRun(
        run_id=run_id,
        day=day.day,
        run_at=now,
        day_state=state,
        verdict=Verdict.BLOCKED if day.blocked else day_verdict(state, lines),
        reason=day.reason,
        price_book=book.version,
        grammar=GRAMMAR,
        inputs_sha256=inputs_sha256,
        costs_fetch_id=good.fetch_id if good else None,
        costs_revision=good.revision if good else 0,
        usage_fetch_ids=tuple(reading.fetch_id for reading in day.usage),
        billed_usd=kept(billed) if good else None,
        estimated_usd=kept(estimated),
        calls=day.calls.calls,
        unpriced_calls=day.calls.unpriced_calls,
    )


def _line(run_id: UUID, day: date, state: DayState, explained: Explained) -> ReconLine:
    line, spans = explained.line, explained.line.spans
    estimated = spans.usd if spans else Fraction(0)
    return ReconLine(
        run_id=run_id,
        day=day,
        project=line.project,
        api_key_id=line.api_key_id,
        line_item=line.line_item,
        match_level=line.level,
        billed_usd=kept(line.billed),
        billed_quantity=_kept(line.bill.quantity if line.bill else Fraction(0)),
        quantity_unit=line.bill.unit if line.bill else "",
        usage_quantity=_kept(line.usage_quantity),
        estimated_quantity=_kept(spans.quantity if spans else 0),
        unit_price_usd=_kept(explained.unit_price),
        estimated_usd=_kept(estimated),
        calls=spans.calls if spans else 0,
        unpriced_calls=spans.unpriced_calls if spans else 0,
        coverage_usd=_kept(explained.coverage),
        metering_usd=_kept(explained.metering),
        rate_usd=_kept(explained.rate),
        unsplit_usd=_kept(explained.unsplit),
        cause=explained.cause,
        verdict=explained.verdict,
        day_state=state,
        explanation=explained.text,
    )


def _kept(value: Fraction | int | None) -> Decimal | None:
    return None if value is None else kept(Fraction(value))


def _components(run_id: UUID, day: date, explained: Explained) -> list[ReconComponent]:
    line = explained.line
    return [
        ReconComponent(
            run_id,
            day,
            line.project,
            line.api_key_id,
            line.line_item,
            part.component,
            part.cause,
            kept(part.usd),
        )
        for part in explained.components
    ]
