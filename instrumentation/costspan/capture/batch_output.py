"""The output file of a batch: each line is a billed call, at half the price.

Only bytes that the app has read are looked at, and not on its thread: they are parsed in the
background, with a pause after each line as long as the line took, so that the app never waits
longer than that for the interpreter. What waits is bounded; what is lost is counted. A file read
again makes the same rows again, so a loss is mended by reading it once more.
"""

import json
import os
import re
import threading
import time
import zlib
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any
from urllib.parse import urlsplit

from costspan.capture.answer import mapping, text
from costspan.capture.deferred import Line, Read, batch_of, settle
from costspan.counters import count

_LINE = re.compile(rb'\s*\{\s*"(?:id"\s*:\s*"batch_req_|custom_id")')
"""How a line begins at OpenAI, and at Azure."""

_PLAIN = frozenset({"", "identity"})
_PIECE_BYTES = 2**16
_MOST_WAITING_PIECES = 2**13
_LONGEST_LINE = 2**24
_SPANS_A_FLUSH = 512
"""An exporter's queue holds 2048 by default, and drops what is more."""
_FLUSH_MILLISECONDS = 10_000
EXIT_SECONDS = 5.0
"""How long the app's exit may wait for what it has just read."""


class BatchOutput:
    """A file that may be a batch's output, while its bytes pass. Its methods never raise."""

    def __init__(self, read: Read, response: Any, *, decoded: bool) -> None:  # noqa: ANN401
        self._read = read
        self._encoding = "" if decoded else response.headers.get("content-encoding", "").lower()
        path = urlsplit(str(response.request.url)).path.split("/")
        self._file = path[-2] if len(path) > 1 else ""
        self._waiting: list[bytes] = []
        self._size = 0
        self._begun = False
        self._full = False
        """Some of it was lost, so the rest is not taken."""
        self._over = False
        """It holds nothing more that is of use."""
        # The rest belongs to the thread in the background.
        self._decoder = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
        self._tail = b""
        self._lines = self._spans = 0

    def take(self, data: bytes) -> None:
        """Note bytes that the app has read."""
        try:
            if len(data) > _PIECE_BYTES:
                self._hand_over()
                whole = memoryview(data)
                for start in range(0, len(data), _PIECE_BYTES):
                    self._put(whole[start : start + _PIECE_BYTES])
            else:
                self._waiting.append(data)
                self._size += len(data)
                if self._size >= _PIECE_BYTES:
                    self._hand_over()
        except Exception as error:  # noqa: BLE001
            self._over = True
            count("batch_unread", error)

    def end(self) -> None:
        """Note that there is no more."""
        try:
            self._hand_over()
            self._put(None)
        except Exception as error:  # noqa: BLE001
            count("batch_unread", error)

    def _hand_over(self) -> None:
        waiting, self._waiting, self._size = self._waiting, [], 0
        if waiting:
            self._put(b"".join(waiting))

    def _put(self, piece: "bytes | memoryview | None") -> None:
        if not self._begun:
            self._begun = True
            if self._encoding in _PLAIN and (piece is None or not _LINE.match(piece)):
                self._over = True
        if self._full or self._over:
            return
        if _background.queue.qsize() >= _MOST_WAITING_PIECES:
            self._full = True
            count("batch_dropped")
            return
        _background.start()
        _background.queue.put((self, piece))

    # In the background.

    def parse(self, piece: "bytes | memoryview | None") -> Iterator[None]:
        """Record the lines that end in this piece, one at a time; None is the end."""
        if self._over:
            return
        try:
            for data in self._decoded(piece):
                *lines, self._tail = (self._tail + data).split(b"\n")
                for line in lines:
                    self._line(line)
                    yield
                if not self._lines and len(self._tail) >= 64 and not _LINE.match(self._tail):
                    self._over = True
                if len(self._tail) > _LONGEST_LINE:
                    self._over = True
                    count("batch_line_too_long")
                if self._over:
                    return
        except zlib.error as error:
            self._over = True
            count("batch_unread", error)

    def _decoded(self, piece: "bytes | memoryview | None") -> Iterator[bytes]:
        if piece is None:
            yield b"\n"
        elif self._encoding in _PLAIN:
            yield bytes(piece)
        elif self._encoding in {"gzip", "deflate"}:
            while piece:
                yield self._decoder.decompress(piece, _LONGEST_LINE)
                piece = self._decoder.unconsumed_tail
        else:
            self._over = True
            count("batch_encoding_unknown")

    def _line(self, line: bytes) -> None:
        if self._over or not line.strip():
            return
        self._lines += 1
        if not _LINE.match(line):
            self._other()
            return
        try:
            told = mapping(json.loads(line)) or {}
        except (ValueError, RecursionError) as error:
            count("batch_line_unread", error)
            return
        if "response" not in told and "error" not in told:
            self._other()  # a batch's input begins alike
            return
        response = mapping(told.get("response")) or {}
        if response.get("status_code") != 200:
            return  # refused or expired: not billed
        body = mapping(response.get("body"))
        request_id = text(response.get("request_id"))
        id = text(told.get("id")) or (text(body.get("id")) if body else None) or request_id
        if body is None or id is None:
            count("batch_line_unread")
            return
        settle(body, self._read, Line(id, request_id, batch_of(self._file)))
        self._spans += 1
        if self._spans % _SPANS_A_FLUSH == 0:
            flush = getattr(self._read.provider, "force_flush", None)
            if callable(flush) and not flush(_FLUSH_MILLISECONDS):
                count("batch_flush_late")

    def _other(self) -> None:
        """Note a line that no batch writes: the first says that the file is something else."""
        if self._lines == 1:
            self._over = True
        else:
            count("batch_line_unread")


class _Background:
    """One thread, made when there is something to do, and its queue."""

    def __init__(self) -> None:
        self.queue: SimpleQueue[tuple[BatchOutput, bytes | memoryview | None] | threading.Event] = (
            SimpleQueue()
        )
        self.hurry = threading.Event()
        self._starting = threading.Lock()
        self.started = False

    def start(self) -> None:
        """Start the thread, the first time only."""
        if self.started or not self._starting.acquire(blocking=False):
            return
        try:
            if not self.started:
                threading.Thread(target=self._run, name="costspan-batches", daemon=True).start()
                self.started = True
        finally:
            self._starting.release()

    def _run(self) -> None:
        while True:
            item = self.queue.get()
            if isinstance(item, threading.Event):
                item.set()
                continue
            output, piece = item
            try:
                began = time.thread_time()
                for _ in output.parse(piece):
                    self.hurry.wait(time.thread_time() - began)
                    began = time.thread_time()
            except Exception as error:  # noqa: BLE001
                count("batch_unread", error)
            del item, output, piece  # or the last file would stay in memory


_background = _Background()


def drain(timeout_seconds: float) -> bool:
    """Wait until everything that the app has read is recorded; return whether it is."""
    background = _background
    if not background.started:
        return True
    done = threading.Event()
    background.queue.put(done)
    background.hurry.set()
    try:
        return done.wait(timeout_seconds)
    finally:
        background.hurry.clear()


def finish() -> None:
    """Record what the app has read before it ends, as far as there is time."""
    if not drain(EXIT_SECONDS):
        count("batch_cut_by_exit")


def _forget() -> None:
    """Start afresh in a forked child: the parent has the thread, and does the work."""
    global _background
    _background = _Background()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
