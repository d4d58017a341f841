import pytest

from costspan.errors import Rejected
from costspan_collector.settings import ClickHouse, Receiver, read_settings, unknown_variables


def test_a_misspelt_variable_is_named_with_the_right_one() -> None:
    (line,) = unknown_variables(
        {"COSTSPAN_CLICKHOUSE_ULR": "x", "PATH": "/bin"}, [ClickHouse, Receiver]
    )
    assert line == (
        "COSTSPAN_CLICKHOUSE_ULR is set, but nothing reads it; "
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
