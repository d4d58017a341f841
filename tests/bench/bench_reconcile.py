"""A month of a large organization, reconciled: seconds and peak memory.

    uv run python tests/bench/bench_reconcile.py --calls 20000000

The year has 40 projects x 60 line items x 365 days, 876,000 lines, and `--calls` calls spread evenly
over it; `--days` cuts the year short. What is measured is one month in the middle.
"""

import argparse
import resource
import shutil
import sys
import tempfile
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from costspan_collector.store import connect, migrate
from costspan_reconcile.queries import recon_classes
from costspan_reconcile.reconcile import reconcile_days

_PROJECTS, _MODELS = 40, 20
_KINDS = 3
"""A project uses 20 models, each with input, cached input and output: 60 line items."""
_LAST = date(2026, 11, 1)

# The calls have 1,200 + 800 + 300 tokens, their prices are round: every line matches to the digit,
# but for one key in ten, whose calls miss a tenth of what was billed.
_MODEL_NAMES = [
    *("gpt-4o-2024-08-06", "gpt-4o-2024-11-20", "gpt-4o-mini-2024-07-18", "gpt-4.1-2025-04-14"),
    *("gpt-4.1-mini-2025-04-14", "gpt-4.1-nano-2025-04-14", "gpt-5-2025-08-07"),
    *("gpt-5-mini-2025-08-07", "gpt-5-nano-2025-08-07", "gpt-5.4-2026-03-05", "gpt-5.5-2026-04-23"),
    *("gpt-5.4-mini-2026-03-17", "gpt-5.4-nano-2026-03-17", "gpt-5.6-terra", "gpt-5.6-sol"),
    *("gpt-5.6-luna", "o1-2024-12-17", "o3-2025-04-16", "o3-mini-2025-01-31", "o4-mini-2025-04-16"),
]

_CALLS = """
INSERT INTO calls
    (started_at, trace_id, span_id, provider, project, key_hint, request_model, response_model,
     response_tier, response_id, duration_us, input_tokens, cached_tokens, output_tokens, quantities,
     cost_usd, cost_parts_usd, price_status, price_book, price_path, team, feature, user,
     received_at, ingest_id)
SELECT
    toDateTime64({day:Date}, 6, 'UTC') + toIntervalMillisecond(intDiv(number * 86000000, {calls:UInt64})) AS at,
    toFixedString(reinterpretAsString(generateUUIDv4()), 16),
    toFixedString(reinterpretAsString(rand64(number)), 8),
    'openai',
    concat('proj_', leftPad(toString(number % 40), 2, '0')),
    concat('h', leftPad(toString(number % 40), 3, '0')),
    {models:Array(String)}[1 + intDiv(number, 40) % 20] AS model,
    model,
    'default',
    concat('chatcmpl-', toString(generateUUIDv4(1))),
    1500000, 2000, 800, 300,
    map('input', toDecimal128(1200, 20), 'cached_input', toDecimal128(800, 20), 'output', toDecimal128(300, 20)),
    toDecimal64('0.0044', 12),
    map('input', toDecimal64('0.0024', 12), 'cached_input', toDecimal64('0.0008', 12), 'output', toDecimal64('0.0012', 12)),
    'priced', 'bench', concat(model, '/standard/short'), 'team', 'feature', concat('user-', toString(number % 500)),
    at, number
FROM numbers({calls:UInt64})
"""

_BILL = """
INSERT INTO billed_lines
    (day, project, api_key_id, line_item, currency, organization, amount, amount_usd, quantity,
     quantity_unit, vanished, revision, fetch_id)
WITH
    intDiv({calls:UInt64}, 800) + (place < {calls:UInt64} % 800) AS made,
    made + if(project_number % 10 = 0, intDiv(made, 10), 0) AS counted,
    [1200, 800, 300][kind] * counted AS tokens,
    ['2e-6', '1e-6', '4e-6'][kind] AS usd
SELECT
    {day:Date},
    concat('proj_', leftPad(toString(project_number), 2, '0')),
    concat('key_', leftPad(toString(project_number), 2, '0')),
    concat({models:Array(String)}[model], ', ', ['input', 'cached input', 'output'][kind]),
    'usd', 'org', toString(toDecimal256(usd, 40) * tokens),
    toDecimal256(usd, 40) * tokens, toDecimal256(tokens, 40), 'tokens', false, 1, {fetch:UUID}
FROM
(
    SELECT
        arrayJoin(range(40)) AS project_number,
        arrayJoin(range(1, 21)) AS model,
        arrayJoin([1, 2, 3]) AS kind,
        (model - 1) * 40 + project_number AS place
)
"""

_USAGE = """
INSERT INTO provider_usage
    (source, day, project, api_key_id, model, batch, service_tier, modality, kind, quantity, revision,
     fetch_id)
WITH
    intDiv({calls:UInt64}, 800) + (place < {calls:UInt64} % 800) AS made,
    made + if(project_number % 10 = 0, intDiv(made, 10), 0) AS counted
SELECT
    'completions', {day:Date},
    concat('proj_', leftPad(toString(project_number), 2, '0')),
    concat('key_', leftPad(toString(project_number), 2, '0')),
    {models:Array(String)}[model], false, 'default',
    ['text', 'text', 'text', ''][kind],
    ['input', 'cached_input', 'output', 'requests'][kind],
    [1200, 800, 300, 1][kind] * counted, 1, {fetch:UUID}
FROM
(
    SELECT
        arrayJoin(range(40)) AS project_number,
        arrayJoin(range(1, 21)) AS model,
        arrayJoin([1, 2, 3, 4]) AS kind,
        (model - 1) * 40 + project_number AS place
)
"""

_DAY = """
INSERT INTO billing_days
    (source, day, fetch_id, fetched_at, status, reason, grouped_by, content_sha256, revision,
     revision_fetch_id, billed_usd, control_usd)
SELECT
    source, {day:Date}, {fetch:UUID}, toDateTime64({day:Date} + 5, 6, 'UTC') + toIntervalDay(again), 'ok', '',
    ['project_id', 'api_key_id', 'line_item'], 'same', 1, {fetch:UUID}, NULL, NULL
FROM (SELECT arrayJoin(['costs', 'completions']) AS source, arrayJoin([0, 2]) AS again)
"""

_KEYS = """
INSERT INTO api_keys
SELECT
    concat('proj_', leftPad(toString(number), 2, '0')), concat('project ', toString(number)),
    concat('key_', leftPad(toString(number), 2, '0')), concat('app ', toString(number)),
    concat('h', leftPad(toString(number), 3, '0')), now64(6)
FROM numbers(40)
"""


def main() -> None:
    """Build the organization, reconcile a month of it, and print what that took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=1_000_000, help="in the whole year")
    parser.add_argument("--days", type=int, default=60, help="of the year, up to 365")
    parser.add_argument("--directory", type=Path, help="of the store; kept, and used again")
    args = parser.parse_args()
    directory = args.directory or Path(tempfile.mkdtemp(prefix="bench_reconcile"))
    store = connect(f"chdb://{directory}")
    migrate(store)
    days = [_LAST - timedelta(days=back) for back in range(args.days)]
    if not (args.directory and (directory / "built").exists()):
        store.command(_KEYS)
        for day in days:
            fetch = f"00000000-0000-0000-0000-{day:%Y%m%d}0000"
            values = {
                "day": day,
                "calls": args.calls // 365,
                "models": _MODEL_NAMES,
                "fetch": fetch,
            }
            for sql in (_CALLS, _BILL, _USAGE, _DAY):
                known = {name: value for name, value in values.items() if f"{{{name}:" in sql}
                store.command(sql, **known)
        (directory / "built").touch()
    until = days[len(days) // 4]
    since = until - timedelta(days=31)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started, processor = time.perf_counter(), time.process_time()
    done = reconcile_days(store, since, until, datetime(2026, 12, 1, tzinfo=UTC))
    seconds, busy = time.perf_counter() - started, time.process_time() - processor
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    classes: dict[str, float] = {}
    for row in recon_classes(store, since, until):
        classes[row.cause] = classes.get(row.cause, 0) + float(row.amount_usd)
    lines = done.days * _PROJECTS * _MODELS * _KINDS
    sys.stdout.write(
        f"{done.changed} days, {lines:,} lines, {args.calls * done.days // 365:,} calls of {args.calls:,} a year\n"
        f"{seconds:.1f} s ({busy:.1f} s of processor), {peak / 2**20:.2f} GiB at most"
        f" ({before / 2**20:.2f} before)\n{classes}\n"
    )
    started = time.perf_counter()
    again = reconcile_days(store, since, until, datetime(2026, 12, 1, 1, tzinfo=UTC))
    sys.stdout.write(f"again: {again.changed} changed, {time.perf_counter() - started:.1f} s\n")
    store.close()
    if not args.directory:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
