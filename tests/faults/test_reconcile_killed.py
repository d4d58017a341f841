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
WRITES = {
    "billing_fetches",
    "billed_lines",
    "provider_usage",
    "billing_days",
    "api_keys",
    "recon_lines",
    "recon_components",
    "recon_runs",
    "allocations",
    "allocation_runs",
    "job_runs",
}


def bill(provider: Any, version: int) -> None:
    """Let the organization be billed `version`."""
    provider.keys = {"proj_a": [(f"key_{version}", "checkout", "aaaa")]}
    provider.bill[DAY] = []
    provider.charge(DAY, "gpt-4o, input", str(version), api_key_id=f"key_{version}", quantity=1)
    provider.charge(DAY, f"fee {version}", "0.25")
    provider.usage["completions"] = {DAY: []}
    provider.count(DAY, "gpt-4o", api_key_id=f"key_{version}", input_tokens=version)


def version_of_bill(state: dict[str, Any]) -> int:
    """Return which bill a store holds; it must hold all of one, and nothing of another."""
    version = int(state["lines"]["gpt-4o, input"])
    assert state["lines"] == {"gpt-4o, input": str(version), f"fee {version}": "0.25"}
    assert state["tokens"] == [version]
    assert "none changed or taken out" in state["chain"]
    return version


def version_compared(state: dict[str, Any]) -> int:
    """Return which bill was compared last; its parts must add up to it."""
    (day,) = state["reconciled"]
    assert Decimal(day["lines_usd"]) == Decimal(day["billed_usd"])
    assert Decimal(day["classes_usd"]) == Decimal(day["difference_usd"])
    return int(Decimal(day["billed_usd"]) - Decimal("0.25"))


@pytest.mark.timeout(240)
def test_a_kill_at_any_write_leaves_the_last_good_state_and_the_next_run_goes_on(
    provider: Any, tmp_path: Path, dying: Callable[..., Callable[..., list[str]]]
) -> None:
    run = dying("reconcile_once.py")
    arguments = [f"chdb://{tmp_path}/store", provider.url, provider.ADMIN_KEY]
    written: list[str] = []
    last_bill = last_compared = 0

    def attempt(nth: int) -> tuple[str, list[dict[str, Any]]]:
        bill(provider, nth + 1)
        *told, ended = run(nth, *arguments, (NOW + timedelta(minutes=nth)).isoformat())
        states = [json.loads(line[6:]) for line in told if line.startswith("state ")]
        written.extend([line[6:] for line in told if line.startswith("write ")][-1:])
        return ended, states

    assert attempt(0)[0] == "ended 0"
    written.clear()
    for nth in range(1, 40):
        ended, (before, *after) = attempt(nth)
        found, compared = version_of_bill(before), version_compared(before)
        # What the try before left: its own bill or the one before it, and a comparison no newer.
        assert last_bill <= found <= nth
        assert last_compared <= compared <= found
        assert found == (nth if "billing_days" in written[:-2] else 1)
        last_bill, last_compared = found, compared
        if ended == "ended 0":
            assert version_of_bill(after[0]) == version_compared(after[0]) == nth + 1
            (day,) = after[0]["reconciled"]
            assert Decimal(day["shared_usd"]) == Decimal(day["billed_usd"])
            break
        assert ended == "ended -9"
    else:
        pytest.fail("it never came to its end")
    assert set(written) >= WRITES  # each was the one before which it died
