"""What Slack, an e-mail and a webhook are sent of an alert holds all that people must know."""

import json
import socketserver
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from costspan_dashboards.alerts.cause import Contributor
from costspan_dashboards.alerts.channels import AppriseChannel
from costspan_dashboards.alerts.finding import Example, Finding
from costspan_dashboards.alerts.message import Message, compose
from costspan_dashboards.alerts.scopes import Scope
from costspan_dashboards.alerts.state import Alert, Timing, advance
from costspan_dashboards.alerts.webhook import WebhookChannel

pytestmark = pytest.mark.filterwarnings("ignore:.imghdr. is deprecated:DeprecationWarning")
NOW = datetime(2026, 11, 18, 14, 0, tzinfo=UTC)
ROOT = "https://costs.test"
WAITING = (
    "That is 12.0 such attempts a minute; 8.0 calls a minute fail for good. At this rate the errors "
    "that the objective allows in 28 days last 5.2 h more."
)


def alert(user: str = "u1") -> Alert:
    """An alert that fires, with all there may be to say."""
    where = (("feature", "review"), ("error_kind", "timeout"))
    finding = Finding(
        rule="errors",
        severity="page",
        scope=Scope("feature", "review"),
        since=NOW - timedelta(minutes=15),
        until=NOW,
        observed=Decimal("0.2"),
        usual=Decimal("0.011"),
        unit="share",
        title="20.0 % of attempts of feature=review failed with timeout (30 of 150), usually 1.1 %",
        facts=(WAITING, f"93 % of the excess failures is feature=review, half of it user={user}."),
        contributors=(
            Contributor(where, (), Decimal(28), Decimal(2), 0.93),
            Contributor((("user", user),), (), Decimal(2), Decimal(0), 0.07),
        ),
        shared=where,
        examples=tuple(
            Example(f"{place:032x}", f"{place:016x}", NOW, 1_000_000, None, "timeout")
            for place in range(4)
        ),
        link="/calls?range=last+24+hours&feature=review&show=failed",
        kind="error kind",
        waiting=WAITING,
        changes=("New: prompt=v2 was not seen on other days in feature=review.",),
    )
    timing = Timing(timedelta(0), timedelta(0))
    fired, _ = advance(None, finding, fresh=True, now=NOW, timing=timing)
    assert fired
    return fired


class Receiver(ThreadingHTTPServer):
    """Keeps the JSON that it is sent."""

    got: Any = None


class _Receive(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got = json.loads(body)  # pyright: ignore[reportAttributeAccessIssue]
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


class Mailbox(socketserver.ThreadingTCPServer):
    """As much of a mail server as one letter needs."""

    letter = b""


class _Letters(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.wfile.write(b"220 here\r\n")
        while line := self.rfile.readline():
            word = line.strip().upper()[:4]
            if word == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                lines: list[bytes] = []
                while (part := self.rfile.readline()) != b".\r\n":
                    lines.append(part)
                self.server.letter = b"".join(lines)  # pyright: ignore[reportAttributeAccessIssue]
            elif word == b"QUIT":
                self.wfile.write(b"221 bye\r\n")
                return
            self.wfile.write(b"250 ok\r\n")


@contextmanager
def serving(made: Any) -> Generator[Any]:
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture
def here() -> Iterator[Any]:
    with serving(Receiver(("127.0.0.1", 0), _Receive)) as made:
        yield made


@pytest.fixture(params=[(Receiver, _Receive), (Mailbox, _Letters)], ids=["http", "mail"])
def server(request: pytest.FixtureRequest) -> Iterator[Any]:
    kind, handler = request.param
    with serving(kind(("127.0.0.1", 0), handler)) as made:
        yield made


def rendered(server: Any, message: Message, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return what arrives, as a person reads it, by channel."""
    port = server.server_address[1]
    if isinstance(server, Mailbox):
        url = (
            f"mailto://127.0.0.1:{port}/?from=alerts@costs.test&to=oncall@costs.test&mode=insecure"
        )
        assert AppriseChannel(url, 1, 10).send(message).delivered
        letter = message_from_bytes(server.letter, policy=policy.default)
        body = letter.get_body(("plain", "html"))
        assert body
        return {"e-mail": f"{letter['subject']}\n{body.get_content()}"}
    here = f"http://127.0.0.1:{port}"
    assert WebhookChannel(here, "s", 10).send(message).delivered
    texts = {"webhook": f"{server.got['title']}\n{server.got['text']}"}
    monkeypatch.setattr("apprise.plugins.slack.NotifySlack.webhook_url", here)
    assert AppriseChannel("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ", 1, 10).send(
        message
    )
    (part,) = server.got["attachments"]
    texts["slack"] = f"{part['title']}\n{part['text']}"
    return texts


def plain(text: str) -> str:
    """Return a text without what the services escape."""
    for escaped, one in {"&amp;": "&", "&gt;": ">", "&lt;": "<", "\r\n": "\n"}.items():
        text = text.replace(escaped, one)
    return text


def test_what_arrives_holds_every_item(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fired = alert()
    message = compose(fired, "lasts", "m1", ROOT)
    for channel, text in rendered(server, message, monkeypatch).items():
        for words in (
            "[PAGE] errors: 20.0 % of attempts of feature=review failed with timeout",
            "usually 1.1 %",
            "first seen 2026-11-18 13:45 UTC",
            "8.0 calls a minute fail for good",
            "the objective allows in 28 days last 5.2 h more",
            "93 % of the excess failures is feature=review",
            *(f"{ROOT}/calls?trace={place:032x}" for place in range(3)),
            f"{ROOT}/calls?range=last+24+hours&feature=review&show=failed",
            f"{ROOT}/alerts?runbook=errors",
            f"{ROOT}/alerts?silence={fired.alert_id}",
            f"Severity page, rule errors, fingerprint {fired.fingerprint}",
        ):
            assert words in plain(text), channel
        assert f"{3:032x}" not in text


def test_a_service_that_takes_fewer_characters_gets_the_first_of_them(
    monkeypatch: pytest.MonkeyPatch, here: Any
) -> None:
    monkeypatch.setattr("apprise.plugins.custom_json.NotifyJSON.body_maxlen", 1024)
    message = compose(alert(), "lasts", "m1", ROOT, [alert("u2")] * 9)
    assert len(message.body) > 1024
    url = f"json://127.0.0.1:{here.server_address[1]}/"
    assert AppriseChannel(url, 1, 10).send(message).delivered
    text = here.got["message"]
    assert len(text) <= 1024
    assert f"Silence it: {ROOT}/alerts?silence=" in text
    # Whoever wants several messages instead says so in the URL.
    assert AppriseChannel(f"{url}?overflow=split", 1, 10).send(message).delivered
    assert "Example: " in here.got["message"]


def test_the_webhook_has_each_item_as_a_field() -> None:
    payload = compose(alert(), "lasts", "m1", ROOT).payload
    assert payload["cost_of_waiting"] == WAITING
    assert (payload["observed"], payload["usual"], payload["unit"]) == ("0.2", "0.011", "share")
    assert [one["share"] for one in payload["causes"]] == [0.93, 0.07]
    assert payload["causes"][0]["where"] == {"feature": "review", "error_kind": "timeout"}
    assert payload["kind"] == "error kind"
    assert payload["changes"] == ["New: prompt=v2 was not seen on other days in feature=review."]
    assert len(payload["example_traces"]) == 3
    assert set(payload["links"]) == {"calls", "alert", "silence", "runbook"}


def test_an_address_of_a_user_is_in_no_message_unless_that_is_switched_on() -> None:
    fired = alert("ann.lee+x@mail.example.test")
    hidden = compose(fired, "lasts", "m1", ROOT, [replace(fired, alert_id="other")])
    everything = json.dumps(hidden.payload) + hidden.title + hidden.body
    assert "ann.lee" not in everything
    assert "example.test" not in everything
    assert "user=address-" in hidden.body
    (_, second) = hidden.payload["causes"]
    assert second["where"]["user"] in hidden.body  # the same mark wherever it stands
    shown = compose(fired, "lasts", "m1", ROOT, shows_addresses=True)
    assert "user=ann.lee+x@mail.example.test" in shown.body
