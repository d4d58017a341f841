"""`no_data`, `traffic_drop`, `late` and `clock`: whether calls come, and come when they should."""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np

from costspan_dashboards.alerts.cause import Explanation
from costspan_dashboards.alerts.finding import (
    Finding,
    Seen,
    each,
    find,
    median_text,
    percent,
    single,
)
from costspan_dashboards.alerts.frame import (
    DAY_MINUTES,
    PRESENT_MINUTES,
    Cells,
    Floats,
    Ints,
    minute_of,
    tally,
    time_of,
)
from costspan_dashboards.alerts.limits import ArrivalLimits, Limits
from costspan_dashboards.alerts.scopes import WINDOWS_MINUTES, Scope, View, figure, usual, watched

_MINUTE = timedelta(minutes=1)
_DROPPED_DIMENSIONS = ("feature", "service")
"""A model or a key that is asked no more was replaced; a feature is missed."""
_WHOLE_TRAFFIC = 0.4
"""Of the usual: below that all traffic is gone, which is no feature's matter."""
_LATE_MINUTES = 15
_ON_THEIR_WAY_MINUTES = 5
"""A call arrives when it has ended."""
_DAILY, _ENOUGH_WEEKS = 14, 3
_NOT_SILENT = 2.0
"""A day with half of the usual calls is no silent one."""
_GONE_MINUTES = DAY_MINUTES + 60
"""What nobody called for so long is closed, not dropped; a daily job may be late."""
_FUTURE = 2**40


def no_data(view: View, limits: Limits) -> list[Finding]:
    """Find that nothing arrives although calls were to be expected."""
    frame, gates = view.frame, limits.arrival
    latest = _latest(view)
    if latest is None:
        return []
    gap = int((frame.now - latest) / _MINUTE)
    if gap < gates.min_gap_minutes:
        return []
    missing, against = _missing(view, minute_of(latest) + 1)
    if missing < gates.min_missing_calls:
        return []
    seen = Seen(
        scope=Scope(),
        window_minutes=gap,
        observed=0.0,
        usual=missing,
        score=1.0,
        severity="page",
        calls=0,
        affected=round(missing),
    )
    return [
        find(
            view,
            "no_data",
            "page",
            seen,
            title=f"No call arrived for {gap} minutes, usually {missing:,.0f} do in that time",
            unit="calls",
            against=against,
            waiting="Nothing is known while it lasts: no alert can be raised and none resolved.",
            text=[f"The last call arrived at {latest:%H:%M:%S} UTC."],
        )
    ]


def _latest(view: View) -> datetime | None:
    """Return when a call that is looked at arrived last.

    Where other calls go on, such as those of staging, their arrivals hide it: then it is known from
    when the last one began.
    """
    frame, past = view.frame, view.past
    present = watched(frame.present, past.quiet)
    if frame.latest_arrival is None or len(present) == len(frame.present):
        return frame.latest_arrival
    recent, days = (watched(some, past.quiet) for some in (past.history.recent, past.history.days))
    before = frame.until - PRESENT_MINUTES
    lasts = [
        *present.minute[-1:],
        *np.minimum(recent.minute[-1:] + 60, before),
        *np.minimum(days.minute[-1:] + DAY_MINUTES, before),
    ]
    if not lasts:
        return None
    return min(frame.latest_arrival, time_of(int(lasts[0]) + _ON_THEIR_WAY_MINUTES))


def _missing(view: View, since: int) -> tuple[float, str]:
    """Return how many calls were to come since the last one, and what that is known from.

    As many as usual where they came on nearly all days that are alike, and on one of the last three:
    nobody misses a night job that ends at the same time each day.
    """
    past, before = view.past, _before(view, since)
    came = past.came(since, view.frame.until)
    weeks, lately, days = (
        part[np.isfinite(part)] for part in (came[6::7], came[:3], came[:_DAILY])
    )
    if len(weeks) >= _ENOUGH_WEEKS:
        days, silent = weeks, len(weeks) // 4
    else:  # the weekend is not told from the week yet: two of seven days may be silent
        silent = math.ceil(len(days) * 2 / 7)
    if not len(days):
        return before, "pace of the hours before"
    least = [
        np.sort(days)[min(silent, len(days) - 1)],
        *(some.max() for some in (weeks, lately) if len(some)),
    ]
    missing = min(float(np.median(days)), _NOT_SILENT * float(min(least)))
    if not past.basis.whole_week:  # of the first weekend nothing is known but a sudden end
        missing = min(missing, before)
    return missing, f"median of the same stretch on {len(days)} days that are alike"


def _before(view: View, since: int) -> float:
    """Return how many calls were to come had it gone on as before, for an hour at the most."""
    begin = since - since % 60 - 60
    recent = watched(view.past.history.recent, view.past.quiet).between(begin, since)
    pace = float(recent.count("calls").sum()) / (since - begin)
    return pace * min(view.frame.until - since, 60)


def traffic_drop(view: View, limits: Limits) -> list[Finding]:
    """Find features that nearly nobody calls any more while the rest goes on, or all of them."""
    gates, past = limits.arrival, view.past
    if not past.basis.whole_week or not past.basis.seasonal:  # it may be the first weekend
        return []
    if _gone(view):
        return _trickle(view, gates)
    until = view.frame.until
    recent = watched(past.history.recent, past.quiet)
    day = recent.between(until - _GONE_MINUTES, until - WINDOWS_MINUTES[-1])
    seen: list[Seen] = []
    for dimension in _DROPPED_DIMENSIONS:
        known = usual(past, "calls", dimension, rising=False)
        calls = view.by(dimension)[figure("calls")]
        alive = tally(day.code(dimension), day.count("calls"), calls.shape[-1])
        missed, silent = _missed(view, dimension, calls.shape[-1])
        # What is not called yet may be late: a job that did not begin.
        earlier = known.level[-1] - known.level[-2]
        waits = (calls[-1] == 0) & (earlier < gates.min_expected_calls / 2)
        found: set[int] = set()
        for place, minutes in enumerate(WINDOWS_MINUTES[1:], start=1):
            level = known.level[place]
            over = (level >= gates.min_expected_calls) & (calls[place] <= gates.drop_to * level)
            hour = minutes == WINDOWS_MINUTES[-1]
            over &= ~waits & (hour | (calls[-1] > 0))
            since = np.full(len(level), minutes)
            if hour:  # at night too few are usual to tell by an hour
                long = ~over & (calls[place] == 0) & (missed >= gates.min_expected_calls)
                over, level = over | long, np.where(long, missed, level)
                since = np.where(long, silent, since)
            for code in np.flatnonzero(over & (alive > 0)).tolist():
                if not code or code in found:
                    continue
                found.add(code)
                seen.append(
                    Seen(
                        scope=view.scope(dimension, code),
                        window_minutes=int(since[code]),
                        observed=float(calls[place, code]),
                        usual=float(level[code]),
                        score=float(level[code] - calls[place, code]) / float(since[code]),
                        severity="ticket",
                        calls=int(calls[place, code]),
                        affected=round(level[code] - calls[place, code]),
                    )
                )
    if not seen:
        return []
    first = max(seen, key=lambda one: (one.scope.dimension == "feature", one.affected))
    alike = [one for one in seen if one.scope.dimension == first.scope.dimension]
    return [_dropped(view, first, each(alike), seen)]


def _trickle(view: View, gates: ArrivalLimits) -> list[Finding]:
    """Find that next to nothing comes where `no_data` would miss it if nothing did."""
    level = usual(view.past, "calls", "", rising=False).level[:, 0]
    calls = view.by("")[figure("calls")][:, 0]
    low = (calls > 0) & (calls <= gates.drop_to * level) & (level >= gates.min_expected_calls)
    if calls[0] > gates.drop_to * level[0] or not low[1:].any():
        return []
    place = 1 + int(low[1:].argmax())
    seen = Seen(
        scope=Scope(),
        window_minutes=WINDOWS_MINUTES[place],
        observed=float(calls[place]),
        usual=float(level[place]),
        score=1.0,
        severity="ticket",
        calls=int(calls[place]),
        affected=round(level[place] - calls[place]),
    )
    return [_dropped(view, seen)]


def _dropped(
    view: View, first: Seen, explanation: Explanation | None = None, others: Sequence[Seen] = ()
) -> Finding:
    of = f" of {first.scope}" if first.scope.dimension else ""
    return find(
        view,
        "traffic_drop",
        "ticket",
        first,
        title=(
            f"Traffic drop: {first.calls} calls{of} in {first.window_minutes} "
            f"minutes, usually {first.usual:,.0f}"
        ),
        unit="calls",
        against=median_text(view.past.basis),
        explanation=explanation,
        others=others,
        noun="missing calls",
        alone_from=0,
        kind="volume",
        waiting=f"That is {first.affected / first.window_minutes:.1f} calls a minute fewer.",
    )


def _missed(view: View, dimension: str, size: int) -> tuple[Floats, Ints]:
    """Return how many calls came, a day or two ago, since the last one; and for how many minutes.

    In whole hours, the last one left out. What a week ago had none all day has none today.
    """
    until, hours = view.frame.until, DAY_MINUTES // 60
    recent, days = (
        watched(some, view.past.quiet)
        for some in (view.past.history.recent, view.past.history.days)
    )
    back = (until - 1 - recent.minute) // 60
    near = back < 3 * hours
    place = back[near] * size + recent.code(dimension)[near]
    calls = tally(place, recent.count("calls")[near], 3 * hours * size).reshape(-1, size)
    silent = np.logical_and.accumulate(calls[:hours] == 0, axis=0)
    today = until - until % DAY_MINUTES
    then = days.between(today - 7 * DAY_MINUTES, today - 6 * DAY_MINUTES)
    stretches = [(calls[day * hours :][1:hours] * silent[1:]).sum(axis=0) for day in (1, 2)]
    week_ago = tally(then.code(dimension), then.count("calls"), size)
    return np.minimum.reduce([*stretches, week_ago]), 60 * silent.sum(axis=0)


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
    """Find spans that end after they arrived, or when they began: a clock is wrong."""
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
