"""The store does not answer: people hear of that, and of all else once it does; the rest of the
pipeline's facts reach the rules from the parts that know them."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from costspan.errors import Rejected, Unavailable
from costspan.pricing import default_book
from costspan_collector.jobs import run_job
from costspan_collector.pipeline import Pipeline
from costspan_collector.reports import report
from costspan_collector.settings import Receiver
from costspan_collector.store import Store
from costspan_collector.store.rollups import refresh
from costspan_dashboards.alerts import alertmanager, loop
from costspan_dashboards.alerts.evaluate import Evaluation, evaluate_now
from costspan_dashboards.alerts.loop import Loop
from costspan_dashboards.alerts.message import Message
from costspan_dashboards.alerts.metrics import states
from costspan_dashboards.alerts.queries import live_alerts, recent_deliveries, recent_events
from costspan_dashboards.alerts.settings import Alerts
from costspan_dashboards.alerts.wire import Outcome
from costspan_dashboards.filters import TimeRange
from costspan_dashboards.serve import failing_since
from costspan_reconcile.settings import MISSING_ADMIN_KEY

NOW = datetime(2026, 11, 18, 14, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
ALL = TimeRange(NOW - timedelta(days=1), NOW + timedelta(days=1))
FAILING = """
INSERT INTO calls (started_at, trace_id, span_id, feature, request_model, status, error_type,
    duration_us, received_at, ingest_id)
SELECT fromUnixTimestamp64Micro(toInt64({since:Int64} + number * 3000000), 'UTC') AS started_at,
    MD5(toString(number)), toFixedString(substring(MD5(toString(number)), 1, 8), 8),
    'chat', 'gpt-4o-mini', 'error', 'server_error', 1000, greatest(started_at, {at:DateTime64(6, 'UTC')}), 1
FROM numbers({count:UInt64})
"""


class Phone:
    """A channel that remembers what it was told, and may be out of order."""

    name, keyed = "phone", True

    def __init__(self) -> None:
        self.told: list[tuple[str, str, str]] = []
        self.works = True

    def send(self, message: Message) -> Outcome:
        if self.works:
            rule = message.payload["rule"]
            self.told.append((rule, message.state, message.payload["alert_id"]))
        return Outcome(delivered=self.works, detail="" if self.works else "engaged")


@pytest.fixture
def phone(monkeypatch: pytest.MonkeyPatch) -> Phone:
    """Everybody is told by this phone."""
    one = Phone()

    def only_it(_settings: Alerts) -> list[Phone]:
        return [one]

    for module in ("loop", "evaluate"):
        where = f"costspan_dashboards.alerts.{module}.open_channels"
        monkeypatch.setattr(where, only_it)
    return one


@contextmanager
def away(monkeypatch: pytest.MonkeyPatch, *names: str) -> Generator[None]:
    """Let the store answer nothing."""

    def no_answer(*_: object, **_more: object) -> None:
        msg = "no answer"
        raise Unavailable(msg)

    with monkeypatch.context() as patch:
        for name in names or ("select", "select_columns", "command", "insert_blocks"):
            patch.setattr(Store, name, no_answer)
        yield


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.minute = 0.0

    def __call__(self) -> datetime:
        return NOW + self.minute * MINUTE


@pytest.mark.parametrize("names", [(), ("insert_blocks",)], ids=["away", "takes no rows"])
def test_a_store_that_is_away_is_told_and_what_fails_meanwhile_is_told_after(
    store: Store, phone: Phone, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    clock = Clock()
    since: list[datetime] = []
    watch = Loop(store, Alerts(), clock, store_failing_since=lambda: min(since, default=None))

    def evaluated(*minutes: float) -> list[tuple[str, str]]:
        before = len(phone.told)
        for clock.minute in minutes:
            try:
                watch.evaluate()
            except Unavailable:
                assert since
        return [(rule, state) for rule, state, _ in phone.told[before:]]

    def calls(minute: float, count: int) -> None:
        at = NOW + minute * MINUTE
        store.command(FAILING, since=int((at - MINUTE).timestamp() * 1e6), at=at, count=count)

    calls(0, 1)
    assert evaluated(0) == []
    with away(monkeypatch, *names):
        since.append(NOW + MINUTE)  # the collector knows it too
        assert evaluated(1, 2, 3, 4, 5) == [("store_unhealthy", "firing")]
        named = 'costspan_alerts{rule="store_unhealthy",severity="page",state="firing"} 1'
        assert named in states(watch.alerts).splitlines()
    (_, _, first) = phone.told[0]
    since.clear()
    calls(2, 80)  # what waited on the collector's disk: everything failed from minute 1 to 5
    after = evaluated(6, 7, 8, 9, 10)
    assert ("errors", "firing") in after
    assert ("store_unhealthy", "firing") not in after
    assert evaluated(11, 12) == [("store_unhealthy", "resolved")]
    assert len(phone.told) <= 4
    steps = [one for one in recent_events(store, ALL) if one.rule == "store_unhealthy"]
    assert [one.to_state for one in steps] == ["resolved", "firing", "pending"]
    assert {one.alert_id for one in steps} == {first}
    assert {one.outcome for one in recent_deliveries(store, ALL)} == {"delivered"}


def test_a_phone_that_is_engaged_meanwhile_is_tried_again_and_hears_it_once(
    store: Store, phone: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    watch = Loop(store, Alerts(for_seconds=0), clock)
    phone.works = False
    with away(monkeypatch):
        for clock.minute in range(4):
            with pytest.raises(Unavailable):
                watch.evaluate()
        phone.works = True
        for clock.minute in (4, 5):
            with pytest.raises(Unavailable):
                watch.evaluate()
    clock.minute = 6
    watch.evaluate()
    assert [one[:2] for one in phone.told] == [("store_unhealthy", "firing")]
    assert [alert.finding.rule for alert in live_alerts(store)] == ["store_unhealthy"]
    (kept,) = recent_deliveries(store, ALL)
    assert (kept.outcome, kept.tries) == ("delivered", 3)


def test_alertmanager_is_told_that_what_fired_goes_on_while_the_store_is_away(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed: list[list[str]] = []

    def posted(settings: Alerts, alerts: Any, now: datetime) -> Outcome:
        body = alertmanager.posted(settings, alerts, now)
        pushed.append([one["labels"]["alertname"] for one in body[1:]])
        return Outcome(delivered=True, detail="")

    for module in ("loop", "evaluate"):
        monkeypatch.setattr(f"costspan_dashboards.alerts.{module}.push", posted)
    clock = Clock()
    settings = Alerts(for_seconds=0, alertmanager_url=SecretStr("http://127.0.0.1:9"))
    watch = loop.Loop(store, settings, clock)
    since = NOW - 9 * MINUTE
    store.command(FAILING, since=int(since.timestamp() * 1e6), at=since, count=150)
    watch.evaluate()
    with away(monkeypatch):
        for clock.minute in (1, 2, 3, 4):
            with pytest.raises(Unavailable):
                watch.evaluate()
    assert pushed == [["errors"]] * 3 + [["errors", "store_unhealthy"]] * 2


def rules(seen: Evaluation) -> dict[str, str]:
    return {one.rule: one.title for one in seen.findings}


def test_since_when_the_store_takes_no_rows_the_collector_of_this_process_knows(
    collector: Any, wire: Any, monkeypatch: pytest.MonkeyPatch, until: Any
) -> None:
    assert failing_since(collector.pipeline) is None
    with away(monkeypatch, "insert_blocks", "insert_read"):
        assert collector.post(wire.request(wire.span(1))).status_code == 200
        until(lambda: collector.pipeline.behind)
        since = failing_since(collector.pipeline)
        assert since is not None
        assert datetime.now(UTC) - since < timedelta(seconds=30)
    now = since + 3 * MINUTE
    seen = evaluate_now(collector.store, Alerts(), now, store_failing_since=since)
    assert rules(seen) == {"store_unhealthy": "The store has taken no rows for 3 minutes"}
    until(lambda: not collector.pipeline.behind)
    assert failing_since(collector.pipeline) is None


def test_spans_that_apps_gave_up_and_files_in_quarantine_are_told(
    store: Store, tmp_path: Path
) -> None:
    given_up = "INSERT INTO sender_counts VALUES ({at:DateTime('UTC')}, 'shop', 'a', 900, 0, {q:UInt64}, {f:UInt64})"
    store.command(given_up, at=NOW - timedelta(hours=30), q=500, f=0)
    assert rules(evaluate_now(store, Alerts(), NOW)) == {}  # that was yesterday
    store.command(given_up, at=NOW - timedelta(hours=1), q=512, f=30)
    assert rules(evaluate_now(store, Alerts(), NOW)) == {
        "collector_loss": "42 of 42 spans of the last hour were not kept"
    }
    store.command("TRUNCATE TABLE sender_counts")
    settings = Receiver(port=0, spool=tmp_path, min_free_bytes=0)
    pipeline = Pipeline(store, settings)
    (tmp_path / "quarantine" / "1.unreadable").write_bytes(b"x")
    report(store, pipeline, NOW - MINUTE)
    pipeline.close()
    (found,) = evaluate_now(store, Alerts(), NOW).findings
    assert found.title == "The store cannot take 1 files of spans, which are set aside"
    assert evaluate_now(store, Alerts(), NOW + timedelta(hours=1)).findings == ()


def test_a_job_that_fails_is_told_and_one_that_lacks_a_key_from_the_start_is_not(
    store: Store,
) -> None:
    def fails(reason: str) -> None:
        def work() -> str:
            raise Rejected(reason)

        for _ in range(3):
            run_job(store, "reconcile", work)

    now = datetime.now(UTC) + MINUTE
    fails(MISSING_ADMIN_KEY)
    assert rules(evaluate_now(store, Alerts(), now)) == {}
    fails("the admin key was refused")
    assert rules(evaluate_now(store, Alerts(), now)) == {
        "job_late": "The job reconcile has not succeeded ever"
    }


def test_a_promised_price_of_a_model_in_use_is_told_once_its_promise_has_ended(
    store: Store,
) -> None:
    book = default_book()
    key, rows = next(
        (key, rows)
        for key, rows in book.rows.items()
        if key[0].startswith("gpt-4o") and rows[-1].valid_from <= NOW < rows[-1].valid_to
    )
    reviewed = replace(rows[-1], review_by=date(2026, 11, 17))
    book = replace(book, rows={**book.rows, key: (*rows[:-1], reviewed)})

    def found(now: datetime) -> dict[str, str]:
        return rules(evaluate_now(store, Alerts(), now, book=book))

    assert found(NOW) == {}  # nobody uses it
    store.command(
        """INSERT INTO calls (started_at, trace_id, span_id, request_model, status, received_at,
            ingest_id) SELECT {at:DateTime('UTC')}, MD5('a'), '12345678', {model:String}, 'ok',
            {at:DateTime('UTC')}, 1""",
        at=NOW - timedelta(days=2),
        model=key[0],
    )
    refresh(store, overlap=timedelta(0))
    assert found(datetime(2026, 11, 17, 23, 59, tzinfo=UTC)) == {}
    title = found(NOW)["price_book_old"]
    assert title == f"The price book {book.name} was to be reviewed before 2026-11-18"
    late = {one.rule: one for one in evaluate_now(store, Alerts(), NOW, book=book).findings}
    assert late["price_book_old"].severity == "info"
    assert key[0] in late["price_book_old"].facts[0]
