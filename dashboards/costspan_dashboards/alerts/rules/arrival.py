"""`no_data`, `traffic_drop`, `late` and `clock`: whether calls come, and come when they should."""

from datetime import timedelta

import numpy as np

from costspan_dashboards.alerts.finding import Finding, Seen, find, median_text, percent, single
from costspan_dashboards.alerts.frame import (
    DAY_MINUTES,
    Cells,
    Floats,
    minute_of,
    tally,
)
from costspan_dashboards.alerts.limits import Limits
from costspan_dashboards.alerts.scopes import WINDOWS_MINUTES, Scope, View, figure, usual, watched

_MINUTE = timedelta(minutes=1)
_DROPPED_DIMENSIONS = ("feature", "service")
"""A model or a key that is asked no more was replaced; a feature is missed."""
_WHOLE_TRAFFIC = 0.4
"""Of the usual: below that all traffic is gone, which is no feature's matter."""
_LATE_MINUTES = 15
_FUTURE = 2**40


def no_data(view: View, limits: Limits) -> list[Finding]:
    """Find that nothing arrives although calls were to be expected."""
    frame, gates = view.frame, limits.arrival
    if frame.latest_arrival is None:
        return []
    gap = int((frame.now - frame.latest_arrival) / _MINUTE)
    if gap < gates.min_gap_minutes:
        return []
    a_minute, against = _expected_calls(view)
    if a_minute * gap < gates.min_missing_calls:
        return []
    seen = Seen(
        scope=Scope(),
        window_minutes=gap,
        observed=0.0,
        usual=a_minute * gap,
        score=1.0,
        severity="page",
        calls=0,
        affected=round(a_minute * gap),
    )
    return [
        find(
            view,
            "no_data",
            "page",
            seen,
            title=(
                f"No call arrived for {gap} minutes, usually {a_minute * gap:,.0f} do in that time"
            ),
            unit="calls",
            against=against,
            waiting="Nothing is known while it lasts: no alert can be raised and none resolved.",
            text=[f"The last call arrived at {frame.latest_arrival:%H:%M:%S} UTC."],
        )
    ]


def traffic_drop(view: View, limits: Limits) -> list[Finding]:
    """Find features that nearly nobody calls any more, while the rest goes on."""
    gates, past = limits.arrival, view.past
    if not past.basis.seasonal or _gone(view):
        return []
    until = view.frame.until
    recent = watched(past.history.recent, past.quiet)
    day = recent.between(until - DAY_MINUTES, until - WINDOWS_MINUTES[-1])
    seen: list[Seen] = []
    for dimension in _DROPPED_DIMENSIONS:
        known = usual(past, "calls", dimension, rising=False)
        calls = view.by(dimension)[figure("calls")]
        # What nobody called for a day is closed, not dropped.
        alive = tally(day.code(dimension), day.count("calls"), calls.shape[-1])
        missed = _missed(recent, dimension, until, calls.shape[-1])
        found: set[int] = set()
        for place, minutes in enumerate(WINDOWS_MINUTES[1:], start=1):
            level = known.level[place]
            over = (level >= gates.min_expected_calls) & (calls[place] <= gates.drop_to * level)
            if minutes == WINDOWS_MINUTES[-1]:  # at night too few are usual to tell by an hour
                over |= (calls[place] == 0) & (missed >= gates.min_expected_calls)
            for code in np.flatnonzero(over & (alive > 0)).tolist():
                if not code or code in found:
                    continue
                found.add(code)
                seen.append(
                    Seen(
                        scope=view.scope(dimension, code),
                        window_minutes=minutes,
                        observed=float(calls[place, code]),
                        usual=float(level[code]),
                        score=float(level[code] - calls[place, code]) / minutes,
                        severity="ticket",
                        calls=int(calls[place, code]),
                        affected=round(level[code] - calls[place, code]),
                    )
                )
    if not seen:
        return []
    first = max(seen, key=lambda one: (one.scope.dimension == "feature", one.score))
    return [
        find(
            view,
            "traffic_drop",
            "ticket",
            first,
            title=(
                f"Traffic drop: {first.calls} calls of {first.scope} in {first.window_minutes} "
                f"minutes, usually {first.usual:,.0f}"
            ),
            unit="calls",
            against=median_text(past.basis),
            explanation=single(first),
            others=seen,
            noun="missing calls",
            kind="volume",
            waiting=f"That is {first.affected / first.window_minutes:.1f} calls a minute fewer.",
        )
    ]


def _missed(recent: Cells, dimension: str, until: int, size: int) -> Floats:
    """Return how many calls came, a day or two ago, in the stretch since the last call."""
    hours = DAY_MINUTES // 60
    back = (until - 1 - recent.minute) // 60
    near = back < 3 * hours
    place = back[near] * size + recent.code(dimension)[near]
    calls = tally(place, recent.count("calls")[near], 3 * hours * size).reshape(-1, size)
    silent = np.logical_and.accumulate(calls[:hours] == 0, axis=0)
    one, two = ((calls[day * hours :][:hours] * silent).sum(axis=0) for day in (1, 2))
    return np.minimum(one, two)


def late(view: View, limits: Limits) -> list[Finding]:
    """Find spans that arrive after the watermark has passed them."""
    gates, frame = limits.arrival, view.frame
    first = minute_of(frame.first_arrival) if frame.first_arrival else 0
    return _arrivals(
        view,
        frame.present.between(max(frame.until - _LATE_MINUTES, first), frame.until),
        "late",
        "late_calls",
        (gates.late_share, gates.min_late_calls),
        "arrived late",
    )


def clock(view: View, limits: Limits) -> list[Finding]:
    """Find spans that end after they arrived, or before they began: a clock is wrong."""
    gates, frame = limits.arrival, view.frame
    return _arrivals(
        view,
        frame.present.between(frame.until - _LATE_MINUTES, _FUTURE),
        "clock",
        "ahead_calls",
        (gates.ahead_share, gates.min_ahead_calls),
        "have a time that cannot be",
    )


def _arrivals(
    view: View, cells: Cells, rule: str, name: str, gates: tuple[float, int], word: str
) -> list[Finding]:
    least_share, least = gates
    size = view.frame.names.size("service")
    odd = tally(cells.code("service"), cells.count(name), size)
    calls = tally(cells.code("service"), cells.count("calls"), size)
    over = np.flatnonzero((odd >= least) & (odd >= least_share * calls)).tolist()
    if not over:
        return []
    seen = [
        Seen(
            scope=view.scope("service", code) if code else Scope(),
            window_minutes=_LATE_MINUTES,
            observed=float(odd[code] / calls[code]),
            usual=0.0,
            score=float(odd[code]),
            severity="info",
            calls=int(calls[code]),
            affected=int(odd[code]),
        )
        for code in over
    ]
    first = max(seen, key=lambda one: one.score)
    return [
        find(
            view,
            rule,
            "info",
            first,
            title=f"{percent(first.observed)} of the spans of {first.scope} {word}",
            unit="share",
            against="watermark, which nearly all spans are in time for"
            if rule == "late"
            else "time of arrival, which no call can end after",
            explanation=single(first) if first.scope.dimension else None,
            others=seen,
            noun=f"spans that {word}",
        )
    ]


def _gone(view: View) -> bool:
    """Say whether all traffic is gone, rather than a feature's."""
    level = usual(view.past, "calls", "", rising=False).level[:, 0]
    calls = view.by("")[figure("calls")][:, 0]
    return bool((calls[1:] < _WHOLE_TRAFFIC * level[1:]).any())


def _expected_calls(view: View) -> tuple[float, str]:
    """Return how many calls a minute are usual, and what that is known from."""
    past = view.past
    if past.basis.seasonal:
        level = usual(past, "calls", "", rising=False).level[-1, 0]
        return float(level) / WINDOWS_MINUTES[-1], median_text(past.basis)
    first = minute_of(view.frame.latest_arrival) if view.frame.latest_arrival else 0
    before = past.history.recent.between(first - 120, first - first % 60)
    return float(before.count("calls").sum()) / 120, "the hours before"
