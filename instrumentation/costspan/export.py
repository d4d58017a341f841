"""Where the telemetry goes: the app's own providers, or one of ours that sends OTLP over HTTP.

Ours is never made the global provider. An app that sets one later must find the place free,
and one that sets none did not ask for its other libraries' spans to be sent anywhere. For
metrics there is none of ours.
"""

import logging
import os
import secrets
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points
from itertools import count as ticks
from typing import Any, cast

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import MeterProvider
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from costspan import semconv
from costspan.counters import count
from costspan.metrics import Metrics
from costspan.tracing import CallSpan, OwnProvider

EXIT_SECONDS = 2.0
"""How long the app's exit may wait for a slow collector."""

_DEFAULT_SIZES = (2048, 5000, 512)
"""OpenTelemetry's: spans that wait, milliseconds between batches, spans of a batch."""

MakeExporter = Callable[[], SpanExporter]

_log = logging.getLogger("costspan")
_making = threading.Lock()
if hasattr(os, "register_at_fork"):  # a child must not inherit a lock that nobody will release
    os.register_at_fork(
        before=_making.acquire, after_in_parent=_making.release, after_in_child=_making.release
    )


class Destination:
    """Finds the provider at each call, since an app may set its own after our import."""

    def __init__(
        self,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        span_exporter: SpanExporter | None = None,
        service_name: str | None = None,
    ) -> None:
        self.metrics = Metrics(meter_provider)
        self._given = tracer_provider
        self._exporter = span_exporter
        self._service_name = service_name
        self._own: OwnProvider | None = None

    def provider(self) -> trace.TracerProvider:
        """Return the provider that was given, else the app's, else ours."""
        if self._given is not None:
            return self._given
        if self._exporter is None:
            current = trace.get_tracer_provider()
            if not isinstance(current, trace.ProxyTracerProvider):
                return current
        return self._own or self._make()

    def flush(self, timeout_seconds: float) -> bool:
        """Send what is waiting; return whether all of it was sent in time."""
        flush = getattr(self.provider(), "force_flush", None)
        if not callable(flush):
            return True
        sent: list[bool] = []
        # The SDK waits for its exporter as long as that takes, whatever it is told.
        sending = threading.Thread(
            target=lambda: sent.append(bool(flush(int(timeout_seconds * 1000)))),
            name="costspan-flush",
            daemon=True,
        )
        sending.start()
        sending.join(timeout_seconds)
        return sent == [True]

    def close(self) -> None:
        """Send what is waiting and stop, if the provider is ours."""
        if self._own is not None:
            self._own.shutdown()

    def _make(self) -> OwnProvider:
        with _making:
            if self._own is None:
                named = {SERVICE_NAME: self._service_name} if self._service_name else {}
                own = OwnProvider(Resource.create(named))
                given = self._exporter
                for make in [lambda: given] if given else exporters(os.environ):
                    try:
                        own.add_span_processor(_batches(_Counted(make)))
                    except Exception as error:  # noqa: BLE001
                        count("exporter_unusable", error)
                self._own = own
            return self._own


def exporters(environment: Mapping[str, str]) -> list[MakeExporter]:
    """Return what makes each exporter that `OTEL_TRACES_EXPORTER` names; OTLP if it names none."""
    names = environment.get("OTEL_TRACES_EXPORTER") or "otlp"
    found: list[MakeExporter] = []
    for name in dict.fromkeys(part.strip().lower() for part in names.split(",")):
        if name in {"", "none"}:
            continue
        if name == "otlp":
            name = "otlp_proto_grpc" if otlp_protocol(environment) == "grpc" else "otlp_proto_http"
        try:
            (point,) = entry_points(group="opentelemetry_traces_exporter", name=name)
            found.append(point.load())
        except (ValueError, ImportError, AttributeError) as error:
            count("exporter_unusable", error)
            _log.warning(
                "costspan: no spans go to %r: no installed package brings it; install one"
                " or set OTEL_TRACES_EXPORTER=otlp and OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf",
                name,
            )
    return found


def otlp_protocol(environment: Mapping[str, str]) -> str:
    """Return the OTLP protocol in force; HTTP is ours where nothing is said."""
    named = environment.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environment.get(
        "OTEL_EXPORTER_OTLP_PROTOCOL"
    )
    return (named or "http/protobuf").strip().lower()


class _Ticks:
    """A number that any thread adds one to and one thread reads, without a lock."""

    def __init__(self) -> None:
        self.add = ticks().__next__
        self._reads = 0

    def read(self) -> int:
        self._reads += 1
        return self.add() - self._reads + 1


class _Tally:
    """What became of the spans of a process; each batch tells, so that one may get lost."""

    def __init__(self) -> None:
        self.sender = secrets.token_hex(8)
        self.made, self.queue_full = _Ticks(), _Ticks()
        self.exported = self.failed = 0

    def told(self, scope: InstrumentationScope, batch: int) -> InstrumentationScope:
        """Return the scope with the numbers that hold once a batch of that size has arrived."""
        numbers = {
            semconv.SENDER: self.sender,
            semconv.SENDER_MADE: self.made.read(),
            semconv.SENDER_EXPORTED: self.exported + batch,
            semconv.SENDER_QUEUE_FULL: self.queue_full.read(),
            semconv.SENDER_FAILED: self.failed,
        }
        return InstrumentationScope(scope.name, scope.version, scope.schema_url, numbers)


class _Batches(BatchSpanProcessor):
    """A batch processor that counts what it drops and gives up soon when the process ends."""

    def __init__(self, exporter: "_Counted", *sizes: int) -> None:
        super().__init__(exporter, *sizes)
        self._counted = exporter
        size = self._batch_processor._max_queue_size  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        # What is left is for threads that end a span at the same instant: where the SDK's own
        # bound is hit it drops a span uncounted and writes to the app's log.
        self._most = size - size // 16
        self._process = 0

    def on_end(self, span: ReadableSpan) -> None:
        if self._process != os.getpid():
            self._first_of_process()
        tally = self._counted.tally
        tally.made.add()
        if self._waiting() >= self._most:
            tally.queue_full.add()
            count("export_queue_full")
        else:
            super().on_end(span)

    def _first_of_process(self) -> None:
        with _making:
            if self._process != os.getpid():
                self._counted.tally = _Tally()
                self._process = os.getpid()
                at_end_of_worker(self.shutdown)

    def shutdown(self) -> None:
        self._batch_processor.shutdown(timeout_millis=int(EXIT_SECONDS * 1000))
        if left := self._waiting():
            count("export_unfinished", times=left)

    def _waiting(self) -> int:
        return len(cast("Any", self._batch_processor)._queue)  # noqa: SLF001


def _batches(exporter: "_Counted") -> _Batches:
    try:
        return _Batches(exporter)
    except ValueError as error:  # OTEL_BSP_ sizes that contradict each other
        count("export_sizes_ignored", error)
        return _Batches(exporter, *_DEFAULT_SIZES)


def at_end_of_worker(close: Callable[[], None], *, priority: int = 0) -> None:
    """Close at the end of a worker of `multiprocessing`, which runs no atexit handlers.

    A higher priority is closed earlier.
    """
    process: Any = sys.modules.get("multiprocessing.process")
    util: Any = sys.modules.get("multiprocessing.util")
    if process is not None and util is not None and process.parent_process() is not None:
        util.Finalize(None, close, exitpriority=priority)


class _Counted(SpanExporter):
    """Counts the spans that the exporter could not deliver, and tells the collector how many.

    OTLP's own lines about it, several for every batch, are kept out of the app's log; an exporter
    of the app's own, on another thread, still writes them. A forked worker has an exporter of its
    own: two processes on one connection would read each other's answers.
    """

    def __init__(self, make: MakeExporter) -> None:
        self.tally = _Tally()
        self._make = make
        self._exporter = make()
        self._process = os.getpid()
        self._here = threading.local()
        logging.getLogger(OTLPSpanExporter.__module__).addFilter(self._is_not_ours)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._here.exporting = True
        error = None
        try:
            if self._process != os.getpid():
                self._exporter, self._process = self._make(), os.getpid()
            result = self._exporter.export(self._readable(spans))
        except Exception as fault:  # noqa: BLE001
            error, result = fault, SpanExportResult.FAILURE
        finally:
            self._here.exporting = False
        if result is SpanExportResult.SUCCESS:
            self.tally.exported += len(spans)
        else:
            self.tally.failed += len(spans)
            count("export_failed", error, times=len(spans))
        return result

    def _readable(self, spans: Sequence[ReadableSpan]) -> list[ReadableSpan]:
        readable: list[ReadableSpan] = []
        scope = None
        for span in spans:
            if isinstance(span, CallSpan):
                scope = scope or self.tally.told(span.provider.scope, len(spans))
                readable.append(span.readable(scope))
            else:
                readable.append(span)
        return readable

    def _is_not_ours(self, _: logging.LogRecord) -> bool:
        return not getattr(self._here, "exporting", False)

    def shutdown(self) -> None:
        self._exporter.shutdown()
        logging.getLogger(OTLPSpanExporter.__module__).removeFilter(self._is_not_ours)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._exporter.force_flush(timeout_millis)
