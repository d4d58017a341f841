"""Once acknowledged, a call is there once: through repeats, re-splits and kills."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import httpx2
import pytest

HEADERS = {"content-type": "application/x-protobuf"}
SUMS = """
SELECT count() AS calls, sum(cost_usd) AS cost_usd, sum(input_tokens) AS input_tokens
FROM calls FINAL
"""


@dataclass(frozen=True)
class Sums:
    calls: int
    cost_usd: Decimal
    input_tokens: int


def test_a_call_sent_twice_counts_once(collector: Any, wire: Any) -> None:
    request = wire.request(*(wire.span(number) for number in range(100)))
    for _ in range(3):
        assert collector.post(request).status_code == 200
    assert collector.pipeline.settle()
    assert collector.store.select(SUMS, Sums) == [Sums(100, Decimal("0.021"), 100_000)]
    assert collector.total("spans_accepted_total") == 300
    assert collector.total("spans_stored_total") == 300


def test_every_batch_sent_twice_shuffled_and_split_anew_gives_the_same_sums(
    collector: Any, wire: Any
) -> None:
    dice = Random(5)  # noqa: S311 - it only shuffles
    spans = [wire.span(number) for number in range(1000)]
    requests: list[Any] = []
    for _ in range(2):
        dice.shuffle(spans)
        rest = list(spans)
        while rest:
            size = dice.randrange(1, 60)
            requests.append(wire.request(*rest[:size]))
            del rest[:size]
    requests += requests[::3]
    dice.shuffle(requests)
    with ThreadPoolExecutor(8) as pool:
        statuses = {sent.status_code for sent in pool.map(collector.post, requests)}
    assert statuses == {200}
    assert collector.pipeline.settle()
    assert collector.store.select(SUMS, Sums) == [Sums(1000, Decimal("0.21"), 1_000_000)]


@dataclass
class Senders:
    """Apps that send spans, few or many, and never the same twice, until they are told to stop."""

    wire: Any
    numbers: Iterator[int]
    dice: Random
    acknowledged: list[int] = field(default_factory=list[int])
    stopped: threading.Event = field(default_factory=threading.Event)
    heard: threading.Event = field(default_factory=threading.Event)
    """Set by an acknowledgement."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def send(self, url: str) -> None:
        with httpx2.Client(headers=HEADERS) as client:
            while not self.stopped.is_set():
                with self.lock:
                    sent = list(islice(self.numbers, self.dice.choice((2, 200))))
                body = self.wire.request(*map(self.wire.span, sent)).SerializeToString()
                try:
                    answer = client.post(url, content=body)
                except httpx2.TransportError:
                    continue
                if answer.status_code == 200:
                    with self.lock:
                        self.acknowledged += sent
                    self.heard.set()


class Killed:
    """A collector in a process of its own, on a directory that outlives it."""

    def __init__(self, data: Path, **settings: str) -> None:
        environment = {
            **os.environ,
            **settings,
            "COSTSPAN_CLICKHOUSE_URL": f"chdb://{data}",
            "COSTSPAN_RECEIVER_SEGMENT_SECONDS": "0.05",
        }
        command = [sys.executable, "-m", "costspan", "collector", "--port", "0", "--json"]
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self.process.stdout
        self.url = json.loads(self.process.stdout.readline())["traces"]

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


FOUND = """
import sys
from dataclasses import dataclass
from pathlib import Path
from costspan_collector.pipeline import Pipeline
from costspan_collector.settings import Receiver
from costspan_collector.store import connect

@dataclass
class Found:
    span_id: str
    versions: int

store = connect(sys.argv[1])
pipeline = Pipeline(store, Receiver())
assert pipeline.settle()
assert pipeline.backlog.quarantined == 0
pipeline.close()
for row in store.select(
    "SELECT hex(calls.span_id) AS span_id, count() AS versions FROM calls GROUP BY ALL", Found):
    print(int(row.span_id, 16) - 1, row.versions)
"""


def kill_often(tmp_path: Path, wire: Any, kills: int, dice: Random) -> None:
    data = tmp_path / "data"
    senders = Senders(wire, iter(range(10**9)), dice)
    for _ in range(kills):
        collector = Killed(data)
        senders.stopped.clear()
        senders.heard.clear()
        with ThreadPoolExecutor(4) as pool:
            sending = [pool.submit(senders.send, collector.url) for _ in range(4)]
            assert senders.heard.wait(30)
            threading.Event().wait(dice.uniform(0, 0.8))
            collector.kill()
            senders.stopped.set()
            for each in sending:
                each.result()
    listed = subprocess.run(
        [sys.executable, "-c", FOUND, f"chdb://{data}"], capture_output=True, text=True, check=True
    )
    lines = [line.split() for line in listed.stdout.splitlines()]
    found = {int(number): int(versions) for number, versions in lines}
    print(f"{kills} kills, {len(senders.acknowledged)} acknowledged, {len(found)} stored")
    assert len(senders.acknowledged) > kills
    assert set(senders.acknowledged) <= found.keys()
    # No sender repeated one and each segment went in once: not even FINAL is needed.
    assert set(found.values()) == {1}


@pytest.fixture
def now_wire(wire: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Spans of now, for a collector whose clock is right."""
    monkeypatch.setattr(wire, "now", datetime.now(UTC).replace(microsecond=0))
    return wire


def test_what_was_acknowledged_survives_kills_at_random_moments(
    tmp_path: Path, now_wire: Any
) -> None:
    kill_often(tmp_path, now_wire, 2, Random(3))  # noqa: S311 - moments


@pytest.mark.bench
@pytest.mark.timeout(600)
def test_what_was_acknowledged_survives_fifty_kills(tmp_path: Path, now_wire: Any) -> None:
    kill_often(tmp_path, now_wire, 50, Random(50))  # noqa: S311 - moments


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 320 MiB, where this machine lets us have one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=320m", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("no file system can be mounted here")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_where_the_disk_is_too_full_for_the_engine_spans_wait_and_are_stored_when_there_is_room(
    disk: Path, now_wire: Any
) -> None:
    collector = Killed(disk / "data", COSTSPAN_RECEIVER_MIN_FREE_BYTES="0")
    health = collector.url.replace("/v1/traces", "/healthz")

    def send(*numbers: int) -> int:
        body = now_wire.request(*map(now_wire.span, numbers)).SerializeToString()
        return httpx2.post(collector.url, content=body, headers=HEADERS).status_code

    def told(status: str) -> bool:
        for _ in range(400):
            found = httpx2.get(health).json()
            if found["status"] == status and (status != "ok" or not found["spool"]["bytes"]):
                return True
            threading.Event().wait(0.05)
        return False

    try:
        assert send(1) == 200
        assert told("ok")
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(80 * 2**20))  # the engine wants 256 MiB free
        assert send(2, 3) == 200
        assert told("behind")
        assert "free" in httpx2.get(health).json()["reason"]
        assert send(4) == 200
        ballast.unlink()
        assert told("ok")
        metrics = httpx2.get(collector.url.replace("/v1/traces", "/metrics")).text
        assert 'costspan_spans_stored_total{table="calls"} 4' in metrics
    finally:
        collector.kill()
