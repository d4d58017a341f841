"""How long it takes to give a million calls another price, on the embedded engine.

uv run python tests/bench/bench_reprice.py [CALLS]
uv run pytest -m bench tests/bench/bench_reprice.py
"""

import sys
import tempfile
import time
from datetime import date
from decimal import Decimal

import pytest

from costspan.pricing import default_book
from costspan.pricing.overrides import read_overrides
from costspan_collector.store import Store, connect, migrate
from costspan_reconcile.reprice.runs import Repricing, Scope, totals

CALLS = 1_000_000
MOST_SECONDS = 20.0
SCOPE = Scope(date(2026, 10, 1), date(2026, 10, 31))
NEGOTIATED = """
[[override]]
name = "acme"
match = { model = "gpt-5*" }
percent_off = "12.3456789"
"""
MONTH = """
INSERT INTO calls (
    started_at, trace_id, span_id, operation, provider, server_address, response_model,
    response_tier, team, user, project, duration_us, input_tokens, cached_tokens, output_tokens,
    quantities, cost_usd, cost_parts_usd, price_status, price_book, price_path, ingest_id)
WITH
    number % 3 = 0 AS is_cached,
    toDateTime64('2026-10-01 00:00:00', 6, 'UTC')
        + toIntervalMicrosecond(intDiv(number * 30 * 86400, {calls:UInt64}) * 1000000 + number % 1000000) AS at
SELECT
    at, reinterpretAsFixedString(sipHash128(number)), reinterpretAsFixedString(sipHash64(number)),
    'chat', 'openai', 'api.openai.com',
    ['gpt-4o-mini-2024-07-18', 'gpt-5.4', 'gpt-5-mini', 'gpt-4.1', 'a-new-model'][number % 5 + 1],
    ['default', 'priority', 'default', 'flex'][number % 4 + 1],
    concat('team-', toString(number % 10)), concat('user-', toString(number % 5000)),
    concat('proj_', toString(number % 4)), 1000000 + number % 1000000,
    1000 + number % 7919, is_cached * 500, 10 + number % 1009,
    if(is_cached,
        map('input', 500 + number % 7919, 'cached_input', 500, 'output', 10 + number % 1009),
        map('input', 1000 + number % 7919, 'output', 10 + number % 1009)),
    if(number % 5 = 4, NULL, toDecimal64(0.0015, 12)),
    if(number % 5 = 4, map(), map('input', toDecimal64(0.001, 12), 'output', toDecimal64(0.0005, 12))),
    if(number % 5 = 4, 'unknown_model', 'priced'), 'an-old-book', 'a/b/c', number
FROM numbers({calls:UInt64})
"""


def fill(store: Store, calls: int) -> None:
    """Put a month of calls into an empty store."""
    migrate(store)
    store.command(MONTH, calls=calls)
    store.command("OPTIMIZE TABLE calls FINAL")


def measure(store: Store) -> dict[str, float]:
    """Return the seconds of a preview, of applying it and of taking it back."""
    book = default_book().contracted(read_overrides(NEGOTIATED))
    repricing, seconds = Repricing(store, "bench"), dict[str, float]()

    def timed(name: str, began: float) -> None:
        seconds[name] = time.perf_counter() - began

    began = time.perf_counter()
    previewed = repricing.preview(SCOPE, book)
    timed("dry run", began)
    began = time.perf_counter()
    applied = repricing.apply(SCOPE, book)
    timed("apply", began)
    assert applied.run
    assert applied.differences == previewed.differences
    began = time.perf_counter()
    repricing.undo(applied.run.run_id)
    timed("undo", began)
    total = totals(applied.differences)
    assert total.changed_calls == total.calls
    assert (total.new_usd or Decimal(0)) > 0
    return seconds


def report(calls: int) -> dict[str, float]:
    """Measure on a directory of its own, and print."""
    with tempfile.TemporaryDirectory() as directory:
        store = connect(f"chdb://{directory}")
        try:
            fill(store, calls)
            seconds = measure(store)
        finally:
            store.close()
    for name, took in seconds.items():
        print(f"{name:<8} {took:6.2f} s for {calls:,} calls")
    return seconds


@pytest.mark.bench
def test_a_million_calls_are_priced_again_in_time() -> None:
    assert report(CALLS)["apply"] < MOST_SECONDS


if __name__ == "__main__":
    report(int(sys.argv[1]) if len(sys.argv) > 1 else CALLS)
