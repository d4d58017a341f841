"""The bill of a local organization against calls in the real engine.

Prices: gpt-4o-mini is 0.15 USD a million input tokens, 0.075 cached, 0.60 output.
"""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from costspan.errors import Rejected
from costspan.pricing import default_book
from costspan_collector.record import Call
from costspan_collector.store import Store
from costspan_reconcile import ledger, queries
from costspan_reconcile.chain import FetchedPage, record_sha256
from costspan_reconcile.fetch import Fetched, fetch
from costspan_reconcile.price_truth import price_truth
from costspan_reconcile.reconcile import reconcile_days
from costspan_reconcile.schedule import fetch_now, reconcile_now
from costspan_reconcile.settings import Reconcile

TODAY = date(2026, 11, 20)
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
DAY = date(2026, 11, 18)
MILLION = 1_000_000
MINI = "gpt-4o-mini-2024-07-18"
MINI_INPUT = f"{MINI}, input"
EXACT = Context(prec=100)

AddCall = Callable[..., None]


@pytest.fixture
def settings(provider: Any) -> Reconcile:
    return Reconcile(
        admin_key=SecretStr(provider.ADMIN_KEY), base_url=provider.url, lookback_days=7
    )


@pytest.fixture
def add_call(store: Store) -> AddCall:
    """Insert calls, priced as given: parts in dollars by meter."""
    made = 0

    def add(day: date = DAY, *, parts: dict[str, str] | None = None, **columns: Any) -> None:
        nonlocal made
        made += 1
        money = {meter: Decimal(usd) for meter, usd in (parts or {}).items()}
        started_at = datetime(day.year, day.month, day.day, 9, tzinfo=UTC)
        values: dict[str, Any] = {
            "started_at": started_at,
            "trace_id": made.to_bytes(16),
            "span_id": made.to_bytes(8),
            "provider": "openai",
            "project": "proj_a",
            "key_hint": "aaaa",
            "response_model": "gpt-4o-mini-2024-07-18",
            "cost_usd": sum(money.values(), Decimal(0)) if parts is not None else None,
            "cost_parts_usd": money,
            "received_at": started_at,
            "ingest_id": made,
        }
        store.insert("calls", [Call(**{**values, **columns})])

    return add


def compare(store: Store, settings: Reconcile, now: datetime) -> Fetched:
    """Read the bill and hold it against the spans: most tests do not ask whose the dollars are."""
    until = now.date() + timedelta(days=1)
    since = until - timedelta(days=settings.lookback_days)
    fetched = fetch(store, settings, since, until, now)
    reconcile_days(store, since, until, now)
    return fetched


def lines(store: Store) -> dict[tuple[str, str], queries.LineRow]:
    found = queries.recon_lines(store, date(2026, 1, 1), date(2027, 1, 1))
    return {(row.api_key_id, row.line_item): row for row in found}


def classes(store: Store) -> dict[str, Decimal]:
    found: dict[str, Decimal] = {}
    for row in queries.recon_classes(store, date(2026, 1, 1), date(2027, 1, 1)):
        found[row.cause] = EXACT.add(found.get(row.cause, Decimal(0)), row.amount_usd)
    return found


@pytest.mark.parametrize(("refused", "counted"), [("", 0), ("usage/embeddings", None)])
def test_what_is_in_no_count_was_not_used_only_where_everything_was_counted(
    store: Store,
    provider: Any,
    settings: Reconcile,
    add_call: AddCall,
    refused: str,
    counted: int | None,
) -> None:
    provider.keys = {"proj_a": [("key_1", "checkout", "aaaa")]}
    provider.charge(DAY, MINI_INPUT, "1", api_key_id="key_1", quantity=1)
    add_call(parts={"input": "0.02"}, response_model="text-embedding-3-small", input_tokens=MILLION)
    if refused:
        provider.fail(403, only=refused)
    compare(store, settings, NOW)
    assert lines(store)["key_1", "text-embedding-3-small, input"].usage_quantity == counted


def test_a_day_that_agrees_is_matched_to_the_last_digit(
    store: Store, provider: Any, settings: Reconcile, add_call: AddCall
) -> None:
    provider.keys = {"proj_a": [("key_1", "checkout", "aaaa")]}
    mini = "gpt-4o-mini-2024-07-18"
    # 600,000 fresh input = 0.09, 400,000 cached = 0.03, 100,000 output = 0.06
    for item, amount, quantity in (
        (f"{mini}, input", "0.09000000000000000000000000000000000", 600_000),
        (f"{mini}, cached input", "0.03", 400_000),
        (f"{mini}, output", "0.060", 100_000),
    ):
        provider.charge(
            DAY, item, amount, api_key_id="key_1", quantity=quantity, quantity_unit="tokens"
        )
    provider.count(
        DAY,
        mini,
        api_key_id="key_1",
        input_tokens=MILLION,
        input_cached_tokens=400_000,
        output_tokens=100_000,
        num_model_requests=1,
    )
    add_call(
        parts={"input": "0.09", "cached_input": "0.03", "output": "0.06"},
        input_tokens=MILLION,
        cached_tokens=400_000,
        output_tokens=100_000,
    )

    summary = reconcile_now(store, settings, NOW)

    assert summary.fetched.failure is None
    assert summary.fetched.notes == ()
    rows = lines(store)
    assert {row.match_level for row in rows.values()} == {"M1"}
    assert {row.cause for row in rows.values()} == {"MATCHED"}
    assert {row.verdict for row in rows.values()} == {"MATCHED"}
    assert classes(store) == {}
    day = next(row for row in queries.recon_days(store, DAY, TODAY) if row.day == DAY)
    assert (day.day_state, day.verdict) == ("PROVISIONAL", "MATCHED")
    assert day.billed_usd == day.estimated_usd == day.captured_usd == Decimal("0.18")
    assert day.read_at == NOW


def test_a_key_that_no_span_carries_is_named_with_its_dollars(
    store: Store, provider: Any, settings: Reconcile, add_call: AddCall
) -> None:
    provider.keys = {"proj_a": [("key_1", "checkout", "aaaa"), ("key_2", "nightly batch", "bbbb")]}
    item = "gpt-4o-mini-2024-07-18, input"
    provider.charge(DAY, item, "0.15", api_key_id="key_1", quantity=MILLION)
    provider.charge(DAY, item, "1.2300000000000000000000000000000001", api_key_id="key_2")
    add_call(parts={"input": "0.15"}, input_tokens=MILLION)

    compare(store, settings, NOW)

    (key,) = queries.uninstrumented_keys(store, DAY, TODAY)
    assert (key.api_key_id, key.key_name) == ("key_2", "nightly batch")
    assert key.amount_usd == Decimal("1.2300000000000000000000000000000001")
    row = lines(store)["key_2", item]
    assert row.verdict == "EXPLAINED"
    assert row.explanation.startswith('$1.23 went to key "nightly batch" (key_2), which no span')


def test_a_key_that_spans_carry_within_the_week_is_not_called_uninstrumented(
    store: Store, provider: Any, settings: Reconcile, add_call: AddCall
) -> None:
    provider.keys = {"proj_a": [("key_1", "checkout", "aaaa")]}
    provider.charge(
        DAY, "gpt-4o-mini-2024-07-18, input", "0.15", api_key_id="key_1", quantity=MILLION
    )
    add_call(DAY - timedelta(days=7), parts={"input": "0.1"}, input_tokens=1)

    compare(store, settings, NOW)

    assert classes(store) == {"RETRIES_OR_MISSING_SPANS": Decimal("0.15")}


def test_the_three_parts_of_a_difference_are_told_apart_exactly(
    store: Store, provider: Any, settings: Reconcile, add_call: AddCall
) -> None:
    """B 0.50, Qb 1.1 M, U 1.0 M, Qe 0.9 M at 0.15: coverage 0.015, metering 0.015, rate 0.335."""
    provider.keys = {"proj_a": [("key_1", "checkout", "aaaa")]}
    item = "gpt-4o-mini-2024-07-18, input"
    provider.charge(
        DAY, item, "0.50", api_key_id="key_1", quantity="1100000.0", quantity_unit="tokens"
    )
    provider.count(
        DAY,
        "gpt-4o-mini-2024-07-18",
        api_key_id="key_1",
        input_tokens=MILLION,
        num_model_requests=2,
    )
    add_call(parts={"input": "0.135"}, input_tokens=900_000)

    compare(store, settings, NOW)

    row = lines(store)["key_1", item]
    assert (row.coverage_usd, row.metering_usd, row.rate_usd, row.unsplit_usd) == (
        Decimal("0.015"),
        Decimal("0.015"),
        Decimal("0.335"),
        None,
    )
    assert row.unit_price_usd == Decimal("0.00000015")
    assert classes(store) == {
        "RETRIES_OR_MISSING_SPANS": Decimal("0.015"),
        "LAG": Decimal("0.015"),
        "RATE_UNKNOWN": Decimal("0.335"),
    }
    assert row.verdict == "REVIEW"


def test_services_surfaces_and_strange_lines_keep_their_dollars_in_their_own_class(
    store: Store, provider: Any, settings: Reconcile, add_call: AddCall
) -> None:
    provider.keys = {"proj_a": [("key_1", "checkout", "aaaa")]}
    provider.charge(DAY, "Vector storage", "0.00032195744715549047", api_key_id=None)
    provider.charge(DAY, "web search tool calls", "0.05", api_key_id="key_1")
    provider.charge(DAY, "evals | gpt-4o-mini-2024-07-18, input", "0.028607", quantity=190_713)
    provider.charge(DAY, "Text tokens", "12.50")
    add_call(parts={"web_search": "0.04"})

    compare(store, settings, NOW)

    assert classes(store) == {
        "STORAGE": Decimal("0.00032195744715549047"),
        "TOOL_FEE": Decimal("0.01"),  # 0.05 - 0.04
        "PLATFORM_SURFACE": Decimal("0.028607"),
        "UNCLASSIFIED": Decimal("12.5"),
    }
    assert lines(store)["key_1", "web search tool calls"].match_level == "M5"


def test_calls_without_a_price_are_a_class_and_not_a_zero(
    store: Store, provider: Any, settings: Reconcile, add_call: AddCall
) -> None:
    provider.keys = {"proj_a": [("key_1", "checkout", "aaaa")]}
    item = "gpt-9-preview, input"
    provider.charge(DAY, item, "0.7", api_key_id="key_1", quantity=100)
    add_call(response_model="gpt-9-preview", input_tokens=100, price_status="unknown_model")

    compare(store, settings, NOW)

    row = lines(store)["key_1", item]
    assert (row.estimated_usd, row.unit_price_usd, row.unpriced_calls) == (None, None, 1)
    assert classes(store) == {"UNPRICED_CALLS": Decimal("0.7")}
    (day,) = [row for row in queries.recon_days(store, DAY, TODAY) if row.day == DAY]
    assert day.unpriced_calls == 1


def test_the_open_day_gets_no_verdict(
    store: Store, provider: Any, settings: Reconcile, add_call: AddCall
) -> None:
    provider.keys = {"proj_a": [("key_1", "checkout", "aaaa")]}
    provider.charge(TODAY, "gpt-4o-mini-2024-07-18, input", "9", api_key_id="key_1", quantity=1)
    add_call(TODAY, parts={"input": "0.15"}, input_tokens=MILLION)

    compare(store, settings, NOW)

    assert {row.verdict for row in lines(store).values()} == {"OPEN"}
    assert classes(store) == {"OPEN": Decimal("8.85")}


def test_a_closed_day_that_is_not_billed_yet_is_awaited_and_never_called_free(
    store: Store, provider: Any, settings: Reconcile, add_call: AddCall
) -> None:
    provider.keys = {"proj_a": [("key_1", "checkout", "aaaa")]}
    add_call(TODAY - timedelta(days=1), parts={"input": "0.15"}, input_tokens=MILLION)

    compare(store, settings, NOW)

    assert classes(store) == {"AWAITING_PROVIDER": Decimal("-0.15")}
    day = queries.recon_days(store, TODAY - timedelta(days=1), TODAY)[0]
    assert day.verdict == "AWAITING"


def test_a_call_belongs_to_the_day_in_which_its_answer_ended(
    store: Store, provider: Any, settings: Reconcile, add_call: AddCall
) -> None:
    provider.keys = {"proj_a": [("key_1", "checkout", "aaaa")]}
    item = "gpt-4o-mini-2024-07-18, input"
    provider.charge(DAY, item, "0.15", api_key_id="key_1", quantity=MILLION)
    midnight = datetime(DAY.year, DAY.month, DAY.day, tzinfo=UTC)
    add_call(
        parts={"input": "0.15"},
        input_tokens=MILLION,
        started_at=midnight - timedelta(seconds=1),
        duration_us=1_000_000,
    )

    compare(store, settings, NOW)

    assert classes(store) == {}


def test_models_named_differently_meet_by_family_unless_that_is_a_guess(
    store: Store, provider: Any, settings: Reconcile, add_call: AddCall
) -> None:
    provider.keys = {"proj_a": [("key_1", "checkout", "aaaa")]}
    provider.charge(DAY, "gpt-4.1-mini, input", "0.4", api_key_id="key_1", quantity=MILLION)
    add_call(parts={"input": "0.4"}, input_tokens=MILLION, response_model="gpt-4.1-mini-2025-04-14")
    provider.charge(DAY, "gpt-4o, input", "2.5", api_key_id="key_1", quantity=MILLION)
    for model, usd in (("gpt-4o-2024-05-13", "5"), ("gpt-4o-2024-08-06", "2.5")):
        add_call(parts={"input": usd}, input_tokens=MILLION, response_model=model)

    compare(store, settings, NOW)

    levels = {item: row.match_level for (_, item), row in lines(store).items()}
    assert levels == {
        "gpt-4.1-mini, input": "M2",
        "gpt-4o, input": "M6",
        "gpt-4o-2024-05-13, input": "M6",
        "gpt-4o-2024-08-06, input": "M6",
    }


def test_where_the_bill_has_no_keys_the_project_is_compared_and_it_is_said(
    store: Store, provider: Any, settings: Reconcile, add_call: AddCall
) -> None:
    provider.splits_by_key = False
    provider.keys = {"proj_a": [("key_1", "checkout", "aaaa"), ("key_2", "search", "bbbb")]}
    provider.charge(DAY, "gpt-4o-mini-2024-07-18, input", "0.30", quantity=2 * MILLION)
    for key in ("key_1", "key_2"):
        provider.count(DAY, "gpt-4o-mini-2024-07-18", api_key_id=key, input_tokens=MILLION)
    for hint in ("aaaa", "bbbb"):
        add_call(parts={"input": "0.15"}, input_tokens=MILLION, key_hint=hint)

    fetched = compare(store, settings, NOW)

    assert fetched.notes == ("the bill is not split by key: this organization's Costs refuse it",)
    assert classes(store) == {}
    row = lines(store)["", "gpt-4o-mini-2024-07-18, input"]
    assert (row.match_level, row.usage_quantity) == ("M3", 2 * MILLION)


def test_a_bill_that_stops_naming_keys_meets_the_same_spans(
    store: Store, provider: Any, settings: Reconcile, add_call: AddCall
) -> None:
    provider.keys = {"proj_a": [("key_1", "checkout", "aaaa")]}
    provider.charge(DAY, MINI_INPUT, "0.15", api_key_id="key_1", quantity=MILLION)
    provider.count(DAY, MINI, api_key_id="key_1", input_tokens=MILLION)
    add_call(parts={"input": "0.15"}, input_tokens=MILLION)
    compare(store, settings, NOW)
    provider.splits_by_key = False
    del provider.bill[DAY][0]["api_key_id"]

    compare(store, settings, NOW + timedelta(hours=1))

    assert classes(store) == {}
    assert {key: row.match_level for key, row in lines(store).items()} == {("", MINI_INPUT): "M3"}


def test_a_unit_that_is_named_later_takes_no_quantity_away(
    store: Store, provider: Any, settings: Reconcile
) -> None:
    provider.charge(DAY, MINI_INPUT, "0.15", api_key_id="key_1", quantity=1000)
    compare(store, settings, NOW)
    provider.bill[DAY][0]["quantity_unit"] = "1000_tokens"

    compare(store, settings, NOW + timedelta(hours=1))

    (row,) = lines(store).values()
    assert (row.billed_quantity, row.quantity_unit) == (MILLION, "tokens")


def test_a_count_that_cannot_be_read_again_still_stands_while_the_bill_does(
    store: Store, provider: Any, settings: Reconcile
) -> None:
    provider.charge(DAY, MINI_INPUT, "0.15", api_key_id="key_1", quantity=MILLION)
    provider.count(DAY, MINI, api_key_id="key_1", input_tokens=2 * MILLION)
    compare(store, settings, NOW)
    provider.fail(403, only="/usage/completions")

    compare(store, settings, NOW + timedelta(hours=1))
    (row,) = lines(store).values()
    assert row.usage_quantity == 2 * MILLION

    provider.bill[DAY][0]["amount"] = "0.30"  # what is billed now, it may not have counted
    compare(store, settings, NOW + timedelta(hours=2))
    (row,) = lines(store).values()
    assert row.usage_quantity is None


def test_a_hint_that_two_keys_share_stays_unknown_and_accuses_no_key(
    store: Store, provider: Any, settings: Reconcile, add_call: AddCall
) -> None:
    provider.keys = {"proj_a": [("key_1", "checkout", "aaaa"), ("key_2", "search", "aaaa")]}
    provider.charge(
        DAY, "gpt-4o-mini-2024-07-18, input", "0.45", api_key_id="key_1", quantity=3 * MILLION
    )
    provider.charge(
        DAY, "gpt-4o-mini-2024-07-18, output", "0.6", api_key_id="key_2", quantity=MILLION
    )
    add_call(parts={"input": "0.15"}, input_tokens=MILLION)

    compare(store, settings, NOW)

    rows = lines(store)
    assert rows["key_1", "gpt-4o-mini-2024-07-18, input"].match_level == "M3"
    assert "aaaa" in rows["key_2", "gpt-4o-mini-2024-07-18, output"].explanation
    assert classes(store) == {"RETRIES_OR_MISSING_SPANS": Decimal("0.9")}  # 0.30 and 0.60


def test_equal_bytes_make_no_revision_and_no_new_result(
    store: Store, provider: Any, settings: Reconcile, add_call: AddCall
) -> None:
    provider.charge(DAY, "gpt-4o-mini-2024-07-18, input", "0.15", quantity=MILLION)
    add_call(parts={"input": "0.15"}, input_tokens=MILLION)
    first = reconcile_now(store, settings, NOW)
    again = reconcile_now(store, settings, NOW + timedelta(minutes=1))

    assert (first.fetched.kept.days_changed, again.fetched.kept.days_changed) == (7, 0)
    assert (first.reconciled.changed, again.reconciled.changed) == (7, 0)
    assert {line.revision for line in ledger.billed_lines(store, DAY, TODAY)} == {1}


def test_a_changed_day_is_a_new_revision_and_what_vanished_is_an_explicit_zero(
    store: Store, provider: Any, settings: Reconcile
) -> None:
    provider.charge(DAY, "gpt-4o, input", "12.5", quantity=1_500_000)
    provider.charge(DAY, "Promotional credit", "-3.25", project_id=None)
    compare(store, settings, NOW)
    provider.bill[DAY] = [{**provider.bill[DAY][0], "amount": "10.0"}]
    fetched = compare(store, settings, NOW + timedelta(hours=1))

    assert fetched.kept.days_changed == 1
    now = {line.line_item: line for line in ledger.billed_lines(store, DAY, TODAY)}
    assert now["gpt-4o, input"].amount == "10.0"
    assert now["gpt-4o, input"].revision == 2
    gone = now["Promotional credit"]
    assert (gone.amount, gone.amount_usd, gone.vanished) == ("0", 0, True)
    day = next(row for row in queries.recon_days(store, DAY, TODAY) if row.day == DAY)
    assert day.billed_usd == 10


def test_a_day_is_final_when_it_has_stopped_changing(
    store: Store, provider: Any, settings: Reconcile
) -> None:
    provider.charge(DAY, "gpt-4o, input", "12.5", quantity=1_500_000)
    states: list[str] = []
    # The day ended on the 19th at 00:00: 72 hours later is the 22nd.
    for now in (NOW, NOW + timedelta(days=1, hours=23), NOW + timedelta(days=2, hours=23)):
        compare(store, settings, now)
        states += [row.day_state for row in queries.recon_days(store, DAY, TODAY) if row.day == DAY]
    assert states == ["PROVISIONAL", "FINAL", "FINAL"]
    provider.bill[DAY][0]["amount"] = "12.4"
    compare(store, settings, NOW + timedelta(days=3))
    assert [r.day_state for r in queries.recon_days(store, DAY, TODAY) if r.day == DAY] == [
        "RESTATED"
    ]


def test_the_days_of_a_locked_month_are_left_as_they_are(
    store: Store, provider: Any, settings: Reconcile, add_call: AddCall
) -> None:
    provider.charge(DAY, "gpt-4o-mini-2024-07-18, input", "0.15", quantity=MILLION)
    add_call(parts={"input": "0.15"}, input_tokens=MILLION)
    compare(store, settings, NOW)
    before = lines(store)
    store.command(
        "INSERT INTO periods (month, state, at, days) SELECT {month:Date}, 'LOCKED', now(), "
        "groupArray((day, run_id, assumeNotNull(costs_fetch_id), '', run_id)) FROM recon_runs",
        month=DAY.replace(day=1),
    )
    provider.bill[DAY][0]["amount"] = "0.14"
    add_call(parts={"input": "0.15"}, input_tokens=MILLION)

    summary = reconcile_days(store, DAY, TODAY, NOW + timedelta(hours=1))

    assert summary.changed == 0
    assert lines(store) == before


def test_a_day_whose_calls_were_dropped_is_not_compared(
    store: Store, provider: Any, settings: Reconcile, add_call: AddCall
) -> None:
    compared, late = DAY, DAY - timedelta(days=1)
    for day in (compared, late):
        provider.charge(day, "gpt-4o-mini-2024-07-18, input", "0.15", quantity=MILLION)
    add_call(parts={"input": "0.15"}, input_tokens=MILLION)
    fetch_now(store, settings, NOW, days=7)
    reconcile_days(store, compared, TODAY, NOW)
    before = lines(store)
    for day in (compared, late):
        store.command("INSERT INTO dropped_days VALUES ({day:Date}, now())", day=day)
    store.command("TRUNCATE TABLE calls")

    reconcile_days(store, late, TODAY, NOW + timedelta(hours=1))

    assert lines(store) == before, "what was compared before stays"
    days = {row.day: row for row in queries.recon_days(store, late, TODAY)}
    assert (days[compared].verdict, days[late].verdict) == ("MATCHED", "BLOCKED")
    assert "dropped by retention" in days[late].reason


def test_calls_at_midnight_cancel_out_over_two_days(
    store: Store, provider: Any, settings: Reconcile, add_call: AddCall
) -> None:
    """The provider counts them when they begin, here they count when they end."""
    item, before = "gpt-4o-mini-2024-07-18, input", DAY - timedelta(days=1)
    provider.keys = {"proj_a": [("key_1", "checkout", "aaaa")]}
    for day, usd in ((before, "0.45"), (DAY, "0.15")):
        provider.charge(day, item, usd, api_key_id="key_1", quantity=int(Decimal(usd) / 15 * 10**8))
        add_call(day, parts={"input": "0.15"}, input_tokens=MILLION)
    midnight = datetime(DAY.year, DAY.month, DAY.day, tzinfo=UTC)
    add_call(
        parts={"input": "0.30"},
        input_tokens=2 * MILLION,
        started_at=midnight - timedelta(seconds=5),
        duration_us=9_000_000,
    )

    # One day at a time gives the same as both at once.
    fetch_now(store, settings, NOW, days=7)
    reconcile_days(store, DAY, TODAY, NOW)
    reconcile_days(store, before, DAY, NOW)

    found = {row.day: row for row in queries.recon_classes(store, before, TODAY) if row.amount_usd}
    assert {day: (row.cause, row.amount_usd) for day, row in found.items()} == {
        before: ("CUTOFF", Decimal("0.3")),
        DAY: ("CUTOFF", Decimal("-0.3")),
    }
    assert reconcile_days(store, before, TODAY, NOW).changed == 0


def test_the_bill_shows_a_changed_price_a_discount_and_free_tokens(
    store: Store, provider: Any, settings: Reconcile
) -> None:
    """gpt-4o-mini is 0.15 USD a million, then 0.12 from the 16th; four others are at 88 percent."""
    changed = date(2026, 11, 16)
    for day in (TODAY - timedelta(days=back) for back in range(1, 7)):
        usd = "0.15" if day < changed else "0.12"
        provider.charge(day, "gpt-4o-mini-2024-07-18, input", usd, quantity=MILLION)
        for model, listed in (("gpt-4o", "2.5"), ("gpt-5.4", "2.5"), ("gpt-5-mini", "0.25")):
            paid = str(Decimal(listed) * Decimal("0.88"))
            provider.charge(day, f"{model}, input", paid, quantity=MILLION)
        provider.charge(day, "flex | gpt-5-mini, output", "1", quantity=MILLION)
    provider.charge(DAY, "o1, output", "0E-6176", quantity=250_000)
    provider.charge(DAY, "Vector storage", "1")
    fetch_now(store, settings, NOW, days=8)

    truth = price_truth(store, date(2026, 11, 1), TODAY, default_book())

    (discount,) = truth.discounts
    assert (discount.models, discount.off) == (("gpt-4o", "gpt-5-mini", "gpt-5.4"), "12 %")
    (change,) = truth.changes
    assert (change.line_item, change.since) == ("gpt-4o-mini-2024-07-18, input", changed)
    assert (change.before_usd, change.after_usd) == (Fraction("0.15e-6"), Fraction("0.12e-6"))
    (free,) = truth.free
    assert (free.day, free.pool, free.tokens, free.is_whole_pool) == (DAY, "large", 250_000, True)
    flex = [one for one in truth.prices if one.line_item.startswith("flex")]
    assert {one.ratio for one in flex} == {1}


def test_every_page_is_in_a_chain_that_shows_a_change(
    store: Store, provider: Any, settings: Reconcile
) -> None:
    provider.charge(DAY, "gpt-4o, input", "0E-6176", quantity="26099.0")
    for minute in range(2):
        compare(store, settings, NOW + timedelta(minutes=minute))

    pages = store.select("SELECT * FROM billing_fetches ORDER BY sequence", FetchedPage)
    assert [page.sequence for page in pages] == list(range(1, len(pages) + 1))
    assert len(pages) > 2 * 12  # costs twice and eleven usages, each time
    assert '"value": "0E-6176"' in pages[0].body
    previous = ""
    for page in pages:
        assert page.previous_sha256 == previous
        assert page.record_sha256 == record_sha256(page)
        previous = page.record_sha256


def test_long_amounts_reach_the_store_to_the_last_digit(
    store: Store, provider: Any, settings: Reconcile, data: Path
) -> None:
    live = json.loads((data / "billing" / "live_strings.json").read_text())["amounts_as_sent"]
    texts = [entry["text"] for entry in live]
    texts += ["0.1234567890123456789012345678901234", "-123456789.1234567890123456789012345"]
    for number, text in enumerate(texts):
        provider.charge(DAY, f"line {number}", text)

    compare(store, settings, NOW)

    kept = {line.line_item: line for line in ledger.billed_lines(store, DAY, TODAY)}
    for number, text in enumerate(texts):
        line = kept[f"line {number}"]
        assert line.amount == text
        assert line.amount_usd == (Decimal(text) if Decimal(text) else 0)
    day = next(row for row in queries.recon_days(store, DAY, TODAY) if row.day == DAY)
    exact = Decimal(0)
    for text in texts:
        exact = EXACT.add(exact, Decimal(text) if Decimal(text) else Decimal(0))
    assert day.billed_usd == exact


def test_a_real_organizations_31_days_keep_their_exact_sum(
    store: Store, provider: Any, data: Path
) -> None:
    """Ungrouped days as JSON numbers, as sent in 2025; the sum is stated by the source."""
    real = json.loads((data / "billing" / "organization_31_days.json").read_text())
    for entry in real["days"]:
        provider.charge(date.fromisoformat(entry["day"]), "", f"#{entry['amount_value']}#")
    reply = provider.reply

    def with_numbers(path: str, query: Any) -> tuple[int, str]:
        status, body = reply(path, query)
        return status, body.replace('"#', "").replace('#"', "")

    provider.reply = with_numbers
    settings = Reconcile(
        admin_key=SecretStr(provider.ADMIN_KEY), base_url=provider.url, lookback_days=35
    )

    compare(store, settings, datetime(2025, 2, 11, 6, tzinfo=UTC))

    since, until = date(2025, 1, 8), date(2025, 2, 12)
    total = Decimal(0)
    for row in queries.recon_days(store, since, until):
        total = EXACT.add(total, row.billed_usd or Decimal(0))
    assert total == Decimal(real["exact_sum"])
    assert sum(path.endswith("costs") for path, _ in provider.requests) == 4  # 35 days, 31 a page


def test_the_real_fine_tuned_lines_match_the_tokens_of_their_day(
    store: Store, provider: Any, data: Path, add_call: AddCall
) -> None:
    """33,984 x 3.75 USD a million = 0.127440 and 206 x 15 = 0.003090: exact on both sides."""
    real = json.loads((data / "billing" / "organization_31_days.json").read_text())
    for row in real["grouped_costs"]:
        day = date.fromisoformat(row["day"])
        provider.charge(day, row["line_item"], row["amount"], project_id=row["project"])
    for row in real["grouped_usage_from_17_31_39"]:
        measures = {name: row[name] for name in ("input_tokens", "output_tokens")}
        day = date.fromisoformat(row["day"])
        provider.count(day, row["model"], project_id=row["project"], **measures)
        input_usd, output_usd = LIST_2025[row["model"].partition(":distillation")[0]]
        add_call(
            day,
            project="P1",
            response_model=row["model"],
            input_tokens=row["input_tokens"],
            output_tokens=row["output_tokens"],
            parts={
                "input": str(row["input_tokens"] * Decimal(input_usd) / MILLION),
                "output": str(row["output_tokens"] * Decimal(output_usd) / MILLION),
            },
        )
    for entry in real["days"]:  # the other days are published as one amount each
        if entry["day"] not in {"2025-01-11", "2025-01-12"}:
            day = date.fromisoformat(entry["day"])
            provider.charge(day, "", entry["amount_value"], project_id=None)
    settings = Reconcile(
        admin_key=SecretStr(provider.ADMIN_KEY), base_url=provider.url, lookback_days=36
    )

    compare(store, settings, datetime(2025, 2, 14, 6, tzinfo=UTC))

    rows = queries.recon_lines(store, date(2025, 1, 1), date(2025, 2, 12))
    exact = {row.line_item: row.billed_usd - (row.estimated_usd or 0) for row in rows}
    assert {name: exact[name] for name in exact if name.startswith("ft-")} == {
        "ft-gpt-4o-2024-08-06, input": 0,
        "ft-gpt-4o-2024-08-06, output": 0,
    }
    assert {(row.line_item, row.verdict, row.cause) for row in rows if row.line_item} == {
        ("ft-gpt-4o-2024-08-06, input", "MATCHED", "MATCHED"),
        ("ft-gpt-4o-2024-08-06, output", "MATCHED", "MATCHED"),
        *(
            (f"{model}, {kind}", "EXPLAINED", "FREE_TOKENS")  # 107,217 tokens without a line
            for model in ("gpt-4o-2024-08-06", "gpt-4o-mini-2024-07-18", "o1-mini-2024-09-12")
            for kind in ("input", "output")
        ),
        ("assistants api | file search", "EXPLAINED", "STORAGE"),
        ("evals | gpt-4o-mini-2024-07-18, input", "EXPLAINED", "PLATFORM_SURFACE"),
    }
    left_open = [row for row in rows if not row.line_item]
    assert len(left_open) == 29
    assert {(row.verdict, row.cause) for row in left_open} == {("REVIEW", "UNCLASSIFIED")}
    storage = {row.day: row.verdict for row in queries.recon_days(store, date(2025, 1, 1), TODAY)}
    assert storage[date(2025, 1, 23)] == "REVIEW"  # 104.89 USD beside 9,022 tokens


LIST_2025 = {
    "ft:gpt-4o-2024-08-06": ("3.75", "15"),
    "gpt-4o-mini-2024-07-18": ("0.15", "0.60"),
    "o1-mini-2024-09-12": ("1.10", "4.40"),
    "gpt-4o-2024-08-06": ("2.50", "10"),
}
"""USD a million tokens, input and output."""


def test_the_exact_days_of_a_real_dashboard_export_match_at_list_price(
    store: Store, provider: Any, data: Path, add_call: AddCall
) -> None:
    """Three days whose tokens at list price (0.25 and 2.00 USD a million) are the day to the last
    digit. The export has no line items: the split by kind is ours, the day total is real."""
    real = json.loads((data / "billing" / "dashboard_export_2025_10.json").read_text())
    exact = [entry for entry in real["days"] if entry["expected"] == "exact"]
    provider.keys = {"proj_a": [("key_1", "own", "aaaa")]}
    for entry in exact:
        day = date.fromisoformat(entry["day"])
        (used,) = entry["usage"]
        fresh = Decimal(used["input"]) * Decimal("0.25") / MILLION
        written = Decimal(used["output"]) * 2 / MILLION
        for kind, usd, quantity in (
            ("input", fresh, used["input"]),
            ("output", Decimal(entry["amount_value"]) - fresh, used["output"]),
        ):
            provider.charge(
                day, f"{used['model']}, {kind}", str(usd), api_key_id="key_1", quantity=quantity
            )
        add_call(
            day,
            response_model=used["model"],
            input_tokens=used["input"],
            output_tokens=used["output"],
            parts={"input": str(fresh), "output": str(written)},
        )
    settings = Reconcile(
        admin_key=SecretStr(provider.ADMIN_KEY), base_url=provider.url, lookback_days=10
    )

    compare(store, settings, datetime(2025, 10, 13, tzinfo=UTC))

    days = {
        row.day.isoformat(): (row.verdict, row.billed_usd, row.estimated_usd)
        for row in queries.recon_days(store, date(2025, 10, 1), date(2025, 11, 1))
        if row.billed_usd
    }
    assert days == {
        entry["day"]: ("MATCHED", Decimal(entry["amount_value"]), Decimal(entry["amount_value"]))
        for entry in exact
    }
    assert classes(store) == {}


def test_money_without_token_counts_is_still_in_the_estimate(
    store: Store, provider: Any, settings: Reconcile, add_call: AddCall
) -> None:
    provider.keys = {"proj_a": [("key_1", "checkout", "aaaa")]}
    provider.charge(DAY, "gpt-4o-mini-2024-07-18, input", "0.03", api_key_id="key_1", quantity=1)
    add_call(parts={"input": "0.01"})  # another instrumentation, that keeps no tokens
    add_call(parts={"input": "0.02"}, input_tokens=133_333)
    compare(store, settings, NOW)
    estimated = [row.estimated_usd or Decimal(0) for row in lines(store).values()]
    assert sum(estimated) == Decimal("0.03")


@pytest.mark.parametrize("key", ["sk-admin-ü", "sk-admin-a\nb", "sk admin"])
def test_a_key_that_no_header_can_carry_is_refused_before_anything_is_sent(key: str) -> None:
    with pytest.raises(Rejected, match="characters that no key has"):
        Reconcile(admin_key=SecretStr(key)).key()
