"""`spend` and `entity_spend`: more dollars an hour than in the same stretch of days that are alike."""

from dataclasses import replace
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from costspan_dashboards.alerts.cause import DIMENSIONS as CAUSES
from costspan_dashboards.alerts.cause import Contributor, Explanation, Pairs, explain
from costspan_dashboards.alerts.chance import surprise
from costspan_dashboards.alerts.finding import (
    Finding,
    Seen,
    Severity,
    exact,
    find,
    leader,
    matching,
    median_text,
)
from costspan_dashboards.alerts.frame import (
    DAY_MINUTES,
    HISTORY_DAYS,
    PRESENT_MINUTES,
    Cells,
    Floats,
    Ints,
    Mark,
    Users,
    hours_of,
    tally,
)
from costspan_dashboards.alerts.limits import Limits, SpendLimits
from costspan_dashboards.alerts.rules.naming import changes, is_unseen, newest
from costspan_dashboards.alerts.rules.prices import at_past_prices
from costspan_dashboards.alerts.rules.usage import PICO, lasting, rows, told_change
from costspan_dashboards.alerts.scopes import (
    WINDOWS_MINUTES,
    Leaves,
    Scope,
    View,
    figure,
    usual,
)
from costspan_dashboards.figures import usd_text

_ENOUGH_DAYS, _WEEK_DAYS = 3, 7
_NEARLY_ALL = 0.95
_AS_LIKELY = 0.15
"""Of the score: two causes that are no farther apart cannot be told from each other."""
_KEEPS = 0.1
"""What grew from next to nothing has a high score; another cause of as many dollars has a lower."""
_MOST_GROWTH = 10.0
_FAST, _HALF, _HOUR = (WINDOWS_MINUTES.index(minutes) for minutes in (15, 30, 60))
"""The first window is for a jump that pages, the second for a jump, the last for what is high."""
_LEAST_BEFORE = 0.8
"""Times the usual: a half hour before that was low makes no jump."""
_LATELY_MINUTES = 15
_OF_THE_HOURS = 1.3


def spend(view: View, limits: Limits) -> list[Finding]:
    """Find scopes that spend more an hour than is usual for them."""
    if not view.past.basis.seasonal:
        return []
    costs = at_past_prices(view)
    seen = [
        one
        for dimension in view.scopes
        for one in _too_much(view, limits.spend, dimension, costs)
        if view.asks(one.scope)
    ]
    if not seen:
        return []
    first = leader(view, seen, "calls")
    money = rows(view, first.window_minutes)
    explanation = newest(
        view, _users_with_feature(explain(money.table(), relative_slack=_AS_LIKELY, keeps=_KEEPS))
    )
    first = matching(seen, first, explanation)
    about = lasting(explanation.where)
    change = told_change(*money.usage(about), first.window_minutes, money.like(about))
    severity: Severity = "page" if any(one.severity == "page" for one in seen) else "ticket"
    return [
        find(
            view,
            "spend",
            severity,
            first,
            title=(
                f"Spend of {first.scope} is {_usd(first.observed)}/h, usually {_usd(first.usual)}/h"
            ),
            unit="usd_per_hour",
            against=median_text(view.past.basis),
            explanation=explanation,
            others=seen,
            noun="excess dollars",
            kind=change.kind,
            text=change.text,
            waiting=_waiting(view, first),
            changes=changes(view, explanation),
            alone_from=_alone_from(explanation, limits.spend, first.window_minutes),
        )
    ]


def _alone_from(explanation: Explanation, gates: SpendLimits, minutes: int) -> float | None:
    """Return from which share of the excess on a cause would be a ticket by itself."""
    if not explanation.contributors:
        return None
    first = explanation.contributors[0]
    excess = float(first.actual - first.expected) / max(first.share, 1e-9) * 60 / minutes
    if excess >= float(gates.page_excess_usd_per_hour):  # a ticket in a page wakes nobody again
        return None
    return float(gates.min_excess_usd_per_hour) / max(excess, 1e-9)


def _users_with_feature(explanation: Explanation) -> Explanation:
    """Name each user with the feature that all its calls are of."""
    contributors = [
        replace(one, where=tuple(sorted({*one.where, *_features(one)}, key=_place)))
        if "user" in dict(one.where)
        else one
        for one in explanation.contributors
    ]
    return replace(explanation, contributors=tuple(contributors))


def _features(one: Contributor) -> Pairs:
    return tuple(pair for pair in one.also if pair[0] == "feature")


def _place(pair: tuple[str, str]) -> int:
    return CAUSES.index(pair[0])


def entity_spend(view: View, limits: Limits) -> list[Finding]:
    """Find single users who spend more than they do, and more than the growth of their peers.

    Every environment is looked at: a loop in staging costs as much.
    """
    basis = view.past.basis
    seen, known = spenders(view, limits)
    if not seen:
        return []
    ordered = sorted(seen.values(), key=lambda one: one.usual - one.observed)
    explanation = _named(view, ordered, known)
    first = ordered[0]
    money = rows(view, first.window_minutes, everywhere=True)
    about = (("user", first.scope.value),)
    change = told_change(*money.usage(about), first.window_minutes, money.like(about))
    unknown = view.frame.names.code("user", first.scope.value) not in known
    who = f"user={first.scope.value}"
    severity: Severity = "page" if any(one.severity == "page" for one in ordered) else "ticket"
    return [
        find(
            view,
            "entity_spend",
            severity,
            first,
            title=(
                f"Spend of {who} is {_usd(first.observed)}/h, "
                + (
                    "never seen before"
                    if unknown
                    else f"usually {_usd(first.usual)}/h for it and its peers"
                )
            ),
            unit="usd_per_hour",
            against=f"mean of the user itself, grown as its peers did, in {basis}",
            explanation=explanation,
            others=ordered,
            noun="excess dollars",
            kind=change.kind,
            text=[*([f"New: {who} was never seen before."] if unknown else []), *change.text],
            waiting=_waiting(view, first),
            changes=changes(view, explanation),
            alone_from=0 if severity == "ticket" else None,
        )
    ]


def spenders(view: View, limits: Limits) -> tuple[dict[int, Seen], frozenset[int]]:
    """Return by number the users who spend too much, and who of the costly ones was seen before."""
    gates = limits.spend
    suspects = _costly(view, gates) if view.past.basis.seasonal else np.zeros(0, np.int64)
    if not len(suspects):
        return {}, frozenset()
    users, present = view.past.history.read_users(suspects), _unplanned(view)
    seen: dict[int, Seen] = {}
    for code in suspects.tolist():
        mine = present.where(present.code("user") == code)
        usually, hours, by_chance = _habit(view, users, code, mine)
        for minutes in WINDOWS_MINUTES:
            one = _spends(view, gates, mine, minutes, usually, hours, by_chance)
            if one and (minutes > WINDOWS_MINUTES[0] or one.severity == "page"):
                seen[code] = one
                break
    return seen, users.known


def _unplanned(view: View) -> Cells:
    """Return the present without what an operator planned since a day ago: nothing is known of it."""
    cells, until = view.frame.window(WINDOWS_MINUTES[-1]), view.frame.until
    planned = np.zeros(len(cells), np.bool_)
    for mark in view.past.history.marks:
        if mark.kind == "new_level" and mark.dimension and _days_since(mark, until) < 1:
            code = cells.names.code(mark.dimension, mark.value)
            planned |= (cells.code(mark.dimension) == code) & (cells.minute >= mark.since)
    return cells.where(~planned) if planned.any() else cells


def _days_since(mark: Mark, until: int) -> int:
    return (until - WINDOWS_MINUTES[-1] - mark.since) // DAY_MINUTES


def _habit(view: View, users: Users, code: int, present: Cells) -> tuple[Floats, int, float]:
    """Return what a user spends an hour, by feature, the mean of how many hours that is, and its noise.

    On the days that are compared with; where it is more, on most of the last seven, or on those
    since a mark of the present calls said that it would be.
    """
    until, cells = view.past.history.until, users.cells
    first, last = hours_of(until)
    cells = cells.where(cells.code("user") == code)
    day = (until - cells.minute + PRESENT_MINUTES) // DAY_MINUTES
    by_day = tally(day, cells.count("cost_pico"), HISTORY_DAYS + 1)[1:]
    week = by_day[:_WEEK_DAYS]
    several = [view.past.basis.days, (np.flatnonzero(week >= max(np.median(week), 1)) + 1).tolist()]
    if len(several[1]) <= _WEEK_DAYS // 2:
        several.pop()
    for mark in view.past.history.marks:
        if mark.kind == "new_level" and mark.dimension:
            planned = present.code(mark.dimension) == present.names.code(mark.dimension, mark.value)
            days = min(_days_since(mark, until), HISTORY_DAYS)
            several += [range(1, days + 1)] if planned.any() and days > 0 else []
    days = max(several, key=lambda days: by_day[np.array(days) - 1].mean())
    mine, hours = cells.where(np.isin(day, days)), (last - first) // 60
    by_chance = np.sqrt(float(mine.sum("cost_usd_squared").sum()) / hours / len(days))
    return _by_feature(mine) / (PICO * hours * len(days)), hours, float(by_chance)


def _too_much(view: View, gates: SpendLimits, dimension: str, costs: Leaves) -> list[Seen]:
    past, now = view.past, view.by(dimension)
    known = usual(past, "cost_pico", dimension)
    before = past.by(dimension)[figure("cost_usd_squared")]
    days = [day - 1 for day in past.basis.days]
    least_excess = float(gates.min_excess_usd_per_hour)
    floor = 0.1 if len(days) >= _ENOUGH_DAYS else 0.5
    cost, spent = past.without_new_levels(costs, dimension).by(dimension)
    found: dict[int, Seen] = {}
    for place, over in _high(cost, known.level, now[figure("calls")], gates).items():
        per_hour = 60 / WINDOWS_MINUTES[place]
        level = known.level[place] / PICO * per_hour
        excess = cost[place] / PICO * per_hour - level
        # Few and dear calls scatter by themselves: a compound Poisson sum.
        by_chance = np.sqrt(before[days, place].mean(axis=0)) * per_hour
        spread = np.maximum.reduce(
            [
                known.spread[place] / PICO * per_hour / 2,  # of many days, chance and drift in it
                floor * level,
                by_chance,
                np.full_like(level, least_excess / 10),
            ]
        )
        squares = np.maximum(now[figure("cost_usd_squared")][place], 1e-30)
        over &= (excess >= least_excess) & (excess > gates.z * spread)
        over &= (excess / per_hour) ** 2 / squares >= gates.min_calls
        if not past.basis.whole_week:  # it may have seen a weekend only: Monday is no anomaly
            over &= cost[place] >= 2 * gates.min_ratio * known.level[place]
        if place == _FAST:
            over &= excess >= float(gates.page_excess_usd_per_hour)
        observed = spent[place] / PICO * per_hour
        for code in np.flatnonzero(over & (known.days > 0)).tolist():
            if code in found or (dimension and not code):
                continue
            found[code] = _seen(view.scope(dimension, code), WINDOWS_MINUTES[place], gates,
                                float(observed[code]), float(level[code]),
                                int(now[figure("calls")][place, code]))  # fmt: skip
    return list(found.values())


def _high(
    cost: Floats, level: Floats, calls: Floats, gates: SpendLimits
) -> dict[int, NDArray[np.bool_]]:
    """Return by window what is high enough: at once, or in the whole hour and still."""
    ratio = cost / np.maximum(level, 1e-12)

    def jump(place: int) -> Floats:
        rest = np.maximum(level[_HOUR] - level[place], 1e-12)
        earlier = (cost[_HOUR] - cost[place]) / rest
        return ratio[place] ** 2 / np.maximum(earlier, _LEAST_BEFORE)

    few = calls[_FAST] < gates.min_calls
    return {
        _FAST: jump(_FAST) >= 2 * gates.min_jump,
        _HALF: (ratio[_HALF] >= gates.min_jump_ratio) & (jump(_HALF) >= gates.min_jump),
        _HOUR: (ratio[_HOUR] >= gates.min_ratio) & (few | (ratio[_FAST] >= gates.min_jump_ratio)),
    }


def _seen(
    scope: Scope, minutes: int, gates: SpendLimits, observed: float, level: float, calls: int
) -> Seen:
    pages = observed - level >= float(gates.page_excess_usd_per_hour)
    return Seen(
        scope=scope,
        window_minutes=minutes,
        observed=observed,
        usual=level,
        score=surprise(observed, level),
        severity="page" if pages else "ticket",
        calls=calls,
        affected=0,
    )


def _costly(view: View, gates: SpendLimits) -> Ints:
    """Return the users who spend enough now to be looked at; in the shortest window, to page."""
    size, found = view.frame.names.size("user"), np.zeros(0, np.int64)
    for minutes in WINDOWS_MINUTES:
        cells = view.frame.window(minutes)
        cost = tally(cells.code("user"), cells.count("cost_pico"), size)
        cost[0] = 0
        shortest = minutes == WINDOWS_MINUTES[0]
        least = gates.page_excess_usd_per_hour if shortest else gates.min_excess_usd_per_hour
        found = np.append(found, np.flatnonzero(cost >= float(least) * PICO * minutes / 60))
    return np.unique(found)


def _spends(
    view: View,
    gates: SpendLimits,
    mine: Cells,
    minutes: int,
    usually: Floats,
    hours: int,
    by_chance: float,
) -> Seen | None:
    mine = mine.between(view.frame.until - minutes, view.frame.until)
    if not len(mine):
        return None
    cost = float(mine.count("cost_pico").sum()) / PICO
    rate = cost * 60 / minutes
    level = float((usually * _peers_growth(view, mine, usually, minutes)).sum())
    excess = rate - level
    squares = max(float(mine.sum("cost_usd_squared").sum()), 1e-30)
    noise = max(
        by_chance * np.sqrt(60 / minutes), 0.1 * level, float(gates.min_excess_usd_per_hour) / 10
    )
    enough = (
        excess >= float(gates.min_excess_usd_per_hour)
        and rate >= gates.min_user_ratio * level
        and cost >= _OF_THE_HOURS * level * hours  # it may be a job that takes only minutes of them
        and excess > gates.z * noise
        and (excess * minutes / 60) ** 2 / squares >= gates.min_calls
    )
    if not enough:
        return None
    scope = view.scope("user", int(mine.code("user")[0]))
    return _seen(scope, minutes, gates, rate, level, int(mine.count("calls").sum()))


def _by_feature(cells: Cells) -> Floats:
    """Return pico-dollars by feature."""
    size = cells.names.size("feature")
    return tally(cells.code("feature"), cells.count("cost_pico"), size)


def _peers_growth(view: View, mine: Cells, usually: Floats, minutes: int) -> Floats:
    """Return by feature how much more its other users spend than usual; never less than 1."""
    place = WINDOWS_MINUTES.index(minutes)
    per_hour = 60 / minutes / PICO
    days = [day - 1 for day in view.past.basis.days]  # as the user's own past
    now = view.by("feature")[figure("cost_pico")][place] * per_hour - _by_feature(mine) * per_hour
    before = view.past.by("feature")[figure("cost_pico")][days, place].mean(axis=0) * per_hour
    before -= usually
    growth = np.where(before > 0, now / np.where(before > 0, before, 1.0), 1.0)
    return np.clip(growth, 1.0, _MOST_GROWTH)


def _named(view: View, seen: list[Seen], known: frozenset[int]) -> Explanation:
    """Name each user with its feature; one never seen before with its model, if that is new too."""
    names = view.frame.names
    excess = sum(one.observed - one.usual for one in seen)
    contributors: list[Contributor] = []
    for one in seen[:3]:
        cells = view.frame.window(one.window_minutes)
        code = names.code("user", one.scope.value)
        mine = cells.where(cells.code("user") == code)
        shared = _shared(mine)
        where = {"user": one.scope.value}
        if code in known and "feature" in shared:
            where["feature"] = shared["feature"]
        if code not in known and "model" in shared and is_unseen(view, "model", shared["model"]):
            where["model"] = shared["model"]
        pairs: Pairs = tuple(
            (name, where[name]) for name in ("feature", "model", "user") if name in where
        )
        contributors.append(
            Contributor(
                where=pairs,
                also=tuple(pair for pair in shared.items() if pair[0] not in where),
                actual=exact(one.observed),
                expected=exact(one.usual),
                share=float((one.observed - one.usual) / excess),
            )
        )
    first = contributors[0]
    return Explanation(tuple(contributors), (*first.where, *first.also))


def _shared(cells: Cells) -> dict[str, str]:
    cost = cells.count("cost_pico")
    found: dict[str, str] = {}
    for dimension in ("feature", "model", "prompt", "team", "project", "key", "service"):
        sums = tally(cells.code(dimension), cost)
        most = int(sums.argmax())
        if most and sums[most] >= _NEARLY_ALL * cost.sum():
            found[dimension] = cells.names.name(dimension, most)
    return found


def _waiting(view: View, seen: Seen) -> str:
    excess = _usd((seen.observed - seen.usual) * seen.window_minutes / 60)
    cells = view.frame.window(seen.window_minutes)
    unpriced = int(cells.count("unpriced_calls").sum())
    besides = f" {unpriced} calls without a price come on top." if unpriced else ""
    rate = _rate(view, seen.scope, min(seen.window_minutes, _LATELY_MINUTES)) - seen.usual
    goes_on = 2 * rate >= seen.observed - seen.usual
    lately = f"It costs {_usd(rate)}/h more than usual. " if goes_on else ""
    return (
        f"{lately}In the last {seen.window_minutes} minutes it cost {excess} more than "
        f"usual.{besides}"
    )


def _rate(view: View, scope: Scope, minutes: int) -> float:
    """Return dollars an hour in the last minutes."""
    cells = view.frame.window(minutes)
    if scope.dimension:
        code = view.frame.names.code(scope.dimension, scope.value)
        cells = cells.where(cells.code(scope.dimension) == code)
    return float(cells.count("cost_pico").sum()) / PICO * 60 / minutes


def _usd(amount: float) -> str:
    return usd_text(Decimal(str(round(amount, 2))))
