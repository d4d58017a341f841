"""`costspan doctor` shows one real call as it would be sent, and what to do where it would not."""

import base64
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pytest

from costspan import doctor
from costspan.cli import main
from costspan.doctor import examination


@pytest.fixture
def environment(loopback: Any, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment in which all is well."""
    for name in ("OPENAI_BASE_URL", "OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-the-key-nobody-may-see")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", loopback.url)
    monkeypatch.setenv("COSTSPAN_CAPTURE_PRICED_HOSTS", "127.0.0.1")
    monkeypatch.setattr(doctor, "counters", dict)  # other tests have counted
    return monkeypatch


Doctor = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def examine(
    loopback: Any, environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Doctor:
    del environment

    def run(*arguments: str, url: str = f"{loopback.url}/v1") -> tuple[int, dict[str, Any]]:
        status = main(["doctor", "--json", "--yes", "--base-url", url, *arguments])
        printed = capsys.readouterr().out
        assert "sk-the-key-nobody-may-see" not in printed
        assert "a secret answer" not in printed
        return status, json.loads(printed)

    return run


def test_all_is_well(loopback: Any, examine: Doctor) -> None:
    status, found = examine("--model", "gpt-4o-mini")
    assert (status, found["findings"]) == (0, [])
    assert len(loopback.asked) == 1
    assert len(loopback.traces) == 1, "the receiver was asked"
    assert loopback.spans == [], "and was sent nothing"
    assert found["destination"]["url"] == f"{loopback.url}/v1/traces"
    assert found["destination"]["status"] == 200
    call: Mapping[str, Any] = found["call"]
    assert call["span"] == "chat gpt-4o-mini"
    assert call["attributes"]["gen_ai.usage.input_tokens"] == 1000
    (attempt,) = call["http_attempts"]
    assert attempt["attributes"]["http.response.status_code"] == 200
    # 1,000 x $0.15/M + 100 x $0.60/M
    assert found["price"]["usd"] == "0.00021"
    assert found["price"]["path"] == "gpt-4o-mini/standard/short"
    assert [(part["quantity"], part["usd_per_million"]) for part in found["price"]["parts"]] == [
        (1000, "0.15"),
        (100, "0.6"),
    ]
    assert found["versions"]["openai"] == version("openai")
    assert found["settings"]["priced_hosts"] == ["127.0.0.1"]


def test_the_page_for_people_lines_up(
    loopback: Any, environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    del environment
    status = main(["doctor", "--yes", "--base-url", f"{loopback.url}/v1"])
    page = capsys.readouterr().out
    assert status == 0, page
    assert page.rstrip().endswith("All is well.")
    assert "1,000 x 0.15 / 1,000,000 = 0.00015 USD" in page
    assert "total 0.00021 USD" in page
    rows = [row for row in page.splitlines() if row.startswith("  gen_ai.")]
    assert len({len(row) - len(row[2:].split(None, 1)[1]) for row in rows}) == 1


def test_a_collector_that_is_not_there_is_said_with_what_to_do(examine: Doctor) -> None:
    status, found = examine("--endpoint", "http://127.0.0.1:9")
    assert status == 1
    (finding,) = found["findings"]
    assert finding.startswith("no spans arrive at http://127.0.0.1:9/v1/traces")
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in finding


def test_a_login_in_the_endpoint_is_sent_as_a_header_and_not_shown(
    loopback: Any, examine: Doctor
) -> None:
    status, found = examine("--endpoint", loopback.url.replace("//", "//me:a-pass%40word@"))
    assert status == 0
    assert "word" not in json.dumps(found)
    login = base64.b64encode(b"me:a-pass@word").decode()
    assert f"Basic {login}" in [sent.get("authorization") for sent in loopback.headers]


@pytest.mark.parametrize("place", ["127.0.0.1:no-port", "me:a-pass-word@"])
def test_an_endpoint_that_is_none_is_a_finding(place: str, examine: Doctor) -> None:
    status, found = examine("--endpoint", f"http://{place}")
    assert status == 1
    assert "no spans arrive" in found["findings"][0]
    assert "pass-word" not in json.dumps(found)


def test_a_collector_that_refuses_is_said_with_its_answer(loopback: Any, examine: Doctor) -> None:
    loopback.status["/v1/traces"] = 403
    status, found = examine()
    assert status == 1
    assert "it answered 403" in found["findings"][0]


def test_a_wrong_key_is_said_and_not_shown(loopback: Any, examine: Doctor) -> None:
    loopback.status["/v1/chat/completions"] = 401
    status, found = examine()
    assert status == 1
    assert found["findings"] == [
        f"the call to {loopback.url}/v1 failed: AuthenticationError 401; check OPENAI_API_KEY"
    ]
    assert found["call"]["attributes"]["error.type"] == "AuthenticationError"


def test_a_misspelt_variable_is_a_finding(examine: Doctor, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("COSTSPAN_CAPTURE_HTTP_SPAN", "no")
    environment.setenv("COSTSPAN_CAPTURE_USER_HASH", "perhaps")
    status, found = examine()
    assert status == 1
    assert any("did you mean COSTSPAN_CAPTURE_HTTP_SPANS?" in each for each in found["findings"])
    assert any("'perhaps' is neither true nor false" in each for each in found["findings"])


def test_a_host_that_is_not_known_to_charge_is_a_finding(
    examine: Doctor, environment: pytest.MonkeyPatch
) -> None:
    environment.delenv("COSTSPAN_CAPTURE_PRICED_HOSTS")
    status, found = examine()
    assert status == 1
    assert "127.0.0.1 is not known to charge OpenAI's prices" in found["findings"][0]
    assert found["price"]["usd"] is None


def test_a_model_without_a_price_is_a_finding(loopback: Any, examine: Doctor) -> None:
    loopback.chat = {**loopback.chat, "model": "nobody-knows"}
    status, found = examine()
    assert status == 1
    assert "the call has no cost: unknown_model" in found["findings"][0]


def test_nothing_is_spent_without_asking(
    loopback: Any, environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setattr("sys.stdin.isatty", lambda: False, raising=False)
    status = main(["doctor", "--json", "--base-url", f"{loopback.url}/v1"])
    assert status == 1
    assert "run again with --yes" in json.loads(capsys.readouterr().out)["findings"][0]
    assert loopback.asked == []


def test_without_a_key_it_says_what_is_missing(
    loopback: Any, examine: Doctor, environment: pytest.MonkeyPatch
) -> None:
    environment.delenv("OPENAI_API_KEY")
    status, found = examine()
    assert status == 1
    assert found["findings"][0].startswith("OPENAI_API_KEY is not set")
    assert loopback.asked == []


def test_without_openai_it_says_so(examine: Doctor, environment: pytest.MonkeyPatch) -> None:
    def without(name: str) -> str:
        if name == "openai":
            raise PackageNotFoundError(name)
        return version(name)

    environment.setattr(examination, "version", without)
    status, found = examine()
    assert status == 1
    assert found["findings"] == [
        "openai is not installed here; run `pip install openai` where the app runs"
    ]


def test_capture_that_is_switched_off_is_a_finding(
    examine: Doctor, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("COSTSPAN_CAPTURE_ENABLED", "false")
    status, found = examine()
    assert status == 1
    assert found["findings"][0].startswith("capture is off")


def test_faults_of_our_own_are_findings(examine: Doctor, environment: pytest.MonkeyPatch) -> None:
    environment.setattr(doctor, "counters", lambda: {"hook_missing": 2})
    status, found = examine()
    assert status == 1
    assert "hook_missing (2 times)" in found["findings"][0]


def test_a_passing_doctor_exits_with_zero_as_a_command(loopback: Any) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "costspan", "doctor", "--yes"],
        env=loopback.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout
    assert "All is well." in ended.stdout
