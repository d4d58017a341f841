"""What a month will have cost: what is spent, and the rest as the weekdays before let expect.

How sure that is, its own errors say: it is replayed from past days, as if each had been today.
The spent part is exact; of the rest only the interval means something.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

COVERAGE = 0.8
"""How often the interval shall hold the month's total."""
LEAST_DAYS = 5
"""Whole days before a forecast."""
LEAST_INTERVAL_DAYS = 10
"""Whole days before there is an interval."""
ENOUGH_ORIGINS = 20
"""Past days to replay from. With fewer the interval is wide, and no ground to tell anybody."""
_LEVEL_DAYS = 10
_PROFILE_DAYS = 56
_WEEK = 7
_REPLAYS = (
    (10, ENOUGH_ORIGINS, _WEEK),
    (LEAST_DAYS, LEAST_INTERVAL_DAYS - LEAST_DAYS, 1),
)
"""Days before each origin, origins at least, and days replayed at least: the surer way first. Where
the past is short, shorter stretches are replayed; their errors are the larger ones."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Interval:
    """Where the total is to be found in COVERAGE of all months."""

    low_pico: int
    high_pico: int


@dataclass(frozen=True, slots=True)
class Forecast:
    """A month, seen from a moment within it."""

    spent_pico: int
    expected_pico: int | None
    """None where there is too little history."""
    interval: Interval | None
    origins: int
    """From how many past days the method was replayed."""


def month_end(first_day: int, daily_pico: Ints, at: datetime) -> Forecast:
    """Return what the calendar month of `at` will have cost.

    Args:
        first_day: Days from 1970 to the first of `daily_pico`.
        daily_pico: What each day cost, without a gap; the last is the day of `at`, up to then.
        at: Now, in UTC.
    """
    begin = datetime(at.year, at.month, 1, tzinfo=UTC)
    end = (begin + 31 * _DAY).replace(day=1)
    today = at.replace(hour=0, minute=0, second=0, microsecond=0)
    spent = int(daily_pico[max((begin - _EPOCH).days - first_day, 0) :].sum())
    past = daily_pico[:-1].astype(np.float64)
    if len(past) < LEAST_DAYS:
        return Forecast(spent, None, None, 0)
    days = (end - today).days
    ahead = expected_days(first_day, past, days)
    ahead[0] *= (today + _DAY - at) / _DAY
    rest = float(ahead.sum())
    errors, interval = _errors(first_day, past, days), None
    if len(errors):
        wide = _conformal(np.abs(errors))
        low, high = rest * max(1 - wide, 0.0), rest * (1 + wide)
        interval = Interval(spent + round(low), spent + round(high))
    return Forecast(spent, spent + round(rest), interval, len(errors))


def expected_days(first_day: int, past: Floats, days: int) -> Floats:
    """Return what each of the `days` after the past will cost: its weekday's part of the level."""
    weekday = (first_day + np.arange(len(past) + days)) % _WEEK
    profile = _weekday_profile(weekday[: len(past)], past)
    recent = past[-_LEVEL_DAYS:] / profile[weekday[: len(past)][-_LEVEL_DAYS:]]
    return float(np.median(recent)) * profile[weekday[len(past) :]]


def _weekday_profile(weekday: Ints, past: Floats) -> Floats:
    """Return what part of an average day of its week each weekday costs, by the median."""
    profile = np.ones(_WEEK)
    past, weekday = past[-_PROFILE_DAYS:], weekday[-_PROFILE_DAYS:]
    if len(past) < 2 * _WEEK:
        return profile
    means = np.convolve(past, np.full(_WEEK, 1 / _WEEK), "valid")
    around = means[np.clip(np.arange(len(past)) - _WEEK // 2, 0, len(means) - 1)]
    share = past[around > 0] / around[around > 0]
    for day in range(_WEEK):
        shares = share[weekday[around > 0] == day]
        if len(shares):
            # A weekday without any calls would divide the level by nothing.
            profile[day] = max(float(np.median(shares)), 0.01)
    return profile / profile.mean()


def _errors(first_day: int, past: Floats, days: int) -> Floats:
    """Return the errors of past forecasts; none where there are too few."""
    for before, origins, least in _REPLAYS:
        replayed = min(days, len(past) - before - origins + 1)
        if replayed >= min(days, least):
            errors = _replayed(first_day, past, replayed, before)
            return errors if len(errors) >= origins else errors[:0]
    return np.array([])


def _replayed(first_day: int, past: Floats, days: int, before: int) -> Floats:
    """Return by what part of the forecast the same many days turned out otherwise, each origin."""
    errors: list[float] = []
    for origin in range(before, len(past) - days + 1):
        expected = float(expected_days(first_day, past[:origin], days).sum())
        if expected > 0:
            errors.append(float(past[origin : origin + days].sum()) / expected - 1)
    return np.array(errors)


def _conformal(errors: Floats) -> float:
    """Return the error that COVERAGE of new ones stay below, if they are like the known ones."""
    rank = int(np.ceil((len(errors) + 1) * COVERAGE))
    return float(np.sort(errors)[min(rank, len(errors)) - 1])
