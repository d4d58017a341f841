"""`costspan demo` as a person runs it: a command, its processes, a signal."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start `costspan demo`, its temporary files below `tmp_path`; kill what the test left."""
    started: list[subprocess.Popen[str]] = []

    def run(*arguments: str, **environ: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "costspan", "demo", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"TMPDIR": str(tmp_path)} | environ,
            text=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def _children(process: subprocess.Popen[str]) -> list[int]:
    """Return the ids of all processes below `process`."""
    found: list[int] = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == process.pid:
            found.append(int(stat.parent.name))
    return found


def _gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def _wait_until_gone(pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            select.select([os.pidfd_open(pid)], [], [], 20)  # readable when the process ends
        assert _gone(pid)


def test_the_check_proves_every_call_and_every_digit(start: Start, tmp_path: Path) -> None:
    # Settings meant for real services must not reach the demo.
    process = start(
        "--check",
        "--json",
        "--port=0",
        COSTSPAN_CLICKHOUSE_URL="https://costspan.invalid/x",
        COSTSPAN_CAPTURE_ENABLED="false",
        OTEL_SDK_DISABLED="true",
        OPENAI_BASE_URL="https://openai.invalid",
    )
    out, err = process.communicate()
    assert process.returncode == 0, out + err
    document: dict[str, Any] = json.loads(out)
    assert document["ok"] is True
    assert document["seconds"] < 120
    assert len(document["checks"]) == 10
    for check in document["checks"]:
        assert check["expected"] == check["found"]
    arrived = document["checks"][1]["found"]
    assert arrived["calls"] == arrived["accepted"] == arrived["stored"] == 80
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing_running_and_nothing_behind(
    start: Start, tmp_path: Path, signum: signal.Signals
) -> None:
    process = start("--json", "--port=0", "--days=2")
    assert process.stdout is not None
    document = json.loads(process.stdout.readline())
    assert httpx2.get(f"{document['url']}/healthz").status_code == 200
    children = _children(process)
    assert len(children) == 3
    process.send_signal(signum)
    assert process.wait(30) == 0
    assert all(map(_gone, children))
    assert list(tmp_path.iterdir()) == []


def test_children_end_when_the_demo_is_killed(start: Start) -> None:
    process = start("--json", "--port=0", "--days=2")
    assert process.stdout is not None
    process.stdout.readline()
    children = _children(process)
    process.kill()
    process.wait()
    _wait_until_gone(children)


def test_a_port_in_use_is_one_clear_line(start: Start, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = start(f"--port={port}", "--days=2")
        out, err = process.communicate()
    assert process.returncode == 1
    assert out == ""
    assert len(err.splitlines()) == 1
    assert str(port) in err
    assert "--port" in err
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_cannot_be_is_one_clear_line(start: Start) -> None:
    _, err = start("--port=99999").communicate()
    assert len(err.splitlines()) == 1
    assert "PORT" in err


def test_a_directory_that_holds_something_is_left_alone(start: Start, tmp_path: Path) -> None:
    kept = tmp_path / "mine" / "notes"
    kept.parent.mkdir()
    kept.write_text("keep me")
    process = start(f"--data={kept.parent}", "--port=0")
    _, err = process.communicate()
    assert process.returncode == 1
    assert len(err.splitlines()) == 1
    assert "not empty" in err
    assert kept.read_text() == "keep me"


@pytest.mark.parametrize("arguments", [["--days=0"], ["--days=x"], ["--port=x"], ["--nonsense"]])
def test_wrong_use_is_told_and_exits_with_2(start: Start, arguments: list[str]) -> None:
    process = start(*arguments)
    _, err = process.communicate()
    assert process.returncode == 2
    assert "usage" in err
