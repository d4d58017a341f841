"""What a call's span says."""

import gzip
import hashlib
import json
import socket
import subprocess
import sys
import time
from decimal import Decimal
from typing import Any

import httpx2
import openai
import pytest
from opentelemetry.instrumentation.utils import suppress_instrumentation

from costspan import semconv

KEY = "sk-proj-0123456789abcdefWXYZ"
HEADERS = {
    "x-request-id": "req_1",
    "openai-organization": "acme",
    "openai-project": "proj_1",
    "x-ratelimit-remaining-requests": "4999",
    "x-ratelimit-remaining-tokens": "99999999999999999999999",
}


def client(answer: dict[str, Any], **options: Any) -> openai.OpenAI:
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, json=answer, headers=HEADERS))
    given: dict[str, Any] = {"api_key": KEY} | options
    return openai.OpenAI(**given, http_client=httpx2.Client(transport=transport))


def chat(**fields: Any) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [{"index": 0, "message": {"content": "x"}, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": 1117,
            "completion_tokens": 211,
            "prompt_tokens_details": {"cached_tokens": 1023},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
        **fields,
    }


def ask(made: Any, **more: Any) -> Any:
    return made.chat.completions.create(model="gpt-4o-mini", messages=[], **more)


def test_a_call_has_its_names_tokens_cost_and_origin(capture: Any) -> None:
    captured = capture()
    ask(client(chat(service_tier="default", system_fingerprint="fp_1")), service_tier="auto")
    (span,) = captured.calls
    assert span.name == "chat gpt-4o-mini"
    assert span.kind.name == "CLIENT"
    attributes = captured.call
    book = attributes.pop(semconv.PRICE_BOOK)
    assert len(book) == 16
    assert attributes == {
        semconv.OPERATION: "chat",
        semconv.PROVIDER: "openai",
        semconv.API_TYPE: "chat_completions",
        semconv.REQUEST_MODEL: "gpt-4o-mini",
        semconv.REQUEST_TIER: "auto",
        semconv.RESPONSE_MODEL: "gpt-4o-mini-2024-07-18",
        semconv.RESPONSE_ID: "chatcmpl-1",
        semconv.RESPONSE_TIER: "default",
        semconv.SYSTEM_FINGERPRINT: "fp_1",
        semconv.FINISH_REASONS: ("stop",),
        semconv.SERVER_ADDRESS: "api.openai.com",
        semconv.SERVER_PORT: 443,
        semconv.INPUT_TOKENS: 1117,
        semconv.OUTPUT_TOKENS: 211,
        semconv.CACHED_TOKENS: 1023,
        semconv.REASONING_TOKENS: 0,
        semconv.PRICE_STATUS: "priced",
        semconv.PRICE_PATH: "gpt-4o-mini/standard/short",
        semconv.COST_USD: "0.000217425",
        semconv.COST_PART + "input": 14_100_000,
        semconv.COST_PART + "cached_input": 76_725_000,
        semconv.COST_PART + "output": 126_600_000,
        semconv.REQUEST_ID: "req_1",
        semconv.ORGANIZATION: "acme",
        semconv.PROJECT: "proj_1",
        semconv.RATE_LIMIT_REMAINING_REQUESTS: 4999,
        semconv.KEY_FINGERPRINT: hashlib.sha256(KEY.encode()).hexdigest()[:16],
        semconv.KEY_HINT: "WXYZ",
    }


def test_the_parts_of_a_cost_sum_to_it(capture: Any) -> None:
    captured = capture()
    ask(client(chat()))
    call = captured.call
    parts = sum(value for name, value in call.items() if name.startswith(semconv.COST_PART))
    assert Decimal(call[semconv.COST_USD]) == Decimal(parts).scaleb(-12)


def test_the_tier_that_served_is_priced_not_the_one_asked_for(capture: Any) -> None:
    captured = capture()
    ask(client(chat(service_tier="priority")), service_tier="flex")
    assert captured.call[semconv.PRICE_PATH].startswith("gpt-4o-mini/priority")


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"usage": None}, "missing_usage"),
        ({"model": "gpt-99"}, "unknown_model"),
        ({"service_tier": "turbo"}, "unknown_tier"),
        ({"service_tier": "scale"}, "prepaid_tier"),
        ({"usage": {"prompt_tokens": -1, "completion_tokens": 1}}, "invalid_usage"),
    ],
)
def test_what_cannot_be_priced_has_no_cost_and_says_why(
    fields: dict[str, Any], status: str, capture: Any
) -> None:
    captured = capture()
    ask(client(chat(**fields)))
    assert captured.call[semconv.PRICE_STATUS] == status
    assert semconv.COST_USD not in captured.call


def test_an_embedding_reports_no_output_tokens(capture: Any) -> None:
    captured = capture()
    answer: dict[str, Any] = {
        "object": "list",
        "model": "text-embedding-3-small",
        "data": [],
        "usage": {"prompt_tokens": 8, "total_tokens": 8},
    }
    client(answer).embeddings.create(
        model="text-embedding-3-small", input="x", encoding_format="float"
    )
    call = captured.call
    assert call[semconv.OPERATION] == "embeddings"
    assert call[semconv.INPUT_TOKENS] == 8
    assert semconv.OUTPUT_TOKENS not in call
    assert call[semconv.PRICE_STATUS] == "priced"


RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "model": "gpt-4o-mini-2024-07-18",
    "status": "completed",
    "output": [],
    "service_tier": "default",
    "usage": {
        "input_tokens": 20,
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 2},
    },
}


def test_a_streamed_response_has_its_tokens_first_chunk_and_pace(capture: Any) -> None:
    captured = capture()
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": {**RESPONSE, "usage": None}},
        {"type": "response.output_text.delta", "delta": "a", "item_id": "m"},
        {"type": "response.completed", "response": RESPONSE},
    ]
    body = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
    transport = httpx2.MockTransport(
        lambda _: httpx2.Response(200, text=body, headers={"content-type": "text/event-stream"})
    )
    made = openai.OpenAI(api_key=KEY, http_client=httpx2.Client(transport=transport))
    kinds = [
        event.type for event in made.responses.create(model="gpt-4o-mini", input="x", stream=True)
    ]
    assert kinds == [event["type"] for event in events]
    call = captured.call
    assert call[semconv.API_TYPE] == "responses"
    assert call[semconv.RESPONSE_ID] == "resp_1"
    assert call[semconv.REASONING_TOKENS] == 2
    assert call[semconv.FINISH_REASONS] == ("completed",)
    assert call[semconv.STREAM_CHUNKS] == 3
    assert 0 < call[semconv.TIME_TO_FIRST_CHUNK] < 5
    assert 0 < call[semconv.TIME_PER_CHUNK] < 5


def test_a_response_that_failed_is_an_error_with_openai_s_code(capture: Any) -> None:
    captured = capture()
    failed = {"status": "failed", "error": {"code": "server_error", "message": "no"}}
    client(RESPONSE | failed).responses.create(model="gpt-4o-mini", input="x")
    assert captured.call[semconv.ERROR_CODE] == "server_error"
    assert captured.calls[0].status.status_code.name == "ERROR"


def test_reading_a_response_again_counts_no_tokens(capture: Any) -> None:
    captured = capture()
    client(RESPONSE).responses.retrieve("resp_1")
    assert captured.call[semconv.OPERATION] == "responses.get"
    assert semconv.INPUT_TOKENS not in captured.call
    assert captured.call[semconv.PRICE_STATUS] == "not_billed"


def test_an_azure_client_is_named_so_and_its_token_is_no_key(capture: Any) -> None:
    captured = capture()
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, json=chat()))
    azure = openai.AzureOpenAI(
        azure_endpoint="https://mine.openai.azure.com",
        api_version="2024-06-01",
        azure_ad_token="a-token-that-changes-every-hour",
        http_client=httpx2.Client(transport=transport),
    )
    azure.chat.completions.create(model="my-deployment", messages=[])
    call = captured.call
    assert call[semconv.PROVIDER] == "azure.ai.openai"
    assert call[semconv.REQUEST_MODEL] == "my-deployment"
    assert call[semconv.PRICE_STATUS] == "priced"
    assert semconv.KEY_FINGERPRINT not in call


def test_a_short_key_has_no_hint(capture: Any) -> None:
    captured = capture()
    ask(client(chat(), api_key="short"))
    assert semconv.KEY_FINGERPRINT in captured.call
    assert semconv.KEY_HINT not in captured.call


def test_http_spans_can_be_switched_off(capture: Any) -> None:
    captured = capture(http_spans=False)
    ask(client(chat()))
    assert len(captured.spans) == 1


@pytest.mark.parametrize("order", ["costspan.auto, openai", "openai, costspan.auto"])
def test_the_one_import_works_before_and_after_openai_and_for_clients_made_before(
    order: str,
) -> None:
    script = f"""
import httpx2
import {order.split(", ")[0]}
made = None
if {order.startswith("openai")}:
    make = lambda: openai.OpenAI(api_key="k", http_client=httpx2.Client(transport=transport))
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, json={chat()!r}))
    made = make()
import {order.split(", ")[1]}
if made is None:
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, json={chat()!r}))
    made = openai.OpenAI(api_key="k", http_client=httpx2.Client(transport=transport))
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))
trace.set_tracer_provider(provider)  # set after our import, and still the one that is used
made.chat.completions.create(model="gpt-4o-mini", messages=[])
"""
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert '"gen_ai.usage.input_tokens": 1117' in ended.stdout
    assert not ended.stderr


def test_capture_can_be_switched_off(capture: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COSTSPAN_CAPTURE_ENABLED", "false")
    captured = capture()
    ask(client(chat()))
    assert not captured.spans
    assert not captured.installation.active


def test_no_span_quotes_a_key_that_an_http_error_or_a_url_does(capture: Any) -> None:
    captured = capture()
    with_newline = f"{KEY}\n"  # as a secrets file ends
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        with pytest.raises(openai.APIConnectionError) as caught:
            openai.OpenAI(api_key=with_newline, base_url=url, max_retries=0).models.list()
    assert KEY in str(caught.value.__cause__), "the app sees what it would without us"
    ask(client(chat()), extra_query={"subscription-key": KEY})
    ask(client(chat(), base_url=f"https://gateway.example/{KEY}/v1"))
    everything = "".join(span.to_json() for span in captured.spans)
    assert KEY not in everything
    assert "LocalProtocolError" in everything


def test_a_file_that_is_read_leaves_nothing_of_its_content(capture: Any) -> None:
    captured = capture()
    client({"id": "patient-4711", "model": "a secret"}).files.content("file-1")
    everything = "".join(span.to_json() for span in captured.spans)
    assert "patient" not in everything
    assert "secret" not in everything


def test_azure_is_not_asked_for_usage_that_older_versions_refuse(capture: Any) -> None:
    capture()
    asked: list[bytes] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.content)
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=b"")

    azure = openai.AzureOpenAI(
        azure_endpoint="https://mine.openai.azure.com",
        api_version="2024-06-01",
        api_key=KEY,
        http_client=httpx2.Client(transport=httpx2.MockTransport(answer)),
    )
    assert list(azure.chat.completions.create(model="mine", messages=[], stream=True)) == []
    assert b"stream_options" not in asked[0]


def test_a_fault_before_the_http_span_keeps_the_call(
    capture: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    captured = capture()

    def broken(_: object) -> None:
        raise TypeError

    monkeypatch.setattr("costspan.capture.attempts.prepare", broken)
    ask(client(chat()))
    assert captured.call[semconv.PRICE_STATUS] == "priced"


def packed(answer: dict[str, Any]) -> openai.OpenAI:
    """Return a client whose answers are compressed, as OpenAI's are."""
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    content = gzip.compress(json.dumps(answer).encode())
    transport = httpx2.MockTransport(
        lambda _: httpx2.Response(200, headers=headers, stream=httpx2.ByteStream(content))
    )
    return openai.OpenAI(api_key=KEY, http_client=httpx2.Client(transport=transport))


def test_a_raw_answer_that_came_compressed_has_its_tokens(capture: Any) -> None:
    captured = capture()
    answer = packed(chat()).chat.completions.with_raw_response.create(model="m", messages=[])
    assert captured.call[semconv.INPUT_TOKENS] == 1117
    assert answer.parse().usage


@pytest.mark.parametrize("vector", [[0.12345] * 3000, "AAAAv" * 3000])
def test_a_raw_answer_has_its_tokens_however_many_vectors_it_has(
    vector: object, capture: Any
) -> None:
    captured = capture()
    answer = {
        "object": "list",
        "model": "text-embedding-3-small",
        "data": [{"object": "embedding", "index": 0, "embedding": vector}] * 100,
        "usage": {"prompt_tokens": 100, "total_tokens": 100},
    }
    embeddings = packed(answer).embeddings.with_raw_response
    embeddings.create(model="text-embedding-3-small", input=["x"] * 100)
    assert captured.call[semconv.INPUT_TOKENS] == 100
    assert captured.call[semconv.COST_USD] == "0.000002"


def test_a_clock_that_is_set_back_during_a_call_does_not_change_how_long_it_took(
    capture: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    captured = capture(http_spans=False)
    made = client(chat())
    real, asked = time.time_ns, 0

    def set_back() -> int:
        nonlocal asked
        asked += 1
        return real() - (asked - 1) * 3600 * 10**9

    monkeypatch.setattr(time, "time_ns", set_back)
    monkeypatch.setattr("opentelemetry.sdk.trace.time_ns", set_back)
    ask(made)
    (span,) = captured.calls
    assert 0 < span.end_time - span.start_time < 60 * 10**9


OTHER_KEY = "sk-another-key-of-this-call-only-7777"


@pytest.mark.parametrize(
    ("of_client", "of_call"),
    [
        ({}, {"extra_headers": {"authorization": f"Bearer {OTHER_KEY}"}}),
        ({"default_headers": {"Authorization": f"Bearer {OTHER_KEY}"}}, {}),
    ],
    ids=["of the call", "of the client"],
)
def test_the_key_that_is_sent_is_the_key_that_is_named(
    of_client: dict[str, Any], of_call: dict[str, Any], capture: Any
) -> None:
    captured = capture()
    ask(client(chat(), **of_client), **of_call)
    call = captured.call
    assert call[semconv.KEY_FINGERPRINT] == hashlib.sha256(OTHER_KEY.encode()).hexdigest()[:16]
    assert call[semconv.KEY_HINT] == "7777"


def test_a_call_that_is_not_to_be_seen_leaves_nothing_on_the_one_that_it_is_made_in(
    capture: Any,
) -> None:
    def answer(_: httpx2.Request) -> httpx2.Response:
        with suppress_instrumentation():
            ask(client(chat(), default_headers={}))
        return httpx2.Response(200, json=chat(), headers={"x-request-id": "req_outer"})

    captured = capture(http_spans=False)
    http = httpx2.Client(transport=httpx2.MockTransport(answer))
    ask(openai.OpenAI(api_key=KEY, http_client=http))
    assert captured.call[semconv.REQUEST_ID] == "req_outer"
    (span,) = captured.calls
    assert span.name == "chat gpt-4o-mini"
