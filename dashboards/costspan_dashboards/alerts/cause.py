"""Which calls explain it? A scan over the values of the dimensions and their combinations.

Each element (a set of values) has a score: for counts and dollars the Poisson log-likelihood ratio
`a ln(a / e) - (a - e)` of what was seen and what was to be expected, for a rise or for a fall; for
shifts of a mean the Gaussian one. Each further dimension must earn its place (times 0.9). The best
element is taken, its leaves are brought back to the expected, and the search repeats.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import combinations, pairwise
from typing import Literal

import numpy as np

from costspan_dashboards.alerts.frame import (
    DIMENSIONS as ALL_DIMENSIONS,
)
from costspan_dashboards.alerts.frame import (
    Floats,
    Ints,
    Names,
    groups,
    tally,
)

DIMENSIONS: tuple[str, ...] = (
    "feature",
    "model",
    "prompt",
    "team",
    "user",
    "project",
    "key",
    "service",
    "environment",
    "error_kind",
)
"""Coarse ones first: where two say the same, the first is the cause."""
AT_MOST = 3

_DEPTH = 3
_PER_DIMENSION = 0.9
_NEARLY_ALL = 0.95
_BY_CHANCE, _SMALL = 3.0, 0.25
"""Standard deviations, and a part of the first cause's shift: less is no part of an excess."""
_TOLD_USERS = 20
_FIRSTS = 5
"""So many elements are tried as the first cause: two causes may look like one that holds both."""

Pairs = tuple[tuple[str, str], ...]
Score = Callable[[Floats, Floats], Floats]


@dataclass(frozen=True, eq=False)
class Table:
    """What the finest kinds of call did, and what was to be expected of them."""

    names: Names
    codes: Ints
    """A row for each of DIMENSIONS, a column for each leaf; 0 where it does not apply."""
    actual: Floats
    expected: Floats

    @classmethod
    def of(cls, names: Names, codes: Ints, actual: Floats, expected: Floats) -> "Table":
        """Make a table of codes in the rows of `frame.DIMENSIONS`, equal ones added up."""
        rows = codes[[ALL_DIMENSIONS.index(name) for name in DIMENSIONS]]
        return cls(names, rows, actual, expected).merged()

    def merged(self) -> "Table":
        """Return the table with equal leaves added up and all but the leading users as one."""
        codes = self.codes.copy()
        place = DIMENSIONS.index("user")
        excess = tally(codes[place], np.abs(self.actual - self.expected))
        if len(excess) > _TOLD_USERS:
            told = np.argsort(excess)[-_TOLD_USERS:]
            codes[place][~np.isin(codes[place], told)] = 0
        if not codes.shape[1]:
            return self
        member, leaf = groups(list(codes))
        return Table(
            self.names,
            codes[:, member],
            tally(leaf, self.actual),
            tally(leaf, self.expected),
        )

    def pairs(self, dimensions: Iterable[int], leaf: int) -> Pairs:
        """Return the values of a leaf in some dimensions."""
        return tuple(
            (DIMENSIONS[place], self.names.name(DIMENSIONS[place], int(self.codes[place, leaf])))
            for place in dimensions
        )


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
class Explanation:
    """What explains a rise or a fall."""

    contributors: tuple[Contributor, ...]
    """The best first; none if it is spread evenly."""
    shared: Pairs
    """Every value that nearly all of the first cause share, or of everything if it is spread."""

    @property
    def where(self) -> Pairs:
        """The first cause; empty if it is spread over everything."""
        return self.contributors[0].where if self.contributors else ()


def rise(actual: Floats, expected: Floats) -> Floats:
    """Score what is more than expected."""
    up = actual > expected
    a, e = np.where(up, actual, 1.0), np.where(up, np.maximum(expected, 1e-300), 1.0)
    return np.where(up, a * np.log(a / e) - (a - e), 0.0)


def fall(actual: Floats, expected: Floats) -> Floats:
    """Score what is less than expected."""
    down = actual < expected
    a, e = np.where(down, np.maximum(actual, 1e-300), 1.0), np.where(down, expected, 1.0)
    return np.where(down, a * np.log(a / e) - (a - e), 0.0)


def shift(total: Floats, calls: Floats) -> Floats:
    """Score a sum of deviations (in standard deviations, upwards) over so many calls."""
    up = (total > 0) & (calls > 0)
    return np.where(up, total, 0.0) ** 2 / (2 * np.where(up, calls, 1.0))


def explain(
    table: Table,
    score: Score = rise,
    *,
    prefer: Literal["feature", "model"] = "feature",
    slack: float = 0.0,
    relative_slack: float = 0.0,
    keeps: float = 0.3,
    choice: float = 0.0,
    least: float = 0.0,
) -> Explanation:
    """Return the elements that explain what is out of the usual, at most three.

    A further one must have the part `keeps` of the first one's score.

    A model and a feature that hold nearly the same calls cannot be told apart: of two whose scores
    are that close, `prefer` says which one it is more likely to be.

    Args:
        table: What was seen, and what was to be expected.
        score: How an element is scored.
        prefer: The dimension that is blamed where two are alike.
        slack: How much lower the score of the preferred one may be.
        relative_slack: The same, as a part of the score.
        keeps: What a further cause must have of the first one's score.
        choice: What the score of one value of N is lowered by, times the logarithm of N: of many
            users one has two failures by chance. 1 where scores are log-likelihoods of counts.
        least: What must be seen, times the expected.
    """
    judge = _Judge(score, _floor(table, score), choice, least)
    elements = _Elements.of(table)
    best: list[tuple[Pairs, Ints]] = []
    best_total = 0.0
    for first in _ranked(table, elements, judge)[:_FIRSTS]:
        taken, scores = _greedy(table, elements, judge, first, prefer, slack, relative_slack, keeps)
        total = sum(value * _PER_DIMENSION**place for place, value in enumerate(scores))
        if total > best_total * (1 + 1e-9):
            best, best_total = taken, total
    everything = np.arange(table.codes.shape[1], dtype=np.int64)
    return Explanation(
        _contributors(table, best, score), _shared(table, best[0][1] if best else everything)
    )


def is_news(where: Pairs, shared: Pairs, told: Iterable[Pairs]) -> bool:
    """Say whether a cause is another fault than those already told.

    It is not when it lies inside a told one or a told one inside of it, or has more in common with
    it than the kind of error.
    """
    mine = {*where, *shared}
    for known in told:
        common = {pair for pair in known if pair in where and pair[0] != "error_kind"}
        if common or mine.issuperset(known) or {*where} <= {*known}:
            return False
    return True


def _floor(table: Table, score: Score) -> float:
    """Return the least that is expected of an element.

    Something never seen before would be infinitely surprising however small it is.
    """
    if score is not rise:
        return 0.0
    return max(float(table.expected.sum()) * 1e-3, float(table.actual.sum()) * 1e-6)


@dataclass(frozen=True, slots=True)
class _Judge:
    """How elements are scored."""

    score: Score
    floor: float
    choice: float
    least: float

    def __call__(self, actual: Floats, expected: Floats, choices: Floats) -> Floats:
        """Return scores; `choices` is the logarithm of how many elements each is one of."""
        expected = np.maximum(expected, self.floor)
        found = self.score(actual, expected) - self.choice * choices
        return np.where(actual >= self.least * expected, np.maximum(found, 0.0), 0.0)


_Element = tuple[int, int]
"""Of which combination, and its number."""


@dataclass(frozen=True, eq=False)
class _Elements:
    """The values of each combination of dimensions, all numbered in one row."""

    dimensions: Sequence[tuple[int, ...]]
    """The combinations, single ones first."""
    element: Ints
    """By combination and leaf: which element the leaf is in."""
    first: Ints
    """By combination: its first element; the last is where the last one ends."""
    weight: Floats
    """By element; 0 for one that lacks a value."""
    choices: Floats
    """By element: the logarithm of how many its combination could have."""

    @classmethod
    def of(cls, table: Table) -> "_Elements":
        """Number every element of a table."""
        leaves = table.codes.shape[1]
        varied = [
            place
            for place in range(len(DIMENSIONS))
            if leaves and table.codes[place].max() > table.codes[place].min()
        ]
        rank = {place: np.unique(table.codes[place], return_inverse=True)[1] for place in varied}
        dimensions = [
            chosen for depth in range(1, _DEPTH + 1) for chosen in combinations(varied, depth)
        ]
        keys, valid = (np.zeros((len(dimensions), leaves), np.int64) for _ in range(2))
        begin = 0
        for place, chosen in enumerate(dimensions):
            width = 1
            valid[place] = (table.codes[list(chosen)] > 0).all(axis=0)
            for one in chosen:
                size = int(rank[one].max()) + 1
                keys[place] = keys[place] * size + rank[one]
                width *= size
            keys[place] += begin
            begin += width
        _, member, element = np.unique(keys, return_index=True, return_inverse=True)
        element = element.reshape(keys.shape).astype(np.int64)
        which = member // max(leaves, 1)
        depth = np.array([len(chosen) for chosen in dimensions], np.int64)
        sizes = np.log([table.names.size(name) for name in DIMENSIONS])
        choices = np.array([sizes[list(chosen)].sum() for chosen in dimensions], np.float64)
        return cls(
            dimensions,
            element,
            first=np.append(element.min(axis=1, initial=len(member)), len(member)),
            weight=valid.ravel()[member] * _PER_DIMENSION ** (depth[which] - 1),
            choices=choices[which],
        )

    def scores(self, judge: _Judge, actual: Floats, expected: Floats) -> Floats:
        """Return the score of each element."""
        row, times = self.element.ravel(), len(self.dimensions)
        a = tally(row, np.tile(actual, times), len(self.weight))
        e = tally(row, np.tile(expected, times), len(self.weight))
        return np.where(self.weight > 0, judge(a, e, self.choices), 0.0) * self.weight

    def top(self, place: int, scores: Floats) -> _Element:
        """Return the best element of a combination."""
        first, end = self.first[place : place + 2].tolist()
        return place, first + int(scores[first:end].argmax())

    def best(self, scores: Floats) -> _Element | None:
        """Return the best element of all; of equals, that of the first combination."""
        highest, chosen = 0.0, -1
        for place, top in enumerate(np.maximum.reduceat(scores, self.first[:-1]).tolist()):
            if top > highest * (1 + 1e-9):
                highest, chosen = top, place
        return self.top(chosen, scores) if chosen >= 0 else None

    def members(self, element: _Element) -> Ints:
        """Return the leaves of an element."""
        place, number = element
        return np.flatnonzero(self.element[place] == number)


def _ranked(table: Table, elements: _Elements, judge: _Judge) -> list[_Element]:
    """Return the best elements that beat the whole, one of each group of calls."""
    actual, expected = np.array([[table.actual.sum()], [table.expected.sum()]], np.float64)
    whole = float(judge(actual, expected, np.zeros(1))[0])
    scores = elements.scores(judge, table.actual, table.expected)
    found: list[tuple[float, _Element]] = []
    for place, (first, end) in enumerate(pairwise(elements.first.tolist())):
        beats = first + np.flatnonzero(scores[first:end] > whole * (1 + 1e-9))
        for top in beats[np.argsort(-scores[beats], kind="stable")[:_FIRSTS]].tolist():
            found.append((float(scores[top]), (place, top)))
    found.sort(key=lambda one: -one[0])
    distinct: list[_Element] = []
    for _, one in found:
        members = elements.members(one)
        if not any(np.array_equal(members, elements.members(other)) for other in distinct):
            distinct.append(one)
    return distinct


def _greedy(
    table: Table,
    elements: _Elements,
    judge: _Judge,
    first: _Element,
    prefer: str,
    slack: float,
    relative_slack: float,
    keeps: float,
) -> tuple[list[tuple[Pairs, Ints]], list[float]]:
    """Return a set of causes that begins with one element, and what each of them scores."""
    actual, expected = table.actual.copy(), table.expected.copy()
    scores = elements.scores(judge, actual, expected)
    taken: list[tuple[Pairs, Ints]] = []
    gained: list[float] = []
    best: _Element | None = first
    while best is not None:
        value = float(scores[best[1]])
        if gained and value < keeps * gained[0]:
            break
        least = value - max(slack, relative_slack * value)
        one = _preferred(elements, best, prefer, scores, least)
        members = elements.members(one)
        taken.append((table.pairs(elements.dimensions[one[0]], int(members[0])), members))
        gained.append(value)
        if len(taken) == AT_MOST:
            break
        if judge.score is shift:
            actual[members] = 0.0
        else:
            a, e = actual[members].sum(), expected[members].sum()
            actual[members] = actual[members] * (e / a) if a else expected[members]
        scores = elements.scores(judge, actual, expected)
        best = elements.best(scores)
    return taken, gained


def _preferred(
    elements: _Elements, best: _Element, prefer: str, scores: Floats, least: float
) -> _Element:
    """Return the element with the preferred dimension instead, if it scores enough."""
    dimensions = elements.dimensions[best[0]]
    wanted, other = (
        DIMENSIONS.index(name)
        for name in (prefer, {"feature": "model", "model": "feature"}[prefer])
    )
    if other not in dimensions or wanted in dimensions:
        return best
    instead = tuple(sorted(wanted if place == other else place for place in dimensions))
    if instead not in elements.dimensions:
        return best
    found = elements.top(elements.dimensions.index(instead), scores)
    shared = np.intersect1d(elements.members(found), elements.members(best))
    return found if scores[found[1]] >= least and len(shared) else best


def _contributors(
    table: Table, taken: Sequence[tuple[Pairs, Ints]], score: Score
) -> tuple[Contributor, ...]:
    # Of a shift, what stands in for the expected is the number of calls: no shift was expected.
    usual = table.expected * 0 if score is shift else table.expected
    counted = np.zeros(table.codes.shape[1], np.bool_)
    sums: list[tuple[float, float]] = []
    for _, members in taken:
        own = members[~counted[members]]
        counted[own] = True
        sums.append((float(table.actual[own].sum()), float(usual[own].sum())))
    whole = float((table.actual - usual)[_moved(table, taken, score)].sum())
    named = sum(actual - expected for actual, expected in sums)
    excess = max(whole, named) if named >= 0 else min(whole, named)
    return tuple(
        Contributor(
            where=pairs,
            also=_also(table, pairs, members),
            actual=_decimal(actual),
            expected=_decimal(expected),
            share=float((actual - expected) / excess) if excess else 0.0,
        )
        for (pairs, members), (actual, expected) in zip(taken, sums, strict=True)
    )


def _moved(table: Table, taken: Sequence[tuple[Pairs, Ints]], score: Score) -> Ints:
    """Return the leaves that the excess is summed over; of small shifts that chance makes, none."""
    everything = np.arange(table.codes.shape[1], dtype=np.int64)
    if score is not shift or not taken:
        return everything
    calls, first = table.expected, taken[0][1]
    mean = table.actual / np.maximum(calls, 1e-9)
    least = _SMALL * float(table.actual[first].sum()) / max(float(calls[first].sum()), 1e-9)
    far = (table.actual > _BY_CHANCE * np.sqrt(calls)) & (mean > least)
    return np.unique(np.concatenate([everything[far], *(members for _, members in taken)]))


def _also(table: Table, where: Pairs, members: Ints) -> Pairs:
    """Return what the cause shares besides, leaving out what nearly all calls share anyway."""
    usual = table.expected.sum()
    found: list[tuple[str, str]] = []
    for dimension, value in _shared(table, members):
        code = table.codes[DIMENSIONS.index(dimension)]
        mine = table.names.code(dimension, value)
        everywhere = usual > 0 and table.expected[code == mine].sum() / usual >= _NEARLY_ALL
        if dimension not in dict(where) and not everywhere:
            found.append((dimension, value))
    return tuple(found)


def _shared(table: Table, members: Ints) -> Pairs:
    weight = np.abs(table.actual[members])
    if not weight.sum():
        weight = np.abs(table.expected[members])
    found: list[tuple[str, str]] = []
    for place, dimension in enumerate(DIMENSIONS):
        sums = tally(table.codes[place, members], weight) if len(members) else np.zeros(1)
        most = int(sums.argmax())
        if most and sums[most] >= _NEARLY_ALL * weight.sum():
            found.append((dimension, table.names.name(dimension, most)))
    return tuple(found)


def _decimal(value: float) -> Decimal:
    return Decimal(str(round(value, 6)))
