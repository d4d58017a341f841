import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest
from google.rpc.status_pb2 import Status

from costspan.errors import Rejected, Unavailable
from costspan_collector.store import Store


@pytest.fixture
def inserting(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., None]], None]:
    """Put a fault before every insert; it raises or waits, or lets the real insert go on."""
    real = Store.insert

    def put(fault: Callable[..., None]) -> None:
        def insert(self: Store, table: str, rows: Sequence[Any], *, token: str = "") -> None:
            fault(table, rows)
            real(self, table, rows, token=token)

        monkeypatch.setattr(Store, "insert", insert)

    return put


class Gate:
    """Holds inserts until it is opened."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()

    def __call__(self, _table: str, _rows: Sequence[Any]) -> None:
        self.reached.set()
        self.opened.wait(20)


@pytest.fixture
def gate(inserting: Any) -> Iterator[Gate]:
    gate = Gate()
    inserting(gate)
    yield gate
    gate.opened.set()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def refuse(error: Exception) -> Callable[..., None]:
    def fault(_table: str, _rows: Sequence[Any]) -> None:
        raise error

    return fault


@pytest.mark.parametrize("error", [Unavailable("the disk is full"), OSError(28, "no space")])
def test_spans_that_cannot_be_kept_now_are_asked_for_again_and_kept_once(
    collector: Any, wire: Any, monkeypatch: pytest.MonkeyPatch, inserting: Any, error: Exception
) -> None:
    request = wire.request(wire.span(1), wire.span(2, span_id=b""), wire.span(3))
    inserting(refuse(error))
    for _ in range(2):
        response = collector.post(request)
        assert response.status_code == 503
        assert int(response.headers["retry-after"]) > 0
        assert Status.FromString(response.content).message
    assert collector.calls == []
    assert collector.total("spans_postponed_total", reason="store_unavailable") == 4
    monkeypatch.undo()
    for _ in range(2):
        assert collector.post(request).status_code == 200
    assert len(collector.calls) == 2
    assert collector.total("spans_accepted_total") == 2
    assert collector.total("spans_redelivered_total") == 2


def test_an_insert_that_fails_halfway_is_made_whole_by_the_next(
    collector: Any, wire: Any, monkeypatch: pytest.MonkeyPatch, inserting: Any
) -> None:
    def fault(table: str, _rows: Sequence[Any]) -> None:
        if table == "http_attempts":
            msg = "later"
            raise Unavailable(msg)

    request = wire.request(wire.span(1), wire.plain_span(2, {"costspan.request.attempt": 0}))
    inserting(fault)
    assert collector.post(request).status_code == 503
    monkeypatch.undo()
    assert collector.post(request).status_code == 200
    assert (len(collector.calls), len(collector.attempts)) == (1, 1)
    assert collector.total("spans_accepted_total") == 2


def test_what_the_store_refuses_for_good_is_not_asked_for_again(
    collector: Any, wire: Any, inserting: Any
) -> None:
    inserting(refuse(Rejected("no such column")))
    response = collector.post(wire.request(wire.span(1)))
    assert response.status_code == 500
    assert "retry-after" not in response.headers
    assert collector.total("spans_refused_total", reason="store_refused") == 1


def test_one_request_the_store_refuses_does_not_cost_its_neighbours(
    collector: Any, wire: Any, inserting: Any, pool: ThreadPoolExecutor
) -> None:
    gate = Gate()

    def fault(table: str, rows: Sequence[Any]) -> None:
        gate(table, rows)
        if any(row.span_id[-1] == 6 for row in rows):
            msg = "poison"
            raise Rejected(msg)

    inserting(fault)
    first = pool.submit(collector.post, wire.request(wire.span(1)))
    assert gate.reached.wait(20)
    rest = [pool.submit(collector.post, wire.request(wire.span(n))) for n in (3, 5, 7)]
    until(lambda: collector.pipeline.waiting == 4)
    gate.opened.set()
    statuses = [sent.result().status_code for sent in (first, *rest)]
    assert statuses == [200, 200, 500, 200]
    assert [call.span_id[-1] for call in collector.calls] == [2, 4, 8]


def test_a_full_queue_asks_senders_to_wait_and_loses_nothing(
    collector: Any, wire: Any, gate: Gate, pool: ThreadPoolExecutor
) -> None:
    chat = {"gen_ai.operation.name": "chat"}
    many = wire.request(*(wire.plain_span(number, chat) for number in range(900)))
    one_too_many = wire.request(*(wire.plain_span(number, chat) for number in range(900, 1001)))
    first = pool.submit(collector.post, many)
    assert gate.reached.wait(20)
    response = collector.post(one_too_many)
    assert response.status_code == 429
    assert int(response.headers["retry-after"]) > 0
    gate.opened.set()
    assert first.result().status_code == 200
    until(lambda: collector.pipeline.waiting == 0)
    assert collector.post(one_too_many).status_code == 200
    assert len(collector.calls) == 1001


def test_a_request_larger_than_the_queue_has_its_turn(collector: Any, wire: Any) -> None:
    spans = [wire.plain_span(number, {"gen_ai.operation.name": "chat"}) for number in range(1500)]
    assert collector.post(wire.request(*spans)).status_code == 200
    assert len(collector.calls) == 1500


def test_a_sender_that_leaves_does_not_disturb_the_writer(
    collector: Any, wire: Any, gate: Gate
) -> None:
    body = wire.request(wire.span(1)).SerializeToString()
    headers = {"content-type": "application/x-protobuf"}
    with pytest.raises(httpx2.ReadTimeout):
        httpx2.post(f"{collector.url}/v1/traces", content=body, headers=headers, timeout=0.3)
    gate.opened.set()
    assert collector.post(wire.request(wire.span(2))).status_code == 200
    assert len(collector.calls) == 2


def test_stopping_writes_what_was_taken_and_takes_no_more(
    collector: Any, wire: Any, gate: Gate, pool: ThreadPoolExecutor
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
    collector: Any, wire: Any, gate: Gate, pool: ThreadPoolExecutor
) -> None:
    taken = pool.submit(collector.post, wire.request(wire.span(1)))
    assert gate.reached.wait(20)
    queued = pool.submit(collector.post, wire.request(wire.span(2)))
    until(lambda: collector.pipeline.waiting == 2)
    collector.pipeline.close(deadline_seconds=0.1)
    assert queued.result().status_code == 503
    gate.opened.set()
    assert taken.result().status_code == 200


def test_health_fails_while_the_store_does(collector: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def command(_store: Store, _sql: str) -> None:
        msg = "no answer"
        raise Unavailable(msg)

    monkeypatch.setattr(Store, "command", command)
    response = httpx2.get(f"{collector.url}/healthz")
    assert response.status_code == 503
    assert response.json() == {"status": "failing", "reason": "no answer", "queue_spans": 0}
    monkeypatch.undo()


def until(true: Callable[[], bool]) -> None:
    """Look again, a little later, until it is so."""
    pause = threading.Event()
    for _ in range(2000):
        if true():
            return
        pause.wait(0.005)
    pytest.fail("it did not come about")
