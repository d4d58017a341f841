"""Who gets the billed dollars, from a bill of a local organization and calls in the real engine."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr

from costspan.errors import Rejected
from costspan_collector.record import Call
from costspan_collector.store import Store
from costspan_collector.store.retention import Keep, let_go, outdated
from costspan_reconcile.allocate.policy import NO_RULES, Policy, read_policy
from costspan_reconcile.allocate.runs import allocate_days
from costspan_reconcile.fetch import fetch
from costspan_reconcile.reconcile import reconcile_days
from costspan_reconcile.schedule import reconcile_now
from costspan_reconcile.settings import Reconcile

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
DAY = date(2026, 11, 18)
NEXT = DAY + timedelta(days=1)
MINI = "gpt-4o-mini-2024-07-18"
EXACT = Context(prec=100)


@pytest.fixture
def settings(provider: Any) -> Reconcile:
    provider.keys = {"proj_a": [("key_1", "checkout", "aaaa"), ("key_2", "nightly batch", "bbbb")]}
    return Reconcile(
        admin_key=SecretStr(provider.ADMIN_KEY), base_url=provider.url, lookback_days=3
    )


@pytest.fixture
def call(store: Store) -> Callable[..., str]:
    """Insert a call with quantities by meter; return its trace id."""
    made = 0

    def add(team: str = "", day: date = DAY, /, *, used: dict[str, Any], **columns: Any) -> str:
        nonlocal made
        made += 1
        started_at = datetime(day.year, day.month, day.day, 9, tzinfo=UTC)
        tokens = {meter: int(Decimal(count)) for meter, count in used.items()}
        cached = tokens.get("cached_input", 0)
        values: dict[str, Any] = {
            "started_at": started_at,
            "trace_id": made.to_bytes(16),
            "span_id": made.to_bytes(8),
            "project": "proj_a",
            "key_hint": "aaaa",
            "team": team,
            "response_model": MINI,
            "input_tokens": tokens.get("input", 0) + cached,
            "cached_tokens": cached,
            "output_tokens": tokens.get("output", 0),
            "quantities": {meter: Decimal(count) for meter, count in used.items()},
            "cost_usd": Decimal("0.5"),
            "cost_parts_usd": dict.fromkeys(used, Decimal("0.5") / len(used)),
            "price_status": "priced",
            "received_at": started_at,
            "ingest_id": made,
        }
        store.insert("calls", [Call(**{**values, **columns})])
        return made.to_bytes(16).hex()

    return add


@dataclass(frozen=True)
class Share:
    line_item: str
    kind: str
    rule: str
    team: str
    feature: str
    user: str
    customer: str
    amount_usd: Decimal


@dataclass(frozen=True)
class Line:
    day: date
    project: str
    api_key_id: str
    line_item: str
    billed_usd: Decimal
    shared_out_usd: Decimal


@dataclass(frozen=True)
class Run:
    allocation_id: UUID
    day: date
    frozen: bool
    billed_usd: Decimal
    direct_usd: Decimal
    shared_usd: Decimal
    unattributed_usd: Decimal


@dataclass(frozen=True)
class CallLine:
    trace_id: bytes
    line_item: str
    quantity: Decimal
    billed_usd: Decimal


def share_out(store: Store, settings: Reconcile, now: datetime, policy: Policy = NO_RULES) -> int:
    """Read the bill, compare it and share it out; return how many days were."""
    until = now.date() + timedelta(days=1)
    since = until - timedelta(days=settings.lookback_days)
    fetch(store, settings, since, until, now)
    reconcile_days(store, since, until, now)
    return allocate_days(store, since, until, now, policy)


def shares(store: Store, day: date = DAY) -> list[Share]:
    return store.select(
        "SELECT line_item, kind, rule, team, feature, user, customer, amount_usd "
        "FROM current_allocations WHERE day = {day:Date} ORDER BY ALL",
        Share,
        day=day,
    )


def by_team(store: Store, day: date = DAY) -> dict[tuple[str, str], Decimal]:
    found: defaultdict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for row in shares(store, day):
        found[row.kind, row.team] = EXACT.add(found[row.kind, row.team], row.amount_usd)
    return dict(found)


def runs(store: Store) -> list[Run]:
    sql = (
        "SELECT allocation_id, day, frozen, billed_usd, direct_usd, shared_usd, unattributed_usd "
        "FROM current_allocation_runs ORDER BY day"
    )
    return store.select(sql, Run)


def assert_tied(store: Store) -> None:
    """Every line's shares are its billed dollars, and every run's sums are its bill."""
    lines = store.select(
        """
        SELECT day, project, api_key_id, line_item, billed_usd, shares.amount_usd AS shared_out_usd
        FROM current_recon_lines AS line
        LEFT JOIN (SELECT day, project, api_key_id, line_item, sum(amount_usd) AS amount_usd
                   FROM current_allocations GROUP BY ALL) AS shares
        USING (day, project, api_key_id, line_item)
        WHERE day_state != 'OPEN'
        """,
        Line,
    )
    assert lines
    assert all(line.billed_usd == line.shared_out_usd for line in lines)
    for run in runs(store):
        parts = EXACT.add(EXACT.add(run.direct_usd, run.shared_usd), run.unattributed_usd)
        assert parts == run.billed_usd


def test_a_line_goes_to_its_calls_by_quantity_and_what_no_call_accounts_for_to_nobody(
    store: Store, provider: Any, settings: Reconcile, call: Callable[..., str]
) -> None:
    provider.charge(DAY, f"{MINI}, input", "1.00", api_key_id="key_1", quantity=1000)
    provider.charge(DAY, f"{MINI}, output", "0.30", api_key_id="key_1", quantity=30)
    provider.charge(DAY, f"{MINI}, input", "5", api_key_id="key_2", quantity=1)
    call("search", used={"input": 300, "output": 20}, feature="ask", user="u1", customer="c1")
    call("search", used={"input": 100, "output": 0}, feature="ask", user="u2", customer="c1")
    call("data", used={"input": 400, "output": 40})

    summary = reconcile_now(store, settings, NOW)

    assert summary.allocated == 2  # the open day is not shared out
    item, out = f"{MINI}, input", f"{MINI}, output"
    assert shares(store) == [
        Share(item, "direct", "", "data", "", "", "", Decimal("0.4")),
        Share(item, "direct", "", "search", "ask", "u1", "c1", Decimal("0.3")),
        Share(item, "direct", "", "search", "ask", "u2", "c1", Decimal("0.1")),
        Share(item, "unattributed", "", "", "", "", "", Decimal("0.2")),
        Share(item, "unattributed", "", "", "", "", "", Decimal(5)),
        # More tokens in spans than were billed: all of it goes to them.
        Share(out, "direct", "", "data", "", "", "", Decimal("0.2")),
        Share(out, "direct", "", "search", "ask", "u1", "c1", Decimal("0.1")),
    ]
    assert_tied(store)
    (run,) = [run for run in runs(store) if run.day == DAY]
    assert (run.direct_usd, run.unattributed_usd) == (Decimal("1.1"), Decimal("5.2"))
    assert "2 shared out" in summary.line()


def test_equal_inputs_share_nothing_out_again(
    store: Store, provider: Any, settings: Reconcile, call: Callable[..., str]
) -> None:
    provider.charge(DAY, f"{MINI}, input", "1", api_key_id="key_1", quantity=1000)
    call("search", used={"input": 300})
    share_out(store, settings, NOW)
    before = runs(store)

    assert share_out(store, settings, NOW + timedelta(minutes=1)) == 0
    assert runs(store) == before

    call("data", used={"input": 700})
    assert share_out(store, settings, NOW + timedelta(minutes=2))
    assert by_team(store) == {
        ("direct", "search"): Decimal("0.3"),
        ("direct", "data"): Decimal("0.7"),
    }


def test_what_no_reader_needs_of_a_day_that_may_change_is_removed(
    store: Store, provider: Any, settings: Reconcile, call: Callable[..., str]
) -> None:
    provider.charge(DAY, f"{MINI}, input", "1", api_key_id="key_1", quantity=1000)
    for minute in range(4):
        call("search", used={"input": 1})
        share_out(store, settings, NOW + timedelta(minutes=minute))

    kept = store.select(
        "SELECT DISTINCT allocation_id FROM allocations WHERE day = {day:Date}",
        _Id,
        day=DAY,
    )
    assert len(kept) == 2  # the one that holds, and the one that a reader may still be at
    assert_tied(store)


@dataclass(frozen=True)
class _Id:
    allocation_id: UUID


def test_services_go_by_their_driver_and_storage_to_nobody_without_a_rule(
    store: Store, provider: Any, settings: Reconcile, call: Callable[..., str]
) -> None:
    provider.charge(DAY, "web search tool calls", "0.05", api_key_id="key_1")
    provider.charge(DAY, "Vector storage", "0.00032195744715549047", api_key_id=None)
    call("search", used={"web_search": 3})
    call("data", used={"web_search": 1})

    share_out(store, settings, NOW)

    assert by_team(store) == {
        ("direct", "search"): Decimal("0.0375"),
        ("direct", "data"): Decimal("0.0125"),
        ("unattributed", ""): Decimal("0.00032195744715549047"),
    }
    assert_tied(store)


def test_the_rest_goes_by_the_last_rule_that_fits(
    store: Store, provider: Any, settings: Reconcile, call: Callable[..., str]
) -> None:
    provider.charge(DAY, f"{MINI}, input", "1", api_key_id="key_1", quantity=1000)
    provider.charge(DAY, "Vector storage", "0.00000000000000000003")
    provider.charge(DAY, "Reserved capacity", "-10.000000000001", project_id=None)
    provider.charge(DAY, f"{MINI}, input", "3", api_key_id="key_2", quantity=2)
    call("search", used={"input": 300})
    call("data", used={"input": 100}, feature="nightly")
    policy = read_policy(
        """
        [[rule]]
        name = "everything"
        match = { }
        policy = "proportional"
        [[rule]]
        name = "the reserve"
        match = { line_item = "Reserved*" }
        policy = "even"
        teams = ["a", "b", "c"]
        [[rule]]
        name = "nightly"
        match = { key = "nightly*", project = "proj_a" }
        policy = "fixed"
        shares = { data = 2, batch = 1 }
        """
    )
    share_out(store, settings, NOW, policy)

    found = {
        (row.line_item, row.rule, row.team, row.feature): row.amount_usd for row in shares(store)
    }
    item = f"{MINI}, input"
    assert found == {
        (item, "", "search", ""): Decimal("0.3"),
        (item, "", "data", "nightly"): Decimal("0.1"),
        (item, "everything", "search", ""): Decimal("0.45"),
        (item, "everything", "data", "nightly"): Decimal("0.15"),
        (item, "nightly", "data", ""): Decimal(2),
        (item, "nightly", "batch", ""): Decimal(1),
        # Below a pico-dollar: all of it to the largest weight.
        ("Vector storage", "everything", "search", ""): Decimal("0.00000000000000000003"),
        ("Vector storage", "everything", "data", "nightly"): Decimal(0),
        # Toward minus infinity, and the two pico-dollars that are left over by name.
        ("Reserved capacity", "the reserve", "a", ""): Decimal("-3.333333333333"),
        ("Reserved capacity", "the reserve", "b", ""): Decimal("-3.333333333334"),
        ("Reserved capacity", "the reserve", "c", ""): Decimal("-3.333333333334"),
    }
    assert {row.kind for row in shares(store)} == {"direct", "shared"}
    assert_tied(store)


def test_a_rule_in_proportion_to_nothing_leaves_the_dollars_with_nobody(
    store: Store, provider: Any, settings: Reconcile
) -> None:
    provider.charge(DAY, "Vector storage", "0.5")
    policy = read_policy('[[rule]]\nname = "all"\nmatch = {}\npolicy = "proportional"\n')
    share_out(store, settings, NOW, policy)
    assert shares(store) == [
        Share("Vector storage", "unattributed", "all", "", "", "", "", Decimal("0.5"))
    ]


def test_other_rules_share_days_that_are_not_final_again(
    store: Store, provider: Any, settings: Reconcile
) -> None:
    provider.charge(DAY, "Vector storage", "0.5")
    share_out(store, settings, NOW)
    policy = read_policy(
        '[[rule]]\nname = "s"\nmatch = {}\npolicy = "fixed"\nshares = { data = 1 }\n'
    )
    assert allocate_days(store, DAY, NEXT, NOW, policy) == 1
    assert by_team(store) == {("shared", "data"): Decimal("0.5")}
    assert allocate_days(store, DAY, NEXT, NOW, policy) == 0


def test_a_final_day_keeps_its_weights_whatever_comes_later(
    store: Store, provider: Any, settings: Reconcile, call: Callable[..., str]
) -> None:
    item = f"{MINI}, input"
    provider.charge(DAY, item, "1", api_key_id="key_1", quantity=1000)
    provider.charge(DAY, "Vector storage", "0.5")
    policy = read_policy(
        '[[rule]]\nname = "s"\nmatch = { line_item = "Vector*" }\n'
        'policy = "fixed"\nshares = { data = 1, search = 1 }\n'
    )
    call("search", used={"input": 300})
    call("data", used={"input": 500})
    settings = settings.model_copy(update={"lookback_days": 6})
    for days in (1, 3):  # final: more than 72 hours old and the same for more than 24
        share_out(store, settings, NOW + timedelta(days=days), policy)
    assert [run.frozen for run in runs(store) if run.day == DAY] == [True]

    call("late", used={"input": 1000})
    provider.bill[DAY][0]["amount"] = "2"  # twice the dollars, by the weights of then
    provider.bill[DAY][1]["amount"] = "0.7"
    provider.charge(DAY, f"{MINI}, output", "0.1", api_key_id="key_1", quantity=7)
    share_out(store, settings, NOW + timedelta(days=3, minutes=1))

    assert by_team(store) == {
        ("direct", "search"): Decimal("0.6"),
        ("direct", "data"): Decimal("1.0"),
        ("shared", "search"): Decimal("0.35"),
        ("shared", "data"): Decimal("0.35"),
        # What was not on the bill then: a fifth of the input, and the output.
        ("unattributed", ""): Decimal("0.5"),
    }
    provider.bill[DAY][0]["amount"] = "0"
    share_out(store, settings, NOW + timedelta(days=3, minutes=2))
    provider.bill[DAY][0]["amount"] = "1"
    share_out(store, settings, NOW + timedelta(days=3, minutes=3))
    assert by_team(store)["direct", "data"] == Decimal("0.5")
    assert_tied(store)


def test_calls_in_one_line_of_several_tiers_are_in_each_of_them(
    store: Store, provider: Any, settings: Reconcile, call: Callable[..., str]
) -> None:
    provider.charge(DAY, f"{MINI}, input", "7", api_key_id="key_1", quantity=700)
    provider.charge(DAY, f"batch | {MINI}, input", "1", api_key_id="key_1", quantity=600)
    call("search", used={"input": 900})
    call("data", used={"input": 100})

    share_out(store, settings, NOW)

    found = by_team(store)
    # Of the 1,300 tokens that were billed the spans hold 1,000: 300 of the batch are nobody's.
    assert found == {
        ("direct", "search"): Decimal("6.75"),
        ("direct", "data"): Decimal("0.75"),
        ("unattributed", ""): Decimal("0.5"),
    }
    assert_tied(store)


def test_the_calls_of_a_day_sum_to_its_direct_dollars_to_the_last_digit(
    store: Store, provider: Any, settings: Reconcile, call: Callable[..., str]
) -> None:
    provider.charge(
        DAY, f"{MINI}, input", "1.0000000000000000000000000000000007", api_key_id="key_1"
    )
    provider.charge(DAY, f"{MINI}, cached input", "0.1", api_key_id="key_1", quantity=21)
    provider.charge(DAY, f"{MINI}, output", "-0.000000000001", api_key_id="key_1", quantity=30)
    traces = [
        call(
            ("a", "b")[n % 2],
            used={"input": n + 1, "cached_input": n, "output": 3},
            user=f"u{n % 3}",
        )
        for n in range(7)
    ]
    # The last one was delivered twice, and one is from before quantities were kept.
    call(
        "b",
        used={"input": 7},
        trace_id=bytes.fromhex(traces[6]),
        span_id=(7).to_bytes(8),
        user="u0",
    )
    old = call("a", used={"input": 3}, quantities={}, input_tokens=5, cached_tokens=2, user="u1")

    share_out(store, settings, NOW)

    def billed(trace_id: str = "") -> list[CallLine]:
        return store.select(
            "SELECT trace_id, line_item, quantity, billed_usd "
            "FROM billed_calls(day = {day:Date}, trace_id = {trace_id:String}) ORDER BY ALL",
            CallLine,
            day=DAY,
            trace_id=trace_id,
        )

    rows = billed()
    total = Decimal(0)
    for row in rows:
        total = EXACT.add(total, row.billed_usd)
    (run,) = [run for run in runs(store) if run.day == DAY]
    assert total == run.direct_usd
    assert len({row.trace_id for row in rows}) == 8
    assert {row.line_item: row.quantity for row in billed(old)} == {
        f"{MINI}, input": 3,
        f"{MINI}, cached input": 2,
    }
    for trace_id in (*traces, old):
        assert billed(trace_id) == [row for row in rows if row.trace_id.hex() == trace_id]


def test_a_day_whose_shares_are_not_its_bill_keeps_the_allocation_before(
    store: Store, provider: Any, settings: Reconcile
) -> None:
    provider.charge(DAY, "Vector storage", "0.5")
    share_out(store, settings, NOW)
    before = runs(store)
    store.command(
        "INSERT INTO recon_runs SELECT * REPLACE (generateUUIDv4() AS run_id, 1 AS billed_usd, "
        "run_at + 1 AS run_at) FROM recon_runs WHERE day = {day:Date}",
        day=DAY,
    )
    with pytest.raises(Rejected, match="do not add up"):
        allocate_days(store, DAY, NEXT, NOW, NO_RULES)
    assert runs(store) == before


class Stopped(Exception):
    """Stands for a process that dies."""


@pytest.mark.parametrize("table", ["allocation_lines", "allocation_routes", "allocation_runs"])
def test_what_dies_on_the_way_leaves_the_allocation_before_and_the_next_run_completes_it(
    store: Store,
    provider: Any,
    settings: Reconcile,
    call: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    table: str,
) -> None:
    provider.charge(DAY, f"{MINI}, input", "1", api_key_id="key_1", quantity=100)
    call("search", used={"input": 100})
    share_out(store, settings, NOW)
    call("data", used={"input": 100})
    insert = Store.insert

    def stop(self: Store, name: str, rows: Any, **more: Any) -> None:
        if name == table:
            raise Stopped
        insert(self, name, rows, **more)

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(Store, "insert", stop)
        share_out(store, settings, NOW + timedelta(minutes=1))
    assert by_team(store) == {("direct", "search"): Decimal(1)}

    share_out(store, settings, NOW + timedelta(minutes=2))
    half = Decimal("0.5")
    assert by_team(store) == {("direct", "search"): half, ("direct", "data"): half}
    left = "SELECT DISTINCT allocation_id FROM allocation_lines WHERE day = {day:Date}"
    assert len(store.select(left, _Id, day=DAY)) == 2


def test_users_and_customers_go_from_the_shares_when_they_go_from_the_calls(
    store: Store, provider: Any, settings: Reconcile, call: Callable[..., str]
) -> None:
    provider.charge(DAY, f"{MINI}, input", "1", api_key_id="key_1", quantity=300)
    call("search", used={"input": 100}, user="u1", customer="c1")
    call("search", used={"input": 200}, user="u2")
    share_out(store, settings, NOW)

    found = outdated(store, Keep(identities_days=1), NEXT + timedelta(days=1))
    assert found.cleared == (DAY,)
    let_go(store, found, NOW)

    assert {(row.user, row.customer) for row in shares(store)} == {("", "")}
    assert by_team(store) == {("direct", "search"): Decimal(1)}
    assert outdated(store, Keep(identities_days=1), NEXT + timedelta(days=1)).cleared == ()
    assert_tied(store)
