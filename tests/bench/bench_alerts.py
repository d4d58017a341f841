"""How long one evaluation of all rules takes, over ten million calls of history.

    uv run python tests/bench/bench_alerts.py [calls]

Eight features on four models, 300 users, 28 days. The store is filled, rolled up once, and then
evaluated as the server does it each minute: read, judged, kept.
"""

import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta

from costspan_collector.store import connect, migrate
from costspan_collector.store.rollups import refresh
from costspan_dashboards.alerts.evaluate import evaluate_now
from costspan_dashboards.alerts.limits import Limits
from costspan_dashboards.alerts.read import read_frame, watermark
from costspan_dashboards.alerts.rules import judge
from costspan_dashboards.alerts.settings import Alerts

NOW = datetime(2026, 11, 18, 14, 0, tzinfo=UTC)
DAYS = 28
FILL = """
INSERT INTO calls (started_at, trace_id, span_id, environment, service_name, team, project, key_hint,
    feature, request_model, response_model, prompt, user, duration_us, time_to_first_chunk_us,
    status, error_type, input_tokens, cached_tokens, output_tokens, cost_usd, cost_parts_usd,
    price_status, received_at, ingest_id)
WITH cityHash64(number, {seed:UInt64}) AS h, 1 + h % 8 AS f, 1 + intDiv(h, 8) % 4 AS m
SELECT
    fromUnixTimestamp64Micro(toInt64({since:Int64} + number * {step_us:Int64}), 'UTC') AS started_at,
    MD5(toString((number, {seed:UInt64}))), toFixedString(substring(MD5(toString(h)), 1, 8), 8),
    'production', concat('service-', toString(f % 3)), concat('team-', toString(f % 4)), 'proj_1',
    concat('k', toString(f % 5)), concat('feature-', toString(f)), concat('model-', toString(m)),
    concat('model-', toString(m)), concat('prompt-', toString(f)), concat('user-', toString(h % 300)),
    toUInt64(1e6 + h % 3000000), 300000 + h % 300000, if(h % 97 = 0, 'error', 'ok'),
    if(h % 97 = 0, 'APITimeoutError', ''), 500 + h % 900, h % 400, 100 + h % 500,
    toDecimal64('0.0001', 12) * (h % 50), map('input', toDecimal64('0.0001', 12) * (h % 30)), 'priced',
    started_at + INTERVAL 3 SECOND, 1
FROM numbers({count:UInt64})
"""


def main(calls: int) -> None:
    """Print what each part of an evaluation takes."""
    with tempfile.TemporaryDirectory() as directory:
        store = connect(f"chdb://{directory}/store")
        migrate(store)
        span = timedelta(days=DAYS)
        began = time.perf_counter()
        for day in range(DAYS):
            since = NOW - span + timedelta(days=day)
            count = calls // DAYS
            store.command(
                FILL,
                since=int(since.timestamp() * 1e6),
                step_us=86_400_000_000 // count,
                count=count,
                seed=day,
            )
        print(f"{calls:,} calls in {time.perf_counter() - began:.0f} s")
        began = time.perf_counter()
        hours = refresh(store, overlap=timedelta(0))
        print(f"{hours} hours rolled up in {time.perf_counter() - began:.0f} s")
        settings = Alerts()
        for run in range(3):
            now = NOW + timedelta(seconds=30 + 60 * run)
            began = time.perf_counter()
            frame = read_frame(store, now, watermark(now, settings.watermark))
            read = time.perf_counter()
            findings = judge(frame, Limits())
            judged = time.perf_counter()
            print(
                f"frame {read - began:.2f} s, rules {judged - read:.2f} s, {len(findings)} findings; "
                f"cells: {len(frame.present):,} present, {len(frame.history.band):,} band, "
                f"{len(frame.history.days):,} days"
            )
        began = time.perf_counter()
        print(evaluate_now(store, settings, NOW + timedelta(minutes=5)))
        print(f"one evaluation, kept: {time.perf_counter() - began:.2f} s (bar: 2 s)")
        store.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000)
