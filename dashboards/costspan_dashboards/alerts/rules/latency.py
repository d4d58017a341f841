"""`latency`: do calls take longer than the same calls took in the same stretch of past days?

Each call is measured against its own feature and model, so a change of the mix is no slow-down; and
three signals are told apart: time to first token, generation speed, duration. Calls that take
longer because they say more are no slow-down either: what they cost more, `unit_cost` tells.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from costspan_dashboards.alerts.cause import Table, explain, shift
from costspan_dashboards.alerts.finding import (
    Finding,
    Seen,
    Severity,
    against_text,
    find,
    leader,
    matching,
    single,
)
from costspan_dashboards.alerts.frame import (
    DIMENSIONS,
    Floats,
    Ints,
    tally,
)
from costspan_dashboards.alerts.limits import LatencyLimits, Limits
from costspan_dashboards.alerts.rules.naming import changes, newest
from costspan_dashboards.alerts.rules.objective import missed
from costspan_dashboards.alerts.scopes import WINDOWS_MINUTES, Leaves, Past, View, figure
from costspan_dashboards.figures import seconds_text

_LEAST_NOISE = 0.03
"""Of the mean log latency between days that are alike."""
_ENOUGH_DAYS = 3
"""Fewer say too little about how much days differ."""
_DAY_CALLS = 5
_KIND_CALLS = 20
_AS_LIKELY = 0.25
"""Of the score: two causes that are no farther apart cannot be told from each other."""
_CAUSE_PART = 0.5
"""Of the slow-down that was seen, in logarithms: what is slower by less is no cause of it."""
_MORE_OUTPUT = 0.6
"""Of a longer duration, in logarithms: from there on it is explained by longer answers."""


@dataclass(frozen=True, slots=True)
class _Signal:
    name: str
    calls: str
    total: str
    squares: str
    until: str
    """To what a call is timed, in words."""
    blames: Literal["feature", "model"]
    """Whose fault it more often is."""


_SIGNALS = (
    _Signal("time to first token", "streamed_calls", "log_first_chunk", "log_first_chunk_squared",
            " to the first token", "model"),
    _Signal("generation speed", "paced_calls", "log_pace", "log_pace_squared",
            " for each output token", "model"),
    _Signal("duration", "timed_calls", "log_duration", "log_duration_squared",
            "", "feature"),
)  # fmt: skip
_ROWS = np.array(
    [
        [figure(getattr(signal, name)) for signal in _SIGNALS]
        for name in ("calls", "total", "squares")
    ]
)


@dataclass(frozen=True, eq=False)
class _Habit:
    """What calls usually take, by feature and model, and how far whole days are from that."""

    usual: Floats
    """Mean logarithms: by signal and kind; 0 where too few calls tell."""
    known: Floats
    """1 where enough calls tell."""
    shifts: Leaves
    """Calls, deviations and their squares: by signal, day, window and leaf."""


def latency(view: View, limits: Limits) -> list[Finding]:
    """Find calls that are slower than the same calls were, and objectives that are missed."""
    slower, objectives = _slower_than_usual(view, limits), missed(view, limits)
    said = tuple(f"{text}." for _, text in objectives)
    if slower or not objectives:
        return [
            replace(one, severity="page", facts=(one.facts[0], *said, *one.facts[1:]))
            if said
            else one
            for one in slower
        ]
    (first, text) = max(objectives, key=lambda one: one[0].score)
    return [
        find(
            view,
            "latency",
            "page",
            first,
            title=text,
            unit="share",
            against="objective in alerts.toml",
            explanation=single(first) if first.scope.dimension else None,
            others=[one for one, _ in objectives],
            noun="calls that take too long",
            kind="duration",
            text=said[1:],
            waiting=f"That is {first.affected / first.window_minutes:.1f} slow calls a minute.",
        )
    ]


def _slower_than_usual(view: View, limits: Limits) -> list[Finding]:
    """Find calls that are slower than the same calls were, each measured against its own kind."""
    if len(view.past.basis.days) < _ENOUGH_DAYS:
        return []
    models = view.frame.names.size("model")
    habit = view.past.kept(("latency", models), lambda: _habit(view.past, models))
    now = view.leaves.figures[_ROWS]
    size = habit.usual.shape[-1]
    kind = _kinds(view.leaves, models)
    kind = np.where(kind < size, kind, size - 1)
    shifts = Leaves(
        view.frame.names,
        view.leaves.codes,
        _centred(now, habit.usual[:, None, kind], habit.known[:, None, kind]),
    )
    found = [
        (place, one)
        for dimension in view.scopes
        for place, one in _slower(view, limits.latency, habit, shifts, dimension)
        if view.asks(one.scope)
    ]
    if not found:
        return []
    best = max(found, key=lambda item: item[1].score)[0]
    return [_found(view, best, [one for place, one in found if place == best], shifts)]


def _kinds(leaves: Leaves, models: int) -> Ints:
    """Return one number for feature and model of each leaf."""
    feature, model = DIMENSIONS.index("feature"), DIMENSIONS.index("model")
    return leaves.codes[feature] * models + leaves.codes[model]


def _habit(past: Past, models: int) -> _Habit:
    before = past.leaves.figures[_ROWS]
    kind = _kinds(past.leaves, models)
    size = past.size("feature") * models + 1  # the last one stands for what is not known
    days = [day - 1 for day in past.basis.days]
    alike = before[:, :, days, -1].sum(axis=2)
    calls = np.stack([tally(kind, row, size) for row in alike[0]])
    total = np.stack([tally(kind, row, size) for row in alike[1]])
    known = np.asarray(calls >= _KIND_CALLS, np.float64)
    usual = known * total / np.maximum(calls, 1)
    centred = _centred(before, usual[:, None, None, kind], known[:, None, None, kind])
    return _Habit(usual, known, Leaves(past.leaves.names, past.leaves.codes, centred))


def _centred(figures: Floats, usual: Floats, known: Floats) -> Floats:
    calls, total, squares = figures * known
    return np.stack(
        [calls, total - calls * usual, squares - 2 * usual * total + calls * usual * usual]
    )


def _days(view: View, habit: _Habit, dimension: str) -> tuple[Floats, Floats, Floats]:
    """Return the mean shift of past days, the variance between them, and how many there are."""
    calls, shift, _ = habit.shifts.by(dimension)
    days = view.past.usable(dimension)[:, None, :] & (calls >= _DAY_CALLS)
    count = days.sum(axis=1)
    means = np.where(days, shift / np.maximum(calls, 1), 0.0)
    centre = means.sum(axis=1) / np.maximum(count, 1)
    squares = ((means - centre[:, None]) ** 2 * days).sum(axis=1)
    between = np.maximum(squares / np.maximum(count - 1, 1), _LEAST_NOISE**2)
    return centre, between * (1 + 1 / np.maximum(count, 1)), count.astype(np.float64)


def _slower(
    view: View, gates: LatencyLimits, habit: _Habit, shifts: Leaves, dimension: str
) -> list[tuple[int, Seen]]:
    centre, noise, count = view.past.kept(
        ("latency days", dimension, view.past.size(dimension)),
        lambda: _days(view, habit, dimension),
    )
    calls, total, squares = shifts.by(dimension)
    n = np.maximum(calls, 1)
    mean = total / n
    within = np.maximum(squares / n - mean * mean, 0.0) / n
    moved = mean - centre
    over = (calls >= gates.min_calls) & (count >= _ENOUGH_DAYS)
    over &= (moved >= math.log(gates.min_ratio)) & (moved > gates.z * np.sqrt(noise + within))
    whole = view.by("")[figure("timed_calls")][:, 0]
    found: dict[tuple[int, int], Seen] = {}
    for signal, place, code in np.argwhere(over).tolist():
        if (signal, code) in found or (dimension and not code):
            continue
        by, many = float(moved[signal, place, code]), int(n[signal, place, code])
        if _SIGNALS[signal].name == "duration" and _says_more(view, dimension, code, place, by):
            continue
        pages = math.exp(by) >= gates.page_ratio and many >= gates.page_share * whole[place]
        found[signal, code] = Seen(
            scope=view.scope(dimension, code),
            window_minutes=WINDOWS_MINUTES[place],
            observed=math.exp(by),
            usual=1.0,
            score=many * by**2 / WINDOWS_MINUTES[place],
            severity="page" if pages else "ticket",
            calls=many,
            affected=many,
        )
    return [(signal, one) for (signal, _), one in found.items()]


def _says_more(view: View, dimension: str, code: int, place: int, moved: float) -> bool:
    """Say whether answers are longer by about as much as calls are."""
    days = [day - 1 for day in view.past.basis.days]
    before = view.past.by(dimension)[..., code][:, days, -1].sum(axis=1)
    now = view.by(dimension)[..., place, code]
    tokens, calls = figure("output_tokens"), figure("calls")
    if not (before[tokens] and before[calls] and now[tokens] and now[calls]):
        return False
    more = math.log((now[tokens] / now[calls]) / (before[tokens] / before[calls]))
    return more >= _MORE_OUTPUT * moved


def _found(view: View, place: int, seen: list[Seen], shifts: Leaves) -> Finding:
    signal = _SIGNALS[place]
    first = leader(view, seen, "timed_calls")
    window = WINDOWS_MINUTES.index(first.window_minutes)
    calls, total, squares = shifts.figures[:, place, window]
    spread = math.sqrt(max(float(squares.sum()) / max(float(calls.sum()), 1.0), 1e-6))
    codes = shifts.codes.copy()
    codes[DIMENSIONS.index("error_kind")] = 0
    table = Table.of(view.frame.names, codes, total / spread, calls)
    least = _CAUSE_PART * math.log(first.observed) / spread
    explanation = newest(
        view, explain(table, shift, prefer=signal.blames, relative_slack=_AS_LIKELY, least=least)
    )
    first = matching(seen, first, explanation)
    severity: Severity = "page" if any(one.severity == "page" for one in seen) else "ticket"
    typical_us = _typical_us(view, signal, first)
    return find(
        view,
        "latency",
        severity,
        first,
        title=(
            f"Calls of {first.scope} take {first.observed:.2f} times as long{signal.until} as "
            f"usual, like for like: {_text(typical_us)}, usually {_text(typical_us / first.observed)}"
        ),
        unit="times_usual",
        against=against_text("mean", view.past.basis),
        explanation=explanation,
        others=seen,
        noun="slow-down",
        kind=signal.name,
        waiting=f"That is {first.calls / first.window_minutes:.1f} slow calls a minute.",
        changes=changes(view, explanation),
    )


def _typical_us(view: View, signal: _Signal, seen: Seen) -> float:
    """Return the geometric mean of what the calls take, in microseconds."""
    dimension, window = seen.scope.dimension, WINDOWS_MINUTES.index(seen.window_minutes)
    code = view.frame.names.code(dimension, seen.scope.value) if dimension else 0
    now = view.by(dimension)[:, window, code]
    return math.exp(now[figure(signal.total)] / max(now[figure(signal.calls)], 1))


def _text(microseconds: float) -> str:
    return seconds_text(round(microseconds))
