"""The demo's OpenAI, spoken to by the real SDK and by plain HTTP."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from typing import Any
from urllib.parse import quote

import httpx2
import openai
import pytest
import uvicorn

from costspan.pricing import price
from costspan.usage import read_usage
from costspan_demo.bill import charges
from costspan_demo.ledger import Ledger
from costspan_demo.local_openai import billed_history, create_app
from costspan_demo.organization import organization
from costspan_demo.wire import Wire

NOW = datetime(2026, 11, 18, 14, 37, tzinfo=UTC)
TODAY = int(datetime(2026, 11, 18, tzinfo=UTC).timestamp())
DAY = 86_400
SEED, DAYS = 7, 10
WHO = organization(SEED)
POLICY = "Be brief. " * 500


class Service:
    """A running local OpenAI whose clock stands still."""

    def __init__(self) -> None:
        self.ledger: Ledger = billed_history(seed=SEED, now=NOW, days=DAYS)
        app = create_app(self.ledger, seed=SEED, now=lambda: NOW)
        self._server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()
        while not self._server.started:
            self._thread.join(0.01)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/v1"

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()

    def client(self, key: str = "support-desk", *, max_retries: int = 2) -> openai.OpenAI:
        secret = WHO.key(key).secret
        return openai.OpenAI(api_key=secret, base_url=self.url, max_retries=max_retries)

    def get(self, path: str, secret: str = WHO.admin_secret) -> tuple[int, Any]:
        headers = {"authorization": f"Bearer {secret}"}
        answer = httpx2.get(f"{self.url}{path}", headers=headers)
        return answer.status_code, answer.json()

    def costs(self, query: str) -> Any:
        status, page = self.get(f"/organization/costs?{query}")
        assert status == 200, page
        return page


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    running = Service()
    yield running
    running.stop()


def _last(service: Service) -> Any:
    return service.ledger.entries[-1]


def test_a_chat_is_charged_for_the_usage_it_reports(service: Service) -> None:
    with service.client() as client:
        answer = client.chat.completions.create(
            model="gpt-4.1", messages=[{"role": "user", "content": "Hello there"}]
        )
    usage = read_usage(answer.model_dump())
    assert usage is not None
    assert answer.model == "gpt-4.1-2025-04-14"
    assert price(usage, model=answer.model, at=NOW).usd == _last(service).usd
    assert _last(service).key == WHO.key("support-desk")


def test_a_long_prompt_seen_before_is_cached(service: Service) -> None:
    with service.client("shop-backend") as client:
        used = [
            client.chat.completions.create(
                model="gpt-4o-mini",
                messages=[
                    {"role": "system", "content": POLICY},
                    {"role": "user", "content": f"Order {number}"},
                ],
            ).usage
            for number in range(2)
        ]
    details = [each.prompt_tokens_details for each in used if each]
    # 5000 characters are 1254 tokens, of which whole steps of 128 are cached: 1152.
    assert [each.cached_tokens for each in details if each] == [0, 1152]


@pytest.mark.parametrize("asked", [True, False, None])
def test_a_chat_stream_tells_usage_in_a_last_chunk_only_when_asked(
    service: Service, *, asked: bool | None
) -> None:
    more: dict[str, Any] = {} if asked is None else {"stream_options": {"include_usage": asked}}
    with service.client() as client:
        stream = client.chat.completions.create(
            model="gpt-4.1",
            messages=[{"role": "user", "content": "Hello"}],
            stream=True,
            **more,
        )
        chunks = list(stream)
    told = [chunk for chunk in chunks if chunk.usage]
    assert len(told) == (1 if asked else 0)
    assert all("usage" in chunk.model_fields_set for chunk in chunks) is bool(asked)
    if asked:
        assert chunks[-1].choices == []
        assert told[0].usage is not None
        request_id = stream.response.headers["x-request-id"]
        for _ in range(100):  # a stream is charged once it is over, which its reader may see first
            if service.ledger.entries and _last(service).request_id == request_id:
                break
            threading.Event().wait(0.05)
        assert _last(service).request_id == request_id
        assert told[0].usage.completion_tokens == _last(service).output_tokens
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"


def test_a_stream_that_is_cut_off_is_charged_for_what_was_written(service: Service) -> None:
    before = len(service.ledger.entries)
    with service.client(max_retries=0) as client:
        stream = client.chat.completions.create(
            model="gpt-4.1",
            messages=[{"role": "user", "content": "Tell me all about it"}],
            stream=True,
        )
        for _ in zip(range(4), stream, strict=False):
            pass
        stream.close()
    with service.client() as client:  # the entry is there once the next answer is
        client.embeddings.create(model="text-embedding-3-small", input="x")
    cut = service.ledger.entries[before]
    assert 3 <= cut.output_tokens < 20


def test_a_responses_stream_has_openais_events_in_order(service: Service) -> None:
    with service.client("agent-runner") as client:
        events = list(client.responses.create(model="gpt-5.5", input="Plan the week", stream=True))
    kinds = [event.type for event in events]
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert set(kinds[4:-4]) == {"response.output_text.delta"}
    assert [event.sequence_number for event in events] == list(range(len(events)))
    last = events[-1]
    assert last.type == "response.completed"
    assert last.response.usage is not None
    assert last.response.usage.output_tokens_details.reasoning_tokens == 64
    assert last.response.usage.output_tokens == _last(service).output_tokens


def test_the_sdks_stream_helper_reads_the_events(service: Service) -> None:
    with (
        service.client() as client,
        client.responses.stream(model="gpt-4o-mini", input="Sort this ticket") as stream,
    ):
        final = stream.get_final_response()
    assert final.output_text
    assert final.usage is not None
    assert final.usage.input_tokens == _last(service).input_tokens


def test_embeddings_come_as_numbers(service: Service) -> None:
    with service.client() as client:
        answer = client.embeddings.create(model="text-embedding-3-small", input=["a", "b"])
    assert [len(each.embedding) for each in answer.data] == [1536, 1536]
    assert answer.usage.prompt_tokens == _last(service).input_tokens


def test_headers_name_request_organization_and_project(service: Service) -> None:
    with service.client() as client:
        headers = client.embeddings.with_raw_response.create(
            model="text-embedding-3-small", input="a"
        ).headers
    assert headers["x-request-id"] == _last(service).request_id
    assert headers["openai-project"] == WHO.key("support-desk").project
    assert headers["openai-organization"] == WHO.slug
    assert int(headers["x-ratelimit-remaining-tokens"]) > 0


def test_an_unknown_key_is_refused_without_showing_it(service: Service) -> None:
    secret = "sk-proj-someone-elses-key-9z9z"
    with (
        openai.OpenAI(api_key=secret, base_url=service.url) as client,
        pytest.raises(openai.AuthenticationError) as refused,
    ):
        client.embeddings.create(model="text-embedding-3-small", input="a")
    assert refused.value.code == "invalid_api_key"
    assert secret not in str(refused.value)


def test_an_unknown_model_is_not_found(service: Service) -> None:
    with service.client() as client, pytest.raises(openai.NotFoundError) as refused:
        client.responses.create(model="gpt-99", input="a")
    assert refused.value.code == "model_not_found"


def test_a_body_that_is_no_request_is_refused(service: Service) -> None:
    with service.client() as client, pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="gpt-4.1", messages=7)  # pyright: ignore


def test_planted_errors_are_the_same_in_every_run_and_are_not_charged(service: Service) -> None:
    before = len(service.ledger.entries)
    seen: list[int] = []
    for _ in range(2):
        with service.client(max_retries=0) as client:
            for number in range(60):
                try:
                    client.embeddings.create(
                        model="text-embedding-3-small", input=f"question {number}"
                    )
                    seen.append(200)
                except openai.APIStatusError as error:
                    seen.append(error.status_code)
                    if error.status_code == 429:
                        assert error.response.headers["retry-after"] == "1"
                        assert error.code == "rate_limit_exceeded"
    assert seen[:60] == seen[60:]
    assert {429, 500} <= set(seen)
    refused = [each for each in service.ledger.entries[before:] if each.status != 200]
    assert len(refused) == sum(status != 200 for status in seen)
    assert {each.usd for each in refused} == {Decimal(0)}


# Costs.


def test_costs_have_seven_buckets_unless_told_otherwise(service: Service) -> None:
    page = service.costs(f"start_time={TODAY - 9 * DAY}&end_time={TODAY + DAY}")
    assert len(page["data"]) == 7
    assert page["has_more"] is True
    cursor = quote(page["next_page"])
    rest = service.costs(f"start_time={TODAY - 9 * DAY}&end_time={TODAY + DAY}&page={cursor}")
    assert [len(rest["data"]), rest["has_more"], rest["next_page"]] == [3, False, None]
    starts = [bucket["start_time"] for bucket in page["data"] + rest["data"]]
    assert starts == [TODAY - (9 - number) * DAY for number in range(10)]


def test_a_cursor_serves_only_its_own_query(service: Service) -> None:
    query = f"start_time={TODAY - 9 * DAY}&end_time={TODAY}"
    cursor = quote(service.costs(query)["next_page"])
    status, body = service.get(f"/organization/costs?{query}&group_by=line_item&page={cursor}")
    assert (status, body["error"]["param"]) == (400, "page")
    status, _ = service.get(f"/organization/costs?{query}&page=nonsense")
    assert status == 400


@pytest.mark.parametrize(
    "spelling",
    [
        "group_by[]=line_item&group_by[]=api_key_id",
        "group_by=line_item&group_by=api_key_id",
        "group_by=line_item,api_key_id",
    ],
)
def test_group_by_is_read_in_three_spellings(service: Service, spelling: str) -> None:
    page = service.costs(f"start_time={TODAY - DAY}&end_time={TODAY}&{spelling}")
    rows = page["data"][0]["results"]
    assert len({(row["line_item"], row["api_key_id"]) for row in rows}) == len(rows) > 10
    assert {row["project_id"] for row in rows} == {None}


def test_every_grouping_sums_to_the_same_amount(service: Service) -> None:
    totals: set[Decimal] = set()
    for grouping in ("", "project_id", "line_item", "project_id,line_item,api_key_id"):
        page = service.costs(
            f"start_time={TODAY - 10 * DAY}&end_time={TODAY + DAY}&limit=31&group_by={grouping}"
        )
        totals.add(_total(page))
    assert totals == {_sum(each.usd for each in charges(service.ledger, Wire(), NOW))}


def test_amounts_are_texts_of_34_digits_and_zero_is_decimal128s(service: Service) -> None:
    page = service.costs(
        f"start_time={TODAY - 9 * DAY}&end_time={TODAY}&limit=31&group_by=line_item,api_key_id"
    )
    values = [row["amount"]["value"] for bucket in page["data"] for row in bucket["results"]]
    assert all(isinstance(value, str) for value in values)
    assert "0E-6176" in values
    digits = {len(Decimal(value).as_tuple().digits) for value in values if value != "0E-6176"}
    assert digits == {34}


def test_storage_is_a_line_without_key_and_quantity(service: Service) -> None:
    page = service.costs(
        f"start_time={TODAY - DAY}&end_time={TODAY}&group_by=project_id,line_item,api_key_id"
    )
    rows = [row for row in page["data"][0]["results"] if row["line_item"] == "Vector storage"]
    assert len(rows) == 1
    assert rows[0]["api_key_id"] is rows[0]["quantity"] is rows[0]["quantity_unit"] is None
    assert Decimal(rows[0]["amount"]["value"]) > 0


def test_a_line_item_can_be_asked_for_by_its_whole_name(service: Service) -> None:
    item = "gpt-4.1-2025-04-14, output"
    page = service.costs(
        f"start_time={TODAY - DAY}&end_time={TODAY}&group_by=line_item&line_items={quote(item)}"
    )
    assert [row["line_item"] for row in page["data"][0]["results"]] == [item]


def test_days_before_the_organization_are_empty_buckets(service: Service) -> None:
    page = service.costs(f"start_time={TODAY - 40 * DAY}&end_time={TODAY - 38 * DAY}")
    assert [bucket["results"] for bucket in page["data"]] == [[], []]


@pytest.mark.parametrize(
    "query",
    [
        "",
        "start_time=now",
        f"start_time={TODAY}&end_time={TODAY + 3600}",
        f"start_time={TODAY}&end_time={TODAY - DAY}",
        f"start_time={TODAY - DAY}&limit=181",
        f"start_time={TODAY - DAY}&limit=0",
        f"start_time={TODAY - DAY}&bucket_width=1h",
        f"start_time={TODAY - DAY}&group_by=model",
        f"start_time={TODAY - DAY}&group_by=user_id,project_id",
    ],
)
def test_a_query_that_cannot_be_answered_is_400(service: Service, query: str) -> None:
    status, body = service.get(f"/organization/costs?{query}")
    assert status == 400
    assert body["error"]["message"]


def test_only_the_admin_key_reads_the_bill(service: Service) -> None:
    path = f"/organization/costs?start_time={TODAY - DAY}"
    assert service.get(path, "sk-admin-wrong")[0] == 401
    status, body = service.get(path, WHO.key("support-desk").secret)
    assert status == 403
    assert "api.usage.read" in body["error"]["message"]
    assert service.get("/organization/nothing")[0] == 404
    assert service.get("/organization/usage/nothing?start_time=1")[0] == 404


# Usage, projects, keys: through the SDK.


@pytest.fixture
def admin(service: Service) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(admin_api_key=WHO.admin_secret, base_url=service.url) as client:
        yield client


def test_usage_quantities_equal_the_bills(service: Service, admin: openai.OpenAI) -> None:
    since, until = TODAY - 5 * DAY, TODAY
    usage = admin.admin.organization.usage.completions(
        start_time=since, end_time=until, group_by=["api_key_id", "model"], limit=31
    )
    used: dict[tuple[int, str, str], int] = {}
    for bucket in usage.data:
        for row in bucket.results:
            assert row.object == "organization.usage.completions.result"
            key = bucket.start_time, str(row.api_key_id), str(row.model)
            used[key] = row.input_tokens - (row.input_cached_tokens or 0)
    page = service.costs(f"start_time={since}&end_time={until}&group_by=api_key_id,line_item")
    billed = {
        (bucket["start_time"], row["api_key_id"], row["line_item"].removesuffix(", input")): int(
            row["quantity"]
        )
        for bucket in page["data"]
        for row in bucket["results"]
        if row["line_item"].endswith(", input") and "embedding" not in row["line_item"]
    }
    assert used == billed
    assert len(used) > 20


def test_usage_clips_its_first_and_last_bucket(admin: openai.OpenAI) -> None:
    start = TODAY + 3 * 3600 + 17
    usage = admin.admin.organization.usage.embeddings(start_time=start, bucket_width="1h", limit=24)
    assert usage.data[0].start_time == start
    assert usage.data[0].end_time == TODAY + 4 * 3600
    assert usage.data[-1].end_time == int(NOW.timestamp()) + 1


def test_vector_stores_and_unused_services_answer(admin: openai.OpenAI) -> None:
    usage = admin.admin.organization.usage
    stored = usage.vector_stores(start_time=TODAY - DAY, end_time=TODAY).data[0].results
    assert [row.object for row in stored] == ["organization.usage.vector_stores.result"]
    assert usage.images(start_time=TODAY - DAY, end_time=TODAY).data[0].results == []


def test_projects_list_their_keys_by_their_last_four(admin: openai.OpenAI) -> None:
    keys = {
        (project.name, key.name, key.redacted_value[-4:])
        for project in admin.admin.organization.projects.list(limit=1)
        for key in admin.admin.organization.projects.api_keys.list(project.id, limit=1)
    }
    assert keys == {(key.project_name, key.name, key.hint) for key in WHO.keys}


# The process.


def test_the_process_tells_its_url_and_ends_with_its_input() -> None:
    now = datetime.now(UTC) - timedelta(minutes=1)
    command = [sys.executable, "-m", "costspan_demo.local_openai", "--now", now.isoformat()]
    with subprocess.Popen(
        [*command, "--days", "1", "--seed", "7"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        url = json.loads(process.stdout.readline())["url"]
        truth = httpx2.get(f"{url}/_demo/ledger").json()
        process.stdin.close()
        assert process.wait(20) == 0
    assert {key["name"] for key in truth["keys"]} == {key.name for key in WHO.keys}
    assert _sum(Decimal(line["usd"]) for line in truth["lines"] if line["key_id"]) == _sum(
        Decimal(key["usd"]) for key in truth["keys"]
    )


def _total(page: Any) -> Decimal:
    return _sum(
        Decimal(row["amount"]["value"]) for bucket in page["data"] for row in bucket["results"]
    )


def _sum(amounts: Any) -> Decimal:
    with localcontext() as context:
        context.prec = 80
        return sum(amounts, Decimal(0))
