"""How long the questions of pages and people take on the embedded engine, and what a call weighs.

uv run python tests/bench/bench_store.py [CALLS]
uv run pytest -m bench tests/bench/bench_store.py
"""

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import median

import pytest

from costspan_collector.store import Store, connect, load_sql, migrate
from costspan_collector.store.rollups import rebuild, refresh, supersede, verify
from costspan_dashboards import queries
from costspan_dashboards.filters import Filters, TimeRange

CALLS = 10_000_000
MOST_BYTES = 60
DAYS = 30
UNTIL = datetime(2026, 11, 1, tzinfo=UTC)
SINCE = UNTIL - timedelta(days=DAYS)

# Ids as the service makes them: nothing compresses them.
DAY = """
INSERT INTO calls (
    started_at, trace_id, span_id, service_name, environment, scope_name, operation, api_type,
    provider, server_address, request_model, response_model, request_tier, response_tier,
    response_id, request_id, organization, project, key_fingerprint, key_hint, team, feature, user,
    customer, streamed, stream_outcome, finish_reasons, duration_us, time_to_first_chunk_us,
    status, error_type, input_tokens, cached_tokens, output_tokens, reasoning_tokens, quantities,
    cost_usd, list_cost_usd, cost_parts_usd, price_status, price_book, price_path, received_at,
    ingest_id)
WITH
    (salt, most) -> sipHash64(number, salt) % most AS pick,
    pick(1, 100) AS hundred,
    multiIf(hundred < 30, 0, hundred < 50, 1, hundred < 65, 2, pick(2, 12)) AS feature_number,
    multiIf(pick(3, 10) < 6, 0, pick(4, 6)) AS model_number,
    ['gpt-5.4-mini', 'gpt-5.4', 'gpt-4o-mini', 'gpt-4.1', 'o4-mini', 'text-embedding-3-small'][model_number + 1] AS asked,
    pick(5, 200) = 0 AS failed,
    toUInt64(300 * exp(sqrt(-2 * log((pick(6, 999999) + 1) / 1000000.)) * cos(pick(7, 6283) / 1000.))) + 20 AS input_count,
    if(pick(8, 3) = 0, intDiv(input_count, 2), 0) AS cached_count,
    pick(9, 600) + 1 AS output_count,
    reinterpret(toInt64((input_count - cached_count) * 250000), 'Decimal(18, 12)') AS paid_input,
    reinterpret(toInt64((cached_count) * 25000), 'Decimal(18, 12)') AS paid_cached,
    reinterpret(toInt64((output_count) * 2000000), 'Decimal(18, 12)') AS paid_output,
    {day:DateTime64(6, 'UTC')} + toIntervalMicrosecond(intDiv(number * 86400000000, {calls:UInt64}) + pick(10, 250000)) AS at
SELECT
    at, reinterpretAsFixedString(sipHash128(intDiv(number, 3), {day:DateTime64(6, 'UTC')})),
    reinterpretAsFixedString(sipHash64(number, {day:DateTime64(6, 'UTC')})),
    concat('service-', toString(feature_number % 5)), 'production', 'costspan', 'chat', 'responses',
    'openai', 'api.openai.com', asked, if(failed, '', concat(asked, '-2026-03-01')), 'auto',
    if(failed, '', 'default'),
    if(failed, '', concat('resp_', lower(hex(sipHash128(number, 11, {day:DateTime64(6, 'UTC')}))), lower(hex(sipHash64(number, 12))))),
    concat('req_', lower(hex(sipHash128(number, 13, {day:DateTime64(6, 'UTC')})))),
    'org-1', concat('proj_', toString(feature_number % 4)), concat('fp', toString(feature_number % 4)),
    concat('k', toString(feature_number % 4)), concat('team-', toString(feature_number % 6)),
    concat('feature-', toString(feature_number)), concat('user-', toString(pick(14, 20000))), '',
    pick(15, 2) = 0, if(pick(15, 2) = 0, 'completed', ''), if(failed, [], ['stop']),
    500000 + toUInt64(900000 * exp(pick(16, 3000) / 1000.)), if(pick(15, 2) = 0, 200000 + pick(17, 900000), NULL),
    if(failed, 'error', 'ok'), if(failed, 'RateLimitError', ''),
    if(failed, NULL, input_count), if(failed, NULL, cached_count), if(failed, NULL, output_count),
    if(failed, NULL, intDiv(output_count, 4)),
    mapFilter((meter, n) -> n != 0 AND NOT failed, map('input', toUInt64(input_count - cached_count), 'cached_input', toUInt64(cached_count), 'output', toUInt64(output_count))),
    if(failed, NULL, paid_input + paid_cached + paid_output),
    if(failed, NULL, paid_input + paid_cached + paid_output),
    mapFilter((meter, usd) -> usd != 0 AND NOT failed, map('input', paid_input, 'cached_input', paid_cached, 'output', paid_output)),
    if(failed, '', 'priced'), 'a1b2c3d4', concat('openai/', asked, '/short'),
    {day:DateTime64(6, 'UTC')} + toIntervalMicrosecond(intDiv(intDiv(number, 100) * 8640000000000, {calls:UInt64}) + 5000000) AS batch_at,
    toUnixTimestamp64Nano(batch_at::DateTime64(9, 'UTC'))
FROM numbers({calls:UInt64})
"""

SPEND = """
SELECT toDate(started_at) AS day, model, feature, sum(c.cost_usd) AS cost_usd, sum(c.calls) AS calls
FROM costs(since = {since:DateTime64(6, 'UTC')}, until = {until:DateTime64(6, 'UTC')}, counted = (
    SELECT groupArray(hour) FROM counted_hours(
        since = {since:DateTime64(6, 'UTC')}, until = {until:DateTime64(6, 'UTC')}, by_hour = {by_hour:Bool})
)) AS c
GROUP BY day, model, feature ORDER BY day, model, feature
"""
SPEND_RAW = """
SELECT toDate(started_at) AS day, model, feature, sum(ifNull(c.cost_usd, 0)) AS cost_usd, count() AS calls
FROM calls AS c FINAL
WHERE started_at >= {since:DateTime64(6, 'UTC')} AND started_at < {until:DateTime64(6, 'UTC')}
GROUP BY day, model, feature ORDER BY day, model, feature
"""
LATENCY = """
SELECT slot, quantilesTDigestMerge(0.5, 0.95, 0.99)(duration_us)[2] AS p95_us
FROM latency_5m FINAL
WHERE slot >= {since:DateTime64(6, 'UTC')} AND slot < {until:DateTime64(6, 'UTC')}
GROUP BY slot ORDER BY slot
"""
LATENCY_RAW = """
SELECT toStartOfFiveMinutes(started_at) AS slot, quantileExactIf(0.95)(duration_us, status = 'ok') AS p95_us
FROM calls FINAL
WHERE started_at >= {since:DateTime64(6, 'UTC')} AND started_at < {until:DateTime64(6, 'UTC')}
GROUP BY slot ORDER BY slot
"""
OVERVIEW_RAW = """
SELECT count(), countIf(c.status = 'error'), sum(ifNull(c.cost_usd, 0)), countIf(c.unpriced),
    quantileExactIfOrNull(0.95)(c.duration_us, c.status = 'ok')
FROM calls AS c FINAL
WHERE c.started_at >= {since:DateTime64(6, 'UTC')} AND c.started_at < {until:DateTime64(6, 'UTC')}
"""
TRACE_RAW = "SELECT * FROM calls WHERE hex(trace_id) = upper({trace_id:String})"
ERRORS_RAW = "SELECT * FROM calls FINAL WHERE status = 'error' ORDER BY started_at DESC LIMIT 100"
WEIGHT = """
SELECT column AS name, sum(column_data_compressed_bytes) AS bytes
FROM system.parts_columns
WHERE active AND database = currentDatabase() AND table = 'calls'
GROUP BY column ORDER BY bytes DESC
"""
ALL = """
SELECT table AS name, sum(bytes_on_disk) AS bytes FROM system.parts
WHERE active AND database = currentDatabase() AND table IN ('calls', 'cost_hourly', 'latency_5m')
GROUP BY table ORDER BY table
"""


@dataclass(frozen=True, slots=True)
class Weight:
    """A column or a table, and what it takes on disk."""

    name: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, how long it takes, how long without what makes it fast, and how long it may."""

    name: str
    milliseconds: float
    raw_milliseconds: float
    most_milliseconds: float


def fill(store: Store, calls: int) -> float:
    """Put a month of calls into an empty store and roll it up; return the seconds of the latter."""
    migrate(store)
    for day in range(DAYS):
        store.command(DAY, day=SINCE + timedelta(days=day), calls=calls // DAYS)
    began = time.perf_counter()
    hours = refresh(store, overlap=timedelta(0))
    seconds = time.perf_counter() - began
    print(f"{hours} hours rolled up in {seconds:.1f} s, {1000 * seconds / hours:.0f} ms each")
    return seconds


def ask(store: Store) -> list[Asked]:
    """Return how long each question takes."""
    month = {"since": SINCE, "until": UNTIL}
    day = {"since": UNTIL - timedelta(days=1), "until": UNTIL}
    (trace_id,) = store._client.query(
        "SELECT lower(hex(trace_id)) FROM calls ORDER BY sipHash64(span_id) LIMIT 1"
    ).result_rows[0]
    filters = {name: list[str]() for name in ("teams", "features", "models", "projects")}
    page = {**filters, **month}
    spend = load_sql("costspan_dashboards", "spend_by_dimension")
    trace = load_sql("costspan_dashboards", "trace_calls")
    errors = Filters(TimeRange(SINCE, UNTIL))
    overview = load_sql("costspan_dashboards", "overview")
    parts = load_sql("costspan_dashboards", "spend_by_part")
    by_part = {**page, "measure": "usd", "step_seconds": 86_400}
    by_model = {**page, "by": "model", "largest": ["gpt-5.4"], "step_seconds": 86_400}

    def asked(
        name: str, most: float, fast: Callable[[], object], raw: Callable[[], object]
    ) -> Asked:
        return Asked(name, _milliseconds(fast, 7), _milliseconds(raw, 3), most)

    def run(sql: str, **parameters: object) -> Callable[[], Sequence[object]]:
        return lambda: store._client.query(sql, parameters=parameters).result_rows

    store.command("SET use_query_condition_cache = 0")  # an answer that is remembered is no measure
    assert run(SPEND, **month, by_hour=True)() == run(SPEND_RAW, **month)()
    return [
        asked(
            "spend by day, model and feature, 30 days",
            50,
            run(SPEND, **month, by_hour=True),
            run(SPEND_RAW, **month),
        ),
        asked(
            "the spend page by model, 30 days",
            100,
            run(spend, **by_model, by_hour=True),
            run(spend, **by_model, by_hour=False),
        ),
        asked(
            "the spend page by part of the cost, 30 days",
            100,
            run(parts, **by_part, by_hour=True),
            run(parts, **by_part, by_hour=False),
        ),
        asked(
            "the figures above every page, 30 days",
            100,
            run(overview, **page, by_slot=True),
            run(OVERVIEW_RAW, **month),
        ),
        asked(
            "a look for calls that two instrumentations saw, one hour",
            100,
            lambda: supersede(store, [UNTIL - timedelta(hours=1)]),
            lambda: rebuild(store, [UNTIL - timedelta(hours=1)]),
        ),
        asked("p95 latency by 5 minutes, 24 h", 100, run(LATENCY, **day), run(LATENCY_RAW, **day)),
        asked(
            "one trace by id", 100, run(trace, trace_id=trace_id), run(TRACE_RAW, trace_id=trace_id)
        ),
        asked(
            "last 100 errors of 30 days",
            100,
            lambda: queries.calls(store, errors, only="errors", most=100),
            run(ERRORS_RAW),
        ),
    ]


def weigh(store: Store, calls: int) -> float:
    """Print what a call takes on disk; return that without the two random ids of the service."""
    tables = {row.name: row.bytes for row in store.select(ALL, Weight)}
    columns = {row.name: row.bytes / calls for row in store.select(WEIGHT, Weight)}
    whole = tables["calls"] / calls
    ids = columns["response_id"] + columns["request_id"]
    print(
        f"bytes a call: {whole:.1f}; without the ids of request and response {whole - ids:.1f} "
        f"(at most {MOST_BYTES})"
    )
    print(", ".join(f"{name} {weight:.1f}" for name, weight in columns.items() if weight > 1))
    for name in ("cost_hourly", "latency_5m"):
        print(f"{name}: {tables[name] / 2**20:.1f} MiB")
    return whole - ids


def _milliseconds(work: Callable[[], object], times: int) -> float:
    took: list[float] = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        took.append(1000 * (time.perf_counter() - began))
    return median(took)


def report(calls: int, directory: str) -> list[str]:
    """Print every figure; return what misses its bar."""
    store = connect(f"chdb://{directory}")
    try:
        fill(store, calls)
        missed = ["bytes a call"] if weigh(store, calls) > MOST_BYTES else []
        for row in ask(store):
            print(
                f"{row.name}: {row.milliseconds:.0f} ms (at most {row.most_milliseconds:.0f}), "
                f"raw {row.raw_milliseconds:.0f} ms, {row.raw_milliseconds / row.milliseconds:.0f} times"
            )
            if row.milliseconds > row.most_milliseconds:
                missed.append(row.name)
        began = time.perf_counter()
        proof = verify(store)
        print(f"verify: {time.perf_counter() - began:.1f} s; {proof}")
        assert not proof.differences
        return missed
    finally:
        store.close()


@pytest.mark.bench
def test_the_questions_are_answered_in_time(tmp_path_factory: pytest.TempPathFactory) -> None:
    assert report(1_000_000, str(tmp_path_factory.mktemp("store"))) == []


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        missed = report(int(sys.argv[1]) if len(sys.argv) > 1 else CALLS, directory)
        sys.exit(f"missed: {', '.join(missed)}" if missed else 0)
