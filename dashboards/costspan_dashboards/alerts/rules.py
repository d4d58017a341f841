"""When is it wrong? Pure rules: aggregates in, breaches out.

A breach needs three things at once: it is rare (a tail probability or a robust z), it is big
(a ratio to the usual), and it matters (a count of calls, or dollars). All three rules look for
rises only, so calls that arrive late can never raise an alert.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from statistics import median
from typing import Literal

from costspan_dashboards.alerts.cause import surprise

Rule = Literal["errors", "latency", "spend"]
Severity = Literal["ticket", "page"]
Unit = Literal["share", "times_usual", "usd_per_hour"]

ERROR_WINDOWS_MINUTES = (5, 15, 60)
LATENCY_WINDOWS_MINUTES = (15, 60)
SPEND_WINDOWS_MINUTES = (15, 60)

_SLOTS_TO_TRUST = 20
"""Below that many slots of history the scatter of errors is taken from `_USUAL_SCATTER`."""
_USUAL_SCATTER = 1 / 61
_LEAST_SCATTER, _MOST_SCATTER = 0.005, 0.03
"""The upper bound keeps one outage in the history from hiding the next one."""
_PRIOR_CALLS = 50
"""A share seen on few calls is pulled to its parent's with the weight of that many calls."""
_PRIOR_SHARE = 0.01
_FAST_DAY_CALLS = 5
_LEAST_SHIFT = 0.03
"""Of the mean log latency between days that are alike."""
_ENOUGH_DAYS = 3
"""Fewer days say too little about how much days differ."""


@dataclass(frozen=True, slots=True)
class Scope:
    """The calls a figure is about: one value of one dimension, or all of them."""

    dimension: str = ""
    value: str = ""

    def __str__(self) -> str:
        return f"{self.dimension}={self.value}" if self.dimension else "all calls"


@dataclass(frozen=True, slots=True)
class Basis:
    """Which past the present is compared with."""

    kind: Literal["objective", "same hour of day", "same hour of week"]
    days: tuple[int, ...]
    """How many whole days ago the compared slots are."""
    history_hours: int

    @property
    def seasonal(self) -> bool:
        """Say whether there is a past to compare with."""
        return bool(self.days)

    @property
    def whole_week(self) -> bool:
        """Say whether the history has seen a weekend and a Monday."""
        return self.history_hours >= 7 * 24

    def __str__(self) -> str:
        history = (
            f"{self.history_hours} h"
            if self.history_hours < 48
            else f"{self.history_hours // 24} days"
        )
        return f"{len(self.days)} same slots ({self.kind}), {history} of history"


@dataclass(frozen=True, slots=True)
class ErrorWindow:
    """Calls and failed calls of one scope in the window that has just ended."""

    window_minutes: int
    dimension: str
    value: str
    calls: int
    errors: int


@dataclass(frozen=True, slots=True)
class ErrorHistory:
    """Sums over the five-minute slots of the past, of calls n and errors k of one scope."""

    dimension: str
    value: str
    slots: int
    calls: int
    errors: int
    calls_squared: int
    errors_squared: int
    calls_times_errors: int


@dataclass(frozen=True, slots=True)
class LatencyCell:
    """Successful calls of one window, so many days ago, of one kind.

    Slow calls are those above the 95th percentile of the past of their feature and model.
    """

    window_minutes: int
    day: int
    feature: str
    model: str
    team: str
    project: str
    calls: int
    slow_calls: int
    sum_log: float
    sum_log_squared: float


@dataclass(frozen=True, slots=True)
class SpendWindow:
    """What one scope spent in one window, so many days ago."""

    window_minutes: int
    day: int
    dimension: str
    value: str
    calls: int
    unpriced_calls: int
    cost_usd: Decimal
    sum_squared_cost: float


@dataclass(frozen=True, slots=True)
class ErrorGates:
    """What a rise in failures must pass."""

    tail: float = 1e-6
    min_errors: int = 5
    min_ratio: float = 2.0
    success_objective: Decimal = Decimal("0.98")


@dataclass(frozen=True, slots=True)
class LatencyGates:
    """What a slow-down must pass."""

    z: float = 5.0
    min_ratio: float = 1.15
    min_calls: int = 30
    tail: float = 1e-6
    min_slow_ratio: float = 3.0


@dataclass(frozen=True, slots=True)
class SpendGates:
    """What a rise in spend must pass."""

    z: float = 6.0
    min_ratio: Decimal = Decimal("1.8")
    min_calls: float = 5
    """As many calls of one price must carry the excess: one or two dear calls are no rate."""
    min_excess_usd_per_hour: Decimal = Decimal(3)
    page_excess_usd_per_hour: Decimal = Decimal(25)


@dataclass(frozen=True, slots=True)
class Breach:
    """One scope is outside of what is usual for it."""

    rule: Rule
    severity: Severity
    scope: Scope
    window_minutes: int
    observed: Decimal
    usual: Decimal
    unit: Unit
    against: str
    """The baseline in words, with how much history it had."""
    calls: int
    """In the window."""
    affected_calls: int
    """Failed, slow, or unpriced ones, as the rule has it."""
    score: float
    """How surprising it is, by the minute or the hour; comparable within a rule only."""


def errors(
    now: Iterable[ErrorWindow],
    history: Iterable[ErrorHistory],
    basis: Basis,
    gates: ErrorGates,
) -> list[Breach]:
    """Return the scopes in which more calls fail than chance and habit explain.

    The number of failures follows a beta-binomial law: failures come in bursts, so they scatter
    more than coin flips do. Without a day of history the objective takes the place of the past.
    """
    past = {Scope(row.dimension, row.value): row for row in history}
    windows: defaultdict[Scope, dict[int, ErrorWindow]] = defaultdict(dict)
    for row in now:
        windows[Scope(row.dimension, row.value)][row.window_minutes] = row
    allowed = float(1 - gates.success_objective)
    overall = _error_share(past.get(Scope()), _PRIOR_SHARE) if basis.seasonal else allowed
    breaches: list[Breach] = []
    for scope, by_minutes in windows.items():
        usual = overall
        if basis.seasonal and scope != Scope():
            usual = _error_share(past.get(scope), overall)
        scatter = error_scatter(past.get(scope)) if basis.seasonal else _USUAL_SCATTER
        # A share that is high already cannot double: half of the way to all failing is as bad.
        limit = min(gates.min_ratio * usual, (1 + usual) / 2)
        shorter: ErrorWindow | None = None
        for minutes in sorted(by_minutes):
            window = by_minutes[minutes]
            over = shorter is not None and _is_over(shorter, window, limit)
            shorter = window
            if window.errors < gates.min_errors or window.errors < limit * window.calls or over:
                continue
            if beta_binomial_tail(window.errors, window.calls, usual, scatter) >= gates.tail:
                continue
            share = Decimal(window.errors) / Decimal(window.calls)
            breaches.append(
                Breach(
                    rule="errors",
                    severity="page" if share >= 2 * (1 - gates.success_objective) else "ticket",
                    scope=scope,
                    window_minutes=minutes,
                    observed=share,
                    usual=Decimal(str(round(usual, 6))),
                    unit="share",
                    against=f"share in {basis}"
                    if basis.seasonal
                    else f"objective {gates.success_objective:%}, {basis.history_hours} h of history",
                    calls=window.calls,
                    affected_calls=window.errors,
                    score=surprise(window.errors, usual * window.calls) / minutes,
                )
            )
            break
    return breaches


def latency(cells: Sequence[LatencyCell], basis: Basis, gates: LatencyGates) -> list[Breach]:
    """Return the scopes whose calls take longer than the same calls took in the same slots.

    Every call is measured against its own feature and model, so that a change of the mix (more
    calls of a slow model) is no slow-down. Two tests: the mean of the log latency, which sees a
    shift of everything, and the share of calls above their usual 95th percentile, which sees a
    tail.
    """
    if not basis.seasonal:
        return []
    usual_log = _usual_log_by_kind(cells)
    breaches: list[Breach] = []
    found: set[Scope] = set()
    for minutes in sorted({cell.window_minutes for cell in cells}):
        by_scope: defaultdict[Scope, defaultdict[int, _Shift]] = defaultdict(
            lambda: defaultdict(_Shift)
        )
        for cell in cells:
            if cell.window_minutes != minutes or (cell.feature, cell.model) not in usual_log:
                continue
            for scope in _scopes(cell):
                by_scope[scope][cell.day].add(cell, usual_log[cell.feature, cell.model])
        for scope, days in by_scope.items():
            breach = None if scope in found else _slower(scope, minutes, days, basis, gates)
            if breach:
                found.add(scope)
                breaches.append(breach)
    return breaches


def spend(rows: Iterable[SpendWindow], basis: Basis, gates: SpendGates) -> list[Breach]:
    """Return the scopes that spend more an hour than in the same slots of the past."""
    if not basis.seasonal:
        return []
    by_scope: defaultdict[Scope, defaultdict[int, dict[int, SpendWindow]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for row in rows:
        by_scope[Scope(row.dimension, row.value)][row.window_minutes][row.day] = row
    breaches: list[Breach] = []
    for scope, windows in by_scope.items():
        shorter: _Rate | None = None
        for minutes in sorted(windows):
            rate = _spend_rate(minutes, windows[minutes], basis, gates)
            enough_to_tell = rate.calls * SPEND_WINDOWS_MINUTES[0] >= gates.min_calls * minutes
            over = shorter is not None and enough_to_tell and shorter.ratio < gates.min_ratio
            shorter = rate
            if over or not _too_much(rate, basis, gates):
                continue
            breaches.append(
                Breach(
                    rule="spend",
                    severity="page" if rate.excess >= gates.page_excess_usd_per_hour else "ticket",
                    scope=scope,
                    window_minutes=minutes,
                    observed=rate.observed,
                    usual=rate.usual,
                    unit="usd_per_hour",
                    against=f"median of {basis}",
                    calls=rate.calls,
                    affected_calls=rate.unpriced_calls,
                    score=surprise(float(rate.observed), float(rate.usual)),
                )
            )
            break
    return breaches


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


def error_scatter(history: ErrorHistory | None) -> float:
    """Return how much more the failures of a slot scatter than coin flips do.

    By moments: the expected sum of (k - n p)^2 is p (1 - p) (sum n + scatter * sum n (n - 1)).
    """
    if history is None or history.slots < _SLOTS_TO_TRUST or not history.errors:
        return _USUAL_SCATTER
    share = history.errors / history.calls
    pairs = history.calls_squared - history.calls
    if not 0 < share < 1 or pairs <= 0:
        return _USUAL_SCATTER
    squares = (
        history.errors_squared
        - 2 * share * history.calls_times_errors
        + share * share * history.calls_squared
    )
    scatter = (squares / (share * (1 - share)) - history.calls) / pairs
    return min(max(scatter, _LEAST_SCATTER), _MOST_SCATTER)


def _is_over(recent: ErrorWindow, window: ErrorWindow, limit: float) -> bool:
    """Say whether the last part of a window is well again: what passed needs no page."""
    still = max(limit, window.errors / window.calls / 2)
    return recent.errors < still * recent.calls


def _error_share(history: ErrorHistory | None, parent: float) -> float:
    if history is None:
        return parent
    return (history.errors + _PRIOR_CALLS * parent) / (history.calls + _PRIOR_CALLS)


@dataclass(slots=True)
class _Shift:
    """How far the calls of one scope, window and day are from their kinds' usual log latency."""

    calls: int = 0
    slow_calls: int = 0
    shift: float = 0.0
    squares: float = 0.0

    def add(self, cell: LatencyCell, usual: float) -> None:
        self.calls += cell.calls
        self.slow_calls += cell.slow_calls
        self.shift += cell.sum_log - cell.calls * usual
        self.squares += cell.sum_log_squared - 2 * usual * cell.sum_log + cell.calls * usual**2

    @property
    def mean(self) -> float:
        return self.shift / self.calls


def _usual_log_by_kind(cells: Iterable[LatencyCell]) -> dict[tuple[str, str], float]:
    sums: defaultdict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
    for cell in cells:
        if cell.day and cell.window_minutes == LATENCY_WINDOWS_MINUTES[-1]:
            sums[cell.feature, cell.model][0] += cell.sum_log
            sums[cell.feature, cell.model][1] += cell.calls
    return {kind: total / calls for kind, (total, calls) in sums.items() if calls}


def _scopes(cell: LatencyCell) -> list[Scope]:
    named = (
        ("feature", cell.feature),
        ("model", cell.model),
        ("team", cell.team),
        ("project", cell.project),
    )
    return [Scope(), *(Scope(dimension, value) for dimension, value in named if value)]


def _slower(
    scope: Scope, minutes: int, days: dict[int, _Shift], basis: Basis, gates: LatencyGates
) -> Breach | None:
    now = days.get(0)
    past = [days[day] for day in basis.days if day in days and days[day].calls >= _FAST_DAY_CALLS]
    if now is None or now.calls < gates.min_calls or len(past) < _ENOUGH_DAYS:
        return None
    means = [day.mean for day in past]
    centre = sum(means) / len(means)
    between = sum((mean - centre) ** 2 for mean in means) / (len(means) - 1)
    noise = max(between, _LEAST_SHIFT**2) * (1 + 1 / len(means))
    within = max(now.squares / now.calls - now.mean**2, 0.0) / now.calls
    ratio = math.exp(now.mean - centre)
    shifted = (now.mean - centre) / math.sqrt(noise + within) > gates.z and ratio >= gates.min_ratio
    usual_slow = _slow_share(past)
    tailed = now.slow_calls >= gates.min_slow_ratio * usual_slow * now.calls and (
        beta_binomial_tail(now.slow_calls, now.calls, usual_slow, _USUAL_SCATTER) < gates.tail
    )
    if not shifted and not tailed:
        return None
    return Breach(
        rule="latency",
        severity="ticket",
        scope=scope,
        window_minutes=minutes,
        observed=Decimal(str(round(ratio, 3))),
        usual=Decimal(1),
        unit="times_usual",
        against=f"mean of {basis}",
        calls=now.calls,
        affected_calls=now.slow_calls,
        score=surprise(now.slow_calls, usual_slow * now.calls) / minutes,
    )


def _slow_share(past: Sequence[_Shift]) -> float:
    calls = sum(day.calls for day in past)
    slow = sum(day.slow_calls for day in past)
    return (slow + _PRIOR_CALLS * 0.05) / (calls + _PRIOR_CALLS)


@dataclass(frozen=True, slots=True)
class _Rate:
    observed: Decimal
    usual: Decimal
    spread: float
    calls: int
    unpriced_calls: int
    by_one_call: float
    """The root of the sum of squared costs: n calls of one price c give c times the root of n."""

    @property
    def like_calls(self) -> float:
        """By how many calls of one price the excess is carried."""
        return (float(self.excess) / self.by_one_call) ** 2 if self.by_one_call else 0.0

    @property
    def excess(self) -> Decimal:
        return self.observed - self.usual

    @property
    def ratio(self) -> Decimal:
        return self.observed / self.usual if self.usual else Decimal("Infinity")


def _spend_rate(
    minutes: int, days: dict[int, SpendWindow], basis: Basis, gates: SpendGates
) -> _Rate:
    per_hour = Decimal(60) / minutes
    now = days.get(0)
    # A scope that spent nothing in a slot in which the installation was alive spent zero.
    past = [days[day].cost_usd * per_hour if day in days else Decimal(0) for day in basis.days]
    usual = median(past)
    mad = float(median([abs(amount - usual) for amount in past]))
    squares = sum(days[day].sum_squared_cost for day in basis.days if day in days)
    # Few and dear calls scatter by themselves: the standard deviation of a compound Poisson sum.
    by_chance = math.sqrt(squares / len(past)) * float(per_hour)
    floor = 0.1 if len(past) >= _ENOUGH_DAYS else 0.5
    return _Rate(
        observed=now.cost_usd * per_hour if now else Decimal(0),
        usual=usual,
        spread=max(
            1.4826 * mad,
            floor * float(usual),
            by_chance,
            float(gates.min_excess_usd_per_hour) / 10,
        ),
        calls=now.calls if now else 0,
        unpriced_calls=now.unpriced_calls if now else 0,
        by_one_call=math.sqrt(now.sum_squared_cost) * float(per_hour) if now else 0.0,
    )


def _too_much(rate: _Rate, basis: Basis, gates: SpendGates) -> bool:
    # A history shorter than a week may have seen a weekend only: Monday is no anomaly.
    least_ratio = gates.min_ratio if basis.whole_week else 2 * gates.min_ratio
    return (
        rate.excess >= gates.min_excess_usd_per_hour
        and rate.like_calls >= gates.min_calls
        and rate.ratio >= least_ratio
        and float(rate.excess) > gates.z * rate.spread
    )
