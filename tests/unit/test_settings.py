from getpass import getuser
from pathlib import Path

import pytest

from costspan.errors import Rejected
from costspan.pricing import default_book
from costspan_collector.settings import (
    Audit,
    ClickHouse,
    Pricing,
    Receiver,
    read_settings,
    unknown_variables,
)


def test_a_misspelt_variable_is_named_with_the_right_one() -> None:
    (line,) = unknown_variables(
        {"COSTSPAN_CLICKHOUSE_ULR": "x", "PATH": "/bin"}, [ClickHouse, Receiver]
    )
    assert line == (
        "COSTSPAN_CLICKHOUSE_ULR is set, but this command does not read it; "
        "did you mean COSTSPAN_CLICKHOUSE_URL?"
    )


def test_a_variable_near_none_gets_the_list_of_known_ones() -> None:
    (line,) = unknown_variables({"COSTSPAN_FROBNICATE": "1"}, [ClickHouse])
    assert "COSTSPAN_CLICKHOUSE_URL" in line


def test_known_variables_and_those_of_the_app_side_pass() -> None:
    known = {"COSTSPAN_RECEIVER_PORT": "1", "COSTSPAN_CAPTURE_HTTP_SPANS": "false"}
    assert unknown_variables(known, [ClickHouse, Receiver]) == []


def test_a_port_out_of_range_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COSTSPAN_RECEIVER_PORT", "70000")
    with pytest.raises(Rejected, match=r"COSTSPAN_RECEIVER_PORT: .*65535"):
        read_settings(Receiver)


def test_without_negotiated_prices_the_book_is_the_list() -> None:
    assert read_settings(Pricing).book() is default_book()


def test_a_wrong_file_of_negotiated_prices_is_refused_with_line_and_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "overrides.toml"
    file.write_text('[[override]]\nname = "acme"\nmatch = { model = "*" }\npercent_off = 12.5\n')
    monkeypatch.setenv("COSTSPAN_PRICING_OVERRIDES", str(file))
    with pytest.raises(Rejected, match=r"overrides\.toml: line 4: .*in quotes"):
        read_settings(Pricing).book()
    assert not unknown_variables({"COSTSPAN_PRICING_OVERRIDES": "x"}, [ClickHouse, Pricing])


def test_the_actor_is_who_is_named_and_else_the_user_of_the_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("COSTSPAN_ACTOR", raising=False)
    assert read_settings(Audit).name() == getuser()
    monkeypatch.setenv("COSTSPAN_ACTOR", "finance")
    assert read_settings(Audit).name() == "finance"
    assert not unknown_variables({"COSTSPAN_ACTOR": "x"}, [Audit])
