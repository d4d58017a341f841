import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costspan.errors import Rejected, Unavailable
from costspan_collector.segments import Frame, Part, Segment, Segments, Unreadable

Open = Callable[..., Segments]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def segments(folder: Path) -> Iterator[Open]:
    opened: list[Segments] = []

    def open_(most_bytes: int = 10**6, least_free_bytes: int = 0) -> Segments:
        opened.append(Segments(folder, most_bytes=most_bytes, least_free_bytes=least_free_bytes))
        return opened[-1]

    yield open_
    for each in opened:
        each.close()


def frame(number: int, size: int = 50) -> Frame:
    return [
        Part("calls", number, bytes([number]) * size),
        Part("http_attempts", 1, b"\xc5span", is_sent=True),
    ]


def sealed(segments: Segments) -> Segment:
    segments.seal()
    segment = segments.first()
    assert segment is not None
    return segment


def test_what_was_appended_is_read_in_order(segments: Open) -> None:
    opened = segments()
    for number in range(3):
        opened.append(frame(number))
    segment = sealed(opened)
    assert list(segment.read()) == [frame(number) for number in range(3)]
    assert segment.size == segment.path.stat().st_size
    opened.remove(segment)
    assert opened.first() is None
    assert not segment.path.exists()


def test_segments_that_a_process_left_are_drained_in_order(segments: Open) -> None:
    earlier = segments()
    for number in range(3):
        earlier.append(frame(number))
        earlier.seal()
    earlier.append(frame(3))
    earlier.close()
    later = segments()
    later.append(frame(4))
    later.seal()
    found: list[Any] = []
    names: list[str] = []
    while segment := later.first():
        found += segment.read()
        names.append(segment.name)
        later.remove(segment)
    assert found == [frame(number) for number in range(5)]
    assert len(set(names)) == 5


def test_a_file_that_somebody_put_there_is_seen_and_breaks_nothing(
    segments: Open, folder: Path
) -> None:
    folder.mkdir()
    for name in ("copy of yesterday.segment", "٣-1.segment", f"{'9' * 400}.segment"[-200:]):
        (folder / name).write_bytes(b"no frame")
    (folder / "kept.segment").mkdir()
    opened = segments()
    backlog = opened.backlog()
    assert (backlog.segments, backlog.oldest_seconds) == (3, pytest.approx(0, abs=1))
    segment = opened.first()
    assert segment is not None
    assert list(segment.read()) == [Unreadable(b"no frame", torn=False)]


def test_a_folder_has_one_collector(segments: Open) -> None:
    first = segments()
    with pytest.raises(Rejected, match="is in use by another collector"):
        segments()
    first.close()
    segments()


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Rejected, match="cannot keep segments in"):
        Segments(tmp_path / "file" / "spool", most_bytes=1, least_free_bytes=0)


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.99])
def test_a_torn_end_is_told_from_what_was_durable(segments: Open, kept: float) -> None:
    opened = segments()
    first = opened.append(frame(1))
    size = opened.append(frame(2))
    segment = sealed(opened)
    os.truncate(segment.path, first + int((size - first) * kept))
    good, torn = segment.read()
    assert good == frame(1)
    assert isinstance(torn, Unreadable)
    assert torn.torn


@settings(deadline=None)  # the disk may be busy
@given(at=st.integers(0, 10**6), flipped=st.integers(1, 255))
def test_a_wrong_byte_costs_one_frame_at_most_and_is_seen(
    tmp_path_factory: pytest.TempPathFactory, at: int, flipped: int
) -> None:
    opened = Segments(tmp_path_factory.mktemp("spool"), most_bytes=10**6, least_free_bytes=0)
    frames = [frame(number) for number in range(4)]
    for each in frames:
        opened.append(each)
    segment = sealed(opened)
    data = bytearray(segment.path.read_bytes())
    at %= len(data)
    data[at] ^= flipped
    segment.path.write_bytes(data)
    found = list(segment.read())
    opened.close()
    (unreadable,) = [item for item in found if isinstance(item, Unreadable)]
    good = [item for item in found if not isinstance(item, Unreadable)]
    hit = at * 4 // len(data)
    assert good == frames[:hit] + frames[hit + 1 :]
    assert not unreadable.torn  # also at the end: what was acknowledged is never cut


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_can_be_read(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("spool") / "1-a.segment"
    path.write_bytes(data)
    found = list(Segment(path, len(data)).read())
    assert b"".join(item.data for item in found if isinstance(item, Unreadable)) == data


def test_a_part_in_quarantine_is_a_segment_when_it_is_moved_back(
    segments: Open, folder: Path
) -> None:
    opened = segments()
    opened.append(frame(1))
    segment = sealed(opened)
    part = frame(7)[0]
    path = opened.quarantine(segment, part, 0)
    assert opened.quarantine(segment, part, 0) == path  # tried again, it is the same file
    assert opened.quarantine(segment, part, 1) != path
    assert opened.quarantine(segment, Unreadable(b"x", torn=False), 0).read_bytes() == b"x"
    assert opened.backlog().quarantined == 3
    opened.remove(segment)
    opened.close()
    path.rename(folder / path.name)
    again = segments()
    assert [list(found.read()) for found in [sealed(again)]] == [[[part]]]
    assert again.backlog().oldest_seconds < 60


def test_where_as_much_waits_as_may_nothing_is_taken_until_there_is_room(segments: Open) -> None:
    opened = segments(most_bytes=500)
    opened.append(frame(1, 300))
    assert opened.full() == ""
    opened.append(frame(2, 3000))  # the one that goes beyond is taken
    with pytest.raises(Unavailable, match="wait for the store"):
        opened.append(frame(3, 1))
    assert "wait for the store" in opened.full()
    opened.remove(sealed(opened))
    assert opened.full() == ""
    opened.append(frame(3))


def test_a_disk_is_left_the_room_that_the_engine_needs(
    segments: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = segments(least_free_bytes=10**6)
    free = 10**6 - 1

    def statvfs(_path: Path) -> SimpleNamespace:
        return SimpleNamespace(f_bavail=free, f_frsize=1)

    monkeypatch.setattr(os, "statvfs", statvfs)
    with pytest.raises(Unavailable, match="is full"):
        opened.append(frame(1))
    free += 10**6
    opened.append(frame(1))


def test_what_the_system_writes_only_in_parts_is_whole(
    segments: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seven_bytes(handle: int, pieces: Sequence[bytes]) -> int:
        return os.write(handle, b"".join(pieces)[:7])

    monkeypatch.setattr(os, "writev", seven_bytes)
    opened = segments()
    opened.append(frame(1))
    opened.append(frame(2))
    assert list(sealed(opened).read()) == [frame(1), frame(2)]


def test_more_parts_than_the_system_writes_at_once_are_one_frame(segments: Open) -> None:
    opened = segments()
    many = [part for number in range(1000) for part in frame(number % 256, 3)]
    opened.append(many)
    assert list(sealed(opened).read()) == [many]


def test_a_disk_that_fills_up_in_the_middle_of_a_write_loses_nothing_acknowledged(
    segments: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = segments()
    opened.append(frame(1))
    room = [30]

    def fills_up(handle: int, pieces: Sequence[bytes]) -> int:
        if not room[0]:
            raise OSError(28, "No space left on device")
        taken = os.write(handle, b"".join(pieces)[: room[0]])
        room[0] -= taken
        return taken

    monkeypatch.setattr(os, "writev", fills_up)
    with pytest.raises(Unavailable, match="No space left"):
        opened.append(frame(2))
    monkeypatch.undo()
    opened.append(frame(3))
    first = sealed(opened)
    assert list(first.read()) == [frame(1)]
    opened.remove(first)
    second = opened.first()
    assert second is not None
    assert list(second.read()) == [frame(3)]


def test_one_thread_appends_while_another_drains(segments: Open) -> None:
    opened = segments()
    found: list[Any] = []
    ended = threading.Event()

    def drain() -> None:
        while True:
            last = ended.is_set()
            opened.seal()
            while segment := opened.first():
                found.extend(segment.read())
                opened.remove(segment)
            if last:
                return

    thread = threading.Thread(target=drain)
    thread.start()
    for number in range(200):
        opened.append(frame(number))
    ended.set()
    thread.join()
    assert found == [frame(number) for number in range(200)]
