import fcntl
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from costspan.errors import Rejected, Unavailable
from costspan_collector.record import Call, HttpAttempt
from costspan_collector.store import Store, connect

CALL = Call(
    started_at=datetime(2026, 11, 20, 12, 0, 0, 123_456, tzinfo=UTC),
    trace_id=bytes(range(16)),
    span_id=bytes(range(248, 256)),
    service_name="shop",
    user="ü'\\\n\t\0",
    finish_reasons=("stop", ""),
    time_to_first_chunk_us=0,
    status="error",
    input_tokens=0,
    cost_usd=Decimal("0.000000000001"),
    cost_parts_usd={"input": Decimal("0.000000000001"), "output": Decimal(0)},
    received_at=datetime(2026, 11, 20, 12, 0, 1, tzinfo=UTC),
    ingest_id=2**63,
)
ATTEMPT = HttpAttempt(
    started_at=CALL.started_at,
    trace_id=CALL.trace_id,
    span_id=CALL.span_id,
    http_status=503,
    received_at=CALL.received_at,
    ingest_id=1,
)


@dataclass(frozen=True)
class Column:
    table: str
    name: str


@dataclass(frozen=True)
class Found:
    trace: str
    cost_usd: Decimal


def test_a_row_comes_back_as_it_went_in(store: Store) -> None:
    store.insert("calls", [CALL])
    store.insert("http_attempts", [ATTEMPT])
    assert store.select("SELECT * FROM calls FINAL", Call) == [CALL]
    assert store.select("SELECT * FROM http_attempts FINAL", HttpAttempt) == [ATTEMPT]


def test_the_fields_of_a_record_are_the_columns_of_its_table(store: Store) -> None:
    sql = "SELECT table, name FROM system.columns WHERE database = currentDatabase() AND table = {t:String} AND default_kind NOT IN ('ALIAS', 'MATERIALIZED')"
    for table, record in (("calls", Call), ("http_attempts", HttpAttempt)):
        columns = [column.name for column in store.select(sql, Column, t=table)]
        assert columns == list(record.__dataclass_fields__)


def test_a_block_with_a_known_token_is_written_once(store: Store) -> None:
    for _ in range(3):
        store.insert("calls", [CALL], token="one")
    assert len(store.select("SELECT * FROM calls", Call)) == 1


def test_the_latest_of_two_rows_with_one_identity_is_read(store: Store) -> None:
    later = replace(CALL, user="later", ingest_id=CALL.ingest_id + 1)
    store.insert("calls", [later])
    store.insert("calls", [CALL])
    assert store.select("SELECT * FROM calls FINAL", Call) == [later]


def test_an_id_is_looked_up_by_its_hex(store: Store) -> None:
    store.insert("calls", [CALL])
    sql = (
        "SELECT lower(hex(trace_id)) AS trace, cost_usd FROM calls FINAL "
        "WHERE trace_id = unhex({trace:String})"
    )
    trace = CALL.trace_id.hex()
    assert store.select(sql, Found, trace=trace) == [Found(trace, Decimal("0.000000000001"))]
    assert store.select(sql, Found, trace="ff" * 16) == []


def test_a_query_that_does_not_fit_its_shape_is_refused(store: Store) -> None:
    with pytest.raises(Rejected, match="Found has"):
        store.select("SELECT 1 AS a, 2 AS b", Found)


def test_a_reader_cannot_write(store: Store) -> None:
    reader = connect(store.url, read_only=True)
    with pytest.raises(Unavailable, match="let the user of COSTSPAN_CLICKHOUSE_URL insert"):
        reader.insert("calls", [CALL])
    reader.close()


def test_a_directory_in_use_by_another_process_is_named(store: Store) -> None:
    code = (
        "import sys\nfrom costspan.errors import Rejected\n"
        "from costspan_collector.store import connect\n"
        "try: connect(sys.argv[1])\nexcept Rejected as error: print(error)\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, store.url], capture_output=True, text=True, check=True
    )
    directory = store.url.removeprefix("chdb://")
    assert told.stdout == (
        f"{directory} is in use by another costspan process; stop it, name another directory in "
        "COSTSPAN_CLICKHOUSE_URL, or read through that process: set COSTSPAN_STORE_DOOR_TOKEN "
        "for it, and here COSTSPAN_CLICKHOUSE_URL=http://reader:TOKEN@127.0.0.1:8123\n"
    )


def test_the_process_of_another_container_may_have_our_number(tmp_path: Path) -> None:
    with (tmp_path / "status").open("w") as status:
        status.write(f"PID: {os.getpid()}\n")
        status.flush()
        fcntl.flock(status, fcntl.LOCK_EX)
        with pytest.raises(Rejected, match="in use by another costspan process"):
            connect(f"chdb://{tmp_path}")


@pytest.mark.parametrize("url", ["", "/data", "mysql://host", "http://"])
def test_a_url_that_names_no_store_is_refused(url: str) -> None:
    with pytest.raises(Rejected, match="is no store"):
        connect(url)


def test_an_option_that_nothing_reads_is_refused() -> None:
    with pytest.raises(
        Rejected, match=r"clutser after the \? of http://127\.0\.0\.1:1/db is nothing"
    ):
        connect("http://127.0.0.1:1/db?clutser=main")


def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(Rejected, match="cannot use"):
        connect(f"chdb://{file}/below/data")


def test_a_server_that_does_not_answer_is_named_without_its_password() -> None:
    with pytest.raises(Unavailable, match=r"http://127\.0\.0\.1:1/db does not answer") as caught:
        connect("http://someone:secret@127.0.0.1:1/db")
    assert "secret" not in str(caught.value)
