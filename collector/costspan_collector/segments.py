"""Write-ahead segments: what was acknowledged and is not in the store yet, on local disk.

A segment is a file of frames; a frame is what one fsync made durable, whole or not at all. What is
in its blocks the engine can read, so a segment goes into the store without a look at its rows. And
all of it is messages with their lengths before them, of which only those with spans say anything to
the engine: so it reads spans out of the segment itself.
"""

import fcntl
import os
import re
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import reduce
from io import FileIO
from mmap import ACCESS_READ, mmap
from pathlib import Path
from uuid import uuid4
from zlib import crc32

from costspan.errors import Rejected, Unavailable

_ASIDE = b"\x7a"  # the tag of a field that no message of ours has
_MARK = b"\x13" + _ASIDE + b"\x11\xc5span"
_HEADER = struct.Struct(">8sIII")  # mark, length, checksum of the payload, checksum of these
_PART = struct.Struct(">BsBII")  # lengths around the tag; rows, length of the block; then the table
_BLOCK = struct.Struct(">5ss5s")  # lengths around the tag, before rows; spans are a message as is
_SENT = "@sent"
"""After the name of a table, where a block holds spans and not rows."""
_SUFFIX = ".segment"
_PIECES_AT_ONCE = 1000
"""The system takes up to 1,024."""
_NANOSECONDS = re.compile(r"\d{20}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of one table."""

    table: str
    rows: int
    block: bytes | memoryview
    """In the engine's own format, or a message `Sent`: the spans that become these rows."""
    is_sent: bool = False


Frame = Sequence[Part]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Bytes of a segment that are no frame."""

    data: bytes
    torn: bool
    """The start of a frame whose write was cut off: nobody was told that these are durable."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A file to which nothing is added any more. Its name is the token of its inserts."""

    path: Path
    size: int

    @property
    def name(self) -> str:
        """Return what no other segment, of any process, is called."""
        return self.path.stem

    def read(self) -> Iterator[Frame | Unreadable]:
        """Yield everything in it, in order."""
        if not self.path.stat().st_size:
            return
        with self.path.open("rb") as file:
            data = mmap(file.fileno(), 0, access=ACCESS_READ)
        at = 0
        while at < len(data):
            end = _frame_end(data, at)
            payload = memoryview(data)[at + _HEADER.size : end]
            if end and crc32(payload) == _HEADER.unpack_from(data, at)[2]:
                yield list(_parts(payload))
                at = end
            else:
                following = _next_frame(data, at + 1)
                cut_off = following == len(data) and not end and _is_start(data[at:])
                yield Unreadable(data[at:following], torn=cut_off)
                at = following


@dataclass(frozen=True, slots=True)
class Backlog:
    """How far the store is behind what was acknowledged."""

    segments: int
    bytes: int
    oldest_seconds: float
    quarantined: int
    """Files that hold what cannot be stored; they wait for a person."""


class Segments:
    """The segments of one folder. One thread appends and another drains."""

    def __init__(self, folder: Path, *, most_bytes: int, least_free_bytes: int) -> None:
        """Take the folder; what an earlier process left in it is sealed.

        Raises:
            Rejected: another process has it, or it cannot be written.
        """
        self._folder = folder
        self._most_bytes = most_bytes
        self._least_free_bytes = least_free_bytes
        self._lock = threading.Lock()
        self._file: FileIO | None = None
        self._size = 0
        self._refused_bytes = 0
        try:
            (folder / "quarantine").mkdir(parents=True, exist_ok=True)
            self._held = _locked(folder / "lock")
            self._sealed = [
                Segment(path, path.stat().st_size)
                for path in sorted(folder.glob(f"*{_SUFFIX}"))
                if path.is_file()
            ]
        except OSError as error:
            msg = (
                f"cannot keep segments in {folder}: {error.strerror}; "
                "name a folder that can be written in COSTSPAN_RECEIVER_SPOOL"
            )
            raise Rejected(msg) from error

    def append(self, frame: Frame) -> int:
        """Make a frame durable; return how large the open segment is now.

        Raises:
            Unavailable: it is not kept; there may be room later.
        """
        pieces = _framed(frame)
        size = sum(map(len, pieces))
        with self._lock:
            if full := self._full():
                raise Unavailable(full)
            try:
                if self._file is None:
                    self._file = self._opened()
                    _sync(self._folder)
                _write(self._file, pieces)
            except OSError as error:
                self._refused_bytes = size
                self._seal()
                raise Unavailable(self._unusable(error)) from error
            self._size += size
            return self._size

    def seal(self) -> None:
        """Add no more to the open segment."""
        with self._lock:
            self._seal()

    def first(self) -> Segment | None:
        """Return the oldest sealed segment."""
        with self._lock:
            return self._sealed[0] if self._sealed else None

    def remove(self, segment: Segment) -> None:
        """Forget a segment that is in the store."""
        segment.path.unlink(missing_ok=True)
        with self._lock:
            self._sealed.remove(segment)

    def quarantine(self, segment: Segment, what: Part | Unreadable, which: int) -> Path:
        """Put aside what cannot be stored. A part becomes a segment: moved back, it is tried again."""
        if isinstance(what, Part):
            pieces, name = _framed([what]), f"{segment.name}-{what.table}-{which}{_SUFFIX}"
        else:
            pieces, name = [what.data], f"{segment.name}-{which}.unreadable"
        path = self._folder / "quarantine" / name
        with path.open("wb", buffering=0) as file:
            _write(file, pieces)
        _sync(path.parent)
        return path

    def full(self) -> str:
        """Return why nothing can be appended now; empty if it can."""
        with self._lock:
            return self._full()

    def refused_still(self) -> str:
        """Return why what was refused last would be again; empty if not. Writes as much to know."""
        path = self._folder / "room"
        with self._lock:  # an append shall not lack the room that this takes
            if full := self._full():
                return full
            try:
                try:
                    with path.open("wb", buffering=0) as file:
                        _write(file, [bytes(self._refused_bytes)])
                finally:
                    path.unlink(missing_ok=True)
            except OSError as error:
                return self._unusable(error)
        return ""

    def backlog(self) -> Backlog:
        """Return how far the store is behind."""
        with self._lock:
            waiting = [(segment.path, segment.size) for segment in self._sealed]
            if self._file is not None and self._size:
                waiting.append((Path(self._file.name), self._size))
        return Backlog(
            len(waiting),
            sum(size for _, size in waiting),
            max(0.0, time.time() - _made_at(waiting[0][0])) if waiting else 0.0,
            sum(1 for _ in self._folder.glob("quarantine/*")),
        )

    def close(self) -> None:
        """Let go of the folder; what is in it waits for the next process."""
        with self._lock:
            self._seal()
        self._held.close()

    def _full(self) -> str:
        behind = sum(segment.size for segment in self._sealed) + self._size
        if behind >= self._most_bytes:
            return f"{behind} bytes wait for the store; send the spans again later"
        try:
            found = os.statvfs(self._folder)
        except OSError as error:
            return self._unusable(error)
        if found.f_bavail * found.f_frsize < self._least_free_bytes:
            return f"the disk of {self._folder} is full; send the spans again later"
        return ""

    def _unusable(self, error: OSError) -> str:
        return f"spans cannot be kept in {self._folder}: {error.strerror}"

    def _opened(self) -> FileIO:
        name = f"{time.time_ns():020d}-{uuid4().hex[:12]}{_SUFFIX}"
        file = (self._folder / name).open("xb", buffering=0)
        self._size = 0
        return file

    def _seal(self) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        with suppress(OSError):  # what a failed write left is cut here, or when it is read
            file.truncate(self._size)
        file.close()
        if self._size:
            self._sealed.append(Segment(Path(file.name), self._size))
        else:
            Path(file.name).unlink(missing_ok=True)
        self._size = 0


def _locked(path: Path) -> FileIO:
    file = FileIO(path, "w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        msg = (
            f"{path.parent} is in use by another collector; stop it, "
            "or name another folder in COSTSPAN_RECEIVER_SPOOL"
        )
        raise Rejected(msg) from error
    return file


def _framed(frame: Frame) -> list[bytes | memoryview]:
    """Return what is written of a frame, one piece after the other."""
    pieces: list[bytes | memoryview] = []
    for part in frame:
        name = f"{part.table}{_SENT * part.is_sent}".encode()
        about, size = 8 + len(name), len(part.block)
        pieces += [_PART.pack(2 + about, _ASIDE, about, part.rows, size), name]
        if not part.is_sent:
            pieces.append(_BLOCK.pack(_varint(6 + size), _ASIDE, _varint(size)))
        pieces.append(part.block)
    checksum = reduce(lambda before, piece: crc32(piece, before), pieces, 0)
    head = struct.pack(">8sII", _MARK, sum(map(len, pieces)), checksum)
    return [head, struct.pack(">I", crc32(head)), *pieces]


def _varint(number: int) -> bytes:
    """Return a number as protobuf writes one, in as many bytes as any size here takes."""
    return bytes([*(number >> shift & 127 | 128 for shift in (0, 7, 14, 21)), number >> 28])


def _parts(payload: memoryview) -> Iterator[Part]:
    at = 0
    while at < len(payload):
        _, _, about, rows, length = _PART.unpack_from(payload, at)
        at += _PART.size
        name = bytes(payload[at : at + about - 8]).decode()
        at += about - 8
        table = name.removesuffix(_SENT)
        is_sent = table != name
        at += 0 if is_sent else _BLOCK.size
        yield Part(table, rows, payload[at : at + length], is_sent=is_sent)
        at += length


def _frame_end(data: mmap, at: int) -> int:
    """Return where the frame at `at` ends; 0 if there is no whole one."""
    if len(data) - at < _HEADER.size or not _is_start(data[at : at + _HEADER.size]):
        return 0
    end = at + _HEADER.size + _HEADER.unpack_from(data, at)[1]
    return end if end <= len(data) else 0


def _is_start(data: bytes) -> bool:
    """Return whether a frame begins so, as far as there is any of it."""
    if len(data) < _HEADER.size:
        return data[: len(_MARK)] == _MARK[: len(data)]
    mark, _, _, checksum = _HEADER.unpack_from(data)
    return mark == _MARK and checksum == crc32(data[: _HEADER.size - 4])


def _next_frame(data: mmap, at: int) -> int:
    """Return where the next whole frame starts, or the end."""
    while (at := data.find(_MARK, at)) >= 0:
        if _frame_end(data, at):
            return at
        at += 1
    return len(data)


def _made_at(path: Path) -> float:
    """Return what the name tells; a file that somebody put there came now."""
    told = path.stem.partition("-")[0]
    return int(told) / 1e9 if _NANOSECONDS.fullmatch(told) else time.time()


def _write(file: FileIO, pieces: Sequence[bytes | memoryview]) -> None:
    """Write all of them, durably; a disk that fills up takes less than it is given."""
    for first in range(0, len(pieces), _PIECES_AT_ONCE):
        some = pieces[first : first + _PIECES_AT_ONCE]
        size = sum(map(len, some))
        while (written := os.writev(file.fileno(), some)) < size:
            some, size = [memoryview(b"".join(some))[written:]], size - written
    os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
