"""Processes that are killed, and what comes about in its own time."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    """Look again, a little later, until it is so."""

    def look(true: Callable[[], bool]) -> None:
        pause = threading.Event()
        for _ in range(3000):
            if true():
                return
            pause.wait(0.01)
        pytest.fail("it did not come about")

    return look


@pytest.fixture
def dying() -> Iterator[Callable[..., Callable[..., list[str]]]]:
    """Start `dies.py` with a script beside this file; what is returned runs its `main` once.

    `run(n, *arguments)` gives what it printed, the last line being `ended -9` if it was killed
    before its nth write, `ended 0` if it had fewer.
    """
    started: list[subprocess.Popen[str]] = []

    def start(script: str) -> Callable[..., list[str]]:
        process = subprocess.Popen(
            [sys.executable, HERE / "dies.py", HERE / script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)

        def run(nth: int, *arguments: object) -> list[str]:
            assert process.stdin
            assert process.stdout
            print(nth, *arguments, file=process.stdin, flush=True)
            lines: list[str] = []
            while not lines or not lines[-1].startswith("ended "):
                line = process.stdout.readline()
                assert line, "the process that forks is gone"
                lines.append(line.rstrip())
            return lines

        return run

    yield start
    for process in started:
        process.communicate()
