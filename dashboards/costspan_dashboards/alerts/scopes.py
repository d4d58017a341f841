"""The present and the same minutes of past days, summed by scope: what nearly every rule reads.

A scope is all calls or one value of one dimension. The past of a window is the same stretch of
earlier days, so that day and week cancel out; which days are alike, `Basis` says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from costspan_dashboards.alerts.frame import (
    BAND_MINUTES,
    COUNTS,
    DAY_MINUTES,
    DIMENSIONS,
    HISTORY_DAYS,
    SLOT_MINUTES,
    SUMS,
    Cells,
    Floats,
    Frame,
    History,
    Ints,
    Kept,
    Mark,
    Names,
    firsts,
    groups,
)

WINDOWS_MINUTES = (5, 15, 30, 60)
SCOPES = ("", "feature", "model", "team", "project", "key", "service")
"""The dimensions that rules look at, one value at a time; '' is all calls."""
DERIVED = ("failed_calls", "failed_attempts", "limited_calls", "limited_attempts")
"""Failures of any kind but rate limits, and rate limits: they ask for different remedies."""

BAND_FIGURES = ("attempts", "failed_attempts", "limited_attempts")

_FIGURE = {name: place for place, name in enumerate((*COUNTS, *SUMS, *DERIVED))}
_BAND_SLOTS = (BAND_MINUTES[1] - BAND_MINUTES[0]) // SLOT_MINUTES
_WEEKS = (7, 14, 21, 28)
_ENOUGH_WEEKS = 3
_HOUR_OF_DAY_DAYS = 14
_MOST_GROWTH = 4.0
_WEEK_DAYS = 7
_ALIKE = 1.35
"""Two days of the week whose levels differ by less than that are one sample."""


@dataclass(frozen=True, slots=True)
class Scope:
    """The calls a figure is about: one value of one dimension, or all of them."""

    dimension: str = ""
    value: str = ""

    def __str__(self) -> str:
        return f"{self.dimension}={self.value}" if self.dimension else "all calls"


@dataclass(frozen=True, slots=True)
class Basis:
    """Which past the present is compared with."""

    kind: Literal["objective", "same hour of day", "same hour of week"]
    days: tuple[int, ...]
    """How many whole days ago the compared stretches are."""
    history_hours: int

    @property
    def seasonal(self) -> bool:
        """Say whether there is a past to compare with."""
        return bool(self.days)

    @property
    def whole_week(self) -> bool:
        """Say whether the history has seen a weekend and a Monday."""
        return self.history_hours >= 7 * 24

    def __str__(self) -> str:
        history = (
            f"{self.history_hours} h"
            if self.history_hours < 48
            else f"{self.history_hours // 24} days"
        )
        return f"{len(self.days)} same slots ({self.kind}), {history} of history"


@dataclass(frozen=True, eq=False)
class Leaves:
    """Figures of the finest kinds of call: an array whose last axis is the leaf."""

    names: Names
    codes: Ints
    """A row for each of DIMENSIONS; a column is one leaf."""
    figures: Floats
    """A row for each figure, then whatever axes, then the leaf."""

    def by(self, dimension: str) -> Floats:
        """Return the figures summed by the values of a dimension, '' for all calls.

        The last axis is the value's number, the empty value included.
        """
        shape = self.figures.shape[:-1]
        if not dimension:
            return self.figures.sum(axis=-1, keepdims=True)
        found = np.zeros((*shape, self.names.size(dimension)))
        if self.codes.shape[1]:
            code = self.codes[DIMENSIONS.index(dimension)]
            order = np.argsort(code, kind="stable")
            first = firsts(code[order])
            found[..., code[order][first]] = np.add.reduceat(
                np.take(self.figures, order, axis=-1), first, axis=-1
            )
        return found


def figure(name: str) -> int:
    """Return the row of a figure."""
    return _FIGURE[name]


@dataclass(frozen=True, eq=False)
class Past:
    """What past days did in the windows that end at the slot, and around it."""

    history: History
    quiet: frozenset[int]
    """Environments that are not looked at."""

    @cached_property
    def _cells(self) -> tuple[Cells, Ints, Ints]:
        band = watched(self.history.band, self.quiet)
        back = self.history.until - band.minute
        day = (back + BAND_MINUTES[1] - 1) // DAY_MINUTES
        return band, day, back - day * DAY_MINUTES

    @cached_property
    def observed(self) -> NDArray[np.bool_]:
        """Whether anything at all was stored on each past day, one to HISTORY_DAYS ago.

        Nothing at this hour of a day on which there were calls is a habit too.
        """
        band, day, _ = self._cells
        days = watched(self.history.days, self.quiet)
        seen = np.zeros(HISTORY_DAYS, np.bool_)
        seen[day[band.count("attempts") > 0] - 1] = True
        ends = self.history.until - DAY_MINUTES * np.arange(1, HISTORY_DAYS + 1)
        return seen | np.isin(ends // DAY_MINUTES, days.minute // DAY_MINUTES)

    @cached_property
    def basis(self) -> Basis:
        """The days to compare with: none in the first day, then days, then weeks."""
        history = self.history
        if history.hours < 24 or history.first is None:
            return Basis("objective", (), history.hours)
        days = [day for day in self._whole_days if not self._left_out(day)]
        weeks = [day for day in days if day in _WEEKS]
        if len(weeks) >= _ENOUGH_WEEKS:
            return Basis("same hour of week", tuple(weeks), history.hours)
        recent = tuple(day for day in days if day <= _HOUR_OF_DAY_DAYS)
        return Basis("same hour of day" if recent else "objective", recent, history.hours)

    def came(self, since: int, until: int) -> Floats:
        """Return how many attempts each past day had in the same stretch, yesterday first.

        What lies before the band runs as its first hour does. A day that is no measure is NaN.
        """
        low, high = BAND_MINUTES
        begins = self.history.until + np.arange(low, high, SLOT_MINUTES)
        weights = np.clip(
            np.minimum(until, begins + SLOT_MINUTES) - np.maximum(since, begins), 0, SLOT_MINUTES
        ) / float(SLOT_MINUTES)
        weights[: 60 // SLOT_MINUTES] += max(0, int(begins[0]) - since) / 60
        attempts = self.by("", band=True)[BAND_FIGURES.index("attempts"), :, :, 0]
        measures = [
            day <= self._days and not self._left_out(day) for day in range(1, HISTORY_DAYS + 1)
        ]
        return np.where(measures, attempts @ weights, np.nan)

    @cached_property
    def leaves(self) -> Leaves:
        """By figure, day (the first is yesterday), window and leaf."""
        band, day, age = self._cells
        chosen = (age > 0) & (age <= WINDOWS_MINUTES[-1])
        cells, day, age = band.where(chosen), day[chosen], age[chosen]
        part = np.searchsorted(WINDOWS_MINUTES, age)
        axes = [(HISTORY_DAYS, day - 1), (len(WINDOWS_MINUTES), part)]
        return _leaves(cells, axes, figures_of(cells))

    @cached_property
    def band(self) -> Leaves:
        """Attempts and failed ones (BAND_FIGURES), by day, slot around the window's end, and leaf."""
        band, day, age = self._cells
        slot = (-BAND_MINUTES[0] - age) // SLOT_MINUTES
        shape = [(HISTORY_DAYS, day - 1), (_BAND_SLOTS, slot)]
        rows = [_FIGURE[name] for name in BAND_FIGURES]
        return _leaves(band, shape, figures_of(band)[rows], cumulative=False)

    def kept(self, key: tuple[object, ...], make: Callable[[], Kept]) -> Kept:
        """Return what is made once for the slot; `key` need not name the environments."""
        return self.history.kept((*key, self.quiet), make)

    def size(self, dimension: str) -> int:
        """Return how many values a dimension has by now; it may grow within a slot."""
        return self.history.names.size(dimension) if dimension else 1

    def by(self, dimension: str, *, band: bool = False) -> Floats:
        """Return figures by day, window (or slot of the band) and value of a dimension."""
        leaves = self.band if band else self.leaves
        return self.kept(
            ("by", dimension, band, self.size(dimension)), lambda: leaves.by(dimension)
        )

    def usable(self, dimension: str) -> NDArray[np.bool_]:
        """Return by day and value whether that day is a past to compare with."""
        size = self.size(dimension)
        return self.kept(("usable", dimension, size), lambda: self._usable(dimension, size))

    def without_new_levels(self, leaves: Leaves, dimension: str) -> Leaves:
        """Return the leaves without calls of which a mark of another dimension says to expect more.

        Their own value has a past of its own from the mark on; in a sum, nothing is known of them.
        """
        keep = np.ones(leaves.codes.shape[1], np.bool_)
        for mark in self.history.marks:
            if mark.kind == "new_level" and mark.dimension not in {"", dimension}:
                code = leaves.names.code(mark.dimension, mark.value)
                keep &= leaves.codes[DIMENSIONS.index(mark.dimension)] != code
        if keep.all():
            return leaves
        return Leaves(leaves.names, leaves.codes[:, keep], leaves.figures[..., keep])

    def _usable(self, dimension: str, size: int) -> NDArray[np.bool_]:
        usable = np.zeros((HISTORY_DAYS, size), np.bool_)
        usable[[day - 1 for day in self._whole_days], :] = True
        for mark in self.history.marks:
            if mark.dimension and mark.dimension != dimension:
                continue
            code = self.history.names.code(dimension, mark.value) if mark.dimension else slice(None)
            for day in self._whole_days:
                if self._covers(mark, day):
                    usable[day - 1, code] = False
        return usable

    @cached_property
    def _days(self) -> int:
        """How many days ago the longest window had begun after the first call."""
        history = self.history
        if history.first is None:
            return 0
        return (history.until - history.first - max(WINDOWS_MINUTES)) // DAY_MINUTES

    @cached_property
    def _whole_days(self) -> list[int]:
        days = range(1, min(self._days, HISTORY_DAYS) + 1)
        return [day for day in days if self.observed[day - 1]]

    def _left_out(self, day: int) -> bool:
        return any(not mark.dimension and self._covers(mark, day) for mark in self.history.marks)

    def _covers(self, mark: Mark, day: int) -> bool:
        end = self.history.until - day * DAY_MINUTES
        begin = end - max(WINDOWS_MINUTES)
        if mark.kind == "new_level":
            return begin < mark.since <= self.history.until
        return begin < (mark.until or self.history.until) and end > mark.since


@dataclass(frozen=True, eq=False)
class Usual:
    """What is usual of one figure, by window and value: its level and how far days scatter."""

    level: Floats
    spread: Floats
    days: Ints
    """By value: how many days that is known from."""


def usual(past: Past, name: str, dimension: str, *, rising: bool = True) -> Usual:
    """Return the level of a figure in the same stretch of days that are alike.

    The median over the same day of past weeks, and over those days of the week that run at the same
    level at that time: four values would scatter by themselves. It is moved by how the last seven
    days stand to *their* weeks: a level that has been new for four days is the usual one. A rise is
    held against the higher of both, a fall against the lower.
    """
    return past.kept(
        ("usual", name, dimension, rising, past.size(dimension)),
        lambda: _usual(past, name, dimension, rising=rising),
    )


def _usual(past: Past, name: str, dimension: str, *, rising: bool) -> Usual:
    row = _FIGURE[name]
    figures = Leaves(past.leaves.names, past.leaves.codes, past.leaves.figures[row : row + 1])
    values = past.without_new_levels(figures, dimension).by(dimension)[0]
    usable = past.usable(dimension)
    known = np.where(usable[:, None, :], values, np.nan)
    if past.basis.kind == "same hour of week":
        chosen = np.where(_alike(known[:, -1, :])[:, None, :], known, np.nan)
    else:
        chosen = known[[day - 1 for day in past.basis.days]]
    with np.errstate(divide="ignore", invalid="ignore"):
        level = median(chosen)
        spread = 1.4826 * median(np.abs(chosen - level))
        if past.basis.kind == "same hour of week":
            hour = known[:, -1, :]
            weeks = hour.reshape(-1, _WEEK_DAYS, hour.shape[-1])
            ratios = weeks[0] / median(weeks[1:])
            ratios[~np.isfinite(ratios)] = np.nan
            growth = median(ratios)
            enough = np.isfinite(ratios).sum(axis=0) > _WEEK_DAYS // 2
            bounds = (1.0, _MOST_GROWTH) if rising else (1 / _MOST_GROWTH, 1.0)
            level = level * np.where(enough, np.clip(growth, *bounds), 1.0)
            if rising:  # what grew from nothing, or to many times as much
                new = ~enough | (growth >= _MOST_GROWTH)
                level = np.where(new, np.fmax(level, median(known[:_WEEK_DAYS])), level)
        elif not rising:  # a weekend is no fall from the days before
            level = np.fmin(level, median(known[_WEEK_DAYS - 1 :: _WEEK_DAYS]))
    days = np.isfinite(chosen[:, 0, :]).sum(axis=0)
    return Usual(np.nan_to_num(level), np.nan_to_num(spread), days)


def _alike(hour: Floats) -> NDArray[np.bool_]:
    """Return by past day and value whether it is a day of the week that runs at today's level."""
    weeks = median(hour.reshape(-1, _WEEK_DAYS, hour.shape[-1]))
    today = weeks[-1]  # seven days ago, fourteen, ...
    near = (weeks <= today * _ALIKE) & (weeks * _ALIKE >= today)
    near[-1] = True
    return near[np.arange(len(hour)) % _WEEK_DAYS]


@dataclass(frozen=True, eq=False)
class View:
    """The present beside the past, without the environments that are not looked at."""

    frame: Frame
    past: Past
    about: frozenset[Scope] | None = None
    """What is asked for; None for everything."""

    @classmethod
    def of(
        cls,
        frame: Frame,
        quiet_environments: Iterable[str],
        about: frozenset[Scope] | None = None,
    ) -> View:
        """Return the view on a frame; the past of its slot is kept with the history."""
        quiet = frame.names.known("environment", quiet_environments)
        history = frame.history
        return cls(frame, history.kept(("past", quiet), lambda: Past(history, quiet)), about)

    def asks(self, one: Scope) -> bool:
        """Say whether a scope is asked for."""
        return self.about is None or one in self.about

    @cached_property
    def scopes(self) -> list[str]:
        """The SCOPES in which the present has more than one value: one alone is all calls."""
        several = [""]
        for name in SCOPES[1:]:
            codes = self.leaves.codes[DIMENSIONS.index(name)]
            if len(codes) and codes.max() > codes.min():
                several.append(name)
        return several

    @property
    def cells(self) -> Cells:
        """The present's cells of the longest window."""
        quiet = self.past.quiet
        return self.frame.kept(
            ("cells", quiet), lambda: watched(self.frame.window(WINDOWS_MINUTES[-1]), quiet)
        )

    def window(self, minutes: int) -> Cells:
        """Return the present's cells of a window."""
        return self.cells.between(self.frame.until - minutes, self.frame.until)

    @property
    def leaves(self) -> Leaves:
        """By figure, window and leaf; the user is left out."""

        def leaves() -> Leaves:
            age = self.frame.until - self.cells.minute
            part = np.searchsorted(WINDOWS_MINUTES, age)
            return _leaves(self.cells, [(len(WINDOWS_MINUTES), part)], figures_of(self.cells))

        return self.frame.kept(("leaves", self.past.quiet), leaves)

    def by(self, dimension: str) -> Floats:
        """Return figures by window and value of a dimension."""
        return self.frame.kept(
            ("by", dimension, self.past.size(dimension), self.past.quiet),
            lambda: self.leaves.by(dimension),
        )

    def scope(self, dimension: str, code: int) -> Scope:
        """Return the scope that has a number."""
        return Scope(dimension, self.frame.names.name(dimension, code)) if dimension else Scope()


def watched(cells: Cells, quiet: frozenset[int]) -> Cells:
    """Return the cells of environments that are looked at."""
    if not quiet:
        return cells
    keep = ~np.isin(cells.code("environment"), list(quiet))
    return cells if keep.all() else cells.where(keep)


def figures_of(cells: Cells) -> Floats:
    """Return all figures of cells, a row each."""
    kind = cells.code("error_kind")
    limited = kind == cells.names.code("error_kind", "rate_limit")
    failed = (kind > 0) & ~limited
    calls, attempts = cells.count("calls"), cells.count("attempts")
    derived = [calls * failed, attempts * failed, calls * limited, attempts * limited]
    found = np.empty((len(_FIGURE), len(cells)))
    found[: len(COUNTS)] = cells.counts
    found[len(COUNTS) : -len(DERIVED)] = cells.sums
    found[-len(DERIVED) :] = derived
    return found


def _leaves(
    cells: Cells, axes: list[tuple[int, Ints]], figures: Floats, *, cumulative: bool = True
) -> Leaves:
    kinds = [row for name, row in zip(DIMENSIONS, cells.codes, strict=True) if name != "user"]
    member, leaf = groups(kinds)
    codes = cells.codes[:, member]
    codes[DIMENSIONS.index("user")] = 0
    size = len(member)
    shape = tuple(length for length, _ in axes)
    place = np.zeros(len(cells), np.int64)
    for length, position in axes:
        place = place * length + position
    place = place * size + leaf
    flat = np.zeros((len(figures), int(np.prod(shape)) * size))
    if len(cells):
        small = np.uint16 if flat.shape[1] <= 2**16 else np.int64  # which is sorted much sooner
        order = np.argsort(place.astype(small), kind="stable")
        first = firsts(place[order])
        flat[:, place[order][first]] = np.add.reduceat(
            np.take(figures, order, axis=1), first, axis=1
        )
    found = flat.reshape(len(figures), *shape, size)
    for window in range(1, shape[-1] if cumulative else 0):
        found[..., window, :] += found[..., window - 1, :]
    return Leaves(cells.names, codes, found)


def median(values: Floats) -> Floats:
    """Return the median along the first axis of what is not NaN; NaN where nothing is known."""
    if not len(values):
        return np.full(values.shape[1:], np.nan)
    ordered = np.sort(values, axis=0)  # NaN goes last
    known = np.isfinite(values).sum(axis=0)
    low, high = np.maximum(known - 1, 0) // 2, known // 2
    pick = np.stack([low, np.minimum(high, len(values) - 1)])
    return np.asarray(np.take_along_axis(ordered, pick, axis=0).mean(axis=0), np.float64)
