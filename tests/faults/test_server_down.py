"""The store is a ClickHouse server, here a stand-in over HTTP on the real engine, that goes away."""

import itertools
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import chdb  # pyright: ignore[reportMissingTypeStubs]
import httpx2
import pytest
from anyio import to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from costspan.errors import Rejected
from costspan_collector.listening import listen, running
from costspan_collector.normalise import normalise
from costspan_collector.settings import Receiver
from costspan_collector.store import Store, connect, migrate
from costspan_collector.store.rollups import Proof, refresh, verify

INSERT = re.compile(rb"\s*(INSERT INTO .*?) FORMAT Native\s*", re.DOTALL)
SETTINGS = {"async_insert", "insert_deduplication_token", "max_partitions_per_insert_block"}


@dataclass
class Server:
    """What a ClickHouse server does with a request, as far as writing needs it."""

    directory: str
    folder: Path
    answers: str = "yes"
    """`yes`; `no` for 503; `busy` for an error of the server's own; `lost` where the insert is made
    and its answer never comes."""
    inserts: int = 0
    asked: list[tuple[str, dict[str, str]]] = field(
        default_factory=list[tuple[str, dict[str, str]]]
    )
    """Statements, and the settings they came with."""
    refused: threading.Event = field(default_factory=threading.Event)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    async def answer(self, request: Request) -> Response:
        body = await request.body()
        asked = dict(request.query_params)
        self.asked.append((body.decode(errors="replace"), asked))
        if self.answers == "no":
            self.refused.set()
            return PlainTextResponse("the server is being restarted", 503)
        if self.answers == "busy":
            code = {"X-ClickHouse-Exception-Code": "202"}
            return PlainTextResponse(
                "Code: 202. DB::Exception: Too many queries.", 500, headers=code
            )
        wanted = request.headers.get("x-clickhouse-format", "TabSeparated")
        try:
            content = await to_thread.run_sync(self.run, asked, body, wanted)
        except RuntimeError as error:
            headers = {"X-ClickHouse-Exception-Code": "1002"}
            return PlainTextResponse(str(error), 500, headers=headers)
        if self.answers == "lost" and content is None:
            self.refused.set()
            return PlainTextResponse("the answer got lost", 502)
        headers = {"X-ClickHouse-Format": wanted, "X-ClickHouse-Timezone": "UTC"}
        return Response(content or b"", headers=headers, media_type="application/octet-stream")

    def run(self, asked: dict[str, str], body: bytes, wanted: str) -> bytes | None:
        sql = asked.get("query", "").encode() + body
        with closing(chdb.connect(self.directory)) as handle:
            handle.query("USE costspan", "TabSeparated")
            for name in SETTINGS & asked.keys():
                handle.query(f"SET {name} = '{asked[name]}'", "TabSeparated")
            insert = INSERT.match(sql)
            if insert is None:
                bound = {k.removeprefix("param_"): v for k, v in asked.items() if k[:6] == "param_"}
                form = asked.get("default_format", wanted)
                return handle.query(sql.decode(), form, params=bound).bytes()
            self.inserts += 1
            data = self.folder / f"{next(self.numbers)}.native"
            data.write_bytes(sql[insert.end() :])
            handle.query(f"{insert[1].decode()} FROM INFILE '{data}' FORMAT Native", "Null")
            data.unlink()
            return None


@pytest.fixture
def server(store: Store, tmp_path: Path) -> Server:
    return Server(store.url.removeprefix("chdb://"), tmp_path)


@pytest.fixture
def written(server: Server) -> Iterator[Store]:
    """The stand-in, as the store of a collector."""
    app = Starlette(routes=[Route("/", server.answer, methods=["GET", "POST"])])
    with listen(Receiver(port=0)) as listener, running(app, listener) as address:
        remote = connect(f"{address}/costspan")
        yield remote
        remote.close()


@dataclass(frozen=True)
class Sums:
    rows: int
    cost_usd: Decimal


SUMS = "SELECT count() AS rows, sum(cost_usd) AS cost_usd FROM calls"


def outage(server: Server, collector: Any, wire: Any, answers: str, seconds: float) -> None:
    """Take spans before, through and after an outage; each is a row of its own, once."""
    pause = threading.Event()
    numbers = itertools.count()

    def send() -> None:
        assert collector.post(wire.request(wire.span(next(numbers)))).status_code == 200

    send()
    assert collector.pipeline.settle()
    server.answers = answers
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        send()
        pause.wait(0.05)
    assert server.refused.wait(20)
    server.answers = "yes"
    send()
    assert collector.pipeline.settle(60)
    sent = next(numbers)
    rows = collector.store.select(SUMS, Sums)
    assert rows == [Sums(sent, Decimal("0.00021") * sent)]
    assert collector.pipeline.backlog.quarantined == 0


@pytest.mark.parametrize("answers", ["no", "lost"])
def test_a_server_that_goes_away_costs_no_call_and_doubles_none(
    server: Server, collector: Any, wire: Any, answers: str
) -> None:
    outage(server, collector, wire, answers, 1)


@pytest.mark.bench
@pytest.mark.timeout(900)
def test_a_server_that_is_away_for_ten_minutes_costs_no_call(
    server: Server, collector: Any, wire: Any
) -> None:
    outage(server, collector, wire, "no", 600)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Start a collector of its own; return the addresses it tells. Its log is in `log`."""
    processes: list[subprocess.Popen[str]] = []

    def start(**settings: str) -> Any:
        environment = {**os.environ, "COSTSPAN_RECEIVER_SPOOL": str(tmp_path / "spool"), **settings}
        with (tmp_path / "log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "costspan", "collector", "--port", "0", "--json"],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        processes.append(process)
        assert process.stdout
        return json.loads(process.stdout.readline())

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_a_server_that_is_too_busy_to_tell_its_columns_costs_no_call(
    server: Server, collector: Any, wire: Any
) -> None:
    request = wire.request(wire.span(1))
    server.answers = "busy"
    answer = collector.post(request)
    assert answer.status_code == 503
    assert "retry-after" in answer.headers
    server.answers = "yes"
    assert collector.post(request).status_code == 200
    assert len(collector.calls) == 1


def test_a_collector_that_starts_before_its_server_takes_spans_and_stores_them_later(
    empty: Store, started: Callable[..., Any], tmp_path: Path, wire: Any, until: Any
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    told = started(COSTSPAN_CLICKHOUSE_URL=f"http://reader:secret@127.0.0.1:{port}/costspan")
    headers = {"content-type": "application/x-protobuf"}
    health = told["traces"].replace("/v1/traces", "/healthz")
    for number in range(3):
        body = wire.request(wire.span(number)).SerializeToString()
        answer = httpx2.post(told["traces"], content=body, headers=headers, timeout=30)
        assert answer.status_code == 200
    until(lambda: httpx2.get(health).json()["status"] == "behind")
    assert "does not answer" in httpx2.get(health).json()["reason"]
    log = (tmp_path / "log").read_text()
    assert "does not answer" in log
    assert "spans are kept on this disk until it does" in log
    assert "Traceback" not in log
    assert "secret" not in log
    server = Server(empty.url.removeprefix("chdb://"), tmp_path)
    app = Starlette(routes=[Route("/", server.answer, methods=["GET", "POST"])])
    with listen(Receiver(port=port)) as listener, running(app, listener):
        until(lambda: httpx2.get(health).json()["status"] == "ok")
        until(lambda: not httpx2.get(health).json()["spool"]["bytes"])
    assert empty.select(SUMS, Sums) == [Sums(3, Decimal("0.00063"))]


def test_a_server_of_a_cluster_is_asked_for_tables_on_all_of_them(
    server: Server, written: Store
) -> None:
    cluster = connect(f"{written.url}?cluster=main")
    with pytest.raises(Rejected, match="ON CLUSTER|cluster"):  # the stand-in is none
        migrate(cluster)
    statement, settings = server.asked[-1]
    assert "CREATE TABLE IF NOT EXISTS schema_migrations ON CLUSTER 'main'" in statement
    assert "ReplicatedReplacingMergeTree('/clickhouse/tables/{uuid}/{shard}'" in statement
    assert (settings["insert_quorum"], settings["select_sequential_consistency"]) == ("auto", "1")
    assert settings["insert_quorum_parallel"] == "0"
    cluster.close()


def test_the_rollups_of_a_server_are_made_and_proven_over_http(written: Store, wire: Any) -> None:
    spans = [wire.span(number) for number in range(30)]
    kept = normalise(wire.request(*spans), received_at=wire.now, ingest_id=1)
    written.insert("calls", kept.calls, token="segment-1")
    written.insert("calls", kept.calls, token="segment-1")
    assert refresh(written, overlap=timedelta(0)) == 1
    assert verify(written) == Proof(checked_hours=1, waiting_hours=0, differences=())
    rolled_up = (
        "SELECT sum(c.calls) AS rows, sum(c.cost_usd) AS cost_usd FROM cost_hourly AS c FINAL"
    )
    assert (
        written.select(rolled_up, Sums)
        == written.select(SUMS, Sums)
        == [Sums(30, Decimal("0.0063"))]
    )
