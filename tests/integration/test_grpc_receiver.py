"""The real OTLP/gRPC service on loopback; needs grpcio, which the server has as an extra."""

import socket
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as Packed
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from pydantic import SecretStr

from costspan.errors import Rejected, Unavailable
from costspan_collector.grpc_receiver import running_grpc
from costspan_collector.segments import Segments

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
Export = Callable[..., ExportTraceServiceResponse]


@pytest.fixture
def settings(settings: Any) -> Any:
    return settings.model_copy(update={"grpc_port": 0, "tokens": SecretStr("a-token")})


@pytest.fixture
def grpc() -> Any:
    return pytest.importorskip("grpc")


@pytest.fixture
def export(grpc: Any, collector: Any, settings: Any, wire: Any) -> Iterator[Export]:
    """Send a request as a gRPC client does."""
    with (
        running_grpc(collector.pipeline, settings, now=lambda: wire.now) as address,
        grpc.insecure_channel(address) as channel,
    ):
        call = channel.unary_unary(EXPORT)

        def send(body: Any, bearer: str = "a-token", **more: Any) -> ExportTraceServiceResponse:
            raw = body if isinstance(body, bytes) else body.SerializeToString()
            metadata = (("authorization", f"Bearer {bearer}"),)
            return ExportTraceServiceResponse.FromString(
                call(raw, metadata=metadata, timeout=20, **more)
            )

        yield send


def test_spans_that_came_over_grpc_are_rows(export: Export, collector: Any, wire: Any) -> None:
    bad = wire.span(2, span_id=b"")
    answer = export(wire.request(wire.span(1), bad, wire.span(3)))
    assert answer.partial_success.rejected_spans == 1
    assert answer.partial_success.error_message.startswith("span 1 (trace ")
    assert export(wire.request(wire.span(4))) == ExportTraceServiceResponse()
    assert [call.span_id[-1] for call in collector.calls] == [2, 4, 5]
    assert collector.total("requests_total", door="grpc", status="200") == 2


def test_gzip_is_read(export: Export, collector: Any, wire: Any, grpc: Any) -> None:
    export(wire.request(wire.span(1)), compression=grpc.Compression.Gzip)
    assert len(collector.calls) == 1


def test_a_wrong_token_is_told_so(export: Export, collector: Any, wire: Any, grpc: Any) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        export(wire.request(wire.span(1)), bearer="another")
    assert raised.value.code() == grpc.StatusCode.UNAUTHENTICATED
    assert "COSTSPAN_RECEIVER_TOKENS" in raised.value.details()
    assert collector.calls == []


def test_what_is_no_request_is_never_to_be_sent_again(export: Export, grpc: Any) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        export(b"hello")
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert retry_delay(raised.value) is None


@pytest.mark.parametrize("packed", [False, True])
def test_a_message_beyond_the_limit_is_not_taken(export: Export, grpc: Any, packed: bool) -> None:
    compression = grpc.Compression.Gzip if packed else grpc.Compression.NoCompression
    with pytest.raises(grpc.RpcError) as raised:
        export(bytes(3_000_000), compression=compression)
    assert raised.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert retry_delay(raised.value) is None


def test_where_there_is_no_room_the_sender_is_told_when_to_come_again(
    export: Export, wire: Any, grpc: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def append(_self: Segments, _frame: Any) -> int:
        msg = "the disk is full"
        raise Unavailable(msg)

    monkeypatch.setattr(Segments, "append", append)
    with pytest.raises(grpc.RpcError) as raised:
        export(wire.request(wire.span(1)))
    assert raised.value.code() == grpc.StatusCode.UNAVAILABLE
    assert retry_delay(raised.value) == 2
    monkeypatch.undo()
    export(wire.request(wire.span(1)))


def test_of_many_senders_at_once_none_is_refused_for_good(
    export: Export, collector: Any, wire: Any
) -> None:
    requests = [wire.request(wire.span(number)) for number in range(40)]
    with ThreadPoolExecutor(len(requests)) as senders:
        answers = list(senders.map(export, requests))
    assert answers == [ExportTraceServiceResponse()] * len(requests)
    assert len(collector.calls) == len(requests)


@pytest.mark.usefixtures("grpc")
def test_a_port_in_use_is_one_clear_line(collector: Any, settings: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        busy = settings.model_copy(update={"grpc_port": port})
        with (
            pytest.raises(Rejected, match=f"port {port} on 127.0.0.1 cannot be used"),
            running_grpc(collector.pipeline, busy),
        ):
            pass


def test_without_grpcio_the_setting_says_what_to_install(
    collector: Any, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "grpc", None)
    with (
        pytest.raises(Rejected, match=r"install costspan-server\[grpc\]"),
        running_grpc(collector.pipeline, settings),
    ):
        pass


def test_without_a_port_it_is_not_served(collector: Any, settings: Any) -> None:
    off = settings.model_copy(update={"grpc_port": None})
    with running_grpc(collector.pipeline, off) as address:
        assert address == ""


def retry_delay(error: Any) -> int | None:
    """Return after how many seconds the sender is told to come again."""
    metadata: dict[str, bytes] = dict(error.trailing_metadata() or ())
    details = metadata.get("grpc-status-details-bin")
    for packed in Status.FromString(details).details if details else ():
        assert isinstance(packed, Packed)
        info = RetryInfo()
        assert packed.Unpack(info)
        return info.retry_delay.seconds
    return None
