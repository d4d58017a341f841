import argparse
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from apscheduler.events import EVENT_JOB_EXECUTED
from apscheduler.schedulers.background import BackgroundScheduler
from pydantic import SecretStr

from costspan.errors import Rejected
from costspan_collector.record import Call
from costspan_collector.store import Store
from costspan_reconcile import queries
from costspan_reconcile.cli import add_reconcile
from costspan_reconcile.schedule import _Cadence, add_jobs
from costspan_reconcile.settings import Reconcile


@dataclass(frozen=True)
class Run:
    status: str
    detail: str


class Ticking:
    """A scheduler that counts the jobs it ran."""

    def __init__(self) -> None:
        self.scheduler = BackgroundScheduler(timezone="UTC")
        self._ran = threading.Semaphore(0)
        self.scheduler.add_listener(self._count, EVENT_JOB_EXECUTED)

    def _count(self, _event: object) -> None:
        self._ran.release()

    def wait(self, runs: int = 1) -> None:
        for _ in range(runs):
            assert self._ran.acquire(timeout=30)


@pytest.fixture
def ticking() -> Iterator[Ticking]:
    ticking = Ticking()
    yield ticking
    if ticking.scheduler.running:
        ticking.scheduler.shutdown()


@pytest.fixture
def settings(provider: Any) -> Reconcile:
    return Reconcile(
        admin_key=SecretStr(provider.ADMIN_KEY),
        base_url=provider.url,
        lookback_days=7,
        interval_seconds=0.1,
    )


@pytest.fixture
def environment(store: Store, provider: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COSTSPAN_CLICKHOUSE_URL", store.url)
    monkeypatch.setenv("COSTSPAN_RECONCILE_BASE_URL", provider.url)
    monkeypatch.setenv("OPENAI_ADMIN_KEY", provider.ADMIN_KEY)


def runs(store: Store) -> list[Run]:
    sql = "SELECT status, detail FROM job_runs WHERE job = 'reconcile' ORDER BY started_at"
    return store.select(sql, Run)


def days_asked(provider: Any) -> list[int]:
    """Return how many days each grouped Costs request spans."""
    return [
        (int(query["end_time"][0]) - int(query["start_time"][0])) // 86_400
        for path, query in provider.requests
        if path.endswith("costs") and "group_by[]" in query
    ]


def costspan(*words: str) -> int:
    parser = argparse.ArgumentParser()
    add_reconcile(parser.add_subparsers())
    args = parser.parse_args(["reconcile", *words])
    return args.run(args)


def yesterday() -> date:
    return datetime.now(UTC).date() - timedelta(days=1)


def test_without_an_admin_key_one_line_says_what_to_set_and_nothing_repeats(
    store: Store, ticking: Ticking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_ADMIN_KEY", raising=False)
    add_jobs(ticking.scheduler, store, Reconcile(interval_seconds=0.1))
    ticking.scheduler.start()
    ticking.wait()
    (run,) = runs(store)
    assert run.status == "failed"
    assert "set OPENAI_ADMIN_KEY (or COSTSPAN_RECONCILE_ADMIN_KEY)" in run.detail
    assert ticking.scheduler.get_jobs() == []


def test_the_first_run_looks_back_far_and_the_next_ones_at_two_days(
    store: Store, provider: Any, settings: Reconcile, ticking: Ticking
) -> None:
    provider.charge(yesterday(), "gpt-4o, input", "1", quantity=1)
    add_jobs(ticking.scheduler, store, settings)
    ticking.scheduler.start()
    ticking.wait(3)
    ticking.scheduler.shutdown()
    assert days_asked(provider)[:3] == [7, 2, 2]
    assert {run.status for run in runs(store)} == {"ok"}
    assert runs(store)[0].detail.startswith("7 days read (7 changed); 7 of 7 days reconciled anew")


def test_a_week_is_read_again_when_it_is_due(
    store: Store, provider: Any, settings: Reconcile
) -> None:
    cadence = _Cadence(store, settings.model_copy(update={"recheck_seconds": 0, "recheck_days": 4}))
    for _ in range(2):
        cadence.work()
    assert days_asked(provider) == [7, 4]


def test_a_refusal_to_split_by_key_is_remembered_until_the_next_long_look(
    store: Store, provider: Any, settings: Reconcile
) -> None:
    provider.splits_by_key = False
    cadence = _Cadence(store, settings)
    for _ in range(2):
        assert "the bill is not split by key" in cadence.work()
    groups = [
        len(query.get("group_by[]", []))
        for path, query in provider.requests
        if path.endswith("costs")
    ]
    assert groups == [3, 2, 0, 2, 0]


def test_a_failed_reading_looks_back_far_again(
    store: Store, provider: Any, settings: Reconcile
) -> None:
    cadence = _Cadence(store, settings)
    provider.fail(404)
    with pytest.raises(Rejected, match="what was read before is kept"):
        cadence.work()
    provider.answer = None
    cadence.work()
    assert days_asked(provider) == [7, 7]


def test_a_span_that_comes_late_changes_the_day_it_belongs_to(
    store: Store, provider: Any, settings: Reconcile
) -> None:
    day = yesterday() - timedelta(days=4)
    item = "gpt-4o-mini, input"
    provider.keys = {"proj_a": [("key_1", "checkout", "aaaa")]}
    provider.charge(day, item, "0.15", api_key_id="key_1", quantity=1_000_000)
    cadence = _Cadence(store, settings)
    cadence.work()
    assert queries.uninstrumented_keys(store, day, yesterday())[0].api_key_id == "key_1"

    started_at = datetime(day.year, day.month, day.day, 9, tzinfo=UTC)
    call = Call(
        started_at=started_at,
        trace_id=bytes(15) + b"1",
        span_id=bytes(7) + b"1",
        project="proj_a",
        key_hint="aaaa",
        response_model="gpt-4o-mini",
        input_tokens=1_000_000,
        cost_usd=Decimal("0.15"),
        cost_parts_usd={"input": Decimal("0.15")},
        received_at=datetime.now(UTC),
        ingest_id=1,
    )
    store.insert("calls", [call])
    cadence.work()

    assert days_asked(provider) == [7, 2]
    assert queries.uninstrumented_keys(store, day, yesterday()) == []
    (row,) = (row for row in queries.recon_days(store, day, yesterday()) if row.day == day)
    assert (row.verdict, row.billed_usd, row.estimated_usd) == ("MATCHED", *[Decimal("0.15")] * 2)


@pytest.mark.usefixtures("environment")
def test_the_commands_read_compare_and_show(
    provider: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    provider.keys = {"proj_a": [("key_1", "nightly batch", "aaaa")]}
    provider.charge(yesterday(), "gpt-4o, input", "2.50", api_key_id="key_1", quantity=1_000_000)

    assert costspan("show") == 0
    assert "nothing is reconciled yet" in capsys.readouterr().out
    assert costspan("fetch", "--days", "3", "--json") == 0
    fetched = json.loads(capsys.readouterr().out)
    assert (fetched["days_read"], fetched["days_changed"], fetched["notes"]) == (3, 3, [])
    assert costspan("run", "--days", "3") == 0
    assert "3 days read (0 changed)" in capsys.readouterr().out
    assert costspan("show") == 0
    shown = capsys.readouterr().out
    assert f"{yesterday()}  PROVISIONAL  EXPLAINED  billed $2.5  estimated $0" in shown
    assert 'key "nightly batch" (key_1) is not instrumented: $2.5 billed' in shown
    assert costspan("show", "--json") == 0
    (key,) = json.loads(capsys.readouterr().out)["uninstrumented_keys"]
    assert key["amount_usd"] == "2.5"


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("action", ["fetch", "run"])
def test_a_command_without_an_admin_key_says_what_to_set(
    action: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "")
    with pytest.raises(Rejected, match="set OPENAI_ADMIN_KEY"):
        costspan(action)


@pytest.mark.usefixtures("environment")
def test_a_command_fails_where_the_bill_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COSTSPAN_RECONCILE_ADMIN_KEY", "sk-of-a-project")
    with pytest.raises(Rejected, match="does not accept the admin key"):
        costspan("run", "--days", "2")


def test_the_admin_key_is_never_sent_to_a_proxy_for_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/proxy")
    assert Reconcile().base_url == "https://api.openai.com/v1"


def test_the_admin_key_is_not_in_the_settings_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "sk-admin-secret")
    settings = Reconcile()
    assert settings.key() == "sk-admin-secret"
    assert "sk-admin-secret" not in repr(settings)
