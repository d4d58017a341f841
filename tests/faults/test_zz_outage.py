"""The store is a ClickHouse server, here a stand-in over HTTP on the real engine, that goes away."""

import itertools
import re
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import chdb  # pyright: ignore[reportMissingTypeStubs]
import pytest
from anyio import to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from costspan_collector.listening import listen, running
from costspan_collector.settings import Receiver
from costspan_collector.store import Store, connect

INSERT = re.compile(rb"\s*(INSERT INTO .*?) FORMAT Native\s*", re.DOTALL)
SETTINGS = {"async_insert", "insert_deduplication_token", "max_partitions_per_insert_block"}


@dataclass
class Server:
    """What a ClickHouse server does with a request, as far as writing needs it."""

    directory: str
    folder: Path
    answers: str = "yes"
    """`yes`; `no` for 503; `lost` where the insert is made and its answer never comes."""
    inserts: int = 0
    refused: threading.Event = field(default_factory=threading.Event)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    async def answer(self, request: Request) -> Response:
        body = await request.body()
        asked = dict(request.query_params)
        if self.answers == "no":
            self.refused.set()
            return PlainTextResponse("the server is being restarted", 503)
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
                found = handle.query(sql.decode(), asked.get("default_format", wanted))
                return found.bytes()
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
    outage(server, collector, wire, "no", 200)
