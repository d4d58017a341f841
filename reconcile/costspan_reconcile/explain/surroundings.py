"""What has to be known of a day to judge its lines."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from fractions import Fraction

from costspan_reconcile.explain.states import DayState
from costspan_reconcile.line_items import LineItem
from costspan_reconcile.match import Line
from costspan_reconcile.price_truth import Discount, PriceChange
from costspan_reconcile.tolerances import Tolerances

WINDOW = timedelta(days=7)
"""A key that no span carries for so long before and after a day is not instrumented."""
ALL_KEYS = "*"
Place = tuple[str, str, LineItem]
"""Project, key and product of a line."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """The calls of one project, key and model: what spans hold, and what the provider counted."""

    calls: int = 0
    """With usage."""
    unseen_calls: int = 0
    """That ended before their usage was told, and may be billed."""
    bounded_calls: int = 0
    """Of those, the ones whose tokens have a bound."""
    unseen_input: int = 0
    unseen_output: int = 0
    """The most tokens of the bounded ones."""
    retries: int = 0
    requests: int | None = None
    """None where the provider counted none by this name."""

    def __add__(self, other: "Traffic") -> "Traffic":
        """Return both together."""
        known = [each.requests for each in (self, other) if each.requests is not None]
        return Traffic(
            self.calls + other.calls,
            self.unseen_calls + other.unseen_calls,
            self.bounded_calls + other.bounded_calls,
            self.unseen_input + other.unseen_input,
            self.unseen_output + other.unseen_output,
            self.retries + other.retries,
            sum(known) if known else None,
        )


@dataclass(frozen=True, slots=True)
class Repeated:
    """Tokens of one product that are in the spans and were surely not billed."""

    duplicates: Fraction
    """Of answers that another span reports too."""
    failures: Fraction
    """Of calls that failed."""


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
    traffic: Mapping[tuple[str, str, str], Traffic] = field(
        default_factory=dict[tuple[str, str, str], Traffic]
    )
    """By project, key and family of the model; under `ALL_KEYS` those of the whole project."""
    repeated: Mapping[Place, Repeated] = field(default_factory=dict[Place, Repeated])
    """By the family of the product."""
    neighbours: Mapping[Place, tuple[Fraction, ...]] = field(
        default_factory=dict[Place, tuple[Fraction, ...]]
    )
    """The coverage, in dollars, of the same line on the day before and after."""
    discounts: tuple[Discount, ...] = ()
    changes: tuple[PriceChange, ...] = ()
    pools: frozenset[str] = frozenset()
    """The pools of free tokens that were used up."""
    tolerances: Tolerances = field(default_factory=Tolerances)

    def traffic_of(self, line: Line) -> Traffic:
        """Return the calls of the model of a line; of the whole project where keys are not told."""
        told = line.api_key_id and not line.pooled_keys
        key = line.api_key_id if told else ALL_KEYS
        return self.traffic.get((line.project, key, line.item.model), _NO_TRAFFIC)


_NO_TRAFFIC = Traffic()


def place(line: Line) -> Place:
    """Return where a line is."""
    return line.project, line.api_key_id, line.item
