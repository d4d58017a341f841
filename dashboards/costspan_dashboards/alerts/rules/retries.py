"""`retries`: do calls take more attempts than usual?"""

import numpy as np

from costspan_dashboards.alerts.cause import Table, explain
from costspan_dashboards.alerts.chance import surprise
from costspan_dashboards.alerts.finding import Finding, Seen, against_text, find, leader, scope_text
from costspan_dashboards.alerts.frame import tally
from costspan_dashboards.alerts.limits import Limits
from costspan_dashboards.alerts.rules.failures import bases
from costspan_dashboards.alerts.rules.naming import changes, newest
from costspan_dashboards.alerts.scopes import SCOPES, WINDOWS_MINUTES, View, figure, watched

_PRIOR_CALLS, _PRIOR_EXTRA = 50, 0.5
_BURSTS = 3.0
"""Standard deviations of extra attempts, in those of coin flips: failures come in bursts."""


def retries(view: View, limits: Limits) -> list[Finding]:
    """Find calls that take more attempts than usual."""
    if not view.past.basis.seasonal:
        return []
    seen = [one for dimension in SCOPES for one in _over(view, limits, dimension)]
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
    explanation = newest(view, explain(table))
    return [
        find(
            view,
            "retries",
            "ticket",
            first,
            title=(
                f"Calls of {scope_text(explanation.where, first.scope)} take "
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
    attempts0 = (before[figure("attempts")][:, -1] * usable).sum(axis=0)
    usual = (attempts0 - calls0 + _PRIOR_EXTRA) / (calls0 + _PRIOR_CALLS)
    found: dict[int, Seen] = {}
    for place, minutes in enumerate(WINDOWS_MINUTES[1:], start=1):
        calls, attempts = now[figure("calls")][place], now[figure("attempts")][place]
        extra = attempts - calls
        noise = _BURSTS * np.sqrt(np.maximum(calls * usual, 1.0))
        over = (extra >= gates.min_extra_attempts) & (extra - calls * usual > gates.z * noise)
        over &= attempts >= gates.min_ratio * (1 + usual) * calls
        for code in np.flatnonzero(over).tolist():
            if code in found or (dimension and not code):
                continue
            found[code] = Seen(
                scope=view.scope(dimension, code),
                window_minutes=minutes,
                observed=float(attempts[code] / calls[code]) if calls[code] else float("inf"),
                usual=float(1 + usual[code]),
                score=surprise(float(extra[code]), float(calls[code] * usual[code])) / minutes,
                severity="ticket",
                calls=int(calls[code]),
                affected=int(extra[code]),
            )
    return list(found.values())
