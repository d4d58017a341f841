import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest


@pytest.fixture
def costspan(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a command on a directory of the test's own; nothing of it is left running."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "costspan", *arguments],
            env={**os.environ, "COSTSPAN_CLICKHOUSE_URL": f"chdb://{tmp_path}/data"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def last_line(process: subprocess.Popen[str]) -> str:
    """Wait for the command to fail; return what it says last."""
    _, error = process.communicate()
    assert process.returncode == 1
    assert "Traceback" not in error
    return error.splitlines()[-1]


def test_the_collector_receives_until_it_is_told_to_stop(costspan: Any, wire: Any) -> None:
    process = costspan("collector", "--port", "0", "--json")
    told = json.loads(process.stdout.readline())
    body = wire.request(wire.span(1)).SerializeToString()
    headers = {"content-type": "application/x-protobuf"}
    assert httpx2.post(told["traces"], content=body, headers=headers).status_code == 200
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 0


def test_a_directory_in_use_is_one_clear_line(costspan: Any) -> None:
    process = costspan("collector", "--port", "0", "--json")
    assert process.stdout.readline()
    assert "is in use by another costspan process" in last_line(costspan("migrate"))


def test_a_port_in_use_is_one_clear_line(costspan: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = last_line(costspan("collector", "--port", str(port)))
    assert f"port {port} on 127.0.0.1 cannot be used" in told


def test_migrate_names_what_it_would_do_then_does_it(costspan: Any) -> None:
    told: list[dict[str, Any]] = []
    for arguments in (["--dry-run"], [], []):
        process = costspan("migrate", "--json", *arguments)
        output, _ = process.communicate()
        assert process.returncode == 0
        told.append(json.loads(output))
    assert [run["dry_run"] for run in told] == [True, False, False]
    assert told[0]["migrations"] == told[1]["migrations"]
    assert told[0]["migrations"][0] == "0001_calls.sql"
    assert told[2]["migrations"] == []
