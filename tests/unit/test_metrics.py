"""An app with a MeterProvider gets durations, tokens and cost; one without pays nothing."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import metrics as api
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from costspan.counters import counters
from costspan.metrics import LOOK_EVERY_SECONDS, MOST_NOTES, Metrics

CALL: dict[str, Any] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o-mini",
    "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
    "server.address": "api.openai.com",
    "gen_ai.usage.input_tokens": 1000,
    "gen_ai.usage.output_tokens": 100,
    "costspan.cost.usd": "0.00021",
    "costspan.price.status": "priced",
    "costspan.request.id": "req_1",
    "costspan.user": "someone",
}
DIMENSIONS = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o-mini",
    "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
    "server.address": "api.openai.com",
}


class Reader:
    """An app's MeterProvider, and what its reader collects."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider(metric_readers=[self.reader])

    def points(self, name: str) -> list[Any]:
        data = self.reader.get_metrics_data()
        return [
            point
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]


@pytest.fixture
def app() -> Iterator[Reader]:
    reader = Reader()
    yield reader
    reader.provider.shutdown()


def test_a_call_is_a_duration_two_token_counts_and_a_cost(app: Reader) -> None:
    Metrics(app.provider).record(CALL, 1.5)

    (duration,) = app.points("gen_ai.client.operation.duration")
    assert (duration.count, duration.sum, dict(duration.attributes)) == (1, 1.5, DIMENSIONS)
    assert duration.explicit_bounds == pytest.approx([0.01 * 2**n for n in range(14)])
    tokens = {
        point.attributes["gen_ai.token.type"]: point
        for point in app.points("gen_ai.client.token.usage")
    }
    assert {kind: point.sum for kind, point in tokens.items()} == {"input": 1000, "output": 100}
    assert tokens["input"].explicit_bounds[:4] == (1, 4, 16, 64)
    (cost,) = app.points("gen_ai.client.operation.cost")
    assert (cost.value, dict(cost.attributes)) == (0.00021, DIMENSIONS)
    assert app.points("gen_ai.client.operation.time_to_first_chunk") == []


def test_a_failed_call_has_its_error_and_neither_tokens_nor_cost(app: Reader) -> None:
    failed = {**DIMENSIONS, "error.type": "RateLimitError"}
    Metrics(app.provider).record(failed, 0.2)

    (duration,) = app.points("gen_ai.client.operation.duration")
    assert duration.attributes["error.type"] == "RateLimitError"
    assert app.points("gen_ai.client.token.usage") == []
    assert app.points("gen_ai.client.operation.cost") == []
    assert app.points("costspan.client.unpriced_calls") == []


def test_a_stream_tells_its_time_to_first_chunk(app: Reader) -> None:
    Metrics(app.provider).record({**CALL, "gen_ai.response.time_to_first_chunk": 0.25}, 1.0)
    (point,) = app.points("gen_ai.client.operation.time_to_first_chunk")
    assert point.sum == 0.25


def test_calls_of_unknown_cost_are_counted_by_the_reason(app: Reader) -> None:
    metrics = Metrics(app.provider)
    for status in ("unknown_model", "missing_usage", "unknown_model", "not_billed", "priced"):
        metrics.record({**DIMENSIONS, "costspan.price.status": status}, 1.0)
    found = {
        point.attributes["costspan.price.status"]: point.value
        for point in app.points("costspan.client.unpriced_calls")
    }
    assert found == {"unknown_model": 2, "missing_usage": 1}


def test_the_last_collection_of_an_app_that_ends_has_every_call(app: Reader) -> None:
    metrics = Metrics(app.provider)
    for _ in range(10):
        metrics.record(CALL, 1.0)
    (duration,) = app.points("gen_ai.client.operation.duration")
    assert duration.count == 10
    metrics.record(CALL, 1.0)
    (duration,) = app.points("gen_ai.client.operation.duration")
    assert duration.count == 11


def test_where_nobody_collects_the_notes_are_bounded_and_no_call_is_lost(app: Reader) -> None:
    metrics = Metrics(app.provider)
    for _ in range(MOST_NOTES + 500):
        metrics.record(CALL, 1.0)
    assert metrics._instruments is not None
    assert len(metrics._instruments.notes) <= MOST_NOTES + 1
    (duration,) = app.points("gen_ai.client.operation.duration")
    assert duration.count == MOST_NOTES + 500


def test_threads_that_record_while_a_reader_collects_lose_nothing(app: Reader) -> None:
    metrics = Metrics(app.provider)
    threads = [
        threading.Thread(target=lambda: [metrics.record(CALL, 1.0) for _ in range(500)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        app.points("gen_ai.client.operation.duration")
    (duration,) = app.points("gen_ai.client.operation.duration")
    assert duration.count == 2000


def test_a_provider_that_the_app_sets_later_is_found(
    app: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = Metrics()
    metrics.record(CALL, 1.0)  # nobody listens yet
    monkeypatch.setattr(api, "get_meter_provider", lambda: app.provider)
    later = time.monotonic() + LOOK_EVERY_SECONDS
    monkeypatch.setattr("costspan.metrics.time.monotonic", lambda: later)
    metrics.record(CALL, 1.0)
    (duration,) = app.points("gen_ai.client.operation.duration")
    assert duration.count == 1


def test_installing_twice_makes_no_instrument_twice(
    app: Reader, caplog: pytest.LogCaptureFixture
) -> None:
    Metrics(app.provider).record(CALL, 1.0)
    Metrics(app.provider).record(CALL, 1.0)
    (duration,) = app.points("gen_ai.client.operation.duration")
    assert duration.count == 2
    assert not caplog.records


def test_a_hostile_value_is_counted_and_the_other_calls_are_recorded(app: Reader) -> None:
    before = counters().get("metrics_failed", 0)
    metrics = Metrics(app.provider)
    metrics.record({**CALL, "costspan.cost.usd": "many"}, 1.0)
    metrics.record(CALL, 1.0)
    assert len(app.points("gen_ai.client.operation.cost")) == 1
    assert counters()["metrics_failed"] == before + 1


def test_a_provider_that_raises_does_not_reach_the_app(monkeypatch: pytest.MonkeyPatch) -> None:
    before = counters().get("metrics_failed", 0)
    monkeypatch.setattr(MeterProvider, "get_meter", None)
    provider = MeterProvider()
    Metrics(provider).record(CALL, 1.0)
    provider.shutdown()
    assert counters()["metrics_failed"] == before + 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_worker_tells_only_of_its_own_calls() -> None:
    script = """
import os
from costspan.metrics import Metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
provider = MeterProvider(metric_readers=[InMemoryMetricReader()])
metrics = Metrics(provider)
metrics.record({}, 1.0)
child = os.fork()
if child == 0:
    os._exit(len(metrics._instruments.notes))
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status), len(metrics._instruments.notes))
"""
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=True
    )
    assert ended.stdout.split() == ["0", "1"]
