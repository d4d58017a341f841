"""Where the spans go: the app's own TracerProvider, or one of ours that sends OTLP over HTTP.

Ours is never made the global provider. An app that sets one later must find the place free,
and one that sets none did not ask for its other libraries' spans to be sent anywhere.
"""

import logging
import threading
from collections.abc import Sequence

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from costspan.counters import count

EXIT_SECONDS = 2.0
"""How long the app's exit may wait for a slow collector."""


class Destination:
    """Finds the provider at each call, since an app may set its own after our import."""

    def __init__(
        self,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        span_exporter: SpanExporter | None = None,
        service_name: str | None = None,
    ) -> None:
        self._given = tracer_provider
        self._exporter = span_exporter
        self._service_name = service_name
        self._own: TracerProvider | None = None
        self._lock = threading.Lock()

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
        return bool(flush(int(timeout_seconds * 1000))) if callable(flush) else True

    def close(self) -> None:
        """Send what is waiting and stop, if the provider is ours."""
        if self._own is not None:
            self._own.shutdown()

    def _make(self) -> TracerProvider:
        with self._lock:
            if self._own is None:
                named = {SERVICE_NAME: self._service_name} if self._service_name else {}
                own = TracerProvider(resource=Resource.create(named))
                own.add_span_processor(_Batches(_Counted(self._exporter or OTLPSpanExporter())))
                self._own = own
            return self._own


class _Batches(BatchSpanProcessor):
    """A batch processor that gives up soon when the process ends."""

    def shutdown(self) -> None:
        self._batch_processor.shutdown(timeout_millis=int(EXIT_SECONDS * 1000))


class _Counted(SpanExporter):
    """Counts the spans that the exporter could not deliver.

    OTLP's own lines about it, several for every batch, are kept out of the app's log; an exporter
    of the app's own, on another thread, still writes them.
    """

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._here = threading.local()
        logging.getLogger(OTLPSpanExporter.__module__).addFilter(self._is_not_ours)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._here.exporting = True
        error = None
        try:
            result = self._exporter.export(spans)
        except Exception as fault:  # noqa: BLE001
            error, result = fault, SpanExportResult.FAILURE
        finally:
            self._here.exporting = False
        if result is not SpanExportResult.SUCCESS:
            count("export_failed", error, times=len(spans))
        return result

    def _is_not_ours(self, _: logging.LogRecord) -> bool:
        return not getattr(self._here, "exporting", False)

    def shutdown(self) -> None:
        self._exporter.shutdown()
        logging.getLogger(OTLPSpanExporter.__module__).removeFilter(self._is_not_ours)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._exporter.force_flush(timeout_millis)
