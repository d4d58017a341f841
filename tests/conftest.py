"""Shared by all tests: one real engine for the session, a migrated database for each test."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.applications import Starlette

import costspan
from costspan_collector.listening import listen, running
from costspan_collector.pipeline import Pipeline
from costspan_collector.receiver import routes
from costspan_collector.record import Call, HttpAttempt
from costspan_collector.settings import Receiver
from costspan_collector.store import Store, connect, migrate


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """The embedded engine: one directory a process, so one for the whole session."""
    store = connect(f"chdb://{tmp_path_factory.mktemp('engine')}")
    yield store
    store.close()


@pytest.fixture
def store(engine: Store) -> Iterator[Store]:
    """A migrated, empty store. `connect(store.url)` reads the same rows."""
    migrate(engine)
    yield engine
    engine.command("DROP DATABASE costspan SYNC")
    engine.command("CREATE DATABASE costspan")
    engine.command("USE costspan")


@pytest.fixture(scope="session")
def data() -> Path:
    """Recorded input that the tests replay."""
    return Path(__file__).parent / "data"


class Captured:
    """The spans of a capture that is switched on while a test runs."""

    def __init__(self, **arguments: Any) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.installation = costspan.install(tracer_provider=self.provider, **arguments)

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """Every ended span."""
        self.installation.flush()
        return self._exporter.get_finished_spans()

    @property
    def calls(self) -> list[ReadableSpan]:
        """The spans of calls, without those of HTTP attempts."""
        scopes = [(span, span.instrumentation_scope) for span in self.spans]
        return [span for span, scope in scopes if scope is not None and scope.name == "costspan"]

    @property
    def call(self) -> dict[str, Any]:
        """The attributes of the one call that was made."""
        (span,) = self.calls
        return dict(span.attributes or {})

    def stop(self) -> None:
        """Undo it."""
        self.installation.uninstall()
        self.provider.shutdown()


@pytest.fixture
def capture() -> Iterator[Callable[..., Captured]]:
    """Switch capture on: `capture()`, with the arguments of `costspan.install`."""
    started: list[Captured] = []

    def start(**arguments: Any) -> Captured:
        started.append(Captured(**arguments))
        return started[-1]

    yield start
    for captured in started:
        captured.stop()


class Wire:
    """OTLP as a sender writes it."""

    now = datetime(2026, 11, 20, 12, tzinfo=UTC)
    """When the receiver of the tests takes it to be."""

    chat: Mapping[str, Any] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
        "gen_ai.usage.input_tokens": 1000,
        "gen_ai.usage.output_tokens": 100,
        "costspan.cost.usd": "0.00021",
        "costspan.cost.part.input": 150_000_000,
        "costspan.cost.part.output": 60_000_000,
        "costspan.price.status": "priced",
    }
    """The attributes of a call, as the shim sets them."""

    def span(self, number: int, /, *without: str, **changes: Any) -> Span:
        """Return the span of a chat call: dotted names are attributes, others are fields."""
        attributes = {
            **{name: value for name, value in self.chat.items() if name not in without},
            **{name: value for name, value in changes.items() if "." in name},
        }
        return self.plain_span(
            number,
            attributes,
            **{name: value for name, value in changes.items() if "." not in name},
        )

    def plain_span(self, number: int, attributes: Mapping[str, Any], /, **fields: Any) -> Span:
        """Return a span with these attributes only."""
        start = int((self.now - timedelta(hours=1)).timestamp()) * 10**9 + number * 1000
        known: dict[str, Any] = {
            "trace_id": (number // 10 + 1).to_bytes(16, "big"),
            "span_id": (number + 1).to_bytes(8, "big"),
            "name": "chat",
            "start_time_unix_nano": start,
            "end_time_unix_nano": start + 1_500_000_000,
        }
        pairs = [KeyValue(key=key, value=_any(value)) for key, value in attributes.items()]
        return Span(attributes=pairs, **{**known, **fields})

    def request(self, *spans: Span, service: str = "shop") -> ExportTraceServiceRequest:
        """Return the request that carries `spans`."""
        resource = {"service.name": service, "deployment.environment.name": "production"}
        pairs = [KeyValue(key=key, value=_any(value)) for key, value in resource.items()]
        scope = ScopeSpans(scope=InstrumentationScope(name="costspan"), spans=spans)
        return ExportTraceServiceRequest(
            resource_spans=[ResourceSpans(resource=Resource(attributes=pairs), scope_spans=[scope])]
        )


def _any(value: Any) -> AnyValue:
    if isinstance(value, AnyValue):
        return value
    if isinstance(value, list):
        answer = AnyValue()
        items: list[Any] = value
        answer.array_value.values.extend(map(_any, items))
        return answer
    kinds = {str: "string_value", bool: "bool_value", int: "int_value", float: "double_value"}
    return AnyValue(**{kinds[type(value)]: value})


@pytest.fixture(scope="session")
def wire() -> Wire:
    """OTLP as a sender writes it."""
    return Wire()


@dataclass(frozen=True)
class Collector:
    """A running receiver, and what it kept."""

    url: str
    store: Store
    pipeline: Pipeline

    def post(self, body: Any, kind: str = "application/x-protobuf", **more: str) -> httpx2.Response:
        """Send a body, or a request made by `wire`."""
        raw = body if isinstance(body, bytes) else body.SerializeToString()
        headers = {name.replace("_", "-"): value for name, value in more.items()}
        return httpx2.post(
            f"{self.url}/v1/traces", content=raw, headers={"content-type": kind, **headers}
        )

    def total(self, name: str, **labels: str) -> float:
        """Return what a counter stands at, without the `costspan_` of its name."""
        return self.pipeline.counters.total(f"costspan_{name}", **labels)

    @property
    def calls(self) -> list[Call]:
        """Every call, once."""
        return self.store.select("SELECT * FROM calls FINAL ORDER BY trace_id, span_id", Call)

    @property
    def attempts(self) -> list[HttpAttempt]:
        """Every HTTP attempt, once."""
        return self.store.select(
            "SELECT * FROM http_attempts FINAL ORDER BY trace_id, span_id", HttpAttempt
        )


@pytest.fixture
def settings() -> Receiver:
    """The receiver's settings; a test may override this fixture."""
    return Receiver(port=0, max_body_bytes=200_000, queue_spans=1000)


@pytest.fixture
def collector(store: Store, settings: Receiver, wire: Wire) -> Iterator[Collector]:
    """The receiver on a free port, before the real engine."""
    pipeline = Pipeline(store, settings)
    app = Starlette(routes=[*routes(pipeline, settings, now=lambda: wire.now)])
    with listen(settings) as listener, running(app, listener) as url:
        yield Collector(url, store, pipeline)
    pipeline.close()
