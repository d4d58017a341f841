import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, cast

import pytest
from apscheduler.events import EVENT_JOB_EXECUTED
from apscheduler.schedulers.background import BackgroundScheduler
from pydantic import SecretStr

from costspan.errors import Rejected
from costspan_collector.record import Call
from costspan_collector.store import Store
from costspan_reconcile import queries
from costspan_reconcile.schedule import Work, add_jobs
from costspan_reconcile.settings import Reconcile
from costspan_reconcile.standing import bill_standing


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


def runs(store: Store, job: str = "reconcile") -> list[Run]:
    sql = "SELECT status, detail FROM job_runs WHERE job = {job:String} ORDER BY started_at"
    return store.select(sql, Run, job=job)


def days_asked(provider: Any) -> list[int]:
    """Return how many days each grouped Costs request spans."""
    return [
        (int(query["end_time"][0]) - int(query["start_time"][0])) // 86_400
        for path, query in provider.requests
        if path.endswith("costs") and "group_by[]" in query
    ]


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
    assert "set OPENAI_ADMIN_KEY (or COSTSPAN_RECONCILE_ADMIN_KEY, or" in run.detail
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
    far = "7 days read (7 changed); 7 of 7 days reconciled anew"
    assert sum(run.detail.startswith(far) for run in runs(store)) == 1


def test_a_restart_reads_only_what_is_due_and_a_refusal_to_split_by_key_is_remembered(
    store: Store, provider: Any, settings: Reconcile
) -> None:
    provider.splits_by_key = False
    now = datetime(2026, 11, 20, 12, tzinfo=UTC)
    for hours in (0, 1, 24, 24 * 7 + 1):
        work = Work(store, settings)
        assert "the bill is not split by key" in work.recent(now + timedelta(hours=hours))
    asked = [
        len(query.get("group_by[]", []))
        for path, query in provider.requests
        if path.endswith("costs")
    ]
    # Two days, after seven, are none that hold the seven: they might be split. After a week the
    # seven are asked for so again.
    assert asked == [3, 2, 0, 3, 2, 0, 2, 0, 3, 2, 0]
    assert days_asked(provider) == [7, 7, 2, 2, 7, 7, 7]


def test_a_failed_reading_is_made_up_for(store: Store, provider: Any, settings: Reconcile) -> None:
    work = Work(store, settings)
    now = datetime(2026, 11, 20, 12, tzinfo=UTC)
    provider.fail(404)
    with pytest.raises(Rejected, match="what was read before is kept"):
        work.recent(now)
    provider.answer = None
    work.recent(now + timedelta(hours=1))
    assert days_asked(provider) == [7, 7]


def test_the_first_start_goes_back_month_by_month_towards_the_first_span(
    store: Store, provider: Any, settings: Reconcile, ticking: Ticking
) -> None:
    now = datetime.now(UTC)
    before = now.replace(day=1, hour=9) - timedelta(days=5)  # in the month before
    call = Call(
        started_at=before - timedelta(days=300),
        trace_id=bytes(15) + b"1",
        span_id=bytes(7) + b"1",
        received_at=now,
        ingest_id=1,
    )
    store.insert("calls", [call])
    provider.charge(before.date(), "gpt-4o, input", "1", quantity=1)
    capped = settings.model_copy(update={"interval_seconds": 3600, "backfill_months": 2})
    add_jobs(ticking.scheduler, store, capped)
    ticking.scheduler.start()
    while not runs(store, "backfill") or Work(store, capped).has_older(datetime.now(UTC)):
        ticking.wait()
    ticking.scheduler.shutdown()
    back = runs(store, "backfill")
    assert {run.status for run in back} == {"ok"}
    assert back[-1].detail.startswith(f"{before:%Y-%m}: ")
    assert back[-1].detail.endswith(
        f"{len(back)} of {len(back)} earlier months read, back to {before:%Y-%m}"
    )
    (row,) = queries.recon_days(store, before.date(), before.date() + timedelta(days=1))
    assert row.billed_usd == 1


def test_a_month_that_two_jobs_see_as_due_is_read_once(
    store: Store, settings: Reconcile, ticking: Ticking
) -> None:
    """The hourly run goes back, and so does the job that it left the last time."""
    now = datetime.now(UTC)
    call = Call(
        started_at=now - timedelta(days=90),
        trace_id=bytes(15) + b"1",
        span_id=bytes(7) + b"1",
        received_at=now,
        ingest_id=1,
    )
    store.insert("calls", [call])
    one_month = {"lookback_days": now.day + 1, "backfill_months": 2, "interval_seconds": 3600}
    ticking.scheduler.start(paused=True)
    add_jobs(ticking.scheduler, store, settings.model_copy(update=one_month))
    run = cast("Any", ticking.scheduler.get_job("reconcile"))
    both = [threading.Thread(target=run.func) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    (back,) = runs(store, "backfill")
    assert back.status == "ok"
    assert "; 1 of 1 earlier months read, back to " in back.detail


def test_the_age_of_the_bill_and_its_reason_can_be_asked_for(
    store: Store, provider: Any, settings: Reconcile
) -> None:
    hourly = settings.model_copy(update={"interval_seconds": 3600})
    now = datetime(2026, 11, 20, 12, tzinfo=UTC)

    def lines(hours: int) -> list[str]:
        return bill_standing(store, hourly, now + timedelta(hours=hours)).lines()

    assert lines(0) == [
        "bill read: never",
        "stale: the bill was never asked for; start `costspan serve` with an admin key",
    ]
    Work(store, hourly).recent(now)
    assert lines(1) == ["bill read: 2026-11-20 12:00 UTC"]
    assert lines(4) == [
        "bill read: 2026-11-20 12:00 UTC",
        "stale: nobody asked since 2026-11-20 12:00 UTC; is `costspan serve` running?",
    ]
    provider.fail(403)
    with pytest.raises(Rejected):
        Work(store, hourly).recent(now + timedelta(hours=2))
    read, stale = lines(2)
    assert read == "bill read: 2026-11-20 12:00 UTC"
    assert stale.startswith("stale: costs: the admin key may not read this (HTTP 403);")
    assert stale.endswith("(tried 2026-11-20 14:00 UTC)")


def test_a_span_that_comes_late_changes_the_day_it_belongs_to(
    store: Store, provider: Any, settings: Reconcile
) -> None:
    day = yesterday() - timedelta(days=4)
    item = "gpt-4o-mini, input"
    provider.keys = {"proj_a": [("key_1", "checkout", "aaaa")]}
    provider.charge(day, item, "0.15", api_key_id="key_1", quantity=1_000_000)
    work = Work(store, settings)
    work.recent(datetime.now(UTC))
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
    work.recent(datetime.now(UTC))

    assert days_asked(provider) == [7, 2]
    assert queries.uninstrumented_keys(store, day, yesterday()) == []
    (row,) = (row for row in queries.recon_days(store, day, yesterday()) if row.day == day)
    assert (row.verdict, row.billed_usd, row.estimated_usd) == ("MATCHED", *[Decimal("0.15")] * 2)


def test_the_admin_key_is_never_sent_to_a_proxy_for_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/proxy")
    assert Reconcile().base_url == "https://api.openai.com/v1"


def test_the_admin_key_is_not_in_the_settings_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "sk-admin-secret")
    settings = Reconcile()
    assert settings.key() == "sk-admin-secret"
    assert "sk-admin-secret" not in repr(settings)
