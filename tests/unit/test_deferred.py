"""Work that is billed when it is done is a call of its own, the same one whoever reads it."""

import asyncio
import gzip
import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import httpx2
import openai
import pytest
import yaml
from opentelemetry.trace import NoOpTracerProvider, TracerProvider, get_tracer

import costspan
from costspan import semconv
from costspan.capture import background, batch_output, deferred
from costspan.counters import counters

CREATED = 1_748_779_200
"""2025-06-01, 12:00 UTC"""


def new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what this process has read."""
    for name in ("_submitted", "_batch_of_file", "_settled"):
        monkeypatch.setattr(deferred, name, deferred._Recent[Any]())


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    new_process(monkeypatch)


class Api:
    """Answers by path; an answer may be one of several, given in turn."""

    def __init__(self, host: str = "https://api.openai.com/v1", status: int = 200) -> None:
        self.host = host
        self.status = status
        self.answers: dict[str, list[tuple[dict[str, str], bytes]]] = {}

    def on(self, path: str, *bodies: Any, **headers: str) -> "Api":
        """Answer to `path` with these bodies, the last one for ever."""
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers[path] = [
            (kind | more, content) for kind, content in map(kind_and_content, bodies)
        ]
        return self

    def content(self, request: httpx2.Request) -> tuple[dict[str, str], bytes]:
        waiting = self.answers[f"{request.method} {request.url.path.removeprefix('/v1')}"]
        return waiting.pop(0) if len(waiting) > 1 else waiting[0]

    @property
    def sync(self) -> Any:
        def handle(request: httpx2.Request) -> httpx2.Response:
            headers, content = self.content(request)
            return httpx2.Response(self.status, headers=headers, content=chunks(content))

        made = httpx2.Client(transport=httpx2.MockTransport(handle))
        return openai.OpenAI(api_key="sk-a", base_url=self.host, http_client=made, max_retries=0)

    @property
    def asynchronous(self) -> Any:
        async def handle(request: httpx2.Request) -> httpx2.Response:
            headers, content = self.content(request)
            return httpx2.Response(self.status, headers=headers, content=content)

        made = httpx2.AsyncClient(transport=httpx2.MockTransport(handle))
        return openai.AsyncOpenAI(api_key="sk-a", http_client=made, max_retries=0)


def kind_and_content(body: Any) -> tuple[dict[str, str], bytes]:
    if isinstance(body, bytes):
        return {"content-type": "application/octet-stream"}, body
    if isinstance(body, list):
        return {"content-type": "text/event-stream"}, b"".join(cast("list[bytes]", body))
    return {"content-type": "application/json"}, json.dumps(body).encode()


def chunks(content: bytes) -> Iterator[bytes]:
    yield from (content[start : start + 100] for start in range(0, len(content), 100))


def event(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


def completion(number: int = 1, **fields: Any) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion",
        "created": CREATED,
        "model": "gpt-4o-mini-2024-07-18",
        "service_tier": "default",
        "choices": [{"index": 0, "message": {"content": "secret"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1117, "completion_tokens": 211, "total_tokens": 1328},
        **fields,
    }


def line(number: int = 1, body: Any = None, status: int = 200, **fields: Any) -> bytes:
    response = {
        "status_code": status,
        "request_id": f"req-{number}",
        "body": completion(number) if body is None else body,
    }
    told = {"id": f"batch_req_{number}", "custom_id": "c", "response": response, "error": None}
    return json.dumps(told | fields).encode() + b"\n"


def output(body: bytes, **headers: str) -> Api:
    return Api().on("GET /files/file-1/content", body, **headers)


def settled(captured: Any) -> list[Any]:
    """The spans of the work itself."""
    return [span for span in captured.calls if span.links]


def attributes(captured: Any) -> dict[str, Any]:
    (span,) = settled(captured)
    return dict(span.attributes)


BATCH_COST = {
    semconv.COST_USD: "0.000147075",
    semconv.COST_PART + "input": 83_775_000,
    semconv.COST_PART + "output": 63_300_000,
    semconv.PRICE_PATH: "gpt-4o-mini/batch/short",
    semconv.PRICE_STATUS: "priced",
}
"""1117 tokens at $0.075 and 211 at $0.30 a million, half of what the same call costs at once."""


def lines_of(stream: Any) -> list[str]:
    with stream as response:
        return list(response.iter_lines())


def written(response: Any, folder: Path) -> str:
    response.write_to_file(folder / "out.jsonl")
    return (folder / "out.jsonl").read_text()


def streamed_to_file(stream: Any, folder: Path) -> str:
    with stream as response:
        response.stream_to_file(folder / "out.jsonl")
    return (folder / "out.jsonl").read_text()


def text_of(stream: Any) -> str:
    with stream as response:
        return response.read().decode()


Reader = Callable[[Any, Path], str]
READERS: dict[str, Reader] = {
    "text": lambda made, _: made.files.content("file-1").text,
    "content": lambda made, _: made.files.content("file-1").content.decode(),
    "read": lambda made, _: made.files.content("file-1").read().decode(),
    "iter_lines": lambda made, _: "\n".join(made.files.content("file-1").iter_lines()) + "\n",
    "write_to_file": lambda made, folder: written(made.files.content("file-1"), folder),
    "raw": lambda made, _: made.files.with_raw_response.content("file-1").text,
    "raw parsed": lambda made, _: made.files.with_raw_response.content("file-1").parse().text,
    "streaming read": lambda made, _: text_of(made.files.with_streaming_response.content("file-1")),
    "streaming lines": lambda made, _: (
        "\n".join(lines_of(made.files.with_streaming_response.content("file-1"))) + "\n"
    ),
    "streaming to file": lambda made, folder: streamed_to_file(
        made.files.with_streaming_response.content("file-1"), folder
    ),
}


@pytest.mark.parametrize("reads", READERS.values(), ids=READERS.keys())
def test_each_line_of_a_batch_is_a_call_at_half_the_price_however_it_is_read(
    reads: Reader, capture: Any, tmp_path: Path
) -> None:
    body = line(1) + line(2) + line(3)
    assert reads(output(body).sync, tmp_path) == body.decode()
    captured = capture()
    assert reads(output(body).sync, tmp_path) == body.decode()
    spans = settled(captured)
    assert [span.attributes[semconv.RESPONSE_ID] for span in spans] == [
        "chatcmpl-1",
        "chatcmpl-2",
        "chatcmpl-3",
    ]
    for span in spans:
        told = dict(span.attributes)
        assert {name: told[name] for name in BATCH_COST} == BATCH_COST
    (read,) = [span for span in captured.calls if not span.links]
    assert read.name == "files.content.get"
    assert read.attributes[semconv.PRICE_STATUS] == "not_billed"


def test_an_async_app_reads_a_batch_alike(capture: Any) -> None:
    captured = capture()
    body = line(1) + line(2)

    async def read() -> list[bytes]:
        made = output(body).asynchronous
        whole = (await made.files.content("file-1")).content
        async with made.files.with_streaming_response.content("file-1") as response:
            return [whole, await response.read()]

    assert asyncio.run(read()) == [body, body]
    assert len(settled(captured)) == 4
    assert len({span.context.span_id for span in settled(captured)}) == 2


def test_a_line_tells_all_that_a_direct_call_tells(capture: Any) -> None:
    captured = capture()
    api = output(line(), openai_organization="acme", openai_project="proj_1")
    with costspan.attribute(team="ml", feature="nightly"):
        api.sync.files.content("file-1")
    (span,) = settled(captured)
    told = dict(span.attributes)
    assert len(told.pop(semconv.PRICE_BOOK)) == 16
    assert told == {
        semconv.OPERATION: "chat",
        semconv.API_TYPE: "chat_completions",
        semconv.PROVIDER: "openai",
        semconv.SERVER_ADDRESS: "api.openai.com",
        semconv.SERVER_PORT: 443,
        semconv.ORGANIZATION: "acme",
        semconv.PROJECT: "proj_1",
        semconv.KEY_FINGERPRINT: hashlib.sha256(b"sk-a").hexdigest()[:16],
        semconv.TEAM: "ml",
        semconv.FEATURE: "nightly",
        semconv.RESPONSE_MODEL: "gpt-4o-mini-2024-07-18",
        semconv.RESPONSE_ID: "chatcmpl-1",
        semconv.RESPONSE_TIER: "batch",
        semconv.REQUEST_ID: "req-1",
        semconv.FINISH_REASONS: ("stop",),
        semconv.INPUT_TOKENS: 1117,
        semconv.OUTPUT_TOKENS: 211,
        **BATCH_COST,
    }
    assert span.name == "chat gpt-4o-mini-2024-07-18"
    assert span.kind.name == "CLIENT"
    assert span.parent is None
    assert span.start_time == span.end_time == CREATED * 10**9
    (read,) = [each for each in captured.calls if not each.links]
    assert [link.context for link in span.links] == [read.context]
    assert "secret" not in span.to_json()


def test_the_ids_are_made_of_the_host_and_the_work_alone(capture: Any) -> None:
    captured = capture()
    output(line()).sync.files.content("file-1")
    (span,) = settled(captured)
    digest = hashlib.sha256(b"api.openai.com batch_req_1").hexdigest()
    assert f"{span.context.trace_id:032x}{span.context.span_id:016x}" == digest[:48]


def test_a_batch_carries_its_id_and_who_submitted_it(capture: Any) -> None:
    captured = capture()
    batch = {"id": "batch_1", "object": "batch", "status": "validating", "metadata": {"a": "b"}}
    api = output(line())
    api.on("POST /batches", batch)
    api.on("GET /batches/batch_1", batch | {"status": "completed", "output_file_id": "file-1"})
    made = api.sync
    with costspan.attribute(team="submitters"):
        made.batches.create(
            input_file_id="file-0", endpoint="/v1/chat/completions", completion_window="24h"
        )
    with costspan.attribute(team="readers", feature="polling"):
        made.batches.retrieve("batch_1")
        made.files.content("file-1")
    told = attributes(captured)
    assert told[semconv.BATCH] == "batch_1"
    assert told[semconv.TEAM] == "submitters"
    assert semconv.FEATURE not in told
    statuses = [
        (span.name, span.attributes[semconv.PRICE_STATUS])
        for span in captured.calls
        if not span.links
    ]
    assert statuses == [
        ("batches", "deferred"),
        ("batches.get", "not_billed"),
        ("files.content.get", "not_billed"),
    ]


EMBEDDING: dict[str, Any] = {
    "object": "list",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.1]}],
    "model": "text-embedding-3-small",
    "usage": {"prompt_tokens": 930, "total_tokens": 930},
}
RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "created_at": CREATED,
    "completed_at": CREATED + 60,
    "model": "gpt-4o-mini-2024-07-18",
    "status": "completed",
    "background": False,
    "output": [],
    "service_tier": "default",
    "usage": {"input_tokens": 1117, "output_tokens": 211, "total_tokens": 1328},
}


@pytest.mark.parametrize(
    ("body", "operation", "api_type", "status"),
    [
        (RESPONSE, "chat", "responses", "priced"),
        (completion(object="text_completion"), "text_completion", "completions", "priced"),
        (EMBEDDING, "embeddings", "embeddings", "priced"),
        ({"created": CREATED, "data": []}, "images.generations", "images", "unknown_model"),
        (
            {"id": "modr-1", "model": "omni-moderation-latest", "results": []},
            "moderations",
            "moderations",
            "priced",
        ),
        (completion(object="video"), "video", "batches", "priced"),
        (completion(usage=None), "chat", "chat_completions", "missing_usage"),
        (completion(usage={"prompt_tokens": -1}), "chat", "chat_completions", "invalid_usage"),
        (completion(model="gpt-99"), "chat", "chat_completions", "unknown_model"),
    ],
)
def test_a_line_is_named_and_priced_by_its_body(
    body: dict[str, Any], operation: str, api_type: str, status: str, capture: Any
) -> None:
    captured = capture()
    output(line(1, body)).sync.files.content("file-1")
    told = attributes(captured)
    assert (told[semconv.OPERATION], told[semconv.API_TYPE]) == (operation, api_type)
    assert told[semconv.PRICE_STATUS] == status
    assert (semconv.COST_USD in told) == (told[semconv.PRICE_STATUS] == "priced")


def test_an_embedding_began_when_its_id_says(capture: Any) -> None:
    captured = capture()
    body = line(1, EMBEDDING, id="batch_req_67b613c5e9188190932e345eb13da6d1")
    output(body).sync.files.content("file-1")
    (span,) = settled(captured)
    assert span.start_time == 0x67B613C5 * 10**9  # 2025-02-19, 17:24 UTC


def test_work_of_no_told_time_began_on_the_day_it_is_read(capture: Any) -> None:
    captured = capture()
    for created in (None, 1, True, 1e300, float("nan"), "now"):
        output(line(1, completion(created=created))).sync.files.content("file-1")
    spans = settled(captured)
    assert len(spans) == 6
    assert {span.start_time % (86_400 * 10**9) for span in spans} == {0}
    reads = [span.start_time for span in captured.calls if not span.links]
    assert all(0 <= min(reads) - span.start_time < 2 * 86_400 * 10**9 for span in spans)


@pytest.mark.parametrize(
    "body",
    [
        line(1, {"error": {"code": "bad"}}, status=400) + line(2, {}, status=429),
        line(1, response=None, error={"code": "batch_expired", "message": "late"}),
        b'{"custom_id": "c", "method": "POST", "url": "/v1/responses", "body": {}}\n' * 3,
        b'{"messages": [{"role": "user", "content": "fine-tuning data"}]}\n' * 50,
        b"\x89PNG" + bytes(300_000),
        b"",
    ],
    ids=["refused", "expired", "input", "training", "image", "empty"],
)
def test_what_is_not_billed_is_no_call(body: bytes, capture: Any) -> None:
    captured = capture()
    before = counters()
    made = output(body).sync
    assert made.files.content("file-1").content == body
    with made.files.with_streaming_response.content("file-1") as response:
        assert response.read() == body
    assert settled(captured) == []
    assert counters() == before


def test_azure_gives_lines_no_id_of_their_own(capture: Any) -> None:
    captured = capture(priced_hosts=("*",))
    told = json.loads(line(7))
    body = json.dumps({name: told[name] for name in ("custom_id", "response", "error")}).encode()
    output(body).sync.files.content("file-1")
    (span,) = settled(captured)
    digest = hashlib.sha256(b"api.openai.com chatcmpl-7").hexdigest()
    assert f"{span.context.trace_id:032x}" == digest[:32]


def test_a_compressed_file_is_read_as_it_passes(capture: Any) -> None:
    captured = capture()
    body = b"".join(line(number) for number in range(50))
    made = output(gzip.compress(body), content_encoding="gzip").sync
    with made.files.with_streaming_response.content("file-1") as response:
        assert b"".join(response.iter_bytes(1000)) == body
    assert len(settled(captured)) == 50


def test_a_file_read_half_gives_the_lines_that_were_read(capture: Any) -> None:
    captured = capture()
    made = output(line(1) + line(2) + line(3)).sync
    with made.files.with_streaming_response.content("file-1") as response:
        assert next(response.iter_lines()) == line(1).decode().strip()
    ids = [span.attributes[semconv.RESPONSE_ID] for span in settled(captured)]
    assert ids[:1] == ["chatcmpl-1"]
    assert len(ids) < 3


def hostile() -> dict[str, tuple[bytes, str]]:
    good = line(2)
    return {
        "broken JSON": (good + b'{"id": "batch_req_3", "resp\n' + line(4), "batch_line_unread"),
        "deep JSON": (
            good + b'{"id": "batch_req_3", "response": ' + b"[" * 100_000 + b"\n" + line(4),
            "batch_line_unread",
        ),
        "other line": (good + b"<html>\n" + line(4), "batch_line_unread"),
        "body a text": (good + line(3, "secret") + line(4), "batch_line_unread"),
        "not UTF-8": (good + b'{"id": "batch_req_\xff\xfe"}\n' + line(4), "batch_line_unread"),
    }


@pytest.mark.parametrize("kind", hostile())
def test_a_hostile_line_is_counted_and_the_others_stay(kind: str, capture: Any) -> None:
    captured = capture()
    body, reason = hostile()[kind]
    before = counters().get(reason, 0)
    assert output(body).sync.files.content("file-1").content == body
    ids = [span.attributes[semconv.RESPONSE_ID] for span in settled(captured)]
    assert ids == ["chatcmpl-2", "chatcmpl-4"]
    assert counters()[reason] == before + 1


@pytest.mark.parametrize(
    "body",
    [
        completion(
            id=7, object=["x"], model={"a": 1}, service_tier=3, choices=[None, 5], created=[]
        ),
        completion(id="\ud800", model="m" * 5000, choices={"a": "b"}, usage=[]),
        {"object": "response", "status": ["x"], "incomplete_details": 4, "usage": 9},
        {"object": "response", "status": "failed", "error": "x", "last_error": 4},
    ],
)
def test_a_hostile_body_is_a_call_without_a_price(body: dict[str, Any], capture: Any) -> None:
    captured = capture()
    output(line(1, body)).sync.files.content("file-1")
    assert semconv.COST_USD not in attributes(captured)


def test_what_is_no_gzip_and_what_nobody_can_decode_is_counted(capture: Any) -> None:
    captured = capture()
    before = counters()
    for encoding in ("gzip", "br"):
        made = output(line(), content_encoding=encoding).sync
        with made.files.with_streaming_response.content("file-1") as response:
            assert b"".join(response.http_response.iter_raw()) == line()
    assert settled(captured) == []
    for reason in ("batch_unread", "batch_encoding_unknown"):
        assert counters()[reason] == before.get(reason, 0) + 1


def test_what_waits_is_bounded_and_what_is_dropped_is_counted(
    capture: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    captured = capture()
    monkeypatch.setattr(batch_output._background, "most", 0)
    before = counters().get("batch_dropped", 0)
    body = b"".join(map(line, range(500)))
    assert output(body).sync.files.content("file-1").content == body
    assert settled(captured) == []
    assert counters()["batch_dropped"] == before + 1


def test_a_line_without_end_is_given_up(capture: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    captured = capture()
    monkeypatch.setattr(batch_output, "_LONGEST_LINE", 100_000)
    before = counters().get("batch_line_too_long", 0)
    output(line(1) + line(2)[:-1] + b"x" * 300_000 + b"\n").sync.files.content("file-1")
    assert len(settled(captured)) == 1
    assert counters()["batch_line_too_long"] == before + 1


def test_a_large_output_is_parsed_on_another_thread_and_flushed_as_it_fills(
    capture: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    captured = capture()
    threads: set[str] = set()
    flushes: list[int] = []
    parse = batch_output.BatchOutput.parse

    def parsed(self: Any, piece: Any) -> Iterator[None]:
        threads.add(threading.current_thread().name)
        yield from parse(self, piece)

    monkeypatch.setattr(batch_output.BatchOutput, "parse", parsed)
    flush = captured.provider.force_flush
    monkeypatch.setattr(
        captured.provider, "force_flush", lambda ms=0: flushes.append(ms) or flush(ms)
    )
    output(b"".join(map(line, range(1100)))).sync.files.content("file-1")
    assert background.drain(20)
    assert flushes == [10_000, 10_000]
    assert threads == {"costspan-batch"}
    assert len(settled(captured)) == 1100


def test_a_child_process_leaves_what_waits_to_its_parent(capture: Any) -> None:
    captured = capture()
    output(line()).sync.files.content("file-1")
    assert len(settled(captured)) == 1
    receiving, sending = os.pipe()
    child = os.fork()
    if not child:
        output(line(2)).sync.files.content("file-1")
        drained = background.drain(10)
        os.write(sending, b"%d %d" % (drained, len(settled(captured))))
        os._exit(0)
    os.waitpid(child, 0)
    told = os.read(receiving, 100)
    os.close(receiving)
    os.close(sending)
    assert told == b"1 2"


# Background responses.

QUEUED: dict[str, Any] = RESPONSE | {
    "background": True,
    "status": "queued",
    "usage": None,
    "completed_at": None,
}
DONE: dict[str, Any] = RESPONSE | {"background": True}


def test_a_background_response_polled_five_times_is_one_call(capture: Any) -> None:
    captured = capture()
    api = Api().on("POST /responses", QUEUED)
    api.on("GET /responses/resp_1", QUEUED, QUEUED | {"status": "in_progress"}, DONE)
    made = api.sync
    with costspan.attribute(feature="research"):
        made.responses.create(model="gpt-4o-mini", input="x", background=True)
    polls = [made.responses.retrieve("resp_1").status for _ in range(5)]
    assert polls == ["queued", "in_progress", "completed", "completed", "completed"]
    (span,) = settled(captured)
    told = dict(span.attributes)
    assert told[semconv.COST_USD] == "0.00029415"  # 1117 at $0.15, 211 at $0.60 a million
    assert told[semconv.API_TYPE] == "responses"
    assert told[semconv.FEATURE] == "research"
    assert told[semconv.FINISH_REASONS] == ("completed",)
    assert told[semconv.RESPONSE_TIER] == "default"
    assert (span.start_time, span.end_time) == (CREATED * 10**9, (CREATED + 60) * 10**9)
    submitted, *reads = [dict(each.attributes) for each in captured.calls if not each.links]
    assert submitted[semconv.PRICE_STATUS] == "deferred"
    assert submitted[semconv.RESPONSE_ID] == "resp_1"
    assert [read[semconv.PRICE_STATUS] for read in reads] == ["not_billed"] * 5
    assert all(semconv.INPUT_TOKENS not in each for each in (submitted, *reads))


def test_another_process_that_reads_makes_the_same_call(
    capture: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    captured = capture()
    api = Api().on("GET /responses/resp_1", DONE)
    api.sync.responses.retrieve("resp_1")
    new_process(monkeypatch)
    api.sync.responses.retrieve("resp_1")
    first, second = settled(captured)
    assert first.context == second.context
    assert first.start_time == second.start_time
    assert dict(first.attributes) == dict(second.attributes)


def test_the_same_id_at_another_host_is_another_call(capture: Any) -> None:
    captured = capture()
    for host in ("https://api.openai.com/v1", "https://eu.api.openai.com/v1"):
        output(line()).sync.files.content("file-1")
        api = Api(host).on("GET /files/file-1/content", line())
        api.sync.files.content("file-1")
    assert len({span.context.trace_id for span in settled(captured)}) == 2


@pytest.mark.parametrize("background", [False, None])
def test_a_response_that_was_awaited_is_not_billed_again_when_read(
    background: bool | None, capture: Any
) -> None:
    captured = capture()
    api = Api().on("GET /responses/resp_1", RESPONSE | {"background": background})
    api.sync.responses.retrieve("resp_1")
    assert settled(captured) == []


@pytest.mark.parametrize("status", ["incomplete", "failed", "cancelled"])
def test_every_end_is_an_end(status: str, capture: Any) -> None:
    captured = capture()
    ended = DONE | {
        "status": status,
        "error": {"code": "server_error", "message": "secret"} if status == "failed" else None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
    }
    Api().on("POST /responses/resp_1/cancel", ended).sync.responses.cancel("resp_1")
    (span,) = settled(captured)
    told = dict(span.attributes)
    assert told[semconv.COST_USD] == "0.00029415"
    reason = {"incomplete": "max_output_tokens"}.get(status, status)
    assert told[semconv.FINISH_REASONS] == (reason,)
    assert told.get(semconv.ERROR_TYPE) == ("server_error" if status == "failed" else None)
    assert span.status.is_ok is (status != "failed")
    assert "secret" not in span.to_json()


def test_an_end_without_usage_has_no_price_and_one_with_usage_replaces_it(capture: Any) -> None:
    captured = capture()
    cancelled = DONE | {"status": "cancelled", "usage": None}
    api = Api().on("GET /responses/resp_1", cancelled, DONE | {"status": "cancelled"})
    for _ in range(3):
        api.sync.responses.retrieve("resp_1")
    first, second = settled(captured)
    assert first.attributes[semconv.PRICE_STATUS] == "missing_usage"
    assert second.attributes[semconv.PRICE_STATUS] == "priced"
    assert first.context == second.context


STREAM = [
    event("response.created", {"type": "response.created", "response": QUEUED}),
    event("response.output_text.delta", {"type": "response.output_text.delta", "delta": "x"}),
    event("response.completed", {"type": "response.completed", "response": DONE}),
]


def test_a_stream_of_a_background_response_settles_it_and_reading_it_again_does_not(
    capture: Any,
) -> None:
    captured = capture()
    api = Api().on("POST /responses", STREAM).on("GET /responses/resp_1", STREAM)
    made = api.sync
    first = made.responses.create(model="gpt-4o-mini", input="x", background=True, stream=True)
    second = made.responses.retrieve("resp_1", stream=True)
    for stream in (first, second):
        assert [each.type for each in stream] == [
            "response.created",
            "response.output_text.delta",
            "response.completed",
        ]
    assert attributes(captured)[semconv.COST_USD] == "0.00029415"
    statuses = [span.attributes[semconv.PRICE_STATUS] for span in captured.calls if not span.links]
    assert statuses == ["deferred", "not_billed"]


@pytest.mark.parametrize("how", ["raw", "raw unparsed", "streaming", "streaming bytes"])
def test_a_raw_reader_settles_too(how: str, capture: Any) -> None:
    captured = capture()
    made = Api().on("GET /responses/resp_1", DONE).sync
    if how.startswith("raw"):
        response = made.responses.with_raw_response.retrieve("resp_1")
        if how == "raw":
            assert response.parse().id == "resp_1"
    else:
        with made.responses.with_streaming_response.retrieve("resp_1") as streamed:
            if how == "streaming":
                assert streamed.parse().id == "resp_1"
            else:
                assert json.loads(streamed.read()) == DONE
    assert attributes(captured)[semconv.COST_USD] == "0.00029415"


def test_a_refused_submission_is_not_billed_at_all(capture: Any) -> None:
    captured = capture()
    api = Api(status=400).on("POST /responses", {"error": {"message": "no", "code": "bad"}})
    with pytest.raises(openai.BadRequestError):
        api.sync.responses.create(model="gpt-4o-mini", input="x", background=True)
    assert semconv.PRICE_STATUS not in captured.call


# Runs of assistants.

RUN: dict[str, Any] = {
    "id": "run_1",
    "object": "thread.run",
    "created_at": CREATED,
    "thread_id": "thread_1",
    "assistant_id": "asst_1",
    "status": "queued",
    "model": "gpt-4o-mini",
    "usage": None,
}
RAN: dict[str, Any] = RUN | {
    "status": "completed",
    "completed_at": CREATED + 8,
    "usage": {
        "prompt_tokens": 381,
        "completion_tokens": 88,
        "total_tokens": 469,
        "prompt_token_details": {"cached_tokens": 0},
    },
}
RUN_COST = "0.00010995"
"""381 at $0.15 and 88 at $0.60 a million."""


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_polled_run_is_one_call(capture: Any) -> None:
    captured = capture()
    api = Api().on("POST /threads/thread_1/runs", RUN)
    api.on("GET /threads/thread_1/runs/run_1", RUN | {"status": "in_progress"}, RAN)
    made = api.sync
    run = made.beta.threads.runs.create_and_poll(
        thread_id="thread_1", assistant_id="asst_1", poll_interval_ms=1
    )
    made.beta.threads.runs.retrieve("run_1", thread_id="thread_1")
    assert run.status == "completed"
    told = attributes(captured)
    assert told[semconv.COST_USD] == RUN_COST
    assert told[semconv.API_TYPE] == "assistants"
    assert told[semconv.RESPONSE_ID] == "run_1"
    statuses = [span.attributes[semconv.PRICE_STATUS] for span in captured.calls if not span.links]
    assert statuses == ["deferred", "not_billed", "not_billed", "not_billed"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("changes", "reason", "error"),
    [
        ({}, "completed", None),
        ({"status": "expired"}, "expired", None),
        ({"incomplete_details": {"reason": "max_prompt_tokens"}}, "max_prompt_tokens", None),
        ({"status": "failed", "last_error": {"code": "server_error"}}, "failed", "server_error"),
    ],
)
def test_a_run_tells_how_it_ended(
    changes: dict[str, Any], reason: str, error: str | None, capture: Any
) -> None:
    captured = capture()
    api = Api().on("GET /threads/thread_1/runs/run_1", RAN | changes)
    api.sync.beta.threads.runs.retrieve("run_1", thread_id="thread_1")
    told = attributes(captured)
    assert told[semconv.FINISH_REASONS] == (reason,)
    assert told.get(semconv.ERROR_TYPE) == error
    assert told[semconv.COST_USD] == RUN_COST
    (read,) = [span for span in captured.calls if not span.links]
    assert read.status.is_ok


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_streamed_run_is_one_call(capture: Any) -> None:
    captured = capture()
    events = [
        event("thread.run.created", RUN),
        event("thread.run.in_progress", RUN | {"status": "in_progress"}),
        event("thread.run.step.completed", {"object": "thread.run.step", "usage": RAN["usage"]}),
        event("thread.run.completed", RAN),
        b"event: done\ndata: [DONE]\n\n",
    ]
    made = Api().on("POST /threads/thread_1/runs", events).sync
    with made.beta.threads.runs.stream(thread_id="thread_1", assistant_id="asst_1") as stream:
        stream.until_done()
    assert attributes(captured)[semconv.COST_USD] == RUN_COST
    (submitted,) = [dict(span.attributes) for span in captured.calls if not span.links]
    assert submitted[semconv.PRICE_STATUS] == "deferred"
    assert semconv.INPUT_TOKENS not in submitted


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_recorded_run_is_priced_at_its_end(capture: Any, data: Path) -> None:
    folder = data / "cassettes" / "openllmetry" / "test_assistant"
    recorded = (folder / "test_streaming_new_assistant.yaml").read_text(encoding="utf-8")
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    bodies = [
        item["response"]["body"]["string"]
        for item in yaml.load(recorded, loader)["interactions"]  # noqa: S506
    ]
    (stream,) = [body for body in bodies if "thread.run.completed" in str(body)]
    captured = capture()
    made = Api().on("POST /threads/thread_1/runs", [stream.encode()]).sync
    events = made.beta.threads.runs.create("thread_1", assistant_id="asst_1", stream=True)
    assert "thread.run.completed" in [each.event for each in events]
    (span,) = settled(captured)
    told = dict(span.attributes)
    assert (told[semconv.INPUT_TOKENS], told[semconv.OUTPUT_TOKENS]) == (381, 88)
    assert told[semconv.COST_USD] == RUN_COST
    assert (span.end_time - span.start_time) / 10**9 == 8


# Bounds and foreign parts.


def test_what_is_remembered_is_bounded() -> None:
    recent = deferred._Recent[int](most=3)
    for number in range(10):
        recent.put(str(number), number)
    assert [recent.get(str(number)) for number in range(10)] == [None] * 7 + [7, 8, 9]


class Foreign(TracerProvider):
    """A provider that is not OpenTelemetry's own SDK."""

    def get_tracer(self, *args: Any, **kwargs: Any) -> Any:
        return NoOpTracerProvider().get_tracer(*args, **kwargs)


def read(provider: TracerProvider) -> deferred.Read:
    context = get_tracer("test").start_span("x").get_span_context()
    return deferred.Read(provider, context, CREATED * 10**9, True, False, {})


def test_a_provider_that_takes_no_ids_is_counted() -> None:
    before = counters().get("settlement_impossible", 0)
    deferred.saw(DONE, read(Foreign()))
    assert counters()["settlement_impossible"] == before + 1


def test_a_broken_provider_is_counted() -> None:
    class Broken(TracerProvider):
        def get_tracer(self, *_: Any, **__: Any) -> Any:
            raise ValueError

    before = counters().get("settlement_failed", 0)
    deferred.saw(DONE, read(Broken()))
    assert counters()["settlement_failed"] == before + 1


@pytest.mark.parametrize("strange", [[], {}, 7, None, "x" * 10_000])
def test_a_strange_answer_is_no_work_and_does_no_harm(strange: Any, capture: Any) -> None:
    captured = capture()
    before = counters()
    for body in (DONE | {"object": strange}, DONE | {"status": strange}, {"response": strange}):
        api = Api().on("GET /responses/resp_1", body)
        api.sync.responses.with_raw_response.retrieve("resp_1").parse()
    assert settled(captured) == []
    assert counters() == before


def test_work_without_an_id_is_counted() -> None:
    before = counters().get("settlement_without_id", 0)
    deferred.saw(DONE | {"id": None}, read(Foreign()))
    assert counters()["settlement_without_id"] == before + 1
