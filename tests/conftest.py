"""Shared by all tests: one real engine for the session, a migrated database for each test."""

import gzip
import json
import os
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

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
from starlette.types import ASGIApp, Receive, Scope, Send

import costspan
from costspan_collector.listening import listen, running
from costspan_collector.pipeline import Pipeline
from costspan_collector.receiver import routes
from costspan_collector.record import Call, HttpAttempt
from costspan_collector.settings import Receiver
from costspan_collector.store import Store, connect, migrate

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # or each process of a test compiles for itself

MEMORY = Path("/dev/shm")  # noqa: S108
"""Where no test waits for a disk. What a crash leaves of a disk is tested on one, in `faults`."""


@pytest.fixture(scope="session", autouse=True)
def no_authorities() -> Iterator[None]:
    """Trust nobody: no test leaves this machine, and to read whom to trust takes a client 20 ms."""

    def nobody(**_options: Any) -> ssl.SSLContext:
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("httpcore2.default_ssl_context", nobody)
        yield


@pytest.fixture(scope="session")
def engine() -> Iterator[Store]:
    """The embedded engine: one directory a process, so one for the whole session."""
    with TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        store = connect(f"chdb://{folder}")
        yield store
        store.close()


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the store that has rows."""

    name: str


_TABLES = """
SELECT DISTINCT table AS name FROM system.parts
WHERE database = 'costspan' AND active AND table != 'schema_migrations'
"""


@dataclass(frozen=True, slots=True)
class Folder:
    """Where the engine keeps how its tables are laid out."""

    path: str


_FOLDER = "SELECT metadata_path AS path FROM system.databases WHERE name = 'costspan'"

Layout = dict[str, tuple[int, int]]


@pytest.fixture(scope="session")
def layout() -> Layout:
    """How the tables of the engine are laid out: the files that say so; none before they are."""
    return {}


@pytest.fixture
def store(engine: Store, layout: Layout) -> Iterator[Store]:
    """A migrated, empty store. `connect(store.url)` reads the same rows."""
    if not layout:
        migrate(engine)
        layout |= _layout(engine)
    yield engine
    if _layout(engine) == layout:
        for table in engine.select(_TABLES, Table):  # which is quicker than to migrate a new one
            engine.command(f"TRUNCATE TABLE costspan.`{table.name}`")
    else:
        _start_anew(engine, layout)


@pytest.fixture
def empty(engine: Store, layout: Layout) -> Iterator[Store]:
    """A store that is not migrated."""
    _start_anew(engine, layout)
    yield engine
    _start_anew(engine, layout)


def _start_anew(engine: Store, layout: Layout) -> None:
    engine.command("DROP DATABASE costspan SYNC")
    engine.command("CREATE DATABASE costspan")
    engine.command("USE costspan")
    layout.clear()


def _layout(engine: Store) -> Layout:
    """Return the files of the tables and views; to ask the engine for each takes a hundredfold."""
    (folder,) = engine.select(_FOLDER, Folder)
    with os.scandir(Path(engine.url.removeprefix("chdb://"), folder.path)) as files:
        return {file.name: (file.inode(), file.stat().st_mtime_ns) for file in files}


@pytest.fixture(autouse=True)
def no_estimates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Capture as it is without the `tokens` extra; a module may override this fixture."""
    monkeypatch.setenv("COSTSPAN_CAPTURE_ESTIMATES", "false")


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
        answer.array_value.values.extend(map(_any, cast("list[Any]", value)))
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
        """Every call, once, when the store has all that was acknowledged."""
        self.pipeline.settle()
        return self.store.select("SELECT * FROM calls FINAL ORDER BY trace_id, span_id", Call)

    @property
    def attempts(self) -> list[HttpAttempt]:
        """Every HTTP attempt, once, when the store has all that was acknowledged."""
        self.pipeline.settle()
        return self.store.select(
            "SELECT * FROM http_attempts FINAL ORDER BY trace_id, span_id", HttpAttempt
        )


@pytest.fixture
def settings(tmp_path: Path) -> Receiver:
    """The receiver's settings; a test may override this fixture."""
    return Receiver(
        port=0,
        max_body_bytes=200_000,
        queue_spans=1000,
        spool=tmp_path / "spool",
        segment_seconds=0.05,
        min_free_bytes=0,
    )


@pytest.fixture
def written(store: Store) -> Store:
    """What the collector writes to: the engine, in this process. A module may override it."""
    return store


class Place:
    """A server that stays while what it serves changes: to stop one takes 0.2 s."""

    url: str
    app: ASGIApp = Starlette()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the app of now does."""
        await self.app(scope, receive, send)


@pytest.fixture(scope="session")
def place() -> Iterator[Place]:
    """Where the receiver of each test is served, on a free port."""
    place = Place()
    with listen(Receiver(port=0)) as listener, running(place, listener) as place.url:
        yield place


@pytest.fixture
def collector(
    store: Store, written: Store, settings: Receiver, wire: Wire, place: Place
) -> Iterator[Collector]:
    """The receiver, before the real engine."""
    pipeline = Pipeline(written, settings)
    place.app = Starlette(routes=[*routes(pipeline, settings, now=lambda: wire.now)])
    yield Collector(place.url, store, pipeline)
    pipeline.close()


class Provider:
    """A local OpenAI organization: Costs, Usage, projects and keys, with the wire's habits.

    `bill` and `usage` hold result rows by day; an amount is sent as the text it is given as.
    `answer` may be set to answer any request by hand: (path, query) -> (status, body) or None.
    """

    ADMIN_KEY = "sk-admin-of-the-test"

    def __init__(self) -> None:
        self.bill: dict[date, list[dict[str, Any]]] = {}
        self.usage: dict[str, dict[date, list[dict[str, Any]]]] = {}
        self.keys: dict[str, list[tuple[str, str, str]]] = {}
        self.splits_by_key = True
        self.answer: Callable[[str, dict[str, list[str]]], tuple[int, str] | None] | None = None
        self.requests: list[tuple[str, dict[str, list[str]]]] = []
        self.headers: dict[str, str] = {}
        self.url = ""

    def charge(self, day: date, line_item: str, amount: str, **more: Any) -> None:
        """Put one row on the bill."""
        row = {"line_item": line_item, "amount": amount, "project_id": "proj_a", **more}
        self.bill.setdefault(day, []).append(row)

    def count(self, day: date, model: str, **measures: Any) -> None:
        """Put one row into the completions usage."""
        row = {"model": model, "project_id": "proj_a", **measures}
        self.usage.setdefault("completions", {}).setdefault(day, []).append(row)

    def fail(self, status: int, body: str = "{}", *, only: str = "", but: str = "/none") -> None:
        """Answer so to every path that ends with `only` and not with `but`."""

        def answer(path: str, _query: dict[str, list[str]]) -> tuple[int, str] | None:
            return (status, body) if path.endswith(only) and not path.endswith(but) else None

        self.answer = answer

    def reply(self, path: str, query: dict[str, list[str]]) -> tuple[int, str]:
        """Return status and body for one GET."""
        self.requests.append((path, query))
        by_hand = self.answer(path, query) if self.answer else None
        if by_hand is not None:
            return by_hand
        *_, last = path.split("/")
        if last == "costs":
            return self._costs(query)
        if "usage" in path.split("/"):
            return 200, self._page(query, self.usage.get(last, {}), self._usage(last))
        if last == "projects":
            listed = [
                {"id": project, "object": "organization.project", "created_at": 0, "name": project}
                for project in self.keys
            ]
        else:
            listed = [
                {
                    "id": key,
                    "object": "organization.project.api_key",
                    "created_at": 0,
                    "name": name,
                    "redacted_value": f"sk-proj-********{hint}",
                    "owner": {"type": "user"},
                    "owner_project_access": "active",
                }
                for key, name, hint in self.keys[path.split("/")[-2]]
            ]
        last_id = listed[-1]["id"] if listed else None
        body = {"object": "list", "data": listed, "has_more": False, "last_id": last_id}
        return 200, json.dumps(body)

    def _costs(self, query: dict[str, list[str]]) -> tuple[int, str]:
        by = query.get("group_by[]", [])
        if "api_key_id" in by and not self.splits_by_key:
            return 400, json.dumps({"error": {"message": "cannot group by api_key_id"}})

        def result(row: dict[str, Any]) -> dict[str, Any]:
            named = {name: row.get(name) if name in by else None for name in self._BY}
            counted = {name: row.get(name) for name in ("quantity", "quantity_unit")}
            amount = {"value": row["amount"], "currency": row.get("currency", "usd")}
            return {
                "object": "organization.costs.result",
                "amount": amount,
                **named,
                **(counted if "line_item" in by else {}),
            }

        return 200, self._page(query, self.bill, result)

    _BY = ("project_id", "api_key_id", "line_item")

    @staticmethod
    def _usage(source: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
        return lambda row: {"object": f"organization.usage.{source}.result", **row}

    @staticmethod
    def _page(
        query: dict[str, list[str]],
        rows: Mapping[date, list[dict[str, Any]]],
        result: Callable[[dict[str, Any]], dict[str, Any]],
    ) -> str:
        limit, offset = int(query["limit"][0]), int(query.get("page", ["0"])[0])
        starts = range(int(query["start_time"][0]), int(query["end_time"][0]), 86_400)
        shown = starts[offset : offset + limit]
        more = offset + limit < len(starts)
        buckets = [
            {
                "object": "bucket",
                "end_time": start + 86_400,
                "results": [
                    result(row) for row in rows.get(datetime.fromtimestamp(start, UTC).date(), [])
                ],
                "start_time": start,
            }
            for start in shown
        ]
        return json.dumps(
            {
                "object": "page",
                "data": buckets,
                "has_more": more,
                "next_page": str(offset + limit) if more else None,
            }
        )


@pytest.fixture
def provider() -> Iterator[Provider]:
    """The organization's endpoints on a free loopback port."""
    world = Provider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            where = urlsplit(self.path)
            status, body = world.reply(where.path, parse_qs(where.query))
            if self.headers["Authorization"] != f"Bearer {world.ADMIN_KEY}":
                status, body = 401, json.dumps({"error": {"message": "Incorrect API key: sk-bad"}})
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body.encode())))
            self.send_header("x-request-id", f"req_{len(world.requests)}")
            for name, value in world.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    world.url = f"http://127.0.0.1:{server.server_port}/v1"
    yield world
    server.shutdown()
    thread.join()
    server.server_close()


class Loopback:
    """OpenAI's chat endpoint and an OTLP receiver on one loopback port, with kept connections."""

    chat: Mapping[str, Any] = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-4o-mini-2024-07-18",
        "service_tier": "default",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "a secret answer"},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100},
    }

    def __init__(self) -> None:
        self.url = ""
        self.status = {"/v1/chat/completions": 200, "/v1/traces": 200}
        self.traces: list[ExportTraceServiceRequest] = []
        self.headers: list[Mapping[str, str]] = []
        self.asked: list[Mapping[str, Any]] = []
        self.may_answer = threading.Event()
        self.may_answer.set()

    @property
    def spans(self) -> list[tuple[str, Span]]:
        """Every span that arrived, with the name of the service that sent it."""
        return [
            (service.value.string_value, span)
            for request in self.traces
            for sent in request.resource_spans
            for service in sent.resource.attributes
            if service.key == "service.name"
            for scope in sent.scope_spans
            for span in scope.spans
        ]

    def environment(self, **more: str) -> dict[str, str]:
        """Return the environment of an app that calls here and sends its spans here."""
        return {
            **os.environ,
            "OPENAI_BASE_URL": f"{self.url}/v1",
            "OPENAI_API_KEY": "sk-the-key-nobody-may-see",
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.url,
            "COSTSPAN_CAPTURE_PRICED_HOSTS": "127.0.0.1",
            **more,
        }

    def answer(self, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        """Return status and body for one POST."""
        self.may_answer.wait(30)
        status = self.status.get(path, 404)
        if path == "/v1/traces" and status == 200:
            content = gzip.decompress(body) if "content-encoding" in headers else body
            self.traces.append(ExportTraceServiceRequest.FromString(content))
            self.headers.append(headers)
            return 200, b""
        if status != 200:
            return status, b'{"error": {"message": "no, sk-the-key-nobody-may-see"}}'
        self.asked.append(json.loads(body))
        return 200, json.dumps(self.chat).encode()


@pytest.fixture
def loopback() -> Iterator[Loopback]:
    """A place to call and to send spans to."""
    here = Loopback()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, answer = here.answer(self.path, headers, body)
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    here.url = f"http://127.0.0.1:{server.server_port}"
    yield here
    here.may_answer.set()
    server.shutdown()
    thread.join()
    server.server_close()
