"""The balance of spans begins in the app: what it made, gave up and sent."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import openai
import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

import costspan
from costspan_collector.normalise import normalise
from costspan_collector.record import SenderCount
from costspan_collector.store import Store

HOUR = datetime(2026, 11, 19, 22, tzinfo=UTC)
SAID = SenderCount(
    hour=HOUR, service_name="shop", sender="a", made=10, exported=7, queue_full=2, failed=1
)


@dataclass(frozen=True)
class Sent:
    made: int
    queue_full: int
    failed: int
    exported: int
    accepted: int


SENT = """
SELECT made, queue_full, failed, exported, accepted FROM span_balance ORDER BY hour, service_name
"""


def test_a_batch_that_tells_again_or_late_changes_nothing(store: Store) -> None:
    later = replace(SAID, made=20, exported=17)
    store.insert("sender_counts", [later, SAID])
    store.insert("sender_counts", [SAID, later, later])
    assert store.select(SENT, Sent) == [Sent(20, 2, 1, 17, 0)]


def test_an_hour_has_what_happened_since_the_hours_before(store: Store) -> None:
    next_hour, after = HOUR + timedelta(hours=1), HOUR + timedelta(hours=2)
    store.insert(
        "sender_counts",
        [
            SAID,
            replace(SAID, hour=after, made=15, exported=12),
            replace(SAID, hour=next_hour, made=9, exported=6, queue_full=1, failed=0),  # late
            replace(SAID, hour=after, sender="b", made=3, exported=3, queue_full=0, failed=0),
        ],
    )
    assert store.select(SENT, Sent) == [
        Sent(10, 2, 1, 7, 0),
        Sent(0, 0, 0, 0, 0),
        Sent(8, 0, 0, 8, 0),
    ]


def test_only_who_sends_spans_tells_of_them(wire: Any) -> None:
    request = wire.request(wire.span(1))
    (resource,) = request.resource_spans
    pair = KeyValue(key="costspan.sender.id", value=AnyValue(string_value="a"))
    resource.scope_spans[0].scope.attributes.append(pair)
    for _ in range(1000):
        resource.scope_spans.add().scope.attributes.append(pair)
    (sender,) = normalise(request, received_at=wire.now, ingest_id=1).senders
    assert (sender.service_name, sender.sender) == ("shop", "a")


class Gate(SpanExporter):
    """OTLP to a collector that does not answer yet, and then refuses the first batch."""

    def __init__(self, url: str) -> None:
        self.real = OTLPSpanExporter(endpoint=f"{url}/v1/traces")
        self.asked, self.opened = threading.Event(), threading.Event()
        self.refuses = True

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.asked.set()
        self.opened.wait(20)
        if self.refuses:
            self.refuses = False
            return SpanExportResult.FAILURE
        return self.real.export(spans)

    def shutdown(self) -> None:
        self.real.shutdown()


@pytest.fixture
def client(loopback: Any) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{loopback.url}/v1", api_key="sk-test") as client:
        yield client


def test_what_an_app_made_and_dropped_is_in_the_store(
    collector: Any, wire: Any, client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "now", datetime.now(UTC))
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "16")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")
    gate = Gate(collector.url)
    installed = costspan.install(span_exporter=gate, service_name="shop", http_spans=False)
    try:
        for _ in range(20):  # one is being sent, 15 wait, and 4 find the queue full
            client.chat.completions.create(
                model="gpt-4o-mini", messages=[{"role": "user", "content": "hi"}]
            )
            assert gate.asked.wait(20)
        gate.opened.set()
        assert installed.flush()
    finally:
        gate.opened.set()
        installed.uninstall()
    assert collector.pipeline.settle()
    assert collector.store.select(SENT, Sent) == [
        Sent(made=20, queue_full=4, failed=1, exported=15, accepted=15)
    ]
