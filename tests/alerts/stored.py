"""Spans of a world as rows of the store, and the product's own loop over them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rows import Row
from world import DAY_SECONDS, KINDS, NAMES, Ints, Spans, World

from costspan_collector.store import Store
from costspan_collector.store.rollups import refresh
from costspan_dashboards.alerts.evaluate import Evaluation, evaluate_now
from costspan_dashboards.alerts.settings import Alerts

_ERRORS = {  # how the SDK calls an error, and what the server answered
    "": ("", 200),
    "rate_limit": ("RateLimitError", 429),
    "server_error": ("InternalServerError", 503),
    "timeout": ("APITimeoutError", 408),
    "invalid_request": ("BadRequestError", 400),
}
_CALLS = """
INSERT INTO calls (started_at, trace_id, span_id, scope_name, environment, service_name, feature,
    request_model, response_model, prompt, user, duration_us, time_to_first_chunk_us, retries, status, error_type,
    input_tokens, cached_tokens, output_tokens, cost_usd, cost_parts_usd, price_status, received_at,
    ingest_id)
SELECT
    fromUnixTimestamp64Micro(started_us, 'UTC'), MD5(toString(call_id)),
    toFixedString(substring(MD5(concat('span', toString(call_id))), 1, 8), 8),
    'costspan', environment, service, feature, model, if(ok, model, ''), prompt, user, duration_us,
    if(ok, first_us, NULL), attempts - 1, if(ok, 'ok', 'error'), error_type,
    if(ok, input_tokens, NULL), if(ok, cached_tokens, NULL), if(ok, output_tokens, NULL),
    if(priced, toDecimal64(toDecimal128(input_pico + cached_pico + output_pico, 12) / 1000000000000, 12), NULL),
    if(priced, map('input', toDecimal64(toDecimal128(input_pico, 12) / 1000000000000, 12),
        'cached_input', toDecimal64(toDecimal128(cached_pico, 12) / 1000000000000, 12),
        'output', toDecimal64(toDecimal128(output_pico, 12) / 1000000000000, 12)), map()),
    multiIf(priced, 'priced', ok, 'unknown_model', ''),
    fromUnixTimestamp64Micro(arrived_us, 'UTC'), {ingest:UInt64}
FROM file({path:String}, Parquet)
"""
_ATTEMPTS = """
INSERT INTO http_attempts (started_at, trace_id, span_id, parent_span_id, attempt, http_status,
    ingest_id)
SELECT
    fromUnixTimestamp64Micro(started_us, 'UTC'), MD5(toString(call_id)),
    toFixedString(substring(MD5(concat(toString(attempt), '/', toString(call_id))), 1, 8), 8),
    toFixedString(substring(MD5(concat('span', toString(call_id))), 1, 8), 8),
    attempt, http_status, {ingest:UInt64}
FROM file({path:String}, Parquet)
"""


def run_stored(row: Row, seed: int, store: Store, until: float) -> list[Evaluation]:
    """Act a row out in the store up to a minute from `t0`, each span put in when it arrives."""
    world, settings = row.world(seed), Alerts()
    now = row.t0 - timedelta(minutes=row.lead)
    last = int((row.t0 + timedelta(minutes=until)).timestamp() // DAY_SECONDS)
    days = {day: world.spans(day) for day in range(int(world.first // DAY_SECONDS), last + 1)}
    for spans in days.values():
        put(store, spans, np.flatnonzero(spans.arrived <= now.timestamp()), 1)
    refresh(store, overlap=timedelta(0))
    near = {day: days[day] for day in (last - 1, last) if day in days}
    found: list[Evaluation] = []
    before = now
    while now <= row.t0 + timedelta(minutes=until):
        for spans in near.values():
            new = (spans.arrived > before.timestamp()) & (spans.arrived <= now.timestamp())
            put(store, spans, np.flatnonzero(new), int(now.timestamp()))
        refresh(store, overlap=timedelta(0))
        found.append(evaluate_now(store, settings, now))
        before, now = now, now + timedelta(minutes=1)
    return found


def put(store: Store, spans: Spans, chosen: Ints, ingest: int) -> None:
    """Insert some spans, and their attempts that failed."""
    if not len(chosen):
        return
    some = spans.where(chosen)
    calls = some.calls
    cells, _ = replace(
        some,
        started=np.arange(len(some)) * 60.0,  # a cell for each, in their order
        failed_of=some.failed_of[:0],
        failed_kind=some.failed_kind[:0],
    ).cells()
    kinds = _texts("error_kind", some.kind)
    columns: dict[str, object] = {
        "call_id": calls.call_id,
        "started_us": np.rint(some.started * 1e6).astype(np.int64),
        "arrived_us": np.rint(some.arrived * 1e6).astype(np.int64),
        "duration_us": np.rint(some.duration * 1e6).astype(np.int64),
        "first_us": np.rint(calls.first_token * 1e6).astype(np.int64),
        "attempts": some.attempts,
        "ok": some.kind == 0,
        "priced": cells.count("priced_calls") > 0,
        "error_type": [_ERRORS[kind][0] for kind in kinds],
        "input_pico": cells.count("input_cost_pico"),
        "cached_pico": cells.count("cached_cost_pico"),
        "output_pico": cells.count("output_cost_pico"),
    }
    for name in ("input_tokens", "cached_tokens", "output_tokens"):
        columns[name] = cells.count(name)
    for name in ("environment", "service", "feature", "model", "prompt", "user"):
        columns[name] = _texts(name, getattr(calls, name))
    _insert(store, _CALLS, columns, ingest)
    if len(some.failed_of):
        failed = some.failed_of
        statuses = [_ERRORS[kind][1] for kind in _texts("error_kind", some.failed_kind)]
        attempts = {
            "call_id": calls.call_id[failed],
            "started_us": np.rint(some.started[failed] * 1e6).astype(np.int64),
            "attempt": np.arange(len(failed)),
            "http_status": statuses,
        }
        _insert(store, _ATTEMPTS, attempts, ingest)


def stored_usd(store: Store, since: datetime, until: datetime) -> tuple[int, Decimal]:
    """Return how many calls began in a stretch, and what they cost."""
    columns = store.select_columns(
        """SELECT count() AS calls, sum(cost_usd) AS usd FROM calls FINAL
        WHERE started_at >= {since:DateTime64(6, 'UTC')} AND started_at < {until:DateTime64(6, 'UTC')}
        """,
        since=since,
        until=until,
    )
    return int(columns["calls"][0]), Decimal(columns["usd"][0])


def world_usd(world: World, since: datetime, until: datetime) -> tuple[int, Decimal]:
    """Return the same of a world, each call once."""
    calls, pico = 0, 0
    for day in range(
        int(since.timestamp() // DAY_SECONDS), int(until.timestamp() // DAY_SECONDS) + 1
    ):
        spans = world.spans(day).once()
        mine = (spans.started >= since.timestamp()) & (spans.started < until.timestamp())
        cells, _ = spans.where(np.flatnonzero(mine)).cells()
        calls += int(cells.count("calls").sum())
        pico += int(cells.count("cost_pico").sum())
    return calls, Decimal(pico) / 10**12


def _insert(store: Store, sql: str, columns: Mapping[str, object], ingest: int) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rows.parquet"
        pq.write_table(cast("Any", pa).table(dict(columns)), path)
        store.command(sql, path=str(path), ingest=ingest)


def _texts(dimension: str, codes: Ints) -> list[str]:
    names = [NAMES.name(dimension, code) for code in range(NAMES.size(dimension))]
    return [names[code] for code in codes.tolist()]


assert set(_ERRORS) == {"", *KINDS}
