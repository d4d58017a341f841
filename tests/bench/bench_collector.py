"""From the HTTP door to durable, deduplicated rows, beside what the engine alone can do.

uv run python tests/bench/bench_collector.py [SPANS]
uv run python tests/bench/bench_collector.py memory [SPANS]
uv run pytest -m bench tests/bench/bench_collector.py

There are three ceilings, all of the engine alone, nothing of Python. Two make the same rows, by the
collector's own statement, in inserts of the same size: one as the collector does, one with what the
engine does unless told otherwise, as the study measured it, which looks at no span's length. The
lean one makes a third of the columns, checks nothing, and reads the requests in one insert. Each is
the best of three runs in a process that does nothing else. Rates are per CPU second of all threads
of the collector's process, since other work runs beside a bench.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from costspan_collector.sent import take
from costspan_collector.settings import Receiver
from costspan_collector.store import connect, migrate

SPANS = 100_000
BATCH = 512
CLIENTS = 8
CALLS_A_SECOND = 2000
PACED_SECONDS = 10
PACED_BATCH = 20
MOST_P99_SECONDS = 0.25
MOST_BYTES_A_CALL = 60
HEADERS = {"content-type": "application/x-protobuf"}
MEMORY_SPANS = 10_000_000
MOST_GROWTH = 1.1
BODIES = 40
LOOK_EVERY = 400
MODELS = ["gpt-4o-mini-2024-07-18", "gpt-5.4", "gpt-5-mini-2025-08-07", "gpt-4.1-2025-04-14"]

SCHEMA = """
syntax = "proto3";
message AnyValue { string string_value = 1; int64 int_value = 3; }
message Span {
    bytes trace_id = 1; bytes span_id = 2;
    fixed64 start_time_unix_nano = 7; fixed64 end_time_unix_nano = 8;
    map<string, AnyValue> attributes = 9;
}
message ScopeSpans { repeated Span spans = 2; }
message ResourceSpans { repeated ScopeSpans scope_spans = 2; }
message Request { repeated ResourceSpans resource_spans = 1; }
"""
CEILING = """
INSERT INTO calls (
    started_at, trace_id, span_id, operation, provider, request_model, response_model, response_id,
    team, feature, user, project, input_tokens, cached_tokens, output_tokens, cost_usd, duration_us)
WITH
    mapKeys(span.5) AS k, mapValues(span.5) AS v,
    v.string_value AS s, v.int_value AS i
SELECT
    fromUnixTimestamp64Nano(toInt64(span.3), 'UTC'), toFixedString(span.1, 16), toFixedString(span.2, 8),
    s[indexOf(k, 'gen_ai.operation.name')], s[indexOf(k, 'gen_ai.provider.name')],
    s[indexOf(k, 'gen_ai.request.model')], s[indexOf(k, 'gen_ai.response.model')],
    s[indexOf(k, 'gen_ai.response.id')], s[indexOf(k, 'costspan.team')],
    s[indexOf(k, 'costspan.feature')], s[indexOf(k, 'costspan.user')],
    s[indexOf(k, 'costspan.project')], i[indexOf(k, 'gen_ai.usage.input_tokens')],
    i[indexOf(k, 'gen_ai.usage.cache_read.input_tokens')],
    i[indexOf(k, 'gen_ai.usage.output_tokens')],
    toDecimal64(s[indexOf(k, 'costspan.cost.usd')], 12), intDiv(span.4 - span.3, 1000)
FROM (
    SELECT arrayJoin(arrayFlatten(`resource_spans.scope_spans.spans`)) AS span
    FROM file({path:String}, 'Protobuf', '`resource_spans.scope_spans.spans` Array(Array(Array(Tuple(
        trace_id String, span_id String, start_time_unix_nano UInt64, end_time_unix_nano UInt64,
        attributes Map(String, Tuple(string_value String, int_value Int64))))))')
)
SETTINGS max_insert_threads = 1, async_insert = 0, format_schema_source = 'string',
    format_schema_message_name = 'Request', format_schema = '$SCHEMA'
"""


def attributes(number: int) -> dict[str, str | int]:
    """Return the 25 attributes of a call, as the shim sets them."""
    tokens, cached, written = 900 + number % 7919, number % 3 * 128, 10 + number % 1009
    parts = [(tokens - cached) * 150_000, cached * 75_000, written * 600_000]
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": MODELS[number % 4],
        "gen_ai.response.model": MODELS[number % 4],
        "gen_ai.response.id": f"chatcmpl-{number:024x}",
        "gen_ai.usage.input_tokens": tokens,
        "gen_ai.usage.cache_read.input_tokens": cached,
        "gen_ai.usage.output_tokens": written,
        "openai.api.type": "chat_completions",
        "openai.response.service_tier": "default",
        "server.address": "api.openai.com",
        "server.port": 443,
        "costspan.cost.usd": f"{sum(parts) / 10**12:.12f}",
        "costspan.cost.part.input": parts[0],
        "costspan.cost.part.cached_input": parts[1],
        "costspan.cost.part.output": parts[2],
        "costspan.price.status": "priced",
        "costspan.price.book": "0123456789abcdef",
        "costspan.price.path": "openai/standard",
        "costspan.project": f"proj_{number % 4}",
        "costspan.key.fingerprint": f"{number % 4:016x}",
        "costspan.team": f"team-{number % 10}",
        "costspan.feature": f"feature-{number % 20}",
        "costspan.user": f"user-{number % 5000}",
        "costspan.request.id": f"req_{number:032x}",
    }


def request(first: int, spans: int) -> bytes:
    """Return the body that carries `spans` calls."""
    start = int((datetime.now(UTC) - timedelta(hours=2)).timestamp()) * 10**9
    made = [
        Span(
            trace_id=(number // 3 + 2**100).to_bytes(16, "big"),
            span_id=(number + 1).to_bytes(8, "big"),
            name="chat",
            start_time_unix_nano=start + number % 10**8 * 50_000,
            end_time_unix_nano=start + number % 10**8 * 50_000 + 10**9 + number % 10**8,
            attributes=[
                KeyValue(
                    key=key,
                    value=AnyValue(string_value=value)
                    if isinstance(value, str)
                    else AnyValue(int_value=value),
                )
                for key, value in attributes(number).items()
            ],
        )
        for number in range(first, first + spans)
    ]
    scope = ScopeSpans(scope=InstrumentationScope(name="costspan"), spans=made)
    name = KeyValue(key="service.name", value=AnyValue(string_value="shop"))
    resource_spans = ResourceSpans(resource=Resource(attributes=[name]), scope_spans=[scope])
    return ExportTraceServiceRequest(resource_spans=[resource_spans]).SerializeToString()


class Collector:
    """The command in a process of its own, and what it costs."""

    def __init__(self, data: Path) -> None:
        environment = {**os.environ, "COSTSPAN_CLICKHOUSE_URL": f"chdb://{data}"}
        command = [sys.executable, "-m", "costspan", "collector", "--port", "0", "--json"]
        self._process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout
        self.url = json.loads(self._process.stdout.readline())["traces"]
        self._http = httpx2.Client(timeout=60)

    @property
    def cpu_seconds(self) -> float:
        stat = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def resident_bytes(self) -> int:
        statm = Path(f"/proc/{self._process.pid}/statm").read_text().split()
        return int(statm[1]) * resource.getpagesize()

    def metric(self, name: str) -> float:
        """Return the sum over all labels of a metric."""
        text = self._http.get(self.url.replace("/v1/traces", "/metrics")).text
        lines = [line for line in text.splitlines() if line.startswith(f"costspan_{name}")]
        return sum(float(line.split()[-1]) for line in lines)

    def settle(self, rows: float) -> None:
        """Wait until the store has `rows`."""
        for _ in range(1200):
            if self.metric("spans_stored_total") >= rows:
                return
            threading.Event().wait(0.05)
        msg = f"the store has {self.metric('spans_stored_total')} of {rows} rows"
        raise TimeoutError(msg)

    def stop(self) -> None:
        self._http.close()
        self._process.terminate()
        self._process.communicate()


def send_all(url: str, bodies: list[bytes]) -> list[float]:
    """Send bodies from as many clients as the bar names; return how long each took."""

    def send(some: list[bytes]) -> list[float]:
        with httpx2.Client(headers=HEADERS, timeout=60) as client:
            taken: list[float] = []
            for body in some:
                started = time.perf_counter()
                assert client.post(url, content=body).status_code == 200
                taken.append(time.perf_counter() - started)
            return taken

    with ThreadPoolExecutor(CLIENTS) as pool:
        return [
            each
            for some in pool.map(send, [bodies[n::CLIENTS] for n in range(CLIENTS)])
            for each in some
        ]


def send_paced(url: str, bodies: list[bytes], seconds: float) -> list[float]:
    """Send bodies evenly over `seconds`, each when it is due; return how late each answer was."""
    begun = time.perf_counter()

    def send(numbered: tuple[int, bytes]) -> float:
        number, body = numbered
        due = begun + seconds * number / len(bodies)
        threading.Event().wait(max(0.0, due - time.perf_counter()))
        assert clients[threading.get_ident() % CLIENTS].post(url, content=body).status_code == 200
        return time.perf_counter() - due

    clients = [httpx2.Client(headers=HEADERS, timeout=60) for _ in range(CLIENTS)]
    try:
        with ThreadPoolExecutor(CLIENTS) as pool:
            return sorted(pool.map(send, enumerate(bodies)))
    finally:
        for client in clients:
            client.close()


@dataclass(frozen=True)
class _Stored:
    calls: int
    bytes: int


SIZE = """
SELECT (SELECT count() FROM calls FINAL) AS calls,
    (SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND table = 'calls') AS bytes
"""

CEILING_RUN = """
import resource, sys
from pathlib import Path
from costspan_collector.pipeline import SCHEMA
from costspan_collector.sent import statement
from costspan_collector.store import connect, migrate
folder, spans = Path(sys.argv[1]), int(sys.argv[2])
store = connect(f'chdb://{folder}/ceiling')
migrate(store)
insert = statement('calls')
def lean():
    store.command((folder / 'ceiling.sql').read_text(), path=str(folder / 'wire.bin'))
def same():
    for piece in sorted(folder.glob('*.sent')):
        store.insert_read('calls', piece, statement=insert, schema=SCHEMA, at_once=8)
def plain():
    store.command('ALTER TABLE calls RESET SETTING min_bytes_for_wide_part')
    length = 'is_more_than_read\\n            + '
    assert length in insert
    unchecked = insert.replace(length, '')
    settings = f"SETTINGS format_schema = '{SCHEMA}', input_format_protobuf_oneof_presence = 1"
    for piece in sorted(folder.glob('*.sent')):
        store.command(f'{unchecked} {settings}, async_insert = 0', path=str(piece))
def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
for run in (lean, same, plain):
    used = []
    for _ in range(3):
        before = cpu()
        run()
        used.append(cpu() - before)
        store.command('SELECT throwIf(count() != {n:UInt64}) FROM calls', n=spans)
        store.command('TRUNCATE TABLE calls')
    print(min(used))
"""


def measure(spans: int) -> dict[str, Any]:
    """Run it all; return the figures."""
    bodies = [request(first, BATCH) for first in range(0, spans, BATCH)]
    spans = BATCH * len(bodies)
    found: dict[str, Any] = {"spans": spans, "bytes_a_span_on_the_wire": len(bodies[0]) / BATCH}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "data")
        collector = Collector(data)
        send_all(collector.url, [request(10**9, BATCH)])
        collector.settle(BATCH)
        before, started = collector.cpu_seconds, time.perf_counter()
        quarter = len(bodies) // 4
        acknowledged = send_all(collector.url, bodies[:quarter])
        found["resident_mb_after_a_quarter"] = collector.resident_bytes / 2**20
        acknowledged = sorted(acknowledged + send_all(collector.url, bodies[quarter:]))
        found["ack_p99_seconds_under_full_load"] = acknowledged[len(acknowledged) * 99 // 100]
        found["acknowledged_a_second"] = spans / (time.perf_counter() - started)
        collector.settle(spans + BATCH)
        found["spans_a_cpu_second"] = spans / (collector.cpu_seconds - before)
        found["spans_a_second"] = spans / (time.perf_counter() - started)
        found["resident_mb_at_the_end"] = collector.resident_bytes / 2**20
        paced = CALLS_A_SECOND * PACED_SECONDS // PACED_BATCH
        small = [request(2 * 10**9 + n * PACED_BATCH, PACED_BATCH) for n in range(paced)]
        late = send_paced(collector.url, small, PACED_SECONDS)
        found["ack_p50_seconds_at_2000_a_second"] = late[len(late) // 2]
        found["ack_p99_seconds_at_2000_a_second"] = late[len(late) * 99 // 100]
        collector.settle(spans + BATCH + paced * PACED_BATCH)
        collector.stop()
        store = connect(f"chdb://{data}")
        migrate(store)
        store.command("OPTIMIZE TABLE calls FINAL")
        (stored,) = store.select(SIZE, _Stored)
        assert stored.calls == spans + BATCH + paced * PACED_BATCH
        found["bytes_a_call_on_disk"] = stored.bytes / stored.calls
        store.close()
        taken = _ceilings(Path(folder), bodies)
    for name, seconds in zip(("lean_ceiling", "ceiling", "plain_ceiling"), taken, strict=True):
        found[f"{name}_spans_a_cpu_second"] = spans / seconds
        found[f"of_the_{name}"] = found["spans_a_cpu_second"] * seconds / spans
    return found


def _ceilings(folder: Path, bodies: list[bytes]) -> list[float]:
    """Return the CPU seconds that the engine alone takes for the same spans: lean, same, plain."""
    with (folder / "wire.bin").open("wb") as file:
        for body in bodies:
            file.write(_varint(len(body)) + body)
    (folder / "ceiling.sql").write_text(CEILING.replace("$SCHEMA", SCHEMA))
    now = datetime.now(UTC)
    blocks = [
        sent.block
        for body in bodies
        for sent in take(
            body, ExportTraceServiceRequest.FromString(body), received_at=now, ingest_id=1
        )[0]
    ]
    a_piece = Receiver().segment_bytes // len(blocks[0])
    for number in range(0, len(blocks), a_piece):
        piece = b"".join(blocks[number : number + a_piece])
        (folder / f"{number:06d}.sent").write_bytes(piece)
    run = subprocess.run(
        [sys.executable, "-c", CEILING_RUN, str(folder), str(BATCH * len(bodies))],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,  # where the engine keeps the schema that it was given as text
    )
    if run.returncode:
        raise RuntimeError(run.stderr[-3000:])
    return [float(line) for line in run.stdout.split()]


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def memory(spans: int) -> list[float]:
    """Return how many megabytes are resident, looked at often while `spans` arrive, all different."""
    bodies = [request(first, BATCH) for first in range(0, BODIES * BATCH, BATCH)]
    rounds = iter(range(1, spans // BATCH + 1))
    turn = threading.Lock()
    found: list[float] = []

    def send() -> None:
        with httpx2.Client(headers=HEADERS, timeout=60) as client:
            while True:
                with turn:
                    number = next(rounds, 0)
                if not number:
                    return
                other = number.to_bytes(4, "big") + _TRACE[4:]
                body = bodies[number % BODIES].replace(b"\x0a\x10" + _TRACE, b"\x0a\x10" + other)
                while (status := client.post(collector.url, content=body).status_code) == 503:
                    threading.Event().wait(1)  # the door is quicker than the store
                assert status == 200
                if number % LOOK_EVERY == 0:
                    found.append(collector.resident_bytes / 2**20)
                    print(f"{number * BATCH} spans, {found[-1]:.0f} MB resident", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        collector = Collector(Path(folder, "data"))
        with ThreadPoolExecutor(CLIENTS) as pool:
            for sending in [pool.submit(send) for _ in range(CLIENTS)]:
                sending.result()
        collector.settle(spans // BATCH * BATCH)
        collector.stop()
    return found


_TRACE = (2**100).to_bytes(16, "big")[:8]
"""How every trace of `request` begins."""


@pytest.mark.bench
@pytest.mark.timeout(3600)
def test_resident_memory_is_flat() -> None:
    found = memory(MEMORY_SPANS)
    third = len(found) // 3
    middle, end = found[third : 2 * third], found[2 * third :]
    assert sum(end) / len(end) < MOST_GROWTH * sum(middle) / len(middle)


@pytest.mark.bench
@pytest.mark.timeout(600)
def test_the_bars_of_the_collector_hold() -> None:
    found = measure(SPANS)
    print(json.dumps(found, indent=2))
    assert found["ack_p99_seconds_at_2000_a_second"] < MOST_P99_SECONDS
    assert found["bytes_a_call_on_disk"] <= MOST_BYTES_A_CALL


if __name__ == "__main__":
    if sys.argv[1:2] == ["memory"]:
        memory(int(sys.argv[2]) if sys.argv[2:] else MEMORY_SPANS)
        raise SystemExit
    print(json.dumps(measure(int(sys.argv[1]) if sys.argv[1:] else SPANS), indent=2))
