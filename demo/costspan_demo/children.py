"""Processes that the demo starts, and that end with it however it ends.

A child reads its standard input in a thread. The other end is held by the parent alone, so when
the parent stops, or is killed, the input ends and the child stops by itself.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Self

from costspan.errors import Unavailable

_PATIENCE_SECONDS = 10.0


def when_stdin_ends(stop: Callable[[], None]) -> None:
    """Call `stop` from a thread when nobody holds the other end of the standard input."""

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        stop()

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


@dataclass(frozen=True, slots=True)
class Child:
    """A running module of the demo."""

    name: str
    process: subprocess.Popen[str]

    @classmethod
    def start(cls, name: str, arguments: Sequence[str], environ: Mapping[str, str]) -> Self:
        """Run `costspan_demo.<name>` with the parent's environment and `environ` over it."""
        process = subprocess.Popen(  # noqa: S603 - our own modules
            [sys.executable, "-m", f"costspan_demo.{name}", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **environ},
            text=True,
            # A Ctrl-C of the terminal is for the parent, which then ends its children in order.
            start_new_session=True,
        )
        return cls(name, process)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def line(self) -> str:
        """Return the next line that it prints.

        Raises:
            Unavailable: it ended instead.
        """
        line = _pipe(self.process.stdout).readline()
        if not line:
            msg = f"the demo's {self.name} ended with exit code {self.process.wait()}"
            raise Unavailable(msg)
        return line

    def stop(self) -> None:
        """End it: ask by closing its input, then insist."""
        _pipe(self.process.stdin).close()
        try:
            self.process.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        _pipe(self.process.stdout).close()


def _pipe(pipe: IO[str] | None) -> IO[str]:
    if pipe is None:
        msg = "a child is started with pipes"
        raise TypeError(msg)
    return pipe
