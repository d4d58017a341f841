"""Spans go to the app's provider, else over HTTP to the collector that OTEL_* names."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from costspan.counters import counters
from costspan.export import EXIT_SECONDS, Destination, exporters


def emit(destination: Destination, *names: str) -> None:
    tracer = destination.provider().get_tracer("t")
    for name in names:
        tracer.start_span(name).end()


def counted(reason: str) -> Callable[[], int]:
    before = counters().get(reason, 0)
    return lambda: counters().get(reason, 0) - before


def test_without_a_provider_spans_go_where_the_environment_says(
    loopback: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", loopback.url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=blue")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=staging")
    destination = Destination()
    emit(destination, "a")
    assert destination.flush(5)
    destination.close()
    assert [(service, span.name) for service, span in loopback.spans] == [("shop", "a")]
    assert loopback.headers[0]["x-tenant"] == "blue"
    assert loopback.headers[0]["content-encoding"] == "gzip"
    (sent,) = loopback.traces[0].resource_spans
    told = {each.key: each.value.string_value for each in sent.resource.attributes}
    assert told["deployment.environment.name"] == "staging"


def test_the_sampler_of_the_environment_holds(
    loopback: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", loopback.url)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    destination = Destination()
    emit(destination, "a")
    assert destination.flush(5)
    destination.close()
    assert loopback.spans == []


@pytest.mark.parametrize(
    ("environment", "made"),
    [
        ({}, ["OTLPSpanExporter"]),
        ({"OTEL_TRACES_EXPORTER": "otlp,console"}, ["OTLPSpanExporter", "ConsoleSpanExporter"]),
        ({"OTEL_TRACES_EXPORTER": "none"}, []),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, ["OTLPSpanExporter"]),
    ],
)
def test_the_exporters_are_those_that_the_environment_names(
    environment: dict[str, str], made: list[str]
) -> None:
    assert [getattr(make, "__name__", "") for make in exporters(environment)] == made


def test_an_exporter_that_is_not_installed_is_said_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    unusable = counted("exporter_unusable")
    assert exporters({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}) == []
    assert unusable() == 1
    assert "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf" in caplog.text


def test_batch_sizes_that_contradict_each_other_are_counted_and_not_followed(
    loopback: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", loopback.url)
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "100")
    ignored = counted("export_sizes_ignored")
    destination = Destination()
    emit(destination, "a")
    assert destination.flush(5)
    destination.close()
    assert ignored() == 1
    assert len(loopback.spans) == 1


def test_our_provider_is_made_once_and_is_not_the_global_one() -> None:
    destination = Destination(span_exporter=Refusing(), service_name="x")
    assert destination.provider() is destination.provider()
    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    destination.close()


def test_a_provider_that_the_app_sets_later_is_used_from_then_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    destination = Destination()
    first = destination.provider()
    theirs = TracerProvider()
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: theirs)
    assert destination.provider() is theirs is not first
    destination.close()


def test_spans_that_cannot_be_delivered_are_counted() -> None:
    before = counters().get("export_failed", 0)
    destination = Destination(span_exporter=Refusing())
    tracer = destination.provider().get_tracer("t")
    for _ in range(3):
        tracer.start_span("a").end()
    destination.flush(5)
    destination.close()
    assert counters()["export_failed"] == before + 3


class Held(SpanExporter):
    """An exporter in front of a collector that does not answer."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.answers = threading.Event()
        self.exported = 0

    def export(self, spans: Any) -> SpanExportResult:
        self.asked.set()
        self.answers.wait(30)
        self.exported += len(spans)
        return SpanExportResult.SUCCESS


def test_when_the_queue_is_full_every_span_is_sent_or_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    dropped, held = counted("export_queue_full"), Held()
    destination = Destination(span_exporter=held)
    emit(destination, *["first"] * 512)
    assert held.asked.wait(5)
    threads = [
        threading.Thread(target=emit, args=(destination, *["more"] * 1000)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert dropped() > 1000
    held.answers.set()
    assert destination.flush(10)
    destination.close()
    assert held.exported + dropped() == 4512
    assert not any(record.name.startswith("opentelemetry") for record in caplog.records)


def test_flush_and_close_return_in_time_though_the_collector_does_not_answer() -> None:
    unfinished, held = counted("export_unfinished"), Held()
    destination = Destination(span_exporter=held)
    emit(destination, *["a"] * 600)
    assert held.asked.wait(5)
    started = time.monotonic()
    assert not destination.flush(0.1)
    assert time.monotonic() - started < EXIT_SECONDS
    destination.close()
    assert time.monotonic() - started < EXIT_SECONDS + SPARE_SECONDS
    assert unfinished() == 88
    held.answers.set()


SPARE_SECONDS = 6.0
"""What a busy machine may add; an app that waits for an answer waits 30 and more."""

APP = """
import os, sys, time
import costspan, openai
costspan.install()
client = openai.OpenAI(max_retries=0)
def call():
    client.chat.completions.create(model="gpt-4o-mini", messages=[])
"""


def run(script: str, loopback: Any, **environment: str) -> float:
    """Run an app, and return how long it took after its own last line."""
    script = f"{APP}{script}\nprint(time.time(), flush=True)"
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        env=loopback.environment(COSTSPAN_CAPTURE_HTTP_SPANS="false", **environment),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "Traceback" not in ended.stderr
    return time.time() - float(ended.stdout.split()[-1])


def test_an_app_that_ends_at_once_sends_its_spans(loopback: Any) -> None:
    run("call()", loopback, OTEL_SERVICE_NAME="short")
    assert [service for service, _ in loopback.spans] == ["short"]


def test_the_exit_of_an_app_does_not_wait_for_a_collector_to_get_well(loopback: Any) -> None:
    loopback.status["/v1/traces"] = 503
    assert run("call()", loopback) < EXIT_SECONDS + SPARE_SECONDS


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forked_workers_send_their_own_spans_and_only_those(loopback: Any) -> None:
    """As a prefork server does: the parent has used its connection before it forks."""
    script = """
call()
costspan.install().flush()
call()  # waits in the parent's queue while it forks
children = []
for number in range(3):
    child = os.fork()
    if child == 0:
        client = openai.OpenAI(max_retries=0)  # the SDK's connection is not for two either
        for _ in range(5):
            call()
        sys.exit(0)
    children.append(child)
for child in children:
    assert os.waitpid(child, 0)[1] == 0
call()
"""
    run(script, loopback)
    assert len(loopback.asked) == 18
    spans = [span.span_id for _, span in loopback.spans]
    assert len(spans) == len(set(spans)) == 18


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_worker_of_multiprocessing_sends_its_spans_before_it_ends(
    loopback: Any, method: str
) -> None:
    script = f"""
import multiprocessing
call()
worker = multiprocessing.get_context({method!r}).Process(target=exec, args=({APP!r} + "call()", {{}}))
worker.start()
worker.join()
assert worker.exitcode == 0
"""
    run(script, loopback)
    assert len(loopback.spans) == 2


class Refusing(SpanExporter):
    def export(self, spans: Any) -> SpanExportResult:
        assert all(isinstance(span, ReadableSpan) for span in spans)
        return SpanExportResult.FAILURE
