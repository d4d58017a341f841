"""How long it takes to share out the bill of a month, and the peak of memory, on the embedded engine.

The month has 40 projects x 60 line items x 30 days, 72,000 lines; each project has 125 users of one
team and three features, and every line leaves a rest that goes by a rule.

uv run python tests/bench/bench_allocate.py [CALLS] [DAYS]
uv run pytest -m bench tests/bench/bench_allocate.py
"""

import resource
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from costspan_collector.store import Store, connect, migrate
from costspan_reconcile.allocate.policy import read_policy
from costspan_reconcile.allocate.queries import allocated_days, allocated_to
from costspan_reconcile.allocate.runs import allocate_days

CALLS, DAYS = 1_000_000, 30
MOST_SECONDS = 40.0
SINCE = date(2026, 10, 1)
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
RULES = '[[rule]]\nname = "rest"\nmatch = {}\npolicy = "proportional"\n'

MONTH = """
INSERT INTO calls (
    started_at, trace_id, span_id, provider, response_model, response_tier, project, key_hint,
    team, feature, user, customer, duration_us, input_tokens, cached_tokens, output_tokens,
    quantities, cost_usd, price_status, ingest_id)
WITH sipHash64(number) AS h, h % 40 AS project_number, intDiv(h, 100000) AS other
SELECT
    toDateTime64({since:Date}, 6, 'UTC')
        + toIntervalMicrosecond(intDiv(number * {days:UInt16} * 86400, {calls:UInt64}) * 1000000),
    reinterpretAsFixedString(sipHash128(number)), reinterpretAsFixedString(sipHash64(number)),
    'openai', concat('model-', toString(intDiv(h, 41) % 20)), 'default',
    concat('proj_', toString(project_number)), concat('h', leftPad(toString(project_number), 3, '0')),
    concat('team-', toString(project_number % 10)), concat('feature-', toString(intDiv(h, 10000) % 3)),
    concat('user-', toString(project_number * 125 + other % 125)), concat('customer-', toString(other % 25)),
    1000000, 2000, 800, 300,
    map('input', toDecimal128(1000 + number % 401, 20), 'cached_input', toDecimal128(800, 20),
        'output', toDecimal128(10 + number % 1009, 20)),
    toDecimal64(0.0015, 12), 'priced', number
FROM numbers({calls:UInt64})
"""
KEYS = """
INSERT INTO api_keys SELECT
    concat('proj_', toString(number)), '', concat('key_', toString(number)), '',
    leftPad(toString(number), 3, '0'), now64(6)
FROM numbers(40)
"""
LINES = """
INSERT INTO recon_lines (
    run_id, day, project, api_key_id, line_item, match_level, billed_usd, billed_quantity,
    estimated_quantity, calls, cause, verdict, day_state)
SELECT
    toUUID('00000000-0000-0000-0000-000000000001'), {since:Date} + number % {days:UInt16},
    concat('proj_', toString(project_number)), concat('key_', toString(project_number)),
    concat('model-', toString(intDiv(number, 40 * {days:UInt16}) % 20), ', ',
           ['input', 'cached input', 'output'][1 + intDiv(number, 800 * {days:UInt16})]),
    'M1', toDecimal256('12.345678901234', 40) + number, 110, 100, 1, 'MATCHED', 'MATCHED', 'FINAL'
FROM (SELECT number, intDiv(number, {days:UInt16}) % 40 AS project_number FROM numbers(2400 * {days:UInt64}))
"""
RUNS = """
INSERT INTO recon_runs (run_id, day, run_at, day_state, verdict, inputs_sha256, billed_usd)
SELECT run_id, day, now64(6), 'FINAL', 'MATCHED', '', sum(billed_usd) FROM recon_lines GROUP BY run_id, day
"""


@dataclass(frozen=True)
class Rows:
    rows: int


def fill(store: Store, calls: int, days: int) -> None:
    """Put a month of calls, and the lines that they are billed in, into an empty store."""
    migrate(store)
    store.command(MONTH, calls=calls, days=days, since=SINCE)
    store.command(KEYS)
    store.command(LINES, days=days, since=SINCE)
    store.command(RUNS)


def report(calls: int, days: int) -> float:
    """Measure on a directory of its own, print, and return the seconds."""
    with tempfile.TemporaryDirectory(dir=Path(tempfile.gettempdir())) as directory:
        store = connect(f"chdb://{directory}")
        try:
            fill(store, calls, days)
            until = SINCE + timedelta(days=days)
            began = time.perf_counter()
            assert allocate_days(store, SINCE, until, NOW, read_policy(RULES)) == days
            seconds = time.perf_counter() - began
            began = time.perf_counter()
            rows = allocated_to(store, SINCE, until, by="team and feature", most=1000)
            read = time.perf_counter() - began
            billed = sum(
                (day.billed_usd for day in allocated_days(store, SINCE, until)), Decimal(0)
            )
            assert sum((row.billed_usd for row in rows), Decimal(0)) == billed
            assert sum(row.shared_usd > 0 for row in rows) == 30
            (kept,) = store.select("SELECT count() AS rows FROM allocations", Rows)
        finally:
            store.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{days} days, {2400 * days:,} lines, {calls:,} calls: {kept.rows:,} shares in "
        f"{seconds:.1f} s, read by team and feature in {read:.2f} s, peak {peak:.2f} GiB"
    )
    return seconds


@pytest.mark.bench
def test_a_month_of_a_large_organization_is_shared_out_in_time() -> None:
    assert report(CALLS, DAYS) < MOST_SECONDS


if __name__ == "__main__":
    given = [int(number) for number in sys.argv[1:]]
    report(*(given + [CALLS, DAYS][len(given) :]))
