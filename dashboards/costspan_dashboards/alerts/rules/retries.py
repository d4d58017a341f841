"""`retries`: do calls take more attempts than usual?"""

import numpy as np

from costspan_dashboards.alerts.cause import Table, explain
from costspan_dashboards.alerts.chance import surprise
from costspan_dashboards.alerts.finding import Finding, Seen, against_text, find, leader, matching
from costspan_dashboards.alerts.frame import Floats, tally
from costspan_dashboards.alerts.limits import Limits
from costspan_dashboards.alerts.rules.failures import bases
from costspan_dashboards.alerts.rules.naming import changes, newest
from costspan_dashboards.alerts.scopes import WINDOWS_MINUTES, View, figure, watched

_PRIOR_CALLS, _PRIOR_EXTRA = 50, 0.5
_USUAL_RETRIES = 2
"""The SDK's own: a call that fails for good has been tried again so often, and `errors` tells it."""
_AS_LIKELY = 4.0
_BURSTS = 3.0
"""Standard deviations of extra attempts, in those of coin flips: failures come in bursts."""


def retries(view: View, limits: Limits) -> list[Finding]:
    """Find calls that take more attempts than usual."""
    if not view.past.basis.seasonal:
        return []
    seen = [one for dimension in view.scopes for one in _over(view, limits, dimension)]
    seen = [one for one in seen if view.asks(one.scope)]
    if not seen:
        return []
    first = leader(view, seen, "calls")
    cells = watched(view.frame.window(first.window_minutes), view.past.quiet)
    base, index = bases(cells)
    calls = tally(index, cells.count("calls"), len(base))
    attempts = tally(index, cells.count("attempts"), len(base))
    codes = base.codes.copy()
    codes[-1] = 0
    table = Table.of(base.names, codes, attempts - calls, calls * (first.usual - 1))
    explanation = newest(view, explain(table, slack=_AS_LIKELY, choice=1.0))
    first = matching(seen, first, explanation)
    return [
        find(
            view,
            "retries",
            "ticket",
            first,
            title=(
                f"Calls of {first.scope} take "
                f"{first.observed:.2f} attempts each, usually {first.usual:.2f}"
            ),
            unit="attempts_per_call",
            against=against_text("mean", view.past.basis),
            explanation=explanation,
            others=seen,
            noun="extra attempts",
            kind="retries",
            waiting=f"That is {first.affected / first.window_minutes:.1f} extra attempts a minute.",
            changes=changes(view, explanation),
        )
    ]


def _over(view: View, limits: Limits, dimension: str) -> list[Seen]:
    gates, now, before = limits.retries, view.by(dimension), view.past.by(dimension)
    usable = view.past.usable(dimension)
    calls0 = (before[figure("calls")][:, -1] * usable).sum(axis=0)
    extra0 = (_extra(before)[:, -1] * usable).sum(axis=0)
    usual = (extra0 + _PRIOR_EXTRA) / (calls0 + _PRIOR_CALLS)
    found: dict[int, Seen] = {}
    for place, minutes in enumerate(WINDOWS_MINUTES[1:], start=1):
        calls, extra = now[figure("calls")][place], _extra(now)[place]
        noise = _BURSTS * np.sqrt(np.maximum(calls * usual, 1.0))
        over = (extra >= gates.min_extra_attempts) & (extra - calls * usual > gates.z * noise)
        over &= calls + extra >= gates.min_ratio * (1 + usual) * calls
        for code in np.flatnonzero(over).tolist():
            if code in found or (dimension and not code):
                continue
            found[code] = Seen(
                scope=view.scope(dimension, code),
                window_minutes=minutes,
                observed=float(1 + extra[code] / calls[code]) if calls[code] else float("inf"),
                usual=float(1 + usual[code]),
                score=surprise(float(extra[code]), float(calls[code] * usual[code])) / minutes,
                severity="ticket",
                calls=int(calls[code]),
                affected=int(extra[code]),
            )
    return list(found.values())


def _extra(figures: Floats) -> Floats:
    """Return attempts beyond one a call and beyond the usual retries of calls that failed."""
    lost = figures[figure("failed_calls")] + figures[figure("limited_calls")]
    extra = figures[figure("attempts")] - figures[figure("calls")] - _USUAL_RETRIES * lost
    return np.maximum(extra, 0.0)
