"""`unit_cost`, `cache`, `price_change` and `unpriced`: what a call costs, whatever their number."""

import math
from dataclasses import replace
from decimal import Decimal

import numpy as np

from costspan_dashboards.alerts.cause import DIMENSIONS as CAUSES
from costspan_dashboards.alerts.cause import Explanation, Table, explain
from costspan_dashboards.alerts.chance import surprise
from costspan_dashboards.alerts.finding import (
    Finding,
    Seen,
    each,
    find,
    leader,
    percent,
    scope_text,
    single,
)
from costspan_dashboards.alerts.frame import (
    DAY_MINUTES,
    DIMENSIONS,
    HISTORY_DAYS,
    Cells,
    Floats,
    Ints,
)
from costspan_dashboards.alerts.limits import Limits
from costspan_dashboards.alerts.rules.naming import changes, named_as, newest
from costspan_dashboards.alerts.rules.prices import METERS, daily, price, sums
from costspan_dashboards.alerts.rules.spend import spenders
from costspan_dashboards.alerts.rules.usage import (
    PICO,
    lasting,
    of_as_many_calls,
    rows,
    told_change,
    total,
)
from costspan_dashboards.alerts.scopes import (
    WINDOWS_MINUTES,
    View,
    figure,
    watched,
)
from costspan_dashboards.figures import usd_text

_FEATURE = DIMENSIONS.index("feature")
_MONTH_DAYS = 30
_ENOUGH_CALLS = 200
_TOKENS_A_CALL_SPREAD = 1.0
_MOSTLY = 0.6
"""Of the excess of a scope: from there on a value inside of it is the cause."""
_SAME_PRICE = 0.02
_DAYS_DRIFT = 0.03
"""Of the mean cost of a call between days that are alike, as a share."""


def unit_cost(view: View, limits: Limits) -> list[Finding]:
    """Find calls that cost more each than they did in the last four weeks."""
    if not view.past.basis.seasonal:
        return []
    seen = [one for dimension in _scopes(view) for one in _dearer(view, limits, dimension)]
    seen = [one for one in seen if view.asks(one.scope)]
    if not seen:
        return []
    first = leader(view, seen, "calls")
    explanation = _within(view, first, _unit_table(view, first))
    money = rows(view, first.window_minutes)
    before, now = money.usage(lasting(explanation.where))
    change = told_change(of_as_many_calls(before, total(now, "calls")), now, first.window_minutes)
    # A user is `entity_spend`'s, a price `price_change`'s, a cache `cache`'s business.
    if change.kind == "price" or "user" in dict(explanation.where):
        return []
    if not _dear_without(view, limits, first):
        return []
    excess = (first.observed - first.usual) * first.calls * 60 / first.window_minutes
    return [
        find(
            view,
            "unit_cost",
            "ticket",
            first,
            title=(
                f"A call of {scope_text(explanation.where, first.scope)} costs "
                f"{_usd(first.observed)}, usually {_usd(first.usual)}"
            ),
            unit="usd_per_call",
            against=f"mean of {_history_text(view)}",
            explanation=explanation,
            others=seen,
            noun="excess dollars",
            kind=change.kind,
            text=change.text,
            waiting=f"Each hour costs {_usd(excess)} more than the same calls usually do.",
            changes=changes(view, explanation),
        )
    ]


def cache(view: View, limits: Limits) -> list[Finding]:
    """Find input tokens that are no longer served from the cache."""
    gates, found = limits.unit_cost, dict[tuple[str, int], Seen]()
    if not view.past.basis.seasonal:
        return []
    for dimension in _scopes(view):
        now, before = view.by(dimension), daily(view, dimension)
        tokens0, cached0 = before[figure("input_tokens")], before[figure("cached_tokens")]
        usual = cached0 / np.maximum(tokens0, 1)
        for place, minutes in enumerate(WINDOWS_MINUTES[1:], start=1):
            tokens, cached = now[figure("input_tokens")][place], now[figure("cached_tokens")][place]
            calls = now[figure("priced_calls")][place]
            share = cached / np.maximum(tokens, 1)
            prices = price(now[:, place], "input") - price(now[:, place], "cached")
            prices = np.where(cached > 0, prices, 0.9 * price(now[:, place], "input"))
            month = (usual - share) * tokens / PICO * prices * 60 / minutes * 24 * _MONTH_DAYS
            noise = 0.5 / np.sqrt(np.maximum(calls, 1))
            over = (usual - share >= gates.min_cache_drop) & (share <= 0.7 * usual)
            over &= (calls >= gates.min_calls) & (usual - share > gates.z * noise)
            over &= month >= float(gates.min_usd_per_month)
            for code in np.flatnonzero(over).tolist():
                if (dimension and not code) or (dimension, code) in found:
                    continue
                lost = (usual[code] - share[code]) * tokens[code]
                found[dimension, code] = Seen(
                    scope=view.scope(dimension, code),
                    window_minutes=minutes,
                    observed=float(share[code]),
                    usual=float(usual[code]),
                    score=surprise(
                        float(tokens[code] - cached[code]),
                        float(tokens[code] * (1 - usual[code])),
                    )
                    / minutes,
                    severity="ticket",
                    calls=int(now[figure("calls")][place, code]),
                    affected=int(lost),
                )
    seen = [one for one in found.values() if view.asks(one.scope)]
    if not seen:
        return []
    first = leader(view, seen, "calls")
    explanation = _within(view, first, _uncached_table(view, first))
    if "user" in dict(explanation.where):
        return []
    return [
        find(
            view,
            "cache",
            "ticket",
            first,
            title=(
                f"{percent(first.observed)} of the input tokens of "
                f"{scope_text(explanation.where, first.scope)} come from the cache, usually "
                f"{percent(first.usual)}"
            ),
            unit="share",
            against=f"share in {_history_text(view)}",
            explanation=explanation,
            others=seen,
            noun="input tokens paid in full",
            kind="cached share",
            waiting=f"That is {first.affected * 60 // first.window_minutes:,} tokens an hour.",
            changes=changes(view, explanation),
        )
    ]


def price_change(view: View, _limits: Limits) -> list[Finding]:
    """Find models whose tokens cost another price than in the last four weeks."""
    now, before = view.by("model"), daily(view, "model")
    place = 0
    enough = now[figure("priced_calls")][place] >= 5
    enough &= before[figure("priced_calls")] >= _ENOUGH_CALLS
    found: list[Finding] = []
    for code in np.flatnonzero(enough).tolist():
        ratios = {
            meter: is_now / was
            for meter in METERS
            if (is_now := float(price(now[:, place], meter)[code]))
            and (was := float(price(before, meter)[code]))
            and abs(is_now / was - 1) > _SAME_PRICE
        }
        if not ratios or not code:
            continue
        model = view.frame.names.name("model", code)
        ratio = max(ratios.values(), key=lambda value: abs(math.log(value)))
        told = ", ".join(f"{meter} tokens {value:.2f} times" for meter, value in ratios.items())
        seen = Seen(
            scope=view.scope("model", code),
            window_minutes=WINDOWS_MINUTES[place],
            observed=ratio,
            usual=1.0,
            score=1.0,
            severity="info",
            calls=int(now[figure("calls")][place, code]),
            affected=0,
        )
        found.append(
            find(
                view,
                "price_change",
                "info",
                seen,
                title=f"Price change: model={model} costs {ratio:.2f} times as much a token",
                unit="times_usual",
                against=f"price in {_history_text(view)}",
                explanation=single(seen),
                noun="change",
                kind="price",
                text=[f"Against before: {told}."],
                episode=model,
            )
        )
    return found


def unpriced(view: View, limits: Limits) -> list[Finding]:
    """Find calls that cost something nobody can say."""
    seen: list[Seen] = []
    for dimension in ("model", "feature", ""):
        now = view.by(dimension)
        missing, calls = now[figure("unpriced_calls")][-1], now[figure("calls")][-1]
        seen += [
            Seen(
                scope=view.scope(dimension, code),
                window_minutes=WINDOWS_MINUTES[-1],
                observed=float(missing[code] / calls[code]),
                usual=0.0,
                score=float(missing[code]),
                severity="ticket",
                calls=int(calls[code]),
                affected=int(missing[code]),
            )
            for code in np.flatnonzero(missing >= limits.unpriced.min_calls).tolist()
            if (code or not dimension) and view.asks(view.scope(dimension, code))
        ]
    if not seen:
        return []
    by_model = [one for one in seen if one.scope.dimension == "model"]
    first = max(by_model or seen, key=lambda one: one.score)
    cells = view.cells
    table = Table.of(
        cells.names,
        _without_kind(cells),
        cells.count("unpriced_calls").astype(np.float64),
        np.asarray(cells.count("calls") * 1e-3, np.float64),
    )
    explanation = explain(table)
    model = dict((*explanation.where, *explanation.shared)).get("model")
    if model and by_model:  # what has no price is a model, whoever asks for it
        explanation = each(by_model)
    return [
        find(
            view,
            "unpriced",
            "ticket",
            first,
            title=(
                f"{first.affected} calls of {first.scope} have no price: what they cost is not known"
            ),
            unit="calls",
            against="price book, in which every model has a price",
            explanation=explanation,
            others=seen,
            noun="calls without a price",
            alone_from=0,
            kind="price",
            waiting=(
                f"That is {first.affected / first.window_minutes:.1f} calls a minute that no total "
                "includes."
            ),
        )
    ]


def _scopes(view: View) -> tuple[str, ...]:
    """Return what has a cost a call of its own: features; models only where no feature is told."""
    return ("feature",) if (view.leaves.codes[_FEATURE] > 0).any() else ("model", "")


def _dearer(view: View, limits: Limits, dimension: str) -> list[Seen]:
    gates, now, before = limits.unit_cost, view.by(dimension), daily(view, dimension)
    calls0 = before[figure("priced_calls")]
    mean0 = before[figure("cost_pico")] / PICO / np.maximum(calls0, 1)
    spread0 = before[figure("cost_usd_squared")] / np.maximum(calls0, 1) - mean0**2
    a_day = _last_day(view, dimension)
    found: dict[int, Seen] = {}
    for place, minutes in enumerate(WINDOWS_MINUTES[1:], start=1):
        calls = now[figure("priced_calls")][place]
        many = np.maximum(calls, 1)
        mean = now[figure("cost_pico")][place] / PICO / many
        squares = now[figure("cost_usd_squared")][place] / many - mean**2
        noise = np.maximum(squares, spread0) / many + (_DAYS_DRIFT * mean0) ** 2
        month = (mean - mean0) * np.maximum(a_day, calls) * _MONTH_DAYS
        over = (calls >= gates.min_calls) & (calls0 >= _ENOUGH_CALLS) & (mean0 > 0)
        over &= (mean >= gates.min_ratio * mean0) & (month >= float(gates.min_usd_per_month))
        over &= mean - mean0 > gates.z * np.sqrt(np.maximum(noise, 0))
        for code in np.flatnonzero(over).tolist():
            if code in found or (dimension and not code):
                continue
            found[code] = Seen(
                scope=view.scope(dimension, code),
                window_minutes=minutes,
                observed=float(mean[code]),
                usual=float(mean0[code]),
                score=surprise(float(mean[code] * calls[code]), float(mean0[code] * calls[code]))
                / minutes,
                severity="ticket",
                calls=int(calls[code]),
                affected=0,
            )
    return list(found.values())


def _dear_without(view: View, limits: Limits, seen: Seen) -> bool:
    """Say whether calls are dearer also without those of users who spend too much."""
    gates, (told, _) = limits.unit_cost, spenders(view, limits)
    if not told:
        return True
    cells = _of_scope(view, seen)
    rest = cells.where(~np.isin(cells.code("user"), list(told)))
    cost, calls = rest.count("cost_pico").sum() / PICO, rest.count("priced_calls").sum()
    return bool(calls >= gates.min_calls and cost >= gates.min_ratio * seen.usual * calls)


def _last_day(view: View, dimension: str) -> Floats:
    """Return how many calls of the last day have a price, by value."""
    past = view.past

    def last_day() -> Floats:
        until = past.history.until
        day = past.history.recent.between(until - DAY_MINUTES, until)
        return sums(watched(day, past.quiet), dimension)[figure("priced_calls")]

    return past.kept(("last day", dimension, past.size(dimension)), last_day)


def _within(view: View, seen: Seen, table: Table) -> Explanation:
    """Return the scope itself as the cause, with the new value inside of it that is most of it.

    Where it is one user among others, it is named with the user.
    """
    inside = explain(table)
    users = table.codes[CAUSES.index("user")]
    if inside.where and "user" in dict(inside.shared) and users.max() > users.min():
        return named_as(inside, dict((*inside.where, *inside.shared)))
    if not seen.scope.dimension:
        return newest(view, inside)
    mostly = not inside.where or inside.contributors[0].share >= _MOSTLY
    pair = (seen.scope.dimension, seen.scope.value)
    shared = dict((*inside.shared, pair)) if mostly else dict((pair,))
    return newest(view, replace(single(seen), shared=tuple(shared.items())))


def _of_scope(view: View, seen: Seen) -> Cells:
    cells = view.window(seen.window_minutes)
    if not seen.scope.dimension:
        return cells
    code = view.frame.names.code(seen.scope.dimension, seen.scope.value)
    return cells.where(cells.code(seen.scope.dimension) == code)


def _unit_table(view: View, seen: Seen) -> Table:
    """Return dollars, and what as many calls of the same features would usually have cost."""
    cells, before = _of_scope(view, seen), daily(view, "feature")
    usual = before[figure("cost_pico")] / PICO / np.maximum(before[figure("priced_calls")], 1)
    feature = cells.code("feature")
    actual = cells.count("cost_pico") / PICO
    expected: Floats = np.where(
        before[figure("priced_calls")][feature] > 0,
        cells.count("priced_calls") * usual[feature],
        actual,
    )
    return Table.of(cells.names, _without_kind(cells), actual, expected)


def _uncached_table(view: View, seen: Seen) -> Table:
    cells, before = _of_scope(view, seen), daily(view, "feature")
    share = before[figure("cached_tokens")] / np.maximum(before[figure("input_tokens")], 1)
    tokens = cells.count("input_tokens")
    actual = (tokens - cells.count("cached_tokens")).astype(np.float64)
    return Table.of(
        cells.names, _without_kind(cells), actual, tokens * (1 - share[cells.code("feature")])
    )


def _without_kind(cells: Cells) -> Ints:
    codes = cells.codes.copy()
    codes[-1] = 0
    return codes


def _history_text(view: View) -> str:
    days = min(view.past.history.hours // 24, HISTORY_DAYS)
    return f"the last {days} days"


def _usd(amount: float) -> str:
    return usd_text(Decimal(str(round(amount, 6))))
