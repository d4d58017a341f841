"""Messages over real HTTP to a loopback server that can say no, and once is once."""

import json
import logging
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from apscheduler.schedulers.background import BackgroundScheduler

from costspan.errors import Rejected
from costspan_collector.store import Store
from costspan_dashboards.alerts.channels import open_channels
from costspan_dashboards.alerts.evaluate import add_jobs, evaluate_now
from costspan_dashboards.alerts.queries import last_evaluation, recent_deliveries
from costspan_dashboards.alerts.settings import Alerts
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
        self.bodies: list[dict[str, Any]] = []
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
        self.server.keys.append(self.headers.get("Idempotency-Key"))
        self.send_response(self.server.answers.pop(0) if self.server.answers else 200)
        self.send_header("Location", "http://127.0.0.1:1/elsewhere")
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
            error_type, duration_us, ingest_id)
        SELECT fromUnixTimestamp64Micro(toInt64({since:Int64} + number * 3000000), 'UTC'),
            MD5(toString(number)), toFixedString(substring(MD5(toString(number)), 1, 8), 8),
            'chat', 'gpt-4o-mini', 'error', 'server_error', 1000, 1
        FROM numbers(1200)
        """,
        since=int((NOW - 10 * MINUTE).timestamp() * 1e6),
    )
    return store


def run(store: Store, now: datetime, *urls: str, **settings: object) -> str:
    """Evaluate at `now` with these channels; return what was sent."""
    alerts = Alerts.model_validate({"for_seconds": 0, "notify_urls": ", ".join(urls), **settings})
    sent = evaluate_now(store, alerts, now + timedelta(seconds=90)).sent
    return f"{sent.delivered} delivered, {sent.failed} failed"


def webhook_tries(store: Store) -> list[tuple[str, int]]:
    return [
        (each.outcome, each.tries)
        for each in recent_deliveries(store, _ALL)
        if each.channel != "log"
    ]


def test_a_webhook_gets_the_alert_once_with_cause_and_key(failing: Store, webhook: Webhook) -> None:
    assert run(failing, NOW, webhook.url, dashboard_url="https://costs.test/") == (
        "2 delivered, 0 failed"
    )
    for minute in (0, 1, 2, 3):
        run(failing, NOW + minute * MINUTE, webhook.url)
    (body,) = webhook.bodies
    assert body["title"].startswith("[PAGE] errors: 100.0 % of ")
    assert "error_type=server_error" in body["message"]
    assert "https://costs.test/calls?trace=" in body["message"]
    (key,) = webhook.keys
    assert key is not None
    assert f"message {key}." in body["message"]


def test_a_channel_that_is_down_is_tried_again_and_holds_up_no_other(
    failing: Store, webhook: Webhook
) -> None:
    webhook.answers = [500, 503, 429]
    tries = [run(failing, NOW + minute * MINUTE, webhook.url) for minute in range(9)]
    assert tries == [
        "1 delivered, 1 failed",  # the log has it at once
        "0 delivered, 1 failed",  # a minute later
        "0 delivered, 0 failed",
        "0 delivered, 1 failed",  # two more
        "0 delivered, 0 failed",
        "0 delivered, 0 failed",
        "0 delivered, 0 failed",
        "1 delivered, 0 failed",  # four more
        "0 delivered, 0 failed",
    ]
    assert len(set(webhook.keys)) == 1
    assert webhook_tries(failing) == [("delivered", 4)]


def test_tries_are_bounded_and_the_failure_stays_visible(failing: Store, webhook: Webhook) -> None:
    webhook.answers = [500] * 50
    for minute in range(20):
        run(failing, NOW + minute * MINUTE, webhook.url, notify_tries=3)
    assert len(webhook.bodies) == 3
    assert webhook_tries(failing) == [("failed", 3)]


def test_a_channel_that_never_answers_is_let_go_in_bounded_time(
    failing: Store, webhook: Webhook
) -> None:
    webhook.hold.clear()
    began = datetime.now(UTC)
    assert run(failing, NOW, webhook.url, notify_timeout_seconds=0.5) == "1 delivered, 1 failed"
    assert datetime.now(UTC) - began < timedelta(seconds=10)


def test_a_newer_step_takes_the_place_of_one_not_yet_delivered(
    failing: Store, webhook: Webhook
) -> None:
    webhook.answers = [500]
    run(failing, NOW, webhook.url)
    failing.command("ALTER TABLE calls UPDATE status = 'ok' WHERE 1 SETTINGS mutations_sync = 2")
    for minute in range(1, 8):
        run(failing, NOW + minute * MINUTE, webhook.url, notify_tries=1)
    assert [body["title"].partition("]")[0] for body in webhook.bodies] == ["[PAGE", "[RESOLVED"]
    assert sorted(webhook_tries(failing)) == [("delivered", 1), ("superseded", 1)]


def test_a_redirect_is_not_followed(failing: Store, webhook: Webhook) -> None:
    webhook.answers = [307]
    assert run(failing, NOW, webhook.url) == "1 delivered, 1 failed"


def test_a_bad_url_is_refused_at_the_start_by_its_place(store: Store) -> None:
    urls = f"json://127.0.0.1:9/x, nonsense://{SECRET}"
    settings = Alerts.model_validate({"notify_urls": urls})
    with pytest.raises(Rejected, match="URL number 2 in COSTSPAN_ALERTS_NOTIFY_URLS") as refused:
        add_jobs(BackgroundScheduler(), store, settings)
    assert SECRET not in str(refused.value)


def test_no_secret_is_logged_stored_or_named(
    failing: Store, webhook: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    webhook.answers = [500]
    settings = Alerts.model_validate({"for_seconds": 0, "notify_urls": webhook.url})
    run(failing, NOW, webhook.url)
    (_, channel) = open_channels(settings)
    kept = [str(each) for each in recent_deliveries(failing, _ALL)]
    everything = "\n".join([caplog.text, channel.name, repr(settings), repr(channel), *kept])
    assert SECRET not in everything
    assert "JSON #1" in everything


def test_the_scheduler_evaluates_and_leaves_a_row(store: Store) -> None:
    scheduler = BackgroundScheduler(timezone="UTC")
    scheduler.start(paused=True)
    add_jobs(scheduler, store, Alerts(), clock=lambda: NOW)
    job: Any = scheduler.get_job("alerts")  # pyright: ignore[reportUnknownVariableType]
    job.func()
    scheduler.shutdown()
    last = last_evaluation(store)
    assert last is not None
    assert last.status == "ok"
    assert last.detail.startswith("no calls arrive; 0 firing")
