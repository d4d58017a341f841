"""`costspan alerts` on the real engine: check, backtest, silence, acknowledge, test messages."""

import argparse
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from costspan.errors import Rejected
from costspan_collector.store import Store
from costspan_collector.store.rollups import refresh
from costspan_dashboards.alerts import cli
from costspan_dashboards.alerts.backtest import backtest
from costspan_dashboards.alerts.desk import ToAct, ToEnd, hand_over, open_desk
from costspan_dashboards.alerts.evaluate import evaluate_now
from costspan_dashboards.alerts.queries import live_alerts, recent_events
from costspan_dashboards.alerts.settings import Alerts
from costspan_dashboards.alerts.silences import silences
from costspan_dashboards.filters import TimeRange

NOW = datetime(2026, 11, 18, 14, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
_CALLS = """
INSERT INTO calls (started_at, trace_id, span_id, scope_name, feature, request_model, response_model, user,
    status, error_type, duration_us, cost_usd, price_status, received_at, ingest_id)
SELECT fromUnixTimestamp64Micro(toInt64({since:Int64} + number * 6000000), 'UTC') AS started_at,
    MD5(toString(({since:Int64}, number))),
    toFixedString(substring(MD5(toString(({since:Int64}, number))), 1, 8), 8),
    'costspan', 'chat', 'gpt-4o-mini', 'gpt-4o-mini', 'u1',
    if({failing:Bool}, 'error', 'ok'), if({failing:Bool}, 'server_error', ''), 1000000, 0.001,
    'priced', started_at + INTERVAL 1 SECOND, 1
FROM numbers({count:UInt64})
"""


def add(store: Store, since: datetime, minutes: int, *, failing: bool = False) -> None:
    """Put ten calls a minute in the store."""
    store.command(_CALLS, since=int(since.timestamp() * 1e6), count=minutes * 10, failing=failing)


@pytest.fixture
def run(store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command; give what it printed as JSON."""
    monkeypatch.setenv("COSTSPAN_CLICKHOUSE_URL", store.url)

    def said(*arguments: str, status: int = 0) -> Any:
        parser = argparse.ArgumentParser()
        cli.add_alerts(parser.add_subparsers())
        args = parser.parse_args(["alerts", *arguments, "--json"])
        assert args.run(args) == status
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    return said


def test_a_backtest_says_minute_for_minute_what_the_live_evaluation_did(store: Store) -> None:
    add(store, NOW - timedelta(hours=30), 30 * 60)
    add(store, NOW + 2 * MINUTE, 4, failing=True)
    add(store, NOW + 6 * MINUTE, 8)
    refresh(store, overlap=timedelta(0))
    settings = Alerts.model_validate({})
    for minute in range(13):
        evaluate_now(store, settings, NOW + minute * MINUTE)
    events = recent_events(store, TimeRange(NOW - MINUTE, NOW + timedelta(hours=1)))
    lived = [(one.alert_id, one.to_state, one.at) for one in events if one.tells]
    assert {state for _, state, _ in lived} == {"firing"}
    found = backtest(store, settings, NOW, NOW + 13 * MINUTE)
    replayed = [(one.alert_id, "firing", one.firing_since) for one in found.episodes]
    replayed += [(one.alert_id, "resolved", one.ended_at) for one in found.episodes if one.ended_at]
    assert sorted(replayed) == sorted(lived)
    assert "errors" in {one.rule for one in found.episodes}
    assert found.pages_a_week > 0
    one = backtest(store, settings, NOW, NOW + 13 * MINUTE, only="errors")
    assert {each.rule for each in one.episodes} == {"errors"}


def test_a_backtest_replays_what_the_store_keeps_of_the_pipeline_and_says_what_it_left_out(
    store: Store, run: Any
) -> None:
    now = datetime.now(UTC)
    store.command(
        """INSERT INTO job_runs
        SELECT generateUUIDv4(), 'reconcile', {now:DateTime64(3, 'UTC')} - toIntervalHour(number) AS at,
            at, if(number < 8, 'failed', 'ok'), 'no answer'
        FROM numbers(1, 29)""",
        now=now,
    )
    found = run("backtest", "--days", "1", "--every", "30", "--rule", "job_late")
    assert [one["rule"] for one in found["episodes"]] == ["job_late"]
    began = datetime.fromisoformat(found["episodes"][0]["firing_since"])
    assert timedelta(hours=4) < now - began < timedelta(hours=6)  # after the third failure
    assert "store_unhealthy" in found["left_out"]


def test_a_backtest_takes_what_was_brought_along_as_in_time_and_counts_an_incident_once(
    store: Store,
) -> None:
    add(store, NOW - timedelta(hours=10), 10 * 60 - 30)
    add(store, NOW - 30 * MINUTE, 30, failing=True)
    store.command(
        """INSERT INTO calls SELECT * REPLACE ({at:DateTime('UTC')} AS received_at, 2 AS ingest_id)
        FROM calls FINAL""",
        at=NOW + timedelta(days=1),
    )
    refresh(store, overlap=timedelta(0))
    weeks = timedelta(hours=10) / timedelta(days=7)
    found = backtest(store, Alerts(), NOW - timedelta(days=9), NOW, every=5 * MINUTE)
    assert found.since == NOW - timedelta(hours=10)  # no call is older
    assert {one.rule for one in found.episodes} == {"errors"}
    assert round(found.pages_a_week * weeks, 6) == 1


def test_check_prints_what_is_wrong_now_and_changes_nothing(store: Store, run: Any) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    add(store, now - timedelta(hours=3), 170)
    add(store, now - 10 * MINUTE, 10, failing=True)
    refresh(store, overlap=timedelta(0))
    seen = run("check", "--rule", "errors")
    assert [one["rule"] for one in seen["findings"]] == ["errors"]
    assert seen["open_alerts"] == []
    assert live_alerts(store) == []
    with pytest.raises(Rejected, match="'nope' is no rule"):
        run("check", "--rule", "nope")


def test_a_silence_and_an_acknowledgement_by_command_are_taken_up(store: Store, run: Any) -> None:
    now = datetime.now(UTC)
    add(store, now - 20 * MINUTE, 25, failing=True)
    settings = Alerts.model_validate({"for_seconds": 0})
    told = evaluate_now(store, settings, now)
    (alert,) = [one for one in told.alerts if one.finding.rule == "errors"]
    assert run("ack", alert.alert_id, "--author", "ada")["kind"] == "acknowledge"
    made = run("silence", "rule=errors", "--for", "2h", "--author", "ada", "--comment", "deploy")
    after = evaluate_now(store, settings, now + MINUTE)
    (alert,) = [one for one in after.alerts if one.finding.rule == "errors"]
    assert (alert.state, alert.shown_state, alert.taken_by) == ("acknowledged", "silenced", "ada")
    run("silence", "--end", made["silence_id"])
    (alert,) = [
        one
        for one in evaluate_now(store, settings, now + 2 * MINUTE).alerts
        if one.finding.rule == "errors"
    ]
    assert (alert.shown_state, alert.hushed) == ("acknowledged", "")
    with pytest.raises(Rejected, match="author and a comment"):
        run("silence", "rule=errors")
    for matchers, words in (
        ([], "a silence of everything"),
        (["rule"], "is not name=value"),
        (["rule=latencyy"], "no rule is called latencyy; there are errors"),
        (["rule=late*", "severity=high"], "no severity is called high; there are info, ticket"),
        (["feature=a", "feature=b"], "feature is given twice"),
        (["feature=a", "--end", "x"], "leave out feature=a"),
        (["--end", "x"], "no silence x goes on; known are none"),
    ):
        with pytest.raises(Rejected, match=words):
            run("silence", *matchers, "--author", "ada", "--comment", "deploy")
    with pytest.raises(Rejected, match="no alert x goes on"):
        run("ack", "x", "--author", "ada")


def test_beside_serve_a_command_hands_over_what_it_was_asked(store: Store) -> None:
    def costspan(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "costspan", "alerts", *arguments, "--author", "ada"],
            env=os.environ | {"COSTSPAN_CLICKHOUSE_URL": store.url},
            capture_output=True,
            text=True,
            check=False,
        )

    before = costspan("silence", "rule=errors", "--comment", "deploy")
    assert (before.returncode, before.stdout) == (1, "")
    assert "in use by another costspan process, and that is no `costspan serve`" in before.stderr
    assert "Traceback" not in before.stderr
    now = datetime.now(UTC)
    with open_desk(store):
        made = costspan("silence", "rule=errors", "--comment", "deploy", "--for", "2h")
        assert made.stderr == ""
        (known,) = silences(store, now)
        assert (known.silence_id in made.stdout, known.matchers) == (True, {"rule": "errors"})
        assert (known.ends_at - known.starts_at, known.author) == (timedelta(hours=2), "ada")
        assert hand_over(store.url, ToEnd(known.silence_id)) is not None
        assert silences(store, datetime.now(UTC)) == []
        with pytest.raises(Rejected, match="no alert x goes on; known are none"):
            hand_over(store.url, ToAct("x", close=False, author="ada", comment=""))
    assert hand_over(store.url, ToEnd("x")) is None


def test_a_path_that_is_too_long_for_a_socket_stops_no_server(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store: Any = SimpleNamespace(url=f"chdb:///{'x' * 120}")
    with open_desk(store):
        assert "silence and acknowledge on the page" in caplog.text


def test_a_test_message_goes_through_every_channel(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COSTSPAN_ALERTS_WEBHOOK_URL", "http://127.0.0.1:1/x")
    assert run("test-notify", status=1) == {"log": "delivered", "webhook": "ConnectError"}
