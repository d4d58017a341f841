"""A span of our own provider is, when it is exported, what the SDK's own would have been."""

import json
from collections.abc import Sequence
from typing import Any

import httpx2
import openai
import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

import costspan
from costspan.counters import counters
from costspan.tracing import CallSpan, OwnProvider

ASKED: Any = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}]}
ANSWER: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o-mini-2024-07-18",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16},
}
EVENT: dict[str, Any] = {**ANSWER, "object": "chat.completion.chunk", "choices": []}


def answer(request: httpx2.Request) -> httpx2.Response:
    if b"refuse" in request.content:
        return httpx2.Response(429, json={"error": {"message": "slow down", "code": "limit"}})
    if b'"stream":true' in request.content:
        headers = {"content-type": "text/event-stream"}
        events = f"data: {json.dumps(EVENT)}\n\ndata: [DONE]\n\n"
        return httpx2.Response(200, headers=headers, content=events)
    if b"unpriced" in request.content:
        return httpx2.Response(200, json={**ANSWER, "model": "unheard-of"})
    if b"silent" in request.content:
        return httpx2.Response(200, json={n: v for n, v in ANSWER.items() if n != "usage"})
    return httpx2.Response(200, headers={"x-request-id": "req_1"}, json=ANSWER)


def calls() -> None:
    """Every way a span is written: priced, unpriced, without usage, streamed, refused."""
    http = httpx2.Client(transport=httpx2.MockTransport(answer))
    client: Any = openai.OpenAI(api_key="sk-0123456789abcdef", http_client=http, max_retries=0)
    create = client.chat.completions.create
    with costspan.attribute(team="search", feature="answers"):
        create(**ASKED)
    create(**ASKED, user="unpriced")
    create(**ASKED, user="silent")
    list(create(**ASKED, stream=True))
    with pytest.raises(openai.RateLimitError):
        create(**ASKED, user="refuse")
    parent = trace.NonRecordingSpan(
        trace.SpanContext(5, 7, is_remote=True, trace_flags=trace.TraceFlags(1))
    )
    with trace.use_span(parent):
        create(**ASKED)


def told(spans: Sequence[ReadableSpan]) -> list[dict[str, Any]]:
    """What the SDK shows of spans, without ids and times."""
    found: list[dict[str, Any]] = [json.loads(span.to_json()) for span in spans]
    for span in found:
        del span["context"]["span_id"], span["start_time"], span["end_time"]
        if span["parent_id"] is None:
            del span["context"]["trace_id"]
        for name in [name for name in span["attributes"] if "time" in name]:
            span["attributes"][name] = "a time"
        span["resource"] = span["resource"]["attributes"]["service.name"]
    return found


def through_the_sdk() -> list[dict[str, Any]]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    installation = costspan.install(tracer_provider=provider, http_spans=False)
    calls()
    installation.uninstall()
    provider.shutdown()
    return told(exporter.get_finished_spans())


def through_ours() -> list[dict[str, Any]]:
    exporter = InMemorySpanExporter()
    installation = costspan.install(span_exporter=exporter, http_spans=False)
    calls()
    installation.flush()
    found = told(exporter.get_finished_spans())
    installation.uninstall()
    return found


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "6"},
        {"OTEL_SERVICE_NAME": "shop"},
        {"OTEL_TRACES_SAMPLER": "always_off"},
        {"OTEL_TRACES_SAMPLER": "parentbased_always_off"},
        {"OTEL_SDK_DISABLED": "true"},
    ],
    ids=str,
)
def test_what_is_exported_is_what_the_sdk_would_export(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    ours, the_sdks = through_ours(), through_the_sdk()
    assert [sorted(span["attributes"]) for span in ours] == [
        sorted(span["attributes"]) for span in the_sdks
    ]
    assert ours == the_sdks
    if "OTEL_SDK_DISABLED" not in environment and "always_off" not in str(environment):
        assert len(ours) == 6


def started() -> CallSpan:
    provider = OwnProvider(Resource.create({"service.name": "shop"}))
    span = provider.start_call("chat", Context(), SpanKind.CLIENT, {"a": 1}, start_time=1)
    assert isinstance(span, CallSpan)
    return span


def test_what_is_told_later_is_told_to_every_exporter_and_comes_second() -> None:
    span = started()
    span.tells_later(lambda: {"a": 2, "b": 3})
    span.end(5)
    for exported in (span.readable(), span.readable()):
        assert dict(exported.attributes or {}) == {"a": 1, "b": 3}


def test_more_attributes_than_the_limit_are_cut_and_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "2")
    span = started()
    span.set_attributes({"b": 2, "c": 3})
    span.end(5)
    exported = span.readable()
    assert dict(exported.attributes or {}) == {"b": 2, "c": 3}
    assert exported.dropped_attributes == 1


def test_a_fault_in_what_is_told_later_is_counted_and_the_rest_is_exported() -> None:
    span = started()
    span.tells_later(lambda: {"b": 1 // 0})
    span.end(5)
    before = counters().get("span_incomplete", 0)
    assert dict(span.readable().attributes or {}) == {"a": 1}
    assert counters()["span_incomplete"] == before + 1


def test_a_span_that_ended_is_ended_once_and_changes_no_more() -> None:
    span = started()
    ended: list[object] = []
    span.provider.processors = (Seen(ended),)
    span.end(5)
    span.end(9)
    span.set_attribute("late", value=True)
    span.set_status(StatusCode.ERROR)
    assert ended == [span]
    assert (span.end_time, span.attributes, span.status.status_code) == (
        5,
        {"a": 1},
        StatusCode.UNSET,
    )


class Seen(SpanProcessor):
    def __init__(self, ended: list[object]) -> None:
        self._ended = ended

    def on_end(self, span: ReadableSpan) -> None:
        self._ended.append(span)
