"""The month's end, forecast on months whose end is known."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import pytest
from numpy.typing import NDArray

from costspan_dashboards.alerts.finding import Finding
from costspan_dashboards.alerts.forecast import COVERAGE, ENOUGH_ORIGINS, month_end
from costspan_dashboards.alerts.frame import Archive, Cells, Frame, Names, minute_of, slot_of
from costspan_dashboards.alerts.limits import Budget, BudgetDimension, Limits
from costspan_dashboards.alerts.rules import judge

Ints = NDArray[np.int64]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PICO = 10**12
WEEK = np.array([0.4, 1.0, 1.05, 1.1, 1.05, 0.95, 0.35])


def day_of(at: datetime) -> int:
    return (at - EPOCH).days


def days_of_cost(seed: int, first_day: int, count: int, *, step: bool = False) -> Ints:
    """About 100 dollars a day: weekdays, noise, a slow drift, and a new level if asked."""
    random = np.random.default_rng(seed)
    costs = 100 * np.exp(random.normal(0, 0.12, count) + random.normal(0, 0.015, count).cumsum())
    costs *= WEEK[(first_day + np.arange(count)) % 7]
    if step:
        costs[random.integers(20, count) :] *= random.choice([0.6, 1.5])
    return (costs * PICO).astype(np.int64)


def simulated(seed: int, day: int, *, step: bool = False) -> tuple[int, Ints, datetime, int]:
    """Return what is known at the end of a day of a month, with 69 days before, and its total."""
    month = datetime(2026, 1 + seed % 12, 1, tzinfo=UTC)
    at = month + timedelta(days=day)
    end = (month + timedelta(days=31)).replace(day=1)
    first = day_of(at) - 69
    costs = days_of_cost(seed, first, 69 + (end - at).days, step=step)
    return first, np.append(costs[:69], 0), at, int(costs[69 - day :].sum())


@pytest.mark.parametrize("day", [7, 14, 21])
@pytest.mark.parametrize(("step", "least", "most"), [(False, 0.74, 0.92), (True, 0.68, 0.9)])
def test_the_interval_holds_about_as_many_months_as_it_says(
    day: int, step: bool, least: float, most: float
) -> None:
    held = 0
    for seed in range(96):
        first, costs, at, total = simulated(seed, day, step=step)
        forecast = month_end(first, costs, at)
        assert forecast.interval
        assert forecast.origins >= ENOUGH_ORIGINS
        held += forecast.interval.low_pico <= total <= forecast.interval.high_pico
    assert least <= held / 96 <= most
    assert least < COVERAGE < most


@pytest.mark.parametrize(("day", "most"), [(4, 0.065), (10, 0.045), (18, 0.035)])
def test_the_forecast_is_nearer_than_a_run_rate(day: int, most: float) -> None:
    ours: list[float] = []
    straight: list[float] = []
    for seed in range(60):
        first, costs, at, total = simulated(seed, day)
        forecast = month_end(first, costs, at)
        assert forecast.expected_pico is not None
        ours.append(abs(forecast.expected_pico / total - 1))
        month = (at - timedelta(days=1)).replace(day=1)
        days = ((month + timedelta(days=31)).replace(day=1) - month).days
        straight.append(abs(forecast.spent_pico / day * days / total - 1))
    assert np.mean(ours) < most
    assert np.mean(ours) < np.mean(straight)


def test_what_is_spent_is_exact_and_never_forecast_away() -> None:
    first, costs, at, _ = simulated(3, 20)
    costs[-1] = 7
    forecast = month_end(first, costs, at + timedelta(hours=6))
    assert forecast.spent_pico == sum(costs[-21:].tolist())
    assert forecast.interval
    assert forecast.expected_pico is not None
    assert forecast.spent_pico <= forecast.interval.low_pico < forecast.expected_pico


def test_a_months_last_minute_leaves_hardly_anything_to_forecast() -> None:
    first, costs, _, _ = simulated(0, 30)
    at = EPOCH + timedelta(days=first + 70) - timedelta(minutes=1)
    assert at == datetime(2026, 1, 31, 23, 59, tzinfo=UTC)
    forecast = month_end(first, costs, at)
    assert forecast.expected_pico is not None
    assert 0 < forecast.expected_pico - forecast.spent_pico < PICO


@pytest.mark.parametrize(("whole_days", "most"), [(10, 1.0), (14, 0.4), (28, 0.25)])
def test_the_interval_of_a_short_history_is_wider_and_holds_as_many_months(
    whole_days: int, most: float
) -> None:
    held, half_widths = 0, list[float]()
    for seed in range(60):
        first, costs, at, total = simulated(seed, 14)
        known = costs[-whole_days - 1 :]
        forecast = month_end(first + 69 - whole_days, known, at)
        assert forecast.interval
        before = int(costs[69 - 14 : -1].sum()) - int(known[-15:-1].sum())
        low, high = forecast.interval.low_pico + before, forecast.interval.high_pico + before
        held += low <= total <= high
        half_widths.append((high - low) / 2 / (total - int(costs[69 - 14 : -1].sum())))
    assert held >= COVERAGE * 60
    assert np.mean(half_widths) < most


@pytest.mark.parametrize("whole_days", [0, 4, 5, 9])
def test_with_too_little_history_there_is_no_interval(whole_days: int) -> None:
    first, costs, at, _ = simulated(1, 14)
    forecast = month_end(first + 69 - whole_days, costs[-whole_days - 1 :], at)
    assert forecast.interval is None
    assert forecast.origins == 0
    assert (forecast.expected_pico is None) == (whole_days < 5)
    assert forecast.spent_pico == int(costs[-whole_days - 1 :].sum())


def test_days_without_any_cost_are_a_level_of_nothing() -> None:
    forecast = month_end(20_000, np.zeros(70, np.int64), EPOCH + timedelta(days=20_069))
    assert (forecast.spent_pico, forecast.expected_pico, forecast.interval) == (0, 0, None)


def found(at: datetime, costs: Ints, *plans: Budget) -> list[Finding]:
    """Return what `budget` finds of one feature whose days cost so much, the last so far."""
    names = Names()
    until = minute_of(at)
    days = until // 1440 - len(costs) + 1 + np.arange(len(costs))
    minute = np.minimum(days * 1440 + 720, until - 10)
    values = {"team": "search", "project": "p1", "feature": "chat", "model": "small", "key": "k1"}
    cells = Cells.of(
        names,
        minute,
        {name: names.encode(name, [value] * len(minute)) for name, value in values.items()},
        {"calls": np.ones(len(minute), np.int64), "cost_pico": costs},
    )
    archive = Archive(cells.coarser(5), cells.coarser(60))
    frame = Frame(
        now=at + timedelta(seconds=90),
        until=until,
        present=cells.between(until - 60, 2**40),
        latest_arrival=at,
        history=archive.history(slot_of(until)),
    )
    return [one for one in judge(frame, Limits(budgets=plans)) if one.rule == "budget"]


def test_a_budget_of_four_fifths_of_the_month_is_a_ticket_by_day_twelve_and_the_total_is_held() -> (
    None
):
    first, costs, at, total = simulated(4, 12)
    plan = Budget(Decimal(total) * Decimal("0.8") / PICO)
    forecast = month_end(first, costs, at)
    assert forecast.interval
    assert forecast.interval.low_pico <= total <= forecast.interval.high_pico
    (ticket,) = found(at, costs, plan)
    assert ticket.severity == "ticket"
    assert ticket.observed == Decimal(forecast.spent_pico) / PICO
    assert "heading for more" in ticket.title
    assert "in 80% of such cases" in ticket.facts[0]
    assert not found(at, costs, replace(plan, usd_per_month=plan.usd_per_month * 2))


@pytest.mark.parametrize(
    ("dimension", "value"),
    [("team", "search"), ("project", "p1"), ("feature", "chat"), ("model", "small"), ("key", "k1")],
)
def test_a_budget_is_of_those_calls_it_names(dimension: BudgetDimension, value: str) -> None:
    _, costs, at, total = simulated(4, 12)
    plan = Budget(Decimal(total) * Decimal("0.8") / PICO, dimension, value)
    (ticket,) = found(at, costs, plan)
    assert (ticket.scope.dimension, ticket.scope.value) == (dimension, value)
    assert found(at, costs, replace(plan, value="another")) == []
