"""`latency`: do calls take longer than the same calls took in the same stretch of past days?

Each call is measured against its own feature and model, so a change of the mix is no slow-down; and
three signals are told apart: time to first token, generation speed, duration. Calls that take
longer because they say more are no slow-down either: what they cost more, `unit_cost` tells.
"""

import math
from dataclasses import dataclass

import numpy as np

from costspan_dashboards.alerts.cause import Table, explain, shift
from costspan_dashboards.alerts.finding import (
    Finding,
    Seen,
    Severity,
    against_text,
    find,
    leader,
    scope_text,
)
from costspan_dashboards.alerts.frame import (
    DIMENSIONS,
    Floats,
    Ints,
    groups,
    tally,
)
from costspan_dashboards.alerts.limits import LatencyLimits, Limits
from costspan_dashboards.alerts.rules.naming import changes, newest
from costspan_dashboards.alerts.scopes import SCOPES, WINDOWS_MINUTES, Leaves, Past, View, figure

_LEAST_NOISE = 0.03
"""Of the mean log latency between days that are alike."""
_ENOUGH_DAYS = 3
"""Fewer say too little about how much days differ."""
_DAY_CALLS = 5
_KIND_CALLS = 20
_MORE_OUTPUT = 0.6
"""Of a longer duration, in logarithms: from there on it is explained by longer answers."""


@dataclass(frozen=True, slots=True)
class _Signal:
    name: str
    calls: str
    total: str
    squares: str
    in_words: str


_SIGNALS = (
    _Signal("time to first token", "streamed_calls", "log_first_chunk", "log_first_chunk_squared",
            "take {ratio} times as long to the first token"),
    _Signal("generation speed", "paced_calls", "log_pace", "log_pace_squared",
            "take {ratio} times as long for each output token"),
    _Signal("duration", "timed_calls", "log_duration", "log_duration_squared",
            "take {ratio} times as long"),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Shifts:
    """How far calls are from what their feature and model usually take, in logarithms."""

    past: Leaves
    """Calls, deviations and their squares: by day, window and leaf."""
    present: Leaves


def latency(view: View, limits: Limits) -> list[Finding]:
    """Find calls that are slower than the same calls were, each measured against its own kind."""
    if len(view.past.basis.days) < _ENOUGH_DAYS:
        return []
    best: tuple[_Signal, list[Seen], _Shifts] | None = None
    for signal in _SIGNALS:
        shifts = _shifts(view, signal)
        seen = [
            one for name in SCOPES for one in _slower(view, limits.latency, signal, shifts, name)
        ]
        if seen and (best is None or _score(seen) > _score(best[1])):
            best = signal, seen, shifts
    return [_found(view, *best)] if best else []


def _score(seen: list[Seen]) -> float:
    return max(one.score for one in seen)


def _kinds(past: Past, leaves: Leaves) -> tuple[Ints, Ints]:
    """Return one number for feature and model: of the leaves of the past, and of others."""
    models = leaves.names.size("model")
    feature, model = DIMENSIONS.index("feature"), DIMENSIONS.index("model")
    mine, theirs = past.leaves.codes, leaves.codes
    return mine[feature] * models + mine[model], theirs[feature] * models + theirs[model]


def _shifts(view: View, signal: _Signal) -> _Shifts:
    past = view.past
    kind0, kind = _kinds(past, view.leaves)
    rows = [figure(signal.calls), figure(signal.total), figure(signal.squares)]
    before, now = past.leaves.figures[rows], view.leaves.figures[rows]
    size = int(max(kind0.max(initial=0), kind.max(initial=0))) + 1
    days = [day - 1 for day in past.basis.days]
    calls = tally(kind0, before[0][days][:, -1].sum(axis=0), size)
    total = tally(kind0, before[1][days][:, -1].sum(axis=0), size)
    known = calls >= _KIND_CALLS
    usual = np.where(known, total / np.maximum(calls, 1), 0.0)
    known = known.astype(np.float64)
    return _Shifts(
        Leaves(past.leaves.names, past.leaves.codes, _centred(before, usual[kind0], known[kind0])),
        Leaves(view.leaves.names, view.leaves.codes, _centred(now, usual[kind], known[kind])),
    )


def _centred(figures: Floats, usual: Floats, known: Floats) -> Floats:
    calls, total, squares = figures * known
    return np.stack(
        [calls, total - calls * usual, squares - 2 * usual * total + calls * usual * usual]
    )


def _slower(
    view: View, gates: LatencyLimits, signal: _Signal, shifts: _Shifts, dimension: str
) -> list[Seen]:
    past_calls, past_shift, _ = shifts.past.by(dimension)
    calls, total, squares = shifts.present.by(dimension)
    usable = view.past.usable(dimension)
    whole = view.by("")[figure("timed_calls")][:, 0]
    found: dict[int, Seen] = {}
    for place, minutes in enumerate(WINDOWS_MINUTES):
        many = calls[place] >= gates.min_calls
        if not many.any():
            continue
        n0 = past_calls[:, place]
        days = usable & (n0 >= _DAY_CALLS)
        count = days.sum(axis=0)
        means = np.where(days, past_shift[:, place] / np.maximum(n0, 1), 0.0)
        centre = means.sum(axis=0) / np.maximum(count, 1)
        between = (((means - centre) * days) ** 2).sum(axis=0) / np.maximum(count - 1, 1)
        noise = np.maximum(between, _LEAST_NOISE**2) * (1 + 1 / np.maximum(count, 1))
        n = np.maximum(calls[place], 1)
        mean = total[place] / n
        within = np.maximum(squares[place] / n - mean * mean, 0.0) / n
        moved = mean - centre
        over = many & (count >= _ENOUGH_DAYS) & (moved >= math.log(gates.min_ratio))
        over &= moved > gates.z * np.sqrt(noise + within)
        for code in np.flatnonzero(over).tolist():
            if code in found or (dimension and not code):
                continue
            if signal.name == "duration" and _says_more(view, dimension, code, place, moved[code]):
                continue
            ratio = math.exp(moved[code])
            pages = ratio >= gates.page_ratio and n[code] >= gates.page_share * whole[place]
            severity: Severity = "page" if pages else "ticket"
            found[code] = Seen(
                scope=view.scope(dimension, code),
                window_minutes=minutes,
                observed=ratio,
                usual=1.0,
                score=float(n[code] * moved[code] ** 2) / minutes,
                severity=severity,
                calls=int(n[code]),
                affected=int(n[code]),
            )
    return list(found.values())


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


def _found(view: View, signal: _Signal, seen: list[Seen], shifts: _Shifts) -> Finding:
    first = leader(view, seen, "timed_calls")
    place = WINDOWS_MINUTES.index(first.window_minutes)
    calls, total, squares = shifts.present.figures[:, place]
    spread = math.sqrt(max(float(squares.sum()) / max(float(calls.sum()), 1.0), 1e-6))
    codes = shifts.present.codes.copy()
    codes[DIMENSIONS.index("error_kind")] = 0
    member, leaf = groups(list(codes))
    table = Table.of(
        view.frame.names,
        codes[:, member],
        tally(leaf, total / spread),
        tally(leaf, calls),
    )
    explanation = newest(view, explain(table, shift))
    severity: Severity = "page" if any(one.severity == "page" for one in seen) else "ticket"
    return find(
        view,
        "latency",
        severity,
        first,
        title=(
            f"Calls of {scope_text(explanation.where, first.scope)} "
            + signal.in_words.format(ratio=f"{first.observed:.2f}")
            + " as usual, like for like"
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
