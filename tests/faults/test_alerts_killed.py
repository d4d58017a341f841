"""kill -9 before each write of an evaluation: no step is lost, and nobody is told twice."""

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

NOW = datetime(2026, 11, 18, 14, 0, tzinfo=UTC)


@pytest.fixture
def heard() -> Iterator[tuple[str, list[tuple[str, dict[str, Any]]]]]:
    """A webhook on loopback, and what it was sent: key and body."""
    got: list[tuple[str, dict[str, Any]]] = []

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


@pytest.mark.timeout(240)
def test_a_kill_at_any_write_loses_no_step_and_tells_nobody_twice(
    heard: tuple[str, list[tuple[str, dict[str, Any]]]],
    tmp_path: Path,
    dying: Callable[..., Callable[..., list[str]]],
) -> None:
    address, got = heard
    run = dying("alert_once.py")
    url = f"chdb://{tmp_path}/store"
    assert run(0, url, "prepare", NOW.isoformat())[-1] == "ended 0"
    written: list[str] = []
    for nth in range(1, 20):
        got.clear()
        *died, ended = run(nth, url, address, NOW.isoformat(), "first")
        if ended == "ended 0":
            break
        assert ended == "ended -9"
        written.append([line[6:] for line in died if line.startswith("write ")][-1])
        later = (NOW + timedelta(minutes=1)).isoformat()
        *after, ended = run(0, url, address, later)
        assert ended == "ended 0"
        bodies = {key: body for key, body in got}
        (body,) = bodies.values()  # a second one has the key of the first
        assert (body["rule"], body["state"], body["schema"]) == ("errors", "firing", 1)
        (state,) = [json.loads(line[6:]) for line in after if line.startswith("state ")]
        assert [(each[0], each[1]) for each in state] == [(body["alert_id"], "firing")]
    else:
        pytest.fail("it never came to its end")
    assert written == ["alert_events", "alert_states"] + ["notifications"] * 4
    assert len(got) == 1
