"""A call that two instrumentations saw is billed once, by the innermost span, whenever it comes."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from costspan_collector.record import Call
from costspan_collector.store import Store
from costspan_collector.store.rollups import refresh, verify
from costspan_dashboards.queries import trace_calls

DAY = datetime(2026, 11, 19, 22, 59, 59, 500_000, tzinfo=UTC)
AT_ONCE = timedelta(0)


def span(number: int, parent: int = 0, **changes: Any) -> Call:
    """A call of span `number`; the inner ones, which have greater numbers, lie within the outer."""
    known: dict[str, Any] = {
        "started_at": DAY + timedelta(milliseconds=100 * number),
        "duration_us": 5_000_000 - 200_000 * number,
        "trace_id": bytes(16),
        "span_id": number.to_bytes(8, "big"),
        "parent_span_id": parent.to_bytes(8, "big"),
        "scope_name": f"framework-{number}",
        "operation": "chat",
        "request_model": "gpt-5",
        "input_tokens": 10,
        "cost_usd": Decimal(number).scaleb(-12),
        "price_status": "priced",
        "received_at": DAY,
        "ingest_id": 1,
    }
    return Call(**{**known, **changes})


@dataclass(frozen=True)
class Counted:
    calls: int
    cost_usd: Decimal


CALLS = "SELECT count() AS calls, sum(c.cost_usd) AS cost_usd FROM calls AS c FINAL"
ROLLED_UP = "SELECT sum(c.calls) AS calls, sum(c.cost_usd) AS cost_usd FROM cost_hourly AS c FINAL"
BALANCE = """
SELECT toUInt64(sum(kept)) AS kept, toUInt64(sum(superseded)) AS superseded
FROM span_balance WHERE hour = '2026-11-19 22:00:00'
"""


@dataclass(frozen=True)
class Balance:
    kept: int
    superseded: int


def counted(store: Store) -> list[int]:
    """The numbers of the spans that count."""
    refresh(store, overlap=AT_ONCE)
    assert verify(store).differences == ()
    found = store.select("SELECT * FROM calls FINAL ORDER BY span_id", Call)
    assert store.select(ROLLED_UP, Counted) == store.select(CALLS, Counted)
    return [int.from_bytes(call.span_id, "big") for call in found]


def test_a_framework_span_and_the_span_of_the_same_call_count_once(store: Store) -> None:
    store.insert("calls", [span(1), span(2, 1, scope_name="costspan")])
    assert counted(store) == [2]
    assert store.select(ROLLED_UP, Counted) == [Counted(1, Decimal("2e-12"))]
    assert store.select(BALANCE, Balance) == [Balance(kept=1, superseded=1)]


def test_a_span_between_the_two_that_is_no_call_hides_nothing(store: Store) -> None:
    ours = span(3, 2, scope_name="costspan", response_id="resp_1")
    store.insert("calls", [span(1, response_id="resp_1"), ours])
    assert counted(store) == [3]


@pytest.mark.parametrize("parents", [[0, 1], [0, 9], [0, 1, 2]], ids=str)
def test_a_framework_within_our_span_leaves_one_of_them(store: Store, parents: list[int]) -> None:
    """Each lies within the other, give or take a second."""
    within = [span(n, parent, response_id="resp_1") for n, parent in enumerate(parents, 1)]
    store.insert("calls", [replace(within[0], scope_name="costspan"), *within[1:]])
    assert len(counted(store)) == 1


def test_two_frameworks_that_name_one_response_and_no_parent_both_count(store: Store) -> None:
    """Which of them holds the other, nothing says."""
    store.insert("calls", [span(n, response_id="resp_1") for n in (1, 2)])
    assert counted(store) == [1, 2]


def test_of_three_spans_of_one_call_the_innermost_counts(store: Store) -> None:
    store.insert("calls", [span(3, 2), span(1)])
    assert counted(store) == [1, 3]
    store.insert("calls", [span(2, 1)])
    assert counted(store) == [3]


def test_a_child_that_comes_hours_later_takes_the_place_of_its_parent(store: Store) -> None:
    store.insert("calls", [span(1, request_model="openai/GPT-5"), span(9)])
    assert counted(store) == [1, 9]
    late = span(2, 1, response_model="gpt-5-2026-08-07", received_at=DAY + timedelta(hours=9))
    store.insert("calls", [late])
    assert counted(store) == [2, 9]


def test_a_span_that_was_superseded_counts_no_more_when_it_is_delivered_again(store: Store) -> None:
    store.insert("calls", [span(1), span(2, 1)])
    assert counted(store) == [2]
    store.insert("calls", [span(1, ingest_id=2**62)])
    assert store.select(CALLS, Counted) == [Counted(1, Decimal("2e-12"))]
    assert counted(store) == [2]


@pytest.mark.parametrize(
    "changes",
    [
        {"parent_span_id": bytes(8)},
        {"trace_id": b"another trace id"},
        {"started_at": DAY + timedelta(seconds=20)},
        {"duration_us": 60_000_000},
        {"request_model": "gpt-5-mini"},
        {"operation": "embeddings"},
        {"operation": "responses.get"},
        {"response_id": "resp_2"},
        {"scope_name": "framework-1"},
    ],
    ids=str,
)
def test_two_calls_that_only_look_alike_both_count(store: Store, changes: dict[str, Any]) -> None:
    outer = span(1, response_id="resp_1")
    store.insert("calls", [outer, replace(span(2, 1), **changes)])
    assert counted(store) == [1, 2]


def test_a_call_within_a_call_of_our_own_is_another_call(store: Store) -> None:
    own: dict[str, Any] = {"scope_name": "costspan", "response_id": "resp_1"}
    store.insert("calls", [span(1, **own), span(2, 1, **own), span(3)])
    assert counted(store) == [1, 2, 3]


def test_an_instrumentation_that_wraps_a_call_twice_is_known_by_the_response(store: Store) -> None:
    same: dict[str, Any] = {"scope_name": "openai-v2", "response_id": "resp_1"}
    store.insert("calls", [span(1, **same), span(2, 1, **same)])
    assert counted(store) == [2]


def test_two_attempts_of_a_framework_both_count_and_the_framework_does_not(store: Store) -> None:
    failed = {"status": "error", "cost_usd": None, "price_status": "", "scope_name": "costspan"}
    store.insert("calls", [span(1), span(2, 1, **failed), span(3, 1, scope_name="costspan")])
    assert counted(store) == [2, 3]


def test_the_page_of_a_trace_shows_what_is_not_counted_without_a_cost(store: Store) -> None:
    store.insert("calls", [span(1), span(2, 1), span(2, 1, ingest_id=7)])
    refresh(store, overlap=AT_ONCE)
    outer, inner = trace_calls(store, bytes(16).hex())
    assert (outer.price_status, outer.cost_usd, outer.unpriced) == ("superseded", None, False)
    assert (inner.price_status, inner.cost_usd) == ("priced", Decimal("2e-12"))


ROLLUPS = ("cost_hourly", "latency_5m", "latency_daily", "signals_5m")
LINKS = st.lists(st.sampled_from(["same call", "another model", "too long"]), max_size=4)
"""What each span of a chain is to the one around it."""


def chain(trace: int, links: list[str]) -> tuple[list[Call], list[Call]]:
    """The spans of a chain, and those of them that count: the innermost of each call."""
    spans, counting = [span(1, trace_id=trace.to_bytes(16, "big"))], list[Call]()
    for number, link in enumerate(links, 2):
        around = spans[-1]
        changes: dict[str, Any] = {
            "trace_id": around.trace_id,
            "request_model": around.request_model,
            "duration_us": around.duration_us - 200_000,
        }
        if link == "another model":
            changes["request_model"] += "x"
        elif link == "too long":
            changes["duration_us"] += 60_000_000
        if link != "same call":
            counting.append(around)
        spans.append(span(number, number - 1, **changes))
    return spans, [*counting, spans[-1]]


@settings(
    max_examples=4,  # one is some forty statements of the engine
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(links=st.lists(LINKS, min_size=1, max_size=8), data=st.data())
def test_however_chains_are_split_repeated_and_ordered_each_call_counts_once(
    store: Store, links: list[list[str]], data: st.DataObject
) -> None:
    for table in ("calls", "rollup_hours", *ROLLUPS):
        store.command(f"TRUNCATE TABLE {table}")
    chains = [chain(trace, each) for trace, each in enumerate(links, 1)]
    spans = [span for spans, _ in chains for span in spans]
    order = data.draw(st.permutations([*range(len(spans)), *range(0, len(spans), 3)]))
    while order:
        size = data.draw(st.integers(1, len(order)))
        store.insert("calls", [spans[index] for index in order[:size]])
        order = order[size:]
        if data.draw(st.booleans()):
            refresh(store, overlap=AT_ONCE)
    refresh(store, overlap=AT_ONCE)
    found = store.select("SELECT * FROM calls FINAL ORDER BY trace_id, span_id", Call)
    expected = [span for _, counting in chains for span in counting]
    assert [(call.trace_id, call.span_id) for call in found] == [
        (call.trace_id, call.span_id) for call in expected
    ]
    assert store.select(ROLLED_UP, Counted) == store.select(CALLS, Counted)
    assert verify(store).differences == ()
