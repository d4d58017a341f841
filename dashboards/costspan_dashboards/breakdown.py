"""Spend broken down by one dimension: a series, totals beside the period before, a CSV."""

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from costspan.money import plain
from costspan_collector.store import Store
from costspan_dashboards.charts import ROOM, Bar
from costspan_dashboards.figures import count_text, usd_text
from costspan_dashboards.filters import Filters, shown
from costspan_dashboards.queries import (
    Spend,
    spend_by_dimension,
    spend_by_part,
    spend_largest,
)

PART = "part"
OTHER = "all others"


@dataclass(frozen=True, slots=True)
class Total:
    """What one value cost in the range and in the period before it."""

    value: str
    cost_usd: Decimal | None
    previous_usd: Decimal | None
    tokens: int
    previous_tokens: int
    calls: int
    unpriced: int


@dataclass(frozen=True, slots=True)
class Breakdown:
    """Steps and totals. The totals are the sums of the steps, to the last digit."""

    steps: list[Spend]
    totals: list[Total]

    @property
    def cost_usd(self) -> Decimal:
        """What all values cost together, of the calls that have a price."""
        return sum((total.cost_usd or Decimal(0) for total in self.totals), Decimal(0))

    @property
    def tokens(self) -> int:
        """All tokens."""
        return sum(total.tokens for total in self.totals)

    @property
    def order(self) -> list[str]:
        """The values, largest first, `OTHER` last."""
        return [total.value for total in self.totals]

    def bars(self, measure: str) -> list[Bar]:
        """Return the pieces of a chart in `usd` or `tokens`."""
        return [
            Bar(step.step, label(step), float(step.cost_usd or 0), usd_text(step.cost_usd))
            if measure == "usd"
            else Bar(step.step, label(step), float(step.tokens), count_text(step.tokens))
            for step in self.steps
        ]


def breakdown(
    store: Store, filters: Filters, *, by: str, measure: str, seconds: int, room: int = ROOM
) -> Breakdown:
    """Return spend by `by`: one of `queries.DIMENSIONS`, or `PART`, the parts of the cost."""
    earlier = Filters(
        filters.time.previous, filters.teams, filters.features, filters.models, filters.projects
    )
    if by == PART:
        steps = _parts(store, filters, measure, seconds)
        before = _parts(store, earlier, measure, 0)
    else:
        largest = spend_largest(store, filters, by=by, measure=measure, room=room)
        steps = spend_by_dimension(store, filters, by=by, largest=largest, step_seconds=seconds)
        before = spend_by_dimension(store, earlier, by=by, largest=largest)
    return Breakdown(steps, _totals(steps, before, measure))


def label(spend: Spend) -> str:
    """Return the value as a person sees it."""
    return OTHER if spend.is_other else shown(spend.value)


def _parts(store: Store, filters: Filters, measure: str, seconds: int) -> list[Spend]:
    return [
        Spend(part.step, False, part.value, part.cost_usd, part.tokens, part.calls, 0)
        for part in spend_by_part(store, filters, measure=measure, step_seconds=seconds)
    ]


def _totals(steps: Sequence[Spend], before: Sequence[Spend], measure: str) -> list[Total]:
    now, then = _grouped(steps), _grouped(before)
    totals = [
        Total(
            value=value,
            cost_usd=_sum(row.cost_usd for row in now[value]),
            previous_usd=_sum(row.cost_usd for row in then[value]),
            tokens=sum(row.tokens for row in now[value]),
            previous_tokens=sum(row.tokens for row in then[value]),
            calls=sum(row.calls for row in now[value]),
            unpriced=sum(row.unpriced for row in now[value]),
        )
        for value in {**now, **then}
    ]

    def rank(total: Total) -> tuple[bool, Decimal, str]:
        size = (total.cost_usd or Decimal(0)) if measure == "usd" else Decimal(total.tokens)
        return total.value == OTHER, -size, total.value

    return sorted(totals, key=rank)


def _grouped(rows: Sequence[Spend]) -> defaultdict[str, list[Spend]]:
    groups: defaultdict[str, list[Spend]] = defaultdict(list)
    for row in rows:
        groups[label(row)].append(row)
    return groups


def _sum(amounts: Iterable[Decimal | None]) -> Decimal | None:
    """Return zero for no rows, None where no row is known."""
    found = list(amounts)
    known = [amount for amount in found if amount is not None]
    return None if found and not known else sum(known, Decimal(0))


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return rows as CSV, money to the last digit and unknown as nothing.

    A text that a spreadsheet would run as a formula gets an apostrophe before it.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return out.getvalue()


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case Decimal():
            return plain(value)
        case datetime():
            return value.isoformat()
        case str() if value.startswith(("=", "+", "-", "@", "\t", "\r")):
            return f"'{value}"
        case _:
            return str(value)
