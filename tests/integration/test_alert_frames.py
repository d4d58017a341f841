"""A frame read from the store and one built from the same calls hold equal cells."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from costspan_collector.store import Store
from costspan_collector.store.rollups import refresh
from costspan_dashboards.alerts.frame import (
    COUNTS,
    DIMENSIONS,
    SUMS,
    Archive,
    Cells,
    Frame,
    Names,
    Plumbing,
    minute_of,
    slot_of,
)
from costspan_dashboards.alerts.limits import Limits
from costspan_dashboards.alerts.read import read_frame
from costspan_dashboards.alerts.read_plumbing import read_plumbing
from costspan_dashboards.alerts.rules import judge

NOW = datetime(2026, 11, 18, 14, 3, 30, tzinfo=UTC)
UNTIL = datetime(2026, 11, 18, 14, 2, tzinfo=UTC)
ADD = """
INSERT INTO calls (started_at, trace_id, span_id, environment, service_name, team, project, key_hint,
    feature, request_model, response_model, prompt, user, duration_us, time_to_first_chunk_us,
    retries, status, error_type, input_tokens, cached_tokens, output_tokens, cost_usd,
    cost_parts_usd, price_status, received_at, ingest_id)
SELECT
    fromUnixTimestamp64Micro(toInt64({since:Int64} + number * 397000000), 'UTC') AS started_at,
    MD5(toString(number)), toFixedString(substring(MD5(concat('s', toString(number))), 1, 8), 8),
    'production', if(number % 2 = 0, 'shop', 'desk'), 'web', 'proj_1', 'k1',
    ['chat', 'review', 'search'][1 + number % 3], 'small', if(number % 19 = 0, '', 'small'), 'v1',
    concat('u', toString(number % 5)), 1000000 + number % 7, if(number % 4 = 0, NULL, 400000),
    if(number % 31 = 0, 2, 0), if(number % 19 = 0, 'error', 'ok'),
    if(number % 19 = 0, ['APITimeoutError', 'BadRequestError', 'RateLimitError'][1 + number % 3], ''),
    if(number % 19 = 0, NULL, 100 + number % 11), if(number % 19 = 0, NULL, 40), if(number % 19 = 0, NULL, 50),
    if(number % 19 = 0 OR number % 23 = 0, NULL, toDecimal64('0.000000000101', 12) * (number % 97)),
    map('input', toDecimal64('0.000000000007', 12)),
    if(number % 23 = 0, 'unknown_model', 'priced'),
    started_at + INTERVAL 3 SECOND + INTERVAL (number % 41 = 0) * 200 SECOND, 1
FROM numbers({count:UInt64})
"""
RETRIED = """
INSERT INTO http_attempts (started_at, trace_id, span_id, parent_span_id, attempt, http_status, ingest_id)
SELECT started_at, trace_id, toFixedString(substring(MD5(concat(hex(span_id), 'a')), 1, 8), 8), span_id, 0, 503, 1
FROM calls FINAL WHERE retries > 0 AND status = 'ok'
"""
CALLS = """
SELECT toUnixTimestamp64Micro(started_at) AS at, environment, service_name AS service, team, project,
    key_hint AS key, feature, model, prompt, user, error_kind, duration_us, time_to_first_chunk_us AS first_us,
    retries, ifNull(input_tokens, 0) AS input_tokens, ifNull(cached_tokens, 0) AS cached_tokens,
    ifNull(output_tokens, 0) AS output_tokens, cost_usd, cost_parts_usd['input'] AS input_usd, unpriced,
    toUnixTimestamp64Micro(received_at) AS received
FROM calls FINAL
"""


@dataclass(frozen=True)
class Made:
    """One call as the store has it."""

    values: Mapping[str, Any]

    def cells(self) -> list[dict[str, Any]]:
        """Return the call as cells: of its end, and of each attempt before the last."""
        v = self.values
        kind = {name: v[name] for name in DIMENSIONS if name in v}
        at = int(v["at"]) // 60_000_000
        ok, cost = v["error_kind"] == "", v["cost_usd"]
        timed = int(ok and not v["retries"])
        streamed = int(timed and v["first_us"] is not None)
        first = int(v["first_us"] or 0)
        paced = int(streamed and v["output_tokens"] > 0 and v["duration_us"] > first)
        logs = {
            "log_duration": timed * np.log(v["duration_us"]),
            "log_first_chunk": streamed * np.log(max(first, 1)),
            "log_pace": np.log((v["duration_us"] - first) / v["output_tokens"]) if paced else 0.0,
        }
        end = v["at"] + v["duration_us"]
        own = {
            "minute": at,
            **kind,
            "calls": 1,
            "attempts": 1,
            "input_tokens": v["input_tokens"],
            "cached_tokens": v["cached_tokens"],
            "output_tokens": v["output_tokens"],
            "cost_pico": int((cost or 0) * 10**12),
            "input_cost_pico": int(v["input_usd"] * 10**12),
            "priced_calls": int(cost is not None),
            "unpriced_calls": int(v["unpriced"]),
            "timed_calls": timed,
            "streamed_calls": streamed,
            "paced_calls": paced,
            "late_calls": int(v["received"] > end + 90_000_000),
            "ahead_calls": int(end > v["received"] + 60_000_000),
            **logs,
            **{f"{name}_squared": value**2 for name, value in logs.items()},
            "cost_usd_squared": float(cost or 0) ** 2,
        }
        known = ["server_error"] if ok else []
        kinds = (known + ["other"] * v["retries"])[: v["retries"]]
        return [own, *({"minute": at, **kind, "error_kind": k, "attempts": 1} for k in kinds)]


def built(store: Store, names: Names) -> Cells:
    """Return the cells of all calls, one by one."""
    columns = store.select_columns(CALLS)
    rows = [
        cell
        for values in zip(*columns.values(), strict=True)
        for cell in Made(dict(zip(columns, values, strict=True))).cells()
    ]
    kinds = {name: names.encode(name, [str(row[name]) for row in rows]) for name in DIMENSIONS}
    figures = {name: np.array([row.get(name, 0) for row in rows]) for name in (*COUNTS, *SUMS)}
    return Cells.of(names, np.array([row["minute"] for row in rows], np.int64), kinds, figures)


@pytest.fixture
def frame(store: Store, remembered: Callable[..., None]) -> Frame:
    """The frame of NOW, read from three weeks of calls."""

    def weeks() -> None:
        since = int((NOW - timedelta(days=21)).timestamp() * 1e6)
        store.command(ADD, since=since, count=21 * 86400 // 397)
        store.command(RETRIED)
        refresh(store, overlap=timedelta(0))

    remembered("three_weeks", weeks)
    return read_frame(store, NOW, UNTIL)


def told(cells: Cells, *, without: str = "") -> dict[tuple[object, ...], tuple[float, ...]]:
    """Return every cell by its time and values, with all of its figures."""
    found: dict[tuple[object, ...], tuple[float, ...]] = {}
    for place, minute in enumerate(cells.minute.tolist()):
        kind = [
            cells.names.name(name, int(cells.code(name)[place]))
            for name in DIMENSIONS
            if name != without
        ]
        counts, sums = cells.counts[:, place].tolist(), cells.sums[:, place].tolist()
        found[minute, *kind] = (*counts, *(round(value, 6) for value in sums))
    return found


def test_both_builders_make_equal_cells(store: Store, frame: Frame) -> None:
    names = Names()
    cells = built(store, names)
    archive = Archive(
        cells.coarser(5, without=("user",)), cells.coarser(60, without=("error_kind",))
    )
    until = minute_of(UNTIL)
    history = archive.history(slot_of(until))
    present = cells.between(until - 60, minute_of(NOW) + 60).coarser(1)
    assert len(present) > 8
    assert told(frame.present) == told(present)
    assert len(history.band) > 100
    assert told(frame.history.band) == told(history.band)
    assert told(frame.history.recent.coarser(60)) == told(history.recent.coarser(60))
    assert told(frame.history.days.coarser(1440)) == told(history.days.coarser(1440))


def test_the_past_of_users_is_read_when_it_is_asked_for(store: Store, frame: Frame) -> None:
    names = Names()
    cells = built(store, names).where(np.arange(0))
    assert len(cells) == 0
    users = frame.names.encode("user", ["u1", "nobody"])
    past = frame.history.read_users(users)
    assert past.known == {frame.names.code("user", "u1")}
    mine = built(store, names)
    mine = mine.where(mine.code("user") == names.code("user", "u1"))
    archive = Archive(mine.coarser(5, without=("user",)), mine.coarser(60, without=("error_kind",)))
    same = archive.history(slot_of(minute_of(UNTIL))).read_users(names.encode("user", ["u1"]))
    for name in ("calls", "cost_pico", "input_tokens", "input_cost_pico"):
        assert past.cells.count(name).sum() == same.cells.count(name).sum()
    assert past.cells.count("calls").sum() > 10


def test_an_objective_that_is_missed_for_days_is_a_ticket_and_nothing_else_is_wrong(
    frame: Frame,
) -> None:
    assert {one.rule: one.severity for one in judge(frame, Limits())} == {"errors": "ticket"}


def test_the_pipelines_own_state_is_read(store: Store) -> None:
    assert read_plumbing(store, NOW) == Plumbing()
    for place in range(4):
        at = NOW - timedelta(minutes=10 * (4 - place))
        store.command(
            """INSERT INTO job_runs SELECT generateUUIDv4(), 'reconcile', {at:DateTime64(3, 'UTC')},
            {at:DateTime64(3, 'UTC')}, {status:String}, 'no answer'""",
            at=at,
            status="ok" if place == 0 else "failed",
        )
        store.command(
            """INSERT INTO billing_days (source, day, fetched_at, status, reason)
            SELECT 'costs', '2026-11-17', {at:DateTime64(6, 'UTC')}, {status:String}, '401'""",
            at=at,
            status="ok" if place == 0 else "blocked",
        )
    store.command(
        "INSERT INTO span_counts VALUES ({at:DateTime('UTC')}, 'shop', 'refused', 'x', 7)",
        at=NOW.replace(minute=0, second=0),
    )
    found = read_plumbing(store, NOW)
    (job,) = found.jobs
    assert (job.job, job.failures, job.expected_every) == ("reconcile", 3, timedelta(minutes=10))
    assert job.last_ok_at == NOW - timedelta(minutes=40)
    assert found.refused_spans == 7
    assert found.billing_failing_since == NOW - timedelta(minutes=30)
    assert found.billing_reason == "401"
