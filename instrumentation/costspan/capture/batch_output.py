"""The output file of a batch: each line is a billed call, at half the price.

Only bytes that the app has read are looked at, and not on its thread: they are parsed in the
background, a line at a time. A file read again makes the same rows again, so a loss is mended by
reading it once more.
"""

import json
import re
import zlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from costspan.capture.answer import mapping, text
from costspan.capture.background import Background
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
        self._full = not _background.put(self.parse(piece))

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


_background = Background("batch", _MOST_WAITING_PIECES)
