"""Rows go when their time is over, their sums stay, and nothing comes back by itself."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from costspan.errors import Rejected
from costspan_collector.record import Call, HttpAttempt
from costspan_collector.settings import Upkeep
from costspan_collector.store import Store
from costspan_collector.store.retention import Keep, Outdated, let_go, outdated
from costspan_collector.store.rollups import known_hours, rebuild, refresh, verify

FIRST = datetime(2026, 9, 28, 10, tzinfo=UTC)
NOW = datetime(2026, 11, 20, 2, 50, tzinfo=UTC)
TODAY = NOW.date()
AT_ONCE = timedelta(0)


@dataclass(frozen=True)
class Figures:
    calls: int
    users: int
    cost_usd: Decimal


@dataclass(frozen=True)
class Day:
    day: date
    day_state: str


def calls(count: int = 9) -> list[Call]:
    """One call every six days, the last of nine on 15 November."""
    return [
        Call(
            started_at=FIRST + timedelta(days=6 * number),
            trace_id=number.to_bytes(16, "big"),
            span_id=bytes(8),
            user="someone",
            response_id="resp_1",
            cost_usd=Decimal("0.01"),
            received_at=FIRST,
            ingest_id=1,
        )
        for number in range(count)
    ]


@pytest.fixture
def filled(store: Store, remembered: Callable[[str, Callable[[], None]], None]) -> Store:
    def fill() -> None:
        store.insert("calls", calls())  # up to and with today
        store.insert(
            "http_attempts",
            [
                HttpAttempt(
                    started_at=call.started_at,
                    trace_id=call.trace_id,
                    span_id=call.span_id,
                    received_at=FIRST,
                    ingest_id=1,
                )
                for call in calls()
            ],
        )
        refresh(store, overlap=AT_ONCE)

    remembered("nine_calls", fill)
    return store


def raw(store: Store) -> Figures:
    (row,) = store.select(
        "SELECT count() AS calls, countIf(user != '') AS users, sum(c.cost_usd) AS cost_usd "
        "FROM calls AS c FINAL",
        Figures,
    )
    return row


def spend(store: Store) -> Figures:
    """What a page shows for all whole days before today."""
    (row,) = store.select(
        """
        SELECT sum(c.calls) AS calls, 0 AS users, sum(c.cost_usd) AS cost_usd
        FROM costs(since = '2026-09-28 00:00:00', until = '2026-11-21 00:00:00', counted = (
            SELECT groupArray(hour) FROM counted_hours(
                since = '2026-09-28 00:00:00', until = '2026-11-21 00:00:00', by_hour = true)
        )) AS c
        """,
        Figures,
    )
    return row


def apply(store: Store, keep: Keep) -> Outdated:
    found = outdated(store, keep, TODAY)
    let_go(store, found, NOW)
    return found


def test_by_default_everything_is_kept(filled: Store) -> None:
    assert Upkeep().keep() == Keep()
    assert outdated(filled, Keep(), TODAY) == Outdated()


def test_users_and_ids_go_first(filled: Store) -> None:
    found = apply(filled, Keep(identities_days=30))
    assert len(found.cleared) == len(found.attempts) == 4
    assert found.cleared[-1] == date(2026, 10, 16)
    assert raw(filled) == Figures(9, 5, Decimal("0.09"))
    assert outdated(filled, Keep(identities_days=30), TODAY) == Outdated()
    assert verify(filled).differences == ()


def test_sums_outlive_their_calls(filled: Store) -> None:
    found = apply(filled, Keep(identities_days=30, calls_days=40))
    assert len(found.dropped) == 3
    assert found.never_reconciled
    assert "never held against a bill" in str(found)
    assert raw(filled).calls == 6
    assert spend(filled) == Figures(9, 0, Decimal("0.09"))
    assert verify(filled).differences == ()
    rebuild(filled, known_hours(filled), overlap=AT_ONCE)
    assert spend(filled) == Figures(9, 0, Decimal("0.09"))


def test_what_is_not_rolled_up_yet_is_before_it_goes(store: Store) -> None:
    store.insert("calls", calls())
    apply(store, Keep(calls_days=40))
    refresh(store, overlap=AT_ONCE)
    assert spend(store) == Figures(9, 0, Decimal("0.09"))


def test_a_call_for_a_day_that_was_dropped_is_counted_and_spoils_nothing(filled: Store) -> None:
    apply(filled, Keep(calls_days=40))
    late = calls(1)
    filled.insert("calls", late)
    assert refresh(filled, overlap=AT_ONCE) == 0
    assert spend(filled) == Figures(9, 0, Decimal("0.09"))
    found = apply(filled, Keep(calls_days=40))
    assert found.late_calls == 1
    assert "1 calls came for days dropped before" in str(found)
    assert spend(filled) == Figures(9, 0, Decimal("0.09"))
    assert raw(filled).calls == 6


def test_a_month_that_is_not_final_against_the_bill_is_held(filled: Store) -> None:
    september = [Day(date(2026, 9, number), "FINAL") for number in range(1, 31)]
    october = [Day(date(2026, 10, 1), "FINAL"), Day(date(2026, 10, 2), "PROVISIONAL")]
    filled.insert("recon_runs", september + october)
    found = apply(filled, Keep(calls_days=40))
    assert found.dropped == (date(2026, 9, 28),)
    assert len(found.held) == 2
    assert raw(filled).calls == 8


def test_rollups_go_by_whole_months(filled: Store) -> None:
    found = apply(filled, Keep(calls_days=40, rollups_days=45))
    assert found.rollups == tuple(
        (table, "202609") for table in ("cost_hourly", "latency_5m", "latency_daily", "signals_5m")
    )
    assert spend(filled).calls == 8
    assert verify(filled).differences == ()


def test_calls_cannot_be_kept_longer_than_their_sums() -> None:
    for days in (None, 31):
        with pytest.raises(Rejected, match="KEEP_ROLLUPS_DAYS is less than"):
            Upkeep(keep_calls_days=days, keep_rollups_days=30).keep()
