"""Alerts on the real engine: synthetic calls in, evaluations at chosen moments, messages out."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from costspan_collector.store import Store, connect
from costspan_collector.store.rollups import refresh
from costspan_dashboards.alerts.evaluate import Evaluation, evaluate_now
from costspan_dashboards.alerts.queries import (
    last_evaluation,
    live_alerts,
    open_alerts,
    recent_deliveries,
    recent_events,
)
from costspan_dashboards.alerts.settings import Alerts
from costspan_dashboards.figures import usd_text
from costspan_dashboards.filters import TimeRange

NOW = datetime(2026, 11, 18, 14, 0, tzinfo=UTC)  # a Wednesday
MINUTE = timedelta(minutes=1)
ADD = """
INSERT INTO calls (started_at, trace_id, span_id, scope_name, feature, request_model,
    response_model, team, user, project, duration_us, status, error_type, cost_usd, price_status, received_at, ingest_id)
SELECT
    fromUnixTimestamp64Micro(toInt64({since:Int64} + number * {step_us:Int64}), 'UTC') AS started_at,
    MD5(concat({seed:String}, toString(number))),
    toFixedString(substring(MD5(concat({seed:String}, '/', toString(number))), 1, 8), 8),
    'costspan', {feature:String}, {model:String}, if(number % {fail_every:UInt32} = 1, '', concat({model:String}, '-2026-01-01')),
    {team:String}, if({user:String} = '', concat('u', toString(number % 7)), {user:String}),
    'proj_1',
    -- Log-normal, median one second, sigma 0.4, the same whenever the test runs.
    toUInt64({duration_us:Float64} * exp(0.4 * sqrt(-2 * log((cityHash64({seed:String}, number, 1) % 99991 + 1) / 99993))
        * cos(6.283185307 * (cityHash64({seed:String}, number, 2) % 99991) / 99991))),
    if(number % {fail_every:UInt32} = 1, 'error', 'ok'),
    if(number % {fail_every:UInt32} = 1, {error_type:String}, ''),
    if({cost:String} = '', NULL, toDecimal64(if({cost:String} = '', '0', {cost:String}), 12)
        * (50 + cityHash64({seed:String}, number, 3) % 100) / 100),
    'priced', started_at + INTERVAL 3 SECOND, 1
FROM numbers({count:UInt64})
"""

Add = Callable[..., None]


@pytest.fixture
def add(store: Store) -> Add:
    """Put calls in the store: `add(since, until, per_minute, feature=..., fail_every=...)`."""

    def put(since: datetime, until: datetime, per_minute: float, **values: object) -> None:
        given: dict[str, object] = {
            "feature": "chat",
            "model": "gpt-4o-mini",
            "team": "web",
            "user": "",
            "cost": "0.01",
            "duration_us": 1e6,
            "fail_every": 97,
            "error_type": "timeout",
            **values,
        }
        count = round((until - since) / MINUTE * per_minute)
        store.command(
            ADD,
            since=int(since.timestamp() * 1e6),
            step_us=int(60e6 / per_minute),
            count=count,
            seed=f"{given['feature']}{given['user']}{since.isoformat()}",
            **given,
        )

    return put


@pytest.fixture
def history(store: Store, add: Add, remembered: Callable[..., None]) -> Callable[..., None]:
    """Two clean weeks: chat, and agent on a dearer model, one call in a hundred or so failing."""

    def calls(since: datetime, until: datetime) -> None:
        add(since, until, 1, feature="chat")
        add(since, until, 0.5, feature="agent", model="gpt-4.1", team="lab", cost="0.02",
            fail_every=113)  # fmt: skip

    def weeks() -> None:
        calls(NOW - timedelta(days=14), NOW - 60 * MINUTE)
        refresh(store, overlap=timedelta(0))

    def put(until: datetime = NOW) -> None:
        remembered("two_weeks", weeks)
        if until == NOW:
            calls(NOW - 60 * MINUTE, NOW)

    return put


def evaluate(store: Store, now: datetime, **settings: object) -> Evaluation:
    """Evaluate as if all calls before `now` had just arrived."""
    refresh(store, overlap=timedelta(0))  # a job of its own, each minute
    return evaluate_now(store, Alerts.model_validate(settings), now + timedelta(seconds=90))


def test_a_clean_history_raises_nothing(store: Store, history: Callable[..., None]) -> None:
    history()
    seen = evaluate(store, NOW)
    assert seen.fresh
    assert seen.basis.kind == "same hour of day"
    assert len(seen.basis.days) == 13  # the fourteenth hour is not whole
    assert (seen.findings, seen.alerts, seen.transitions) == ((), (), ())


def test_a_burst_of_errors_pages_with_feature_and_kind(
    store: Store, history: Callable[..., None], add: Add
) -> None:
    history()
    add(NOW - 10 * MINUTE, NOW, 3, feature="agent", model="gpt-4.1", team="lab", user="x",
        fail_every=2, error_type="InternalServerError", cost="0.001")  # fmt: skip
    (first,) = evaluate(store, NOW).alerts
    assert first.state == "pending"
    seen = evaluate(store, NOW + MINUTE)
    (alert,) = seen.alerts
    assert (alert.state, alert.finding.rule, alert.finding.severity) == ("firing", "errors", "page")
    (one,) = alert.finding.contributors
    assert ("error_kind", "server_error") in one.where
    assert {("feature", "agent"), ("user", "x")} & {*one.where, *one.also}
    assert "feature=agent" in alert.finding.link
    # Those that failed have the name that was asked for, the others that of what answered.
    assert "model=gpt-4.1&model=gpt-4.1-2026-01-01" in alert.finding.link
    assert alert.finding.contributors[0].share > 0.9
    assert len(alert.finding.examples) == 3
    assert len(alert.finding.examples[0].trace_id) == 32
    assert "usually 0." in alert.finding.title
    assert seen.sent.delivered == 1  # the log


def test_a_budget_of_a_model_leads_to_its_calls_whatever_answered_them(
    store: Store, history: Callable[..., None], tmp_path: Path
) -> None:
    history()
    file = tmp_path / "alerts.toml"
    file.write_text('[[budgets]]\ndimension = "model"\nvalue = "gpt-4.1"\nusd_per_month = 1\n')
    (found,) = evaluate(store, NOW, file=file).findings
    assert found.rule == "budget"
    assert "model=gpt-4.1&model=gpt-4.1-2026-01-01" in found.link


def test_a_spike_of_spend_names_its_cause_in_dollars(
    store: Store, history: Callable[..., None], add: Add
) -> None:
    history()
    # 4 calls a minute for 0.20 dollars: 48 dollars an hour on top of the usual 0.60.
    add(NOW - 20 * MINUTE, NOW, 4, feature="agent", model="gpt-5.5", team="lab", user="loop",
        cost="0.20")  # fmt: skip
    alerts = {one.finding.rule: one for one in evaluate(store, NOW, for_seconds=0).alerts}
    assert {"spend", "entity_spend"} <= set(alerts)
    assert dict(alerts["entity_spend"].finding.cause)["user"] == "loop"
    assert "never seen before" in alerts["entity_spend"].finding.title
    alert = alerts["spend"]
    assert (alert.state, alert.finding.severity) == ("firing", "page")
    # Never seen before, all three: the simplest that says it all, and what else they share.
    (one,) = alert.finding.contributors
    assert one.where == (("model", "gpt-5.5"),)
    assert one.also == (("feature", "agent"), ("team", "lab"), ("user", "loop"))
    assert alert.finding.contributors[0].share > 0.95
    assert 45 < alert.finding.observed < 52
    assert "13 same slots (same hour of day), 14 days of history" in alert.finding.facts[-1]
    assert alert.finding.link.startswith("/calls?range=last+24+hours")
    leads_with = timedelta(minutes=15)  # the window it is shown in
    assert alert.finding.since == alert.finding.until - leads_with
    assert not any(example.unpriced for example in alert.finding.examples)


def test_a_spike_that_stopped_is_told_as_dollars_spent_and_not_as_a_rate(
    store: Store, history: Callable[..., None], add: Add
) -> None:
    history()
    add(NOW - 50 * MINUTE, NOW - 30 * MINUTE, 4, feature="agent", model="gpt-5.5", team="lab",
        user="loop", cost="0.20")  # fmt: skip
    alerts = {one.finding.rule: one for one in evaluate(store, NOW, for_seconds=0).alerts}
    found = alerts["entity_spend"].finding
    assert found.since == found.until - timedelta(minutes=60)
    excess = usd_text(round(found.observed - found.usual, 2))
    assert f"In the last 60 minutes it cost {excess} more than usual." in found.facts


def test_calls_that_take_longer_make_a_ticket_not_a_page(
    store: Store, history: Callable[..., None], add: Add
) -> None:
    history(until=NOW - 60 * MINUTE)
    add(NOW - 60 * MINUTE, NOW, 1, feature="chat", duration_us=1.8e6)
    add(NOW - 60 * MINUTE, NOW, 0.5, feature="agent", model="gpt-4.1", team="lab", cost="0.02")
    (alert,) = evaluate(store, NOW, for_seconds=0).alerts
    assert (alert.finding.rule, alert.finding.severity) == ("latency", "ticket")
    assert alert.finding.contributors[0].where == (("feature", "chat"),)
    assert alert.finding.title.startswith("Calls of feature=chat take ")


def test_a_fresh_install_knows_the_objective_only(store: Store, add: Add) -> None:
    add(NOW - timedelta(hours=6), NOW - 5 * MINUTE, 2, fail_every=97)
    add(NOW - 5 * MINUTE, NOW, 10, fail_every=2, feature="search", cost="9")
    seen = evaluate(store, NOW, for_seconds=0)
    assert seen.basis.kind == "objective"
    (alert,) = seen.alerts  # spend is 5,400 dollars an hour, but there is no usual yet
    assert alert.finding.rule == "errors"
    assert "objective 98" in alert.finding.facts[-1]


def test_a_restart_goes_on_with_the_same_episode(
    store: Store, history: Callable[..., None], add: Add
) -> None:
    history()
    add(NOW - 10 * MINUTE, NOW + 30 * MINUTE, 3, fail_every=2)
    evaluate(store, NOW)
    (before,) = evaluate(store, NOW + MINUTE).alerts
    second = connect(store.url)
    (after,) = evaluate(second, NOW + 20 * MINUTE).alerts
    second.close()
    assert after.alert_id == before.alert_id
    assert after.firing_since == before.firing_since
    assert after.finding.since == before.finding.since
    assert len([event for event in recent_events(store, _ALL) if event.tells]) == 1


def test_a_crash_between_step_and_state_neither_loses_nor_repeats_the_alert(
    store: Store, history: Callable[..., None], add: Add
) -> None:
    history()
    add(NOW - 10 * MINUTE, NOW + 30 * MINUTE, 3, fail_every=2)
    (before,) = evaluate(store, NOW, for_seconds=0).alerts
    store.command("TRUNCATE TABLE alert_states")
    (after,) = evaluate(store, NOW + MINUTE, for_seconds=0).alerts
    assert after.alert_id == before.alert_id
    assert [each.outcome for each in recent_deliveries(store, _ALL)] == ["delivered"]


def test_the_same_moment_evaluated_twice_changes_nothing(
    store: Store, history: Callable[..., None], add: Add
) -> None:
    history()
    add(NOW - 10 * MINUTE, NOW, 3, fail_every=2)
    first = evaluate(store, NOW, for_seconds=0)
    again = evaluate(store, NOW, for_seconds=0)
    assert first.alerts == again.alerts
    assert again.transitions == ()
    assert again.sent.delivered == 0


def test_without_data_a_firing_alert_is_stale_and_not_resolved(
    store: Store, history: Callable[..., None], add: Add
) -> None:
    history()
    add(NOW - 10 * MINUTE, NOW, 3, fail_every=2)
    evaluate(store, NOW, for_seconds=0)
    quiet = evaluate(store, NOW + 30 * MINUTE)
    assert not quiet.fresh
    assert [alert.state for alert in quiet.alerts] == ["stale"]
    assert [alert.state for alert in open_alerts(store)] == ["stale"]
    assert str(quiet).startswith("no calls arrive")
    # Calls come back, all well: five minutes later, and not before, it is over.
    add(NOW + 30 * MINUTE, NOW + 60 * MINUTE, 3)
    back = evaluate(store, NOW + 45 * MINUTE)
    assert [alert.state for alert in back.alerts] == ["firing"]
    assert evaluate(store, NOW + 51 * MINUTE).alerts == ()
    told = [event.to_state for event in recent_events(store, _ALL) if event.tells]
    assert told == ["resolved", "firing"]


def test_calls_that_arrive_late_raise_nothing(
    store: Store, history: Callable[..., None], add: Add
) -> None:
    history(until=NOW - 60 * MINUTE)
    add(NOW - 60 * MINUTE, NOW - 8 * MINUTE, 0.6, feature="chat")
    assert evaluate(store, NOW - MINUTE).alerts == ()
    add(NOW - 60 * MINUTE, NOW - 8 * MINUTE, 0.4, feature="chat", user="late")
    add(NOW - 8 * MINUTE, NOW, 1, feature="chat")
    assert evaluate(store, NOW).alerts == ()


def test_a_past_that_is_brought_along_is_not_late_and_what_comes_late_after_it_is(
    store: Store,
) -> None:
    for began, arrived in ((-12, 0), (22, 33)):
        store.command(
            """INSERT INTO calls (started_at, trace_id, span_id, feature, request_model, status,
                duration_us, received_at, ingest_id)
            SELECT {began:DateTime('UTC')} + INTERVAL number * 5 SECOND AS at, MD5(toString(at)),
                '12345678', 'chat', 'gpt-4o-mini', 'ok', 1000, {arrived:DateTime('UTC')}, 1
            FROM numbers(100)""",
            began=NOW + began * MINUTE,
            arrived=NOW + arrived * MINUTE,
        )
        seen = evaluate(store, NOW + (arrived + 1) * MINUTE)
        assert ("late" in {one.rule for one in seen.findings}) is (began > 0)


def test_a_replayed_batch_counts_once(store: Store, history: Callable[..., None]) -> None:
    history()
    for _ in range(2):  # which doubles what is there
        store.command(
            "INSERT INTO calls SELECT * FROM calls WHERE started_at >= {since:DateTime('UTC')}",
            since=NOW - timedelta(days=1),
        )
    assert evaluate(store, NOW).findings == ()


def test_an_empty_store_is_no_alert(store: Store) -> None:
    seen = evaluate(store, NOW)
    assert (seen.fresh, seen.alerts) == (False, ())
    assert live_alerts(store) == []
    assert last_evaluation(store) is None


_ALL = TimeRange(NOW - timedelta(days=1), NOW + timedelta(days=1))


def test_an_outage_of_everything_leads_with_all_calls(
    store: Store, history: Callable[..., None], add: Add
) -> None:
    history()
    for feature, model in (("chat", "gpt-4o-mini"), ("agent", "gpt-4.1"), ("search", "gpt-4.1")):
        add(NOW - 10 * MINUTE, NOW, 3, feature=feature, model=model, fail_every=2,
            error_type="server_error", cost="0.001")  # fmt: skip
    (alert,) = evaluate(store, NOW, for_seconds=0).alerts
    assert "of all calls failed" in alert.finding.title
    assert alert.finding.cause == (("error_kind", "server_error"),)
