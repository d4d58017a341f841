"""`costspan price`: the cost of one response, with its arithmetic."""

import io
import json
import os
import subprocess
import sys
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


def test_negotiated_prices_stand_below_the_list(
    tmp_path: Path, response: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contract = tmp_path / "prices.toml"
    contract.write_text(
        '[[override]]\nname = "acme-2026"\nmatch = { meter = "output" }\npercent_off = "50"\n',
        encoding="utf-8",
    )
    given = ["price", str(response), "--overrides", str(contract), *AT]
    assert cli.main(given) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[4:] == [
        "total 0.000217425 USD",
        "contracted, by acme-2026",
        "input 94 x 0.15 / 1,000,000 = 0.0000141 USD",
        "cached_input 1,023 x 0.075 / 1,000,000 = 0.000076725 USD",
        "output 211 x 0.3 / 1,000,000 = 0.0000633 USD",
        "total 0.000154125 USD",
    ]
    assert cli.main([*given, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["usd"], document["contracted"]["usd"]) == ("0.000217425", "0.000154125")
    assert document["contracted"]["overrides"] == ["acme-2026"]


def test_a_wrong_file_of_overrides_fails_with_line_and_reason(
    tmp_path: Path, response: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contract = tmp_path / "prices.toml"
    contract.write_text('[[override]]\nname = "x"\npercent_off = "50"\n', encoding="utf-8")
    assert cli.main(["price", str(response), "--overrides", str(contract), *AT]) == 1
    assert "prices.toml: line 1: match" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("body", "term"),
    [
        ({"model": "gpt-realtime-whisper", "usage": {"seconds": 10}}, "audio_seconds 10 x 0.017 / 60 = 0.002833333333 USD"),
        ({"model": "sora-2", "object": "video", "status": "completed", "seconds": "4", "size": "720x1280"}, "video_seconds_720 4 x 0.1 / 1 = 0.4 USD"),
        ({"model": "gpt-5", "usage": {"input_tokens": 0, "output_tokens": 0}, "output": [{"type": "file_search_call"}]}, "file_search 1 x 2.5 / 1,000 = 0.0025 USD"),
        ({"model": "gpt-transcribe", "usage": {"seconds": 7.5}}, "audio_seconds 7.5 x 0.0045 / 60 = 0.0005625 USD"),
    ],
)  # fmt: skip
def test_a_term_has_the_unit_that_openai_quotes(
    body: dict[str, Any], term: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "r.json"
    path.write_text(json.dumps(body), encoding="utf-8")
    assert cli.main(["price", str(path), *AT]) == 0
    assert term in " ".join(capsys.readouterr().out.split())


def test_a_body_without_a_model_takes_the_one_that_was_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "r.json"
    path.write_text(json.dumps({"usage": {"type": "duration", "seconds": 9}}), encoding="utf-8")
    assert cli.main(["price", str(path), "--model", "whisper-1", *AT]) == 0
    assert "total 0.0009 USD" in capsys.readouterr().out


def test_golden_cases_come_out_one_object_a_line_in_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case: dict[str, Any] = {
        "timestamp": "2026-11-10T12:00:00Z",
        "host": "api.openai.com",
        "batch": False,
        "request": {},
        "meters": [],
    }
    container = {"meter": "container_minutes", "memory_limit": "1g", "minutes": 3}
    cases: list[dict[str, Any]] = [
        case | {"id": "b", "response": BODY},
        case | {"id": "a", "response": BODY | {"model": "gpt-99"}},
        case | {"id": "c", "response": {"object": "container"}, "meters": [container]},
        case | {"id": "d", "response": BODY, "meters": [container]},
        case | {"id": "e", "response": {}, "meters": [{"meter": "training_hours", "seconds": 9}]},
        case | {"id": "f", "response": BODY, "meters": [{"meter": "warp_hours"}]},
        case | {"id": "g", "response": {}, "meters": [{"meter": "training_hours", "quantity": 2}]},
    ]
    path = tmp_path / "cases.json"
    path.write_text(json.dumps({"cases": cases}), encoding="utf-8")
    assert cli.main(["price", "--cases", str(path), "--json"]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"id": "b", "usd": "0.000217425", "status": "priced"},
        {"id": "a", "usd": None, "status": "unknown_model"},
        {"id": "c", "usd": "0.0075", "status": "priced"},
        {"id": "d", "usd": "0.007717425", "status": "priced"},
        {"id": "e", "usd": "0.25", "status": "priced"},
        {"id": "f", "usd": None, "status": "unpriced_component"},
        {"id": "g", "usd": "200", "status": "priced"},
    ]


def test_a_case_that_is_none_is_named_and_the_others_are_priced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    timed: dict[str, Any] = {"timestamp": "2026-11-10T12:00:00Z", "response": BODY}
    cases = [{"id": "a", "response": BODY}, 7, timed, timed | {"id": "d"}]
    path = tmp_path / "cases.json"
    path.write_text(json.dumps({"cases": cases}), encoding="utf-8")
    assert cli.main(["price", "--cases", str(path)]) == 0
    assert [line.partition(";")[0] for line in capsys.readouterr().out.splitlines()] == [
        "a None invalid_case KeyError('timestamp')",
        """case 2 None invalid_case TypeError("'int' object is not subscriptable")""",
        "case 3 None invalid_case KeyError('id')",
        "d 0.000217425 priced",
    ]


@pytest.mark.parametrize("content", ['{"cases": 7}', "{}"])
def test_a_file_without_cases_fails_with_one_line(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cases.json"
    path.write_text(content, encoding="utf-8")
    assert cli.main(["price", "--cases", str(path)]) == 1
    assert 'no list "cases"' in capsys.readouterr().err


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


def test_who_reads_no_further_gets_no_error(response: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as output:
        ended = subprocess.run(
            [sys.executable, "-m", "costspan", "price", str(response)],
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (ended.returncode, ended.stderr) == (1, "")
