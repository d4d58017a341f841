"""The Allocation page and a call's billed cost, run by Streamlit on a bill that is shared out."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from pydantic import SecretStr
from streamlit.testing.v1 import AppTest

from costspan_collector.record import Call
from costspan_collector.store import Store
from costspan_reconcile.allocate.policy import read_policy
from costspan_reconcile.schedule import reconcile_now
from costspan_reconcile.settings import Reconcile

NOW = datetime.now(UTC)
DAY = NOW.date() - timedelta(days=1)
MINI = "gpt-4o-mini-2024-07-18"


@pytest.fixture
def page(open_page: Callable[..., AppTest]) -> Callable[..., AppTest]:
    def opened(name: str = "allocation", **query: str) -> AppTest:
        return open_page(name, **{"range": "last 7 days", **query})

    return opened


@pytest.fixture
def settings(provider: Any) -> Reconcile:
    provider.keys = {"proj_a": [("key_1", "checkout", "aaaa")]}
    return Reconcile(
        admin_key=SecretStr(provider.ADMIN_KEY), base_url=provider.url, lookback_days=2
    )


def call(number: int, team: str, tokens: int, **columns: Any) -> Call:
    return Call(
        started_at=datetime(DAY.year, DAY.month, DAY.day, 9, tzinfo=UTC),
        trace_id=number.to_bytes(16),
        span_id=number.to_bytes(8),
        project="proj_a",
        key_hint="aaaa",
        team=team,
        response_model=MINI,
        input_tokens=tokens,
        quantities={"input": Decimal(tokens)},
        cost_usd=Decimal("0.15"),
        cost_parts_usd={"input": Decimal("0.15")},
        price_status="priced",
        received_at=NOW,
        ingest_id=number,
        **columns,
    )


def texts(app: Any) -> str:
    kinds = ("header", "subheader", "markdown", "caption", "warning", "error", "info")
    return "\n".join(str(element.value) for kind in kinds for element in app.get(kind))


def test_the_page_shows_who_was_billed_what_and_cents_that_add_up(
    store: Store, provider: Any, settings: Reconcile, page: Callable[..., AppTest]
) -> None:
    provider.charge(DAY, f"{MINI}, input", "0.10", api_key_id="key_1", quantity=3)
    provider.charge(DAY, "Vector storage", "0.032")
    provider.charge(DAY, "Text tokens", "0.50")
    store.insert("calls", [call(n, team, 1, feature="ask") for n, team in enumerate("abc", 1)])
    rule = (
        '[[rule]]\nname = "disk"\nmatch = { line_item = "Vector*" }\npolicy = "even"\nteams = ["a"]'
    )
    reconcile_now(store, settings, NOW, policy=read_policy(rule))

    app = page()

    metrics = {metric.label: metric.value for metric in app.metric}
    assert metrics == {
        "Billed, USD": "$0.632",
        "By calls": "$0.100",
        "By rules": "$0.0320",
        "Unattributed": "$0.500",
    }
    table: Any = app.dataframe[0].value
    assert [
        tuple(row) for row in table[["team", "feature", "by calls", "by rules", "billed"]].values
    ] == [
        ("a", "ask", "$0.04", "$0.00", "$0.04"),
        ("b", "ask", "$0.03", "$0.00", "$0.03"),
        ("c", "ask", "$0.03", "$0.00", "$0.03"),
        ("a", "(none)", "$0.00", "$0.03", "$0.03"),
        ("(unattributed)", "", "$0.00", "$0.00", "$0.50"),
        ("total", "", "$0.10", "$0.03", "$0.63"),
    ]
    assert table["billed, to the last digit"].iloc[0] == "0.033333333334"
    assert table["billed, to the last digit"].iloc[-1] == "0.632"
    remainder: Any = app.dataframe[1].value
    assert dict(zip(remainder["line item"], remainder["by the rule"], strict=True)) == {
        "Text tokens": "(none)",
        "Vector storage": "disk",
    }
    assert r"sum to the bill to the last digit: \$0\.632" in texts(app)


def test_projects_have_their_own_unattributed_dollars(
    store: Store, provider: Any, settings: Reconcile, page: Callable[..., AppTest]
) -> None:
    provider.charge(DAY, "Text tokens", "-0.50")
    provider.charge(DAY, "Vector storage", "2", project_id=None)
    reconcile_now(store, settings, NOW)
    table: Any = page(to="project").dataframe[0].value
    assert [tuple(row) for row in table[["project", "unattributed", "billed"]].values] == [
        ("(none)", "$2.00", "$2.00"),
        ("proj_a", "-$0.50", "-$0.50"),
        ("total", "$1.50", "$1.50"),
    ]


def test_a_day_whose_newest_bill_is_not_shared_out_is_told_and_in_no_figure(
    store: Store, provider: Any, settings: Reconcile, page: Callable[..., AppTest]
) -> None:
    provider.charge(DAY, "Vector storage", "2")
    assert "is shared out yet" in texts(page())
    reconcile_now(store, settings.model_copy(update={"lookback_days": 3}), NOW)
    store.command(
        "INSERT INTO recon_runs SELECT * REPLACE (generateUUIDv4() AS run_id, run_at + 1 AS run_at) "
        "FROM recon_runs WHERE day = {day:Date}",
        day=DAY - timedelta(days=1),
    )
    app = page()
    (warning,) = app.warning
    assert "1 closed days" in warning.value
    assert not app.error


def test_a_call_shows_what_was_estimated_and_what_was_billed(
    store: Store, provider: Any, settings: Reconcile, page: Callable[..., AppTest]
) -> None:
    provider.charge(DAY, f"{MINI}, input", "0.10", api_key_id="key_1", quantity=3)
    store.insert("calls", [call(1, "a", 1), call(2, "a", 2), call(3, "b", 0)])

    def metrics(number: int) -> dict[str, str]:
        app = page("calls", trace=number.to_bytes(16).hex(), span=number.to_bytes(8).hex())
        return {metric.label: metric.value for metric in app.metric}

    assert metrics(1)["Cost, USD, billed"] == "not yet"
    reconcile_now(store, settings, NOW)
    assert metrics(1)["Cost, USD, estimated"] == "$0.150"
    assert metrics(1)["Cost, USD, billed"] == "$0.0333"
    assert metrics(2)["Cost, USD, billed"] == "$0.0667"
    assert metrics(3)["Cost, USD, billed"] == "in no line"
