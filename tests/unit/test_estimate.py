"""Calls that OpenAI billed but whose usage nobody saw: bounds, marked as such, or nothing."""

import asyncio
import gc
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx2
import openai
import pytest
import yaml
from opentelemetry.trace import StatusCode

from costspan import semconv
from costspan.capture import background, estimate, tokenizer
from costspan.capture.answer import Answer
from costspan.capture.body import RawBody
from costspan.capture.call import Call
from costspan.capture.texts import Answered, Asked
from costspan.counters import counters

MESSAGES = [{"role": "user", "content": "hello world"}]
"""3 for the conversation, 3 for the message, 1 for its role, 2 for its words: 9 tokens."""
ASK: dict[str, Any] = {"model": "gpt-4o-mini", "messages": MESSAGES, "stream": True}
INPUT_USD = "0.00000135"  # 9 x 0.15 / 1,000,000
USAGE = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}


@pytest.fixture(autouse=True)
def no_estimates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Estimates are on, as they are unless somebody switches them off."""
    monkeypatch.delenv("COSTSPAN_CAPTURE_ESTIMATES", raising=False)


class Wire(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """A stream of events, which may break at the end or never have one."""

    def __init__(
        self, *events: dict[str, Any], error: Exception | None = None, hangs: bool = False
    ) -> None:
        self._pieces = [b"data: " + json.dumps(event).encode() + b"\n\n" for event in events]
        self._error = error
        self._hangs = hangs

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces
        if self._error is not None:
            raise self._error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece
        if self._hangs:
            await asyncio.Event().wait()


def chunk(content: str, finish: str | None = None, index: int = 0, **more: Any) -> dict[str, Any]:
    delta = {"content": content} | more
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [{"index": index, "delta": delta, "finish_reason": finish}],
    }


GREETING = (chunk("Hello"), chunk(" there"), chunk(", you"), chunk("!", "stop"))
"""1 token, 2, 4, 5."""


def client(answer: Wire | httpx2.Response | Exception, **options: Any) -> Any:
    transport = httpx2.MockTransport(lambda _: answered(answer))
    http = httpx2.Client(transport=transport)
    return openai.OpenAI(api_key="sk-x", max_retries=0, http_client=http, **options)


def async_client(answer: Wire | Exception) -> Any:
    http = httpx2.AsyncClient(transport=httpx2.MockTransport(lambda _: answered(answer)))
    return openai.AsyncOpenAI(api_key="sk-x", max_retries=0, http_client=http)


def answered(answer: Wire | httpx2.Response | Exception) -> httpx2.Response:
    if isinstance(answer, Exception):
        raise answer
    if isinstance(answer, httpx2.Response):
        return answer
    return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=answer)


def bounds(call: dict[str, Any]) -> dict[str, Any]:
    """What is estimated of a call; its status, and that it has no cost and no measured tokens."""
    assert not {semconv.COST_USD, semconv.INPUT_TOKENS, semconv.OUTPUT_TOKENS} & call.keys()
    assert call[semconv.PRICE_STATUS] == "estimated"
    prefix = "costspan.estimate."
    return {
        name.removeprefix(prefix): value for name, value in call.items() if name.startswith(prefix)
    }


def nothing_estimated(call: dict[str, Any]) -> bool:
    assert call[semconv.PRICE_STATUS] == "missing_usage"
    return not any(name.startswith("costspan.estimate.") for name in call)


def read_two(made: Any, **more: Any) -> Any:
    stream: Any = made.chat.completions.create(**(ASK | more))
    assert [next(stream).choices[0].delta.content for _ in range(2)] == ["Hello", " there"]
    return stream


# The ways a stream can end without its usage.


def test_a_stream_closed_early_lies_between_what_was_seen_and_its_cap(capture: Any) -> None:
    captured = capture()
    read_two(client(Wire(*GREETING)), max_completion_tokens=50).close()
    assert bounds(captured.call) == {
        "input_tokens": 9,
        "output_tokens_low": 2,
        "output_tokens_high": 50,
        "low_usd": "0.00000255",  # 9 x 0.15 + 2 x 0.60, of a million
        "high_usd": "0.00003135",  # 9 x 0.15 + 50 x 0.60
    }
    assert captured.call[semconv.STREAM_OUTCOME] == "closed_early"
    assert captured.call[semconv.PRICE_PATH] == "gpt-4o-mini/standard/short"


def test_without_a_cap_the_high_bound_is_unknown(capture: Any) -> None:
    captured = capture()
    read_two(client(Wire(*GREETING))).close()
    assert bounds(captured.call) == {
        "input_tokens": 9,
        "output_tokens_low": 2,
        "low_usd": "0.00000255",
    }


def test_a_stream_that_nobody_holds_any_more_is_estimated(capture: Any) -> None:
    captured = capture()
    stream = read_two(client(Wire(*GREETING)))
    del stream
    gc.collect()
    assert captured.call[semconv.STREAM_OUTCOME] == "abandoned"
    assert bounds(captured.call)["output_tokens_low"] == 2


def test_a_stream_cut_on_the_way_is_estimated_and_still_an_error(capture: Any) -> None:
    captured = capture()
    cut = Wire(*GREETING[:3], error=httpx2.ReadError("reset"))
    with pytest.raises((httpx2.ReadError, openai.APIConnectionError)):
        list(client(cut).chat.completions.create(**ASK))
    (span,) = captured.calls
    assert span.status.status_code is StatusCode.ERROR
    assert bounds(captured.call)["output_tokens_low"] == 4


def test_a_stream_that_is_read_as_bytes_is_estimated(capture: Any) -> None:
    captured = capture()
    with client(Wire(*GREETING)).chat.completions.with_streaming_response.create(**ASK) as response:
        assert b"Hello" in next(response.iter_bytes())
    assert bounds(captured.call)["output_tokens_low"] == 1


def test_a_cancelled_stream_is_estimated(capture: Any) -> None:
    captured = capture()

    async def cancelled() -> None:
        stream: Any = await async_client(Wire(*GREETING[:2], hangs=True)).chat.completions.create(
            **ASK
        )
        async with asyncio.timeout(0.2):
            async for _ in stream:
                pass

    with pytest.raises(TimeoutError):
        asyncio.run(cancelled())
    assert bounds(captured.call)["output_tokens_low"] == 2


def test_an_async_stream_that_is_closed_is_estimated(capture: Any) -> None:
    captured = capture()

    async def closed() -> None:
        stream: Any = await async_client(Wire(*GREETING)).chat.completions.create(**ASK)
        await anext(stream)
        await stream.close()

    asyncio.run(closed())
    assert bounds(captured.call)["output_tokens_low"] == 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_that_timed_out_after_it_was_sent_has_its_input_and_its_cap(
    stream: bool, capture: Any
) -> None:
    captured = capture()
    with pytest.raises(openai.APITimeoutError):
        client(httpx2.ReadTimeout("late")).chat.completions.create(
            **(ASK | {"stream": stream}), max_tokens=10
        )
    assert bounds(captured.call) == {
        "input_tokens": 9,
        "output_tokens_low": 0,
        "output_tokens_high": 10,
        "low_usd": INPUT_USD,
        "high_usd": "0.00000735",
    }


def test_a_call_that_was_never_sent_or_was_refused_is_not_billed_and_not_estimated(
    capture: Any,
) -> None:
    captured = capture()
    for answer in (httpx2.ConnectError("no"), httpx2.Response(429)):
        with pytest.raises(openai.APIError):
            client(answer).chat.completions.create(**ASK)
    for span in captured.calls:
        assert semconv.PRICE_STATUS not in span.attributes
        assert semconv.ESTIMATE_INPUT_TOKENS not in span.attributes


def test_a_host_that_was_not_asked_is_estimated_by_all_of_the_answer(capture: Any) -> None:
    captured = capture()
    transport = httpx2.MockTransport(lambda _: answered(Wire(*GREETING)))
    azure: Any = openai.AzureOpenAI(
        azure_endpoint="https://mine.openai.azure.com",
        api_version="2024-06-01",
        api_key="x",
        http_client=httpx2.Client(transport=transport),
    )
    stream: Any = azure.chat.completions.create(**ASK | {"model": "mine"}, max_tokens=50)
    assert len(list(stream)) == 4
    found = bounds(captured.call)
    assert (found["output_tokens_low"], found["output_tokens_high"]) == (5, 6)
    assert (found["low_usd"], found["high_usd"]) == ("0.00000435", "0.00000495")


def test_a_body_without_usage_is_estimated_by_its_text(capture: Any) -> None:
    captured = capture()
    choice = {"index": 0, "message": {"content": "Hello there, you!"}, "finish_reason": "stop"}
    body = {"id": "c", "model": "gpt-4o-mini-2024-07-18", "choices": [choice]}
    client(httpx2.Response(200, json=body)).chat.completions.create(**ASK | {"stream": False})
    assert bounds(captured.call)["output_tokens_high"] == 6


def test_usage_that_was_seen_is_measured_and_nothing_is_estimated(capture: Any) -> None:
    captured = capture()
    last: dict[str, Any] = {**chunk(""), "choices": [], "usage": USAGE}
    list(client(Wire(*GREETING, last)).chat.completions.create(**ASK))
    assert captured.call[semconv.PRICE_STATUS] == "priced"
    assert not any(name.startswith("costspan.estimate.") for name in captured.call)


def test_each_of_several_answers_counts_and_the_cap_is_for_each(capture: Any) -> None:
    captured = capture()
    stream: Any = client(
        Wire(chunk("Hello", index=0), chunk("Hello", index=1), chunk(" there", index=0))
    ).chat.completions.create(**ASK, n=2, max_tokens=50)
    for _ in range(3):
        next(stream)
    stream.close()
    found = bounds(captured.call)
    assert (found["output_tokens_low"], found["output_tokens_high"]) == (3, 100)


def test_a_response_has_one_token_more_and_its_own_cap(capture: Any) -> None:
    captured = capture()
    head = {"id": "resp_1", "object": "response", "model": "gpt-4o-mini-2024-07-18"}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": head | {"status": "in_progress"}},
        *(
            {"type": "response.output_text.delta", "delta": text, "output_index": 0}
            for text in ("Hello", " there")
        ),
        {"type": "response.output_text.delta", "delta": ", you", "output_index": 0},
    ]
    stream: Any = client(Wire(*events)).responses.create(
        model="gpt-4o-mini", input="hello world", max_output_tokens=50, stream=True
    )
    for _ in range(3):
        next(stream)
    stream.close()
    assert bounds(captured.call) == {
        "input_tokens": 9,
        "output_tokens_low": 3,
        "output_tokens_high": 50,
        "low_usd": "0.00000315",
        "high_usd": "0.00003135",
    }


def test_an_embedding_that_timed_out_is_known_to_the_token(capture: Any) -> None:
    captured = capture()
    with pytest.raises(openai.APITimeoutError):
        client(httpx2.ReadTimeout("late")).embeddings.create(
            model="text-embedding-3-small", input=["hello world", "hello"]
        )
    found = bounds(captured.call)
    assert found["input_tokens"] == 3
    assert found["low_usd"] == found["high_usd"] == "0.00000006"  # 3 x 0.02 / 1,000,000


def test_an_older_completion_writes_sixteen_tokens_unless_told(capture: Any) -> None:
    captured = capture()
    with pytest.raises(openai.APITimeoutError):
        client(httpx2.ReadTimeout("late")).completions.create(
            model="gpt-3.5-turbo-instruct", prompt=["hello world", "hello"], n=2
        )
    found = bounds(captured.call)
    assert found["input_tokens"] == 3
    assert found["output_tokens_high"] == 64


@pytest.mark.parametrize(("asked", "priced"), [("flex", "flex"), ("auto", "standard")])
def test_the_tier_that_was_asked_for_is_priced_where_none_answered(
    asked: str, priced: str, capture: Any
) -> None:
    captured = capture()
    with pytest.raises(openai.APITimeoutError):
        client(httpx2.ReadTimeout("late")).chat.completions.create(
            **ASK | {"model": "gpt-5-mini"}, service_tier=asked
        )
    assert captured.call[semconv.PRICE_PATH] == f"gpt-5-mini/{priced}/short"


def test_tokens_that_are_sent_as_such_count(capture: Any) -> None:
    captured = capture()
    with pytest.raises(openai.APITimeoutError):
        client(httpx2.ReadTimeout("late")).embeddings.create(
            model="text-embedding-3-small", input=[[1, 2, 3], [4]]
        )
    assert bounds(captured.call)["input_tokens"] == 4


def test_an_answer_that_is_sent_back_as_the_object_it_was_counts(capture: Any) -> None:
    captured = capture()
    said = {"role": "assistant", "content": "hello world"}
    completion = {"choices": [{"index": 0, "message": said}], "usage": USAGE}
    first = client(httpx2.Response(200, json=completion)).chat.completions.create(
        model="gpt-4o-mini", messages=MESSAGES
    )
    item = {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed"}
    text: dict[str, Any] = {"type": "output_text", "text": "hello world", "annotations": []}
    response: dict[str, Any] = {
        "object": "response",
        "output": [item | {"content": [text]}],
        "usage": USAGE,
    }
    second = client(httpx2.Response(200, json=response)).responses.create(
        model="gpt-4o-mini", input="x"
    )
    late = client(httpx2.ReadTimeout("late"))
    with pytest.raises(openai.APITimeoutError):
        late.chat.completions.create(**ASK | {"messages": [*MESSAGES, first.choices[0].message]})
    with pytest.raises(openai.APITimeoutError):
        late.responses.create(model="gpt-4o-mini", input=[*MESSAGES, *second.output])
    *_, chat, responses = captured.calls
    for span in (chat, responses):
        assert span.attributes[semconv.ESTIMATE_INPUT_TOKENS] == 15
        assert semconv.ESTIMATE_MISSING not in span.attributes


# What is not counted is named.

IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/x.png"}}


@pytest.mark.parametrize(
    ("body", "missing"),
    [
        ({"messages": MESSAGES}, []),
        ({"messages": MESSAGES, "tools": [{"type": "function"}]}, ["tools"]),
        ({"messages": MESSAGES, "response_format": {"type": "json_object"}}, []),
        ({"messages": MESSAGES, "response_format": {"type": "json_schema"}}, ["schemas"]),
        ({"input": "x", "text": {"format": {"type": "json_schema"}}}, ["schemas"]),
        ({"messages": MESSAGES, "audio": {"voice": "alloy"}}, ["audio"]),
        ({"messages": MESSAGES, "prediction": {"content": "x"}}, ["prediction"]),
        ({"input": "x", "previous_response_id": "resp_1"}, ["history"]),
        ({"input": [{"type": "item_reference", "id": "x"}, *MESSAGES]}, ["history"]),
        ({"input": "x", "prompt": {"id": "pmpt_1"}}, ["prompt"]),
        ({"messages": [{"role": "user", "content": [IMAGE]}]}, ["images"]),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, ["audio"]),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, ["files"]),
        ({"messages": [{"role": "tool", "content": "x"}]}, ["tools"]),
        ({"input": [{"type": "function_call", "name": "x", "arguments": "{}"}]}, ["tools"]),
        ({"messages": [{"role": "user", "content": "x" * 2**20}]}, ["length"]),
        ({"messages": [{"role": "user", "content": ""}] * 2**16}, ["length"]),
    ],
)
def test_what_no_text_shows_is_named(body: dict[str, Any], missing: list[str]) -> None:
    api_type = "chat_completions" if "messages" in body else "responses"
    assert Asked(body, api_type, "gpt-4o-mini").unseen == missing


@pytest.mark.parametrize(
    ("model", "body", "reasons"),
    [
        ("gpt-4o", {}, False),
        ("gpt-35-turbo", {}, False),
        ("chatgpt-4o-latest", {}, False),
        ("ft:gpt-4.1-mini-2025-04-14:acme::x", {}, False),
        ("gpt-5-chat-latest", {}, False),
        ("gpt-5.1", {"reasoning_effort": "none"}, False),
        ("gpt-5.1", {"reasoning": {"effort": "none"}}, False),
        ("gpt-5.1", {"reasoning_effort": "low"}, True),
        ("o3-mini", {}, True),
        ("a-model-of-next-year", {}, True),
    ],
)
def test_a_model_that_may_think_unseen_is_named(
    model: str, body: dict[str, Any], reasons: bool
) -> None:
    named = Asked({"messages": MESSAGES} | body, "chat_completions", model).unseen
    assert named == (["reasoning"] if reasons else [])


def test_an_answer_too_long_to_keep_is_not_taken_for_all_of_it(capture: Any) -> None:
    captured = capture()
    long = Wire(chunk("hello " * 10), chunk("x" * 2**20), chunk("", "stop"))
    assert len(list(client(long).chat.completions.create(**ASK))) == 3
    found = bounds(captured.call)
    assert found["output_tokens_low"] == 11
    assert "output_tokens_high" not in found


def test_an_answer_that_was_filtered_is_not_taken_for_all_of_it(capture: Any) -> None:
    captured = capture()
    filtered = Wire(chunk("Hello"), chunk("", "content_filter"))
    list(client(filtered).chat.completions.create(**ASK, max_tokens=50))
    found = bounds(captured.call)
    assert (found["output_tokens_low"], found["output_tokens_high"]) == (1, 50)


def test_an_answer_of_a_shape_nobody_knows_keeps_its_usage(capture: Any) -> None:
    captured = capture()
    odd: dict[str, Any] = {"index": [], "delta": {"content": "x"}, "finish_reason": None}
    events: list[dict[str, Any]] = [
        chunk("Hello") | {"choices": [odd]},
        {**chunk(""), "choices": [], "usage": USAGE},
    ]
    assert list(client(Wire(*events)).chat.completions.create(**ASK))
    assert captured.call[semconv.PRICE_STATUS] == "priced"


def test_what_is_thought_is_within_the_cap(capture: Any) -> None:
    captured = capture()
    with pytest.raises(openai.APITimeoutError):
        client(httpx2.ReadTimeout("late")).chat.completions.create(
            **ASK | {"model": "gpt-5-mini"}, max_completion_tokens=100
        )
    found = bounds(captured.call)
    assert found["missing"] == ("reasoning",)
    assert found["high_usd"] == "0.000202"  # 8 x 0.25 + 100 x 2.00, of a million


def test_where_the_input_holds_more_than_texts_no_high_cost_is_claimed(capture: Any) -> None:
    captured = capture()
    more = {"tools": [{"type": "function", "function": {"name": "f"}}], "max_tokens": 50}
    called = {"index": 0, "function": {"name": "weather", "arguments": '{"city"'}}
    read: Any = client(
        Wire(chunk("Hello"), chunk("", tool_calls=[called]))
    ).chat.completions.create(**ASK, **more)
    for _ in range(2):
        next(read)
    read.close()
    found = bounds(captured.call)
    assert found["missing"] == ("tools",)
    assert found["output_tokens_low"] > 2, "what a tool is called with is output"
    assert found["output_tokens_high"] == 50
    assert "high_usd" not in found


def test_a_long_input_may_have_been_read_from_the_cache(capture: Any) -> None:
    captured = capture()
    long = [{"role": "user", "content": "hello " * 2000}]
    with pytest.raises(openai.APITimeoutError):
        client(httpx2.ReadTimeout("late")).chat.completions.create(
            **ASK | {"messages": long}, max_tokens=10
        )
    found = bounds(captured.call)
    assert found["missing"] == ("cache",)
    assert found["high_usd"]


# It costs the app nothing.


def test_without_a_tokenizer_nothing_is_gathered_or_claimed(
    capture: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizer, "installed", lambda: False)
    check_that_nothing_is_gathered(capture(), monkeypatch)


def test_switched_off_nothing_is_gathered_or_claimed(
    capture: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COSTSPAN_CAPTURE_ESTIMATES", "false")
    check_that_nothing_is_gathered(capture(), monkeypatch)


def check_that_nothing_is_gathered(captured: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[object] = []
    gathered: list[object] = []
    saw = Call.saw

    def seen(call: Call, data: object) -> None:
        looked_at.append(data)
        saw(call, data)

    def read(_: RawBody, data: bytes) -> bytes:
        gathered.append(data)
        return data

    monkeypatch.setattr(Call, "saw", seen)
    monkeypatch.setattr(RawBody, "read", read)
    read_two(client(Wire(*GREETING))).close()
    assert len(looked_at) == 1, "the first chunk names the model, the others pass"
    assert not gathered
    assert nothing_estimated(captured.call)


def test_the_app_s_thread_counts_no_tokens(capture: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    captured = capture()
    threads: set[str] = set()
    tokens = tokenizer.tokens

    def counted(text: str, model: str) -> Any:
        threads.add(threading.current_thread().name)
        return tokens(text, model)

    monkeypatch.setattr(estimate, "tokens", counted)
    read_two(client(Wire(*GREETING))).close()
    assert bounds(captured.call)
    assert threads == {"costspan-estimate"}


class Held:
    """The thread in the background, held at the first token until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached = threading.Event()
        self._go = threading.Event()
        self._tokens = tokenizer.tokens
        monkeypatch.setattr(estimate, "tokens", self._counted)

    def _counted(self, text: str, model: str) -> Any:
        self.reached.set()
        self._go.wait(20)
        return self._tokens(text, model)

    def let_go(self) -> None:
        self._go.set()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    made = Held(monkeypatch)
    yield made
    made.let_go()


def test_a_span_that_waits_ends_when_its_stream_did(capture: Any, held: Held) -> None:
    captured = capture()
    read_two(client(Wire(*GREETING))).close()
    read_two(client(Wire(*GREETING))).close()
    assert held.reached.wait(20)
    assert not background.drain(0.05), "it is not done yet"
    held.let_go()
    first, second = captured.calls
    assert first.end_time < second.start_time


def test_where_too_much_waits_the_span_ends_at_once_and_it_is_counted(
    capture: Any, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    captured = capture()
    monkeypatch.setattr(estimate._background, "most", 1)
    before = counters().get("estimate_dropped", 0)
    read_two(client(Wire(*GREETING))).close()
    assert held.reached.wait(20)
    read_two(client(Wire(*GREETING))).close()
    read_two(client(Wire(*GREETING))).close()
    assert counters()["estimate_dropped"] == before + 1
    held.let_go()
    statuses = [span.attributes[semconv.PRICE_STATUS] for span in captured.calls]
    assert statuses == ["missing_usage", "estimated", "estimated"]


def test_a_tokenizer_that_breaks_is_counted_and_the_span_ends(
    capture: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    captured = capture()

    def broken(text: str, _model: str) -> Iterator[None]:
        message = f"cannot count {text}"
        raise ValueError(message)
        yield

    monkeypatch.setattr(estimate, "tokens", broken)
    before = counters().get("estimate_failed", 0)
    with caplog.at_level(logging.DEBUG):
        read_two(client(Wire(*GREETING))).close()
        assert nothing_estimated(captured.call)
    assert counters()["estimate_failed"] == before + 1
    assert "hello world" not in caplog.text


def test_no_text_is_in_a_span(capture: Any) -> None:
    captured = capture()
    read_two(client(Wire(*GREETING))).close()
    everything = "".join(span.to_json() for span in captured.spans)
    assert "estimated" in everything
    assert "hello" not in everything.lower()


def test_a_child_process_leaves_what_waits_to_its_parent(capture: Any, held: Held) -> None:
    captured = capture()
    read_two(client(Wire(*GREETING))).close()
    read_two(client(Wire(*GREETING))).close()
    assert held.reached.wait(20)
    receiving, sending = os.pipe()
    child = os.fork()
    if not child:
        held.let_go()
        read_two(client(Wire(*GREETING)), max_tokens=7).close()
        drained = background.drain(10)
        found = [dict(span.attributes) for span in captured.calls]
        tops = [attributes.get(semconv.ESTIMATE_OUTPUT_TOKENS_HIGH) for attributes in found]
        os.write(sending, json.dumps([drained, tops]).encode())
        os._exit(0)
    os.waitpid(child, 0)
    told = json.loads(os.read(receiving, 1000))
    os.close(receiving)
    os.close(sending)
    assert told == [True, [7]]
    held.let_go()
    assert len(captured.calls) == 2


LEFT_OPEN = """
import json, sys, threading
import httpx2, openai
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
import costspan

provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))
costspan.install(tracer_provider=provider)

class Wire(httpx2.SyncByteStream):
    def __iter__(self):
        yield b"data: " + json.dumps({chunk!r}).encode() + b"\\n\\n"
        yield b"data: [DONE]\\n\\n"

def answer(_):
    return httpx2.Response(200, headers={{"content-type": "text/event-stream"}}, stream=Wire())

http = httpx2.Client(transport=httpx2.MockTransport(answer))
made = openai.OpenAI(api_key="k", http_client=http)
stream = made.chat.completions.create(**{ask!r})
next(stream)
if {no_threads!r}:  # as Python 3.12 has it at exit
    def start(thread):
        raise RuntimeError("can't create new thread at interpreter shutdown")
    threading.Thread.start = start
"""


@pytest.mark.parametrize("no_threads", [False, True])
def test_a_stream_left_open_at_exit_is_estimated(no_threads: bool) -> None:
    script = LEFT_OPEN.format(chunk=GREETING[0], ask=ASK, no_threads=no_threads)
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert '"costspan.estimate.output_tokens_low": 1' in ended.stdout


IN_A_WORKER = """
import json, multiprocessing
import httpx2, openai
from opentelemetry.sdk.trace.export import ConsoleSpanExporter
import costspan

costspan.install(span_exporter=ConsoleSpanExporter())

class Wire(httpx2.SyncByteStream):
    def __iter__(self):
        yield b"data: " + json.dumps({chunk!r}).encode() + b"\\n\\n"
        yield b"data: [DONE]\\n\\n"

def answer(_):
    return httpx2.Response(200, headers={{"content-type": "text/event-stream"}}, stream=Wire())

def work():
    http = httpx2.Client(transport=httpx2.MockTransport(answer))
    stream = openai.OpenAI(api_key="k", http_client=http).chat.completions.create(**{ask!r})
    next(stream)
    stream.close()

if __name__ == "__main__":
    worker = multiprocessing.get_context("fork").Process(target=work)
    worker.start()
    worker.join()
"""


def test_a_stream_closed_at_the_end_of_a_worker_process_is_estimated() -> None:
    script = IN_A_WORKER.format(chunk=GREETING[0], ask=ASK)
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert '"costspan.estimate.output_tokens_low": 1' in ended.stdout


# Counting.


def result(steps: Generator[None, None, Any]) -> Any:
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value


def total(text: str, model: str) -> int:
    return result(tokenizer.tokens(text, model))


TEXTS = (
    "hello world",
    "Zażółć gęślą jaźń, 你好世界, 🚀🚀",
    "def f(x):\n    return x ** 2  # squares\n",
    "<|endoftext|> is no more than text",
    "half a surrogate: \ud800",
    "1234567890 " * 50,
)


@pytest.mark.parametrize("encoding", ["o200k_base", "cl100k_base"])
def test_both_tokenizers_count_alike(encoding: str) -> None:
    counts = [load(encoding) for load in (tokenizer._rs_bpe, tokenizer._quicktok)]
    for text in TEXTS:
        clean = text.encode(errors="replace").decode()
        assert len({count(clean) for count in counts}) == 1


def test_the_other_tokenizer_takes_over_and_without_any_it_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uncached: Any = tokenizer._counter.__wrapped__
    monkeypatch.setitem(sys.modules, "rs_bpe.bpe", None)
    assert "quicktok" in str(uncached("o200k_base"))
    monkeypatch.setitem(sys.modules, "quicktok", None)
    with pytest.raises(ImportError, match=r"install costspan\[tokens\]"):
        uncached("o200k_base")


def test_a_text_counted_in_pieces_has_the_tokens_of_the_whole() -> None:
    text = "The quick brown fox, it's said, jumped 12345 times.\n\n    Over the lazy dog! " * 1000
    assert total(text, "gpt-4o") == tokenizer._rs_bpe("o200k_base")(text)
    steps = list(tokenizer.tokens(text, "gpt-4o"))
    assert len(steps) == -(-len(text) // 2**14)
    assert total("a" * 50_000, "gpt-4o") == tokenizer._rs_bpe("o200k_base")("a" * 50_000)


@pytest.mark.parametrize(
    ("model", "older"),
    [
        ("gpt-4", True),
        ("gpt-4-0613", True),
        ("gpt-4-turbo-2024-04-09", True),
        ("gpt-3.5-turbo-0125", True),
        ("gpt-35-turbo", True),
        ("ft:gpt-3.5-turbo-0125:acme::x", True),
        ("text-embedding-3-small", True),
        ("gpt-4o", False),
        ("gpt-4.1-mini", False),
        ("gpt-4.5-preview", False),
        ("o3", False),
        ("gpt-5-mini", False),
        ("chatgpt-4o-latest", False),
    ],
)
def test_each_model_has_its_vocabulary(model: str, older: bool) -> None:
    text = "你好世界 🚀 naïve Zażółć"
    encoding = "cl100k_base" if older else "o200k_base"
    other = "o200k_base" if older else "cl100k_base"
    assert total(text, model) == tokenizer._rs_bpe(encoding)(text)
    assert total(text, model) != tokenizer._rs_bpe(other)(text)


# Against what OpenAI reported: recorded calls.

API_TYPES = {
    "chat/completions": "chat_completions",
    "responses": "responses",
    "embeddings": "embeddings",
}
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Compared(NamedTuple):
    """What is estimated of a recorded call, less what was reported."""

    input: int
    low: int
    high: int | None


Recorded = dict[tuple[str, str], list[Compared]]


@pytest.fixture(scope="module")
def recorded() -> Recorded:
    """The recorded calls by API and by what is not counted of them."""
    found: Recorded = {}
    folder = Path(__file__).parents[1] / "data" / "cassettes"
    for file in sorted(folder.rglob("*.yaml")):
        document = yaml.load(file.read_text(encoding="utf-8"), LOADER)  # noqa: S506
        for item in document["interactions"]:
            url = urlsplit(str(item["request"]["uri"]))
            api = next((name for name in API_TYPES if url.path.endswith(f"/{name}")), None)
            openai_s = str(url.hostname).endswith(("openai.com", "openai.azure.com"))
            if api is None or not openai_s or item["response"]["status"]["code"] != 200:
                continue
            if (compared := compare(api, item)) is not None:
                missing, error = compared
                found.setdefault((api, missing), []).append(error)
    return found


def compare(api: str, item: dict[str, Any]) -> tuple[str, Compared] | None:
    content = item["response"]["body"]["string"]
    content = content if isinstance(content, bytes) else content.encode()
    packed = content.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd"))
    headers = {name.lower(): values[0] for name, values in item["response"]["headers"].items()}
    kept = {"content-encoding": headers["content-encoding"]} if packed else {}
    text = httpx2.Response(200, headers=kept, content=content).text
    lines = [text] if text.startswith("{") else text.replace("data: {", "{").splitlines()
    events: list[dict[str, Any]] = [json.loads(line) for line in lines if line.startswith("{")]
    answer, seen = Answer(), Answered()
    for event in events:
        answer.saw(event.get("response") or event)
        seen.keep(event)
    if answer.usage is None:
        return None
    body = json.loads(item["request"]["body"])
    call = estimate.unseen(
        body,
        API_TYPES[api],
        seen,
        None,
        answer.attributes(),
        model=body["model"],
        tier=None,
        host="api.openai.com",
        started_ns=time.time_ns(),
    )
    assert call is not None
    found: Any = result(estimate.estimate(call))
    written = answer.usage.output_tokens
    high = found.get(semconv.ESTIMATE_OUTPUT_TOKENS_HIGH)
    return "+".join(call.asked.unseen), Compared(
        found[semconv.ESTIMATE_INPUT_TOKENS] - answer.usage.input_tokens,
        found[semconv.ESTIMATE_OUTPUT_TOKENS_LOW] - written,
        None if high is None else high - written,
    )


@pytest.mark.parametrize(
    ("api", "calls"), [("chat/completions", 128), ("responses", 41), ("embeddings", 43)]
)
def test_the_input_of_a_recorded_call_of_texts_is_exact(
    api: str, calls: int, recorded: Recorded
) -> None:
    assert [compared.input for compared in recorded[api, ""]] == [0] * calls


@pytest.mark.parametrize("missing", ["", "reasoning"])
def test_the_output_of_a_recorded_call_is_within_its_bounds(
    missing: str, recorded: Recorded
) -> None:
    for api in ("chat/completions", "responses"):
        for compared in recorded[api, missing]:
            assert compared.low <= 0
            assert compared.high is None or compared.high >= 0


@pytest.mark.parametrize(
    ("api", "exact", "mean_error"), [("chat/completions", 0.65, -0.78), ("responses", 1, 0)]
)
def test_the_output_of_a_recorded_call_of_texts_is_near_its_low_bound(
    api: str, exact: float, mean_error: float, recorded: Recorded
) -> None:
    found = [compared.low for compared in recorded[api, ""]]
    assert found.count(0) / len(found) == pytest.approx(exact, abs=0.01)
    assert mean(found) == pytest.approx(mean_error, abs=0.01)


def test_what_is_named_as_not_counted_is_never_counted_too_high(recorded: Recorded) -> None:
    named = [each for (_, missing), found in recorded.items() for each in found if missing]
    assert len(named) > 100
    assert all(compared.input <= 0 and compared.low <= 0 for compared in named)


def test_the_input_of_a_newer_model_is_exact_and_its_thoughts_are_not_seen(
    recorded: Recorded,
) -> None:
    found = recorded["chat/completions", "reasoning"] + recorded["responses", "reasoning"]
    assert [compared.input for compared in found] == [0] * 15
    assert max(compared.low for compared in found) < 0
