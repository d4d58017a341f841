"""OTLP over gRPC: the Export method of the trace service, where grpcio is installed."""

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from costspan.errors import Rejected
from costspan.pricing import Book, default_book
from costspan_collector import otlp
from costspan_collector.intake import RETRY_SECONDS, Answer, Intake, response
from costspan_collector.listening import bracketed
from costspan_collector.pipeline import Pipeline
from costspan_collector.settings import Receiver

_SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"
_AT_ONCE = 8
"""Requests held together. More wait; those that gRPC would turn away hear that it is for good."""
_GRACE_SECONDS = 10


@contextmanager
def running_grpc(
    pipeline: Pipeline,
    settings: Receiver,
    *,
    book: Book | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Generator[str]:
    """Serve until the block ends; give the address, which is empty where no port is set.

    Raises:
        Rejected: grpcio is not installed, or the port cannot be had.
    """
    if settings.grpc_port is None:
        yield ""
        return
    grpc = _grpc()
    intake = Intake(pipeline, settings, book or default_book(), now)

    def export(body: bytes, context: Any) -> bytes:  # noqa: ANN401 - grpcio ships no types
        try:
            answered = _export(intake, body, dict(context.invocation_metadata()))
        except Answer as answer:
            intake.count("grpc", answer)
            code = next(c for c in grpc.StatusCode if c.value[0] == answer.kind.grpc_status)
            details = ("grpc-status-details-bin", _status(answer).SerializeToString())
            context.set_trailing_metadata((details,))
            context.abort(code, str(answer))
            raise
        intake.count("grpc", None)
        return answered

    method = grpc.unary_unary_rpc_method_handler(export)
    server = grpc.server(
        ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="costspan-grpc"),
        handlers=[grpc.method_handlers_generic_handler(_SERVICE, {"Export": method})],
        options=[
            ("grpc.max_receive_message_length", settings.max_body_bytes),
            ("grpc.so_reuseport", 0),
            ("grpc.http2.bdp_probe", 0),  # who waits sends 64 KiB ahead, however fast the line
        ],
    )
    try:
        host = bracketed(settings.host)
        port = server.add_insecure_port(f"{host}:{settings.grpc_port}")
    except RuntimeError as error:
        msg = (
            f"port {settings.grpc_port} on {settings.host} cannot be used; "
            "stop what listens there, or choose another with COSTSPAN_RECEIVER_GRPC_PORT"
        )
        raise Rejected(msg) from error
    server.start()
    try:
        yield f"{host}:{port}"
    finally:
        server.stop(_GRACE_SECONDS).wait()


def _export(intake: Intake, body: bytes, metadata: dict[str, str]) -> bytes:
    intake.admit(metadata.get("authorization", ""))
    result = intake.read(body, otlp.PROTOBUF, "")  # gRPC has unpacked it
    done = intake.submit(result)
    failed = done.exception()
    if isinstance(failed, Exception):
        raise intake.failed(result, failed) from failed
    return otlp.encode(response(result), otlp.PROTOBUF)


def _status(answer: Answer) -> Status:
    """Return the answer as a sender reads it; only where it is told when does it come again."""
    status = Status(code=answer.kind.grpc_status, message=str(answer))
    if answer.kind.later:
        packed = Packed()
        packed.Pack(RetryInfo(retry_delay=Duration(seconds=RETRY_SECONDS)))
        status.details.append(packed)
    return status


def _grpc() -> Any:  # noqa: ANN401 - grpcio ships no types
    try:
        return import_module("grpc")
    except ImportError as error:
        msg = "COSTSPAN_RECEIVER_GRPC_PORT is set, but grpcio is missing; install costspan-server[grpc]"
        raise Rejected(msg) from error
