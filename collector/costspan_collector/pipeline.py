"""Between the receiver and the store: a bounded queue and one writer.

What has queued while an insert ran goes into the next one together, so the block grows with
the load. A submission is done when its rows are durable, and not before.
"""

import hashlib
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TypeVar

from costspan.errors import CostspanError, Rejected, Unavailable
from costspan_collector.record import Call, HttpAttempt
from costspan_collector.settings import Receiver
from costspan_collector.store import Store
from costspan_collector.telemetry import Counters

_log = logging.getLogger("costspan.pipeline")

_ROWS_AT_ONCE = 20_000
_DAYS_AT_ONCE = 50
"""ClickHouse refuses a block of more than 100 partitions, and a partition is a day."""
_REMEMBERED = 100_000
"""Identities kept to tell a span delivered again from a new one, for the counters only."""

_AnyRow = TypeVar("_AnyRow", Call, HttpAttempt)
_ABOUT_DELIVERY = {"received_at", "ingest_id"}
_of_call = attrgetter(*(n for n in Call.__dataclass_fields__ if n not in _ABOUT_DELIVERY))
_of_attempt = attrgetter(*(n for n in HttpAttempt.__dataclass_fields__ if n not in _ABOUT_DELIVERY))


class QueueFull(Unavailable):
    """As many spans wait for the store as may."""


@dataclass(frozen=True, slots=True)
class _Submission:
    calls: Sequence[Call]
    attempts: Sequence[HttpAttempt]
    done: Future[None] = field(default_factory=Future[None])

    def __len__(self) -> int:
        return len(self.calls) + len(self.attempts)


class Pipeline:
    """Rows in at `submit`, durable when its future is done."""

    def __init__(
        self, store: Store, settings: Receiver, *, counters: Counters | None = None
    ) -> None:
        self._store = store
        self._most = settings.queue_spans
        self.counters = counters or Counters()
        self._queue: deque[_Submission] = deque()
        self._waiting = 0  # spans in the queue and in the insert that runs
        self._closed = False
        self._failing = False
        self._ingest_id = 0
        self._changed = threading.Condition()
        self._seen: OrderedDict[bytes, None] = OrderedDict()
        self._writer = threading.Thread(target=self._run, name="costspan-writer", daemon=True)
        self._writer.start()

    @property
    def waiting(self) -> int:
        """Return how many spans wait for the store."""
        return self._waiting

    def next_ingest_id(self) -> int:
        """Return a number greater than all before, those of earlier processes included."""
        with self._changed:
            self._ingest_id = max(self._ingest_id + 1, time.time_ns())
            return self._ingest_id

    def submit(self, calls: Sequence[Call], attempts: Sequence[HttpAttempt]) -> Future[None]:
        """Queue rows; the future is done once they are durable, or holds why they are not.

        Raises:
            Unavailable: the queue is full (`QueueFull`), or the pipeline is closing.
        """
        submission = _Submission(calls, attempts)
        submission.done.set_running_or_notify_cancel()  # a sender that left cannot undo it
        size = len(submission)
        with self._changed:
            if self._closed:
                msg = "the collector is stopping; send the spans again"
                raise Unavailable(msg)
            # A request larger than the whole queue must still have its turn, alone.
            if self._waiting and self._waiting + size > self._most:
                msg = f"{self._waiting} spans wait for the store; send the spans again later"
                raise QueueFull(msg)
            self._waiting += size
            self._queue.append(submission)
            self._changed.notify_all()
        return submission.done

    def check(self) -> None:
        """Ask the store whether it answers.

        Raises:
            CostspanError: rows cannot be written now; the message says why.
        """
        if not self._writer.is_alive():
            msg = "the writer has stopped"
            raise Unavailable(msg)
        self._store.command("SELECT 1")

    def close(self, deadline_seconds: float = 10) -> None:
        """Take no more, write what is queued, and stop; what is left then was never accepted."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._writer.join(deadline_seconds)
        with self._changed:
            left = list(self._queue)
            self._queue.clear()
        for submission in left:
            submission.done.set_exception(Unavailable("the collector stopped before it could"))

    def _run(self) -> None:
        while group := self._next_group():
            self._write(group)
            with self._changed:
                self._waiting -= sum(map(len, group))

    def _next_group(self) -> list[_Submission]:
        """Wait for submissions and take as many as one insert may hold; none once closed."""
        group: list[_Submission] = []
        rows = 0
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closed)
            while self._queue and (not group or rows + len(self._queue[0]) <= _ROWS_AT_ONCE):
                rows += len(self._queue[0])
                group.append(self._queue.popleft())
        return group

    def _write(self, group: list[_Submission]) -> None:
        calls = [call for submission in group for call in submission.calls]
        attempts = [attempt for submission in group for attempt in submission.attempts]
        try:
            self._insert("calls", calls)
            self._insert("http_attempts", attempts)
        except Rejected as error:
            if len(group) > 1:  # one of them is at fault, the others shall not pay for it
                for submission in group:
                    self._write([submission])
                return
            self._failed(group, error)
        except Unavailable as error:
            self._failed(group, error)
        except Exception as error:  # noqa: BLE001 - the writer must go on
            _log.exception("an insert broke")
            self._failed(group, Unavailable(f"the rows are not written: {type(error).__name__}"))
        else:
            if self._failing:
                self._failing = False
                _log.warning("the store takes rows again")
            self._count("calls", calls)
            self._count("http_attempts", attempts)
            for submission in group:
                submission.done.set_result(None)

    def _insert(self, table: str, rows: Sequence[_AnyRow]) -> None:
        for block in _blocks(rows):
            started = time.perf_counter()
            try:
                self._store.insert(table, block, token=_token(table, block))
            except CostspanError as error:
                kind = type(error).__name__
                self.counters.add("costspan_insert_failures_total", table=table, kind=kind)
                raise
            seconds = time.perf_counter() - started
            self.counters.add("costspan_insert_seconds_sum", seconds, table=table)
            self.counters.add("costspan_insert_seconds_count", table=table)

    def _failed(self, group: list[_Submission], error: CostspanError) -> None:
        if not self._failing:  # one line when it starts, the counters tell the rest
            self._failing = True
            _log.error("%s", error)
        for submission in group:
            submission.done.set_exception(error)

    def _count(self, table: str, rows: Sequence[_AnyRow]) -> None:
        again = 0
        for row in rows:
            identity = row.trace_id + row.span_id
            if identity in self._seen:
                again += 1
            else:
                self._seen[identity] = None
                if len(self._seen) > _REMEMBERED:
                    self._seen.popitem(last=False)
        self.counters.add("costspan_spans_redelivered_total", again, table=table)
        self.counters.add("costspan_spans_accepted_total", len(rows) - again, table=table)


def _blocks(rows: Sequence[_AnyRow]) -> Iterator[Sequence[_AnyRow]]:
    """Yield `rows` in blocks that span few enough days."""
    days = sorted({row.started_at.date() for row in rows})
    if len(days) <= _DAYS_AT_ONCE:
        yield rows
        return
    for first in range(0, len(days), _DAYS_AT_ONCE):
        some = frozenset(days[first : first + _DAYS_AT_ONCE])
        yield [row for row in rows if row.started_at.date() in some]


def _token(table: str, rows: Sequence[_AnyRow]) -> str:
    """Return a name for what the rows say, whenever they came: equal rows are written once."""
    digest = hashlib.sha256(table.encode())
    for row in rows:
        values = _of_call(row) if isinstance(row, Call) else _of_attempt(row)
        digest.update(repr(values).encode())
    return digest.hexdigest()
