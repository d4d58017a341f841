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
        compared = _compare(facts, day, now, book)
        blocked += compared.verdict is Verdict.BLOCKED
        if before.get(day) == compared.inputs_sha256:
            continue
        runs.append(_run(run_id, day, now, book, compared))
        for line in compared.lines:
            lines.append(_line(run_id, day, compared.around.state, line))
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
class _Compared:
    around: Surroundings
    lines: Sequence[Explained]
    verdict: Verdict
    reason: str
    billed: Fraction | None
    estimated: Fraction
    costs: Reading | None
    usage: tuple[Reading, ...]
    calls: _Calls
    inputs_sha256: str


def _compare(facts: _Facts, day: date, now: datetime, book: Book) -> _Compared:
    costs = facts.readings[COSTS, day]
    good = [reading for reading in costs if reading.status == "ok"]
    usage = [
        readings[-1]
        for (source, of), readings in sorted(facts.readings.items())
        if of == day and source != COSTS and readings[-1].status == "ok"
    ]
    state, settled = day_state(
        day, now, [(reading.fetched_at, reading.content_sha256) for reading in good]
    )
    around = _surroundings(facts, day, state, settled=settled)
    spans = [_estimated(row, facts.keys) for row in facts.estimates.get(day, ())]
    verdict, reason = _standing(costs, good)
    lines: list[Explained] = []
    if good:
        sources = {reading.source for reading in usage}
        matched = match(
            [_billed(line) for line in facts.bill.get(day, ())],
            spans,
            [_counted(row) for row in facts.usage.get(day, ()) if row.source in sources],
            keyed="api_key_id" in good[-1].grouped_by,
        )
        lines = [explain(line, around, book) for line in matched]
        verdict = verdict or day_verdict(state, lines)
    inputs = (
        (state, settled, verdict, reason, book.version, GRAMMAR),
        [(reading.source, reading.content_sha256) for reading in (*good[-1:], *usage)],
        good[-1].grouped_by if good else (),
        spans,
        sorted(around.instrumented),
        sorted(around.unnamed.items()),
        sorted(around.key_names.items()),
    )
    return _Compared(
        around,
        lines,
        verdict or Verdict.BLOCKED,
        reason,
        sum((line.line.billed for line in lines), Fraction(0)) if good else None,
        sum((row.usd or Fraction(0) for row in spans), Fraction(0)),
        good[-1] if good else None,
        tuple(usage),
        facts.calls.get(day, _Calls(day, 0, 0)),
        hashlib.sha256(repr(inputs).encode()).hexdigest(),
    )


def _standing(costs: Sequence[Reading], good: Sequence[Reading]) -> tuple[Verdict | None, str]:
    """Return BLOCKED where the newest answer cannot be used, and why the bill may be old."""
    last = costs[-1]
    if last.status == "ok":
        return None, ""
    kept_since = (
        f"; the bill of {good[-1].fetched_at:%Y-%m-%d %H:%M} UTC is kept"
        if good
        else "; there is no earlier bill"
    )
    blocked = last.status == "blocked" or not good
    return (Verdict.BLOCKED if blocked else None), last.reason + kept_since


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


def _run(run_id: UUID, day: date, now: datetime, book: Book, compared: _Compared) -> ReconRun:
    costs = compared.costs
    return ReconRun(
        run_id,
        day,
        now,
        compared.around.state,
        compared.verdict,
        compared.reason,
        book.version,
        GRAMMAR,
        compared.inputs_sha256,
        costs.fetch_id if costs else None,
        costs.revision if costs else 0,
        tuple(reading.fetch_id for reading in compared.usage),
        None if compared.billed is None else kept(compared.billed),
        kept(compared.estimated),
        compared.calls.calls,
        compared.calls.unpriced_calls,
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
