"""`budget`: the month so far, and where it is heading, against what was planned for it."""

from datetime import UTC, datetime
from decimal import Decimal

import numpy as np

from costspan_dashboards.alerts.cause import Explanation, explain
from costspan_dashboards.alerts.finding import Finding, Severity, cause_text, link
from costspan_dashboards.alerts.forecast import COVERAGE, ENOUGH_ORIGINS, Forecast, month_end
from costspan_dashboards.alerts.frame import (
    DAY_MINUTES,
    Cells,
    Ints,
    minute_of,
)
from costspan_dashboards.alerts.limits import Budget, Limits
from costspan_dashboards.alerts.rules.usage import PICO, compared
from costspan_dashboards.alerts.scopes import Scope, View
from costspan_dashboards.figures import usd_text

_TICKET_AT = Decimal("0.8")
_BEFORE_MINUTES = 28 * DAY_MINUTES
_MORE = 1.05
"""Times as much as before: below it there is nothing to explain."""


def budget(view: View, limits: Limits) -> list[Finding]:
    """Find budgets that are used up, nearly, or to be so by the end of the month.

    Every environment counts: the bill knows none.
    """
    found = [_judged(view, one) for one in limits.budgets]
    return [finding for finding in found if finding]


def daily_pico(view: View, about: Budget | Scope) -> tuple[int, Ints]:
    """Return the first day there is (in days since 1970) and what each day cost, today the last."""
    days = cells_of(view, about)
    place = days.minute // DAY_MINUTES
    today = view.frame.until // DAY_MINUTES
    first = int(place.min(initial=today))
    costs = np.zeros(today - first + 1, np.int64)
    np.add.at(costs, place - first, days.count("cost_pico"))
    return first, costs


def _judged(view: View, plan: Budget) -> Finding | None:
    now = view.frame.at
    month = datetime(now.year, now.month, 1, tzinfo=UTC)
    forecast = month_end(*daily_pico(view, plan), now)
    spent = Decimal(forecast.spent_pico) / PICO
    share = spent / plan.usd_per_month
    # Even the low end: a forecast that is as likely wrong as right is nothing to be told of.
    interval = forecast.interval if forecast.origins >= ENOUGH_ORIGINS else None
    likely = interval.low_pico if interval else 0
    if interval and view.about is not None:  # it was: the next days' noise does not take it back
        likely = forecast.expected_pico or 0
    heading = Decimal(likely) / PICO > plan.usd_per_month
    if share < _TICKET_AT and not heading:
        return None
    severity: Severity = "page" if share >= 1 else "ticket"
    explanation = _cause(view, plan, minute_of(month))
    return Finding(
        rule="budget",
        severity=severity,
        scope=Scope(plan.dimension, plan.value),
        since=now,
        until=now,
        observed=spent,
        usual=plan.usd_per_month,
        unit="usd",
        title=(
            f"{usd_text(spent)} of the {usd_text(plan.usd_per_month)} budget of {plan} are spent "
            f"({share:.0%}), on day {now.day} of the month"
            + (", which is heading for more than that" if heading and share < 1 else "")
        ),
        facts=(
            _outlook(forecast),
            f"The budget of {plan} is {usd_text(plan.usd_per_month)} a month.",
            *cause_text(explanation, "dollars above those of the four weeks before"),
        ),
        contributors=explanation.contributors,
        shared=explanation.shared,
        examples=(),
        link=link("budget", Scope(plan.dimension, plan.value), explanation.contributors),
        waiting=f"{_a_day(view, plan)} a day are spent now.",
        episode=f"{plan}, {month:%Y-%m}",
    )


def cells_of(view: View, about: Budget | Scope) -> Cells:
    """Return what the calls of a budget cost, by the day, and finer of today."""
    days = view.past.history.days
    if not about.dimension:
        return days
    return days.where(
        days.code(about.dimension) == view.frame.names.code(about.dimension, about.value)
    )


def _a_day(view: View, plan: Budget) -> str:
    until = view.frame.until
    week = cells_of(view, plan).between(until - 7 * DAY_MINUTES, until)
    days = min(7, max(1, view.past.history.hours // 24))
    return _usd(int(week.count("cost_pico").sum()) // days)


def _cause(view: View, plan: Budget, month: int) -> Explanation:
    """Return which calls of the month cost more than in as many days of the four weeks before."""
    cells, until = cells_of(view, plan), view.frame.until
    now, before = cells.between(month, until), cells.between(month - _BEFORE_MINUTES, month)
    if not len(before) or not len(now):
        return Explanation((), ())
    scale = (until - month) / (month - max(int(before.minute[0]), month - _BEFORE_MINUTES))
    actual = now.count("cost_pico") / PICO
    expected = before.count("cost_pico") / PICO * scale
    if actual.sum() < _MORE * expected.sum():
        return Explanation((), ())
    return explain(compared(cells.names, now.codes, actual, before.codes, expected))


def _outlook(forecast: Forecast) -> str:
    if forecast.expected_pico is None:
        return "There is too little history for a forecast of the month."
    expected = f"The month is heading for {_usd(forecast.expected_pico)}"
    if forecast.interval is None:
        return f"{expected}; there is too little history to say how sure that is."
    low, high = _usd(forecast.interval.low_pico), _usd(forecast.interval.high_pico)
    return f"{expected}, between {low} and {high} in {COVERAGE:.0%} of such cases."


def _usd(pico: int) -> str:
    return usd_text(Decimal(pico) / PICO)
