"""Which line a call's quantity on each meter is billed in: the pairs that `match` made, call by call.

A kind of call has one line for each meter, but where the bill does not tell tiers and contexts as
the calls do (M4): there it is in every line of the product, which then go by the same quantities.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from uuid import UUID

from costspan_reconcile.facts import Keys, metered_item
from costspan_reconcile.line_items import LineItem, read_line_item
from costspan_reconcile.match import by_family, by_product, exactly


@dataclass(frozen=True, slots=True)
class MatchedLine:
    """A line of a reconciled day, as it was matched."""

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
    cause: str

    @property
    def item(self) -> LineItem:
        """Return its product."""
        return read_line_item(self.line_item, self.quantity_unit)


@dataclass(frozen=True, slots=True)
class CallKind:
    """Calls of a day that are billed alike, and the meters on which they used something."""

    day: date
    project: str
    key_hint: str
    model: str
    tier: str
    context: str
    meters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Route:
    """A row of `allocation_routes`."""

    allocation_id: UUID
    day: date
    call_project: str
    key_hint: str
    model: str
    tier: str
    context: str
    meter: str
    project: str
    api_key_id: str
    line_item: str


def routes(
    allocation_id: UUID,
    lines: Iterable[MatchedLine],
    kinds: Iterable[CallKind],
    keys: Keys,
) -> list[Route]:
    """Return where the quantities of a day's kinds of calls go: nowhere if no line bills them."""
    ladder = _ladder(lines)
    return [
        Route(
            allocation_id,
            kind.day,
            kind.project,
            kind.key_hint,
            kind.model,
            kind.tier,
            kind.context,
            meter,
            line.project,
            line.api_key_id,
            line.line_item,
        )
        for kind in kinds
        for meter in kind.meters
        for line in _lines_of(ladder, *keys.name(kind.project, kind.key_hint), _item(kind, meter))
    ]


def _item(kind: CallKind, meter: str) -> LineItem:
    """Return the product of a meter; `label/model/meter` is that of a model that worked for a call."""
    worker, _, own = meter.rpartition("/")
    return metered_item(worker.partition("/")[2] or kind.model, own, kind.tier, kind.context)


@dataclass(frozen=True, slots=True)
class _Rung:
    """A way to find the lines of a call: how they were matched, and by what of both."""

    levels: frozenset[str]
    product: Callable[[LineItem], LineItem]
    keyed: bool
    lines: defaultdict[tuple[str, str, LineItem], list[MatchedLine]]

    def place(self, project: str, key: str, item: LineItem) -> tuple[str, str, LineItem]:
        return project, key if self.keyed else "", self.product(item)


def _ladder(lines: Iterable[MatchedLine]) -> list[_Rung]:
    """Return the lines with dollars, from the surest way to find those of a call to the least."""
    ladder = [
        _Rung(frozenset(levels), product, keyed, defaultdict(list))
        for levels, product, keyed in (
            (("M1", "M5"), exactly, True),
            (("M2",), by_family, True),
            (("M3", "M5"), exactly, False),
            (("M3", "M5"), by_family, False),
            (("M4",), by_product, True),
            (("M4",), by_product, False),
        )
    ]
    for line in lines:
        for rung in ladder:
            if line.billed_usd and line.match_level in rung.levels:
                place = rung.place(line.project, line.api_key_id, line.item)
                rung.lines[place].append(line)
    return ladder


def _lines_of(
    ladder: Sequence[_Rung], project: str, key: str, item: LineItem
) -> Sequence[MatchedLine]:
    for rung in ladder:
        # A call of a known key is not in the line of another key.
        found = [
            line
            for line in rung.lines.get(rung.place(project, key, item), ())
            if not key or line.api_key_id in {"", key}
        ]
        if found:
            return found
    return ()
