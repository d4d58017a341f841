"""Spans go to the app's provider, else over HTTP to the collector that OTEL_* names."""

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from costspan.counters import counters
from costspan.export import Destination


class Collector(ThreadingHTTPServer):
    """Keeps what is posted to it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receives)
        self.received: list[tuple[str, ExportTraceServiceRequest]] = []


class Receives(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        assert isinstance(self.server, Collector)
        self.server.received.append((self.path, ExportTraceServiceRequest.FromString(body)))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        del format, args


@pytest.fixture
def collector() -> Iterator[Collector]:
    server = Collector()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_without_a_provider_spans_go_to_the_endpoint_in_the_environment(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_address[1]}"
    )
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
    destination = Destination()
    destination.provider().get_tracer("t").start_span("a").end()
    assert destination.flush(5)
    destination.close()
    ((path, request),) = collector.received
    (sent,) = request.resource_spans
    assert path == "/v1/traces"
    names = {item.key: item.value.string_value for item in sent.resource.attributes}
    assert names["service.name"] == "shop"
    assert [span.name for span in sent.scope_spans[0].spans] == ["a"]


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


class Refusing(SpanExporter):
    def export(self, spans: Any) -> SpanExportResult:
        assert all(isinstance(span, ReadableSpan) for span in spans)
        return SpanExportResult.FAILURE
