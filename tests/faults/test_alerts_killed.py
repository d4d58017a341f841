"""An end before each write of an evaluation: no step is lost, and nobody is told twice."""

import json
import runpy
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from costspan_collector.store import Store
from costspan_dashboards.alerts.evaluate import evaluate_now
from costspan_dashboards.alerts.queries import live_alerts
from costspan_dashboards.alerts.settings import Alerts

FAILING = runpy.run_path(str(Path(__file__).with_name("alert_once.py")))["FAILING"]
Heard = tuple[str, dict[str, Any]]
NOW = datetime(2026, 11, 18, 14, 0, tzinfo=UTC)


@pytest.fixture
def heard() -> Iterator[tuple[str, list[Heard]]]:
    """A webhook on loopback, and what it was sent: key and body."""
    got: list[Heard] = []

    class Receive(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            got.append((self.headers["Idempotency-Key"], body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receive)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/", got
    server.shutdown()
    thread.join()
    server.server_close()


WRITES = ["alert_events", "alert_states"] + ["notifications"] * 4
"""What an evaluation writes: steps, states, and a claim and its outcome for the log and the hook."""


class Killed(BaseException):
    """The end of a process, as far as one that goes on can tell."""


def dying_after(writes: int, patch: pytest.MonkeyPatch) -> list[str]:
    """Let so many writes be made; return the list of the tables they went to."""
    written: list[str] = []
    insert = Store.insert_blocks

    def once(self: Store, table: str, blocks: bytes, **more: Any) -> None:
        if len(written) == writes:
            raise Killed
        written.append(table)
        insert(self, table, blocks, **more)

    patch.setattr(Store, "insert_blocks", once)
    return written


def told_once(heard: list[Heard], states: list[tuple[str, str]]) -> None:
    """Check that one message was told, a second one having its key, and that its alert goes on."""
    (body,) = {key: body for key, body in heard}.values()
    assert (body["rule"], body["state"], body["schema"]) == ("errors", "firing", 1)
    assert states == [(body["alert_id"], "firing")]


def test_an_end_before_any_write_loses_no_step_and_tells_nobody_twice(
    heard: tuple[str, list[Heard]], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, got = heard
    since = NOW - timedelta(minutes=10)
    store.command(FAILING, since=int(since.timestamp() * 1e6))
    settings = Alerts(for_seconds=0, webhook_url=SecretStr(address))
    for dies_at in range(len(WRITES) + 1):
        got.clear()
        for table in dict.fromkeys(WRITES):
            store.command(f"TRUNCATE TABLE {table}")
        with monkeypatch.context() as patch:
            written = dying_after(dies_at, patch)
            with nullcontext() if dies_at == len(WRITES) else pytest.raises(Killed):
                evaluate_now(store, settings, NOW + timedelta(seconds=90))
        assert written == WRITES[:dies_at]
        evaluate_now(store, settings, NOW + timedelta(seconds=150))
        told_once(got, [(one.alert_id, one.state) for one in live_alerts(store)])


@pytest.mark.parametrize(
    "writes",
    [
        [6],  # it was told, and nobody wrote that down
        pytest.param([1, 2, 3, 4, 5, 6, 7], marks=pytest.mark.bench),
    ],
    ids=["the worst", "every"],
)
@pytest.mark.timeout(240)
def test_a_kill_before_a_write_loses_no_step_and_tells_nobody_twice(
    writes: list[int],
    heard: tuple[str, list[Heard]],
    tmp_path: Path,
    dying: Callable[..., Callable[..., list[str]]],
) -> None:
    address, got = heard
    run = dying("alert_once.py")
    url = f"chdb://{tmp_path}/store"
    assert run(0, url, "prepare", NOW.isoformat())[-1] == "ended 0"
    for nth in writes:
        got.clear()
        *died, ended = run(nth, url, address, NOW.isoformat(), "first")
        assert ended == ("ended -9" if nth <= len(WRITES) else "ended 0")
        written = [line[6:] for line in died if line.startswith("write ")]
        assert written == WRITES[:nth]
        later = (NOW + timedelta(minutes=1)).isoformat()
        *after, ended = run(0, url, address, later)
        assert ended == "ended 0"
        (state,) = [json.loads(line[6:]) for line in after if line.startswith("state ")]
        told_once(got, [(each[0], each[1]) for each in state])
