"""Objectives for how long calls take: so many of a feature's calls in less than so many seconds.

How many take longer is worked out from mean and variance of the logarithm, as durations of calls
are about log-normal; it needs no past, so it holds from the first hour on.
"""

import math
from statistics import NormalDist

from costspan_dashboards.alerts.finding import Seen, percent
from costspan_dashboards.alerts.limits import LatencyObjective, Limits
from costspan_dashboards.alerts.scopes import WINDOWS_MINUTES, Scope, View, figure

_NORMAL = NormalDist()
_SURE = 3.0
"""Standard errors that the quantile must be beyond the objective."""


def missed(view: View, limits: Limits) -> list[tuple[Seen, str]]:
    """Return where an objective is missed, and that in words."""
    found = [_missed(view, limits, one) for one in limits.latency_objectives]
    return [one for one in found if one]


def _missed(view: View, limits: Limits, one: LatencyObjective) -> tuple[Seen, str] | None:
    names = view.frame.names
    if one.feature and not names.known("feature", [one.feature]):
        return None
    code = names.code("feature", one.feature) if one.feature else 0
    now = view.by("feature" if one.feature else "")[:, :, code]
    for place, minutes in enumerate(WINDOWS_MINUTES[1:], start=1):
        calls, total, squares = (
            float(now[figure(name), place])
            for name in ("timed_calls", "log_duration", "log_duration_squared")
        )
        if calls < limits.latency.min_calls:
            continue
        mean = total / calls
        spread = math.sqrt(max(squares / calls - mean * mean, 1e-12))
        beyond = _NORMAL.inv_cdf(one.share)
        error = spread * math.sqrt((1 + beyond * beyond / 2) / calls)
        limit = math.log(one.seconds * 1e6)
        if mean + beyond * spread - _SURE * error <= limit:
            continue
        longer = 1 - _NORMAL.cdf((limit - mean) / spread)
        seen = Seen(
            scope=Scope("feature", one.feature) if one.feature else Scope(),
            window_minutes=minutes,
            observed=longer,
            usual=1 - one.share,
            score=longer / (1 - one.share),
            severity="page",
            calls=int(calls),
            affected=round(longer * calls),
        )
        said = (
            f"About {percent(longer)} of the calls of {seen.scope} take longer than "
            f"{one.seconds:g} s; the objective allows {percent(1 - one.share)}"
        )
        return seen, said
    return None
