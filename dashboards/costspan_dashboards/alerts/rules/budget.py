"""`budget`: the month so far, and where it is heading, against what was planned for it."""

from datetime import UTC, datetime
from decimal import Decimal

import numpy as np

from costspan_dashboards.alerts.finding import Finding, Severity, link
from costspan_dashboards.alerts.forecast import COVERAGE, LEAST_ORIGINS, Forecast, month_end
from costspan_dashboards.alerts.frame import DAY_MINUTES, Ints, minute_of, time_of
from costspan_dashboards.alerts.limits import Budget, Limits
from costspan_dashboards.alerts.rules.usage import PICO
from costspan_dashboards.alerts.scopes import Scope, View
from costspan_dashboards.figures import usd_text

_TICKET_AT = Decimal("0.8")


def budget(view: View, limits: Limits) -> list[Finding]:
    """Find budgets that are used up, nearly, or to be so by the end of the month.

    Every environment counts: the bill knows none.
    """
    found = [_judged(view, one) for one in limits.budgets]
    return [finding for finding in found if finding]


def daily_pico(view: View, dimension: str, value: str) -> tuple[int, Ints]:
    """Return the first day there is (in days since 1970) and what each day cost, today the last."""
    days = view.past.history.days
    if dimension:
        days = days.where(days.code(dimension) == view.frame.names.code(dimension, value))
    place = days.minute // DAY_MINUTES
    today = view.frame.until // DAY_MINUTES
    first = int(place.min(initial=today))
    costs = np.zeros(today - first + 1, np.int64)
    np.add.at(costs, place - first, days.count("cost_pico"))
    return first, costs


def _judged(view: View, plan: Budget) -> Finding | None:
    now = view.frame.at
    month = datetime(now.year, now.month, 1, tzinfo=UTC)
    forecast = month_end(*daily_pico(view, plan.dimension, plan.value), now)
    spent = Decimal(forecast.spent_pico) / PICO
    share = spent / plan.usd_per_month
    # Even the low end: a forecast that is as likely wrong as right is nothing to be told of.
    interval = forecast.interval
    heading = interval is not None and Decimal(interval.low_pico) / PICO > plan.usd_per_month
    if share < _TICKET_AT and not heading:
        return None
    severity: Severity = "page" if share >= 1 else "ticket"
    return Finding(
        rule="budget",
        severity=severity,
        scope=Scope(plan.dimension, plan.value),
        since=time_of(minute_of(month)),
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
        ),
        contributors=(),
        shared=(),
        examples=(),
        link=link("budget", Scope(plan.dimension, plan.value), ()),
        episode=str(plan),
    )


def _outlook(forecast: Forecast) -> str:
    if forecast.expected_pico is None:
        return "There is too little history for a forecast of the month."
    expected = f"The month is heading for {_usd(forecast.expected_pico)}"
    if forecast.interval is None:
        return (
            f"{expected}; there is too little history to say how sure that is "
            f"({forecast.origins} of {LEAST_ORIGINS} past days to replay the forecast from)."
        )
    low, high = _usd(forecast.interval.low_pico), _usd(forecast.interval.high_pico)
    return f"{expected}, between {low} and {high} in {COVERAGE:.0%} of such cases."


def _usd(pico: int) -> str:
    return usd_text(Decimal(pico) / PICO)
