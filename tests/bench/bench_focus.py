"""How long it takes to export a month of a large organization, and the peak of memory.

30 days x 40 projects x 60 line items, each line shared by fourteen teams, is a million rows.

uv run python tests/bench/bench_focus.py [SHARES] [DAYS]
uv run pytest -m bench tests/bench/bench_focus.py
"""

import resource
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import pytest

from costspan.pricing import default_book
from costspan_collector.store import Store, connect, migrate
from costspan_reconcile.focus.export import export_focus
from costspan_reconcile.focus.files import FORMATS
from costspan_reconcile.period.month import Month

SHARES, DAYS = 14, 30
MOST_SECONDS, MOST_GIB = 600.0, 2.0
"""For one format; of the process, engine included."""
MONTH = Month(date(2026, 10, 1))
RUN = "toUUID('00000000-0000-0000-0000-000000000001')"

LINES = f"""
INSERT INTO recon_lines (run_id, day, project, api_key_id, line_item, billed_usd, billed_quantity,
    quantity_unit, estimated_usd, cause, verdict, day_state)
SELECT
    {RUN}, {{since:Date}} + number % {{days:UInt16}},
    concat('proj_', toString(intDiv(number, {{days:UInt16}}) % 40)), 'key_1',
    concat('model-', toString(intDiv(number, 40 * {{days:UInt16}})), ', input'),
    toDecimal256('12.00032195744715549047', 40) + number, 1000000 + number, 'tokens', 12, 'MATCHED',
    'MATCHED', 'FINAL'
FROM numbers(2400 * {{days:UInt64}})
"""
RUNS = """
INSERT INTO recon_runs (run_id, day, run_at, day_state, verdict, billed_usd)
SELECT run_id, day, now64(6), 'FINAL', 'MATCHED', sum(billed_usd) FROM recon_lines GROUP BY run_id, day
"""
SHARED = """
INSERT INTO allocations (allocation_id, run_id, day, project, api_key_id, line_item, kind, team, amount_usd)
SELECT
    run_id, run_id, day, project, api_key_id, line_item, 'direct', concat('team-', toString(share)),
    if(share = 0, billed_usd - ({shares:UInt16} - 1) * toDecimal256('0.5', 40), toDecimal256('0.5', 40))
FROM recon_lines
ARRAY JOIN range({shares:UInt16}) AS share
"""
ALLOCATED = """
INSERT INTO allocation_runs (allocation_id, day, run_id, run_at) SELECT run_id, day, run_id, run_at FROM recon_runs
"""


def fill(store: Store, shares: int, days: int) -> None:
    """Put a month of billed lines and who bears them into an empty store."""
    migrate(store)
    store.command(LINES, since=MONTH.first, days=days)
    store.command(RUNS)
    store.command(SHARED, shares=shares)
    store.command(ALLOCATED)


def report(shares: int, days: int) -> tuple[float, float]:
    """Measure on a directory of its own, print, and return seconds and GiB."""
    slowest = 0.0
    with tempfile.TemporaryDirectory() as directory:
        store = connect(f"chdb://{directory}/engine")
        try:
            fill(store, shares, days)
            for form in FORMATS:
                path = Path(directory) / f"focus.{form}"
                began = time.perf_counter()
                found = export_focus(store, MONTH, path, form, book=default_book(), account="org-1")
                slowest = max(slowest, seconds := time.perf_counter() - began)
                assert found.rows == 2400 * days * shares
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
                print(
                    f"{form}: {found.rows:,} rows written and checked in {seconds:.1f} s, "
                    f"{path.stat().st_size / 2**20:.0f} MiB, peak {peak:.2f} GiB"
                )
        finally:
            store.close()
    return slowest, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


@pytest.mark.bench
@pytest.mark.timeout(1800)
def test_a_million_rows_are_exported_in_bounded_memory() -> None:
    seconds, gib = report(SHARES, DAYS)
    assert seconds < MOST_SECONDS
    assert gib < MOST_GIB


if __name__ == "__main__":
    given = [int(number) for number in sys.argv[1:]]
    report(*(given + [SHARES, DAYS][len(given) :]))
