"""Lay the bill, the provider's own count and the spans of one day side by side.

The first rung that fits is taken, and kept with the line:

    M1  same project, key and product
    M2  same family of models, where each side has exactly one candidate
    M3  as M1 and M2, where the bill or the spans do not say which key
    M5  a service with what drives it
    M6  on one side only
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from costspan_reconcile.line_items import Form, LineItem, billed_name


@dataclass(frozen=True, slots=True)
class Billed:
    """A billed line. `api_key_id` is '' where the bill names none."""

    project: str
    api_key_id: str
    line_item: str
    item: LineItem
    usd: Fraction
    quantity: Fraction | None
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Estimated:
    """What the spans say of one product. `api_key_id` is '' where their key has no known id."""

    project: str
    api_key_id: str
    item: LineItem
    calls: int
    unpriced_calls: int
    quantity: int | None
    priced_quantity: int | None
    usd: Fraction | None
    """None where no call has a price."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What the provider counted of one product."""

    project: str
    api_key_id: str
    item: LineItem
    quantity: int


@dataclass(frozen=True, slots=True)
class Line:
    """One product of one project and key, all sides beside each other. None is unknown."""

    project: str
    api_key_id: str
    line_item: str
    item: LineItem
    level: str
    bill: Billed | None
    """None where the bill has no such line: not yet, or never."""
    spans: Estimated | None
    pooled_keys: tuple[str, ...]
    """The billed keys that could not be told apart; empty where there is at most one."""
    usage_quantity: int | None = None

    @property
    def billed(self) -> Fraction:
        """Return the billed dollars; a line that is not on the bill has cost nothing so far."""
        return self.bill.usd if self.bill else Fraction(0)

    @property
    def estimated(self) -> Fraction:
        """Return what the calls with a price add up to."""
        return (self.spans.usd if self.spans else None) or Fraction(0)


def match(
    billed: Iterable[Billed],
    estimated: Iterable[Estimated],
    counted: Iterable[Counted],
    *,
    keyed: bool = True,
) -> list[Line]:
    """Return the lines of one day; every billed and every estimated dollar is in exactly one.

    `keyed` says whether the bill was grouped by key.
    """
    bill, spans = _merged_bill(billed), _merged_spans(estimated)
    usage = _Usage(counted, {row.item for row in (*bill, *spans)}, keyed=keyed)
    lines: list[Line] = []
    left_bill, left_spans = {*bill}, {*spans}

    def take(level: str, some_bill: Sequence[Billed], some_spans: Sequence[Estimated]) -> None:
        line = _line(level, some_bill, some_spans)
        lines.append(replace(line, usage_quantity=usage.of(line, some_bill, some_spans)))
        left_bill.difference_update(some_bill)
        left_spans.difference_update(some_spans)

    for row, other in _same_product(bill, spans):
        take("M1" if row.item.form is Form.TOKENS else "M5", [row], [other])
    for row, other in _same_family(bill, spans):
        if row in left_bill and other in left_spans:
            take("M2", [row], [other])
    keyless = {(row.project, row.item.family) for row in bill} - {
        (row.project, row.item.family) for row in bill if row.api_key_id
    }
    for product in (_itself, _family):
        # Spans of a known key meet a bill without keys only where the bill knows no key at all.
        lost = [
            row
            for row in left_spans
            if not row.api_key_id or (row.project, row.item.family) in keyless
        ]
        for some_bill, some_spans in _pools(left_bill, lost, product):
            take("M3", some_bill, some_spans)
    for row in sorted(left_bill, key=_order):
        take("M6", [row], [])
    for other in sorted(left_spans, key=_order):
        take("M6", [], [other])
    return sorted(lines, key=lambda line: (line.project, line.api_key_id, line.line_item))


def _merged_bill(rows: Iterable[Billed]) -> list[Billed]:
    """Return `rows` with those of one project, key and product added up."""
    found: defaultdict[tuple[str, str, LineItem], list[Billed]] = defaultdict(list)
    for row in rows:
        found[row.project, row.api_key_id, row.item].append(row)
    return sorted(map(_sum_of_bill, found.values()), key=_order)


def _merged_spans(rows: Iterable[Estimated]) -> list[Estimated]:
    found: defaultdict[tuple[str, str, LineItem], list[Estimated]] = defaultdict(list)
    for row in rows:
        found[row.project, row.api_key_id, row.item].append(row)
    return sorted(map(_sum_of_spans, found.values()), key=_order)


def _same_product(
    bill: Sequence[Billed], spans: Sequence[Estimated]
) -> list[tuple[Billed, Estimated]]:
    by_key = {(row.project, row.api_key_id, row.item): row for row in spans}
    return [
        (row, by_key[row.project, row.api_key_id, row.item])
        for row in bill
        if row.project and row.api_key_id and (row.project, row.api_key_id, row.item) in by_key
    ]


def _same_family(
    bill: Sequence[Billed], spans: Sequence[Estimated]
) -> list[tuple[Billed, Estimated]]:
    """Return the pairs that are alone in their family, those that matched exactly counted too.

    Two snapshots of one family can have different prices, so among several none is guessed.
    """
    candidates = _by_place(bill, spans, lambda row: (row.project, row.api_key_id, row.item.family))
    return [
        (some_bill[0], some_spans[0])
        for some_bill, some_spans in candidates
        if len(some_bill) == len(some_spans) == 1
        and some_bill[0].api_key_id
        and some_bill[0].item.form is Form.TOKENS
    ]


def _pools(
    bill: Iterable[Billed], spans: Iterable[Estimated], product: Callable[[LineItem], LineItem]
) -> list[tuple[list[Billed], list[Estimated]]]:
    """Return what both sides have of a product of a project, whatever the key."""
    return [
        (some_bill, some_spans)
        for some_bill, some_spans in _by_place(
            sorted(bill, key=_order),
            sorted(spans, key=_order),
            lambda row: (row.project, product(row.item)),
        )
        if len({row.item for row in some_bill}) == len({row.item for row in some_spans}) == 1
        and some_bill[0].item.form is not Form.UNCLASSIFIED
    ]


def _by_place(
    bill: Iterable[Billed],
    spans: Iterable[Estimated],
    place: Callable[[Billed | Estimated], object],
) -> list[tuple[list[Billed], list[Estimated]]]:
    """Return both sides of every place that has both; a project that is unknown is no place."""
    found: defaultdict[object, tuple[list[Billed], list[Estimated]]] = defaultdict(lambda: ([], []))
    for row in bill:
        if row.project:
            found[place(row)][0].append(row)
    for other in spans:
        if other.project:
            found[place(other)][1].append(other)
    return [sides for sides in found.values() if sides[0] and sides[1]]


def _line(level: str, bill: Sequence[Billed], spans: Sequence[Estimated]) -> Line:
    either = (*bill, *spans)[0]
    keys = sorted({row.api_key_id for row in (bill or spans)})
    item = either.item
    return Line(
        either.project,
        keys[0] if len(keys) == 1 else "",
        bill[0].line_item if bill else billed_name(item),
        item,
        level,
        _sum_of_bill(bill) if bill else None,
        _sum_of_spans(spans) if spans else None,
        tuple(keys) if len(keys) > 1 else (),
    )


def _sum_of_bill(rows: Sequence[Billed]) -> Billed:
    known = [row.quantity for row in rows if row.quantity is not None]
    return replace(
        rows[0],
        usd=sum((row.usd for row in rows), Fraction(0)),
        quantity=sum(known, Fraction(0)) if len(known) == len(rows) else None,
    )


def _sum_of_spans(rows: Sequence[Estimated]) -> Estimated:
    counted = [row.quantity for row in rows if row.quantity is not None]
    priced = [row.priced_quantity for row in rows if row.priced_quantity is not None]
    money = [row.usd for row in rows if row.usd is not None]
    return replace(
        rows[0],
        calls=sum(row.calls for row in rows),
        unpriced_calls=sum(row.unpriced_calls for row in rows),
        quantity=sum(counted) if len(counted) == len(rows) else None,
        priced_quantity=sum(priced) if len(priced) == len(rows) else None,
        usd=sum(money, Fraction(0)) if money else None,
    )


class _Usage:
    """Finds what the provider counted of the products of a line."""

    def __init__(self, counted: Iterable[Counted], products: set[LineItem], *, keyed: bool) -> None:
        self._keyed = keyed
        self._long = {replace(item, context="short") for item in products if item.context == "long"}
        self._rows: defaultdict[tuple[str, str], defaultdict[LineItem, int]] = defaultdict(
            lambda: defaultdict(int)
        )
        for row in counted:
            self._rows[row.project, row.api_key_id][row.item] += row.quantity

    def of(self, line: Line, bill: Sequence[Billed], spans: Sequence[Estimated]) -> int | None:
        """Return the count, None where there is none that is surely of this line.

        The provider counts short and long context together, so neither has a count of its own.
        """
        item = line.item
        if (
            item.form is not Form.TOKENS
            or item.surface
            or item.context == "long"
            or item in self._long
        ):
            return None
        keys = {row.api_key_id for row in (bill or spans)}
        if bill and not self._keyed:
            keys = {key for project, key in self._rows if project == line.project}
        elif not bill and "" in keys:
            return None
        found = [self._one(line.project, key, item) for key in keys]
        known = [quantity for quantity in found if quantity is not None]
        # Without keys on the bill all keys of the project are asked, and most use other products.
        whole = len(known) == len(found) or (bill and not self._keyed)
        return sum(known) if known and whole else None

    def _one(self, project: str, key: str, item: LineItem) -> int | None:
        rows: Mapping[LineItem, int] = self._rows.get((project, key), {})
        if item in rows:
            return rows[item]
        same = [quantity for other, quantity in rows.items() if other.family == item.family]
        return same[0] if len(same) == 1 else None


def _order(row: Billed | Estimated) -> tuple[str, str, str, str]:
    name = row.line_item if isinstance(row, Billed) else billed_name(row.item)
    return (row.project, row.api_key_id, name, row.item.surface)


def _itself(item: LineItem) -> LineItem:
    return item


def _family(item: LineItem) -> LineItem:
    return item.family
