"""`costspan price`: the cost of one response, with its arithmetic."""

import io
import json
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from costspan import cli

BODY: dict[str, Any] = {
    "model": "gpt-4o-mini",
    "service_tier": "default",
    "usage": {
        "prompt_tokens": 1117,
        "completion_tokens": 211,
        "prompt_tokens_details": {"cached_tokens": 1023},
    },
}
AT = ["--at", "2026-11-01T00:00:00Z"]


PRICE = EntryPoint("price", "costspan.cli:add_price", cli.GROUP)


@pytest.fixture(autouse=True)
def points(monkeypatch: pytest.MonkeyPatch) -> list[EntryPoint]:
    """The commands that are installed: here only our own."""
    installed = [PRICE]

    def found(*, group: str) -> list[EntryPoint]:
        assert group == cli.GROUP
        return installed

    monkeypatch.setattr(cli, "entry_points", found)
    return installed


@pytest.fixture
def response(tmp_path: Path) -> Path:
    path = tmp_path / "response.json"
    path.write_text(json.dumps(BODY), encoding="utf-8")
    return path


def test_the_arithmetic_is_printed(response: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["price", str(response), *AT]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("gpt-4o-mini/standard/short, price book openai-")
    assert [" ".join(line.split()) for line in lines[1:]] == [
        "input 94 x 0.15 / 1,000,000 = 0.0000141 USD",
        "cached_input 1,023 x 0.075 / 1,000,000 = 0.000076725 USD",
        "output 211 x 0.6 / 1,000,000 = 0.0001266 USD",
        "total 0.000217425 USD",
    ]


def test_a_machine_gets_decimal_text(response: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["price", str(response), "--json", *AT]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["status"] == "priced"
    assert document["usd"] == "0.000217425"
    assert document["parts"][0] == {
        "meter": "input",
        "quantity": 94,
        "rate_usd": "0.15",
        "per": 1_000_000,
        "usd": "0.0000141",
    }


def test_standard_input_and_a_batch(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    uncached = BODY | {"usage": {"prompt_tokens": 94, "completion_tokens": 211}}
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(uncached)))
    assert cli.main(["price", "-", "--batch", *AT]) == 0
    assert "total 0.00007035 USD" in capsys.readouterr().out


def test_a_cost_that_is_unknown_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "r.json"
    for change, status in (
        ({"model": "gpt-99"}, "unknown_model"),
        ({"usage": None}, "missing_usage"),
        ({"usage": {"prompt_tokens": "9"}}, "invalid_usage"),
    ):
        path.write_text(json.dumps(BODY | change), encoding="utf-8")
        assert cli.main(["price", str(path)]) == 0
        assert f"cost unknown: {status}" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["[", "[]", "{}", "[" * 100_000])
def test_input_that_is_no_response_fails_with_one_line(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "r.json"
    path.write_text(content, encoding="utf-8")
    assert cli.main(["price", str(path)]) == 1
    written = capsys.readouterr()
    assert not written.out
    assert written.err.count("\n") == 1
    assert written.err.startswith("costspan: ")


def test_a_file_that_is_not_there_fails_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["price", "not-there.json"]) == 1
    assert capsys.readouterr().err == (
        "costspan: cannot read not-there.json: No such file or directory\n"
    )


def test_a_command_that_is_broken_is_named_and_the_others_work(
    response: Path, points: list[EntryPoint], capsys: pytest.CaptureFixture[str]
) -> None:
    points.append(EntryPoint("gone", "costspan_gone:add", cli.GROUP))
    assert cli.main(["price", str(response), *AT]) == 0
    written = capsys.readouterr()
    assert "total" in written.out
    assert written.err.startswith("costspan: command gone is broken: ModuleNotFoundError")
    assert written.err.count("\n") == 1
