"""The rollups are the calls, to the last digit, whatever came, how often and in what order."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import pytest

from costspan_collector.record import Call, HttpAttempt
from costspan_collector.store import Store, rollups
from costspan_collector.store.rollups import known_hours, rebuild, refresh, verify

DAY = datetime(2026, 11, 19, tzinfo=UTC)
AT_ONCE = timedelta(0)
SINCE, UNTIL = DAY + timedelta(minutes=37), DAY + timedelta(hours=40, minutes=11)


def call(number: int, **changes: Any) -> Call:
    unknown = number % 7 == 0
    cost = None if unknown else Decimal(number + 1).scaleb(-12) + number % 3
    known: dict[str, Any] = {
        "started_at": DAY + timedelta(minutes=number * 7, microseconds=number),
        "trace_id": (number // 3).to_bytes(16, "big"),
        "span_id": (number + 1).to_bytes(8, "big"),
        "scope_name": "costspan",
        "service_name": "shop",
        "team": f"team-{number % 2}",
        "feature": ("", "search", "chat")[number % 3],
        "project": f"proj_{number % 2}",
        "request_model": "gpt-5",
        "response_model": "" if number % 5 == 0 else "gpt-5-2026-01-01",
        "response_tier": "default",
        "user": f"user-{number}",
        "duration_us": 1000 + number,
        "time_to_first_chunk_us": None if number % 2 else number,
        "status": "error" if number % 11 == 0 else "ok",
        "input_tokens": None if unknown else 100 + number,
        "output_tokens": None if unknown else number,
        "cost_usd": cost,
        "list_cost_usd": cost,
        "price_status": "unknown_model" if unknown else "priced",
        "received_at": DAY + timedelta(days=2),
        "ingest_id": 1,
    }
    return Call(**{**known, **changes})


CALLS = [call(number) for number in range(400)]


@dataclass(frozen=True)
class Sums:
    calls: int
    errors: int
    priced_calls: int
    unpriced_calls: int
    tokens: int
    cost_usd: Decimal


@dataclass(frozen=True)
class Count:
    count: int


RAW = """
SELECT count() AS calls, countIf(c.status = 'error') AS errors,
    countIf(c.cost_usd IS NOT NULL) AS priced_calls, countIf(c.unpriced) AS unpriced_calls,
    toUInt64(sum(ifNull(input_tokens, 0)) + sum(ifNull(output_tokens, 0))) AS tokens,
    sum(ifNull(c.cost_usd, 0)) AS cost_usd
FROM calls AS c FINAL
WHERE started_at >= {since:DateTime64(6, 'UTC')} AND started_at < {until:DateTime64(6, 'UTC')}
"""
COSTS = """
SELECT sum(c.calls) AS calls, sum(c.errors) AS errors, sum(c.priced_calls) AS priced_calls,
    sum(c.unpriced_calls) AS unpriced_calls, sum(c.input_tokens) + sum(c.output_tokens) AS tokens,
    sum(c.cost_usd) AS cost_usd
FROM costs(since = {since:DateTime64(6, 'UTC')}, until = {until:DateTime64(6, 'UTC')}, counted = (
    SELECT groupArray(hour) FROM counted_hours(
        since = {since:DateTime64(6, 'UTC')}, until = {until:DateTime64(6, 'UTC')}, by_hour = {by_hour:Bool})
)) AS c
"""


def sums(store: Store, sql: str, since: datetime = SINCE, until: datetime = UNTIL) -> Sums:
    by_hour = {"by_hour": True} if sql is COSTS else {}
    (row,) = store.select(sql, Sums, since=since, until=until, **by_hour)
    return row


def count(store: Store, sql: str) -> int:
    (row,) = store.select(f"SELECT toInt64({sql}) AS count", Count)
    return row.count


def dirty(store: Store) -> int:
    return count(store, "(SELECT count() FROM dirty_hours)")


def agrees(store: Store) -> None:
    """The rollups are true, and what readers see is, before and after they are brought up to date."""
    assert sums(store, COSTS) == sums(store, RAW)
    refresh(store, overlap=AT_ONCE)
    assert dirty(store) == 0
    assert verify(store).differences == ()
    assert sums(store, COSTS) == sums(store, RAW)


def test_the_rollups_are_the_calls_to_the_last_digit(store: Store) -> None:
    store.insert("calls", CALLS)
    assert dirty(store) == len(known_hours(store)) == 47
    agrees(store)
    assert sums(store, RAW, DAY, DAY + timedelta(days=9)) == Sums(
        calls=400,
        errors=37,
        priced_calls=342,
        unpriced_calls=58,
        tokens=sum((c.input_tokens or 0) + (c.output_tokens or 0) for c in CALLS),
        cost_usd=sum((c.cost_usd or Decimal(0) for c in CALLS), Decimal(0)),
    )


def test_calls_sent_again_shuffled_and_split_otherwise_change_no_sum(store: Store) -> None:
    random = Random(5)  # noqa: S311 - a fixed order
    store.insert("calls", CALLS)
    refresh(store, overlap=AT_ONCE)
    once = sums(store, COSTS)
    for size in (400, 37, 150):
        again = [replace(call, ingest_id=size) for call in CALLS]
        random.shuffle(again)
        for first in range(0, len(again), size):
            store.insert("calls", again[first : first + size])
        agrees(store)
        assert sums(store, COSTS) == once


def test_quiet_days_are_recomputed_together_and_busy_ones_each_by_itself(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.insert("calls", CALLS)
    agrees(store)
    recomputes = "(SELECT uniqExact(version) FROM cost_hourly FINAL WHERE toDate(hour) IN ({}))"
    days = "'2026-11-19', '2026-11-20'"
    assert count(store, recomputes.format(days)) == 1
    monkeypatch.setattr(rollups, "MOST_CALLS", 300)
    store.insert("calls", [replace(call, ingest_id=2) for call in CALLS])
    agrees(store)
    assert [count(store, recomputes.format(some)) for some in (days, *days.split(", "))] == [
        2,
        1,
        1,
    ]


def test_days_that_are_far_apart_are_recomputed_each_by_itself(store: Store) -> None:
    """What is seen twice in a hundred days is more than one insert takes."""
    far = CALLS[0].started_at + timedelta(days=rollups.MOST_DAYS)
    store.insert("calls", [CALLS[0], replace(CALLS[0], started_at=far)])
    refresh(store, overlap=AT_ONCE)
    assert count(store, "(SELECT uniqExact(version) FROM cost_hourly FINAL)") == 2


def test_an_hour_that_nothing_came_for_is_read_from_the_rollup(store: Store) -> None:
    store.insert("calls", CALLS)
    refresh(store, overlap=AT_ONCE)
    was = sums(store, COSTS)
    store.command("TRUNCATE TABLE calls")
    whole = DAY + timedelta(hours=1), DAY + timedelta(hours=40)
    assert sums(store, RAW, *whole).calls == 0
    assert 0 < sums(store, COSTS, *whole).calls < was.calls
    assert refresh(store, overlap=AT_ONCE) == 0


def test_a_late_call_makes_its_hour_dirty_and_no_other(store: Store) -> None:
    store.insert("calls", CALLS)
    refresh(store, overlap=AT_ONCE)
    late = call(1000, started_at=DAY + timedelta(hours=3, minutes=59, seconds=59))
    store.insert("calls", [late])
    assert dirty(store) == 1
    agrees(store)


def test_an_attempt_that_comes_after_its_call_makes_the_hour_of_the_call_dirty(
    store: Store,
) -> None:
    first = call(1, started_at=DAY + timedelta(minutes=59), retries=1)
    store.insert("calls", [first])
    refresh(store, overlap=AT_ONCE)
    attempt = HttpAttempt(
        started_at=DAY + timedelta(minutes=61),
        trace_id=first.trace_id,
        span_id=b"attempt1",
        parent_span_id=first.span_id,
        http_status=429,
        received_at=DAY,
        ingest_id=1,
    )
    store.insert("http_attempts", [replace(attempt, span_id=b"attempt2", http_status=200)])
    assert dirty(store) == 0
    store.insert("http_attempts", [attempt])
    assert verify(store).differences == ()
    refresh(store, overlap=AT_ONCE)
    assert dirty(store) == 0
    assert verify(store).differences == ()
    assert (
        count(store, "(SELECT sum(attempts) FROM signals_5m FINAL WHERE error_kind = 'rate_limit')")
        == 1
    )


def test_a_kind_that_is_gone_leaves_nothing_behind(store: Store) -> None:
    store.insert("calls", CALLS)
    refresh(store, overlap=AT_ONCE)
    store.insert("calls", [replace(call, team="other", ingest_id=2) for call in CALLS])
    agrees(store)
    assert count(store, "(SELECT count() FROM cost_hourly FINAL WHERE team != 'other')") == 0
    assert count(store, "(SELECT count() FROM latency_5m FINAL WHERE calls = 0)") == 0


def test_a_new_price_written_inside_the_engine_marks_its_hours(store: Store) -> None:
    store.insert("calls", CALLS)
    refresh(store, overlap=AT_ONCE)
    store.command(
        "INSERT INTO calls SELECT c.* REPLACE (toDecimal64(9, 12) AS cost_usd, ingest_id + 1 AS "
        "ingest_id) FROM calls AS c FINAL WHERE team = 'team-1' SETTINGS insert_deduplicate = 0"
    )
    assert dirty(store) > 0
    agrees(store)


def test_rows_that_come_while_an_hour_is_recomputed_leave_it_dirty(store: Store) -> None:
    store.insert("calls", CALLS)
    refresh(store)  # what was touched within the overlap is done again
    assert dirty(store) == 47
    assert sums(store, COSTS) == sums(store, RAW)


@pytest.mark.parametrize("broken", ["write_latencies", "rollup_hours"])
def test_a_recompute_that_was_cut_off_is_done_again(
    store: Store, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.insert("calls", CALLS)
    refresh(store, overlap=AT_ONCE)
    store.insert("calls", [replace(call, cost_usd=Decimal(7), ingest_id=2) for call in CALLS])

    class Killed(BaseException):
        pass

    def killed(*_arguments: Any, **_more: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        if broken == "rollup_hours":
            patched.setattr(store, "insert", killed)
        else:
            run = store.command

            def command(sql: str, **parameters: object) -> None:
                return killed() if "latency_5m" in sql else run(sql, **parameters)

            patched.setattr(store, "command", command)
        refresh(store, overlap=AT_ONCE)
    assert dirty(store) == 47
    agrees(store)


def test_what_a_refresh_mends_while_it_is_proven_is_no_fault(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.insert("calls", CALLS)
    refresh(store, overlap=AT_ONCE)
    store.insert("calls", [call(500, started_at=DAY + timedelta(hours=10))])
    run, compare = store.command, rollups._differences

    def seen_halfway(sql: str, **parameters: object) -> None:
        if "INSERT INTO latency_daily" in sql:  # whose rows are told by their day, not by the hour
            assert verify(store).differences == ()
        run(sql, **parameters)

    with monkeypatch.context() as patched:
        patched.setattr(store, "command", seen_halfway)
        refresh(store, overlap=AT_ONCE)
    store.insert("calls", [call(501, started_at=DAY + timedelta(hours=10))])

    def then_mended(store: Store, hours: list[datetime]) -> list[rollups.Difference]:
        found = compare(store, hours)
        refresh(store, overlap=AT_ONCE)
        return found

    monkeypatch.setattr(rollups, "_differences", then_mended)
    proof = verify(store)
    assert (proof.waiting_hours, proof.differences) == (0, ())


def test_an_insert_that_was_cut_off_before_its_mark_is_completed_by_its_token(store: Store) -> None:
    """What a kill in the middle of an insert can leave: the rows without the mark."""
    store.insert("calls", CALLS[:1])
    refresh(store, overlap=AT_ONCE)
    store.command("DETACH TABLE rollup_hours_touched")
    store.insert("calls", CALLS, token="segment-1")
    store.command("ATTACH TABLE rollup_hours_touched")
    assert dirty(store) == 0
    assert len(verify(store).differences) > 0  # and if nobody repeats it, the nightly proof tells
    store.insert("calls", CALLS, token="segment-1")
    assert dirty(store) == 47
    assert count(store, "(SELECT count() FROM calls)") == 401
    agrees(store)


def test_what_is_wrong_in_a_rollup_is_found_and_mended(store: Store) -> None:
    store.insert("calls", CALLS)
    refresh(store, overlap=AT_ONCE)
    store.command(
        "INSERT INTO cost_hourly SELECT c.* REPLACE (cost_usd + toDecimal64('0.000000000001', 12) "
        "AS cost_usd, version + 1 AS version) FROM cost_hourly AS c FINAL ORDER BY cost_usd DESC LIMIT 1"
    )
    store.command(
        "INSERT INTO latency_5m (slot, feature, calls) VALUES ('2026-11-01 00:05:00', 'x', 3)"
    )
    store.command(
        "INSERT INTO signals_5m SELECT s.* REPLACE (attempts + 1 AS attempts, log_duration * 1.001 AS "
        "log_duration, version + 1 AS version) FROM signals_5m AS s FINAL WHERE log_duration > 0 "
        "ORDER BY slot, team LIMIT 1"
    )
    store.command(
        "INSERT INTO signals_5m (slot, key, attempts) VALUES ('2026-11-02 00:05:00', 'k', 2)"
    )
    costs, latency, day, gone, attempts, logs = sorted(
        verify(store).differences, key=lambda row: row.rollup
    )
    assert (costs.figure, Decimal(costs.kept) - Decimal(costs.counted)) == (
        "cost_usd",
        Decimal("0.000000000001"),
    )
    assert str(latency) == (
        "latency_5m 2026-11-01 00:05 ((none), x, (none)): calls is 3, the calls say 0"
    )
    assert str(day) == (
        "latency_daily 2026-11-01 00:00 ((none), x, (none)): calls is 0, the calls say 3"
    )
    assert (attempts.rollup, attempts.figure) == ("signals_5m", "attempts")
    assert int(attempts.kept) == int(attempts.counted) + 1
    assert (logs.rollup, logs.figure) == ("signals_5m", "log_duration")
    assert str(gone) == (
        "signals_5m 2026-11-02 00:05 ((none), (none), (none), (none), k, (none), (none), (none), "
        "(none)): attempts is 2, the calls say 0"
    )
    rebuild(store, known_hours(store), overlap=AT_ONCE)
    assert verify(store).differences == ()


def test_quantiles_of_five_minutes_are_those_of_the_calls_that_worked(store: Store) -> None:
    store.insert("calls", CALLS)
    refresh(store, overlap=AT_ONCE)
    merged = "quantilesTDigestMerge(0.5, 0.95, 0.99)(duration_us)"
    exact = "quantilesTDigestIf(0.5, 0.95, 0.99)(duration_us, status = 'ok')"
    far = count(
        store,
        f"(SELECT max(abs(x)) FROM (SELECT arrayJoin(arrayMap((a, b) -> a - b, "
        f"(SELECT {merged} FROM latency_5m FINAL), (SELECT {exact} FROM calls FINAL))) AS x))",
    )
    assert far <= 2  # microseconds of about 1,400


def test_the_columns_of_the_view_do_not_depend_on_where_its_rows_come_from(store: Store) -> None:
    store.insert("calls", CALLS)
    for by_hour in (True, False):
        (row,) = store.select(COSTS, Sums, since=SINCE, until=UNTIL, by_hour=by_hour)
        assert row == sums(store, RAW)
        refresh(store, overlap=AT_ONCE)
