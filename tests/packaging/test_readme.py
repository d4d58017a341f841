"""Every command of the README is run by a test; a new one fails here until it is."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from costspan.pricing import Status
from costspan.pricing.overrides import read_overrides

ROOT = Path(__file__).parents[2]
COSTSPAN = [sys.executable, "-m", "costspan"]
RUN_ELSEWHERE = {
    "pip install uv && uv run costspan demo": "tests/e2e/test_demo.py",
    "uv run costspan demo --check --json": "tests/e2e/test_demo.py",
    "uv run pytest": "this is it",
}
RUN_HERE = {
    "uv run costspan serve",
    "uv run costspan reconcile show",
    "uv run costspan alerts check",
    "uv run costspan price tests/data/response.json",
}


def test_every_command_of_the_readme_is_run_by_a_test() -> None:
    text = ROOT.joinpath("README.md").read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))
    shown = {line.strip() for line in blocks.splitlines() if line.strip()}
    inline = {found for found in re.findall(r"`(uv run costspan[^`]*)`", text)}
    assert shown | inline == RUN_ELSEWHERE.keys() | RUN_HERE


def test_the_negotiated_prices_of_the_docs_can_be_read() -> None:
    text = ROOT.joinpath("docs/prices.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    assert [rule.name for rule in read_overrides(example).rules] == ["acme-2026", "acme-mini-input"]


def test_every_status_is_in_the_docs() -> None:
    text = ROOT.joinpath("docs/prices.md").read_text(encoding="utf-8")
    assert {status.value for status in Status} <= set(re.findall(r"`([a-z_]+)`", text))


def test_price_prints_the_parts_and_their_sum() -> None:
    command = [*COSTSPAN, "price", "tests/data/response.json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    # 1,024 x $0.75/M + 1,024 x $0.075/M + 300 x $4.50/M
    assert "0.0021948" in done.stdout


def test_serve_answers_on_its_port_and_stops_cleanly(tmp_path: Path) -> None:
    environment = os.environ | {
        "COSTSPAN_CLICKHOUSE_URL": f"chdb://{tmp_path}/store",
        "COSTSPAN_RECEIVER_PORT": "0",
        "COSTSPAN_CLICKHOUSE_ULR": "a typing error",
    }
    environment.pop("OPENAI_ADMIN_KEY", None)
    server = subprocess.Popen(
        [*COSTSPAN, "serve"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        url = re.findall(r"http://\S+", server.stdout.readline())[0]
        assert httpx2.get(f"{url}/healthz", timeout=10).status_code == 200
        assert "streamlit" in httpx2.get(url, timeout=10).text.lower()
        again = subprocess.run(
            [*COSTSPAN, "serve"],
            env=environment | {"COSTSPAN_RECEIVER_PORT": url.rpartition(":")[2]},
            capture_output=True,
            text=True,
            check=False,
        )
        assert again.returncode == 1
        assert "cannot be used" in again.stderr.splitlines()[-1]
    finally:
        server.send_signal(signal.SIGTERM)
        _, errors = server.communicate(timeout=60)
    assert server.returncode == 0
    assert "did you mean COSTSPAN_CLICKHOUSE_URL?" in errors
    assert errors.count("OPENAI_ADMIN_KEY") == 1, "one clear line about the missing admin key"
    assert "Traceback" not in errors

    for command, said in (("reconcile show", "bill read: never"), ("alerts check", "0 found now")):
        done = subprocess.run(
            [*COSTSPAN, *command.split()],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert said in done.stdout


@pytest.mark.parametrize("arguments", [["price", "no-such-file.json"], ["price", "README.md"]])
def test_a_wrong_input_gets_one_clear_line(arguments: list[str]) -> None:
    done = subprocess.run(
        [*COSTSPAN, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert arguments[-1] in done.stderr


def test_price_for_machines_is_one_json_object() -> None:
    command = [*COSTSPAN, "price", "tests/data/response.json", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["usd"] == "0.0021948"
