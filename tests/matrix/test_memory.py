"""Many calls leave nothing behind: no span, no stream, no answer is kept when a call is over."""

import gc
import json
import sys
from typing import Any

import httpx2
import openai
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

import costspan
from costspan.counters import counters

CHAT: dict[str, Any] = {"model": "gpt-4o-mini", "messages": []}
_CHUNK = {
    "id": "chatcmpl-1",
    "object": "chat.completion.chunk",
    "created": 1,
    "model": "gpt-4o-mini-2024-07-18",
    "choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": None}],
}
_ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o-mini-2024-07-18",
    "choices": [{"index": 0, "message": {"content": "x"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 8, "completion_tokens": 2},
}


class Nowhere(SpanExporter):
    """Counts spans and lets them go."""

    def __init__(self) -> None:
        self.ended = 0

    def export(self, spans: Any) -> SpanExportResult:
        self.ended += sum(1 for span in spans if _is_call(span))
        return SpanExportResult.SUCCESS


def _is_call(span: ReadableSpan) -> bool:
    return span.instrumentation_scope is not None and span.instrumentation_scope.name == "costspan"


def answer(request: httpx2.Request) -> httpx2.Response:
    body = json.loads(request.content)
    if body.get("user") == "refused":
        return httpx2.Response(400, json={"error": {"message": "No.", "code": "no"}})
    if not body.get("stream"):
        return httpx2.Response(200, json=_ANSWER)
    return httpx2.Response(
        200,
        headers={"content-type": "text/event-stream"},
        text=f"data: {json.dumps(_CHUNK)}\n\n" * 4 + "data: [DONE]\n\n",
    )


def each_way(client: openai.OpenAI) -> None:
    """Make six calls, each ending otherwise."""
    create = client.chat.completions.create
    create(**CHAT)
    client.chat.completions.with_raw_response.create(**CHAT)
    with pytest.raises(openai.BadRequestError):
        create(**CHAT, user="refused")
    list(create(**CHAT, stream=True))
    closed = create(**CHAT, stream=True)
    next(closed)
    closed.close()
    create(**CHAT, stream=True)  # and dropped


@pytest.mark.parametrize(
    "rounds", [250, pytest.param(16_700, marks=[pytest.mark.bench, pytest.mark.timeout(1200)])]
)
def test_memory_does_not_grow_with_the_number_of_calls(rounds: int) -> None:
    exporter, provider = Nowhere(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    installation = costspan.install(tracer_provider=provider, priced_hosts=("api.openai.com",))
    before = counters()
    transport = httpx2.MockTransport(answer)
    with openai.OpenAI(
        api_key="k", http_client=httpx2.Client(transport=transport), max_retries=0
    ) as client:
        for _ in range(50):
            each_way(client)  # what is kept once, such as prices and types, is there after this
        gc.collect()
        blocks = sys.getallocatedblocks()
        for _ in range(rounds):
            each_way(client)
        gc.collect()
        kept = sys.getallocatedblocks() - blocks
    installation.uninstall()
    provider.shutdown()
    assert exporter.ended == 6 * (50 + rounds)
    assert kept < rounds, f"{kept} blocks kept after {6 * rounds} calls"
    assert counters() == before
