"""The simulator itself: what it publishes is the ledger, whatever habit or fault the wire has."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal, localcontext
from typing import Any
from urllib.parse import quote

import httpx2
import openai
import pytest

from costspan_demo.wire import Wire

GPT_41, GPT_55 = "gpt-4.1-2025-04-14", "gpt-5.5-2026-04-23"
BY_LINE = "group_by=project_id,api_key_id,line_item"
COUNTS = {
    "completions": ("completions", "num_model_requests", 3),
    "decisions": ("decisions", "num_model_requests", 1),
    "embeddings": ("embeddings", "input_tokens", 90),
    "moderations": ("moderations", "input_tokens", 70),
    "images": ("images", "images", 4),
    "audio_speeches": ("audio_speeches", "characters", 500),
    "audio_transcriptions": ("audio_transcriptions", "seconds", 61),
    "vector_stores": ("vector_stores", "usage_bytes", 5 * 2**30),
    "code_interpreter_sessions": ("code_interpreter_sessions", "num_sessions", 2),
    "file_search_calls": ("file_searches", "num_requests", 6),
    "web_search_calls": ("web_searches", "num_requests", 9),
}


def get(world: Any, path: str, secret: str | None = None) -> httpx2.Response:
    headers = {"authorization": f"Bearer {secret or world.organization.admin_secret}"}
    return httpx2.get(f"{world.settings.base_url}/organization/{path}", headers=headers)


def costs(world: Any, query: str = BY_LINE) -> Any:
    answer = get(world, f"costs?{span(world)}&limit=31&{query}")
    assert answer.status_code == 200, answer.text
    return json.loads(answer.text, parse_float=Decimal)


def span(world: Any, back: int = 9) -> str:
    since, until = (world.midnight(world.ago(days)) for days in (back, -1))
    return f"start_time={int(since.timestamp())}&end_time={int(until.timestamp())}"


def rows(page: Any) -> list[Any]:
    return [row for bucket in page["data"] for row in bucket["results"]]


def billed(page: Any) -> Decimal:
    with localcontext() as context:
        context.prec = 100
        return sum((Decimal(row["amount"]["value"]) for row in rows(page)), Decimal(0))


@pytest.fixture
def admin(world: Any) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        admin_api_key=world.organization.admin_secret,
        base_url=world.settings.base_url,
        max_retries=0,
    ) as client:
        yield client


@pytest.mark.parametrize(
    ("style", "zero", "amount"),
    [
        ("padded", "0E-6176", "0.3200000000000000000000000000000000"),
        ("text", "0E-6176", "0.32"),
        ("exponent", "0E-6176", "32E-2"),
        ("number", Decimal("0.0"), Decimal("0.32")),
    ],
)
def test_an_amount_comes_in_any_spelling(world: Any, style: Any, zero: Any, amount: Any) -> None:
    world.call("support-desk", GPT_41, world.ago(3), input_tokens=160_000, cached_tokens=0)
    world.wire = replace(world.wire, amounts=style, zero_rows=True)
    values = {row["line_item"]: row["amount"]["value"] for row in rows(costs(world))}
    assert values[f"{GPT_41}, input"] == amount
    assert values[f"{GPT_41}, cached input"] == zero


def test_all_eleven_usage_endpoints_count_what_was_used(world: Any, admin: openai.OpenAI) -> None:
    day = world.ago(3)
    for tier, batch in (("default", False), ("default", True), ("flex", False)):
        model = "gpt-5-mini-2025-08-07" if tier == "flex" else "text-embedding-3-small"
        world.call("support-desk", model, day, tier=tier, batch=batch, endpoint="completions")
    world.call("support-desk", GPT_41, day, endpoint="decisions")
    for endpoint, model, tokens in (
        ("embeddings", "text-embedding-3-small", 90),
        ("moderations", "omni-moderation-latest", 70),
    ):
        world.call(
            "support-desk",
            model,
            day,
            endpoint=endpoint,
            input_tokens=tokens,
            cached_tokens=0,
            output_tokens=0,
        )
    for endpoint, (_, _, units) in COUNTS.items():
        if endpoint not in {"completions", "decisions", "embeddings", "moderations"}:
            world.call("support-desk", GPT_41, day, endpoint=endpoint, units=units)
    world.keep_files(world.project("support-desk"), 5 * 2**30)
    world.ledger.since = world.midnight(day)
    since = int(world.midnight(day).timestamp())

    for endpoint, (name, measure, count) in COUNTS.items():
        ask = getattr(admin.admin.organization.usage, endpoint)
        page = ask(start_time=since, end_time=since + 86_400, group_by=["project_id"])
        (row,) = page.data[0].results
        assert row.object == f"organization.usage.{name}.result"
        assert row.project_id == world.project("support-desk")
        assert getattr(row, measure) == count, endpoint
    split = admin.admin.organization.usage.completions(
        start_time=since, end_time=since + 86_400, group_by=["batch", "service_tier"]
    )
    found = {(row.batch, row.service_tier) for row in split.data[0].results}  # type: ignore[union-attr]
    assert found == {(False, "default"), (True, "default"), (False, "flex")}


def test_what_is_charged_by_the_piece_is_on_the_bill(world: Any) -> None:
    day = world.ago(3)
    for endpoint, units in (("web_search_calls", 3), ("audio_transcriptions", 90)):
        world.call("support-desk", GPT_41, day, endpoint=endpoint, units=units)
    found = {
        row["line_item"]: (Decimal(row["amount"]["value"]), row["quantity_unit"])
        for row in rows(costs(world))
    }
    assert found == {
        "web search tool calls": (Decimal("0.03"), None),
        "whisper": (Decimal("0.009"), "duration_seconds"),
    }


def test_the_bill_lags_behind_the_usage(world: Any, admin: openai.OpenAI) -> None:
    world.wire = Wire(costs_lag=timedelta(hours=30), usage_lag=timedelta(minutes=40))
    late, later = (world.now - timedelta(hours=1), world.now - timedelta(minutes=30))
    for at in (late, later):
        world.call("support-desk", GPT_41, world.today, at=at)
    assert rows(costs(world)) == []
    usage = admin.admin.organization.usage.completions(
        start_time=int(world.midnight(world.today).timestamp())
    )
    (row,) = usage.data[-1].results
    assert row.num_model_requests == 1  # type: ignore[union-attr]
    world.now += timedelta(hours=30)
    assert {row["line_item"] for row in rows(costs(world))} >= {f"{GPT_41}, input"}


def test_a_restatement_shows_from_its_moment_on(world: Any) -> None:
    day = world.ago(3)
    usd = world.usd([world.call("support-desk", GPT_41, day, cached_tokens=0)])
    world.charge(
        f"{GPT_41}, input",
        day,
        "-0.01",
        project=world.project("support-desk"),
        key=world.key("support-desk").id,
        since=world.now + timedelta(hours=1),
    )
    assert billed(costs(world)) == usd
    before = len(rows(costs(world)))
    world.now += timedelta(hours=1)
    assert billed(costs(world)) == usd - Decimal("0.01")
    assert len(rows(costs(world))) == before


def test_a_model_has_other_names_on_the_bill(world: Any) -> None:
    world.wire = Wire(billed_names={"gpt-image-2": "gpt-image-2-2026-04-21"}, zero_rows=False)
    for model, fields in (
        ("ft:gpt-4o-2024-08-06:acme:x:1", {"cached_tokens": 0}),
        ("gpt-image-2", {"image_output_tokens": 2_000, "output_tokens": 2_000, "cached_tokens": 0}),
        ("gpt-5.5-2026-04-23", {"input_tokens": 300_000, "cached_tokens": 0}),
        (GPT_41, {"tier": "priority", "cached_tokens": 0}),
    ):
        world.call("support-desk", model, world.ago(3), **fields)
    assert {row["line_item"] for row in rows(costs(world))} == {
        "ft-gpt-4o-2024-08-06, input",
        "ft-gpt-4o-2024-08-06, output",
        "gpt-image-2-2026-04-21 text, input",
        "gpt-image-2-2026-04-21 image, output",
        "gpt-5.5-2026-04-23, input, long context",
        "gpt-5.5-2026-04-23, output, long context",
        f"priority | {GPT_41}, input",
        f"priority | {GPT_41}, output",
    }


def test_the_order_of_rows_is_the_wires_own(world: Any) -> None:
    world.traffic(world.ago(3))
    pages: list[Any] = []
    for seed in (1, 2):
        world.wire = replace(world.wire, shuffled=seed)
        pages.append(rows(costs(world)))
    assert pages[0] != pages[1]
    assert sorted(map(repr, pages[0])) == sorted(map(repr, pages[1]))


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, openai.AuthenticationError),
        (403, openai.PermissionDeniedError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
    ],
)
def test_requests_are_refused_as_often_as_told(
    world: Any, admin: openai.OpenAI, status: int, error: type[openai.APIStatusError]
) -> None:
    world.wire = replace(world.wire, refusal=status, refused_requests=2)
    since = int(world.midnight(world.ago(3)).timestamp())
    for _ in range(2):
        with pytest.raises(error) as refused:
            admin.admin.organization.usage.costs(start_time=since)
        assert ("retry-after" in refused.value.response.headers) == (status == 429)
    assert admin.admin.organization.usage.costs(start_time=since).has_more is False


def test_a_grouping_that_the_organization_may_not_have_is_400(world: Any) -> None:
    world.wire = replace(world.wire, splits_by_key=False, splits_by_user=True)
    assert get(world, f"costs?{span(world)}&group_by=api_key_id").status_code == 400
    assert get(world, f"costs?{span(world)}&group_by=user_id,project_id").status_code == 200


def test_pages_may_be_lost_and_cursors_may_lead_nowhere(world: Any) -> None:
    def days(page: Any) -> list[int]:
        return [bucket["start_time"] for bucket in page["data"]]

    query = f"{span(world, 29)}&limit=10"

    def pages() -> list[Any]:
        found, cursor = [get(world, f"costs?{query}").json()], ""
        while found[-1]["has_more"] and found[-1]["next_page"] not in {None, cursor}:
            cursor = found[-1]["next_page"]
            found.append(get(world, f"costs?{query}&page={quote(cursor)}").json())
        return found

    assert [len(days(page)) for page in pages()] == [10, 10, 10]
    whole = [day for page in pages() for day in days(page)]
    world.wire = replace(Wire(), lost_page=2)
    assert [day for page in pages() for day in days(page)] == whole[:10] + whole[20:]
    world.wire = replace(Wire(), cursor="repeats")
    assert days(pages()[1]) == days(pages()[0])
    world.wire = replace(Wire(), cursor="missing")
    assert (pages()[0]["has_more"], pages()[0]["next_page"]) == (True, None)
    world.wire = replace(Wire(), missing_day=world.ago(25))
    assert sum(len(days(page)) for page in pages()) == 29


def test_a_row_may_be_foreign_and_a_bill_empty(world: Any) -> None:
    day, other = world.ago(3), world.ago(2)
    world.traffic(day, other)
    world.wire = Wire(currency="eur", foreign_day=day, organization_id="org-other")
    page = costs(world)
    assert [row["amount"]["currency"] for row in rows(page)].count("eur") == 1
    assert {row["organization_id"] for row in rows(page)} == {"org-other"}
    world.wire = Wire(extra_fields=False)
    assert not any("organization_id" in row for row in rows(costs(world)))
    assert "start_time_iso" not in costs(world)["data"][0]
    world.wire = Wire(empty=True)
    assert rows(costs(world)) == []
    usage = get(world, f"usage/completions?{span(world)}&limit=31").json()
    assert rows(usage) == []
