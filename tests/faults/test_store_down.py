"""The store says no, or nothing, while spans come in."""

import errno
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from google.rpc.status_pb2 import Status

from costspan.errors import Rejected, Unavailable
from costspan_collector.pipeline import Pipeline
from costspan_collector.record import Call
from costspan_collector.segments import Frame, Segments
from costspan_collector.settings import Receiver
from costspan_collector.store import Store

Fault = Callable[..., None]


@pytest.fixture
def inserting(monkeypatch: pytest.MonkeyPatch) -> Callable[[Fault], None]:
    """Put a fault before every insert; it raises or waits, or lets the real insert go on."""
    real = {name: getattr(Store, name) for name in ("insert_blocks", "insert_read")}

    def put(fault: Fault) -> None:
        for name, insert in real.items():

            def inserting(
                self: Store, table: str, data: bytes | Path, insert: Any = insert, **more: Any
            ) -> None:
                fault(table, data.read_bytes() if isinstance(data, Path) else data)
                insert(self, table, data, **more)

            monkeypatch.setattr(Store, name, inserting)

    return put


def no_answer(_table: str, _data: bytes) -> None:
    msg = "no answer"
    raise Unavailable(msg)


class Gate:
    """Holds writes to disk until it is opened."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate()
    real = Segments.append

    def append(self: Segments, frame: Frame) -> int:
        gate.reached.set()
        gate.opened.wait(20)
        return real(self, frame)

    monkeypatch.setattr(Segments, "append", append)
    yield gate
    gate.opened.set()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


@dataclass(frozen=True)
class Counted:
    fate: str
    spans: int


COUNTED = "SELECT fate, toUInt64(sum(spans)) AS spans FROM span_counts GROUP BY ALL ORDER BY fate"


def health(collector: Any) -> Any:
    return httpx2.get(f"{collector.url}/healthz")


def asked_to_come_again(response: Any) -> bool:
    again = response.status_code in {429, 503} and int(response.headers["retry-after"]) > 0
    return again and bool(Status.FromString(response.content).message)


@pytest.mark.parametrize("error", [Unavailable("no answer"), OSError(28, "no space")])
def test_while_the_store_is_down_spans_are_kept_and_stored_once_when_it_is_back(
    collector: Any,
    wire: Any,
    monkeypatch: pytest.MonkeyPatch,
    inserting: Any,
    error: Exception,
    until: Any,
) -> None:
    down = threading.Event()

    def fault(_table: str, _blocks: bytes) -> None:
        down.set()
        raise error

    inserting(fault)
    for number in range(5):
        assert collector.post(wire.request(wire.span(number))).status_code == 200
    assert collector.post(wire.request(wire.span(0))).status_code == 200
    assert down.wait(20)
    until(lambda: health(collector).json()["status"] == "behind")
    told = health(collector)
    assert told.status_code == 200
    assert told.json()["spool"]["bytes"] > 0
    assert str(error) in told.json()["reason"]
    monkeypatch.undo()
    assert len(collector.calls) == 5
    assert health(collector).json()["status"] == "ok"
    assert collector.total("spans_stored_total", table="calls") == 6
    assert collector.store.select(COUNTED, Counted) == [Counted("calls", 6)]


def test_an_insert_that_fails_halfway_is_made_whole_by_the_next(
    collector: Any, wire: Any, monkeypatch: pytest.MonkeyPatch, inserting: Any
) -> None:
    down = threading.Event()

    def fault(table: str, _blocks: bytes) -> None:
        if table == "span_counts":
            down.set()
            msg = "later"
            raise Unavailable(msg)

    request = wire.request(wire.span(1), wire.plain_span(2, {"costspan.request.attempt": 0}))
    inserting(fault)
    assert collector.post(request).status_code == 200
    assert down.wait(20)
    monkeypatch.undo()
    assert (len(collector.calls), len(collector.attempts)) == (1, 1)
    rows = collector.store.select("SELECT * FROM calls", Call)
    assert len(rows) == 1  # the token, not FINAL, made it one
    assert collector.store.select(COUNTED, Counted) == [
        Counted("calls", 1),
        Counted("http_attempts", 1),
    ]


def test_what_is_tried_again_is_counted_when_it_is_stored(
    collector: Any, wire: Any, monkeypatch: pytest.MonkeyPatch, inserting: Any
) -> None:
    tries = threading.Semaphore(0)

    def fault(table: str, _blocks: bytes) -> None:
        if table == "span_counts":
            tries.release()
            msg = "later"
            raise Unavailable(msg)

    monkeypatch.setattr("costspan_collector.pipeline._RETRY_SECONDS", 0.01)
    inserting(fault)
    odd = wire.span(2, **{"costspan.cost.usd": "0.00022"})  # not the sum of its parts
    assert collector.post(wire.request(wire.span(1), odd)).status_code == 200
    for _ in range(3):
        assert tries.acquire(timeout=20)
    assert collector.total("spans_stored_total") == 0
    monkeypatch.undo()
    assert len(collector.calls) == 1
    assert collector.total("spans_stored_total") == 1
    assert collector.total("spans_refused_total") == 1
    assert collector.store.select(COUNTED, Counted) == [Counted("calls", 1), Counted("refused", 1)]


def test_what_the_store_refuses_for_good_is_put_aside_and_can_be_tried_again(
    collector: Any, wire: Any, settings: Receiver, monkeypatch: pytest.MonkeyPatch, inserting: Any
) -> None:
    def fault(table: str, blocks: bytes) -> None:
        if table == "calls" and b"poison" in blocks:
            msg = "poison"
            raise Rejected(msg)

    inserting(fault)
    for number, user in enumerate(["a", "poison", "b"]):
        span = wire.span(number, **{"costspan.user": user})
        assert collector.post(wire.request(span)).status_code == 200
    assert [call.user for call in collector.calls] == ["a", "b"]
    assert collector.total("segment_faults_total", reason="refused") == 1
    assert health(collector).json()["spool"]["quarantined"] == 1
    monkeypatch.undo()
    collector.pipeline.close()
    spool = settings.spool
    assert spool
    (aside,) = (spool / "quarantine").iterdir()
    aside.rename(spool / aside.name)
    later = Pipeline(collector.store, settings)
    assert later.settle()
    later.close()
    calls = collector.store.select("SELECT * FROM calls FINAL ORDER BY user", Call)
    assert [call.user for call in calls] == ["a", "b", "poison"]


def test_one_request_that_cannot_be_written_does_not_cost_its_neighbours(
    collector: Any,
    wire: Any,
    gate: Gate,
    monkeypatch: pytest.MonkeyPatch,
    pool: ThreadPoolExecutor,
    until: Any,
) -> None:
    real = Store.encode

    def encode(self: Store, table: str, rows: Any) -> bytes:
        if table == "calls" and any(row.span_id[-1] == 6 for row in rows):
            msg = "poison"
            raise Rejected(msg)
        return real(self, table, rows)

    monkeypatch.setattr(Store, "encode", encode)
    first = pool.submit(collector.post, wire.request(wire.span(1)))
    assert gate.reached.wait(20)
    by_hand = {"costspan.usage.web_search": 1}  # rows before they are durable
    spans = [wire.span(number, **by_hand) for number in (3, 5, 7)]
    rest = [pool.submit(collector.post, wire.request(span)) for span in spans]
    until(lambda: collector.pipeline.waiting == 4)
    gate.opened.set()
    answers = [sent.result() for sent in (first, *rest)]
    assert [answer.status_code for answer in answers] == [200, 200, 500, 200]
    assert "retry-after" not in answers[2].headers
    assert [call.span_id[-1] for call in collector.calls] == [2, 4, 8]
    assert collector.total("spans_refused_total", reason="not_encodable") == 1


def test_a_full_queue_asks_senders_to_wait_and_loses_nothing(
    collector: Any, wire: Any, gate: Gate, pool: ThreadPoolExecutor, until: Any
) -> None:
    chat = {"gen_ai.operation.name": "chat"}
    many = wire.request(*(wire.plain_span(number, chat) for number in range(900)))
    one_too_many = wire.request(*(wire.plain_span(number, chat) for number in range(900, 1001)))
    first = pool.submit(collector.post, many)
    assert gate.reached.wait(20)
    response = collector.post(one_too_many)
    assert response.status_code == 429
    assert asked_to_come_again(response)
    gate.opened.set()
    assert first.result().status_code == 200
    until(lambda: collector.pipeline.waiting == 0)
    assert collector.post(one_too_many).status_code == 200
    assert len(collector.calls) == 1001


class TestLargeSpans:
    @pytest.fixture
    def settings(self, settings: Receiver) -> Receiver:
        return settings.model_copy(update={"queue_bytes": 200_000})

    def test_a_few_large_spans_fill_the_queue_as_many_small_ones_do(
        self, collector: Any, wire: Any, gate: Gate, pool: ThreadPoolExecutor, until: Any
    ) -> None:
        large = {"x.note": "x" * 90_000}
        requests = [wire.request(wire.span(number, **large)) for number in range(3)]
        taken = [pool.submit(collector.post, requests[0])]
        assert gate.reached.wait(20)
        taken.append(pool.submit(collector.post, requests[1]))
        until(lambda: collector.pipeline.waiting == 2)
        response = pool.submit(collector.post, requests[2]).result(timeout=20)
        assert response.status_code == 429
        assert asked_to_come_again(response)
        gate.opened.set()
        assert [sent.result().status_code for sent in taken] == [200, 200]
        until(lambda: collector.pipeline.waiting == 0)
        assert collector.post(requests[2]).status_code == 200
        assert len(collector.calls) == 3


class TestFullSpool:
    @pytest.fixture
    def settings(self, settings: Receiver) -> Receiver:
        return settings.model_copy(update={"spool_bytes": 15_000})

    def test_a_full_spool_asks_senders_to_come_again_and_takes_spans_when_it_has_room(
        self, collector: Any, wire: Any, monkeypatch: pytest.MonkeyPatch, inserting: Any
    ) -> None:
        inserting(no_answer)
        statuses = [collector.post(wire.request(wire.span(n))).status_code for n in range(40)]
        refused = collector.post(wire.request(wire.span(99)))
        assert asked_to_come_again(refused)
        assert health(collector).status_code == 503
        assert "wait for the store" in health(collector).json()["reason"]
        assert collector.total("spans_postponed_total") == statuses.count(503) + 1 > 1
        monkeypatch.undo()
        assert len(collector.calls) == statuses.count(200)
        assert health(collector).status_code == 200
        assert collector.post(wire.request(wire.span(99))).status_code == 200
        assert len(collector.calls) == statuses.count(200) + 1


class TestFullDisk:
    @pytest.fixture
    def disk(self, tmp_path: Path) -> Iterator[Path]:
        """A disk of 2 MiB, where this machine lets us have one."""
        disk = tmp_path / "disk"
        disk.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
        try:
            mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
        except FileNotFoundError:
            mounted = False
        if not mounted:
            pytest.skip("no file system can be mounted here")
        yield disk
        subprocess.run(["umount", "--lazy", str(disk)], check=True)

    @pytest.fixture
    def settings(self, settings: Receiver, disk: Path) -> Receiver:
        return settings.model_copy(update={"spool": disk / "spool"})

    def test_a_full_disk_refuses_and_loses_nothing_and_recovers_by_itself(
        self, collector: Any, wire: Any, disk: Path
    ) -> None:
        assert collector.post(wire.request(wire.span(0))).status_code == 200
        ballast = disk / "ballast"
        with ballast.open("wb", buffering=0) as file:
            while file.write(bytes(4096)) == 4096 and shutil.disk_usage(disk).free > 20_000:
                pass
        acknowledged = [0]
        for number in range(1, 40):
            answer = collector.post(wire.request(*(wire.span(number * 50 + n) for n in range(40))))
            if answer.status_code == 200:
                acknowledged += range(number * 50, number * 50 + 40)
            else:
                assert asked_to_come_again(answer)
                break
        else:
            pytest.fail("the disk did not fill up")
        ballast.unlink()
        assert collector.post(wire.request(wire.span(9999))).status_code == 200
        found = {int.from_bytes(call.span_id, "big") - 1 for call in collector.calls}
        assert found == {*acknowledged, 9999}


def test_a_request_larger_than_the_queue_has_its_turn(collector: Any, wire: Any) -> None:
    spans = [wire.plain_span(number, {"gen_ai.operation.name": "chat"}) for number in range(1500)]
    assert collector.post(wire.request(*spans)).status_code == 200
    assert len(collector.calls) == 1500


def test_a_sender_that_leaves_does_not_disturb_the_others(
    collector: Any, wire: Any, gate: Gate
) -> None:
    body = wire.request(wire.span(1)).SerializeToString()
    headers = {"content-type": "application/x-protobuf"}
    with pytest.raises(httpx2.ReadTimeout):
        httpx2.post(f"{collector.url}/v1/traces", content=body, headers=headers, timeout=0.3)
    gate.opened.set()
    assert collector.post(wire.request(wire.span(2))).status_code == 200
    assert len(collector.calls) == 2


def test_stopping_keeps_what_was_taken_and_takes_no_more(
    collector: Any, wire: Any, gate: Gate, pool: ThreadPoolExecutor, until: Any
) -> None:
    taken = pool.submit(collector.post, wire.request(wire.span(1)))
    assert gate.reached.wait(20)
    queued = pool.submit(collector.post, wire.request(wire.span(2)))
    until(lambda: collector.pipeline.waiting == 2)
    stopping = pool.submit(collector.pipeline.close)
    until(lambda: collector.post(wire.request(wire.span(3))).status_code == 503)
    gate.opened.set()
    stopping.result()
    assert (taken.result().status_code, queued.result().status_code) == (200, 200)
    assert len(collector.calls) == 2


def test_stopping_does_not_wait_for_ever(
    collector: Any, wire: Any, gate: Gate, pool: ThreadPoolExecutor, until: Any
) -> None:
    taken = pool.submit(collector.post, wire.request(wire.span(1)))
    assert gate.reached.wait(20)
    queued = pool.submit(collector.post, wire.request(wire.span(2)))
    until(lambda: collector.pipeline.waiting == 2)
    collector.pipeline.close(deadline_seconds=0.1)
    assert queued.result().status_code == 503
    gate.opened.set()
    assert taken.result().status_code == 200


def test_what_is_not_stored_when_the_collector_stops_is_stored_by_the_next(
    collector: Any, wire: Any, settings: Receiver, monkeypatch: pytest.MonkeyPatch, inserting: Any
) -> None:
    inserting(no_answer)
    for number in range(3):
        assert collector.post(wire.request(wire.span(number))).status_code == 200
    collector.pipeline.close()
    monkeypatch.undo()
    later = Pipeline(collector.store, settings)
    assert later.settle()
    later.close()
    assert len(collector.store.select("SELECT * FROM calls FINAL", Call)) == 3


def test_health_tells_of_a_write_that_fails_and_that_there_is_room_again(
    collector: Any, wire: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(_handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", no_room)
    assert asked_to_come_again(collector.post(wire.request(wire.span(1))))
    told = health(collector)
    assert (told.status_code, told.json()["status"]) == (503, "failing")
    assert "No space left on device" in told.json()["reason"]
    monkeypatch.undo()
    assert health(collector).json()["status"] == "ok"  # though nobody sent anything
    assert collector.post(wire.request(wire.span(1))).status_code == 200
    assert len(collector.calls) == 1


def test_health_and_metrics_tell_of_a_folder_that_is_gone(
    collector: Any, settings: Receiver
) -> None:
    assert settings.spool
    aside = settings.spool.rename(settings.spool.with_name("aside"))
    told = health(collector)
    assert (told.status_code, told.json()["status"]) == (503, "failing")
    assert f"{settings.spool}: No such file" in told.json()["reason"]
    assert httpx2.get(f"{collector.url}/metrics").status_code == 200
    aside.rename(settings.spool)
    assert health(collector).json()["status"] == "ok"


def test_health_tells_of_a_store_that_does_not_answer(
    collector: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def command(_store: Store, _sql: str) -> None:
        msg = "no answer"
        raise Unavailable(msg)

    monkeypatch.setattr(Store, "command", command)
    told = health(collector).json()
    assert (told["status"], told["reason"], told["queue_spans"]) == ("behind", "no answer", 0)
    monkeypatch.undo()
