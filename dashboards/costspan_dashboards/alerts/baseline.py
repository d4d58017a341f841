"""Scores of a series: how seldom a row as odd as this comes, by what its own past lets expect.

Three things are looked at: how far a value is from what is usual at that time of the day or week,
how far the last few together are from the level before, and how unlike all changes before the last
change is. How rare each is among all before it is the negative decimal logarithm of a chance. A
score is the first rarity, a part of the two others and of the first's mean in the hours before,
less the logarithm of the rows in an hour: mere noise has a score of 3 every few weeks, however far
apart its rows are. What goes on being odd is told once: within REST_SECONDS a row has a score only
if it is above all scores before it.
"""

from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

REST_SECONDS = 6 * 3600
LEAST_ROWS = 60
"""Rows that a past must have to say what is rare."""

_DAY_SECONDS = 86_400
_DAYS = range(1, 8)
_WEEKS = (7, 14, 21)
_NEAR_SECONDS = 3600
"""How far from that time of day a row may be that stands for it."""
_LEVEL_ROWS = 12
_LEVEL_SECONDS = 6 * 3600
_LEVEL_PAST_ROWS = 600
_LATELY_SECONDS = 3 * 3600
_PART = 0.3
"""What all but the first rarity count for."""
_RECENT_SECONDS = 28 * _DAY_SECONDS
_TAIL = 0.99
_LEAST_TAIL_ROWS = 5
_LEAST_EXCESS = 1e-12
_RAREST = 10.0
"""What never varied says nothing of how rare its change is: so much at most."""
_BLOCK_ROWS = 32
_BLOCK_PART = 100
"""The past is summed up anew after so many rows, or when it is longer by such a part."""
_CLIMB = 0.5
_CLIMB_SECONDS = 1800
"""What climbs is told again so soon only if it is so much above what was told."""
_HUGE = 1e150


def detect(timestamps: ArrayLike, values: ArrayLike) -> Floats:
    """Return a score for each row, from it and the rows before it only; 0 where nothing is odd.

    Args:
        timestamps: Seconds, ascending. They need not be regular.
        values: What was measured; a row that is no finite number scores 0 and is no past.
    """
    times = np.asarray(timestamps, np.float64)
    measured = np.asarray(values, np.float64)
    scores = np.zeros(len(times))
    rows = np.flatnonzero(np.isfinite(measured) & np.isfinite(times))
    if len(rows) > LEAST_ROWS:
        # Differences of larger ones would be infinite.
        known = np.clip(measured[rows], -_HUGE, _HUGE)
        moments = np.maximum.accumulate(times[rows])
        off_season = _rarity(moments, _off_season(moments, known))
        off_level = _rarity(moments, _off_level(moments, known))
        unlike = _rarity(moments, _unlike(np.diff(known, prepend=known[0])))
        beside = off_level + unlike + _lately(moments, off_season)
        rarity = off_season + _PART * beside - np.log10(_rows_an_hour(moments))
        scores[rows] = _records(moments, np.maximum(rarity, 0))
    return scores


def _off_season(times: Floats, values: Floats) -> Floats:
    """Return how far each value is from the usual of its time of day or week, what is nearer.

    NaN where there is nothing to compare with.
    """
    daily = np.abs(values - _usual(times, values, _DAYS))
    weekly = np.abs(values - _usual(times, values, _WEEKS))
    return np.fmin(daily, weekly)


def _usual(times: Floats, values: Floats, days: Sequence[int]) -> Floats:
    """Return the median of the rows around the same time so many days ago; NaN without any."""
    around: list[Floats] = []
    for day in days:
        then = times - day * _DAY_SECONDS
        place = np.searchsorted(times, then)
        for row in (place - 1, place, place + 1):
            row = np.clip(row, 0, len(times) - 1)
            near = np.abs(times[row] - then) <= _NEAR_SECONDS
            around.append(np.where(near, values[row], np.nan))
    ranked = np.sort(np.array(around), axis=0)  # NaN last
    known, column = np.isfinite(ranked).sum(axis=0), np.arange(len(times))
    return (ranked[(known - 1) // 2, column] + ranked[known // 2, column]) / 2


def _off_level(times: Floats, values: Floats) -> Floats:
    """Return how far the mean of the last rows is from the median of many before."""
    total, count = values.copy(), np.ones(len(values))
    for back in range(1, _LEVEL_ROWS):
        recent = times[back:] - times[:-back] <= _LEVEL_SECONDS
        total[back:] += np.where(recent, values[:-back], 0)
        count[back:] += recent
    mean = total / count
    off = np.full(len(values), np.nan)
    for start in range(_BLOCK_ROWS, len(values), _BLOCK_ROWS):
        block = slice(start, start + _BLOCK_ROWS)
        level = np.median(values[max(0, start - _LEVEL_PAST_ROWS) : start])
        off[block] = np.abs(mean[block] - level)
    return off


def _unlike(values: Floats) -> Floats:
    """Return how far each value is from the one before it that is nearest."""
    off = np.full(len(values), np.nan)
    for block, past in _pasts(values, _BLOCK_ROWS):
        place = np.searchsorted(past, values[block])
        below = past[np.maximum(place - 1, 0)]
        above = past[np.minimum(place, len(past) - 1)]
        off[block] = np.minimum(np.abs(values[block] - below), np.abs(above - values[block]))
    return off


def _rarity(times: Floats, oddity: Floats) -> Floats:
    """Return how rare each oddity is among those before it; an unknown one is not rare.

    It is so among all and among the recent ones: what has become usual is not rare.
    """
    rarity = np.zeros(len(oddity))
    known = np.flatnonzero(np.isfinite(oddity))
    odd, times = np.sqrt(oddity[known]), times[known]
    for block, past in _pasts(odd, LEAST_ROWS):
        present, end = odd[block], block.start
        rare = _rarity_among(past, present)
        recent = np.searchsorted(times, times[end - 1] - _RECENT_SECONDS)
        recent = min(int(recent), end - LEAST_ROWS)
        if recent > 0:
            rare = np.minimum(rare, _rarity_among(np.sort(odd[recent:end]), present))
        rarity[known[block]] = rare
    return rarity


def _rarity_among(past: Floats, present: Floats) -> Floats:
    """Return the negative logarithms of the chances of a past to have had what is present.

    Beyond _TAIL of the past they fall exponentially, as far as the few rows there let know.
    """
    rows = len(past)
    rank = min(int(_TAIL * rows), rows - _LEAST_TAIL_ROWS)
    tail, edge = rows - rank, float(past[rank])
    excess = max(float((past[rank:] - edge).mean()), 1e-3 * edge, _LEAST_EXCESS)
    beyond = tail * np.log10(1 + np.maximum(present - edge, 0) / excess / tail)
    above = rows - np.searchsorted(past, present) + 0.5
    chance = np.where(present > edge, tail, np.minimum(above, rows)) / rows
    return np.minimum(beyond - np.log10(chance), _RAREST)


def _lately(times: Floats, rarity: Floats) -> Floats:
    """Return the mean rarity of the hours before each row; 0 where there were no rows."""
    total = np.append(0, np.cumsum(rarity))
    row = np.arange(len(times))
    first = np.searchsorted(times, times - _LATELY_SECONDS)
    return (total[row] - total[first]) / np.maximum(row - first, 1)


def _pasts(values: Floats, least: int) -> Iterator[tuple[slice, Floats]]:
    """Yield blocks of rows after the first few, each with all the values before it, sorted."""
    past = np.sort(values[:least])
    while len(past) < len(values):
        block = slice(len(past), len(past) + max(_BLOCK_ROWS, len(past) // _BLOCK_PART))
        yield block, past
        present = np.sort(values[block])
        past = np.insert(past, np.searchsorted(past, present), present)


def _rows_an_hour(times: Floats) -> Floats:
    """Return how many rows an hour of the past had; 1 where rows are further apart."""
    hours = np.maximum(times - times[0], 1) / 3600
    return np.maximum(np.arange(len(times)) / hours, 1)


def _records(times: Floats, scores: Floats) -> Floats:
    """Return the scores that are above all of the rest period before them, else 0.

    What climbs is not told at each step, but when it is clearly above what was told.
    """
    records = np.zeros(len(scores))
    rivals: deque[tuple[float, float]] = deque()  # falling scores: the first is the highest
    told_time, told = -np.inf, 0.0
    for row, (time, score) in enumerate(zip(times.tolist(), scores.tolist(), strict=True)):
        while rivals and time - rivals[0][0] > REST_SECONDS:
            rivals.popleft()
        least = told + _CLIMB if time - told_time <= _CLIMB_SECONDS else 0.0
        if score > max(least, rivals[0][1] if rivals else 0.0):
            records[row] = told = score
            told_time = time
        while rivals and rivals[-1][1] <= score:
            rivals.pop()
        rivals.append((time, score))
    return records
