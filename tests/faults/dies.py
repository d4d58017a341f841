"""Run a step in processes that die by SIGKILL right before their nth write: `dies.py SCRIPT`.

SCRIPT has a `main(*arguments)`. Each line of stdin is `n argument...` and is one run of it, in a fork
that dies before its nth write to the store; one with fewer writes ends by itself. Each write prints
the name of its table first, and `ended 0` or `ended -9` comes after each run. Forks, since what
a step imports takes long; the engine has threads and is opened in the fork.
"""

import os
import re
import runpy
import signal
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from typing import Any

from costspan_collector.store import Store

import_module("pandas")  # which the client of the store does late: once for all forks
_insert_blocks, _command = Store.insert_blocks, Store.command


def _die_before(nth: int) -> None:
    left = nth

    def count(table: str) -> None:
        nonlocal left
        print("write", table, flush=True)
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    def insert_blocks(self: Store, table: str, blocks: bytes, **more: Any) -> None:
        count(table)
        _insert_blocks(self, table, blocks, **more)

    def command(self: Store, sql: str, **parameters: object) -> None:
        if found := re.search(r"^INSERT INTO (\w+)", sql, re.MULTILINE):
            count(found[1])
        _command(self, sql, **parameters)

    Store.insert_blocks, Store.command = insert_blocks, command


def _run(step: Callable[..., None], nth: int, arguments: list[str]) -> int:
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    _die_before(nth)
    try:
        step(*arguments)
    except BaseException:  # noqa: BLE001 - the fork ends here, whatever it was
        traceback.print_exc()
        os._exit(1)
    sys.stdout.flush()
    os._exit(0)


def main() -> None:
    step = runpy.run_path(sys.argv[1])["main"]
    for line in sys.stdin:
        nth, *arguments = line.split()
        print("ended", _run(step, int(nth), arguments), flush=True)


main()
