"""How improbable is that? Tails of counts that come in bursts, and a measure of surprise."""

import math

from costspan_dashboards.alerts.frame import Floats

USUAL_SCATTER = 1 / 61
"""How much failures in one five-minute slot go together, where it is not known."""
LEAST_SCATTER, MOST_SCATTER = 0.0005, 0.03
"""The upper bound keeps one outage in the past from hiding the next one."""
_ENOUGH_SLOTS = 20


def surprise(actual: float, expected: float) -> float:
    """Return how surprising `actual` is where `expected` was to be seen; 0 where it is not more."""
    if actual <= expected or actual <= 0:
        return 0.0
    floor = max(expected, actual * 1e-6)
    return actual * math.log(actual / floor) - (actual - floor)


def beta_binomial_tail(at_least: int, of: int, mean: float, scatter: float) -> float:
    """Return the chance of `at_least` failures or more in `of` calls.

    `scatter` is the correlation between two calls of a slot: 0 would be a plain binomial.
    """
    if at_least <= 0:
        return 1.0
    if at_least > of:
        return 0.0
    weight = 1 / scatter - 1
    a, b = mean * weight, (1 - mean) * weight
    log_first = (
        math.lgamma(of + 1)
        - math.lgamma(at_least + 1)
        - math.lgamma(of - at_least + 1)
        + math.lgamma(at_least + a)
        + math.lgamma(of - at_least + b)
        - math.lgamma(of + a + b)
        + math.lgamma(a + b)
        - math.lgamma(a)
        - math.lgamma(b)
    )
    term = math.exp(log_first)
    total = 0.0
    for count in range(at_least, of + 1):
        total += term
        if count == of or term < total * 1e-12:
            break
        term *= (of - count) * (count + a) / ((count + 1) * (of - count - 1 + b))
    return min(1.0, total)


def scatter_of(calls: Floats, errors: Floats) -> float | None:
    """Return how much more the failures of a slot scatter than coin flips do; None if not known.

    By moments: the expected sum of (k - n p)^2 is p (1 - p) (sum n + scatter * sum n (n - 1)).
    """
    total, failed = float(calls.sum()), float(errors.sum())
    pairs = float((calls * calls).sum()) - total
    if int((calls > 0).sum()) < _ENOUGH_SLOTS or pairs <= 0 or not 0 < failed < total:
        return None
    share = failed / total
    squares = float(((errors - share * calls) ** 2).sum())
    scatter = (squares / (share * (1 - share)) - total) / pairs
    return min(max(scatter, LEAST_SCATTER), MOST_SCATTER)
