"""kill -9 before each write of the close of a month, from the first to the lock and its audit."""

import json
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

FIRST = date(2026, 2, 1)
OPEN: dict[str, Any] = {"state": "OPEN"}
CLOSING: dict[str, Any] = {"state": "CLOSING", "bridge": 0}
MATCHED: dict[str, Any] = {"state": "INVOICE_MATCHED", "bridge": 2, "ties": True}
LOCKED: dict[str, Any] = {**MATCHED, "state": "LOCKED", "holds": True, "hash": True}
Kills = tuple[tuple[int, str, dict[str, Any]], ...]
"""Before which write it dies, the table of that write, and what stands afterwards."""
EACH: Kills = (
    (1, "periods", OPEN),
    (2, "audit_log", CLOSING),
    (1, "bridge_lines", CLOSING),
    (2, "periods", CLOSING),
    (3, "audit_log", MATCHED),
    (1, "bridge_lines", MATCHED),
    (2, "evidence", MATCHED),
    (3, "periods", MATCHED),
    (4, "audit_log", LOCKED),
)
OF_EACH_KIND: Kills = (
    (8, "periods", MATCHED),  # the lock, when all that it makes count is there
    (4, "audit_log", LOCKED),  # what follows from it
)


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(OF_EACH_KIND, id="of-each-kind"),
        pytest.param(EACH, id="each", marks=pytest.mark.bench),
    ],
)
def test_a_kill_at_a_write_leaves_the_last_good_state_and_the_next_run_completes_it(
    provider: Any, tmp_path: Path, dying: Callable[..., Callable[..., list[str]]], kills: Kills
) -> None:
    for number in range(28):
        provider.charge(FIRST + timedelta(days=number), "gpt-4o, input", "1.25", quantity=1)
    run, url = dying("close_once.py"), f"chdb://{tmp_path}/store"
    *_, ended = run(0, url, provider.url, provider.ADMIN_KEY)
    assert ended == "ended 0"

    def attempt(nth: int) -> tuple[list[dict[str, Any]], str, str]:
        *told, ended = run(nth, url)
        states = [json.loads(line[6:]) for line in told if line.startswith("state ")]
        writes = [line[6:] for line in told if line.startswith("write ")]
        return states, writes[-1] if writes else "", ended

    stands = OPEN
    for nth, table, left in kills:
        assert attempt(nth) == ([stands], table, "ended -9")
        stands = left
    assert attempt(0) == ([LOCKED, LOCKED], "audit_log", "ended 0")
    if kills == EACH:
        assert attempt(0) == ([LOCKED, LOCKED], "", "ended 0")
