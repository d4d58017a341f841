"""Scores of a series: how rare each value is, by what its own past lets expect.

A score is the negative decimal logarithm of a chance, so 3 is one row in a thousand. What keeps on
being odd is told once: within REST_SECONDS only a higher score than all before is a score.
"""

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

REST_SECONDS = 12 * 3600
_DAY_SECONDS = 86_400
_DAYS = 7
_BLOCK_ROWS = 32
_LEAST_ROWS = 60
_RARE = 0.99


def detect(timestamps: Sequence[float] | Floats, values: Sequence[float] | Floats) -> Floats:
    """Return a score for each row, from it and the rows before it only; 0 where nothing is odd.

    Args:
        timestamps: Seconds, ascending. They need not be regular.
        values: What was measured; NaN where nothing was.
    """
    times = np.asarray(timestamps, np.float64)
    known = np.asarray(values, np.float64)
    scores = np.zeros(len(times))
    rows = np.flatnonzero(np.isfinite(known) & np.isfinite(times))
    times, known = times[rows], known[rows]
    scores[rows] = _records(times, _rarity(np.sqrt(_off_season(times, known))))
    return scores


def _off_season(times: Floats, values: Floats) -> Floats:
    """Return how far each value is from the middle of those of that time on the days before."""
    near: list[Floats] = []
    for day in range(1, _DAYS + 1):
        place = np.searchsorted(times, times - day * _DAY_SECONDS)
        for row in (place - 1, place, place + 1):
            row = np.clip(row, 0, max(len(times) - 1, 0))
            off = np.abs(times[row] - (times - day * _DAY_SECONDS))
            near.append(np.where(off <= 3600, values[row], np.nan))
    around = np.array(near)
    told = np.isfinite(around).any(axis=0)
    middle = np.zeros(len(values))
    middle[told] = np.nanmedian(around[:, told], axis=0)
    return np.where(told, np.abs(values - middle), 0.0)


def _rarity(oddity: Floats) -> Floats:
    """Return how rare each oddity is among those before it, above the highest by extrapolation."""
    rarity = np.zeros(len(oddity))
    for start in range(_LEAST_ROWS, len(oddity), _BLOCK_ROWS):
        past = np.sort(oddity[:start])
        present = oddity[start : start + _BLOCK_ROWS]
        rank = min(int(_RARE * start), start - 2)
        edge = past[rank]
        excess = max(float((past[rank:] - edge).mean()), 1e-3 * edge, 1e-12)
        above = start - np.searchsorted(past, present) + 0.5
        rarity[start : start + _BLOCK_ROWS] = np.where(
            present > edge,
            (present - edge) / excess / np.log(10) - np.log10((start - rank) / start),
            -np.log10(np.minimum(above / start, 1)),
        )
    return rarity


def _records(times: Floats, scores: Floats) -> Floats:
    """Return the scores that are higher than all of the rest period before them, else 0."""
    records = np.zeros(len(scores))
    higher: deque[int] = deque()
    for row, (time, score) in enumerate(zip(times.tolist(), scores.tolist(), strict=True)):
        while higher and time - times[higher[0]] > REST_SECONDS:
            higher.popleft()
        if score > 0 and (not higher or score > scores[higher[0]]):
            records[row] = score
        while higher and scores[higher[-1]] <= score:
            higher.pop()
        higher.append(row)
    return records
