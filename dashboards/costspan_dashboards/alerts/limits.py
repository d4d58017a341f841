"""From where on something is an alert. The defaults need no set-up; `alerts.toml` changes them.

Every rule asks three things at once: is it rare, is it big, and is it worth something?
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Literal

BudgetDimension = Literal["", "team", "project", "feature", "model", "key", "environment"]


@dataclass(frozen=True, slots=True)
class ErrorLimits:
    """`errors` and `rate_limited`."""

    tail: float = 1e-6
    """How improbable so many failures must be."""
    min_errors: int = 5
    min_user_errors: int = 20
    """Of one user, most of whose calls fail while all others go well."""
    min_ratio: float = 2.0
    page_burn: float = 2.5
    """Pages where this times what the objective allows fails."""


@dataclass(frozen=True, slots=True)
class BurnLimits:
    """`slo_burn`: how fast the errors that the objective allows are used up."""

    page_fast: float = 14.4
    """Over one hour and over five minutes."""
    page_slow: float = 6.0
    """Over six hours and over half an hour."""
    ticket: float = 1.0
    """Over three days and over six hours."""
    min_errors: int = 20


@dataclass(frozen=True, slots=True)
class LatencyLimits:
    """`latency`."""

    z: float = 5.0
    min_ratio: float = 1.15
    min_calls: int = 30
    page_ratio: float = 2.0
    page_share: float = 0.25
    """Pages where that part of all calls takes `page_ratio` times as long."""


@dataclass(frozen=True, slots=True)
class SpendLimits:
    """`spend` and `entity_spend`."""

    z: float = 6.0
    min_ratio: float = 2.0
    """Of an hour."""
    min_jump_ratio: float = 1.5
    min_jump: float = 3.0
    """Of half an hour: times the usual, times the half hour before; of a quarter, twice that. Drift
    comes slowly."""
    min_user_ratio: float = 3.0
    """Of one user, whose own past says less than that of many."""
    min_calls: float = 5
    """As many calls of one price must carry the excess: one or two dear calls are no rate."""
    min_excess_usd_per_hour: Decimal = Decimal(3)
    page_excess_usd_per_hour: Decimal = Decimal(25)


@dataclass(frozen=True, slots=True)
class UnitCostLimits:
    """`unit_cost`, `cache` and `price_change`."""

    z: float = 6.0
    min_ratio: float = 1.3
    min_usd_per_month: Decimal = Decimal(50)
    """At the present volume."""
    min_calls: int = 30
    min_cache_drop: float = 0.15
    """Of the share of input tokens that were cached."""


@dataclass(frozen=True, slots=True)
class RetryLimits:
    """`retries`."""

    min_ratio: float = 1.4
    """Of attempts a call, against the usual."""
    min_extra_attempts: int = 30
    z: float = 6.0


@dataclass(frozen=True, slots=True)
class ArrivalLimits:
    """`no_data`, `traffic_drop`, `late` and `clock`."""

    min_gap_minutes: int = 4
    min_missing_calls: float = 75
    """As many calls would have come in the gap: at night the gap must be longer."""
    drop_to: float = 0.05
    min_expected_calls: float = 60
    late_share: float = 0.15
    min_late_calls: int = 20
    ahead_share: float = 0.01
    min_ahead_calls: int = 10


@dataclass(frozen=True, slots=True)
class UnpricedLimits:
    """`unpriced`."""

    min_calls: int = 5


@dataclass(frozen=True, slots=True)
class PlumbingLimits:
    """The pipeline's own rules."""

    max_lost_share: float = 0.001
    min_lost_spans: int = 10
    job_late_factor: float = 3.0
    """A job is late after that many of its intervals."""
    job_failures: int = 3
    store_failing_minutes: int = 2
    billing_failing_hours: int = 6
    drift_share: Decimal = Decimal("0.02")
    drift_min_usd: Decimal = Decimal(5)
    price_book_ticket_days: int = 30
    """After the review date a ticket follows the info."""


_HABIT, _MONTH = timedelta(days=5), timedelta(days=31)
EASED: Mapping[str, timedelta] = {
    "errors": _HABIT,
    "rate_limited": _HABIT,
    "latency": _HABIT,
    "spend": _HABIT,
    "unit_cost": _MONTH,
    "cache": _MONTH,
    "retries": _HABIT,
    "unpriced": _MONTH,
    "budget": _MONTH,
    "no_data": _MONTH,
}
"""Rules whose alerts end by milder limits than they begin by, and for how long they do: what lasts
for longer is what is usual by then."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Dollars a calendar month, of all calls or of those with one value."""

    usd_per_month: Decimal
    dimension: BudgetDimension = ""
    value: str = ""

    def __str__(self) -> str:
        return f"{self.dimension}={self.value}" if self.dimension else "all calls"


@dataclass(frozen=True, slots=True)
class LatencyObjective:
    """How many of a feature's calls, or of all, shall take less than so many seconds."""

    seconds: float
    share: float = 0.95
    feature: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """What all rules go by."""

    success_objective: float = 0.98
    """Of calls, over 28 days."""
    quiet_environments: tuple[str, ...] = (
        "ci",
        "dev",
        "development",
        "local",
        "sandbox",
        "staging",
        "test",
        "testing",
    )
    """Values of the environment that no rule looks at but `entity_spend` and `budget`."""
    disabled: tuple[str, ...] = ()
    """Rules that are not asked."""
    budgets: tuple[Budget, ...] = ()
    latency_objectives: tuple[LatencyObjective, ...] = ()
    """A page where one is missed."""
    errors: ErrorLimits = field(default_factory=ErrorLimits)
    slo_burn: BurnLimits = field(default_factory=BurnLimits)
    latency: LatencyLimits = field(default_factory=LatencyLimits)
    spend: SpendLimits = field(default_factory=SpendLimits)
    unit_cost: UnitCostLimits = field(default_factory=UnitCostLimits)
    retries: RetryLimits = field(default_factory=RetryLimits)
    arrival: ArrivalLimits = field(default_factory=ArrivalLimits)
    unpriced: UnpricedLimits = field(default_factory=UnpricedLimits)
    plumbing: PlumbingLimits = field(default_factory=PlumbingLimits)

    @property
    def allowed_share(self) -> float:
        """How many calls may fail."""
        return 1 - self.success_objective

    @property
    def eased(self) -> "Limits":
        """From where on an alert that fires goes on: what is at the edge is not told every hour."""
        return replace(
            self,
            errors=replace(self.errors, tail=1e-2, min_ratio=1.5),
            spend=replace(self.spend, z=2.0, min_ratio=1.5, min_excess_usd_per_hour=Decimal(0)),
            latency=replace(self.latency, z=2.0, min_ratio=1.1, min_calls=10),
            unit_cost=replace(
                self.unit_cost,
                z=2.0,
                min_ratio=1.15,
                min_usd_per_month=Decimal(0),
                min_calls=10,
                min_cache_drop=0.1,
            ),
            retries=replace(self.retries, z=2.0, min_ratio=1.2, min_extra_attempts=5),
            unpriced=replace(self.unpriced, min_calls=1),
            # Once missed they are, also when by now none would come any more.
            arrival=replace(self.arrival, min_gap_minutes=15, min_missing_calls=0),
        )

    def version(self, rule: str) -> str:
        """Return what changes when a rule is given other limits, or is switched off."""
        section = getattr(self, _SECTIONS.get(rule, rule), None)
        objective = self.latency_objectives if rule == "latency" else self.success_objective
        told = (section, objective, rule in self.disabled)
        return sha256(repr(told).encode()).hexdigest()[:8]


_SECTIONS = {
    "rate_limited": "errors",
    "entity_spend": "spend",
    "cache": "unit_cost",
    "price_change": "unit_cost",
    "budget": "budgets",
    **dict.fromkeys(("no_data", "traffic_drop", "late", "clock"), "arrival"),
    **dict.fromkeys(
        (
            "collector_loss",
            "store_unhealthy",
            "price_book_old",
            "reconciliation_drift",
            "billing_key_failing",
            "job_late",
        ),
        "plumbing",
    ),
}
"""What holds a rule's limits, where it is not called as the rule is."""
