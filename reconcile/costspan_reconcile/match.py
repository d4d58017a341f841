"""Lay the bill, the provider's own count and the spans of one day side by side.

The first rung that fits is taken, and kept with the line:

    M1  same project, key and product
    M2  same family of models, where each side has exactly one candidate
    M3  as M1 and M2, where the bill or the spans do not say which key
    M4  the same without tier and context, where one side does not tell them
    M5  a service with what drives it
    M6  on one side only
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TypedDict, TypeVar

from costspan_reconcile.amounts import step
from costspan_reconcile.line_items import Form, LineItem, billed_name

_NOTHING = Fraction(0)
_Side = TypeVar("_Side", "Billed", "Estimated")


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
    credit: Fraction = _NOTHING
    """The negative terms that are in `usd`."""
    strange_unit: bool = False
    """Its tokens are billed in another unit, so there is no quantity to set beside a count."""


@dataclass(frozen=True, slots=True)
class Estimated:
    """What the spans say of one product. `api_key_id` is '' where their key has no known id."""

    project: str
    api_key_id: str
    item: LineItem
    calls: int
    unpriced_calls: int
    quantity: Fraction | int | None
    priced_quantity: Fraction | int | None
    usd: Fraction | None
    """None where no call has a price."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What the provider counted of one product."""

    project: str
    api_key_id: str
    item: LineItem
    quantity: int
    by_agents: bool = False
    """Used by the provider's own agents, and by no program."""


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
    pooled_keys: tuple[str, ...] = ()
    """The billed keys that could not be told apart; empty where there is at most one."""
    usage: Mapping[str, int | Fraction] | None = None
    """What the provider counted, by the tier that served it."""
    agents_quantity: int = 0

    @property
    def billed(self) -> Fraction:
        """Return the billed dollars; a line that is not on the bill has cost nothing so far."""
        return self.bill.usd if self.bill else _NOTHING

    @property
    def estimated(self) -> Fraction:
        """Return what the calls with a price add up to."""
        return (self.spans.usd if self.spans else None) or _NOTHING

    @property
    def usage_quantity(self) -> Fraction | int | None:
        """Return what the provider counted in all."""
        return None if self.usage is None else sum(self.usage.values())

    @property
    def keys(self) -> tuple[str, ...]:
        """Return the keys that it is made of."""
        return self.pooled_keys or (self.api_key_id,)


def match(
    billed: Iterable[Billed],
    estimated: Iterable[Estimated],
    counted: Iterable[Counted],
    *,
    keyed: bool = True,
    counts_all: bool = False,
) -> list[Line]:
    """Return the lines of one day; every billed and every estimated dollar is in exactly one.

    `keyed` says whether the bill was grouped by key; `counts_all` that the provider's count of the
    day is there, so that what is not in it was not used.
    """
    lines = _relabelled(
        _paired(_added_up(billed, _sum_of_bill), _added_up(estimated, _sum_of_spans))
    )
    lines = _with_usage(lines, counted, keyed=keyed, counts_all=counts_all)
    return sorted(lines, key=lambda line: (line.project, line.api_key_id, line.line_item))


def _paired(bill: Sequence[Billed], spans: Sequence[Estimated]) -> list[Line]:
    lines: list[Line] = []
    left_bill = {id(row): row for row in bill}
    left_spans = {id(row): row for row in spans}

    def take(level: str, some_bill: Sequence[Billed], some_spans: Sequence[Estimated]) -> None:
        lines.append(_line(level, some_bill, some_spans))
        for row in some_bill:
            del left_bill[id(row)]
        for other in some_spans:
            del left_spans[id(other)]

    by_key = {(row.project, row.api_key_id, row.item): row for row in spans}
    for row in bill:
        other = by_key.get((row.project, row.api_key_id, row.item))
        if other and row.project and row.api_key_id:
            take("M1" if row.item.form is Form.TOKENS else "M5", [row], [other])
    for row, other in _same_family(bill, spans, left_bill, left_spans):
        take("M2", [row], [other])
    keyless = {(row.project, row.item.family) for row in bill} - {
        (row.project, row.item.family) for row in bill if row.api_key_id
    }
    for level, product in (("M3", exactly), ("M3", by_family), ("M4", by_product)):
        # Spans of a known key meet a bill without keys only where the bill knows no key at all.
        lost = [
            row
            for row in left_spans.values()
            if not row.api_key_id or (row.project, row.item.family) in keyless
        ]
        for some_bill, some_spans in _pools(left_bill.values(), lost, product):
            form = some_bill[0].item.form
            take(level if form is Form.TOKENS else "M5", some_bill, some_spans)
    for row in [*left_bill.values()]:
        take("M6", [row], [])
    for other in [*left_spans.values()]:
        take("M6", [], [other])
    return lines


def _same_family(
    bill: Sequence[Billed],
    spans: Sequence[Estimated],
    left_bill: Mapping[int, Billed],
    left_spans: Mapping[int, Estimated],
) -> list[tuple[Billed, Estimated]]:
    """Return the pairs that are alone in their family, those that matched exactly counted too.

    Two snapshots of one family can have different prices, so among several none is guessed.
    """
    if not left_bill or not left_spans:
        return []
    return [
        (some_bill[0], some_spans[0])
        for some_bill, some_spans in _by_place(bill, spans, by_family, _key)
        if len(some_bill) == len(some_spans) == 1
        and id(some_bill[0]) in left_bill
        and id(some_spans[0]) in left_spans
        and some_bill[0].api_key_id
        and some_bill[0].item.form is Form.TOKENS
    ]


def _pools(
    bill: Iterable[Billed], spans: Iterable[Estimated], product: Callable[[LineItem], LineItem]
) -> list[tuple[list[Billed], list[Estimated]]]:
    """Return what both sides have of a product of a project, whatever the key."""
    return [
        (some_bill, some_spans)
        for some_bill, some_spans in _by_place(bill, spans, product, _no_key)
        if len({row.item for row in some_bill}) == len({row.item for row in some_spans}) == 1
        and some_bill[0].item.form is not Form.UNCLASSIFIED
    ]


def _by_place(
    bill: Iterable[Billed],
    spans: Iterable[Estimated],
    product: Callable[[LineItem], LineItem],
    key: Callable[[Billed | Estimated], str],
) -> list[tuple[list[Billed], list[Estimated]]]:
    """Return both sides of every place that has both; a project that is unknown is no place."""
    found: dict[tuple[str, str, LineItem], tuple[list[Billed], list[Estimated]]] = {}
    for other in spans:
        if other.project:
            place = (other.project, key(other), product(other.item))
            found.setdefault(place, ([], []))[1].append(other)
    for row in bill:
        sides = found.get((row.project, key(row), product(row.item)))
        if sides:
            sides[0].append(row)
    return [sides for sides in found.values() if sides[0]]


def _relabelled(lines: list[Line]) -> list[Line]:
    """Give spans that tell no tier or context, or another than the bill, to the billed lines.

    Where the bill has one line of a product, all spans of the product belong to it. Where it has
    several, those that lack spans take them from those that have more than was billed.
    """
    groups: defaultdict[tuple[str, tuple[str, ...], LineItem], list[Line]] = defaultdict(list)
    for line in lines:
        if line.item.form is Form.TOKENS and not line.item.surface and line.project:
            groups[line.project, line.keys, line.item.product.family].append(line)
    found = [
        line
        for line in lines
        if line.item.form is not Form.TOKENS or line.item.surface or not line.project
    ]
    for group in groups.values():
        billed = [line for line in group if line.bill]
        one_sided = [line for line in group if line.level == "M6"]
        if len(group) == 1 or not billed or not one_sided or not _same_names(group):
            found += group
        elif len(billed) == 1:
            spans = [line.spans for line in group if line.spans]
            both = replace(billed[0].spans or spans[0], **_sums(spans)) if spans else None
            found.append(replace(billed[0], spans=both, level="M4" if both else "M6"))
        else:
            found += _moved(group)
    return found


def _same_names(group: Sequence[Line]) -> bool:
    """Return whether no snapshot has to be guessed: each side names one model."""
    names = (
        {line.item.name for line in group if line.bill},
        {line.item.name for line in group if line.spans},
    )
    return all(len(side) <= 1 for side in names)


def _moved(group: Sequence[Line]) -> list[Line]:
    """Return `group` with the spans that are too many moved to lines that have too few."""
    lines = sorted(
        group,
        key=lambda line: (
            line.item.tier != "standard",
            line.item.context != "short",
            line.line_item,
        ),
    )
    wanted = [line.bill.quantity if line.bill else _NOTHING for line in lines]
    if any(quantity is None for quantity in wanted) or any(
        line.spans and line.spans.quantity is None for line in lines
    ):
        return lines
    spans = [line.spans for line in lines]
    changed: set[int] = set()
    takers = [n for n, line in enumerate(lines) if line.bill]
    for giver, line in enumerate(lines):
        for taker in takers:
            has = spans[giver]
            if has is None or taker == giver or (line.bill and lines[taker].spans):
                continue
            too_many = (has.quantity or 0) - (wanted[giver] or 0)
            taken = spans[taker]
            too_few = (wanted[taker] or 0) - ((taken.quantity or 0) if taken else 0)
            amount = min(too_many, too_few)
            if amount > 0:
                spans[giver], piece = _split(has, Fraction(amount))
                spans[taker] = replace(taken, **_sums([taken, piece])) if taken else piece
                changed |= {giver, taker}
        rest = spans[giver]
        if not line.bill and rest is not None and giver in changed:
            first = spans[takers[0]]
            spans[takers[0]] = replace(first, **_sums([first, rest])) if first else rest
            spans[giver] = None
    return [
        replace(line, spans=held, level="M4" if number in changed and held else line.level)
        for number, (line, held) in enumerate(zip(lines, spans, strict=True))
        if line.bill or held
    ]


def _split(spans: Estimated, quantity: Fraction) -> tuple[Estimated | None, Estimated]:
    """Return what is left and the part with `quantity`, at the same price."""
    whole = Fraction(spans.quantity or 0)
    if quantity >= whole:
        return None, spans
    share = quantity / whole
    usd = None if spans.usd is None else step(spans.usd * share)
    priced = None if spans.priced_quantity is None else spans.priced_quantity * share
    part = replace(
        spans,
        calls=int(spans.calls * share),
        unpriced_calls=int(spans.unpriced_calls * share),
        quantity=quantity,
        priced_quantity=priced,
        usd=usd,
    )
    return (
        replace(
            spans,
            calls=spans.calls - part.calls,
            unpriced_calls=spans.unpriced_calls - part.unpriced_calls,
            quantity=whole - quantity,
            priced_quantity=None if priced is None else (spans.priced_quantity or 0) - priced,
            usd=None if spans.usd is None or usd is None else spans.usd - usd,
        ),
        part,
    )


_Tiers = dict[str, int]


@dataclass(slots=True)
class _Count:
    tiers: _Tiers = field(default_factory=_Tiers)
    by_agents: int = 0


class _Usage:
    """Finds what the provider counted of a product."""

    def __init__(self, counted: Iterable[Counted], *, keyed: bool) -> None:
        self._keyed = keyed
        self._rows: dict[tuple[str, str, LineItem], _Count] = {}
        self._families: defaultdict[tuple[str, str, LineItem], set[LineItem]] = defaultdict(set)
        for row in counted:
            product = row.item.product
            for key in (row.api_key_id, _ANY_KEY):
                count = self._rows.setdefault((row.project, key, product), _Count())
                count.tiers[row.item.tier] = count.tiers.get(row.item.tier, 0) + row.quantity
                count.by_agents += row.quantity if row.by_agents else 0
                self._families[row.project, key, product.family].add(product)

    def of(self, lines: Sequence[Line], *, alone: bool) -> _Count | None:
        """Return the count of the product of `lines`, None where none is surely of it alone.

        `alone` says that no other key of the project has the product.
        """
        first = lines[0]
        product = first.item.product
        keys = first.keys
        billed = any(line.bill for line in lines)
        if not self._keyed if billed else not first.api_key_id:
            keys = (_ANY_KEY,) if billed or alone else ()
        found = [self._one(first.project, key, product) for key in keys]
        known = [count for count in found if count is not None]
        if not known or len(known) < len(found):
            return None
        if len(known) == 1:
            return known[0]
        both = _Count(by_agents=sum(count.by_agents for count in known))
        for count in known:
            for tier, quantity in count.tiers.items():
                both.tiers[tier] = both.tiers.get(tier, 0) + quantity
        return both

    def _one(self, project: str, key: str, product: LineItem) -> _Count | None:
        if (project, key, product) in self._rows:
            return self._rows[project, key, product]
        same = self._families.get((project, key, product.family), ())
        return self._rows[project, key, next(iter(same))] if len(same) == 1 else None

    def names(self, project: str, keys: Iterable[str], product: LineItem) -> bool:
        """Return whether a product was counted by this very name."""
        return any((project, key, product) in self._rows for key in (*keys, _ANY_KEY))

    def knows(self, line: Line) -> bool:
        """Return whether anything of the family of a line was counted."""
        keys = line.keys if line.api_key_id else (_ANY_KEY,)
        return any((line.project, key, line.item.product.family) in self._families for key in keys)


_ANY_KEY = "*"


def _with_usage(
    lines: Iterable[Line], counted: Iterable[Counted], *, keyed: bool, counts_all: bool
) -> list[Line]:
    usage = _Usage(counted, keyed=keyed)
    groups: defaultdict[tuple[str, tuple[str, ...], LineItem], list[Line]] = defaultdict(list)
    found: list[Line] = []
    for line in lines:
        if line.item.form is Form.UNCLASSIFIED or line.item.surface:
            found.append(line)
        else:
            groups[line.project, line.keys, line.item.product].append(line)
    names = Counter((project, keys, product.family) for project, keys, product in groups)
    places = Counter((project, family) for project, _, family in names)
    for (project, keys, product), group in groups.items():
        count = usage.of(group, alone=places[project, product.family] == 1)
        if names[project, keys, product.family] > 1 and not usage.names(project, keys, product):
            count = None  # two names of one family: a count by a third is of neither for sure
        tiers = _shares(group, count.tiers if count else None)
        for line, share in zip(group, tiers, strict=True):
            used = share
            if used is None and not line.bill and counts_all and not usage.knows(line):
                used = {}  # all use was counted, and there was none
            agents = count.by_agents if count and len(group) == 1 else 0
            found.append(
                line if used is None else replace(line, usage=used, agents_quantity=agents)
            )
    return found


def _shares(
    lines: Sequence[Line], counted: _Tiers | None
) -> list[Mapping[str, int | Fraction] | None]:
    """Return the count of each line of a product. The bill may not tell all tiers apart."""
    if counted is None:
        return [None] * len(lines)
    if len(lines) == 1:
        return [counted]
    told = [line.item.tier for line in lines if line.bill] or [line.item.tier for line in lines]
    plain = "standard" if "standard" in told else told[0] if len(set(told)) == 1 else ""
    by_tier: defaultdict[str, dict[str, int | Fraction]] = defaultdict(dict)
    for tier, quantity in counted.items():
        by_tier[tier if tier in told else plain][tier] = quantity
    return [_share(line, lines, by_tier.get(line.item.tier)) for line in lines]


def _share(
    line: Line, lines: Sequence[Line], counted: Mapping[str, int | Fraction] | None
) -> Mapping[str, int | Fraction] | None:
    """Return the part of a line. The provider counts short and long context together."""
    contexts = [other for other in lines if other.item.tier == line.item.tier]
    if counted is None or len(contexts) == 1:
        return counted
    billed = [other.bill.quantity if other.bill else None for other in contexts]
    known = [quantity for quantity in billed if quantity is not None]
    if len(known) < len(billed) or sum(known) != sum(counted.values()):
        return None
    return {line.item.tier: (line.bill.quantity if line.bill else None) or 0}


def _added_up(rows: Iterable[_Side], total: Callable[[Sequence[_Side]], _Side]) -> list[_Side]:
    """Return `rows` with those of one project, key and product added up, in a fixed order."""
    found: defaultdict[tuple[str, str, LineItem], list[_Side]] = defaultdict(list)
    for row in rows:
        found[row.project, row.api_key_id, row.item].append(row)
    sums = [some[0] if len(some) == 1 else total(some) for some in found.values()]
    return sorted(sums, key=_order)


def _line(level: str, bill: Sequence[Billed], spans: Sequence[Estimated]) -> Line:
    keys = sorted({row.api_key_id for row in (bill or spans)})
    item = bill[0].item if bill else spans[0].item
    return Line(
        bill[0].project if bill else spans[0].project,
        keys[0] if len(keys) == 1 else "",
        bill[0].line_item if bill else billed_name(item),
        item,
        level,
        _sum_of_bill(bill) if bill else None,
        _sum_of_spans(spans) if spans else None,
        tuple(keys) if len(keys) > 1 else (),
    )


def _sum_of_bill(rows: Sequence[Billed]) -> Billed:
    if len(rows) == 1:
        return rows[0]
    rows = sorted(rows, key=_name)
    known = [row.quantity for row in rows if row.quantity is not None]
    return replace(
        rows[0],
        usd=sum((row.usd for row in rows), _NOTHING),
        quantity=sum(known, _NOTHING) if len(known) == len(rows) else None,
        credit=sum((row.credit for row in rows), _NOTHING),
        strange_unit=any(row.strange_unit for row in rows),
    )


def _sum_of_spans(rows: Sequence[Estimated]) -> Estimated:
    return rows[0] if len(rows) == 1 else replace(rows[0], **_sums(rows))


class _Sums(TypedDict):
    calls: int
    unpriced_calls: int
    quantity: Fraction | int | None
    priced_quantity: Fraction | int | None
    usd: Fraction | None


def _sums(rows: Sequence[Estimated]) -> _Sums:
    counted = [row.quantity for row in rows if row.quantity is not None]
    priced = [row.priced_quantity for row in rows if row.priced_quantity is not None]
    money = [row.usd for row in rows if row.usd is not None]
    return {
        "calls": sum(row.calls for row in rows),
        "unpriced_calls": sum(row.unpriced_calls for row in rows),
        "quantity": sum(counted) if len(counted) == len(rows) else None,
        "priced_quantity": sum(priced) if len(priced) == len(rows) else None,
        "usd": sum(money, _NOTHING) if money else None,
    }


def _order(row: Billed | Estimated) -> tuple[str, str, str, str]:
    return (row.project, row.api_key_id, _name(row), row.item.surface)


def _name(row: Billed | Estimated) -> str:
    return row.line_item if isinstance(row, Billed) else billed_name(row.item)


def _key(row: Billed | Estimated) -> str:
    return row.api_key_id


def _no_key(row: Billed | Estimated) -> str:  # noqa: ARG001 - it stands where `_key` stands
    return ""


def exactly(item: LineItem) -> LineItem:
    """Return what is common to both sides where they name the same product."""
    return item


def by_family(item: LineItem) -> LineItem:
    """Return what is common to both sides where only one of them dates the model."""
    return item.family


def by_product(item: LineItem) -> LineItem:
    """Return what is common to both sides where they do not tell the same tiers and contexts."""
    return item.product.family
