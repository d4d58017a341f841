"""The jobs and the command that look after the store, and what they leave behind."""

import json
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, cast

import pytest
from apscheduler.events import EVENT_JOB_EXECUTED
from apscheduler.schedulers.background import BackgroundScheduler

from costspan.cli import main
from costspan.errors import Rejected
from costspan_collector.jobs import run_job
from costspan_collector.record import Call
from costspan_collector.settings import Upkeep
from costspan_collector.store import Store, pending
from costspan_collector.store.door import open_door
from costspan_collector.store.rollups import refresh, verify
from costspan_collector.telemetry import Counters
from costspan_collector.upkeep import VERIFY, add_jobs, let_go_of_old, proven, refreshed
from costspan_dashboards.filters import Filters, TimeRange
from costspan_dashboards.queries import (
    DIMENSIONS,
    calls,
    choices,
    overview,
    spend_by_dimension,
    spend_by_part,
    spend_largest,
)

DAY = datetime(2026, 11, 19, tzinfo=UTC)
AT_ONCE = timedelta(0)


def known_price(number: int) -> dict[str, Any]:
    """No price, one that is split up, or one of which a part is not."""
    usd = Decimal(number).scaleb(-12)
    return (
        {"price_status": "unknown_model"},
        {"price_status": "priced", "cost_usd": usd * 3, "cost_parts_usd": {"input": usd * 3}},
        {"price_status": "priced", "cost_usd": usd * 3, "cost_parts_usd": {"web_search": usd}},
    )[number % 3]


CALLS = [
    Call(
        started_at=DAY + timedelta(minutes=5 * number),
        trace_id=number.to_bytes(16, "big"),
        span_id=bytes(8),
        team=("red", "")[number % 2],
        feature=("chat", "search", "")[number % 3],
        request_model="gpt-5",
        input_tokens=number,
        cached_tokens=number // 4,
        duration_us=1000 * number,
        **known_price(number),
        received_at=DAY,
        ingest_id=1,
    )
    for number in range(300)
]


@dataclass(frozen=True)
class Run:
    job: str
    status: str
    detail: str


def runs(store: Store) -> list[Run]:
    return store.select("SELECT job, status, detail FROM job_runs ORDER BY started_at", Run)


def spoil(store: Store) -> None:
    store.command(
        "INSERT INTO cost_hourly (hour, team, calls) VALUES ('2026-11-18 07:00:00', 'x', 1)"
    )


def test_a_page_shows_the_same_before_and_after_the_rollups_are_made(store: Store) -> None:
    store.insert("calls", CALLS)
    time = TimeRange(DAY + timedelta(minutes=17), DAY + timedelta(hours=23, seconds=1))
    filters = Filters(time, teams=("red",))

    def page() -> list[Any]:
        shown: list[Any] = [choices(store, time)]
        for by in DIMENSIONS:
            largest = spend_largest(store, filters, by=by, measure="usd", room=1)
            steps = [
                spend_by_dimension(store, filters, by=by, largest=largest, step_seconds=seconds)
                for seconds in (0, 300, 3600, 86_400)
            ]
            shown += [largest, *steps]
        for measure in ("usd", "tokens"):
            steps = [
                spend_by_part(store, filters, measure=measure, step_seconds=seconds)
                for seconds in (0, 300, 3600)
            ]
            shown += steps
        return [*shown, overview(store, filters), overview(store, Filters(time))]

    before = page()
    assert refresh(store, overlap=AT_ONCE) == 25
    assert page() == before


def test_the_newest_calls_are_found_however_far_back_they_lie(store: Store) -> None:
    store.insert("calls", CALLS)
    newest = [call.trace_id.hex() for call in reversed(CALLS)]
    for hours in (25, 40):  # with calls up to its end, and long after the last
        filters = Filters(TimeRange(DAY, DAY + timedelta(hours=hours)))
        for most in (1, 12, 13, 288, 299, 300, 301):
            found = calls(store, filters, most=most)
            assert [call.trace_id for call in found] == newest[:most]


def test_the_rollups_job_says_what_it_did(store: Store) -> None:
    store.insert("calls", CALLS)
    run_job(store, "rollups", lambda: refreshed(store))
    assert runs(store) == [Run("rollups", "ok", "25 hours recomputed")]


def test_the_nightly_proof_says_that_all_is_well(store: Store) -> None:
    store.insert("calls", CALLS)
    refresh(store, overlap=AT_ONCE)
    run_job(store, VERIFY, lambda: proven(store))
    assert runs(store) == [Run("verify", "ok", "25 hours checked")]


def test_the_nightly_proof_fails_once_and_mends_what_it_found(store: Store) -> None:
    spoil(store)
    for _ in range(2):
        run_job(store, VERIFY, lambda: proven(store))
    failed, after = runs(store)
    assert failed.status == "failed"
    assert failed.detail == (
        "1 hours checked; 1 sums differ in 1 hours, which are recomputed now: cost_hourly "
        "2026-11-18 07:00 ((none), (none), (none), x, (none), (none), (none)): "
        "calls is 1, the calls say 0"
    )
    assert after.status == "ok"
    assert verify(store).differences == ()


def test_the_scheduler_brings_the_rollups_up_to_date_at_once(store: Store) -> None:
    store.insert("calls", CALLS)
    scheduler = BackgroundScheduler(timezone="UTC")
    add_jobs(scheduler, store, Upkeep(keep_calls_days=1), Counters())
    jobs = cast("list[Any]", scheduler.get_jobs())  # apscheduler 3 ships no types
    assert {job.id for job in jobs} == {"rollups", "verify", "balance", "retention"}
    done = threading.Event()

    def tell(_event: object) -> None:
        done.set()

    scheduler.add_listener(tell, EVENT_JOB_EXECUTED)
    scheduler.start()
    assert done.wait(30)
    scheduler.shutdown(wait=True)
    assert runs(store) == [Run("rollups", "ok", "25 hours recomputed")]


def test_the_retention_job_says_what_went(store: Store) -> None:
    store.insert("calls", CALLS)
    keep = Upkeep(keep_calls_days=30).keep()
    assert let_go_of_old(store, keep, DAY + timedelta(days=40)) == (
        "0 days without users and ids; 0 days of HTTP attempts and 2 of calls dropped; 0 months of "
        "rollups dropped; warning: these days were never held against a bill"
    )


def test_a_door_is_for_the_embedded_engine_and_for_those_with_a_token(store: Store) -> None:
    with open_door(store, Upkeep()) as url:
        assert url == ""
    server = Store(lambda: store._client, "https://clickhouse.example:8443")
    with (
        pytest.raises(Rejected, match="is for the embedded engine"),
        open_door(server, Upkeep.model_validate({"door_token": "t"})),
    ):
        pass
    with open_door(store, Upkeep.model_validate({"door_token": "t", "door_port": 0})) as url:
        port = int(url.rpartition(":")[2])
        again = Upkeep.model_validate({"door_token": "t", "door_port": port})
        with pytest.raises(Rejected, match="COSTSPAN_STORE_DOOR_PORT"), open_door(store, again):
            pass


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 on this machine")
def test_a_door_may_be_at_an_address_of_ipv6(store: Store) -> None:
    there = {"door_token": "t", "door_host": "::1", "door_port": 0}
    with open_door(store, Upkeep.model_validate(there)) as url:
        assert url.startswith("http://[::1]:")


Command = Callable[..., tuple[int, str]]


@pytest.fixture
def command(engine: Store, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run a command on the engine of the tests: its status, and what it told."""
    monkeypatch.setenv("COSTSPAN_CLICKHOUSE_URL", engine.url)

    def run(*arguments: str) -> tuple[int, str]:
        status = main(arguments)
        return status, "".join(capsys.readouterr())

    return run


def test_the_command_proves_mends_and_rebuilds(empty: Store, command: Command) -> None:
    status, told = command("store", "verify")
    assert status == 1
    assert "run `costspan migrate` first" in told
    assert command("store", "rebuild") == (0, "0 hours recomputed\n")
    spoil(empty)
    status, told = command("store", "verify")
    assert status == 1
    assert "calls is 1, the calls say 0" in told
    status, told = command("store", "verify", "--repair")
    assert (status, told.splitlines()[-1]) == (
        0,
        "after the repair: 1 hours checked",
    )
    status, told = command("store", "verify", "--json")
    assert (status, json.loads(told)["differences"]) == (0, [])


def test_the_command_says_what_would_go(
    empty: Store, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command("migrate")[0] == 0
    assert pending(empty) == []
    assert command("store", "retention") == (
        0,
        "everything is kept: no COSTSPAN_STORE_KEEP_… is set\n",
    )
    monkeypatch.setenv("COSTSPAN_STORE_KEEP_CALLS_DAYS", "30")
    assert command("store", "retention", "--dry-run") == (
        0,
        (
            "would do: 0 days without users and ids; 0 days of HTTP attempts and 0 of calls "
            "dropped; 0 months of rollups dropped\n"
        ),
    )
