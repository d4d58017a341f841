"""Work that must not be done on the app's threads: a bounded queue and one thread for each kind.

A piece of work is an iterator. After each of its steps the thread pauses as long as the step
took, so that the app never waits longer than one step for the interpreter. What waits is bounded;
what is lost is counted.
"""

import os
import threading
import time
from collections.abc import Iterator
from queue import Empty, SimpleQueue

from costspan.counters import count
from costspan.export import at_end_of_worker

EXIT_SECONDS = 5.0
"""How long the app's exit may wait for what is left to do."""

_kinds: list["Background"] = []


class Background:
    """The work of one kind. Made once, when its module is imported."""

    def __init__(self, kind: str, most: int) -> None:
        self.kind = kind
        self.most = most
        self._begin()
        _kinds.append(self)
        if hasattr(os, "register_at_fork"):  # the parent has the thread, and does the work
            os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        # A SimpleQueue, because work is put in by finalizers too: they may run at any point.
        self._queue: SimpleQueue[Iterator[None] | threading.Event] = SimpleQueue()
        self._hurry = threading.Event()
        self._starting = threading.Lock()
        self._started = False

    def put(self, work: Iterator[None]) -> bool:
        """Hand over work; return False, and count it, where too much waits."""
        if self._queue.qsize() >= self.most:
            count(f"{self.kind}_dropped")
            return False
        self._queue.put(work)
        self.start()
        return True

    def drain(self, deadline: float) -> bool:
        """Wait for everything that was put in, until `time.monotonic()` says `deadline`."""
        if not self._started:
            return self._drain_here(deadline)
        done = threading.Event()
        self._queue.put(done)
        self._hurry.set()
        try:
            return done.wait(max(0.0, deadline - time.monotonic()))
        finally:
            self._hurry.clear()

    def _drain_here(self, deadline: float) -> bool:
        """Do what waits on this thread: a process that ends can start no other."""
        while time.monotonic() < deadline:
            try:
                work = self._queue.get_nowait()
            except Empty:
                return True
            self._do(work, pauses=False)
        return self._queue.empty()

    def start(self) -> None:
        """Start the thread, the first time only."""
        if self._started or not self._starting.acquire(blocking=False):
            return
        try:
            if not self._started:
                name = f"costspan-{self.kind}"
                threading.Thread(target=self._run, name=name, daemon=True).start()
                self._started = True
                at_end_of_worker(finish, priority=1)  # while spans can still be sent
        except RuntimeError as error:  # the process is about to end, or has too many threads
            count("thread_not_started", error)
        finally:
            self._starting.release()

    def _run(self) -> None:
        while True:
            self._do(self._queue.get(), pauses=True)

    def _do(self, work: Iterator[None] | threading.Event, *, pauses: bool) -> None:
        if isinstance(work, threading.Event):
            work.set()
            return
        try:
            began = time.thread_time()
            for _ in work:
                if pauses:
                    self._hurry.wait(time.thread_time() - began)
                began = time.thread_time()
        except Exception as error:  # noqa: BLE001
            count(f"{self.kind}_failed", error)


def drain(timeout_seconds: float) -> bool:
    """Wait until all work of every kind is done; return whether it is."""
    deadline = time.monotonic() + timeout_seconds
    done = [kind.drain(deadline) for kind in _kinds]
    return all(done)


def finish() -> None:
    """Do what is left before the process ends, as far as there is time."""
    deadline = time.monotonic() + EXIT_SECONDS
    for kind in _kinds:
        if not kind.drain(deadline):
            count(f"{kind.kind}_cut_by_exit")
