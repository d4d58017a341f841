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

from costspan.cli import main
from costspan_collector.store import Store


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


KEPT = """
import sys
from costspan_collector.store import connect
from costspan_collector.record import Call
for call in connect(sys.argv[1]).select("SELECT * FROM calls FINAL", Call):
    print(call.cost_usd, call.list_cost_usd, call.price_overrides)
"""


def test_the_collector_receives_at_negotiated_prices_and_has_its_directory_alone_until_it_is_stopped(
    costspan: Any, wire: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "overrides.toml"
    file.write_text('[[override]]\nname = "acme"\nmatch = { model = "*" }\npercent_off = "50"\n')
    monkeypatch.setenv("COSTSPAN_PRICING_OVERRIDES", str(file))
    monkeypatch.setenv("COSTSPAN_STORE_DOOR_TOKEN", "a-token")
    monkeypatch.setenv("COSTSPAN_STORE_DOOR_PORT", "0")
    process = costspan("collector", "--port", "0", "--json")
    told = json.loads(process.stdout.readline())
    body = wire.request(wire.span(1)).SerializeToString()
    headers = {"content-type": "application/x-protobuf"}
    assert httpx2.post(told["traces"], content=body, headers=headers).status_code == 200
    assert "is in use by another costspan process" in last_line(costspan("migrate"))
    asked = httpx2.post(
        told["door"], content=b"SHOW DATABASES", headers={"X-ClickHouse-Key": "a-token"}
    )
    assert "costspan" in asked.text
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 0
    kept = subprocess.run(
        [sys.executable, "-c", KEPT, told["store"]], capture_output=True, text=True, check=True
    )
    assert kept.stdout == "0.000105000000 0.000210000000 ('acme',)\n"


def test_a_port_in_use_is_one_clear_line(costspan: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = last_line(costspan("collector", "--port", str(port)))
    assert f"port {port} on 127.0.0.1 cannot be used" in told


def test_a_wrong_file_of_negotiated_prices_is_refused_at_the_start(
    costspan: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "overrides.toml"
    file.write_text('[[override]]\nname = "acme"\nmatch = { model = "*" }\npercent_off = "130"\n')
    monkeypatch.setenv("COSTSPAN_PRICING_OVERRIDES", str(file))
    told = last_line(costspan("collector", "--port", "0"))
    assert "overrides.toml: line 4: percent_off: 130 is not between 0 and 100" in told


def test_migrate_names_what_it_would_do_then_does_it(
    empty: Store, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COSTSPAN_CLICKHOUSE_URL", empty.url)
    told: list[dict[str, Any]] = []
    for arguments in (["--dry-run"], [], []):
        assert main(["migrate", "--json", *arguments]) == 0
        told.append(json.loads(capsys.readouterr().out))
    assert [run["dry_run"] for run in told] == [True, False, False]
    assert told[0]["migrations"] == told[1]["migrations"]
    assert told[0]["migrations"][0] == "0001_calls.sql"
    assert told[2]["migrations"] == []
