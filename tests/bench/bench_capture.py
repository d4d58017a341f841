"""What capture costs a call and a chunk, as a ratio to the bare SDK in the same run.

    uv run python tests/bench/bench_capture.py [ROUNDS]
    uv run pytest -m bench tests/bench/bench_capture.py

Bare and captured rounds alternate in one process, so what disturbs one disturbs the other.
CPU time of the calling thread; the exporter drops what it gets. "bare again" is the noise.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import httpx2
import openai
import pytest
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

import costspan

CALLS = 40
STREAMS = 4
CHUNKS = 200
MOST_RATIO = {"chat": 1.35, "stream": 1.15}
"""A guard against a blunder, wide enough for a busy machine."""

_CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o-mini-2024-07-18",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "word " * 200},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 1117, "completion_tokens": 211, "total_tokens": 1328},
}
_DELTA = {"index": 0, "delta": {"content": "word"}, "finish_reason": None}
_CHUNK = {**_CHAT, "object": "chat.completion.chunk", "choices": [_DELTA], "usage": None}
_LAST = {**_CHUNK, "choices": [], "usage": _CHAT["usage"]}
_EVENTS = b"".join(
    b"data: " + json.dumps(event).encode() + b"\n\n" for event in [_CHUNK] * CHUNKS + [_LAST]
)
_JSON = json.dumps(_CHAT).encode()


class _Drops(SpanExporter):
    def export(self, spans: Sequence[Any]) -> SpanExportResult:
        del spans
        return SpanExportResult.SUCCESS


def _answer(request: httpx2.Request) -> httpx2.Response:
    if b'"stream":true' in request.content:
        return httpx2.Response(
            200,
            headers={"content-type": "text/event-stream"},
            content=_EVENTS + b"data: [DONE]\n\n",
        )
    return httpx2.Response(200, headers={"content-type": "application/json"}, content=_JSON)


def _time(work: Callable[[], None], times: int) -> float:
    """Return the median CPU seconds of one run of `work`."""
    taken: list[float] = []
    for _ in range(times):
        start = time.thread_time()
        work()
        taken.append(time.thread_time() - start)
    return statistics.median(taken)


def measure(rounds: int) -> dict[str, dict[str, float]]:
    """Return median microseconds by workload and by way of running it."""
    http = httpx2.Client(transport=httpx2.MockTransport(_answer))
    client = openai.OpenAI(api_key="sk-bench-0123456789abcdef", http_client=http)
    asked: Any = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "x" * 500}]}
    usage: Any = {"include_usage": True}

    def chat() -> None:
        client.chat.completions.create(**asked)

    def stream() -> None:
        for _ in client.chat.completions.create(**asked, stream=True, stream_options=usage):
            pass

    workloads = {"chat": (chat, CALLS), "stream": (stream, STREAMS)}
    ways = ("bare", "captured", "captured with HTTP spans", "bare again")
    found: dict[str, dict[str, list[float]]] = {name: {} for name in workloads}
    for work, _ in workloads.values():
        work()
    for _ in range(rounds):
        for way in ways:
            installation = (
                costspan.install(span_exporter=_Drops(), http_spans="HTTP" in way)
                if way.startswith("captured")
                else None
            )
            chat()
            for name, (work, times) in workloads.items():
                found[name].setdefault(way, []).append(_time(work, times))
            if installation is not None:
                installation.uninstall()
    return {
        name: {way: statistics.median(times) * 1e6 for way, times in by_way.items()}
        for name, by_way in found.items()
    }


def report(found: dict[str, dict[str, float]]) -> str:
    """Return the figures as lines."""
    lines: list[str] = []
    for name, by_way in found.items():
        for way, microseconds in by_way.items():
            more = microseconds - by_way["bare"]
            each = f", {more / CHUNKS:+.2f} a chunk" if name == "stream" else ""
            ratio = microseconds / by_way["bare"]
            lines.append(
                f"{name:<7} {way:<25} {microseconds:>9.0f} us  x{ratio:.3f} ({more:+.0f}{each})"
            )
    return "\n".join(lines)


@pytest.mark.bench
def test_capture_costs_little_next_to_the_sdk() -> None:
    found = measure(rounds=8)
    print(report(found))
    for name, most in MOST_RATIO.items():
        assert found[name]["captured"] / found[name]["bare"] < most


if __name__ == "__main__":
    print(report(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 12)))
