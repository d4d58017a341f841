"""The pages, run by Streamlit's own test runner on rows in the real engine."""

import csv
import io
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from streamlit.testing.v1 import AppTest

from costspan_collector.jobs import run_job
from costspan_collector.record import Call, HttpAttempt
from costspan_collector.store import Store
from costspan_dashboards.breakdown import OTHER, PART, breakdown
from costspan_dashboards.filters import NONE, Filters, TimeRange
from costspan_dashboards.queries import DIMENSIONS, calls, extent, overview, spend_by_part
from costspan_reconcile.results import ReconRun

Open = Callable[..., AppTest]


@pytest.fixture
def page(open_page: Open) -> Open:
    return open_page


NOW = datetime.now(UTC)
SPEND = Decimal("0.010000000003")


def call(number: int, **changes: Any) -> Call:
    """A priced call, `number` minutes ago."""
    made = Call(
        started_at=NOW - timedelta(minutes=number),
        trace_id=number.to_bytes(16, "big"),
        span_id=number.to_bytes(8, "big"),
        service_name="api",
        operation="chat",
        api_type="responses",
        request_model="gpt-5.5",
        response_model="gpt-5.5-2026-04-24",
        response_tier="default",
        project="proj_a",
        team="search",
        feature="agent",
        user=f"user-{number % 3}",
        duration_us=1_500_000,
        input_tokens=100,
        cached_tokens=40,
        output_tokens=30,
        reasoning_tokens=10,
        cost_usd=SPEND,
        cost_parts_usd={"input": Decimal("0.004"), "output": SPEND - Decimal("0.004")},
        price_status="priced",
        price_book="book-1",
        price_path="gpt-5.5/standard/short",
        received_at=NOW,
        ingest_id=1,
    )
    return replace(made, **changes)


def unpriced(number: int, **changes: Any) -> Call:
    return call(number, cost_usd=None, cost_parts_usd={}, price_status="unknown_model", **changes)


def failed(number: int, **changes: Any) -> Call:
    return call(
        number,
        cost_usd=None,
        cost_parts_usd={},
        price_status="",
        status="error",
        error_type="429",
        error_code="rate_limit_exceeded",
        response_model="",
        response_tier="",
        input_tokens=None,
        cached_tokens=None,
        output_tokens=None,
        reasoning_tokens=None,
        **changes,
    )


def attempt(number: int, of: Call, **changes: Any) -> HttpAttempt:
    made = HttpAttempt(
        started_at=of.started_at + timedelta(milliseconds=400 * number),
        trace_id=of.trace_id,
        span_id=(1000 + number).to_bytes(8, "big"),
        parent_span_id=of.span_id,
        attempt=number,
        method="POST",
        server_address="api.openai.com",
        http_status=200,
        duration_us=300_000,
        received_at=NOW,
        ingest_id=1,
    )
    return replace(made, **changes)


def reconciled(days_ago: int, verdict: str) -> ReconRun:
    return ReconRun(
        run_id=UUID(int=days_ago),
        day=(NOW - timedelta(days=days_ago)).date(),
        run_at=NOW,
        day_state="PROVISIONAL",
        verdict=verdict,
        reason="",
        price_book="book-1",
        grammar="1",
        tolerances="{}",
        inputs_sha256="0" * 64,
        costs_fetch_id=None,
        costs_revision=0,
        usage_fetch_ids=(),
        billed_usd=SPEND,
        estimated_usd=SPEND,
        calls=1,
        unpriced_calls=0,
    )


def metrics(app: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in app.metric}


def said(app: AppTest) -> str:
    """All prose on the page."""
    kinds = (app.markdown, app.caption, app.info, app.warning, app.error, app.subheader)
    return "\n".join(element.value for kind in kinds for element in kind)


def table(app: AppTest, place: int = 0) -> dict[str, list[Any]]:
    """One table of the page, by column."""
    frame: Any = app.dataframe[place].value
    return frame.to_dict("list")


def test_an_empty_store_says_what_to_add_to_an_app(page: Open) -> None:
    app = page()
    assert [block.value for block in app.code][:2] == [
        "pip install costspan",
        "import costspan.auto",
    ]
    assert app.code[2].value.startswith("export OTEL_EXPORTER_OTLP_ENDPOINT=http")


@pytest.mark.parametrize("path", ["spend", "calls", "alerts", "reconciliation"])
def test_every_page_opens_on_an_empty_store(page: Open, path: str) -> None:
    assert said(page(path))


@pytest.mark.parametrize("path", ["", "spend", "calls", "alerts", "reconciliation"])
def test_every_page_opens_on_rows(page: Open, store: Store, path: str) -> None:
    store.insert("calls", [call(1), unpriced(2), failed(3)])
    app = page(path)
    assert not app.error
    assert app.selectbox(key="range").value == "last 7 days"


def test_home_shows_spend_calls_errors_latency_and_what_has_no_price(
    page: Open, store: Store
) -> None:
    store.insert("calls", [call(1), call(2), unpriced(3), failed(4)])
    app = page()
    shown = metrics(app)
    assert shown["Spend in this range"] == "$0.0200"
    assert shown["Calls in this range"] == "4"
    assert shown["Share of calls that failed"] == "25.0 %"
    assert shown["p95 latency of calls that worked"] == "1.50 s"
    assert r"\+ 1 call without a price" in said(app)
    assert "No open alert" in said(app)
    assert "Not reconciled yet" in said(app)


def test_a_second_delivery_of_a_call_counts_once(page: Open, store: Store) -> None:
    store.insert("calls", [call(1)])
    store.insert("calls", [replace(call(1), ingest_id=2)])
    assert metrics(page())["Calls in this range"] == "1"


def test_home_compares_only_with_a_complete_period(page: Open, store: Store) -> None:
    store.insert("calls", [call(1), call(70)])
    day = page(range="last 24 hours")
    assert [metric.delta for metric in day.metric if metric.label.startswith("Spend in")] == [""]
    assert "no complete period before" in str(day.metric[1].proto)

    store.insert("calls", [call(80), call(90), call(130)])
    hour = page(range="last hour")
    assert metrics(hour)["Calls in this range"] == "1"
    assert [metric.delta for metric in hour.metric if metric.label == "Calls in this range"] == [
        "-66.7 %"
    ]


def test_home_warns_when_calls_stopped_coming(page: Open, store: Store) -> None:
    store.insert("calls", [call(90, received_at=NOW - timedelta(minutes=90))])
    assert any("may be incomplete" in warning.value for warning in page().warning)


def test_home_says_how_the_last_reconciliation_ended(page: Open, store: Store) -> None:
    def refused() -> str:
        msg = "the admin key was refused"
        raise ConnectionError(msg)

    store.insert("calls", [call(1)])
    run_job(store, "reconcile", lambda: "31 days")
    assert "**Reconciled**" in said(page())
    run_job(store, "reconcile", refused)
    words = said(page())
    assert "**Reconciliation failed**, last worked" in words
    assert "the admin key was refused" in words


def test_home_gives_no_check_mark_to_a_reconciliation_with_days_to_review(
    page: Open, store: Store
) -> None:
    store.insert("calls", [call(1)])
    run_job(store, "reconcile", lambda: "2 days_read")
    assert ":material/check_circle: **Reconciled**" in said(page())
    store.insert("recon_runs", [reconciled(2, "REVIEW"), reconciled(3, "MATCHED")])
    words = said(page())
    assert ":orange[:material/warning:] **Reconciled**" in words
    assert "Last 30 days: days to review: 1; see the page Reconciliation" in words
    assert r"2 days\_read" in words


def test_filters_in_the_url_narrow_the_page_and_stay_in_it(page: Open, store: Store) -> None:
    store.insert("calls", [call(1), call(2, team="growth"), call(3, team="", feature="")])
    app = page(team=["growth", NONE])
    assert metrics(app)["Calls in this range"] == "2"
    assert sorted(app.query_params["team"]) == sorted(["growth", NONE])
    assert metrics(page(team="growth"))["Calls in this range"] == "1"
    assert metrics(page(team="nobody"))["Calls in this range"] == "0"


def test_a_page_that_does_not_narrow_keeps_the_choice_in_the_url(page: Open, store: Store) -> None:
    store.insert("calls", [call(1)])
    app = page("alerts", team="search", range="last 14 days")
    assert app.multiselect(key="team").disabled
    assert app.query_params["team"] == "search"
    assert app.query_params["range"] == "last 14 days"


def test_custom_dates_are_whole_utc_days(page: Open, store: Store) -> None:
    day = datetime(2026, 11, 18, tzinfo=UTC)
    inside, after = day + timedelta(hours=23, minutes=59), day + timedelta(days=1)
    store.insert("calls", [call(1, started_at=inside), call(2, started_at=after)])
    app = page(range="custom dates", dates=["2026-11-18", "2026-11-18"])
    assert metrics(app)["Calls in this range"] == "1"
    assert app.query_params["dates"]


@pytest.mark.parametrize("by", [*DIMENSIONS, PART])
@pytest.mark.parametrize("measure", ["usd", "tokens"])
def test_the_parts_of_a_breakdown_sum_to_the_total_to_the_last_digit(
    store: Store, by: str, measure: str
) -> None:
    odd = Decimal("0.000000000007")
    rows = [
        call(
            number,
            team=f"team {number % 11}",
            feature="" if number % 4 else "agent",
            cost_usd=SPEND + odd * number,
            cost_parts_usd={"input": odd * number, "output": SPEND},
        )
        for number in range(1, 40)
    ]
    # A price that is not broken down, as another instrumentation may send it.
    rows += [call(50, cost_parts_usd={}), unpriced(51), failed(52)]
    store.insert("calls", rows)
    filters = Filters(TimeRange(NOW - timedelta(days=1), NOW + timedelta(minutes=1)))

    found = breakdown(store, filters, by=by, measure=measure, seconds=3600, room=3)

    if by != PART or measure == "usd":
        assert found.cost_usd == overview(store, filters).cost_usd
        assert found.cost_usd == sum((row.cost_usd or Decimal(0) for row in rows), Decimal(0))
    if by != PART or measure == "tokens":
        assert found.tokens == 130 * 41
    assert len(found.totals) <= (5 if by == PART else 4)


def test_values_without_room_in_the_chart_are_one_and_nothing_is_lost(store: Store) -> None:
    store.insert(
        "calls",
        [call(number, team=f"team {number}", cost_usd=SPEND * number) for number in (1, 2, 3, 4)],
    )
    filters = Filters(TimeRange(NOW - timedelta(days=1), NOW))
    found = breakdown(store, filters, by="team", measure="usd", seconds=3600, room=2)
    assert found.order == ["team 4", "team 3", OTHER]
    assert [total.cost_usd for total in found.totals] == [SPEND * 4, SPEND * 3, SPEND * 3]


def test_tokens_of_a_call_are_split_into_kinds_that_do_not_overlap(store: Store) -> None:
    store.insert("calls", [call(1)])
    filters = Filters(TimeRange(NOW - timedelta(days=1), NOW))
    parts = {row.value: row.tokens for row in spend_by_part(store, filters, measure="tokens")}
    assert parts == {"input": 60, "input read from cache": 40, "output": 20, "reasoning": 10}


def test_spend_shows_the_total_the_parts_and_their_shares(page: Open, store: Store) -> None:
    store.insert("calls", [call(1), call(2), call(3), call(4, feature="chat"), unpriced(5)])
    app = page("spend", by="feature")
    assert r"**\$0\.0400** estimated, USD" in said(app)
    assert "+ 1 call without a price" in said(app)
    by_feature = table(app)
    assert by_feature["feature"] == ["agent", "chat"]
    assert by_feature["share"] == ["75.0 %", "25.0 %"]
    assert by_feature["USD, estimated"] == [SPEND * 3, SPEND]
    assert by_feature["calls without a price"] == [1, 0]


def test_spend_where_no_call_has_a_price_is_unknown_and_not_zero(page: Open, store: Store) -> None:
    store.insert("calls", [unpriced(1)])
    assert "**unknown** estimated" in said(page("spend"))
    assert metrics(page())["Spend in this range"] == "unknown"


def test_the_csv_of_spend_holds_what_is_seen_to_the_last_digit(
    page: Open, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.insert("calls", [call(1), call(2, team="growth", cost_usd=Decimal("0.000000000001"))])
    offered: dict[str, str] = {}

    def download(_: Any, label: str, data: str, **__: Any) -> None:
        offered[label] = data

    monkeypatch.setattr("streamlit.delta_generator.DeltaGenerator.download_button", download)
    page("spend", by="team")
    rows = list(csv.DictReader(io.StringIO(offered["Table as CSV"])))
    assert [(row["team"], row["estimated_usd"]) for row in rows] == [
        ("search", "0.010000000003"),
        ("growth", "0.000000000001"),
    ]
    assert "step,team,estimated_usd" in offered["Series as CSV"]


def test_calls_are_listed_newest_or_most_expensive_first_failed_or_unpriced_only(
    store: Store,
) -> None:
    store.insert("calls", [call(1), call(2, cost_usd=SPEND * 2), unpriced(3), failed(4)])
    filters = Filters(TimeRange(NOW - timedelta(days=1), NOW))

    def listed(**how: Any) -> list[int]:
        return [int(found.trace_id, 16) for found in calls(store, filters, **how)]

    assert listed() == [1, 2, 3, 4]
    assert listed(order="cost") == [2, 1, 3, 4]
    assert listed(only="errors") == [4]
    assert listed(only="unpriced") == [3]
    assert listed(most=1) == [1]


def test_the_list_of_calls_counts_what_it_leaves_out(page: Open, store: Store) -> None:
    store.insert("calls", [call(1), failed(2), failed(3)])
    assert "**3 of 3 calls**" in said(page("calls"))
    app = page("calls", show="failed")
    assert "**2 of 2 calls**" in said(app)
    assert set(table(app)["outcome"]) == {"failed 429 rate_limit_exceeded"}


def test_the_list_of_calls_tells_not_billed_from_unknown_and_tiny_from_nothing(
    page: Open, store: Store
) -> None:
    tiny = call(1, cost_usd=Decimal("0.0000000025"))
    store.insert("calls", [tiny, unpriced(2), failed(3)])
    assert table(page("calls"))["USD, estimated"] == ["$0.00000000250", "unknown", "not billed"]


def test_a_link_opens_a_call_with_its_attempts_and_the_other_calls_of_its_trace(
    page: Open, store: Store
) -> None:
    first = call(9, retries=1)
    second = failed(8, trace_id=first.trace_id)
    store.insert("calls", [first, second])
    store.insert(
        "http_attempts",
        [attempt(0, first, http_status=429, server_address=""), attempt(1, first)],
    )
    app = page("calls", trace=first.trace_id.hex(), span=first.span_id.hex())
    assert metrics(app)["Cost, USD, estimated"] == "$0.0100"
    tokens, cost, attempts = (table(app, place) for place in range(3))
    assert dict(zip(tokens["kind"], tokens["tokens"], strict=True)) == {
        "input": "100",
        "of it read from cache": "40",
        "of it written to cache": "unknown",
        "output": "30",
        "of it reasoning": "10",
    }
    assert cost["USD"] == ["0.004", "0.006000000003", "0.010000000003"]
    assert attempts["answer"] == ["HTTP 429", "HTTP 200"]
    assert attempts["error"] == ["HTTP 429", ""]
    assert attempts["request"] == ["POST", "POST api.openai.com"]
    assert r"gpt\-5\.5/standard/short" in said(app)
    app.button(key=f"open-{second.span_id.hex()}").click().run()
    assert app.query_params["span"] == second.span_id.hex()
    assert app.error[0].value.startswith("Failed: 429")
    assert metrics(app)["Cost, USD, estimated"] == "not billed"
    assert "Not billed" in said(app)
    assert "No price" not in said(app)


def test_a_call_at_a_negotiated_price_shows_the_list_price_beside_it(
    page: Open, store: Store
) -> None:
    listed = SPEND * 2
    store.insert("calls", [call(1, list_cost_usd=listed, price_overrides=("acme-2026",)), call(2)])
    app = page("calls", trace=call(1).trace_id.hex())
    assert dict(zip(table(app, 1)["part"], table(app, 1)["USD"], strict=True)) == {
        "input": "0.004",
        "output": "0.006000000003",
        "total": "0.010000000003",
        "at list price": "0.020000000006",
    }
    assert "estimated at negotiated price" in said(app)
    assert r"Negotiated: acme\-2026" in said(app)
    plain_call = page("calls", trace=call(2).trace_id.hex())
    assert "at list price" not in table(plain_call, 1)["part"]
    assert "Negotiated" not in said(plain_call)


@pytest.mark.parametrize(
    ("trace", "words"),
    [("nonsense' OR 1", "32 hex digits"), ("ab" * 16, "No call of trace")],
)
def test_a_link_that_leads_nowhere_says_so(page: Open, trace: str, words: str) -> None:
    assert words in said(page("calls", trace=trace))


def test_what_an_app_sends_is_not_run_as_markup(page: Open, store: Store) -> None:
    bad = replace(failed(1), request_model="![x](http://evil/a.png)", error_type="$a$")
    store.insert("calls", [bad])
    app = page("calls", trace=call(1).trace_id.hex())
    assert "![x]" not in app.subheader[0].value
    assert app.error[0].value == r"Failed: \$a\$, code rate\_limit\_exceeded"


def test_a_store_that_cannot_be_read_is_one_line_and_no_trace(
    page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COSTSPAN_CLICKHOUSE_URL", "http://user:secret@127.0.0.1:9/costspan")
    app = page()
    (error,) = app.error
    assert error.value.startswith("The store cannot be read: ")
    assert "secret" not in error.value
    assert "\n" not in error.value


def test_the_extent_of_an_empty_store_is_none(store: Store) -> None:
    assert extent(store) is None
