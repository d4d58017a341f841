"""kill -9 before each write of a fetch and of the reconciliation after it.

The bill is another one at each try, so that each try has everything to write: version n is billed
to a key of its own, with n dollars and n million tokens.
"""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
DAY = date(2026, 11, 19)
WRITES = frozenset(
    {
        "billing_fetches",
        "billed_lines",
        "provider_usage",
        "billing_days",
        "api_keys",
        "recon_lines",
        "recon_components",
        "recon_runs",
        "allocation_lines",
        "allocations",
        "allocation_runs",
        "job_runs",
    }
)
COUNT = frozenset({"billing_days", "recon_runs", "allocation_runs"})
"""Written last: they make the rows of the others count."""


def bill(provider: Any, version: int) -> None:
    """Let the organization be billed `version`."""
    provider.keys = {"proj_a": [(f"key_{version}", "checkout", "aaaa")]}
    provider.bill[DAY] = []
    provider.charge(DAY, "gpt-4o, input", str(version), api_key_id=f"key_{version}", quantity=1)
    provider.charge(DAY, f"fee {version}", "0.25")
    provider.usage["completions"] = {DAY: []}
    provider.count(DAY, "gpt-4o", api_key_id=f"key_{version}", input_tokens=version)


def versions(state: dict[str, Any]) -> tuple[int, int, int]:
    """Return which bill a store holds, compared last and shared out last.

    Each must be all of one bill and nothing of another.
    """
    version = int(state["lines"]["gpt-4o, input"])
    assert state["lines"] == {"gpt-4o, input": str(version), f"fee {version}": "0.25"}
    assert state["tokens"] == [version]
    assert "none changed or taken out" in state["chain"]
    (day,) = state["reconciled"]
    assert Decimal(day["lines_usd"]) == Decimal(day["billed_usd"])
    assert Decimal(day["classes_usd"]) == Decimal(day["difference_usd"])
    compared, shared = Decimal(day["billed_usd"]), Decimal(day["shared_usd"])
    assert compared % 1 == shared % 1 == Decimal("0.25")
    return version, int(compared), int(shared)


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "tables",
    [
        pytest.param(COUNT, id="that-makes-others-count"),
        pytest.param(WRITES, id="each", marks=pytest.mark.bench),
    ],
)
def test_a_kill_at_a_write_leaves_the_last_good_state_and_the_next_run_goes_on(
    provider: Any,
    tmp_path: Path,
    dying: Callable[..., Callable[..., list[str]]],
    tables: frozenset[str],
) -> None:
    run = dying("reconcile_once.py")
    arguments = [f"chdb://{tmp_path}/store", provider.url, provider.ADMIN_KEY]

    def attempt(version: int, nth: int) -> tuple[str, list[str], list[dict[str, Any]]]:
        bill(provider, version)
        *told, ended = run(nth, *arguments, (NOW + timedelta(minutes=version)).isoformat())
        states = [json.loads(line[6:]) for line in told if line.startswith("state ")]
        return ended, [line[6:] for line in told if line.startswith("write ")], states

    ended, writes, (_, state) = attempt(1, 0)
    assert ended == "ended 0"
    writes = writes[writes.index("billing_fetches") :]  # before it, the migrations
    assert set(writes) == WRITES
    stand = versions(state)
    assert stand == (1, 1, 1)
    version = 1
    for nth, table in enumerate(writes, start=1):
        if table not in tables:
            continue
        version += 1
        ended, done, (before,) = attempt(version, nth)
        assert (ended, done) == ("ended -9", writes[:nth])
        assert versions(before) == stand
        # What the kill left: this bill where all of its rows were written, else the one before.
        stand = (
            version if "billing_days" in done[:-1] else stand[0],
            version if "recon_runs" in done[:-1] else stand[1],
            version if "allocation_runs" in done[:-1] else stand[2],
        )
    ended, done, (before, after) = attempt(version + 1, 0)
    assert (ended, done) == ("ended 0", writes)
    assert versions(before) == stand
    assert versions(after) == (version + 1,) * 3
