"""Say why the bill and the estimate differ: exact parts, and one class for every dollar.

A line goes through the steps in order, and each dollar stays with the first class that fits:

    whole_line  lines that have one cause as a whole: fees, storage, keys without spans
    coverage    tokens that OpenAI counted and the spans did not
    metering    tokens that the bill counts and OpenAI's Usage endpoint does not
    rate        another price for a unit
    the rest    rounding, or unexplained: visible, and never spread over something else
"""

from dataclasses import dataclass
from fractions import Fraction

from costspan_reconcile.book_prices import Prices
from costspan_reconcile.explain.classes import MEANING, UNKNOWN, Class, Component, Verdict
from costspan_reconcile.explain.coverage import coverage
from costspan_reconcile.explain.identity import Parts, parts
from costspan_reconcile.explain.metering import metering
from costspan_reconcile.explain.rate import rate
from costspan_reconcile.explain.sentences import text
from costspan_reconcile.explain.states import DayState, day_state
from costspan_reconcile.explain.surroundings import (
    ALL_KEYS,
    WINDOW,
    Place,
    Repeated,
    Surroundings,
    Traffic,
    place,
)
from costspan_reconcile.explain.verdicts import Judged, day_verdict, line_verdict, period_verdict
from costspan_reconcile.explain.whole_line import SERVICES, whole_line
from costspan_reconcile.line_items import Form
from costspan_reconcile.match import Line

__all__ = [
    "ALL_KEYS",
    "MEANING",
    "UNKNOWN",
    "WINDOW",
    "Class",
    "Component",
    "DayState",
    "Explained",
    "Judged",
    "Parts",
    "Place",
    "Prices",
    "Repeated",
    "Surroundings",
    "Traffic",
    "Verdict",
    "day_state",
    "day_verdict",
    "explain",
    "line_verdict",
    "parts",
    "period_verdict",
    "place",
]


@dataclass(frozen=True, slots=True)
class Explained:
    """A line with its difference taken apart."""

    line: Line
    parts: Parts
    components: tuple[Component, ...]
    verdict: Verdict
    text: str

    @property
    def billed(self) -> Fraction:
        """Return the billed dollars."""
        return self.line.billed

    @property
    def cause(self) -> Class:
        """Return the class of the largest component."""
        largest = max(self.components, key=_size, default=None)
        return largest.cause if largest else Class.MATCHED


def explain(
    line: Line, around: Surroundings, prices: Prices, known: Parts | None = None
) -> Explained:
    """Take the difference of a line apart and give every dollar of it a class."""
    found = known or parts(line, around.day, prices)
    components = tuple(part for part in _components(line, found, around, prices) if part.usd)
    return Explained(
        line,
        found,
        components,
        line_verdict(line, components, around.tolerances),
        text(line, components, around),
    )


def _components(line: Line, found: Parts, around: Surroundings, prices: Prices) -> list[Component]:
    cause = whole_line(line, around)
    if cause is not None and line.item.form is Form.SERVICE and cause in SERVICES.values():
        # A service has a driver, so it is split, but each part is the service's.
        split = (found.coverage, found.metering, found.rate, found.unsplit)
        return [
            Component(name, cause, usd)
            for name, usd in zip(_PARTS, split, strict=True)
            if usd is not None
        ]
    if cause is not None:
        return [Component("whole", cause, line.billed - line.estimated)]
    return [
        *coverage(line, found, around),
        *metering(line, found, around),
        *rate(line, found, around, prices),
    ]


_PARTS = ("coverage", "metering", "rate", "unsplit")


def _size(part: Component) -> Fraction:
    return abs(part.usd)
