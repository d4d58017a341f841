"""Between the receiver and the store: rows in memory, then in a segment, then in a table.

Requests that wait together share one fsync. A submission is done when its rows are durable in a
segment, and not before; a second thread puts whole segments into the store, in order.
"""

import logging
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import chain
from pathlib import Path

from costspan.errors import CostspanError, Rejected, Unavailable
from costspan_collector.normalise import Normalised
from costspan_collector.record import SpanCount
from costspan_collector.segments import Backlog, Frame, Part, Segment, Segments, Unreadable
from costspan_collector.sent import accepted, read, statement
from costspan_collector.settings import Receiver
from costspan_collector.store import Row, Store
from costspan_collector.telemetry import Counters

_log = logging.getLogger("costspan.pipeline")

_ROWS_AT_ONCE = 20_000
_RETRY_SECONDS = 1.0
FEW_SPANS = 300
_AT_ONCE = 4096
"""Spans that the engine reads together, about."""
_PIECES = 8
"""Of a segment in which there is something that the engine does not read."""
SCHEMA = f"{Path(__file__).with_name('sql') / 'sent.proto'}:Sent"


class QueueFull(Unavailable):
    """As many spans wait for the disk as may."""


@dataclass(frozen=True, slots=True)
class _Submission:
    result: Normalised
    done: Future[None] = field(default_factory=Future[None])

    def __len__(self) -> int:
        return len(self.result)


class Pipeline:
    """Rows in at `submit`, durable when its future is done, in the store soon after."""

    def __init__(
        self, store: Store, settings: Receiver, *, counters: Counters | None = None
    ) -> None:
        self._store = store
        self._most = settings.queue_spans
        self._most_bytes = settings.queue_bytes
        self._segment_bytes = settings.segment_bytes
        self._segment_seconds = settings.segment_seconds
        self._segments = Segments(
            settings.spool or _folder_beside(store),
            most_bytes=settings.spool_bytes,
            least_free_bytes=settings.min_free_bytes,
        )
        self.counters = counters or Counters()
        self._queue: deque[_Submission] = deque()
        self._waiting = 0  # spans in the queue and in the write that runs
        self._waiting_bytes = 0  # of the requests that brought them
        self._closed = False
        self._refusing = ""
        self._failing = ""
        self._ingest_id = 0
        self._changed = threading.Condition()
        self._due = threading.Event()
        self._stopping = threading.Event()
        self._keeper = threading.Thread(target=self._keep_all, name="costspan-keeper", daemon=True)
        self._drainer = threading.Thread(
            target=self._drain_all, name="costspan-drainer", daemon=True
        )
        self._keeper.start()
        self._drainer.start()

    @property
    def reads_spans(self) -> bool:
        """Return whether the store can read spans as they were sent."""
        return self._store.reads_files

    @property
    def waiting(self) -> int:
        """Return how many spans wait for the disk."""
        return self._waiting

    @property
    def backlog(self) -> Backlog:
        """Return how far the store is behind what was acknowledged."""
        return self._segments.backlog()

    def refuses(self) -> str:
        """Return why no spans can be taken now; empty if they can."""
        if not (self._keeper.is_alive() and self._drainer.is_alive()):
            return "a thread of the collector has stopped"
        if self._refusing:  # who is known to refuse is sent nothing, and so must try by itself
            self._refusing = self._segments.refused_still()
        return self._refusing or self._segments.full()

    @property
    def behind(self) -> str:
        """Return why the store takes nothing; empty if it does."""
        return self._failing

    def next_ingest_id(self) -> int:
        """Return a number greater than all before, those of earlier processes included."""
        with self._changed:
            self._ingest_id = max(self._ingest_id + 1, time.time_ns())
            return self._ingest_id

    def submit(self, result: Normalised) -> Future[None]:
        """Queue rows; the future is done once they are durable, or holds why they are not.

        Raises:
            Unavailable: the queue is full (`QueueFull`), or the pipeline is closing.
        """
        submission = _Submission(result)
        submission.done.set_running_or_notify_cancel()  # a sender that left cannot undo it
        size = len(submission)
        with self._changed:
            if self._closed:
                msg = "the collector is stopping; send the spans again"
                raise Unavailable(msg)
            # A request larger than the whole queue must still have its turn, alone.
            if self._waiting and (
                self._waiting + size > self._most
                or self._waiting_bytes + result.size_bytes > self._most_bytes
            ):
                msg = f"{self._waiting} spans wait for the disk; send the spans again later"
                raise QueueFull(msg)
            if not size:
                submission.done.set_result(None)
                return submission.done
            self._waiting += size
            self._waiting_bytes += result.size_bytes
            self._queue.append(submission)
            self._changed.notify_all()
        return submission.done

    def settle(self, deadline_seconds: float = 30) -> bool:
        """Wait until the store has all that was acknowledged; return whether it has."""
        ends = time.monotonic() + deadline_seconds
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting, deadline_seconds)
            self._due.set()
            return self._changed.wait_for(
                lambda: not self._waiting and not self.backlog.bytes, ends - time.monotonic()
            )

    def check(self) -> None:
        """Ask the store whether it answers.

        Raises:
            CostspanError: it does not; the message says why.
        """
        self._store.command("SELECT 1")

    def close(self, deadline_seconds: float = 10) -> None:
        """Take no more, keep what is queued, store what can be, and stop.

        Segments that are left are for the next process; requests that are left were never accepted.
        """
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._keeper.join(deadline_seconds)
        self._stopping.set()
        self._due.set()
        self._drainer.join(deadline_seconds)
        with self._changed:
            left = list(self._queue)
            self._queue.clear()
        for submission in left:
            submission.done.set_exception(Unavailable("the collector stopped before it could"))
        self._segments.close()

    def _keep_all(self) -> None:
        while group := self._next_group():
            self._keep(group)
            with self._changed:
                self._waiting -= sum(map(len, group))
                self._waiting_bytes -= sum(each.result.size_bytes for each in group)
                self._changed.notify_all()

    def _next_group(self) -> list[_Submission]:
        """Wait for submissions and take as many as one write may hold; none once closed."""
        group: list[_Submission] = []
        rows = 0
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closed)
            while self._queue and (not group or rows + len(self._queue[0]) <= _ROWS_AT_ONCE):
                rows += len(self._queue[0])
                group.append(self._queue.popleft())
        return group

    def _keep(self, group: list[_Submission]) -> None:
        try:
            size = self._segments.append(self._frame([each.result for each in group]))
        except Rejected as error:
            if len(group) > 1:  # one of them is at fault, the others shall not pay for it
                for submission in group:
                    self._keep([submission])
                return
            _log.error("%s", error)
            group[0].done.set_exception(error)
        except Exception as error:  # noqa: BLE001 - the thread must go on
            self._refuse(group, error)
        else:
            self._refusing = ""
            for submission in group:
                self._count(submission.result)
                submission.done.set_result(None)
            if size >= self._segment_bytes:
                self._segments.seal()
                self._due.set()

    def _frame(self, results: Sequence[Normalised]) -> Frame:
        counted: Counter[tuple[datetime, str, str, str]] = Counter()
        for result in results:
            hour = result.received_at.replace(minute=0, second=0, microsecond=0)
            for fate, spans in result.fates.items():
                counted[hour, *fate] += spans
        tables: dict[str, Sequence[Row]] = {
            "calls": [call for result in results for call in result.calls],
            "http_attempts": [attempt for result in results for attempt in result.attempts],
            "span_counts": [
                SpanCount(hour=hour, service_name=service, fate=fate, reason=reason, spans=spans)
                for (hour, service, fate, reason), spans in counted.items()
            ],
            "sender_counts": [sender for result in results for sender in result.senders],
        }
        sent = [each for result in results for each in result.sent]
        return [
            *(Part(each.table, each.spans, each.block, is_sent=True) for each in sent),
            *(
                Part(table, len(rows), self._store.encode(table, rows))
                for table, rows in tables.items()
                if rows
            ),
        ]

    def _refuse(self, group: list[_Submission], error: Exception) -> None:
        known = isinstance(error, Unavailable)
        if not known:
            _log.error("a write broke", exc_info=error)
            error = Unavailable(f"the spans are not kept: {type(error).__name__}")
        elif not self._refusing:  # one line when it starts, the counters tell the rest
            _log.error("%s", error)
        self._refusing = str(error)
        for submission in group:
            submission.done.set_exception(error)

    def _count(self, result: Normalised) -> None:
        add = self.counters.add
        add("costspan_spans_received_total", len(result))
        add("costspan_spans_accepted_total", len(result.calls), table="calls")
        add("costspan_spans_accepted_total", len(result.attempts), table="http_attempts")
        for sent in result.sent:
            add("costspan_spans_accepted_total", sent.spans, table=sent.table)
        self._count_rest(result)

    def _count_rest(self, result: Normalised) -> None:
        add = self.counters.add
        for reason, spans in Counter(refused.reason for refused in result.refused).items():
            add("costspan_spans_refused_total", spans, reason=reason)
        for reason, spans in result.passed_by.items():
            add("costspan_spans_passed_by_total", spans, reason=reason)
        for name, texts in result.truncated.items():
            add("costspan_texts_truncated_total", texts, attribute=name)
        for reason, spans in result.clamped.items():
            add("costspan_spans_clamped_total", spans, reason=reason)

    def _drain_all(self) -> None:
        while True:
            self._due.wait(self._segment_seconds)
            self._due.clear()
            last = self._stopping.is_set()  # asked before: what is sealed then is all there is
            if not self._failing:
                self._segments.seal()
            self._drain()
            with self._changed:
                self._changed.notify_all()
            if last:
                return
            if self._failing:
                self._stopping.wait(_RETRY_SECONDS)

    def _drain(self) -> None:
        while segment := self._segments.first():
            try:
                self._store_segment(segment)
                self._segments.remove(segment)
            except Exception as error:  # noqa: BLE001 - the thread must go on
                if not self._failing:  # one line when it starts, the counters tell the rest
                    _log.error("%s", error, exc_info=not isinstance(error, CostspanError))
                self._failing = str(error) or type(error).__name__
                return
            if self._failing:
                _log.warning("the store takes rows again")
                self._failing = ""

    def _store_segment(self, segment: Segment) -> None:
        faults: Counter[str] = Counter()
        tables: defaultdict[str, list[Part]] = defaultdict(list)
        sent: defaultdict[str, list[Part]] = defaultdict(list)
        for index, item in enumerate(segment.read()):
            if not isinstance(item, Unreadable):
                for part in item:
                    (sent if part.is_sent else tables)[part.table].append(part)
            elif item.torn:
                faults["torn"] += 1
            else:
                faults["corrupt"] += 1
                path = self._segments.quarantine(segment, item, index)
                _log.error("a part of a segment cannot be read; it is kept in %s", path)
        stored: list[Part] = []
        by_hand: list[Normalised] = []
        for table, parts in sent.items():
            # Nobody but us writes to it, so the engine finds what was just checked.
            data = b"".join(part.block for part in parts) if faults else segment.path
            read, left = self._read_sent(segment, table, parts, data)
            results, made = self._read_here(segment, left)
            stored += read
            by_hand += results
            faults["refused"] += len(left) - len(results)
            made.append(self._frame([accepted(table, part.block) for part in read]))
            for part in chain.from_iterable(made):
                tables[part.table].append(part)
        for table, parts in tables.items():
            taken = self._insert(segment, table, parts)
            stored += taken
            faults["refused"] += len(parts) - len(taken)
        self._count_stored(stored, by_hand, faults)  # now: what fails before comes again

    def _count_stored(
        self, stored: Sequence[Part], by_hand: Sequence[Normalised], faults: Mapping[str, int]
    ) -> None:
        add = self.counters.add
        add("costspan_segments_stored_total")
        for part in stored:
            if part.table in {"calls", "http_attempts"}:
                add("costspan_spans_stored_total", part.rows, table=part.table)
        for reason, number in faults.items():
            add("costspan_segment_faults_total", number, reason=reason)
        for result in by_hand:
            self._count_rest(result)
            for refused in result.refused:
                _log.warning("a span that was acknowledged is refused: %s", refused)

    def _read_sent(
        self, segment: Segment, table: str, parts: Sequence[Part], data: bytes | Path
    ) -> tuple[Sequence[Part], Sequence[Part]]:
        """Let the engine read spans as they were sent; return the parts that it read, and the others.

        It reads nothing where it may read one otherwise than `normalise`: then it is given what there
        is in pieces.
        """
        if self._read(table, parts, data, token=f"{segment.name}.sent"):
            return parts, []
        if len(parts) == 1:
            return [], parts
        read: list[Part] = []
        left: list[Part] = []
        size = -(-len(parts) // _PIECES)
        for first in range(0, len(parts), size):
            piece = parts[first : first + size]
            data = b"".join(part.block for part in piece)
            token = f"{segment.name}.sent.{first}"
            (read if self._read(table, piece, data, token=token) else left).extend(piece)
        return read, left

    def _read(self, table: str, parts: Sequence[Part], data: bytes | Path, *, token: str) -> bool:
        """Let the engine read `data`, which holds `parts`; return whether it did."""
        if _are_few(parts):
            return False
        try:
            with self._inserting(table):
                self._store.insert_read(
                    table,
                    data,
                    statement=statement(table),
                    schema=SCHEMA,
                    at_once=_AT_ONCE * len(parts) // sum(part.rows for part in parts) or 1,
                    token=token,
                )
        except Rejected:
            return False
        return True

    def _read_here(
        self, segment: Segment, parts: Sequence[Part]
    ) -> tuple[list[Normalised], list[Frame]]:
        results: list[Normalised] = []
        frames: list[Frame] = []
        for index, part in enumerate(parts):  # each by itself, so that not all pay for one
            try:
                result = read(part.block)
                frames.append(self._frame([result]))
                results.append(replace(result, calls=[], attempts=[]))  # which are in the frame
            except Rejected as error:
                path = self._segments.quarantine(segment, part, index)
                _log.error("%s; it is kept in %s", error, path)
        return results, frames

    def _insert(self, segment: Segment, table: str, parts: Sequence[Part]) -> Sequence[Part]:
        """Insert the rows of one table; return the parts that the store did not refuse for good."""
        try:
            self._insert_blocks(table, parts, segment.name)
        except Rejected:
            taken: list[Part] = []
            for index, part in enumerate(parts):  # not all are at fault
                try:
                    self._insert_blocks(table, [part], f"{segment.name}.{index}")
                    taken.append(part)
                except Rejected as error:
                    path = self._segments.quarantine(segment, part, index)
                    _log.error("%s; they are kept in %s", error, path)
            return taken
        return parts

    def _insert_blocks(self, table: str, parts: Sequence[Part], token: str) -> None:
        with self._inserting(table):
            self._store.insert_blocks(table, b"".join(part.block for part in parts), token=token)

    @contextmanager
    def _inserting(self, table: str) -> Generator[None]:
        """Count an insert: how long it took, or that it failed."""
        started = time.perf_counter()
        try:
            yield
        except CostspanError as error:
            kind = type(error).__name__
            self.counters.add("costspan_insert_failures_total", table=table, kind=kind)
            raise
        seconds = time.perf_counter() - started
        self.counters.add("costspan_insert_seconds_sum", seconds, table=table)
        self.counters.add("costspan_insert_seconds_count", table=table)


def _are_few(parts: Sequence[Part]) -> bool:
    """Return whether to read their spans takes less than to tell the engine how it is done.

    That takes it 50 ms, and so does `normalise` for 300 spans; a block takes as long as two.
    """
    return sum(part.rows + 2 for part in parts) < FEW_SPANS


def _folder_beside(store: Store) -> Path:
    kind, _, where = store.url.partition("://")
    return Path(where, "spool") if kind == "chdb" else Path("costspan-spool")
