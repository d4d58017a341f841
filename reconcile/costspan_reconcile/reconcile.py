"""Hold the bill of each day against the spans, and keep the result."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
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
    """A row of `recon_lines`, its class left out."""

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
