"""Messages over real HTTP to a loopback server that can say no, and once is once."""

import json
import logging
import re
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from apscheduler.schedulers.background import BackgroundScheduler
from pydantic import SecretStr

from costspan.errors import Rejected
from costspan_collector.store import Store
from costspan_dashboards.alerts.alertmanager import push
from costspan_dashboards.alerts.cause import Contributor
from costspan_dashboards.alerts.channels import Channel, names, open_channels
from costspan_dashboards.alerts.evaluate import Key, evaluate_now, keep, step
from costspan_dashboards.alerts.finding import Finding
from costspan_dashboards.alerts.loop import Loop
from costspan_dashboards.alerts.message import Message
from costspan_dashboards.alerts.metrics import exposition
from costspan_dashboards.alerts.outbox import Sent, channel_findings, health, send_due
from costspan_dashboards.alerts.queries import last_evaluation, recent_deliveries
from costspan_dashboards.alerts.scopes import Scope
from costspan_dashboards.alerts.settings import Alerts
from costspan_dashboards.alerts.state import Alert, Timing
from costspan_dashboards.alerts.webhook import signature
from costspan_dashboards.alerts.wire import Outcome
from costspan_dashboards.filters import TimeRange

NOW = datetime(2026, 11, 18, 14, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
# A library that one of apprise's services imports is behind the times on 3.11 and 3.12.
pytestmark = pytest.mark.filterwarnings("ignore:.imghdr. is deprecated:DeprecationWarning")
_ALL = TimeRange(NOW - timedelta(days=1), NOW + timedelta(days=1))
SECRET = "T0KEN-in-the-path"


class Webhook(ThreadingHTTPServer):
    """Keeps what it is sent; answers what it is told to."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Receive)
        self.bodies: list[Any] = []
        self.raw: list[bytes] = []
        self.paths: list[str] = []
        self.signatures: list[str] = []
        self.keys: list[str | None] = []
        self.answers: list[int] = []
        self.hold = threading.Event()
        self.hold.set()

    @property
    def url(self) -> str:
        return f"json://127.0.0.1:{self.server_address[1]}/{SECRET}?rto=1&cto=1"


class _Receive(BaseHTTPRequestHandler):
    server: Webhook  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.hold.wait(20)
        self.server.bodies.append(json.loads(body))
        self.server.raw.append(body)
        self.server.paths.append(self.path)
        self.server.signatures.append(self.headers.get("Costspan-Signature", ""))
        self.server.keys.append(self.headers.get("Idempotency-Key"))
        self.send_response(self.server.answers.pop(0) if self.server.answers else 200)
        self.send_header("Location", "http://127.0.0.1:1/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        self.server.paths.append(f"GET {self.path}")
        self.send_response(self.server.answers.pop(0) if self.server.answers else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    server = Webhook()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.hold.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def failing(store: Store) -> Store:
    """A store whose last ten minutes are all failures: an alert by the objective."""
    store.command(
        """
        INSERT INTO calls (started_at, trace_id, span_id, feature, request_model, status,
            error_type, duration_us, received_at, ingest_id)
        SELECT fromUnixTimestamp64Micro(toInt64({since:Int64} + number * 3000000), 'UTC') AS started_at,
            MD5(toString(number)), toFixedString(substring(MD5(toString(number)), 1, 8), 8),
            'chat', 'gpt-4o-mini', 'error', 'server_error', 1000, started_at + INTERVAL 1 SECOND, 1
        FROM numbers(1200)
        """,
        since=int((NOW - 10 * MINUTE).timestamp() * 1e6),
    )
    return store


def run(store: Store, now: datetime, *urls: str, **settings: object) -> str:
    """Evaluate at `now` with these channels; return what was sent."""
    alerts = Alerts.model_validate({"for_seconds": 0, "notify_urls": ", ".join(urls), **settings})
    return _said(evaluate_now(store, alerts, now + timedelta(seconds=90)).sent)


def _said(sent: Sent) -> str:
    parts = {"delivered": sent.delivered, "failed": sent.failed, "dead": sent.given_up}
    return ", ".join(f"{count} {name}" for name, count in parts.items() if count)


class Outbox:
    """Steps of alerts that are put in the store by hand, and sent at chosen moments."""

    def __init__(self, store: Store, webhook: Webhook) -> None:
        self.store = store
        self.settings = Alerts.model_validate(
            {
                "notify_urls": webhook.url,
                "webhook_url": f"http://127.0.0.1:{webhook.server_address[1]}/{SECRET}",
                "webhook_secret": "shared",
                "notify_timeout_seconds": 1,
            }
        )
        # Apprise and the log are tried elsewhere.
        self.channels: Sequence[Channel] = open_channels(self.settings)[2:]
        self.alerts: dict[Key, Alert] = {}

    def see(self, seconds: float, *findings: Finding) -> None:
        """Let an evaluation find these."""
        self.alerts, steps = step(
            findings,
            self.alerts,
            fresh=True,
            now=NOW + timedelta(seconds=seconds),
            timing=Timing(timedelta(0), timedelta(0)),
        )
        keep(self.store, self.alerts.values(), steps)

    def at(self, seconds: float) -> str:
        """Send what is due."""
        now = NOW + timedelta(seconds=seconds)
        return _said(send_due(self.store, self.channels, self.settings, now))

    def down(self, seconds: float) -> list[Finding]:
        """Return what is said of channels."""
        now = NOW + timedelta(seconds=seconds)
        return channel_findings(health(self.store, names(self.channels), now), now)


@pytest.fixture
def outbox(store: Store, webhook: Webhook) -> Outbox:
    return Outbox(store, webhook)


def found(rule: str = "errors", cause: str = "chat") -> Finding:
    return Finding(
        rule=rule,
        severity="page",
        scope=Scope("feature", cause),
        since=NOW,
        until=NOW,
        observed=Decimal("0.5"),
        usual=Decimal("0.01"),
        unit="share",
        title="50.0 % failed",
        facts=("Seen in the 5 minutes up to 14:00 UTC.",),
        contributors=(Contributor((("feature", cause),), (), Decimal(9), Decimal(1), 1.0),),
        shared=(),
        examples=(),
        link="/calls?range=last+24+hours",
    )


def outcomes(store: Store) -> list[tuple[str, int]]:
    return [(each.outcome, each.tries) for each in recent_deliveries(store, _ALL)]


def test_a_webhook_of_apprise_gets_the_alert_once_with_cause_and_key(
    failing: Store, webhook: Webhook
) -> None:
    assert run(failing, NOW, webhook.url, dashboard_url="https://costs.test/") == "2 delivered"
    assert run(failing, NOW + MINUTE, webhook.url) == ""
    (body,) = webhook.bodies
    assert body["title"].startswith("[PAGE] errors: 100.0 % of ")
    for words in (
        "error_kind=server_error",
        "https://costs.test/calls?trace=",
        "What to do: https://costs.test/alerts?runbook=errors",
        "Silence it: https://costs.test/alerts?silence=",
        "Severity page, rule errors, fingerprint ",
    ):
        assert words in body["message"]
    assert len(re.findall("Example: ", body["message"])) <= 3
    (key,) = webhook.keys
    assert key is not None
    assert f"message {key}." in body["message"]


def test_our_webhook_is_signed_and_has_all_of_it_as_json(outbox: Outbox, webhook: Webhook) -> None:
    outbox.see(0, found())
    assert outbox.at(0) == "1 delivered"
    (body,) = webhook.bodies
    assert (body["schema"], body["rule"], body["state"]) == (1, "errors", "firing")
    assert body["causes"][0]["where"] == {"feature": "chat"}
    assert body["message_id"] == webhook.keys[0]
    moment, _, mac = webhook.signatures[0].removeprefix("t=").partition(",v1=")
    assert mac == signature("shared", int(moment), webhook.raw[0])
    assert mac != signature("other", int(moment), webhook.raw[0])


def test_a_channel_that_fails_is_tried_again_later_and_later_with_one_key(
    outbox: Outbox, webhook: Webhook
) -> None:
    webhook.answers = [500, 503, 429, 500, 500, 500]
    outbox.see(0, found())
    tried = [
        seconds
        for seconds in (0, 4, 5, 19, 20, 79, 80, 379, 380, 1279, 1280, 2179, 2180, 3080, 9999)
        if outbox.at(seconds)
    ]
    assert tried == [0, 5, 20, 80, 380, 1280, 2180]
    assert len(set(webhook.keys)) == 1
    assert outcomes(outbox.store) == [("delivered", 7)]


def test_after_a_day_a_letter_is_dead_and_goes_when_the_channel_works_again(
    outbox: Outbox, webhook: Webhook
) -> None:
    webhook.answers = [500, 500]
    outbox.see(0, found())
    assert [outbox.at(0), outbox.at(5)] == ["1 failed", "1 failed"]
    day = 86_500
    assert outbox.at(day) == "1 dead"
    assert outcomes(outbox.store) == [("failed", 2)]  # seen on the page
    outbox.see(day, found(), found("no_data", "x"))
    assert outbox.at(day + 1) == "1 delivered, 1 dead"
    assert outbox.at(day + 2) == "1 delivered"
    assert [body["rule"] for body in webhook.bodies[2:]] == ["no_data", "errors"]


def test_a_broken_channel_gets_one_message_at_a_time_and_others_hear_of_it(
    outbox: Outbox, webhook: Webhook
) -> None:
    webhook.answers = [500] * 99
    outbox.see(0, found(), found("budget", "a"), found("clock", "b"))
    for seconds in range(0, 600, 20):
        outbox.at(seconds)
    assert len(webhook.bodies) <= 6
    (down,) = outbox.down(600)
    assert (down.rule, down.severity, down.episode) == ("channel_down", "ticket", "webhook")
    assert SECRET not in str(down)
    outbox.see(600, down, found(), found("budget", "a"), found("clock", "b"))
    told: list[str] = []

    class Other:
        name, keyed = "other", True

        def send(self, message: Message) -> Outcome:
            told.append(message.payload["rule"])
            return Outcome(delivered=True, detail="")

    outbox.channels = [*outbox.channels, Other()]
    outbox.at(601)
    assert sorted(told) == ["budget", "channel_down", "clock", "errors"]
    webhook.answers = []
    webhook.bodies.clear()
    assert outbox.at(2000) == "3 delivered"
    assert sorted(body["rule"] for body in webhook.bodies) == ["budget", "clock", "errors"]
    assert outbox.down(9999) == []


def test_a_channel_that_never_answers_is_let_go_in_bounded_time(
    outbox: Outbox, webhook: Webhook
) -> None:
    webhook.hold.clear()
    outbox.see(0, found())
    began = datetime.now(UTC)
    assert outbox.at(0) == "1 failed"
    assert datetime.now(UTC) - began < timedelta(seconds=10)


def test_a_newer_step_takes_the_place_of_one_not_yet_delivered(
    outbox: Outbox, webhook: Webhook
) -> None:
    webhook.answers = [500]
    outbox.see(0, found())
    outbox.at(0)
    outbox.see(60)
    outbox.see(80)
    assert outbox.at(80) == "1 delivered"
    assert [body["state"] for body in webhook.bodies] == ["firing", "resolved"]
    assert sorted(outcomes(outbox.store)) == [("delivered", 1), ("superseded", 1)]


@pytest.mark.parametrize(("keyed", "ends"), [(True, "delivered"), (False, "unknown")])
def test_a_send_that_died_is_made_again_only_where_a_second_one_is_known_as_such(
    outbox: Outbox, keyed: bool, ends: str
) -> None:
    class Dies:
        name = "phone"
        sent: ClassVar[list[str]] = []

        def __init__(self) -> None:
            self.keyed = keyed
            self.sent.clear()

        def send(self, message: Message) -> Outcome:
            self.sent.append(message.message_id)
            if len(self.sent) == 1:
                raise SystemExit
            return Outcome(delivered=True, detail="")

    outbox.channels = [Dies()]
    outbox.see(0, found())
    with pytest.raises(SystemExit):
        outbox.at(0)
    assert outbox.at(1) == ""  # its sender may be alive
    outbox.at(60)
    assert len(set(Dies.sent)) == 1
    assert len(Dies.sent) == (2 if keyed else 1)
    assert outcomes(outbox.store)[0][0] == ends


def test_of_two_processes_that_send_at_once_one_does(outbox: Outbox) -> None:
    sent: list[str] = []

    class Meets:
        name, keyed = "phone", True

        def send(self, message: Message) -> Outcome:
            sent.append(message.message_id)
            if len(sent) == 1:
                outbox.at(0)  # the other process, while this one sends
            return Outcome(delivered=True, detail="")

    outbox.channels = [Meets()]
    outbox.see(0, found())
    assert outbox.at(0) == "1 delivered"
    assert len(sent) == 1


def test_a_redirect_is_not_followed(outbox: Outbox, webhook: Webhook) -> None:
    webhook.answers = [307]
    outbox.see(0, found())
    assert outbox.at(0) == "1 failed"


def test_alertmanager_gets_what_goes_on_and_its_end_for_a_while(
    outbox: Outbox, webhook: Webhook
) -> None:
    address = f"http://127.0.0.1:{webhook.server_address[1]}"
    settings = Alerts.model_validate({"alertmanager_url": address, "dashboard_url": "https://c.t"})

    def pushed(seconds: float) -> list[dict[str, Any]]:
        assert push(settings, outbox.alerts.values(), NOW + timedelta(seconds=seconds)).delivered
        body: Any = webhook.bodies[-1]
        assert webhook.paths[-1] == "/api/v2/alerts"
        assert body[0]["labels"]["alertname"] == "CostspanWatchdog"
        return body[1:]

    outbox.see(0, found())
    (first,) = pushed(0)
    outbox.see(60, found(cause="search"))
    (second,) = pushed(60)
    assert first["labels"] == second["labels"]
    assert first["startsAt"] == second["startsAt"] == NOW.isoformat()
    assert second["endsAt"] == (NOW + timedelta(minutes=5)).isoformat()
    assert first["generatorURL"].startswith("https://c.t/alerts?alert=")
    outbox.see(120)
    outbox.see(160)
    (ended,) = pushed(180)
    assert ended["endsAt"] <= (NOW + timedelta(seconds=180)).isoformat()
    assert pushed(600) == []


def test_the_heartbeat_is_asked_for_after_an_evaluation_that_worked(
    store: Store, webhook: Webhook
) -> None:
    url = f"http://127.0.0.1:{webhook.server_address[1]}/ping/{SECRET}"
    settings = Alerts.model_validate({"heartbeat_url": url})
    assert evaluate_now(store, settings, NOW).not_told == {}
    assert webhook.paths == [f"GET /ping/{SECRET}"]
    store.command("RENAME TABLE alert_events TO away")
    with pytest.raises(Rejected):
        evaluate_now(store, settings, NOW)
    store.command("RENAME TABLE away TO alert_events")
    assert len(webhook.paths) == 1
    webhook.answers = [500]
    assert evaluate_now(store, settings, NOW).not_told == {"heartbeat": "answered 500"}


def test_an_alertmanager_and_a_heartbeat_that_do_not_answer_are_alerts_of_their_own(
    store: Store, webhook: Webhook
) -> None:
    here, nowhere = f"http://127.0.0.1:{webhook.server_address[1]}", "http://127.0.0.1:1"

    def down(minute: float, alertmanager: str, heartbeat: str) -> list[str]:
        settings = Alerts.model_validate(
            {
                "for_seconds": 0,
                "alertmanager_url": alertmanager,
                "heartbeat_url": f"{heartbeat}/{SECRET}",
                "webhook_url": here,
            }
        )
        seen = evaluate_now(store, settings, NOW + minute * MINUTE)
        assert SECRET not in str(seen)
        return [one.episode for one in seen.findings if one.rule == "channel_down"]

    assert [down(minute, nowhere, nowhere) for minute in range(5)] == [[]] * 5
    assert down(5.1, nowhere, here) == ["alertmanager", "heartbeat"]
    assert sorted(body["title"] for body in webhook.bodies) == [
        "[TICKET] channel_down: Messages do not arrive through alertmanager",
        "[TICKET] channel_down: Messages do not arrive through heartbeat",
    ]
    text = exposition(store, Alerts(), NOW + 5.2 * MINUTE)
    assert 'costspan_notifications{channel="alertmanager",outcome="failed"} 1\n' in text
    assert 'costspan_alerts{rule="channel_down",severity="ticket",state="firing"} 2\n' in text
    assert down(6, nowhere, here) == ["alertmanager"]  # the heartbeat was answered
    assert down(7, here, here) == ["alertmanager"]
    assert down(8, here, here) == []
    rows = [one for one in recent_deliveries(store, _ALL) if one.channel == "alertmanager"]
    assert [(one.outcome, one.detail) for one in rows] == [("delivered", "")]


def test_prometheus_reads_states_spend_and_messages(outbox: Outbox) -> None:
    outbox.see(0, found())
    outbox.at(0)
    text = exposition(outbox.store, outbox.settings, NOW + MINUTE)
    assert 'costspan_alerts{rule="errors",severity="page",state="firing"} 1\n' in text
    assert 'costspan_notifications{channel="webhook",outcome="delivered"} 1\n' in text
    assert text.count("# TYPE ") == text.count("# HELP ")


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        (
            "notify_urls",
            f"json://127.0.0.1:9/x, nonsense://{SECRET}",
            "URL number 2 in COSTSPAN_AL",
        ),
        ("webhook_url", f"ftp://{SECRET}", "COSTSPAN_ALERTS_WEBHOOK_URL is no address"),
        ("alertmanager_url", SECRET, "COSTSPAN_ALERTS_ALERTMANAGER_URL is no address"),
    ],
)
def test_a_bad_address_is_refused_at_the_start_by_its_place(
    store: Store, setting: str, value: str, words: str
) -> None:
    settings = Alerts.model_validate({setting: value})
    with pytest.raises(Rejected, match=words) as refused:
        Loop(store, settings)
    assert SECRET not in str(refused.value)


def test_a_wrong_limit_is_refused_at_the_start_by_its_line(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "alerts.toml"
    file.write_text("disabled = []\n[spend]\nz = -1")
    with pytest.raises(Rejected, match=r"alerts\.toml, line 3: spend\.z must be more than 0"):
        Loop(store, Alerts(file=file))


def test_no_secret_is_logged_stored_or_named(
    outbox: Outbox, webhook: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    webhook.answers = [500, 500]
    outbox.channels = open_channels(outbox.settings)
    outbox.see(0, found())
    assert outbox.at(0) == "1 delivered, 2 failed"
    kept = [str(each) for each in recent_deliveries(outbox.store, _ALL)]
    named = [f"{channel.name} {channel!r}" for channel in outbox.channels]
    everything = "\n".join([caplog.text, repr(outbox.settings), *named, *kept])
    assert SECRET not in everything
    assert "JSON #1" in everything


def test_the_scheduler_evaluates_and_leaves_a_row(store: Store) -> None:
    scheduler = BackgroundScheduler(timezone="UTC")
    scheduler.start(paused=True)
    Loop(store, Alerts(), lambda: NOW).schedule(scheduler)
    job: Any = scheduler.get_job("alerts")  # pyright: ignore[reportUnknownVariableType]
    job.func()
    scheduler.shutdown()
    last = last_evaluation(store)
    assert last is not None
    assert last.status == "ok"
    assert last.detail.startswith("no calls arrive; 0 firing")


def test_between_evaluations_what_failed_is_sent_again(outbox: Outbox, webhook: Webhook) -> None:
    webhook.answers = [500]
    outbox.see(0, found())
    times = iter([NOW, NOW + timedelta(seconds=6), NOW + timedelta(seconds=12)])
    settings = outbox.settings.model_copy(update={"notify_urls": SecretStr("")})
    scheduler = BackgroundScheduler(timezone="UTC")
    scheduler.start(paused=True)
    Loop(outbox.store, settings, lambda: next(times)).schedule(scheduler)
    for name in ("alerts", "alert_messages", "alert_messages"):
        job: Any = scheduler.get_job(name)  # pyright: ignore[reportUnknownVariableType]
        job.func()
    scheduler.shutdown()
    assert len(webhook.bodies) == 2
    assert next(times) == NOW + timedelta(seconds=12)  # the third found nothing to do
