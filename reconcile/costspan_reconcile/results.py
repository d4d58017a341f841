"""Write what a run found: lines and classes first, then the row that makes them count."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction
from uuid import UUID

from costspan_collector.store import Store
from costspan_reconcile.amounts import kept
from costspan_reconcile.explain import Explained, Surroundings

_LINES_AT_ONCE = 10_000
"""Held in memory together."""


@dataclass(frozen=True, slots=True, kw_only=True)
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
    tolerances: str
    inputs_sha256: str
    costs_fetch_id: UUID | None
    costs_revision: int
    usage_fetch_ids: tuple[UUID, ...]
    billed_usd: Decimal | None
    estimated_usd: Decimal
    calls: int
    unpriced_calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
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
    usage_requests: int | None
    span_requests: int | None
    coverage_usd: Decimal | None
    metering_usd: Decimal | None
    rate_usd: Decimal | None
    unsplit_usd: Decimal | None
    cause: str
    verdict: str
    day_state: str
    explanation: str


@dataclass(frozen=True, slots=True)
class _Component:
    """A row of `recon_components`."""

    run_id: UUID
    day: date
    project: str
    api_key_id: str
    line_item: str
    component: str
    cause: str
    detail: str
    amount_usd: Decimal


class Results:
    """What a run found, of some days at once. Until `write`, the results before them hold."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._runs: list[ReconRun] = []
        self._lines: list[_Line] = []
        self._components: list[_Component] = []

    def add(self, run: ReconRun, lines: Iterable[Explained], around: Surroundings) -> None:
        """Add the result of one day; write where it is enough."""
        for line in lines:
            self._lines.append(_line(run.run_id, line, around))
            self._components += _components(run.run_id, around.day, line)
        self._runs.append(run)
        if len(self._lines) >= _LINES_AT_ONCE:
            self.write()

    def write(self) -> None:
        """Write what was added, last the rows that make the others count."""
        self._store.insert("recon_lines", self._lines)
        self._store.insert("recon_components", self._components)
        self._store.insert("recon_runs", self._runs)
        self._lines, self._components, self._runs = [], [], []


def _line(run_id: UUID, explained: Explained, around: Surroundings) -> _Line:
    line, parts = explained.line, explained.parts
    bill, spans = line.bill, line.spans
    traffic = around.traffic_of(line)
    return _Line(
        run_id=run_id,
        day=around.day,
        project=line.project,
        api_key_id=line.api_key_id,
        line_item=line.line_item,
        match_level=line.level,
        billed_usd=kept(line.billed),
        billed_quantity=_kept(bill.quantity if bill else 0),
        quantity_unit=bill.unit if bill else "",
        usage_quantity=_kept(line.usage_quantity),
        estimated_quantity=_kept(spans.quantity if spans else 0),
        unit_price_usd=_kept(parts.our_price),
        estimated_usd=_kept(spans.usd if spans else 0),
        calls=spans.calls if spans else 0,
        unpriced_calls=spans.unpriced_calls if spans else 0,
        usage_requests=traffic.requests,
        span_requests=traffic.calls,
        coverage_usd=_kept(parts.coverage),
        metering_usd=_kept(parts.metering),
        rate_usd=_kept(parts.rate),
        unsplit_usd=_kept(parts.unsplit),
        cause=explained.cause,
        verdict=explained.verdict,
        day_state=around.state,
        explanation=explained.text,
    )


def _kept(value: Fraction | int | None) -> Decimal | None:
    return None if value is None else kept(Fraction(value))


def _components(run_id: UUID, day: date, explained: Explained) -> list[_Component]:
    """Return a row for each class of a line; the same class of the same part is one row."""
    line = explained.line
    sums: dict[tuple[str, str, str], Fraction] = {}
    for part in explained.components:
        name = (part.component, part.cause, part.detail)
        sums[name] = sums.get(name, Fraction(0)) + part.usd
    return [
        _Component(
            run_id,
            day,
            line.project,
            line.api_key_id,
            line.line_item,
            *name,
            kept(usd),
        )
        for name, usd in sums.items()
    ]
