"""Scores of a series: how rare each value is, by what its own past lets expect.

Two things are looked at: how far a value is from what is usual at that time of the day or week, and
how far the last few together are from the level before. How rare each is among all before it is
counted, as the negative decimal logarithm of a chance: 3 is one row in a thousand. A score is the
first rarity and a part of the second. What goes on being odd is told once: within REST_SECONDS a
row has a score only if it is above all scores before it.
"""

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

REST_SECONDS = 8 * 3600
LEAST_ROWS = 60
"""Rows that a past must have to say what is rare."""

_DAY_SECONDS = 86_400
_DAYS = range(1, 5)
_WEEKS = (7, 14, 21)
_NEAR_SECONDS = 3600
"""How far from that time of day a row may be that stands for it."""
_LEVEL_ROWS = 12
_LEVEL_SECONDS = 6 * 3600
_LEVEL_PAST_ROWS = 600
_LEVEL_PART = 0.3
_BLOCK_ROWS = 32
"""The past is summed up anew after so many rows."""
_TAIL = 0.995
_LEAST_EXCESS = 1e-12
_RAREST = 30.0
"""What never varied says nothing of how rare its change is: so much at most."""
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
        rarity = _rarity(_off_season(moments, known))
        rarity += _LEVEL_PART * _rarity(_off_level(moments, known))
        scores[rows] = _records(moments, rarity)
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
    known = np.array(around)
    told = np.isfinite(known).any(axis=0)
    usual = np.full(len(values), np.nan)
    usual[told] = np.nanmedian(known[:, told], axis=0)
    return usual


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


def _rarity(oddity: Floats) -> Floats:
    """Return how rare each oddity is among those before it; an unknown one counts as none.

    Beyond _TAIL of them it is extrapolated: the chances of its root fall exponentially there.
    """
    known = np.cumsum(np.isfinite(oddity))
    odd = np.sqrt(np.nan_to_num(oddity))
    rarity = np.zeros(len(odd))
    past = np.sort(odd[:LEAST_ROWS])
    for start in range(LEAST_ROWS, len(odd), _BLOCK_ROWS):
        block = slice(start, start + _BLOCK_ROWS)
        present = odd[block]
        if known[start - 1] >= LEAST_ROWS:
            rank = min(int(_TAIL * start), start - 2)
            edge = float(past[rank])
            excess = max(float((past[rank:] - edge).mean()), 1e-3 * edge, _LEAST_EXCESS)
            beyond = (present - edge) / excess / np.log(10) - np.log10(1 - rank / start)
            above = start - np.searchsorted(past, present) + 0.5
            within = -np.log10(np.minimum(above / start, 1))
            rarity[block] = np.where(present > edge, np.minimum(beyond, _RAREST), within)
        present = np.sort(present)
        past = np.insert(past, np.searchsorted(past, present), present)
    return rarity


def _records(times: Floats, scores: Floats) -> Floats:
    """Return the scores that are above all of the rest period before them, else 0."""
    records = np.zeros(len(scores))
    rivals: deque[tuple[float, float]] = deque()  # falling scores: the first is the highest
    for row, (time, score) in enumerate(zip(times.tolist(), scores.tolist(), strict=True)):
        while rivals and time - rivals[0][0] > REST_SECONDS:
            rivals.popleft()
        if not rivals or score > rivals[0][1]:
            records[row] = score
        while rivals and rivals[-1][1] <= score:
            rivals.pop()
        rivals.append((time, score))
    return records
