"""What capture costs a call and a chunk, as a ratio to the bare SDK in the same run.

    uv run python tests/bench/bench_capture.py [ROUNDS]
    uv run pytest -m bench tests/bench/bench_capture.py

Bare and captured rounds alternate in one process, so what disturbs one disturbs the other. CPU
time of the calling thread, on an in-process transport; the exporter drops what it gets. "app's
provider" is the same in an app with a TracerProvider of its own, whose SDK does all of a span's
work on the spot. "bare again" is the noise. Bodies and headers have the fields and the size of real ones.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import httpx2
import openai
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

import costspan

CALLS = 300
STREAMS = 12
CHUNKS = 200
BARS = {
    "chat": (1.10, 1.35),
    "responses": (1.10, 1.35),
    "embeddings": (1.10, 1.35),
    "stream": (1.03, 1.10),
}
"""The most that capture may cost, without and with HTTP spans."""
MOST_IMPORT_SECONDS = 0.35

_HEADERS = {
    "content-type": "application/json",
    "openai-organization": "acme",
    "openai-processing-ms": "812",
    "openai-project": "proj_1",
    "openai-version": "2020-10-01",
    "x-ratelimit-limit-requests": "10000",
    "x-ratelimit-limit-tokens": "2000000",
    "x-ratelimit-remaining-requests": "9999",
    "x-ratelimit-remaining-tokens": "1999000",
    "x-ratelimit-reset-requests": "6ms",
    "x-ratelimit-reset-tokens": "30ms",
    "x-request-id": "req_0123456789abcdef0123456789abcdef",
    "cf-ray": "8f0000000000000-FRA",
    "date": "Sat, 21 Nov 2026 06:00:00 GMT",
    "server": "cloudflare",
    "strict-transport-security": "max-age=31536000; includeSubDomains; preload",
}
_TEXT = "The quick brown fox jumps over the lazy dog. " * 40
_CHAT_USAGE = {
    "prompt_tokens": 1117,
    "completion_tokens": 411,
    "total_tokens": 1528,
    "prompt_tokens_details": {"cached_tokens": 1024, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 128,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}
_CHAT: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o-mini-2024-07-18",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": _TEXT,
                "refusal": None,
                "annotations": [],
            },
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": _CHAT_USAGE,
    "service_tier": "default",
    "system_fingerprint": "fp_1",
}
_RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "status": "completed",
    "background": False,
    "error": None,
    "incomplete_details": None,
    "instructions": None,
    "max_output_tokens": None,
    "model": "gpt-4o-mini-2024-07-18",
    "output": [
        {
            "id": "msg_1",
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "annotations": [], "logprobs": [], "text": _TEXT}],
        }
    ],
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "reasoning": {"effort": None, "summary": None},
    "service_tier": "default",
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "truncation": "disabled",
    "usage": {
        "input_tokens": 1117,
        "input_tokens_details": {"cached_tokens": 1024},
        "output_tokens": 411,
        "output_tokens_details": {"reasoning_tokens": 128},
        "total_tokens": 1528,
    },
    "user": None,
    "metadata": {},
}
_EMBEDDINGS: dict[str, Any] = {
    "object": "list",
    "data": [
        {"object": "embedding", "index": index, "embedding": [0.0125] * 256} for index in range(4)
    ],
    "model": "text-embedding-3-small",
    "usage": {"prompt_tokens": 80, "total_tokens": 80},
}
_CHUNK: dict[str, Any] = {
    **{name: value for name, value in _CHAT.items() if name != "choices"},
    "object": "chat.completion.chunk",
    "choices": [
        {"index": 0, "delta": {"content": " word"}, "logprobs": None, "finish_reason": None}
    ],
    "usage": None,
}
_LAST: dict[str, Any] = {**_CHUNK, "choices": [], "usage": _CHAT_USAGE}
_EVENTS = b"".join(
    b"data: " + json.dumps(event).encode() + b"\n\n" for event in [_CHUNK] * CHUNKS + [_LAST]
)
_BODIES = {
    "/v1/chat/completions": json.dumps(_CHAT).encode(),
    "/v1/responses": json.dumps(_RESPONSE).encode(),
    "/v1/embeddings": json.dumps(_EMBEDDINGS).encode(),
}
_ASKED: Any = {
    "model": "gpt-4o-mini",
    "messages": [
        {"role": "system", "content": "You are a helpful assistant. " * 10},
        {"role": "user", "content": "What does it say? " * 20},
    ],
    "temperature": 0.2,
}


class Drops(SpanExporter):
    """Takes everything and does nothing."""

    def export(self, spans: Sequence[Any]) -> SpanExportResult:
        del spans
        return SpanExportResult.SUCCESS


def _answer(request: httpx2.Request) -> httpx2.Response:
    if b'"stream":true' in request.content:
        headers = {**_HEADERS, "content-type": "text/event-stream"}
        return httpx2.Response(200, headers=headers, content=_EVENTS + b"data: [DONE]\n\n")
    return httpx2.Response(200, headers=_HEADERS, content=_BODIES[request.url.path])


def workloads() -> dict[str, tuple[Callable[[], object], int]]:
    """Return what is run, and how often in a round."""
    http = httpx2.Client(transport=httpx2.MockTransport(_answer))
    client: Any = openai.OpenAI(api_key="sk-bench-0123456789abcdef", http_client=http)
    usage: Any = {"include_usage": True}

    def chat() -> object:
        return client.chat.completions.create(**_ASKED)

    def respond() -> object:
        return client.responses.create(model="gpt-4o-mini", input=_ASKED["messages"])

    def stream() -> None:
        for _ in client.chat.completions.create(**_ASKED, stream=True, stream_options=usage):
            pass

    return {
        "chat": (chat, CALLS),
        "responses": (respond, CALLS),
        "embeddings": (
            lambda: client.embeddings.create(
                model="text-embedding-3-small", input=[_TEXT] * 4, encoding_format="float"
            ),
            CALLS,
        ),
        "stream": (stream, STREAMS),
    }


def _time(work: Callable[[], object], times: int) -> float:
    """Return the median CPU seconds of one run of `work`."""
    taken: list[float] = []
    for _ in range(times):
        start = time.thread_time()
        work()
        taken.append(time.thread_time() - start)
    return statistics.median(taken)


def measure(rounds: int) -> dict[str, dict[str, list[float]]]:
    """Return median microseconds of each round, by workload and by way of running it."""
    ways = (
        "bare",
        "captured",
        "captured with HTTP spans",
        "captured, app's provider",
        "bare again",
    )
    runs = workloads()
    found: dict[str, dict[str, list[float]]] = {name: {way: [] for way in ways} for name in runs}
    for work, _ in runs.values():
        work()
    for _ in range(rounds):
        for way in ways:
            installation = provider = None
            if "provider" in way:
                provider = TracerProvider()
                provider.add_span_processor(BatchSpanProcessor(Drops()))
                installation = costspan.install(tracer_provider=provider, http_spans=False)
            elif way.startswith("captured"):
                installation = costspan.install(span_exporter=Drops(), http_spans="HTTP" in way)
            for name, (work, times) in runs.items():
                work()
                found[name][way].append(_time(work, times) * 1e6)
            if installation is not None:
                installation.uninstall()
            if provider is not None:
                provider.shutdown()
    return found


def ratio(by_way: dict[str, list[float]], way: str) -> float:
    """Return the median over the rounds of what a way costs next to the bare SDK."""
    return statistics.median(a / b for a, b in zip(by_way[way], by_way["bare"], strict=True))


def report(found: dict[str, dict[str, list[float]]]) -> str:
    """Return the figures as lines."""
    lines: list[str] = []
    for name, by_way in found.items():
        for way, rounds in by_way.items():
            microseconds = statistics.median(rounds)
            more = microseconds - statistics.median(by_way["bare"])
            each = f", {more / CHUNKS:+.2f} a chunk" if name == "stream" else ""
            bar = dict(zip(("captured", "captured with HTTP spans"), BARS[name], strict=True))
            most = f"  bar x{bar[way]:.2f}" if way in bar else ""
            lines.append(
                f"{name:<10} {way:<25} {microseconds:>9.0f} us  x{ratio(by_way, way):.3f}{most}"
                f" ({more:+.0f}{each})"
            )
    return "\n".join(lines)


def import_seconds() -> float:
    """Return the least time that `import costspan.auto` takes after `import openai`."""
    code = (
        "import openai, time; start = time.perf_counter(); import costspan.auto;"
        " print(time.perf_counter() - start)"
    )
    return min(
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
        for _ in range(5)
    )


@pytest.mark.bench
def test_capture_costs_little_next_to_the_sdk() -> None:
    found = measure(rounds=8)
    print(report(found))
    for name, (alone, with_http) in BARS.items():
        # A busy machine moves a ratio by a few hundredths; the bar itself is for a person to see.
        assert ratio(found[name], "captured") < alone + 0.1
        assert ratio(found[name], "captured with HTTP spans") < with_http + 0.2


@pytest.mark.bench
def test_the_import_is_quick() -> None:
    seconds = import_seconds()
    print(f"import costspan.auto after openai: {seconds:.3f} s, bar {MOST_IMPORT_SECONDS} s")
    assert seconds < MOST_IMPORT_SECONDS


if __name__ == "__main__":
    print(report(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 8)))
    print(
        f"import costspan.auto after openai: {import_seconds():.3f} s, bar {MOST_IMPORT_SECONDS} s"
    )
