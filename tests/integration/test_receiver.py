import gzip
import json
import socket
import sys
import time
import zlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx2
import pytest
from google.protobuf import json_format
from google.rpc.status_pb2 import Status
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, TracesData
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from pydantic import SecretStr
from starlette.applications import Starlette

from costspan_collector import otlp
from costspan_collector.listening import listen, running
from costspan_collector.record import Call
from costspan_collector.settings import Receiver
from costspan_collector.store import connect

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PROTOBUF = "application/x-protobuf"
JSON = "application/json"


@dataclass(frozen=True)
class Balance:
    hour: datetime
    service_name: str
    received: int
    accepted: int
    refused: int
    passed_by: int
    kept: int
    duplicates: int


def as_json(request: ExportTraceServiceRequest) -> bytes:
    """OTLP/JSON: hex ids, which protobuf's own JSON does not have."""
    document = json_format.MessageToDict(request)
    for resource_spans in document["resourceSpans"]:
        for scope_spans in resource_spans["scopeSpans"]:
            for span, sent in zip(
                scope_spans["spans"], request.resource_spans[0].scope_spans[0].spans, strict=True
            ):
                span["traceId"], span["spanId"] = sent.trace_id.hex().upper(), sent.span_id.hex()
    return json.dumps(document).encode()


def said(response: Any) -> str:
    """The message of an error answer, in the form of the request."""
    if response.headers["content-type"] == PROTOBUF:
        return Status.FromString(response.content).message
    return response.json()["message"]


def same(calls: list[Call]) -> list[tuple[Any, ...]]:
    """The calls without what differs from delivery to delivery."""
    names = [n for n in Call.__dataclass_fields__ if n not in {"received_at", "ingest_id"}]
    return [tuple(repr(getattr(call, name)) for name in names) for call in calls]


def test_protobuf_json_and_every_compression_make_the_same_rows(collector: Any, wire: Any) -> None:
    request = wire.request(*(wire.span(number) for number in range(20)))
    raw = request.SerializeToString()
    bodies: list[tuple[bytes, str, dict[str, str]]] = [
        (raw, PROTOBUF, {}),
        (gzip.compress(raw, mtime=0), PROTOBUF, {"content_encoding": "gzip"}),
        (zlib.compress(raw), PROTOBUF, {"content_encoding": "deflate"}),
        (zstd.compress(raw), PROTOBUF, {"content_encoding": "zstd"}),
        (as_json(request), JSON, {}),
        (
            gzip.compress(as_json(request), mtime=0),
            f"{JSON}; charset=utf-8",
            {"content_encoding": "gzip"},
        ),
    ]
    rows: list[list[tuple[Any, ...]]] = []
    for body, kind, headers in bodies:
        response = collector.post(body, kind, **headers)
        assert response.status_code == 200
        assert response.headers["content-type"] == kind.partition(";")[0]
        rows.append(same(collector.calls))
        collector.store.command("TRUNCATE TABLE calls")
    assert len(rows[0]) == 20
    assert all(found == rows[0] for found in rows)


def test_what_is_acknowledged_is_on_disk_and_soon_in_the_store(collector: Any, wire: Any) -> None:
    other = connect(collector.store.url, read_only=True)
    for number in range(3):
        before = collector.total("spans_stored_total")
        assert collector.post(wire.request(wire.span(number))).status_code == 200
        assert collector.pipeline.backlog.bytes or collector.total("spans_stored_total") > before
        assert collector.pipeline.settle()
        assert collector.pipeline.backlog.bytes == 0
        assert len(other.select("SELECT * FROM calls FINAL", Call)) == number + 1
    other.close()


def test_the_real_exporter_is_understood(collector: Any, wire: Any) -> None:
    provider = TracerProvider(resource=Resource.create({"service.name": "shop"}))
    exporter = OTLPSpanExporter(f"{collector.url}/v1/traces", compression=Compression.Gzip)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("costspan")
    start = int((wire.now - timedelta(minutes=1)).timestamp() * 10**9)
    for _ in range(50):
        call = tracer.start_span("chat", attributes=dict(wire.chat), start_time=start)
        call.end(start + 2_000_000_000)
    provider.shutdown()
    calls = collector.calls
    assert len(calls) == 50
    assert {call.service_name for call in calls} == {"shop"}
    assert sum(call.cost_usd for call in calls) == Decimal("0.01050")
    assert {call.duration_us for call in calls} == {2_000_000}
    assert collector.total("spans_accepted_total", table="calls") == 50


@pytest.mark.parametrize("kind", [PROTOBUF, JSON])
def test_one_bad_span_does_not_cost_the_good_ones(collector: Any, wire: Any, kind: str) -> None:
    bad = wire.span(2, "costspan.price.status", **{"gen_ai.usage.input_tokens": "many"})
    request = wire.request(wire.span(1), bad, wire.span(3))
    body = request.SerializeToString() if kind == PROTOBUF else as_json(request)
    response = collector.post(body, kind)
    assert response.status_code == 200
    answer = ExportTraceServiceResponse()
    if kind == PROTOBUF:
        answer.ParseFromString(response.content)
    else:
        json_format.Parse(response.content, answer)
    assert answer.partial_success.rejected_spans == 1
    message = answer.partial_success.error_message
    assert message.startswith("span 1 (trace 00000000000000000000000000000001, span 00")
    assert message.endswith("gen_ai.usage.input_tokens is string where a whole number belongs")
    assert [call.span_id[-1] for call in collector.calls] == [2, 4]
    assert collector.total("spans_refused_total", reason="wrong_type") == 1


def test_a_span_with_an_id_that_is_no_hex_is_refused_alone(collector: Any, wire: Any) -> None:
    document = json.loads(as_json(wire.request(wire.span(1), wire.span(2))))
    document["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["traceId"] = "not hex"
    response = collector.post(json.dumps(document).encode(), JSON)
    assert response.json()["partialSuccess"]["rejectedSpans"] == "1"
    assert len(collector.calls) == 1


def test_many_refusals_are_named_in_a_few_words(collector: Any, wire: Any) -> None:
    spans = [wire.span(number, span_id=b"") for number in range(100)]
    response = collector.post(wire.request(*spans))
    partial = ExportTraceServiceResponse.FromString(response.content).partial_success
    assert partial.rejected_spans == 100
    assert partial.error_message.endswith("; and 95 more")


@pytest.mark.parametrize(("body", "kind"), [(b"", PROTOBUF), (b"{}", JSON)])
def test_an_empty_request_is_welcome(collector: Any, body: bytes, kind: str) -> None:
    response = collector.post(body, kind)
    assert (response.status_code, response.headers["content-type"]) == (200, kind)


@pytest.mark.parametrize(
    ("body", "kind", "encoding", "says"),
    [
        (b"hello", PROTOBUF, "", "not a protobuf ExportTraceServiceRequest"),
        (b"{", JSON, "", "not JSON: Expecting property name"),
        (b"\xff", JSON, "", "not JSON in UTF-8"),
        (b"[]", JSON, "", "no object"),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, JSON, "", "nesting"),
        (b'{"resourceSpans":{}}', JSON, "", "no OTLP trace request"),
        (b'{"resourceSpans":[3]}', JSON, "", "no OTLP trace request"),
        (b"hello", PROTOBUF, "gzip", "not what Content-Encoding says"),
        (gzip.compress(b"", mtime=0)[:-1], PROTOBUF, "gzip", "cut off"),
        (gzip.compress(b"", mtime=0) + b"x", PROTOBUF, "gzip", "something follows"),
    ],
)
def test_what_is_malformed_is_refused_for_good_with_the_reason(
    collector: Any, body: bytes, kind: str, encoding: str, says: str
) -> None:
    response = collector.post(body, kind, content_encoding=encoding)
    assert response.status_code == 400
    assert "retry-after" not in response.headers
    assert says in said(response)
    assert "secret" not in said(response)


@pytest.mark.parametrize(
    ("kind", "encoding"), [("text/plain", ""), ("", ""), (PROTOBUF, "br"), (JSON, "lz4")]
)
def test_an_unknown_form_is_named(collector: Any, kind: str, encoding: str) -> None:
    response = collector.post(b"x", kind, content_encoding=encoding)
    assert response.status_code == 415
    assert "must be" in said(response)


def test_a_body_that_is_too_large_is_refused(collector: Any, settings: Any) -> None:
    response = collector.post(b"x" * (settings.max_body_bytes + 1))
    assert response.status_code == 413
    assert "send fewer spans at once" in said(response)


def small(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


MANY = TracesData(resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=[Span()] * 60_000)])])


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (MANY.SerializeToString(), PROTOBUF),
        (small(json_format.MessageToDict(MANY)), JSON),
        # Protobuf's own JSON has these names too.
        (small(json_format.MessageToDict(MANY, preserving_proto_field_name=True)), JSON),
    ],
    ids=["protobuf", "json", "json by the names of protobuf"],
)
def test_a_small_body_of_very_many_spans_is_refused(collector: Any, body: bytes, kind: str) -> None:
    response = collector.post(body, kind)
    assert response.status_code == 413
    assert "60000 spans in one request" in said(response)


@pytest.mark.parametrize(
    ("body", "kind", "reason"),
    [
        (b"\n\x00" * 60_000, PROTOBUF, "60000 resources in one request"),
        (
            TracesData(resource_spans=[ResourceSpans(scope_spans=[ScopeSpans()] * 60_000)]),
            PROTOBUF,
            "60000 scopes in one request",
        ),
    ],
    ids=["resources", "scopes"],
)
def test_a_small_body_of_very_many_pieces_is_refused_before_they_are_looked_at(
    collector: Any, body: Any, kind: str, reason: str
) -> None:
    response = collector.post(body, kind)
    assert (response.status_code, reason in said(response)) == (413, True)


def test_json_of_very_many_pieces_is_refused_before_it_is_read() -> None:
    with pytest.raises(otlp.TooMany, match="1048577 objects and lists in one request"):
        otlp.decode(b"[" * (2**20 + 1), JSON, most_spans=1)


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_body_that_unpacks_to_too_much_is_not_unpacked(collector: Any, encoding: str) -> None:
    plain = bytes(100_000_000)
    bomb = gzip.compress(plain, compresslevel=9) if encoding == "gzip" else zstd.compress(plain)
    assert len(bomb) < 200_000
    started = time.process_time()
    response = collector.post(bomb, content_encoding=encoding)
    assert response.status_code == 413
    assert time.process_time() - started < 1
    assert collector.total("requests_refused_total", reason="bytes") == 1


def test_a_frame_that_asks_for_a_huge_window_is_refused(collector: Any) -> None:
    options: dict[int, int] = {zstd.CompressionParameter.window_log: 27}
    packer = zstd.ZstdCompressor(options=options)
    body = packer.compress(bytes(1000)) + packer.flush()
    response = collector.post(body, content_encoding="zstd")
    assert response.status_code == 400


@pytest.mark.parametrize(
    "broken",
    [{"startTimeUnixNano": "secret"}, {"attributes": 3}, {"name": {"secret": 1}}, {"status": 3}, 7],
)
def test_a_json_span_that_is_none_does_not_cost_its_neighbours(
    collector: Any, wire: Any, broken: Any
) -> None:
    document = json.loads(as_json(wire.request(wire.span(1), wire.span(2))))
    document["resourceSpans"][0]["scopeSpans"][0]["spans"].insert(1, broken)
    response = collector.post(json.dumps(document).encode(), JSON)
    assert response.status_code == 200
    assert response.json()["partialSuccess"]["rejectedSpans"] == "1"
    told = response.json()["partialSuccess"]["errorMessage"]
    assert told.startswith("span 1")
    assert "secret" not in told
    assert [call.span_id[-1] for call in collector.calls] == [2, 3]


def test_a_span_of_very_many_attributes_is_refused_alone(collector: Any, wire: Any) -> None:
    many = wire.span(1, **{f"x.{number}": 1 for number in range(2000)})
    response = collector.post(wire.request(many, wire.span(2)))
    partial = ExportTraceServiceResponse.FromString(response.content).partial_success
    assert (partial.rejected_spans, len(collector.calls)) == (1, 1)
    assert collector.total("spans_refused_total", reason="too_many_attributes") == 1


def test_a_resource_of_very_many_attributes_refuses_its_spans(collector: Any, wire: Any) -> None:
    request = wire.request(wire.span(1), wire.span(2))
    request.resource_spans[0].resource.attributes.extend(
        KeyValue(key=f"x.{n}") for n in range(1023)
    )
    request.MergeFrom(wire.request(wire.span(3)))
    partial = ExportTraceServiceResponse.FromString(collector.post(request).content).partial_success
    assert (partial.rejected_spans, len(collector.calls)) == (2, 1)
    assert "its resource has 1025 attributes" in partial.error_message


def test_the_balance_of_spans_is_kept_by_hour_and_service(collector: Any, wire: Any) -> None:
    spans = [wire.span(number) for number in range(10)]
    collector.post(wire.request(*spans, wire.span(10, span_id=b""), wire.plain_span(11, {})))
    collector.post(wire.request(*spans[:4], wire.plain_span(12, {"costspan.request.attempt": 0})))
    collector.post(wire.request(wire.span(13), service="desk"))
    assert collector.pipeline.settle()
    sql = (
        "SELECT * EXCEPT (made, queue_full, failed, exported, superseded) FROM span_balance "
        "ORDER BY service_name"
    )
    found = collector.store.select(sql, Balance)
    hour = wire.now.replace(minute=0)
    assert found == [
        Balance(hour, "desk", 1, 1, 0, 0, 1, 0),
        Balance(hour, "shop", 17, 15, 1, 1, 11, 4),
    ]


class TestTokens:
    @pytest.fixture
    def settings(self, settings: Any) -> Any:
        return settings.model_copy(update={"tokens": SecretStr("old-token, new-token")})

    @pytest.mark.parametrize("sent", ["", "Bearer", "Bearer wrong", "Basic old-token", "old-token"])
    def test_a_sender_without_a_token_is_told_what_to_send(
        self, collector: Any, wire: Any, sent: str
    ) -> None:
        response = collector.post(wire.request(wire.span(1)), authorization=sent)
        assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
        assert "Authorization: Bearer TOKEN" in said(response)
        assert "old-token" not in said(response)
        assert collector.calls == []

    @pytest.mark.parametrize("sent", ["Bearer old-token", "bearer new-token"])
    def test_any_of_the_tokens_is_good(self, collector: Any, wire: Any, sent: str) -> None:
        response = collector.post(wire.request(wire.span(1)), authorization=sent)
        assert response.status_code == 200


def test_spans_of_many_days_are_kept(collector: Any, wire: Any) -> None:
    day = 86_400 * 10**9
    spans = [wire.span(number) for number in range(150)]
    for number, span in enumerate(spans):
        span.start_time_unix_nano -= number * day
        span.end_time_unix_nano -= number * day
    assert collector.post(wire.request(*spans)).status_code == 200
    assert len(collector.calls) == 150


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 on this machine")
def test_an_address_may_be_one_of_ipv6() -> None:
    with listen(Receiver(host="::1", port=0)) as listener, running(Starlette(), listener) as url:
        assert url.startswith("http://[::1]:")
        assert httpx2.get(url).status_code == 404


def test_health_says_that_the_store_answers(collector: Any) -> None:
    response = httpx2.get(f"{collector.url}/healthz")
    assert (response.status_code, response.json()["status"]) == (200, "ok")


def test_metrics_tell_what_became_of_every_span(collector: Any, wire: Any) -> None:
    collector.post(
        wire.request(
            wire.span(1, **{"costspan.user": "u" * 2000}),
            wire.span(2, span_id=b""),
            wire.plain_span(3, {}),
            wire.plain_span(4, {"costspan.request.attempt": 0}),
            wire.span(5, end_time_unix_nano=0),
        )
    )
    collector.post(b"hello")
    assert collector.pipeline.settle()
    response = httpx2.get(f"{collector.url}/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = response.text.splitlines()
    for line in (
        'costspan_requests_total{door="http",status="200"} 1',
        'costspan_requests_total{door="http",status="400"} 1',
        'costspan_requests_refused_total{door="http",reason="malformed"} 1',
        "costspan_spans_received_total 5",
        'costspan_spans_stored_total{table="calls"} 2',
        "costspan_spool_segments 0",
        'costspan_spans_accepted_total{table="calls"} 2',
        'costspan_spans_accepted_total{table="http_attempts"} 1',
        'costspan_spans_refused_total{reason="bad_id"} 1',
        'costspan_spans_passed_by_total{reason="not_genai"} 1',
        'costspan_texts_truncated_total{attribute="costspan.user"} 1',
        'costspan_spans_clamped_total{reason="ends_before_start"} 1',
        'costspan_insert_seconds_count{table="calls"} 1',
        "# TYPE costspan_queue_spans gauge",
    ):
        assert line in lines
