"""Others read the embedded engine over HTTP as they would read a ClickHouse server, and no more."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

import clickhouse_connect
import httpx2
import pytest

from costspan.errors import Rejected, Unavailable
from costspan_collector.listening import listen, running
from costspan_collector.record import Call
from costspan_collector.settings import Receiver
from costspan_collector.store import Store, connect, pending
from costspan_collector.store.door import MOST_ROWS, door

TOKEN = "a-token"
CALL = Call(
    started_at=datetime(2026, 11, 20, 12, 0, 0, 123_456, tzinfo=UTC),
    trace_id=bytes(range(16)),
    span_id=bytes(range(248, 256)),
    user="ü'\\\n\t\0",
    finish_reasons=("stop", ""),
    status="error",
    cost_usd=Decimal("0.000000000001"),
    list_cost_usd=Decimal("0.000000000001"),
    cost_parts_usd={"input": Decimal("0.000000000001")},
    received_at=datetime(2026, 11, 20, 12, 0, 1, tzinfo=UTC),
    ingest_id=2**63,
)


@dataclass(frozen=True)
class Answer:
    found: str


@dataclass(frozen=True)
class Count:
    count: int


@pytest.fixture(scope="module")
def address(engine: Store) -> Iterator[str]:
    app = door(engine.url.removeprefix("chdb://"), TOKEN)
    with listen(Receiver(port=0)) as listener, running(app, listener) as address:
        yield address


@pytest.fixture
def url(store: Store, address: str) -> str:
    store.insert("calls", [CALL])
    return address


@pytest.fixture
def reader(url: str) -> Iterator[Store]:
    """The store as any process sees it through the door: the path of a ClickHouse server."""
    found = connect(url.replace("//", f"//reader:{TOKEN}@"))
    yield found
    found.close()


def ask(url: str, sql: str, token: str = TOKEN) -> httpx2.Response:
    return httpx2.post(url, content=sql.encode(), headers={"X-ClickHouse-Key": token})


def test_a_row_is_read_as_it_was_written(reader: Store) -> None:
    assert reader.select("SELECT * FROM calls FINAL", Call) == [CALL]


def test_a_parameter_arrives_as_it_was_given(reader: Store) -> None:
    sql = "SELECT {text:String} AS found FROM calls WHERE user = {text:String}"
    for text in ("it's", "a\\b", CALL.user, "an ü\nand -- more"):
        found = reader.select(sql, Answer, text=text)
        assert found == ([Answer(text)] if text == CALL.user else [])


def test_commands_see_that_the_schema_is_up_to_date(reader: Store) -> None:
    assert pending(reader) == []


def test_every_rollup_can_be_read(reader: Store) -> None:
    sql = """
        SELECT count() AS count
        FROM costs(since = {since:DateTime64(6, 'UTC')}, until = {until:DateTime64(6, 'UTC')}, counted = (
            SELECT groupArray(hour) FROM counted_hours(
                since = {since:DateTime64(6, 'UTC')}, until = {until:DateTime64(6, 'UTC')}, by_hour = true)
        ))
    """
    day = datetime(2026, 11, 20, tzinfo=UTC), datetime(2026, 11, 21, tzinfo=UTC)
    assert reader.select(sql, Count, since=day[0], until=day[1]) == [Count(1)]


def test_the_usual_client_reads_streams_and_frames(url: str) -> None:
    parts = urlsplit(url)
    client = clickhouse_connect.get_client(
        host=parts.hostname or "", port=parts.port or 0, username="grafana", password=TOKEN
    )
    assert client.command("SELECT count() FROM costspan.calls") == 1
    with client.query_row_block_stream("SELECT number FROM numbers(100000)") as blocks:
        assert sum(map(len, blocks)) == 100_000
    client.close()


def test_an_answer_comes_in_the_format_that_was_asked_for(url: str) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    query = {"query": "SELECT count() AS calls FROM calls", "default_format": "JSONEachRow"}
    answer = httpx2.get(url, params=query, headers=headers)
    assert answer.json() == {"calls": 1}
    assert answer.headers["x-clickhouse-format"] == "JSONEachRow"
    assert httpx2.get(f"{url}/ping").text == "Ok.\n"


@pytest.mark.parametrize("token", ["", "a-toke", "a-token2", "ü"])
def test_without_the_token_nothing_is_read(url: str, token: str) -> None:
    answer = httpx2.post(url, content=b"SELECT 1", headers={b"X-ClickHouse-Key": token.encode()})
    assert (answer.status_code, answer.headers["x-clickhouse-exception-code"]) == (403, "516")
    with pytest.raises(Unavailable, match="does not answer"):
        connect(url.replace("//", "//reader:wrong@"))


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO calls (started_at) VALUES (now())",
        "DROP TABLE calls",
        "SELECT 1; DROP TABLE calls",
        "TRUNCATE calls",
        "ALTER TABLE calls DELETE WHERE 1",
        "CREATE TEMPORARY TABLE t (a Int8)",
        "SET readonly = 0",
        "SELECT 1 SETTINGS readonly = 0",
        "SYSTEM STOP MERGES",
        "KILL QUERY WHERE 1",
        "SELECT * FROM url('http://127.0.0.1:1/x', 'CSV', 'a Int8')",
        "SELECT * FROM remote('127.0.0.1:1', 'system.one')",
        "SELECT * FROM Python(secret)",
    ],
)
def test_nothing_is_changed_through_the_door(url: str, store: Store, sql: str) -> None:
    answer = ask(url, sql)
    assert answer.status_code == 500
    assert int(answer.headers["x-clickhouse-exception-code"]) in {62, 164, 801}
    assert store.select("SELECT * FROM calls FINAL", Call) == [CALL]


@pytest.mark.parametrize(
    "expression",
    [
        "SELECT file('{file}')",
        "SELECT `file`('{file}')",
        "SELECT \"fi\\x6ce\"('{file}')",
        "SELECT file /* ' */ ('{file}')",
        "SELECT arrayMap(file, ['{file}'])",
        "SELECT * APPLY file FROM (SELECT '{file}')",
        "SELECT * FROM file('{file}', 'CSV', 'a String')",
        "SELECT 'a\\'' , file('{file}') , ''",
        "SELECT 1 INTO OUTFILE '{file}'",
        "SELECT 1 INTO/**/OUTFILE '{file}' TRUNCATE",
    ],
)
def test_no_file_is_read_or_written_through_the_door(
    url: str, tmp_path: Path, expression: str
) -> None:
    file = tmp_path / "private"
    file.write_text("nobody may see this")
    answer = ask(url, expression.format(file=file))
    assert answer.status_code == 500
    assert "nobody" not in answer.text
    assert file.read_text() == "nobody may see this"
    assert ask(url, "SELECT 'file(', 'INTO OUTFILE'").text == "file(\tINTO OUTFILE\n"


@pytest.mark.parametrize("function", ["{}", "loop({})", "`loop` ({})"])
def test_no_address_is_asked_through_the_door(url: str, function: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as asked:
        asked.settimeout(0)
        source = f"url('http://127.0.0.1:{asked.getsockname()[1]}/', 'CSVWithNames')"
        answer = ask(url, f"DESC {function.format(source)}")
        assert (answer.status_code, "DESCRIBE (SELECT" in answer.text) == (500, True)
        with pytest.raises(BlockingIOError):
            asked.accept()
    assert "cost_usd" in ask(url, "DESCRIBE TABLE calls").text
    assert ask(url, "DESCRIBE (SELECT 1 AS one)").text.startswith("one\t")


def test_an_answer_has_its_bounds(reader: Store) -> None:
    with pytest.raises(Rejected, match="Limit for result exceeded"):
        reader.select(f"SELECT number AS count FROM numbers({MOST_ROWS + 1_000_000})", Count)


def test_a_reader_that_writes_is_told(reader: Store) -> None:
    with pytest.raises(Unavailable, match="let the user of COSTSPAN_CLICKHOUSE_URL insert"):
        reader.insert("calls", [CALL])


def test_a_command_proves_the_rollups_beside_the_process_that_has_them(url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "costspan", "store", "verify", "--json"],
        env={**os.environ, "COSTSPAN_CLICKHOUSE_URL": url.replace("//", f"//cli:{TOKEN}@")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["waiting_hours"] == 1
