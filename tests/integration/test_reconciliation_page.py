"""The Reconciliation page, run by Streamlit's own test runner on a reconciled store."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from streamlit.testing.v1 import AppTest

from costspan_collector.record import Call
from costspan_collector.store import Store
from costspan_reconcile.schedule import reconcile_now
from costspan_reconcile.settings import Reconcile

NOW = datetime.now(UTC)
DAY = NOW.date() - timedelta(days=2)
MILLION = 1_000_000


@pytest.fixture
def page(
    open_page: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch
) -> Callable[[], AppTest]:
    monkeypatch.delenv("OPENAI_ADMIN_KEY", raising=False)
    return partial(open_page, "reconciliation", range="last 7 days")


@pytest.fixture
def settings(provider: Any) -> Reconcile:
    provider.headers = {"retry-after-ms": "1"}
    return Reconcile(
        admin_key=SecretStr(provider.ADMIN_KEY), base_url=provider.url, lookback_days=7
    )


def texts(app: Any) -> str:
    kinds = ("header", "subheader", "markdown", "caption", "warning", "error", "info", "code")
    return "\n".join(str(element.value) for kind in kinds for element in app.get(kind))


def test_an_empty_page_says_what_to_set(page: Callable[[], AppTest]) -> None:
    shown = texts(page())
    assert "Nothing is reconciled yet" in shown
    assert "export OPENAI_ADMIN_KEY=sk-admin-" in shown
    assert "read\\-only permission" in shown


def test_a_key_in_a_file_is_a_key(
    page: Callable[[], AppTest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "key"
    file.write_text("sk-admin-secret\n")
    monkeypatch.setenv("COSTSPAN_RECONCILE_ADMIN_KEY_FILE", str(file))
    shown = texts(page())
    assert "A key is set" in shown
    assert "the bill was never asked for" in shown
    assert "secret" not in shown
    file.unlink()
    assert r"KEY\_FILE\: cannot read it" in texts(page())


def test_the_page_shows_the_gap_by_class_day_project_and_line_item(
    store: Store, provider: Any, settings: Reconcile, page: Callable[[], AppTest]
) -> None:
    item = "gpt-4o-mini-2024-07-18, input"
    provider.keys = {"proj_a": [("key_1", "checkout", "aaaa"), ("key_2", "nightly_batch", "bbbb")]}
    provider.charge(DAY, item, "0.15", api_key_id="key_1", quantity=MILLION)
    provider.charge(DAY, item, "0.60", api_key_id="key_2", quantity=4 * MILLION)
    provider.charge(DAY, "Vector storage", "0.00032195744715549047")
    call = Call(
        started_at=datetime(DAY.year, DAY.month, DAY.day, 9, tzinfo=UTC),
        trace_id=bytes(15) + b"1",
        span_id=bytes(7) + b"1",
        project="proj_a",
        key_hint="aaaa",
        response_model="gpt-4o-mini-2024-07-18",
        input_tokens=MILLION,
        cost_usd=Decimal("0.15"),
        cost_parts_usd={"input": Decimal("0.15")},
        received_at=NOW,
        ingest_id=1,
    )
    store.insert("calls", [call])
    reconcile_now(store, settings, NOW)

    app = page()

    metrics = {metric.label: metric.value for metric in app.metric}
    assert metrics == {
        "Billed, USD": "$0.750",
        "Estimated, USD": "$0.150",
        "Difference, USD": "$0.600",
        "Capture rate": "20.0 %",
    }
    (warning,) = app.warning
    assert r"**nightly\_batch** (key\_2)" in warning.value
    assert r"was billed **\$0\.600**" in warning.value
    tables: list[Any] = [frame.value for frame in app.dataframe]
    classes = dict(zip(tables[0]["class"], tables[0]["billed - estimated"], strict=True))
    assert classes == {"UNINSTRUMENTED_KEY": "$0.600", "STORAGE": "$0.000322"}
    day = tables[1].set_index("day").loc[DAY.isoformat()]
    assert (day["state"], day["verdict"], day["billed"]) == ("provisional", "explained", "$0.750")
    assert list(tables[2]["project"]) == ["proj_a (proj_a)"]
    assert dict(zip(tables[3]["line item"], tables[3]["class"], strict=True)) == {
        item: "UNINSTRUMENTED_KEY",
        "Vector storage": "STORAGE",
    }
    assert "0 final, 6 provisional, 1 open" in texts(app)


def test_a_bill_that_could_not_be_read_again_is_said_with_its_reason(
    store: Store, provider: Any, settings: Reconcile, page: Callable[[], AppTest]
) -> None:
    provider.charge(DAY, "gpt-4o, input", "1", quantity=1)
    reconcile_now(store, settings, NOW)
    provider.fail(503)
    reconcile_now(store, settings, NOW + timedelta(minutes=1))

    app = page()

    (error,) = app.error
    assert "HTTP 503" in error.value
    assert "is kept" in error.value
    assert app.metric[0].value == "$1.00"


def test_without_a_bill_of_any_closed_day_there_is_no_total_and_no_equality(
    store: Store, provider: Any, settings: Reconcile, page: Callable[[], AppTest]
) -> None:
    provider.fail(401)
    store.insert(
        "calls",
        [
            Call(
                started_at=datetime(DAY.year, DAY.month, DAY.day, 9, tzinfo=UTC),
                trace_id=bytes(15) + b"1",
                span_id=bytes(7) + b"1",
                cost_usd=Decimal("0.15"),
                cost_parts_usd={"input": Decimal("0.15")},
                received_at=NOW,
                ingest_id=1,
            )
        ],
    )
    reconcile_now(store, settings, NOW)
    app = page()
    assert not app.metric
    assert not app.success
    assert "there is no total" in texts(app)
