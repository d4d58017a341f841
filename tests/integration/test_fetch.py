"""Costs and the eleven Usage endpoints of a local organization, read and kept."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from pydantic import SecretStr

from costspan.errors import Rejected, Unavailable
from costspan_collector.record import Call
from costspan_collector.store import Store
from costspan_reconcile import chain, ledger
from costspan_reconcile.cadence import backfill
from costspan_reconcile.chain import check_chain, keep_pages
from costspan_reconcile.fetch import Fetched, fetch
from costspan_reconcile.openai_costs import Page
from costspan_reconcile.settings import Reconcile

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
TODAY = NOW.date()
DAY = date(2026, 11, 18)
HUGE = 2**53 + 1
"""The first whole number that a float cannot hold."""

ENDPOINTS: dict[str, tuple[str, dict[str, Any], dict[tuple[str, str], int]]] = {
    "completions": (
        "completions",
        {"input_tokens": HUGE, "input_cached_tokens": 1, "num_model_requests": 2},
        {("text", "input"): HUGE - 1, ("text", "cached_input"): 1, ("", "requests"): 2},
    ),
    "decisions": (
        "decisions",
        {"input_tokens": 9, "output_tokens": 4, "output_audio_tokens": 1},
        {("text", "input"): 9, ("text", "output"): 3, ("audio", "output"): 1},
    ),
    "embeddings": (
        "embeddings",
        {"input_tokens": 7, "num_model_requests": 1},
        {("text", "input"): 7, ("", "requests"): 1},
    ),
    "moderations": ("moderations", {"input_tokens": 6.0}, {("text", "input"): 6}),
    "images": (
        "images",
        {"images": 3, "num_model_requests": 1},
        {("", "images"): 3, ("", "requests"): 1},
    ),
    "audio_speeches": ("audio_speeches", {"characters": "900"}, {("", "characters"): 900}),
    "audio_transcriptions": ("audio_transcriptions", {"seconds": 61}, {("", "seconds"): 61}),
    "vector_stores": ("vector_stores", {"usage_bytes": HUGE}, {("", "usage_bytes"): HUGE}),
    "code_interpreter_sessions": (
        "code_interpreter_sessions",
        {"num_sessions": 5},
        {("", "sessions"): 5},
    ),
    "file_search_calls": ("file_searches", {"num_requests": 8}, {("", "requests"): 8}),
    "web_search_calls": (
        "web_searches",
        {"num_requests": 12, "num_model_requests": 10},
        {("", "requests"): 12, ("", "model_requests"): 10},
    ),
}


@dataclass(frozen=True)
class _Count:
    count: int


@pytest.fixture
def settings(provider: Any) -> Reconcile:
    provider.headers = {"retry-after-ms": "1"}
    provider.keys = {"proj_a": [("key_1", "checkout", "aaaa")]}
    return Reconcile(admin_key=SecretStr(provider.ADMIN_KEY), base_url=provider.url)


@pytest.fixture
def read(store: Store, settings: Reconcile) -> Callable[..., Fetched]:
    """Read the last days at NOW, or some hours later."""

    def run(days: int = 3, hours: int = 0) -> Fetched:
        tomorrow = TODAY + timedelta(days=1)
        since = tomorrow - timedelta(days=days)
        return fetch(store, settings, since, tomorrow, NOW + timedelta(hours=hours))

    return run


def groupings(provider: Any, endpoint: str) -> list[list[str]]:
    """Return by what each request to an endpoint groups."""
    return [
        query.get("group_by[]", [])
        for path, query in provider.requests
        if path.endswith(f"/{endpoint}")
    ]


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_every_usage_endpoint_is_kept_to_the_last_unit(
    store: Store, provider: Any, read: Callable[..., Fetched], endpoint: str
) -> None:
    name, measures, counted = ENDPOINTS[endpoint]
    row = {"object": f"organization.usage.{name}.result", "project_id": "proj_a", **measures}
    provider.usage[endpoint] = {DAY: [row]}

    assert read().notes == ()

    rows = ledger.provider_usage(store, DAY, TODAY)
    assert {(row.modality, row.kind): row.quantity for row in rows} == counted
    assert {(row.source, row.project) for row in rows} == {(endpoint, "proj_a")}


def test_usage_knows_its_batch_its_tier_and_where_it_came_from(
    store: Store, provider: Any, read: Callable[..., Fetched]
) -> None:
    for origin, batch in (("agents_api", False), ("unlabeled", True)):
        provider.count(
            DAY, "gpt-4o", input_tokens=5, batch=batch, service_tier="flex", api_source=origin
        )
    read()
    found = {
        (row.api_source, row.batch, row.service_tier): row.quantity
        for row in ledger.provider_usage(store, DAY, TODAY)
    }
    assert found == {("agents_api", False, "flex"): 5, ("unlabeled", True, "flex"): 5}


def test_a_grouping_that_is_refused_is_not_asked_for_again_for_a_week(
    store: Store, provider: Any, read: Callable[..., Fetched]
) -> None:
    def refuse(_path: str, query: dict[str, list[str]]) -> tuple[int, str] | None:
        return (400, "{}") if "api_source" in query.get("group_by[]", []) else None

    provider.answer = refuse
    provider.count(DAY, "gpt-4o", input_tokens=5, api_key_id="key_1")
    for hours in (0, 1, 24 * 7, 24 * 7 + 1):
        assert read(20, hours).failure is None
    finest = ["project_id", "api_key_id", "model", "batch", "service_tier", "api_source"]
    asked = groupings(provider, "completions")
    assert asked == [finest, finest[:5], finest[:5], finest[:5], finest, finest[:5]]
    (row,) = ledger.provider_usage(store, DAY, TODAY)
    assert (row.api_key_id, row.api_source, row.quantity) == ("key_1", "", 5)


def test_days_that_a_refusal_was_not_about_are_asked_for_as_fine_as_before(
    provider: Any, read: Callable[..., Fetched]
) -> None:
    provider.splits_by_key = False
    read(20)
    provider.splits_by_key = True
    read(2)
    assert [len(by) for by in groupings(provider, "costs")] == [3, 2, 0, 3, 0]


def test_a_cursor_that_is_refused_is_a_failure_and_no_other_grouping(
    provider: Any, read: Callable[..., Fetched]
) -> None:
    def refuse(path: str, query: dict[str, list[str]]) -> tuple[int, str] | None:
        return (400, "{}") if path.endswith("costs") and "page" in query else None

    provider.answer = refuse
    assert "does not take these parameters" in str(read(40).failure)
    assert [len(by) for by in groupings(provider, "costs")] == [3, 3]


def test_every_page_is_asked_for_with_the_same_parameters(
    provider: Any, read: Callable[..., Fetched]
) -> None:
    assert read(60).kept.days_read == 60
    pages: dict[str, list[str]] = {}
    for path, query in provider.requests:
        if "start_time" in query:
            query.pop("page", None)
            pages.setdefault(path, []).append(json.dumps(query, sort_keys=True))
    assert {path: len(asked) for path, asked in pages.items()} == {
        f"/v1/organization/{name}": 2 * (1 + (name == "costs"))
        for name in ("costs", *(f"usage/{endpoint}" for endpoint in ENDPOINTS))
    }
    assert all(len(set(asked)) == 1 + path.endswith("costs") for path, asked in pages.items())


def test_a_long_stretch_is_read_in_pieces_and_stops_where_one_fails(
    provider: Any, read: Callable[..., Fetched]
) -> None:
    assert read(100).kept.days_read == 100

    def fail(_path: str, query: dict[str, list[str]]) -> tuple[int, str] | None:
        start = query.get("start_time", ["9999999999"])[0]
        return (503, "{}") if int(start) < NOW.timestamp() - 70 * 86_400 else None

    provider.answer = fail
    again = read(100, hours=1)
    assert again.kept.days_read == 62
    with pytest.raises(Unavailable, match="what was read before is kept"):
        again.check()


def test_days_to_come_are_not_asked_for(store: Store, settings: Reconcile) -> None:
    done = fetch(store, settings, DAY, TODAY + timedelta(days=30), NOW)
    assert done.kept.days_read == 3
    with pytest.raises(Rejected, match="name an earlier one"):
        fetch(store, settings, TODAY + timedelta(days=1), TODAY + timedelta(days=9), NOW)


def test_the_order_of_rows_makes_no_revision_and_no_other_text(
    store: Store, provider: Any, read: Callable[..., Fetched]
) -> None:
    for amount in ("0.1", "3", "0.0001050000000000000000000000000000000", "0E-6176"):
        provider.charge(DAY, "gpt-4o, input", amount, quantity=str(HUGE))
    kept: list[ledger.BilledLine] = []
    rows = provider.bill[DAY]
    for hours, shuffled in enumerate((rows, rows[::-1], [*rows[2:], *rows[:2]])):
        provider.bill[DAY] = shuffled
        read(hours=hours)
        kept += ledger.billed_lines(store, DAY, TODAY)
    assert kept == [kept[0]] * 3
    assert kept[0].amount == "0E-6176 + 0.0001050000000000000000000000000000000 + 0.1 + 3"
    assert kept[0].amount_usd == Decimal("3.100105")
    assert kept[0].quantity == 4 * HUGE


def test_a_backfill_goes_on_where_it_was_and_again_until_nothing_changes(
    store: Store, provider: Any, settings: Reconcile
) -> None:
    first = Call(
        started_at=datetime(2026, 8, 30, tzinfo=UTC),
        trace_id=bytes(15) + b"1",
        span_id=bytes(7) + b"1",
        received_at=NOW,
        ingest_id=1,
    )
    store.insert("calls", [first])

    def months(now: datetime) -> list[str]:
        return [f"{month.since:%Y-%m}" for month in backfill(store, settings, now).due]

    def go_back(now: datetime) -> Fetched:
        month = backfill(store, settings, now).due[0]
        return fetch(store, settings, month.since, month.until, now)

    assert months(NOW) == ["2026-10", "2026-09", "2026-08"]
    assert go_back(NOW).kept.days_read == 16  # the other days of October are read by the clock
    provider.fail(503)
    assert isinstance(go_back(NOW).failure, Unavailable)
    provider.answer = None
    assert months(NOW) == ["2026-08", "2026-09"]  # what failed comes after what was never tried
    for _ in range(2):
        assert go_back(NOW).failure is None
    assert str(backfill(store, settings, NOW)) == "3 of 3 earlier months read, back to 2026-08"
    later = NOW + timedelta(days=1)
    assert months(NOW) == []
    assert months(later) == [
        "2026-10",
        "2026-09",
        "2026-08",
    ]  # nothing says yet that they are final
    for _ in range(3):
        go_back(later)
    assert months(later + timedelta(days=1)) == ["2026-10"]  # it has one more day by then


def changed(store: Store, sql: str) -> None:
    store.command(f"ALTER TABLE billing_fetches {sql} SETTINGS mutations_sync = 2")


@pytest.mark.parametrize(
    ("tamper", "says"),
    [
        (
            "UPDATE body = replace(body, '12.5', '9.5') WHERE sequence = 1",
            "the body of record 1 was",
        ),
        ("UPDATE request_id = 'req_0' WHERE sequence = 3", "record 3 was changed"),
        ("DELETE WHERE sequence = 5", "record 6 does not follow from record 4"),
        ("DELETE WHERE sequence < 3", "record 3 does not follow from record 0"),
        ("DELETE WHERE sequence > 13", "2026-11-20 13:00 UTC is left"),
    ],
)
def test_the_walk_along_the_chain_finds_what_was_changed_or_taken_out(
    store: Store, provider: Any, read: Callable[..., Fetched], tamper: str, says: str
) -> None:
    provider.charge(DAY, "gpt-4o, input", "12.5", quantity=1)
    for hours in range(2):
        read(hours=hours)
    assert check_chain(store) == "26 pages received, none changed or taken out"
    changed(store, tamper)
    with pytest.raises(Rejected, match=says):
        check_chain(store)


def test_of_two_that_write_at_the_same_end_of_the_chain_both_are_in_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = [Page("costs", "{}", number, "", NOW, f"page {number}") for number in range(2)]
    keep_pages(store, uuid4(), pages)
    find_end = chain._end
    stale = [find_end(store)]
    keep_pages(store, uuid4(), pages)

    def found(where: Store) -> Any:
        return stale.pop() if stale else find_end(where)

    monkeypatch.setattr(chain, "_end", found)

    keep_pages(store, uuid4(), pages)

    assert store.select("SELECT count() AS count FROM billing_fetches", _Count) == [_Count(6)]
    assert check_chain(store) == "6 pages received, none changed or taken out"
