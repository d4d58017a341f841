"""Which calls explain it? A scan over the values of the dimensions and their combinations.

The score of an element with actual `a` and expected `e` is the Poisson log-likelihood ratio
`a ln(a / e) - (a - e)`; each further dimension must earn its place (times 0.9). The best
element is taken, its leaves are brought back to the expected, and the search repeats.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import combinations

DIMENSIONS: tuple[str, ...] = ("feature", "model", "team", "user", "project", "key", "error_type")
AT_MOST = 3

_DEPTH = 3
_PER_DIMENSION = 0.9
_KEEPS = 0.3
"""A further cause must have that share of the first one's score."""
_NEARLY_ALL = 0.95
_PRIOR_CALLS = 50
_RARE_KIND = 0.05
"""Of all errors, for a kind hardly ever seen: else its newness would outshine where it happens."""

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Leaf:
    """What the calls with one value in every dimension did, and what was to be expected."""

    values: tuple[str, ...]
    """In the order of `DIMENSIONS`; empty where it is not known or does not apply."""
    actual: Decimal
    expected: Decimal


@dataclass(frozen=True, slots=True)
class Contributor:
    """One cause: the calls with these values."""

    where: Pairs
    also: Pairs
    """Values that nearly all of these calls share besides."""
    actual: Decimal
    expected: Decimal
    share: float
    """Of the whole excess."""

    def __str__(self) -> str:
        return " & ".join(f"{dimension}={value}" for dimension, value in self.where)


@dataclass(frozen=True, slots=True)
class Cell:
    """A row of `leaves.sql`: the present window and the hours of the past it is compared with."""

    feature: str
    model: str
    team: str
    user: str
    project: str
    key: str
    error_type: str
    calls: int
    slow_calls: int
    cost_usd: Decimal
    usual_calls: int
    usual_cost_usd: Decimal


@dataclass(frozen=True, slots=True)
class Explanation:
    """What explains a rise."""

    contributors: tuple[Contributor, ...]
    """The best first; none if the rise is spread evenly."""
    shared: Pairs
    """Every value that nearly all of the first cause share, or of everything if it is spread."""


def surprise(actual: float, expected: float) -> float:
    """Return how surprising `actual` is where `expected` was to be seen; 0 where it is not more."""
    if actual <= expected or actual <= 0:
        return 0.0
    floor = max(expected, actual * 1e-6)
    return actual * math.log(actual / floor) - (actual - floor)


def spend_leaves(cells: Iterable[Cell], *, window_minutes: int, days: int) -> list[Leaf]:
    """Return dollars spent in the window and in the mean of the same slots."""
    scale = Decimal(window_minutes) / 60 / max(days, 1)
    return [Leaf(_values(cell, ""), cell.cost_usd, cell.usual_cost_usd * scale) for cell in cells]


def latency_leaves(cells: Iterable[Cell]) -> list[Leaf]:
    """Return slow calls, of which one in twenty was to be expected."""
    return [
        Leaf(_values(cell, ""), Decimal(cell.slow_calls), Decimal(cell.calls) / 20)
        for cell in cells
        if cell.calls and not cell.error_type
    ]


def error_leaves(cells: Iterable[Cell], usual_share: float) -> list[Leaf]:
    """Return failed calls by kind of error, and what the usual share of failures gives.

    A share known from few calls is pulled to that of its feature and model, and that one to
    the whole's.
    """
    kept = list(cells)
    calls: defaultdict[tuple[str, ...], int] = defaultdict(int)
    failed: defaultdict[tuple[str, ...], defaultdict[str, int]] = defaultdict(
        lambda: defaultdict(int)
    )
    past: defaultdict[tuple[str, ...], list[int]] = defaultdict(lambda: [0, 0])
    past_by_type: defaultdict[str, int] = defaultdict(int)
    for cell in kept:
        leaf = _values(cell, "")
        calls[leaf] += cell.calls
        for group in (leaf, leaf[:2]):
            past[group][0] += cell.usual_calls
        if cell.error_type:
            failed[leaf][cell.error_type] += cell.calls
            past_by_type[cell.error_type] += cell.usual_calls
            for group in (leaf, leaf[:2]):
                past[group][1] += cell.usual_calls
    all_past = max(sum(past_by_type.values()), 1)
    leaves: list[Leaf] = []
    for leaf, count in calls.items():
        share = usual_share
        for group in (leaf[:2], leaf):
            seen, errors = past[group]
            share = (errors + _PRIOR_CALLS * share) / (seen + _PRIOR_CALLS)
        for kind, seen_of_kind in past_by_type.items():
            actual = failed[leaf][kind]
            expected = count * share * max(seen_of_kind / all_past, _RARE_KIND)
            values = (*leaf[:-1], kind)
            leaves.append(Leaf(values, Decimal(actual), Decimal(str(round(expected, 9)))))
    return leaves


def explain(leaves: Sequence[Leaf]) -> Explanation:
    """Return the elements that explain the rise, at most three."""
    actual = [float(leaf.actual) for leaf in leaves]
    expected = [float(leaf.expected) for leaf in leaves]
    members = _elements(leaves)
    # Something never seen before would be infinitely surprising however small it is.
    floor = max(sum(expected) * 1e-3, sum(actual) * 1e-6)
    taken: list[tuple[Pairs, list[int]]] = []
    first = 0.0
    while len(taken) < AT_MOST:
        best, best_score = None, 0.0
        for pairs, indexes in members.items():
            a = sum(actual[index] for index in indexes)
            e = max(sum(expected[index] for index in indexes), floor)
            score = surprise(a, e) * _PER_DIMENSION ** max(len(pairs) - 1, 0)
            if score > best_score * (1 + 1e-9):
                best, best_score = pairs, score
        if best is None or not best or best_score < _KEEPS * first:
            break
        first = first or best_score
        indexes = members[best]
        taken.append((best, indexes))
        a = sum(actual[index] for index in indexes)
        e = sum(expected[index] for index in indexes)
        for index in indexes:
            actual[index] *= e / a
    first_indexes = taken[0][1] if taken else range(len(leaves))
    return Explanation(_contributors(leaves, taken), _shared(leaves, first_indexes))


def is_news(where: Pairs, shared: Pairs, told: Iterable[Pairs]) -> bool:
    """Say whether a cause is another fault than those already told.

    It is not when it lies inside a told one, or has more in common with it than the kind of
    error.
    """
    mine = {*where, *shared}
    for known in told:
        common = {pair for pair in known if pair in where and pair[0] != "error_type"}
        if common or mine.issuperset(known):
            return False
    return True


def _values(cell: Cell, error_type: str) -> tuple[str, ...]:
    return (
        cell.feature,
        cell.model,
        cell.team,
        cell.user,
        cell.project,
        cell.key,
        error_type,
    )


def _elements(leaves: Sequence[Leaf]) -> dict[Pairs, list[int]]:
    members: defaultdict[Pairs, list[int]] = defaultdict(list)
    for index, leaf in enumerate(leaves):
        named = [pair for pair in zip(DIMENSIONS, leaf.values, strict=True) if pair[1]]
        for depth in range(_DEPTH + 1):
            for pairs in combinations(named, depth):
                members[pairs].append(index)
    # Coarse elements first: where two say the same, the simpler one is the cause.
    order = {dimension: place for place, dimension in enumerate(DIMENSIONS)}
    return dict(
        sorted(
            members.items(), key=lambda item: (len(item[0]), [order[name] for name, _ in item[0]])
        )
    )


def _contributors(
    leaves: Sequence[Leaf], taken: Sequence[tuple[Pairs, list[int]]]
) -> tuple[Contributor, ...]:
    counted: set[int] = set()
    sums: list[tuple[Decimal, Decimal]] = []
    for _, indexes in taken:
        own = [index for index in indexes if index not in counted]
        counted.update(own)
        sums.append(
            (
                sum((leaves[index].actual for index in own), Decimal(0)),
                sum((leaves[index].expected for index in own), Decimal(0)),
            )
        )
    whole = sum((leaf.actual - leaf.expected for leaf in leaves), Decimal(0))
    named = sum((actual - expected for actual, expected in sums), Decimal(0))
    excess = max(whole, named)
    return tuple(
        Contributor(
            where=pairs,
            also=_also(leaves, pairs, indexes),
            actual=actual,
            expected=expected,
            share=float((actual - expected) / excess) if excess > 0 else 0.0,
        )
        for (pairs, indexes), (actual, expected) in zip(taken, sums, strict=True)
    )


def _also(leaves: Sequence[Leaf], where: Pairs, indexes: Sequence[int]) -> Pairs:
    """Return what the cause shares besides, leaving out what nearly all calls share anyway."""
    found: list[tuple[str, str]] = []
    for dimension, value in _shared(leaves, indexes):
        place = DIMENSIONS.index(dimension)
        usual = sum((leaf.expected for leaf in leaves), Decimal(0))
        of_value = sum(
            (leaf.expected for leaf in leaves if leaf.values[place] == value), Decimal(0)
        )
        everywhere = usual > 0 and float(of_value / usual) >= _NEARLY_ALL
        if dimension not in dict(where) and not everywhere:
            found.append((dimension, value))
    return tuple(found)


def _shared(leaves: Sequence[Leaf], indexes: Iterable[int]) -> Pairs:
    kept = list(indexes)
    found: list[tuple[str, str]] = []
    for place, dimension in enumerate(DIMENSIONS):
        sums: defaultdict[str, Decimal] = defaultdict(Decimal)
        for index in kept:
            sums[leaves[index].values[place]] += leaves[index].actual
        value, most = max(sums.items(), key=lambda item: item[1], default=("", Decimal(0)))
        if value and float(most) >= _NEARLY_ALL * float(sum(sums.values())):
            found.append((dimension, value))
    return tuple(found)
