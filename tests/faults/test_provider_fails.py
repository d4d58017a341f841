"""OpenAI's billing endpoints answer wrongly, late or not at all: nothing wrong is ever kept."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from pydantic import SecretStr

from costspan.errors import Rejected, Unavailable
from costspan_collector.store import Store
from costspan_reconcile import ledger, queries
from costspan_reconcile.schedule import Summary, reconcile_now
from costspan_reconcile.settings import Reconcile

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
DAY = date(2026, 11, 18)
ITEM = "gpt-4o, input"


@dataclass(frozen=True)
class _Reason:
    reason: str


Query = dict[str, list[str]]
Answer = Callable[[str, Query], tuple[int, str] | None]


@pytest.fixture
def settings(provider: Any) -> Reconcile:
    provider.headers = {"retry-after-ms": "1"}  # the SDK's own retries, without the wait
    provider.charge(DAY, ITEM, "12.5", quantity=5_000_000)
    return Reconcile(
        admin_key=SecretStr(provider.ADMIN_KEY), base_url=provider.url, lookback_days=7
    )


def read(store: Store, settings: Reconcile, hours: int = 0) -> Summary:
    return reconcile_now(store, settings, NOW + timedelta(hours=hours))


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
    read(store, settings)
    provider.answer = changed(provider, change)

    summary = read(store, settings, hours=1)

    assert isinstance(summary.fetched.failure, Rejected)
    assert reason in str(summary.fetched.failure)
    row = day(store)
    assert (row.verdict, row.billed_usd, row.read_at) == ("BLOCKED", Decimal("12.5"), NOW)
    assert reason in row.reason
    assert "the bill of 2026-11-20 12:00 UTC is kept" in row.reason
    provider.answer = None
    read(store, settings, hours=2)
    assert (day(store).verdict, day(store).reason) == ("REVIEW", "")


def test_a_bill_that_never_came_is_unknown_and_not_zero(
    store: Store, provider: Any, settings: Reconcile
) -> None:
    provider.fail(500)
    summary = read(store, settings)
    assert isinstance(summary.fetched.failure, Unavailable)
    row = day(store)
    assert (row.verdict, row.billed_usd) == ("BLOCKED", None)
    assert "HTTP 500; there is no earlier bill" in row.reason


def test_a_day_in_another_currency_is_blocked_and_the_others_are_not(
    store: Store, provider: Any, settings: Reconcile
) -> None:
    provider.charge(DAY, ITEM, "1", currency="EUR")
    provider.charge(date(2026, 11, 17), ITEM, "3", quantity=1)

    summary = read(store, settings)

    assert summary.fetched.kept.blocked == (
        f"{DAY}: a row is in 'eur', and only 'usd' can be compared",
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

    summary = read(store, settings)

    (reason,) = summary.fetched.kept.blocked
    assert reason == f"{DAY}: the rows add up to 12.5 USD, the day asked for as a whole to 14.75"
    assert ledger.billed_lines(store, DAY, NOW.date()) == []


def test_the_open_day_may_grow_between_two_requests(
    store: Store, provider: Any, settings: Reconcile
) -> None:
    def grow(path: str, _query: Query) -> None:
        if path.endswith("costs"):
            provider.charge(NOW.date(), ITEM, "1", quantity=1)

    provider.answer = grow
    assert read(store, settings).fetched.kept.blocked == ()


@pytest.mark.parametrize(
    ("status", "kind", "says"),
    [
        (401, Rejected, "does not accept the admin key (HTTP 401)"),
        (403, Rejected, "give it read permission"),
        (404, Rejected, "HTTP 404"),
        (429, Unavailable, "HTTP 429"),
        (503, Unavailable, "HTTP 503"),
    ],
)
def test_a_refusal_is_one_clear_line_without_the_key(
    store: Store, provider: Any, settings: Reconcile, status: int, kind: type, says: str
) -> None:
    body = json.dumps({"error": {"message": f"Incorrect API key: {provider.ADMIN_KEY}"}})
    provider.fail(status, body)
    failure = read(store, settings).fetched.failure
    assert isinstance(failure, kind)
    assert says in str(failure)
    assert provider.ADMIN_KEY not in str(failure)
    assert "\n" not in str(failure)
    kept = store.select("SELECT reason FROM billing_days", _Reason)
    assert kept
    assert not any(provider.ADMIN_KEY in row.reason for row in kept)


def test_a_server_that_is_not_there_is_tried_again_later(store: Store, provider: Any) -> None:
    gone = Reconcile(
        admin_key=SecretStr(provider.ADMIN_KEY),
        base_url="http://127.0.0.1:9/v1",
        lookback_days=2,
        timeout_seconds=2,
    )
    failure = read(store, gone).fetched.failure
    assert isinstance(failure, Unavailable)
    assert "127.0.0.1 does not answer" in str(failure)


@pytest.mark.parametrize("body", ["<html>", "[]", "", '{"data": {}}', '{"data": [NaN]}'])
def test_what_is_no_page_is_refused(
    store: Store, provider: Any, settings: Reconcile, body: str
) -> None:
    provider.fail(200, body, only="costs")
    assert isinstance(read(store, settings).fetched.failure, Rejected)


def test_the_bill_is_worth_having_without_the_usage_and_the_names(
    store: Store, provider: Any, settings: Reconcile
) -> None:
    provider.fail(403, but="costs")
    summary = read(store, settings)
    assert summary.fetched.failure is None
    assert [note.partition(":")[0] for note in summary.fetched.notes] == [
        "no usage",
        "no usage",
        "no names of keys",
    ]
    assert day(store).billed_usd == Decimal("12.5")


@pytest.mark.parametrize("count", [-1, "7", 1.5, True])
def test_a_count_that_is_no_count_spoils_the_usage_alone(
    store: Store, provider: Any, settings: Reconcile, count: object
) -> None:
    provider.count(DAY, "gpt-4o", input_tokens=count)
    summary = read(store, settings)
    assert summary.fetched.failure is None
    (note,) = summary.fetched.notes
    assert note.startswith("no usage: input_tokens is")


def test_a_list_of_projects_that_is_no_list_costs_only_the_names(
    store: Store, provider: Any, settings: Reconcile
) -> None:
    provider.fail(200, '"nothing"', only="projects")
    summary = read(store, settings)
    assert summary.fetched.failure is None
    (note,) = summary.fetched.notes
    assert note == "no names of keys: projects: the list is not what the SDK expects"


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
            read(store, settings, hours=1)
    (line,) = ledger.billed_lines(store, DAY, NOW.date())
    assert (line.amount, line.revision) == ("12.5", 1)
    read(store, settings, hours=2)
    (line,) = ledger.billed_lines(store, DAY, NOW.date())
    assert (line.amount, line.revision) == ("99", 2)
    assert day(store).billed_usd == 99
