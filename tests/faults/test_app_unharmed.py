"""Whatever goes wrong in the shim or on the wire, the app sees what it would see without us."""

import asyncio
import contextlib
import functools
import gc
import gzip
import json
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import openai
import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

import costspan
from costspan import semconv
from costspan.capture.call import Call, end_all
from costspan.capture.hooks import Capture
from costspan.capture.start import Starter
from costspan.counters import counters

ASK: dict[str, Any] = {
    "model": "gpt-4o-mini",
    "messages": [{"role": "user", "content": "a secret question"}],
}
USAGE = {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}
CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o-mini-2024-07-18",
    "service_tier": "default",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "a secret answer"},
            "finish_reason": "stop",
        }
    ],
    "usage": USAGE,
}


def chunk(**fields: Any) -> bytes:
    event = {**CHAT, "object": "chat.completion.chunk", "choices": [], **fields}
    return b"data: " + json.dumps(event).encode() + b"\n\n"


def delta(text: str, finish: str | None = None) -> list[dict[str, Any]]:
    return [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]


def chunks(*, usage: bool) -> list[bytes]:
    """What OpenAI sends: with include_usage a null in each chunk and one chunk more."""
    more = {"usage": None} if usage else {}
    events = [
        chunk(choices=delta(text, finish), **more)
        for text, finish in (("one", None), ("two", None), ("three", "stop"))
    ]
    if not usage:
        events = [
            event.replace(b', "usage": ' + json.dumps(USAGE).encode(), b"") for event in events
        ]
    last = [chunk()] if usage else []
    return [*events, *last, b"data: [DONE]\n\n"]


class Wire(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """A stream of pieces, which may break at the end."""

    def __init__(self, pieces: list[bytes], error: Exception | None = None) -> None:
        self.pieces = pieces
        self.error = error
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        yield from self.pieces
        if self.error is not None:
            raise self.error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True


class OpenAIHere:
    """Answers as OpenAI does; a test may put other answers in front."""

    def __init__(self) -> None:
        self.requests: list[httpx2.Request] = []
        self.answers: list[httpx2.Response | Exception] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        body: dict[str, Any] = json.loads(request.content)
        if not body.get("stream"):
            return httpx2.Response(200, json=CHAT, headers={"x-request-id": "req_1"})
        options: dict[str, Any] = body.get("stream_options") or {}
        asked = bool(options.get("include_usage"))
        return sse(Wire(chunks(usage=asked)))

    def client(self, **options: Any) -> Any:
        http = httpx2.Client(transport=httpx2.MockTransport(self))
        return openai.OpenAI(api_key="sk-the-key-nobody-may-see", http_client=http, **options)

    def async_client(self, **options: Any) -> Any:
        http = httpx2.AsyncClient(transport=httpx2.MockTransport(self))
        return openai.AsyncOpenAI(api_key="sk-the-key-nobody-may-see", http_client=http, **options)


def sse(wire: Wire) -> httpx2.Response:
    headers = {"content-type": "text/event-stream", "x-request-id": "req_2"}
    return httpx2.Response(200, headers=headers, stream=wire)


@pytest.fixture
def here() -> OpenAIHere:
    return OpenAIHere()


def stream(client: Any, **more: Any) -> Any:
    return client.chat.completions.create(**ASK, **more, stream=True)


# Faults of our own.


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (Starter, "start"),
        (Call, "arrived"),
        (Call, "saw"),
        (Call, "returned"),
        (Call, "_noticed"),
        (Call, "_told"),
        (Call, "completed"),
    ],
)
def test_a_fault_in_a_hook_is_counted_and_the_app_gets_its_answer(
    owner: type, name: str, here: OpenAIHere, capture: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = here.client().chat.completions.create(**ASK)
    without_stream = [each.to_dict() for each in stream(here.client())]
    capture()

    def broken(*_: Any, **__: Any) -> None:
        msg = "a fault of the shim"
        raise RuntimeError(msg)

    monkeypatch.setattr(owner, name, broken)
    before = sum(counters().values())

    assert here.client().chat.completions.create(**ASK) == without
    assert [each.to_dict() for each in stream(here.client())] == without_stream
    assert sum(counters().values()) > before


@pytest.mark.parametrize("is_async", [False, True])
def test_a_fault_in_the_http_instrumentation_does_not_stop_the_request(
    is_async: bool, here: OpenAIHere, capture: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        msg = "a fault of the instrumentation"
        raise RuntimeError(msg)

    monkeypatch.setattr(
        "opentelemetry.instrumentation.httpx._apply_request_client_attributes_to_span", broken
    )
    captured = capture()
    if is_async:
        answer = asyncio.run(here.async_client().chat.completions.create(**ASK))
    else:
        answer = here.client().chat.completions.create(**ASK)

    assert answer.usage is not None
    assert len(here.requests) == 1
    assert captured.call[semconv.INPUT_TOKENS] == 11


def test_an_exporter_that_raises_does_not_reach_the_app(here: OpenAIHere) -> None:
    class Broken(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            del spans
            msg = "no collector"
            raise ConnectionError(msg)

    installation = costspan.install(span_exporter=Broken())
    assert here.client().chat.completions.create(**ASK).id == "chatcmpl-1"
    installation.flush()
    installation.uninstall()


def test_install_never_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Capture) -> Capture:
        msg = "no hooks"
        raise RuntimeError(msg)

    monkeypatch.setattr(Capture, "start", broken)
    before = counters().get("install_failed", 0)
    assert not costspan.install(http_spans=False).active
    assert counters()["install_failed"] == before + 1


# Faults of the answer.


@pytest.mark.parametrize(
    "usage",
    [
        "many",
        [],
        {"prompt_tokens": "11"},
        {"prompt_tokens": 10**30, "completion_tokens": 1},
        {"prompt_tokens": 2**39, "completion_tokens": 2**39},
        {"prompt_tokens": -1, "completion_tokens": 1},
        {"prompt_tokens": 1.5, "completion_tokens": 1},
        {"prompt_tokens": 1, "completion_tokens": 1, "prompt_tokens_details": [1]},
        {"prompt_tokens": 1, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 9}},
    ],
)
def test_impossible_usage_has_no_cost_and_says_so(
    usage: Any, here: OpenAIHere, capture: Any
) -> None:
    captured = capture()
    here.answers.append(httpx2.Response(200, json={**CHAT, "usage": usage}))
    here.client().chat.completions.create(**ASK)
    call = captured.call
    if semconv.COST_USD in call:
        assert usage["prompt_tokens"] == 2**39  # large, and fits
    else:
        assert call[semconv.PRICE_STATUS] in {"invalid_usage", "missing_usage"}


HOSTILE: list[dict[str, Any]] = [
    {"choices": None},
    {"choices": [None, 7, {"index": [], "finish_reason": 3}]},
    {"model": {"a": 1}, "id": 5, "service_tier": ["x"]},
    {"model": "\ud800" * 5000},
]


@pytest.mark.parametrize("fields", HOSTILE)
def test_a_hostile_body_reaches_the_app_as_it_is(
    fields: dict[str, Any], here: OpenAIHere, capture: Any
) -> None:
    content = json.dumps({**CHAT, **fields}).encode()
    without, with_us = (
        httpx2.Response(200, content=content, headers={"content-type": "application/json"})
        for _ in range(2)
    )
    here.answers += [without, with_us]
    bare = here.client().chat.completions.create(**ASK).model_dump(warnings=False)
    captured = capture()
    assert here.client().chat.completions.create(**ASK).model_dump(warnings=False) == bare
    call = captured.call
    assert call[semconv.INPUT_TOKENS] == 11
    for value in call.values():
        str(value).encode()
        assert len(str(value)) <= 300


def test_an_error_answer_raises_the_same_error_and_costs_nothing(
    here: OpenAIHere, capture: Any
) -> None:
    body = {"error": {"message": "secret", "code": "rate_limit_exceeded", "type": "requests"}}

    def fails() -> openai.RateLimitError:
        here.answers.append(httpx2.Response(429, json=body, headers={"x-request-id": "req_9"}))
        with pytest.raises(openai.RateLimitError) as caught:
            here.client(max_retries=0).chat.completions.create(**ASK)
        return caught.value

    bare = fails()
    captured = capture()
    error = fails()
    assert (str(error), error.body, error.status_code) == (
        str(bare),
        bare.body,
        bare.status_code,
    )
    call = captured.call
    assert call[semconv.ERROR_TYPE] == "RateLimitError"
    assert call[semconv.ERROR_CODE] == "rate_limit_exceeded"
    assert call[semconv.HTTP_STATUS] == 429
    assert call[semconv.REQUEST_ID] == "req_9"
    assert semconv.PRICE_STATUS not in call
    assert captured.calls[0].status.description == "RateLimitError"
    assert not captured.calls[0].events


def test_a_timeout_may_have_been_billed_and_a_refused_connection_not(
    here: OpenAIHere, capture: Any
) -> None:
    captured = capture()
    here.answers.append(httpx2.ReadTimeout("late"))
    with pytest.raises(openai.APITimeoutError):
        here.client(max_retries=0).chat.completions.create(**ASK)
    here.answers.append(httpx2.ConnectError("refused"))
    with pytest.raises(openai.APIConnectionError):
        here.client(max_retries=0).chat.completions.create(**ASK)

    late, refused = (dict(span.attributes) for span in captured.calls)
    assert late[semconv.PRICE_STATUS] == "missing_usage"
    assert refused[semconv.ERROR_TYPE] == "APIConnectionError"
    assert semconv.PRICE_STATUS not in refused


def test_a_retry_is_one_call_with_two_attempts(here: OpenAIHere, capture: Any) -> None:
    captured = capture()
    here.answers.append(httpx2.Response(429, headers={"retry-after-ms": "1"}, json={}))
    here.client().chat.completions.create(**ASK)
    assert captured.call[semconv.RETRIES] == 1
    (call,) = captured.calls
    attempts = [span for span in captured.spans if span is not call]
    assert [span.attributes[semconv.ATTEMPT] for span in attempts] == [0, 1]
    assert [span.attributes[semconv.HTTP_STATUS] for span in attempts] == [429, 200]
    assert {span.parent.span_id for span in attempts} == {call.context.span_id}


# Streams that end in other ways than their end.


def test_a_stream_closed_early_ends_its_call(here: OpenAIHere, capture: Any) -> None:
    captured = capture()
    with stream(here.client()) as events:
        next(iter(events))
    assert captured.call[semconv.STREAM_OUTCOME] == "closed_early"
    assert captured.call[semconv.STREAM_CHUNKS] == 1
    assert captured.call[semconv.PRICE_STATUS] == "missing_usage"
    assert semconv.INPUT_TOKENS not in captured.call


@pytest.mark.parametrize("read", [0, 1])
def test_an_abandoned_stream_ends_its_call(read: int, here: OpenAIHere, capture: Any) -> None:
    captured = capture()
    events = stream(here.client())
    for _ in range(read):
        next(events)
    del events
    gc.collect()
    assert captured.call[semconv.STREAM_OUTCOME] == "abandoned"
    assert captured.calls[0].status.is_ok or captured.calls[0].status.is_unset


def test_a_broken_stream_raises_the_same_error_and_ends_its_call(
    here: OpenAIHere, capture: Any
) -> None:
    def breaks() -> tuple[list[Any], str]:
        wire = Wire(chunks(usage=False)[:2], httpx2.RemoteProtocolError("cut"))
        here.answers.append(sse(wire))
        got: list[Any] = []
        with pytest.raises(openai.APIConnectionError) as caught:
            got.extend(each.to_dict() for each in stream(here.client()))
        assert wire.closed
        return got, str(caught.value)

    bare = breaks()
    captured = capture()
    assert breaks() == bare
    assert captured.call[semconv.STREAM_OUTCOME] == "failed"
    assert captured.call[semconv.ERROR_TYPE] == "APIConnectionError"
    assert captured.call[semconv.PRICE_STATUS] == "missing_usage"


def test_an_error_event_in_a_stream_ends_its_call(here: OpenAIHere, capture: Any) -> None:
    captured = capture()
    event = b'data: {"error": {"message": "no", "code": "server_error"}}\n\n'
    here.answers.append(sse(Wire([event])))
    with pytest.raises(openai.APIError):
        list(stream(here.client()))
    assert captured.call[semconv.ERROR_CODE] == "server_error"
    assert captured.call[semconv.STREAM_OUTCOME] == "failed"


def test_a_cancelled_call_is_cancelled_and_ends_with_that_error(capture: Any) -> None:
    captured = capture()

    async def cancelled() -> None:
        reached = asyncio.Event()

        async def never(_: httpx2.Request) -> httpx2.Response:
            reached.set()
            await asyncio.Event().wait()
            raise AssertionError

        http = httpx2.AsyncClient(transport=httpx2.MockTransport(never))
        client: Any = openai.AsyncOpenAI(api_key="k", http_client=http)
        task = asyncio.create_task(client.chat.completions.create(**ASK))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert captured.call[semconv.ERROR_TYPE] == "CancelledError"
    assert captured.call[semconv.PRICE_STATUS] == "missing_usage"


def test_an_async_stream_that_is_closed_or_left_ends_its_call(
    here: OpenAIHere, capture: Any
) -> None:
    captured = capture()

    async def use() -> None:
        made: Any = await here.async_client().chat.completions.create(**ASK, stream=True)
        async with made as events:
            await anext(aiter(events))
        made = await here.async_client().chat.completions.create(**ASK, stream=True)
        async for _ in made:
            break
        del made, events
        gc.collect()
        for _ in range(5):
            await asyncio.sleep(0)

    asyncio.run(use())
    outcomes = [dict(span.attributes)[semconv.STREAM_OUTCOME] for span in captured.calls]
    assert outcomes[0] == "closed_early"
    assert outcomes[1] in {"abandoned", "closed_early"}
    assert len(outcomes) == 2


# What the app sees is the SDK's own.


def test_types_and_chunks_are_those_of_the_bare_sdk(here: OpenAIHere, capture: Any) -> None:
    bare_stream = stream(here.client())
    bare: list[Any] = [(type(each), each.to_json(), each.model_fields_set) for each in bare_stream]
    captured = capture()
    made = stream(here.client())
    assert type(made) is type(bare_stream) is openai.Stream
    assert [(type(each), each.to_json(), each.model_fields_set) for each in made] == bare
    assert json.loads(here.requests[-1].content)["stream_options"] == {"include_usage": True}
    assert captured.call[semconv.INPUT_TOKENS] == 11
    assert captured.call[semconv.STREAM_OUTCOME] == "completed"
    assert captured.call[semconv.STREAM_CHUNKS] == len(bare) == 3


@pytest.mark.parametrize("given", [{"include_usage": True}, {"include_usage": False}])
def test_a_stream_whose_app_decides_about_usage_is_left_alone(
    given: Any, here: OpenAIHere, capture: Any
) -> None:
    bare = [each.to_json() for each in stream(here.client(), stream_options=given)]
    capture()
    assert [each.to_json() for each in stream(here.client(), stream_options=given)] == bare
    assert here.requests[-1].content == here.requests[-2].content


@pytest.mark.parametrize("extra", [False, True])
@pytest.mark.parametrize("given", [{"include_obfuscation": False}, {}, None])
def test_other_stream_options_of_the_app_are_sent_along(
    extra: bool, given: Any, here: OpenAIHere, capture: Any
) -> None:
    asked: Any = {"extra_body" if extra else "stream_options": given}
    if extra:
        asked = {"extra_body": {"stream_options": given}}
    bare = [each.to_json() for each in stream(here.client(), **asked)]
    captured = capture()
    assert [each.to_json() for each in stream(here.client(), **asked)] == bare
    sent = json.loads(here.requests[-1].content)["stream_options"]
    assert sent == {**(given or {}), "include_usage": True}
    assert captured.call[semconv.INPUT_TOKENS] == 11


@pytest.mark.parametrize("way", ["iter_lines", "iter_raw", "iter_bytes", "raw", "sliced"])
def test_who_reads_the_bytes_of_a_stream_does_not_see_what_we_asked_for(
    way: str, here: OpenAIHere, capture: Any
) -> None:
    def read() -> Any:
        if way == "sliced":
            whole = b"".join(chunks(usage=bool(captured)))
            here.answers.append(sse(Wire([whole[i : i + 7] for i in range(0, len(whole), 7)])))
        if way == "raw":
            raw = here.client().chat.completions.with_raw_response.create(**ASK, stream=True)
            return list(raw.http_response.iter_lines())
        made = stream(here.client()).response
        return b"".join(made.iter_raw()) if way == "sliced" else list(getattr(made, way)())

    captured: Any = None
    bare = read()
    captured = capture()
    assert read() == bare
    assert captured.call[semconv.INPUT_TOKENS] == 11
    assert captured.call[semconv.STREAM_OUTCOME] == "completed"


def test_uninstalling_under_an_open_stream_does_not_show_what_we_asked_for(
    here: OpenAIHere, capture: Any
) -> None:
    bare = [each.choices for each in stream(here.client())]
    captured = capture()
    made = stream(here.client())
    captured.installation.uninstall()
    assert [each.choices for each in made] == bare


def test_a_host_that_is_not_openai_is_not_asked_for_usage_and_has_no_price(
    here: OpenAIHere, capture: Any
) -> None:
    captured = capture()
    list(stream(here.client(base_url="http://127.0.0.1:9/v1")))
    assert "stream_options" not in json.loads(here.requests[-1].content)
    assert captured.call[semconv.PRICE_STATUS] == "unknown_model"
    assert captured.call[semconv.SERVER_ADDRESS] == "127.0.0.1"
    assert captured.call[semconv.SERVER_PORT] == 9


@pytest.mark.parametrize("how", ["raw", "raw unparsed", "lazy", "lazy bytes", "lazy stream"])
def test_raw_responses_are_unchanged_and_have_their_tokens(
    how: str, here: OpenAIHere, capture: Any
) -> None:
    def use() -> Any:
        here.answers.append(
            httpx2.Response(
                200,
                headers={"content-type": "application/json"},
                stream=Wire([json.dumps(CHAT).encode()]),
            )
        )
        completions = here.client().chat.completions
        if how.startswith("raw"):
            raw = completions.with_raw_response.create(**ASK)
            return (type(raw), raw.content if how == "raw unparsed" else raw.parse().to_dict())
        if how == "lazy stream":
            here.answers.clear()
            with completions.with_streaming_response.create(**ASK, stream=True) as lazy:
                return list(lazy.iter_lines())
        with completions.with_streaming_response.create(**ASK) as lazy:
            body = lazy.parse().to_dict() if how == "lazy" else b"".join(lazy.iter_bytes())
            return (type(lazy), body)

    bare = use()
    captured = capture()
    assert use() == bare
    assert captured.call[semconv.INPUT_TOKENS] == 11
    assert "abandoned" not in captured.call.values()


def test_a_parse_that_fails_keeps_the_tokens_that_were_billed(
    here: OpenAIHere, capture: Any
) -> None:
    captured = capture()
    choice: dict[str, Any] = {**CHAT["choices"][0], "finish_reason": "length"}  # pyright: ignore
    here.answers.append(httpx2.Response(200, json={**CHAT, "choices": [choice]}))
    with pytest.raises(openai.LengthFinishReasonError):
        here.client().chat.completions.parse(**ASK)
    assert captured.call[semconv.INPUT_TOKENS] == 11
    assert captured.call[semconv.ERROR_TYPE] == "LengthFinishReasonError"
    assert captured.call[semconv.PRICE_STATUS] == "priced"


def test_installing_twice_makes_one_span(here: OpenAIHere, capture: Any) -> None:
    captured = capture()
    assert costspan.install() is captured.installation
    here.client().chat.completions.create(**ASK)
    assert len(captured.calls) == 1


def test_uninstalling_puts_the_methods_of_the_sdk_back(here: OpenAIHere, capture: Any) -> None:
    before = vars(openai._base_client.SyncAPIClient)["request"]  # pyright: ignore
    captured = capture()
    assert vars(openai._base_client.SyncAPIClient)["request"] is not before  # pyright: ignore
    captured.installation.uninstall()
    assert vars(openai._base_client.SyncAPIClient)["request"] is before  # pyright: ignore
    here.client().chat.completions.create(**ASK)
    assert not captured.spans


# Nothing leaves that should not.


@pytest.mark.parametrize("is_async", [False, True])
def test_no_trace_and_no_attribution_is_sent_to_openai(
    is_async: bool, here: OpenAIHere, capture: Any
) -> None:
    captured = capture()
    token = context.attach(baggage.set_baggage("of.the.app", "kept"))
    with costspan.attribute(team="search", user="alice"):
        if is_async:
            asyncio.run(here.async_client().chat.completions.create(**ASK))
        else:
            here.client().chat.completions.create(
                **ASK, extra_headers={"traceparent": "the app's own"}
            )
        assert baggage.get_baggage(semconv.TEAM) == "search"
    context.detach(token)

    headers = {name.lower(): value for name, value in here.requests[-1].headers.items()}
    assert headers.get("traceparent") == (None if is_async else "the app's own")
    assert "baggage" not in headers
    assert captured.call[semconv.TEAM] == "search"
    assert len(captured.spans) == 2


def test_no_prompt_answer_or_key_is_in_a_span(here: OpenAIHere, capture: Any) -> None:
    captured = capture()
    here.client().chat.completions.create(**ASK, user="alice")
    list(stream(here.client()))
    here.answers.append(httpx2.Response(401, json={"error": {"message": "bad key sk-the-key"}}))
    with pytest.raises(openai.AuthenticationError):
        here.client().chat.completions.create(**ASK)
    written = "".join(span.to_json() for span in captured.spans)
    for secret in ("secret", "sk-the-key", "alice"):
        assert secret not in written


def test_a_client_that_the_app_shares_is_traced_for_openai_only(
    here: OpenAIHere, capture: Any
) -> None:
    captured = capture()
    shared = httpx2.Client(transport=httpx2.MockTransport(here))
    openai.OpenAI(api_key="k", http_client=shared).chat.completions.create(**ASK)
    made = len(captured.spans)
    shared.post("http://elsewhere.example/", json={})
    assert len(captured.spans) == made == 2
    assert "traceparent" not in here.requests[-1].headers


@pytest.mark.parametrize("when", ["before", "after"])
def test_http_spans_of_the_app_are_not_doubled(when: str, here: OpenAIHere, capture: Any) -> None:
    from opentelemetry.instrumentation.httpx import HTTPX2ClientInstrumentor

    captured = capture()
    http = httpx2.Client(transport=httpx2.MockTransport(here))
    client = openai.OpenAI(api_key="k", http_client=http)
    if when == "after":
        client.chat.completions.create(**ASK)
    made = len(captured.spans)
    HTTPX2ClientInstrumentor.instrument_client(http, tracer_provider=captured.provider)
    client.chat.completions.create(**ASK)
    assert len(captured.spans) == made + 2


# A real socket, a real exit.


class Hang(BaseHTTPRequestHandler):
    """A collector that takes the request and never answers."""

    released = threading.Event()

    def do_POST(self) -> None:
        self.released.wait(60)


@pytest.mark.parametrize("collector", ["down", "hanging"])
def test_a_dead_collector_delays_the_exit_by_two_seconds_at_most(collector: str) -> None:
    Hang.released.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hang)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    port = server.server_address[1]
    if collector == "down":
        server.shutdown()
        server.server_close()
    script = """
import atexit, time
atexit.register(lambda: print("exit", time.perf_counter() - done))
import costspan.auto, httpx2, openai
answer = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": []}
http = httpx2.Client(transport=httpx2.MockTransport(lambda r: httpx2.Response(200, json=answer)))
print(openai.OpenAI(api_key="k", http_client=http).chat.completions.create(model="m", messages=[]).id)
done = time.perf_counter()
"""
    try:
        ended = subprocess.run(
            [sys.executable, "-c", script],
            env={"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        Hang.released.set()
        if collector == "hanging":
            server.shutdown()
            server.server_close()
        thread.join()
    assert ended.returncode == 0, ended.stderr
    first, exit_line = ended.stdout.split("\n")[:2]
    assert first == "x"
    assert float(exit_line.split()[1]) < 8.0  # two, and what a busy machine adds
    assert ended.stderr.splitlines() in (
        [],
        ["costspan: export_failed; the app is not affected"],
    )


def test_the_app_s_own_provider_is_used_and_left_as_it_is(here: OpenAIHere, capture: Any) -> None:
    captured = capture()
    processors = captured.provider._active_span_processor._span_processors
    tracer = captured.provider.get_tracer("app")
    with tracer.start_as_current_span("of the app") as parent:
        here.client().chat.completions.create(**ASK)
        assert trace.get_current_span() is parent
    (call,) = captured.calls
    assert call.parent.span_id == parent.get_span_context().span_id
    assert captured.provider._active_span_processor._span_processors == processors


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_leaves_the_calls_of_its_parent_alone(
    here: OpenAIHere, capture: Any
) -> None:
    captured = capture()
    events = stream(here.client())
    next(events)
    child = os.fork()
    if child == 0:
        events.close()
        os._exit(len(captured.spans) - 1)  # the HTTP attempt, and no call
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert [each.to_dict() for each in events]
    assert captured.call[semconv.STREAM_OUTCOME] == "completed"


def test_calls_in_many_threads_end_once_each(here: OpenAIHere, capture: Any) -> None:
    captured = capture()
    work: Callable[[], Any] = lambda: list(stream(here.client()))  # noqa: E731
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(captured.calls) == 8
    assert all(span.attributes[semconv.OUTPUT_TOKENS] == 3 for span in captured.calls)


def test_a_stream_that_is_not_sampled_is_not_asked_for_usage(here: OpenAIHere) -> None:
    before = counters().get("span_not_sampled", 0)
    installation = costspan.install(tracer_provider=TracerProvider(sampler=ALWAYS_OFF))
    try:
        assert [len(each.choices) for each in stream(here.client())] == [1, 1, 1]
    finally:
        installation.uninstall()
    assert b"include_usage" not in here.requests[0].content
    assert counters()["span_not_sampled"] == before + 1


def test_metrics_are_of_all_calls_sampled_or_not(here: OpenAIHere) -> None:
    reader = InMemoryMetricReader()
    meters = MeterProvider(metric_readers=[reader])
    installation = costspan.install(
        tracer_provider=TracerProvider(sampler=ALWAYS_OFF), meter_provider=meters
    )
    try:
        assert [len(each.choices) for each in stream(here.client())] == [1, 1, 1]
        collected: Any = reader.get_metrics_data()
        told = json.loads(collected.to_json())
    finally:
        installation.uninstall()
        meters.shutdown()
    (scope,) = told["resource_metrics"][0]["scope_metrics"]
    points = {each["name"]: each["data"]["data_points"] for each in scope["metrics"]}
    assert sorted(each["sum"] for each in points[semconv.METRIC_TOKENS]) == [3, 11]
    assert points[semconv.METRIC_COST][0]["value"] == pytest.approx(0.00000345)


def raw(client: Any, **options: Any) -> list[bytes]:
    """Return what the app sees that reads the bytes of an answer, piece by piece."""
    lazily = client.chat.completions.with_streaming_response
    with lazily.create(**ASK, **options) as answer:
        return list(answer.iter_bytes())


def test_bytes_of_a_stream_with_other_line_ends_are_not_held_back(
    here: OpenAIHere, capture: Any
) -> None:
    capture()
    asked, plain = (
        [event.replace(b"\n", b"\r\n") for event in chunks(usage=usage)] for usage in (True, False)
    )
    here.answers = [sse(Wire(asked))]
    assert raw(here.client(), stream=True) == plain


def test_bytes_without_an_end_are_not_held_back_for_ever(here: OpenAIHere, capture: Any) -> None:
    captured = capture()
    pieces = [b"data: " + bytes(2**19), bytes(2**19), b"more", b"\n\n"]
    here.answers = [sse(Wire(pieces))]
    assert b"".join(raw(here.client(), stream=True)) == b"".join(pieces)
    assert counters()["event_too_large"] == 1
    assert len(captured.calls) == 1


@pytest.mark.parametrize(
    "pieces",
    [
        [b'data: {"choices": [],\ndata: "usage": {}', b"}\n\ndata: [DONE]\n\n"],
        [b'data: {"choices"', b': [], "usage": nonsense}\n\n', b"data: [DONE]\n\n"],
    ],
)
def test_no_byte_is_lost_of_an_event_that_is_not_one_json_document(
    pieces: list[bytes], here: OpenAIHere, capture: Any
) -> None:
    capture()
    here.answers = [sse(Wire(pieces))]
    assert b"".join(raw(here.client(), stream=True)) == b"".join(pieces)


def test_a_packed_body_is_not_unpacked_without_bound(here: OpenAIHere, capture: Any) -> None:
    captured = capture()
    before = counters().get("body_too_large", 0)
    packed = gzip.compress(b'{"a": "' + bytes(40_000_000) + b'"}')
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    here.answers = [httpx2.Response(200, headers=headers, stream=httpx2.ByteStream(packed))]
    with here.client().chat.completions.with_streaming_response.create(**ASK) as answer:
        assert b"".join(answer.http_response.iter_raw()) == packed
    assert counters()["body_too_large"] == before + 1
    assert captured.call[semconv.PRICE_STATUS] == "missing_usage"


def test_an_error_of_another_library_is_the_error_of_the_call(capture: Any) -> None:
    class Refused(Exception):
        response: Any = {"Error": {"Code": "Throttled"}}  # noqa: RUF012

        @property
        def request(self) -> Any:
            raise RuntimeError

    def refuse(_: httpx2.Request) -> httpx2.Response:
        raise Refused

    captured = capture()
    http = httpx2.Client(transport=httpx2.MockTransport(refuse))
    with pytest.raises((Refused, openai.APIConnectionError)):
        openai.OpenAI(api_key="k", http_client=http, max_retries=0).responses.create(input="x")
    assert captured.call[semconv.ERROR_TYPE] in {"Refused", "APIConnectionError"}
    assert not captured.calls[0].status.is_ok


def test_a_call_that_the_app_s_own_time_limit_cut_off_may_have_been_billed(capture: Any) -> None:
    class TimeLimit(Exception):
        pass

    def too_long(_: httpx2.Request) -> httpx2.Response:
        raise TimeLimit

    captured = capture()
    http = httpx2.Client(transport=httpx2.MockTransport(too_long))
    client = openai.OpenAI(api_key="k", http_client=http, max_retries=0)
    with pytest.raises(TimeLimit):
        client.responses.create(model="gpt-4o-mini", input="x")
    assert captured.call[semconv.PRICE_STATUS] == "missing_usage"


def test_a_call_that_could_not_be_sent_is_not_billed(here: OpenAIHere, capture: Any) -> None:
    captured = capture()
    with pytest.raises(TypeError):
        here.client().responses.create(input="x", extra_body={"x": object()})
    assert semconv.PRICE_STATUS not in captured.call


def test_what_a_failed_attempt_held_goes_with_its_error(capture: Any) -> None:
    class Held:
        pass

    held: list[weakref.ref[Held]] = []

    def refuse(request: httpx2.Request) -> httpx2.Response:
        here = Held()
        held.append(weakref.ref(here))
        msg = "no"
        raise httpx2.ConnectError(msg, request=request)

    capture()
    http = httpx2.Client(transport=httpx2.MockTransport(refuse))
    client = openai.OpenAI(api_key="k", http_client=http, max_retries=0)
    gc.disable()
    try:
        with contextlib.suppress(openai.APIConnectionError):
            client.responses.create(input="x")
        assert [each() for each in held] == [None]
    finally:
        gc.enable()


def test_open_streams_can_be_ended_while_others_are_opened(here: OpenAIHere, capture: Any) -> None:
    captured = capture()
    opened: list[Any] = []
    faults: list[BaseException] = []
    done = threading.Event()

    def end() -> None:
        while not done.is_set():
            try:
                end_all()
            except RuntimeError as error:
                faults.append(error)

    ending = threading.Thread(target=end)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    ending.start()
    try:
        client = here.client()
        opened.extend(stream(client) for _ in range(150))
    finally:
        done.set()
        ending.join()
        sys.setswitchinterval(interval)
    end_all()
    assert not faults
    assert len(captured.calls) == len(opened)


def test_uninstalling_never_raises(here: OpenAIHere) -> None:
    class Broken(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:  # noqa: ARG002
            return SpanExportResult.SUCCESS

        def shutdown(self) -> None:
            raise OSError

    installation = costspan.install(span_exporter=Broken())
    here.client().chat.completions.create(**ASK)
    installation.uninstall()
    assert counters()["uninstall_failed"] == 1
    assert not hasattr(openai.OpenAI.request, "__wrapped__")


def test_hooks_that_another_library_wrapped_are_not_put_in_twice(
    here: OpenAIHere, capture: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    capture()
    ours: Callable[..., None] = vars(openai.Stream)["__init__"]

    def theirs(*args: Any, **kwargs: Any) -> None:
        ours(*args, **kwargs)

    monkeypatch.setattr(openai.Stream, "__init__", functools.wraps(ours)(theirs))
    captured = capture(http_spans=False)  # in place of the one before
    assert len(list(stream(here.client()))) == 3
    assert captured.call[semconv.STREAM_CHUNKS] == 3


def test_a_stream_class_of_the_app_may_iterate_over_anything(
    here: OpenAIHere, capture: Any
) -> None:
    class Numbers(openai.Stream[Any]):
        def __stream__(self) -> Iterator[Any]:
            return iter([1, 2, 3])

    captured = capture()
    body = {**ASK, "stream": True}
    numbers = here.client().post(
        "/chat/completions", body=body, cast_to=dict, stream=True, stream_cls=Numbers
    )
    assert next(numbers) == 1
    del numbers
    gc.collect()
    assert captured.call[semconv.STREAM_OUTCOME] == "abandoned"
