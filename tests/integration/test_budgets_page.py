"""The Budgets page, run by Streamlit's own test runner: the month so far and where it is heading."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from costspan_collector.store import Store
from costspan_collector.store.rollups import refresh
from costspan_dashboards.alerts.limits import Budget, BudgetDimension
from costspan_dashboards.alerts.outlook import outlooks

NOW = datetime(2026, 11, 18, 14, 0, tzinfo=UTC)
CALLS = """
INSERT INTO calls (started_at, trace_id, span_id, team, project, feature, request_model,
    response_model, key_hint, environment, status, duration_us, cost_usd, price_status, received_at,
    ingest_id)
SELECT {since:DateTime('UTC')} + INTERVAL number DAY AS at, MD5(toString((at, {team:String}))),
    '12345678', {team:String}, 'p1', 'chat', 'gpt-4o-mini', 'gpt-4o-mini', 'k1', 'prod', 'ok', 1000,
    if({priced:Bool}, toDecimal64({usd:String}, 12), NULL),
    if({priced:Bool}, 'priced', 'unknown_model'), at, 1
FROM numbers({count:UInt32})
"""


@pytest.fixture
def page(open_page: Callable[..., AppTest]) -> Callable[..., AppTest]:
    return partial(open_page, "budgets")


def add(store: Store, days: int, *, team: str = "search", usd: str = "0.5") -> None:
    """Put a call a day in the store, for whole days and today."""
    since = NOW.replace(hour=0) - timedelta(days=days)
    values = {"team": team, "usd": usd or "0", "priced": bool(usd), "count": days + 1}
    store.command(CALLS, since=since, **values)


DELAY = timedelta(seconds=90)


def test_a_month_is_what_was_spent_and_what_its_days_let_expect(store: Store) -> None:
    add(store, 12)
    add(store, 12, team="web", usd="0.25")
    add(store, 1, team="web2", usd="")
    refresh(store, overlap=timedelta(0))
    scopes: list[tuple[BudgetDimension, str]] = [
        ("team", "search"),
        ("project", "p1"),
        ("feature", "chat"),
        ("model", "gpt-4o-mini"),
        ("key", "k1"),
        ("environment", "prod"),
        ("team", "nobody"),
    ]
    budgets = [Budget(Decimal(300), name, value) for name, value in scopes]
    until, (everything, search, *others, nobody) = outlooks(store, budgets, DELAY, NOW)
    assert until == NOW - timedelta(minutes=5)
    calls = 13
    assert everything.forecast.spent_pico == calls * 750_000_000_000
    assert (everything.of, everything.budget_usd, everything.unpriced) == ("all calls", None, 2)
    assert (search.of, search.forecast.spent_pico) == ("team=search", calls * 500_000_000_000)
    assert search.unpriced == 0
    assert {one.forecast for one in others} == {everything.forecast}
    assert (nobody.forecast.spent_pico, nobody.forecast.expected_pico) == (0, None)
    # The same each day, and so for the ten hours and twelve days that are left.
    assert search.forecast.expected_pico is not None
    left = search.forecast.expected_pico - search.forecast.spent_pico
    assert abs(left / ((12 + 10 / 24) * 5e11) - 1) < 0.01
    assert search.forecast.interval


def test_little_history_is_said_to_be_little(store: Store) -> None:
    add(store, 3)
    refresh(store, overlap=timedelta(0))
    _, (everything,) = outlooks(store, (), DELAY, NOW)
    assert everything.forecast.spent_pico == 4 * 500_000_000_000
    assert (everything.forecast.expected_pico, everything.forecast.interval) == (None, None)


def test_the_page_says_which_budget_will_not_last(
    page: Callable[..., AppTest],
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert "No budget is set" in page().info[0].value
    for team, usd in (("search", "0.5"), ("web", "0.01")):
        now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        values = {"team": team, "usd": usd, "priced": True, "count": 12}
        store.command(CALLS, since=now - timedelta(days=12), **values)
    refresh(store, overlap=timedelta(0))
    limits = tmp_path / "alerts.toml"
    limits.write_text(
        """
[[budgets]]
usd_per_month = 0.01
dimension = "team"
value = "search"
[[budgets]]
usd_per_month = 100000
dimension = "team"
value = "web"
[[budgets]]
usd_per_month = 90000
"""
    )
    monkeypatch.setenv("COSTSPAN_ALERTS_FILE", str(limits))
    st.cache_resource.clear()
    app = page()
    assert [one.label for one in app.metric][:2] == ["Spent so far", "Heading for"]
    assert all(one.value.startswith("$") for one in app.metric)
    shown: Any = app.dataframe[0].value
    assert list(shown["budget of"]) == ["all calls", "team=search", "team=web"]
    assert shown["outlook"][1] in {
        "used up",
        "will not last",
    }  # the latter where the month is young
    assert list(shown["outlook"])[::2] == ["will last"] * 2
