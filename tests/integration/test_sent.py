"""Spans that the engine reads by itself become the same rows as those that `normalise` reads."""

import inspect
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai
import pytest
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValueList
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from costspan.errors import Rejected
from costspan.pricing import default_book
from costspan_collector import otlp
from costspan_collector import pipeline as pipelines
from costspan_collector.intake import Intake
from costspan_collector.normalise import normalise
from costspan_collector.pipeline import SCHEMA, Pipeline
from costspan_collector.record import Call, HttpAttempt
from costspan_collector.segments import Part, Segments
from costspan_collector.sent import read, statement, take
from costspan_collector.settings import Receiver
from costspan_collector.store import Store, load_sql

RESOURCES = ("chat/completions", "responses", "embeddings", "completions")
STATEMENT = statement("calls")
CASSETTES = Path(__file__).parents[1] / "data" / "cassettes"
COUNTS = (
    "SELECT service_name, fate, reason, toUInt64(sum(spans)) AS spans FROM span_counts GROUP BY ALL"
)


@dataclass(frozen=True)
class Count:
    service_name: str
    fate: str
    reason: str
    spans: int


@dataclass(frozen=True)
class Found:
    """What the store holds of a request."""

    calls: list[Call]
    attempts: list[HttpAttempt]
    counts: Counter[Count]


class Paths:
    """A collector into which a request goes one way and the other."""

    def __init__(self, store: Store, settings: Receiver, now: datetime) -> None:
        self.store = store
        self.now = now
        self.pipeline = Pipeline(store, settings)
        self._intake = Intake(self.pipeline, settings, default_book(), lambda: now)

    def through_the_door(self, request: ExportTraceServiceRequest | bytes) -> Found:
        """Let the engine read what it can."""
        self.submit(request)
        return self._found()

    def submit(self, request: ExportTraceServiceRequest | bytes) -> None:
        """Send a request, and wait until it is durable."""
        sent = request if isinstance(request, bytes) else request.SerializeToString()
        self._intake.submit(self._intake.read(sent, otlp.PROTOBUF, "")).result(20)

    def by_hand(self, request: ExportTraceServiceRequest) -> Found:
        """Let `normalise` read everything."""
        self.pipeline.submit(normalise(request, received_at=self.now, ingest_id=1)).result(20)
        return self._found()

    @property
    def given_back(self) -> int:
        """Return how often the engine read nothing, since a span was not as the shim makes them."""
        return int(self.pipeline.counters.total("costspan_insert_failures_total"))

    def _found(self) -> Found:
        assert self.pipeline.settle()
        assert self.pipeline.backlog.quarantined == 0
        key = "ORDER BY trace_id, span_id"
        calls = self.store.select(f"SELECT * FROM calls {key}", Call)
        attempts = self.store.select(f"SELECT * FROM http_attempts {key}", HttpAttempt)
        counts = self.store.select(COUNTS, Count)
        for table in ("calls", "http_attempts", "span_counts"):
            self.store.command(f"TRUNCATE TABLE {table}")
        return Found(
            [replace(call, ingest_id=0) for call in calls],
            [replace(attempt, ingest_id=0) for attempt in attempts],
            Counter(counts),
        )


@pytest.fixture(autouse=True)
def none_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the engine read what otherwise would be too few spans for it."""
    monkeypatch.setattr(pipelines, "FEW_SPANS", 0)


@pytest.fixture
def paths(store: Store, settings: Receiver, wire: Any) -> Iterator[Callable[..., Paths]]:
    opened: list[Paths] = []

    def open_(now: datetime = wire.now) -> Paths:
        opened.append(Paths(store, settings, now))
        return opened[-1]

    yield open_
    for each in opened:
        each.pipeline.close()


def taken(request: ExportTraceServiceRequest, now: datetime) -> set[int]:
    return take(request.SerializeToString(), request, received_at=now, ingest_id=1)[1]


def replay(file: Path) -> Iterator[None]:
    """Make the calls of a recording, with the SDK."""
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    for item in yaml.load(file.read_text(encoding="utf-8"), loader)["interactions"]:  # noqa: S506
        asked, told = item["request"], item["response"]
        url = urlsplit(str(asked["uri"]))
        resource = next((name for name in RESOURCES if url.path.endswith(f"/{name}")), None)
        if asked["method"] != "POST" or resource is None:
            continue
        content = told["body"]["string"]
        content = content if isinstance(content, bytes) else content.encode()
        headers = {name.lower(): values[0] for name, values in told["headers"].items()}
        if not content.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd")):
            headers.pop("content-encoding", None)  # the recorder had decompressed it
        for hop in ("transfer-encoding", "content-length"):
            headers.pop(hop, None)

        def answer(
            _request: httpx2.Request,
            status: int = told["status"]["code"],
            headers: dict[str, str] = headers,
            content: bytes = content,
        ) -> httpx2.Response:
            return httpx2.Response(status, headers=headers, content=content)

        with openai.OpenAI(
            api_key="sk-a-key-that-is-long-enough-to-hint",
            base_url=f"{url.scheme}://{url.netloc}{url.path.removesuffix(f'/{resource}')}",
            max_retries=1,
            http_client=httpx2.Client(transport=httpx2.MockTransport(answer)),
        ) as client:
            part: Any = client
            for name in resource.split("/"):
                part = getattr(part, name)
            body = json.loads(asked["body"])
            names = inspect.signature(part.create).parameters
            extra = {name: body.pop(name) for name in list(body) if name not in names}
            try:
                made: Any = part.create(**body, extra_body=extra or None)
                if body.get("stream"):
                    list(made)
            except openai.APIError:
                pass
            yield


def test_what_the_shim_sends_is_read_by_the_engine_as_by_hand(
    paths: Callable[..., Paths], capture: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_pause(_seconds: float) -> None:
        """Wait for nothing before a retry."""

    monkeypatch.setattr("time.sleep", no_pause)
    captured = capture(priced_hosts=("*.openai.com", "*.azure.com"))
    made = sum(1 for file in sorted(CASSETTES.rglob("*.yaml")) for _ in replay(file))
    request = encode_spans(captured.spans)
    both = paths(datetime.now(UTC).replace(microsecond=0))
    found = both.through_the_door(request)
    assert both.given_back == 0
    expected = both.by_hand(request)
    assert found.counts == expected.counts
    assert found.attempts == expected.attempts
    assert found.calls == expected.calls
    spans = sum(len(scope.spans) for at in request.resource_spans for scope in at.scope_spans)
    by_engine = len(taken(request, both.now))
    print(f"{made} calls, {len(found.attempts)} attempts; the engine read {by_engine} of {spans}")
    assert made > 300
    assert by_engine > 0.9 * spans


LONG = "é" * 600
UNCHANGED: list[dict[str, Any]] = [
    {},
    {"parent_span_id": b"parent__"},
    {"status": Status(code=Status.STATUS_CODE_ERROR)},
    {"error.type": "Timeout", "costspan.error.code": "408"},
    {"gen_ai.response.finish_reasons": ["stop", "length"]},
    {"gen_ai.response.finish_reasons": []},
    {"gen_ai.request.stream": True},
    {"gen_ai.request.stream": False},
    {"costspan.stream.outcome": "completed"},
    {"gen_ai.response.time_to_first_chunk": 0.2503},
    {"gen_ai.response.time_to_first_chunk": 0.0000025},
    {"gen_ai.response.time_to_first_chunk": 5e-324},
    {"gen_ai.response.time_to_first_chunk": 999999999.9999999},
    {"costspan.request.retries": 65535},
    {"gen_ai.usage.input_tokens": 0, "gen_ai.usage.output_tokens": 0},
    {"gen_ai.usage.input_tokens": 2**21 - 1},
    {"gen_ai.usage.cache_read.input_tokens": 600, "gen_ai.usage.cache_creation.input_tokens": 400},
    {"gen_ai.usage.cache_read.input_tokens": 600, "gen_ai.usage.cache_creation.input_tokens": 401},
    {"gen_ai.usage.cache_read.input_tokens": 2**20, "gen_ai.usage.input_tokens": 2**20},
    {"gen_ai.usage.reasoning.output_tokens": 100},
    {"gen_ai.usage.reasoning.output_tokens": 101},
    {"costspan.usage.accepted_prediction_tokens": "many"},
    {"costspan.cost.part.input": 0, "costspan.cost.part.output": 210_000_000},
    {"costspan.cost.part.web_search": 0},
    {"costspan.cost.part.search_content": 0},
    {"costspan.cost.usd": "0.000210000000"},
    {"costspan.cost.usd": "999999.999999999999", "costspan.cost.part.input": 999999999939999999},
    {"costspan.price.status": "unknown_model"},
    {"x.note": "x" * 5000, "server.port": 443},
    {"openinference.span.kind": "CHAIN"},
    {"openinference.span.kind": True, "gen_ai.usage.total_tokens": 1100},
    {"costspan.user": "ü\x00\n'", "costspan.feature": "x" * 1024},
    {"start_time_unix_nano": 1763600000_123456789, "end_time_unix_nano": 1763600000_123458788},
]
"""Changes to a span that leave it as the shim makes them."""
ODD: list[dict[str, Any]] = [
    {"x.y": AnyValue()},
    {"costspan.user": LONG},
    {"costspan.user": "x" * 1025},
    {"costspan.user": ""},
    {"costspan.user": AnyValue()},
    {"costspan.user": 0.0},
    {"costspan.user": 1.5},
    {"costspan.user": AnyValue(bytes_value=b"x")},
    {"costspan.user": AnyValue(kvlist_value=KeyValueList())},
    {"gen_ai.response.finish_reasons": [""]},
    {"gen_ai.response.finish_reasons": [AnyValue()]},
    {"gen_ai.response.finish_reasons": [1.5]},
    {"gen_ai.response.finish_reasons": [LONG]},
    {"gen_ai.response.finish_reasons": "stop"},
    {"gen_ai.response.finish_reasons": 0},
    {"gen_ai.response.finish_reasons": ["stop"] * 129},
    {"gen_ai.request.stream": 0},
    {"gen_ai.request.stream": ""},
    {"gen_ai.request.stream": AnyValue()},
    {"gen_ai.operation.name": "invoke_agent"},
    {"gen_ai.usage.input_tokens": "5"},
    {"gen_ai.usage.cache_read.input_tokens": ""},
    {"gen_ai.usage.output_tokens": 0.0},
    {"gen_ai.usage.reasoning.output_tokens": False},
    {"costspan.request.retries": AnyValue()},
    {"gen_ai.usage.input_tokens": -1},
    {"gen_ai.usage.output_tokens": 2**21},
    {"gen_ai.usage.reasoning.output_tokens": -(2**63)},
    {"costspan.request.retries": 65536},
    {"gen_ai.response.time_to_first_chunk": "1"},
    {"gen_ai.response.time_to_first_chunk": 0.0},
    {"gen_ai.response.time_to_first_chunk": -0.0},
    {"gen_ai.response.time_to_first_chunk": -1.0},
    {"gen_ai.response.time_to_first_chunk": 1e9},
    {"gen_ai.response.time_to_first_chunk": float("nan")},
    {"gen_ai.response.time_to_first_chunk": float("inf")},
    {"costspan.cost.usd": ""},
    {"costspan.cost.usd": "0.00022"},
    {"costspan.cost.usd": "2.1E-4"},
    {"costspan.cost.usd": "0.0002100000000"},
    {"costspan.cost.usd": "0.00021\n"},
    {"costspan.cost.usd": "1000000"},
    {"costspan.cost.usd": "-0.00021"},
    {"costspan.cost.usd": "٣"},
    {"costspan.cost.part.cached_input": ""},
    {"costspan.cost.part.cached_input": 0.0},
    {"costspan.cost.part.cached_input": AnyValue()},
    {"costspan.cost.part.input": -1},
    {"costspan.cost.part.input": 210_000_001, "costspan.cost.part.output": -1},
    {"costspan.cost.part.input": 10**18},
    {"costspan.cost.part.input": 2**63 - 1, "costspan.cost.part.output": 2**63 - 1},
    {"costspan.price.status": "", "gen_ai.usage.input_tokens": 3},
]
"""Changes that only their values tell: the engine must see them and read nothing."""


def test_the_engine_reads_what_it_is_given_as_by_hand(
    paths: Callable[..., Paths], wire: Any
) -> None:
    both = paths()
    request = wire.request(*(wire.span(n, **changes) for n, changes in enumerate(UNCHANGED)))
    assert taken(request, wire.now) == set(range(len(UNCHANGED)))
    found = both.through_the_door(request)
    assert both.given_back == 0
    assert found == both.by_hand(request)
    assert len(found.calls) == len(UNCHANGED)


def test_the_engine_reads_nothing_where_a_value_is_odd(store: Store, wire: Any) -> None:
    missed: list[dict[str, Any]] = []
    no_parts = {f"costspan.cost.part.{meter}": 0 for meter in ("input", "output")}
    for without, changes in [
        *(((), changes) for changes in ODD),
        (("costspan.cost.usd",), no_parts),
    ]:
        request = wire.request(wire.span(1), wire.span(2, *without, **changes))
        (sent,), places = take(
            request.SerializeToString(), request, received_at=wire.now, ingest_id=1
        )
        assert places == {0, 1}
        try:
            store.insert_read("calls", sent.block, statement=STATEMENT, schema=SCHEMA, at_once=8)
            missed.append(changes)
        except Rejected:
            pass
    assert missed == []
    assert store.select("SELECT * FROM calls", Call) == []


def varint(number: int, padding: int = 0) -> bytes:
    """Return a number as protobuf writes one, in more bytes than it takes if asked to."""
    groups = [number >> shift & 127 for shift in range(0, max(number.bit_length(), 1), 7)]
    groups += [0] * padding
    return bytes([*(group | 128 for group in groups[:-1]), groups[-1]])


def field(number: int, value: int | bytes, padding: int = 0) -> bytes:
    """Return a field: a varint, or what has a length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value, padding)
    return varint(number << 3 | 2) + varint(len(value), padding) + value


def fixed(number: int, value: bytes) -> bytes:
    """Return a field of four bytes or eight."""
    return varint(number << 3 | (5 if len(value) == 4 else 1)) + value


def group(number: int, value: bytes) -> bytes:
    """Return a field as protobuf wrote messages once."""
    return varint(number << 3 | 3) + value + varint(number << 3 | 4)


def noted(value: bytes, after: bytes = b"") -> bytes:
    """Return an attribute of a span."""
    return field(9, NOTED + field(2, value) + after)


NOTED, TEXT, COUNT = field(1, b"x.note"), field(1, b"abc"), field(3, 300)
UNKNOWN = [
    *(field(number, value) for number in (99, 1000) for value in (0, 1, 2**40, b"", b"abc")),
    fixed(99, bytes(4)),
    fixed(99, bytes(8)),
    group(99, b""),
]
MORE_THAN_READ = [
    *UNKNOWN,
    *(noted(TEXT + unknown) for unknown in UNKNOWN),
    *(noted(TEXT, unknown) for unknown in UNKNOWN),
    *(noted(field(5, field(1, TEXT + unknown))) for unknown in UNKNOWN),
    *(field(15, field(3, 1) + unknown) for unknown in UNKNOWN),
    field(1, b"t" * 16),
    field(2, b"s" * 8),
    field(5, b"another name"),
    field(6, 0),
    field(6, 300),
    fixed(16, bytes(4)),
    noted(field(7, b"abc")),
    noted(field(6, field(1, field(1, b"k") + field(2, TEXT)))),
    noted(field(3, 5, padding=1)),
    noted(field(1, b"abc", padding=1)),
    noted(field(5, field(1, COUNT))),
    noted(field(5, field(1, field(1, b"")))),
    noted(b""),
    field(9, field(1, b"")),
    field(9, NOTED * 2 + field(2, TEXT)),
    field(9, NOTED + field(2, TEXT), padding=1),
]
"""What a span may hold beside what makes a row, or hold in more bytes than it takes."""
FULL = group(99, TEXT + COUNT)
UNREADABLE = [
    FULL,
    noted(TEXT + FULL),
    noted(TEXT, FULL),
    field(15, field(3, 1) + FULL),
    field(15, b"") * 2,
    noted(TEXT + TEXT),
    noted(TEXT + COUNT),
    noted(COUNT + TEXT),
    noted(fixed(3, bytes(4))),
    noted(fixed(3, bytes(8))),
    noted(fixed(4, bytes(4))),
    noted(field(3, b"ab")),
    field(9, NOTED + field(2, TEXT) + field(2, COUNT)),
    field(9, 5),
    field(15, 5),
    field(16, 5),
]
"""What the engine stumbles over."""
ALL_READ = [
    b"",
    field(3, b"vendor=1"),
    field(6, 3),
    field(15, b""),
    field(15, field(3, 1)),
    fixed(16, b"\0\1\0\0"),
    *(noted(field(3, number)) for bits in range(64) for number in (2**bits - 1, 2**bits)),
    noted(field(3, 2**64 - 5)),  # -5
    *(noted(field(1, b"x" * size)) for size in (0, 1, 90, 110, 118, 119, 127, 128, 129, 9000)),
    noted(field(2, 1)),
    noted(field(2, 0)),
    noted(fixed(4, bytes(8))),
    noted(field(5, b"")),
    noted(field(5, field(1, TEXT) * 2)),
    noted(field(5, field(1, TEXT) * 20)),
    noted(field(5, field(1, b""))),
    field(9, NOTED),
    field(9, field(2, TEXT)),
    field(4, b""),
]


@dataclass(frozen=True)
class Length:
    is_more_than_read: bool


def body(wire: Any, *spans: bytes) -> bytes:
    """Return the request that carries spans as they are."""
    (resource,) = wire.request().resource_spans
    scope = b"".join(field(2, span) for span in spans)
    return field(1, field(1, resource.resource.SerializeToString()) + field(2, scope))


def test_a_span_that_holds_more_than_is_read_of_it_is_known_by_its_length(
    store: Store, wire: Any, tmp_path: Path
) -> None:
    span = wire.span(1).SerializeToString()
    some = body(wire, *(span + more for more in (*MORE_THAN_READ, *ALL_READ)))
    request = ExportTraceServiceRequest.FromString(some)
    (sent,), places = take(some, request, received_at=wire.now, ingest_id=1)
    assert len(places) == len(MORE_THAN_READ) + len(ALL_READ)
    file = tmp_path / "segment"
    file.write_bytes(sent.block)
    spans = load_sql("costspan_collector", "sent_spans").replace("{table}", "calls")
    settings = f"format_schema = '{SCHEMA}', input_format_protobuf_oneof_presence = 1"
    sql = f"SELECT is_more_than_read FROM ({spans}) SETTINGS {settings}"
    told = [each.is_more_than_read for each in store.select(sql, Length, path=str(file))]
    assert told == [True] * len(MORE_THAN_READ) + [False] * len(ALL_READ)


def test_what_is_oddly_written_makes_the_rows_it_makes_by_hand(
    paths: Callable[..., Paths], wire: Any
) -> None:
    both = paths()
    others = [
        [noted(fixed(3, b"\x80\x80\x80\1"))],  # might be a number
        [noted(field(1, 5))],
        [fixed(5, bytes(8))],
        [field(5, b"\xc3\xa4" * 100) + field(3, b"a=b," * 90)],
    ]
    for more in (MORE_THAN_READ, *([each] for each in UNREADABLE), *others):
        spans = [wire.span(n).SerializeToString() + each for n, each in enumerate(more)]
        some = body(wire, wire.span(900).SerializeToString(), *spans)
        found = both.through_the_door(some)
        assert found == both.by_hand(ExportTraceServiceRequest.FromString(some))
        assert len(found.calls) == len(more) + 1
    assert both.given_back >= 1 + len(UNREADABLE)


@pytest.mark.parametrize("name", ["gen_ai.usage.input_tokens", "costspan.cost.part.input"])
@pytest.mark.parametrize(
    "value", [b"\x80\x80\x80\1", b"\xff\xff\xff\x3f", b"\x80" * 7 + b"\1"], ids=bytes.hex
)
def test_a_number_of_another_type_is_none(
    paths: Callable[..., Paths], wire: Any, name: str, value: bytes
) -> None:
    both = paths()
    attribute = field(9, field(1, name.encode()) + field(2, fixed(3, value)))
    some = body(wire, wire.span(1, name).SerializeToString() + attribute)
    found = both.through_the_door(some)
    assert found == both.by_hand(ExportTraceServiceRequest.FromString(some))
    assert both.given_back == 1


def test_lengths_may_be_written_in_more_bytes_than_they_take(
    paths: Callable[..., Paths], wire: Any
) -> None:
    both = paths()
    span = wire.span(1)
    attributes = [field(9, each.SerializeToString(), padding=2) for each in span.attributes]
    span.ClearField("attributes")
    some = field(1, body(wire, span.SerializeToString() + b"".join(attributes))[3:], padding=2)
    found = both.through_the_door(some)
    assert both.given_back == 0
    assert found == both.by_hand(ExportTraceServiceRequest.FromString(some))
    assert len(found.calls) == 1


ATTEMPT = {"costspan.request.attempt": 0, "http.request.method": "POST"}
ODD_ATTEMPTS: list[dict[str, Any]] = [
    {"costspan.request.attempt": ""},
    {"costspan.request.attempt": 65536},
    {"http.response.status_code": "200"},
    {"http.response.status_code": 0.0},
    {"http.response.status_code": 1000},
    {"http.request.method": AnyValue()},
    {"error.type": "x" * 1025},
]


def test_the_engine_reads_no_attempt_where_a_value_is_odd(store: Store, wire: Any) -> None:
    for changes in ({}, *ODD_ATTEMPTS):
        request = wire.request(wire.plain_span(1, {**ATTEMPT, **changes}))
        (sent,), _ = take(request.SerializeToString(), request, received_at=wire.now, ingest_id=1)
        expected = normalise(request, received_at=wire.now, ingest_id=1)
        try:
            store.insert_read(
                "http_attempts",
                sent.block,
                statement=statement("http_attempts"),
                schema=SCHEMA,
                at_once=8,
            )
            assert not changes
            assert store.select("SELECT * FROM http_attempts", HttpAttempt) == expected.attempts
        except Rejected:
            assert changes
            assert replace(read(sent.block), senders=[]) == expected


@pytest.mark.parametrize(
    "name",
    [
        "gen_ai.input.messages",
        "gen_ai.output.messages",
        "gen_ai.system_instructions",
        "input.value",
        "llm.output_messages.0.message.content",
        "traceloop.entity.output",
    ],
)
def test_what_was_asked_and_answered_is_on_no_disk(
    store: Store, settings: Receiver, wire: Any, name: str
) -> None:
    pipeline = Pipeline(store, settings.model_copy(update={"segment_seconds": 60}))
    intake = Intake(pipeline, settings, default_book(), lambda: wire.now)
    request = wire.request(wire.span(1, **{name: "nobody may see this"}))
    intake.submit(intake.read(request.SerializeToString(), otlp.PROTOBUF, "")).result(20)
    assert settings.spool
    (segment,) = settings.spool.glob("*.segment")
    assert b"nobody may see this" not in segment.read_bytes()
    pipeline.close()
    assert len(store.select("SELECT * FROM calls", Call)) == 1


@pytest.mark.parametrize("code", Status.StatusCode.values())
def test_what_happened_within_a_span_is_on_no_disk(wire: Any, code: Any) -> None:
    secret = "nobody may see this"
    span = wire.span(1, status=Status(code=code, message=secret))
    span.events.add(name=secret).attributes.add(key="gen_ai.prompt").value.string_value = secret
    span.links.add(trace_state=secret)
    span.dropped_events_count = 1
    request = wire.request(span)
    (sent,), _ = take(request.SerializeToString(), request, received_at=wire.now, ingest_id=1)
    assert secret.encode() not in sent.block
    (call,) = read(sent.block).calls
    assert call.status == ("error" if code == Status.STATUS_CODE_ERROR else "ok")


def test_one_odd_span_keeps_the_engine_from_no_more_than_a_piece_of_a_segment(
    store: Store, settings: Receiver, wire: Any
) -> None:
    both = Paths(store, settings.model_copy(update={"segment_seconds": 60}), wire.now)
    some = [wire.request(wire.span(2 * n), wire.span(2 * n + 1)) for n in range(20)]
    some[7] = wire.request(wire.span(14, **{"costspan.user": LONG}), wire.span(15))
    for request in some:
        both.submit(request)
    assert both.pipeline.settle()
    both.pipeline.close()
    assert both.given_back == 2
    assert both.pipeline.counters.total("costspan_insert_seconds_count", table="calls") == 6 + 1
    assert len(store.select("SELECT * FROM calls", Call)) == 40


def test_what_is_odd_is_read_by_hand_after_all(paths: Callable[..., Paths], wire: Any) -> None:
    both = paths()
    odd = [wire.span(number, **changes) for number, changes in enumerate(ODD)]
    request = wire.request(*odd, *(wire.span(100 + n) for n in range(3)))
    found = both.through_the_door(request)
    assert both.given_back == 1
    assert both.pipeline.counters.total("costspan_spans_refused_total", reason="bad_cost") == 5
    assert found == both.by_hand(request)
    assert len(found.calls) > 10


def test_few_spans_are_read_here_and_many_by_the_engine(
    paths: Callable[..., Paths], wire: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    both = paths()
    real, asked = Store.insert_read, list[str]()

    def insert_read(self: Store, table: str, data: Any, **more: Any) -> None:
        asked.append(table)
        real(self, table, data, **more)

    monkeypatch.setattr(Store, "insert_read", insert_read)
    for spans, read_by_engine in ((297, []), (298, ["calls"])):
        found = both.through_the_door(wire.request(*map(wire.span, range(spans))))
        assert found.counts == {Count("shop", "calls", "", spans): 1}
        assert len(found.calls) == spans
        assert asked == read_by_engine


def test_a_span_that_is_twice_in_a_segment_is_one_call(store: Store, wire: Any) -> None:
    request = wire.request(wire.span(1), wire.span(1))
    (sent,), _ = take(request.SerializeToString(), request, received_at=wire.now, ingest_id=1)
    store.insert_read("calls", sent.block, statement=STATEMENT, schema=SCHEMA, at_once=8)
    assert len(store.select("SELECT * FROM calls FINAL", Call)) == 1


def test_the_spool_may_have_any_name(
    store: Store, settings: Receiver, wire: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    both = Paths(store, settings.model_copy(update={"spool": Path("a{b,c}*?[1]")}), wire.now)
    found = both.through_the_door(wire.request(wire.span(1)))
    both.pipeline.close()
    assert (len(found.calls), both.given_back) == (1, 0)


def test_what_is_wrong_in_a_segment_keeps_the_engine_from_no_span_beside_it(
    store: Store, settings: Receiver, wire: Any
) -> None:
    assert settings.spool
    left = Segments(settings.spool, most_bytes=10**6, least_free_bytes=0)
    ends = [0]
    for number in range(4):
        request = wire.request(wire.span(number), wire.plain_span(10 + number, ATTEMPT))
        sent, _ = take(request.SerializeToString(), request, received_at=wire.now, ingest_id=1)
        ends.append(left.append([Part(e.table, e.spans, e.block, is_sent=True) for e in sent]))
    left.close()
    (path,) = settings.spool.glob("*.segment")
    data = bytearray(path.read_bytes()[:-1])
    data[(ends[1] + ends[2]) // 2] ^= 1
    path.write_bytes(data)
    pipeline = Pipeline(store, settings)
    assert pipeline.settle()
    for fault in ("corrupt", "torn"):
        assert pipeline.counters.total("costspan_segment_faults_total", reason=fault) == 1
    pipeline.close()
    for table in ("calls", "http_attempts"):
        assert pipeline.counters.total("costspan_spans_stored_total", table=table) == 2
    assert [call.span_id[-1] for call in store.select("SELECT * FROM calls", Call)] == [1, 3]
    assert len(store.select("SELECT * FROM http_attempts", HttpAttempt)) == 2


def test_a_segment_of_a_release_that_kept_no_lengths_is_stored(
    store: Store, settings: Receiver, wire: Any
) -> None:
    assert settings.spool
    received_us = int(wire.now.timestamp()) * 10**6
    sent = b"".join(
        [
            *(field(2, wire.span(number).SerializeToString()) for number in range(3)),
            field(101, b"shop"),
            field(104, received_us),
            field(105, 1),
        ]
    )
    left = Segments(settings.spool, most_bytes=10**6, least_free_bytes=0)
    left.append([Part("calls", 3, varint(len(sent)) + sent, is_sent=True)])
    left.close()
    both = Paths(store, settings, wire.now)
    found = both.by_hand(wire.request())
    both.pipeline.close()
    assert (len(found.calls), both.given_back) == (3, 1)


CALLS: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(
        (
            "gen_ai.response.model",
            "costspan.user",
            "costspan.feature",
            "error.type",
            "server.address",
        ),
        st.text(max_size=20),
    ),
    "gen_ai.operation.name": st.sampled_from(["chat", "embeddings", "create_agent"]),
    "openinference.span.kind": st.sampled_from(["LLM", "CHAIN"]),
    "gen_ai.usage.input_tokens": st.integers(-1, 2**41),
    "gen_ai.usage.total_tokens": st.integers(0, 10**4),
    "gen_ai.usage.output_tokens": st.integers(0, 10**4),
    "gen_ai.usage.cache_read.input_tokens": st.integers(0, 1200),
    "gen_ai.usage.cache_creation.input_tokens": st.integers(0, 1200),
    "gen_ai.usage.reasoning.output_tokens": st.integers(0, 120),
    "gen_ai.response.time_to_first_chunk": st.floats(),
    "gen_ai.response.finish_reasons": st.lists(st.text(max_size=5), max_size=3),
    "costspan.cost.part.input": st.integers(-1, 2**60),
    "costspan.cost.part.cached_input": st.just(0),
    "costspan.cost.usd": st.decimals(0, 10, places=12).map(str),
    "costspan.price.status": st.sampled_from(["priced", "unknown_model", ""]),
}


@hypothesis_settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.fixed_dictionaries({}, optional=CALLS), st.sets(st.sampled_from(sorted(CALLS)), max_size=4)
)
def test_a_span_that_the_engine_reads_is_the_row_it_is_by_hand(
    store: Store, wire: Any, changes: dict[str, Any], without: set[str]
) -> None:
    request = wire.request(wire.span(1, *without, **changes))
    for sent in take(request.SerializeToString(), request, received_at=wire.now, ingest_id=1)[0]:
        store.command("TRUNCATE TABLE calls")
        try:
            store.insert_read("calls", sent.block, statement=STATEMENT, schema=SCHEMA, at_once=8)
        except Rejected:
            assert read(sent.block) == normalise(request, received_at=wire.now, ingest_id=1)
        else:
            expected = normalise(request, received_at=wire.now, ingest_id=1).calls
            assert store.select("SELECT * FROM calls", Call) == expected
