"""How good scores are: the Numenta benchmark's standard profile, and pages against incidents."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ranges = Sequence[list[float]]

FALSE_POSITIVE_COST = 0.11
PROBATION_SHARE = 0.15
MOST_PROBATION_ROWS = 750
WEEK_SECONDS = 7 * 86_400
PAGE_GAP_SECONDS = 3_600


@dataclass(frozen=True, eq=False)
class Scored:
    """A labelled series and the scores that a detector gave its rows."""

    name: str
    times: Floats
    scores: Floats
    ranges: Ranges
    """When something was wrong, both ends included."""


@dataclass(frozen=True, slots=True)
class NabTotal:
    """What a corpus is worth at the threshold that serves it best, or at a given one."""

    total: float
    """0 where nothing is reported, 100 where all is reported at once and nothing else is."""
    threshold: float


@dataclass(frozen=True, slots=True)
class PageTotal:
    """What pages were worth at a threshold."""

    f1: float
    precision: float
    recall: float
    false_a_week: float
    """False pages a week and series."""
    threshold: float


def nab_total(files: Sequence[Scored], threshold: float | None = None) -> NabTotal:
    """Score a corpus as the benchmark's scoreboard does; without a threshold the best is taken."""
    steps = [_nab_steps(one) for one in files]
    at = np.concatenate([score for score, _ in steps])
    gain = np.concatenate([change for _, change in steps])
    windows = sum(len(one.ranges) for one in files)
    order = np.argsort(-at, kind="stable")
    at, worth = at[order], np.cumsum(gain[order]) - windows
    last = np.flatnonzero(np.append(at[1:] < at[:-1], True))
    at, worth = at[last], worth[last]
    if threshold is None:
        best = int(np.argmax(worth))
        if worth[best] <= -windows:
            return NabTotal(0.0, float("inf"))
    else:
        best = int(np.searchsorted(-at, -threshold, side="right")) - 1
        if best < 0:
            return NabTotal(0.0, threshold)
    total = 100 * (float(worth[best]) + windows) / (2 * windows) if windows else float(worth[best])
    return NabTotal(total, float(at[best]) if threshold is None else threshold)


def _sigmoid(place: Floats) -> Floats:
    worth = 2 / (1 + np.exp(np.minimum(5 * place, 500))) - 1
    return np.where(place > 3, -1.0, worth)


def _nab_steps(one: Scored) -> tuple[Floats, Floats]:
    """Return by how much a file's worth changes as the threshold falls to each score."""
    size = len(one.times)
    rows = np.arange(size)
    first = min(int(PROBATION_SHARE * size), MOST_PROBATION_ROWS)
    windows = [
        (
            int(np.searchsorted(one.times, begin)),
            int(np.searchsorted(one.times, end, side="right")) - 1,
        )
        for begin, end in sorted(one.ranges)
    ]
    outside = rows >= first
    cost = np.full(size, -FALSE_POSITIVE_COST)
    for left, right in windows:
        outside[left : right + 1] = False
        past = rows[right + 1 :] - right
        cost[right + 1 :] = FALSE_POSITIVE_COST * _sigmoid(past / max(right - left, 1))
    at, gain = [one.scores[outside]], [cost[outside]]
    full = float(_sigmoid(np.array(-1.0)))
    for left, right in windows:
        inside = rows[max(left, first) : right + 1]
        worth = _sigmoid(-(right - inside + 1) / (right - left + 1)) / full
        order = np.argsort(-one.scores[inside], kind="stable")
        best = np.maximum.accumulate(worth[order])
        at.append(one.scores[inside][order])
        # What was missed cost 1: the first detection pays it back.
        gain.append(np.diff(best, prepend=-1.0))
    return np.concatenate(at), np.concatenate(gain)


def page_total(files: Sequence[Scored], threshold: float | None = None) -> PageTotal:
    """Score pages against incidents; without a threshold the one with the best F1 is taken."""
    if threshold is not None:
        return _pages_at(files, threshold)
    known = np.concatenate([one.scores for one in files])
    # One page without an end would find all incidents: an alert is on in a tenth of all rows.
    known = np.unique(known[known > max(float(np.quantile(known, 0.9)), 0.0)])
    places = np.unique(np.linspace(0, len(known) - 1, 200).astype(int))
    tail = np.arange(max(len(known) - 100, 0), len(known))
    tried = known[np.unique(np.concatenate([places, tail]))] if len(known) else np.ones(1)
    return max((_pages_at(files, float(one)) for one in tried), key=lambda found: found.f1)


def _pages_at(files: Sequence[Scored], threshold: float) -> PageTotal:
    pages = true = incidents = found = 0
    weeks = 0.0
    for one in files:
        first = int(PROBATION_SHARE * len(one.times))
        times = one.times[first:]
        alerting = times[one.scores[first:] >= threshold]
        weeks += float(times[-1] - times[0]) / WEEK_SECONDS
        ranges = np.array([span for span in one.ranges if span[1] >= times[0]]).reshape(-1, 2)
        ranges = ranges[np.argsort(ranges[:, 0])]
        incidents += len(ranges)
        place = np.searchsorted(alerting, ranges[:, 0])
        end = np.searchsorted(alerting, ranges[:, 1], side="right")
        found += int((end > place).sum())
        if not len(alerting):
            continue
        gap = max(PAGE_GAP_SECONDS, 2 * float(np.median(np.diff(one.times))))
        page = np.cumsum(np.diff(alerting, prepend=alerting[0]) > gap)
        hit = np.zeros(len(alerting), bool)
        for left, right in zip(place, end, strict=True):
            hit[left:right] = True
        pages += int(page[-1]) + 1
        true += len(np.unique(page[hit]))
    precision = true / pages if pages else 0.0
    recall = found / incidents if incidents else 0.0
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return PageTotal(f1, precision, recall, (pages - true) / weeks, threshold)
