"""OpenAI's billing endpoints answer wrongly, late or not at all: nothing wrong is ever kept."""

import json
import logging
import socket
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from costspan.errors import Rejected, Unavailable
from costspan_collector.record import Call
from costspan_collector.store import Store
from costspan_reconcile import ledger, openai_costs, queries
from costspan_reconcile.fetch import Fetched
from costspan_reconcile.reconcile import reconcile_days
from costspan_reconcile.schedule import fetch_now
from costspan_reconcile.settings import Reconcile

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
DAY = date(2026, 11, 18)
ITEM = "gpt-4o, input"


@dataclass(frozen=True)
class _Text:
    text: str


EVERYTHING = """
SELECT arrayStringConcat([parameters, request_id, body]) AS text FROM billing_fetches
UNION ALL SELECT reason FROM billing_days
UNION ALL SELECT reason FROM recon_runs
UNION ALL SELECT toString(tuple(*)) FROM api_keys
UNION ALL SELECT toString(tuple(*)) FROM refused_groupings
"""

Query = dict[str, list[str]]
Answer = Callable[[str, Query], tuple[int, str] | None]


@pytest.fixture
def settings(provider: Any) -> Reconcile:
    provider.headers = {"retry-after-ms": "1"}  # the SDK's own retries, without the wait
    provider.charge(DAY, ITEM, "12.5", quantity=5_000_000)
    return Reconcile(
        admin_key=SecretStr(provider.ADMIN_KEY), base_url=provider.url, lookback_days=7
    )


@pytest.fixture
def spend(store: Store) -> Callable[..., None]:
    """Insert one call that cost so much."""

    def add(day: date, usd: str) -> None:
        started_at = datetime(day.year, day.month, day.day, 9, tzinfo=UTC)
        call = Call(
            started_at=started_at,
            trace_id=bytes(15) + b"1",
            span_id=day.toordinal().to_bytes(8),
            provider="openai",
            cost_usd=Decimal(usd),
            received_at=started_at,
            ingest_id=1,
        )
        store.insert("calls", [call])

    return add


def read(store: Store, settings: Reconcile, hours: int = 0) -> Fetched:
    """Read the bill and compare it; whose it is does not matter here."""
    fetched = ask(store, settings, hours)
    until = NOW.date() + timedelta(days=1)
    reconcile_days(
        store, until - timedelta(days=settings.lookback_days), until, NOW + timedelta(hours=hours)
    )
    return fetched


def ask(store: Store, settings: Reconcile, hours: int = 0) -> Fetched:
    """Read the bill and compare nothing: most faults are seen before that."""
    now = NOW + timedelta(hours=hours)
    return fetch_now(store, settings, now, days=settings.lookback_days)


def day(store: Store) -> queries.DayRow:
    (row,) = (row for row in queries.recon_days(store, DAY, NOW.date()) if row.day == DAY)
    return row


def changed(provider: Any, change: Callable[[dict[str, Any]], None], path: str = "costs") -> Answer:
    """Return an answer that changes every page of an endpoint."""

    def answer(asked: str, query: Query) -> tuple[int, str] | None:
        if not asked.endswith(path):
            return None
        before, provider.answer = provider.answer, None
        _, body = provider.reply(asked, query)
        provider.answer = before
        page = json.loads(body)
        change(page)
        return 200, json.dumps(page)

    return answer


def drop_a_day(page: dict[str, Any]) -> None:
    page["data"].pop(2)


def drop_a_row(page: dict[str, Any]) -> None:
    page["data"][4]["results"].pop()


def repeat_a_day(page: dict[str, Any]) -> None:
    page["data"].append(page["data"][0])


def another_day(page: dict[str, Any]) -> None:
    page["data"][0]["start_time"] -= 7 * 86_400


def no_midnight(page: dict[str, Any]) -> None:
    page["data"][0]["start_time"] += 1


def has_more_is_missing(page: dict[str, Any]) -> None:
    del page["has_more"]


def no_cursor(page: dict[str, Any]) -> None:
    page.update(has_more=True, next_page=None)


def cursor_for_ever(page: dict[str, Any]) -> None:
    page.update(data=[], has_more=True, next_page="0")


def no_results(page: dict[str, Any]) -> None:
    page["data"][0]["results"] = None


def amounts(value: object) -> Callable[[dict[str, Any]], None]:
    def change(page: dict[str, Any]) -> None:
        for bucket in page["data"]:
            for result in bucket["results"]:
                result["amount"]["value"] = value

    return change


def another_object(page: dict[str, Any]) -> None:
    for bucket in page["data"]:
        for result in bucket["results"]:
            result["object"] = "organization.usage.completions.result"


def of_organization(organization: str) -> Callable[[dict[str, Any]], None]:
    def change(page: dict[str, Any]) -> None:
        for bucket in page["data"]:
            for result in bucket["results"]:
                result["organization_id"] = organization

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (drop_a_day, "no bucket for 2026-11-16"),
        (repeat_a_day, "came twice"),
        (another_day, "was not asked for"),
        (no_midnight, "not at midnight UTC"),
        (has_more_is_missing, "has_more is None"),
        (no_cursor, "no next_page"),
        (cursor_for_ever, "the cursor repeats"),
        (no_results, "results of 2026-11-14 is not a list"),
        (amounts("12,5"), "is not a decimal number"),
        (amounts("NaN"), "is not an amount"),
        (amounts(None), "is None, not a number"),
        (amounts(True), "is True, not a number"),
        (another_object, "calls itself 'organization.usage.completions.result'"),
    ],
)
def test_an_answer_that_cannot_be_whole_is_refused_and_the_last_good_bill_stays(
    store: Store,
    provider: Any,
    settings: Reconcile,
    change: Callable[[dict[str, Any]], None],
    reason: str,
) -> None:
    ask(store, settings)
    provider.answer = changed(provider, change)

    fetched = read(store, settings, hours=1)

    assert isinstance(fetched.failure, Rejected)
    assert reason in str(fetched.failure)
    row = day(store)
    assert (row.verdict, row.billed_usd, row.read_at) == ("BLOCKED", Decimal("12.5"), NOW)
    assert reason in row.reason
    assert "the bill of 2026-11-20 12:00 UTC is kept" in row.reason
    provider.answer = None
    read(store, settings, hours=2)
    assert (day(store).verdict != "BLOCKED", day(store).reason) == (True, "")


def test_a_bill_that_never_came_is_unknown_and_not_zero(
    store: Store, provider: Any, settings: Reconcile
) -> None:
    provider.fail(500)
    fetched = read(store, settings)
    assert isinstance(fetched.failure, Unavailable)
    row = day(store)
    assert (row.verdict, row.billed_usd) == ("BLOCKED", None)
    assert "OpenAI has a fault of its own (HTTP 500); the next run tries again" in row.reason
    assert "there is no earlier bill" in row.reason


def test_a_day_in_another_currency_is_blocked_and_the_others_are_not(
    store: Store, provider: Any, settings: Reconcile
) -> None:
    provider.charge(DAY, ITEM, "1", currency="EUR")
    provider.charge(date(2026, 11, 17), ITEM, "3", quantity=1)

    fetched = read(store, settings)

    assert fetched.kept.blocked == (
        f"{DAY}: BLOCKED_CURRENCY: a row is in 'eur', and only 'usd' can be compared",
    )
    assert [line.day for line in ledger.billed_lines(store, DAY, NOW.date())] == []
    assert (day(store).verdict, day(store).billed_usd) == ("BLOCKED", None)
    (other,) = ledger.billed_lines(store, date(2026, 11, 17), DAY)
    assert other.amount == "3"


def test_rows_that_miss_the_days_total_are_not_kept(
    store: Store, provider: Any, settings: Reconcile
) -> None:
    provider.charge(DAY, "gpt-4o, output", "2.25", quantity=1)
    drop = changed(provider, drop_a_row)

    def answer(path: str, query: Query) -> tuple[int, str] | None:
        return drop(path, query) if "group_by[]" in query else None

    provider.answer = answer

    fetched = ask(store, settings)

    (reason,) = fetched.kept.blocked
    assert reason == (
        f"{DAY}: BLOCKED_INCOMPLETE: the rows add up to $12.5, "
        "the day asked for as a whole to $14.75"
    )
    assert ledger.billed_lines(store, DAY, NOW.date()) == []


def test_the_open_day_may_grow_between_two_requests(
    store: Store, provider: Any, settings: Reconcile
) -> None:
    def grow(path: str, _query: Query) -> None:
        if path.endswith("costs"):
            provider.charge(NOW.date(), ITEM, "1", quantity=1)

    provider.answer = grow
    assert ask(store, settings).kept.blocked == ()


@pytest.mark.parametrize(
    ("status", "kind", "says"),
    [
        (400, Rejected, "a newer costspan may know what it takes"),
        (401, Rejected, "put an organization admin key in OPENAI_ADMIN_KEY"),
        (403, Rejected, "give it read permission"),
        (404, Rejected, "see that COSTSPAN_RECONCILE_BASE_URL is OpenAI's own"),
        (418, Rejected, "OpenAI answered HTTP 418"),
        (429, Unavailable, "is asked too often (HTTP 429); the next run tries again"),
        (503, Unavailable, "has a fault of its own (HTTP 503); the next run tries again"),
    ],
)
def test_a_refusal_is_one_clear_line_without_the_key(
    store: Store, provider: Any, settings: Reconcile, status: int, kind: type, says: str
) -> None:
    body = json.dumps({"error": {"message": f"Incorrect API key: {provider.ADMIN_KEY}"}})
    provider.fail(status, body)
    failure = ask(store, settings).failure
    assert isinstance(failure, kind)
    assert says in str(failure)
    assert "\n" not in str(failure)


def test_a_key_that_expired_says_nothing_of_the_bill_that_was_read_before(
    store: Store, provider: Any, settings: Reconcile
) -> None:
    read(store, settings)
    before = day(store)
    provider.fail(401)
    assert read(store, settings, hours=1).kept.blocked == ()
    row = day(store)
    assert (row.verdict, row.billed_usd) == (before.verdict, Decimal("12.5"))
    assert "OpenAI does not accept the admin key" in row.reason
    assert "the bill of 2026-11-20 12:00 UTC is kept" in row.reason


def test_a_server_that_is_not_there_is_tried_again_later(
    store: Store, provider: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openai_costs, "_RETRIES", 0)
    gone = Reconcile(
        admin_key=SecretStr(provider.ADMIN_KEY),
        base_url="http://127.0.0.1:9/v1",
        lookback_days=2,
        timeout_seconds=2,
    )
    failure = ask(store, gone).failure
    assert isinstance(failure, Unavailable)
    assert "127.0.0.1 does not answer" in str(failure)
    assert "the next run tries again" in str(failure)


def test_a_server_that_takes_too_long_is_tried_again_later(
    store: Store, settings: Reconcile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openai_costs, "_RETRIES", 0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        base_url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        slow = settings.model_copy(update={"base_url": base_url, "timeout_seconds": 0.05})
        failure = ask(store, slow).failure
    assert isinstance(failure, Unavailable)
    assert "127.0.0.1 does not answer in time" in str(failure)
    assert "COSTSPAN_RECONCILE_TIMEOUT_SECONDS gives it longer" in str(failure)


@pytest.mark.parametrize("body", ["<html>", "[]", "", '{"data": {}}', '{"data": [NaN]}'])
def test_what_is_no_page_is_refused(
    store: Store, provider: Any, settings: Reconcile, body: str
) -> None:
    provider.fail(200, body, only="costs")
    assert isinstance(ask(store, settings).failure, Rejected)


def test_the_bill_is_worth_having_without_the_usage_and_the_names(
    store: Store, provider: Any, settings: Reconcile
) -> None:
    provider.fail(403, but="costs")
    fetched = read(store, settings)
    assert fetched.failure is None
    usage, names = fetched.notes
    assert usage.startswith("no usage of completions, decisions, embeddings, moderations, images, ")
    assert usage.endswith("read permission for usage (api.usage.read) and projects")
    assert names.startswith("no names of keys: projects: the admin key may not read this")
    assert day(store).billed_usd == Decimal("12.5")


@pytest.mark.parametrize("count", [-1, "seven", 1.5, True, 2**64])
def test_a_count_that_is_no_count_spoils_the_usage_alone(
    store: Store, provider: Any, settings: Reconcile, count: object
) -> None:
    provider.count(DAY, "gpt-4o", input_tokens=count)
    fetched = ask(store, settings)
    assert fetched.failure is None
    (note,) = fetched.notes
    assert note.startswith("no usage of completions: input_tokens")


def test_a_list_of_projects_that_is_no_list_costs_only_the_names(
    store: Store, provider: Any, settings: Reconcile
) -> None:
    provider.fail(200, '"nothing"', only="projects")
    fetched = ask(store, settings)
    assert fetched.failure is None
    (note,) = fetched.notes
    assert note == "no names of keys: projects: the list is not what the SDK expects"


def test_the_bill_of_another_organization_replaces_nothing(
    store: Store, provider: Any, settings: Reconcile
) -> None:
    provider.answer = changed(provider, of_organization("org-a"))
    assert ask(store, settings).failure is None
    provider.bill[DAY][0]["amount"] = "777"
    provider.answer = changed(provider, of_organization("org-b"))
    failure = read(store, settings, hours=1).failure

    assert str(failure).startswith("the bill is of org-b, and ours is org-a;")
    row = day(store)
    assert (row.verdict, row.billed_usd) == ("BLOCKED", Decimal("12.5"))
    assert row.reason.startswith("BLOCKED_WRONG_ORG: the bill is of org-b")

    meant = settings.model_copy(update={"organization": "org-b"})
    assert read(store, meant, hours=2).failure is None
    assert day(store).billed_usd == 777


def test_an_organization_with_nothing_at_all_is_not_the_one_that_had_a_bill(
    store: Store, provider: Any, settings: Reconcile
) -> None:
    ask(store, settings)
    provider.bill.clear()
    fetched = read(store, settings, hours=1)
    assert "the bill read before has $12.5 from 2026-11-18" in str(fetched.failure)
    assert day(store).billed_usd == Decimal("12.5")


def test_an_organization_with_nothing_at_all_is_not_the_one_that_the_app_calls(
    store: Store, provider: Any, settings: Reconcile, spend: Callable[..., None]
) -> None:
    provider.bill.clear()
    spend(DAY, "0.02")
    fetched = read(store, settings)
    assert "but the app has $0.02 from 2026-11-18 to 2026-11-18" in str(fetched.failure)
    assert day(store).reason.startswith("BLOCKED_WRONG_ORG: OpenAI bills and counts nothing")
    assert day(store).billed_usd is None


def test_a_bill_that_is_only_late_is_not_another_organizations(
    store: Store, provider: Any, settings: Reconcile, spend: Callable[..., None]
) -> None:
    provider.bill.clear()
    spend(NOW.date() - timedelta(days=1), "9")
    assert ask(store, settings).failure is None  # a day that ended twelve hours ago
    spend(DAY, "9")
    provider.count(DAY, "gpt-4o", input_tokens=10)
    assert ask(store, settings, hours=1).failure is None  # used, and not billed yet


def test_the_admin_key_is_in_no_row_no_log_and_no_error(
    store: Store,
    provider: Any,
    settings: Reconcile,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    told: list[str] = []
    provider.keys = {"proj_a": [("key_1", "checkout", "aaaa")]}
    refusal = json.dumps({"error": {"message": f"Incorrect API key: {provider.ADMIN_KEY}"}})
    for status in (200, 400, 401, 403, 404, 429, 500):
        provider.answer = None
        if status != 200:
            provider.fail(status, refusal)
        failure = ask(store, settings, hours=status).failure
        told += traceback.format_exception(failure)
        while failure is not None:  # what a debugger or an error tracker would walk to
            told.append(repr(vars(failure)))
            failure = failure.__cause__ or failure.__context__
    told += [record.getMessage() for record in caplog.records]
    told += [row.text for row in store.select(EVERYTHING, _Text)]
    assert len(caplog.records) > 10
    assert any("does not accept the admin key" in text for text in told)
    assert not [text for text in told if provider.ADMIN_KEY in text]


def test_the_admin_key_may_be_in_a_file_which_may_change(
    store: Store, provider: Any, settings: Reconcile, tmp_path: Path
) -> None:
    file = tmp_path / "admin_key"
    file.write_text(f"{provider.ADMIN_KEY}\n")
    filed = settings.model_copy(
        update={"admin_key": SecretStr("sk-old"), "admin_key_file": file},
    )
    assert ask(store, filed).failure is None
    file.write_text("sk-revoked")
    assert "does not accept" in str(ask(store, filed).failure)
    file.unlink()
    with pytest.raises(Rejected, match="ADMIN_KEY_FILE: cannot read it"):
        read(store, filed)


def test_a_crash_before_the_last_write_leaves_the_revision_before(
    store: Store, provider: Any, settings: Reconcile, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(store, settings)
    provider.bill[DAY][0]["amount"] = "99"
    insert = Store.insert

    def crash(self: Store, table: str, *args: Any, **more: Any) -> None:
        if table == "billing_days":
            msg = "the disk is gone"
            raise Unavailable(msg)
        insert(self, table, *args, **more)

    with monkeypatch.context() as patched:
        patched.setattr(Store, "insert", crash)
        with pytest.raises(Unavailable, match="the disk is gone"):
            ask(store, settings, hours=1)
    (line,) = ledger.billed_lines(store, DAY, NOW.date())
    assert (line.amount, line.revision) == ("12.5", 1)
    read(store, settings, hours=2)
    (line,) = ledger.billed_lines(store, DAY, NOW.date())
    assert (line.amount, line.revision) == ("99", 2)
    assert day(store).billed_usd == 99
