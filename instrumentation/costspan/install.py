"""Switch capture on: `install()`, once and for all clients, made before or after."""

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from costspan import settings as settings_module
from costspan.counters import count

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import TracerProvider

    from costspan.capture import Capture

_lock = threading.RLock()
_current: "Installation | None" = None


class Installation:
    """What `install` returns; keep it to flush or to undo."""

    def __init__(self, capture: "Capture | None") -> None:
        self._capture = capture

    @property
    def active(self) -> bool:
        """Whether calls are captured."""
        return self._capture is not None

    def flush(self, timeout_seconds: float = 10.0) -> bool:
        """Send the spans that wait; return whether that was done in time."""
        try:
            return self._capture is None or self._capture.flush(timeout_seconds)
        except Exception as error:  # noqa: BLE001
            count("flush_failed", error)
            return False

    def uninstall(self) -> None:
        """Stop capturing and put the SDK's own methods back."""
        global _current
        with _lock:
            if _current is self:
                _current = None
            capture, self._capture = self._capture, None
        try:
            if capture is not None:
                capture.stop()
        except Exception as error:  # noqa: BLE001
            count("uninstall_failed", error)


def install(
    *,
    tracer_provider: "TracerProvider | None" = None,
    meter_provider: "MeterProvider | None" = None,
    span_exporter: "SpanExporter | None" = None,
    service_name: str | None = None,
    http_spans: bool | None = None,
    priced_hosts: tuple[str, ...] | None = None,
    capture_content: bool | None = None,
    content_limit: int | None = None,
    redact: Callable[[str], str] | None = None,
) -> Installation:
    """Capture every OpenAI call of this process. Never raises; twice does no harm.

    Args:
        tracer_provider: Where the spans go; without it the app's own provider if it sets one,
            else one of ours.
        meter_provider: Where the metrics go; without it the app's own provider if it sets one,
            else nowhere.
        span_exporter: For a provider of ours: what sends the spans, in place of OTLP over HTTP.
        service_name: For a provider of ours; else `OTEL_SERVICE_NAME`.
        http_spans: Whether each HTTP attempt has a child span.
        priced_hosts: Hosts that charge OpenAI's prices, `*` allowed.
        capture_content: Whether a span holds what was asked and answered; not unless asked for.
        content_limit: The most characters kept of each side of a call.
        redact: What each kept text goes through first; where it raises no content is kept.

    An argument wins over its `COSTSPAN_CAPTURE_` variable. Called again without arguments it
    changes nothing; with arguments it replaces the installation before.
    """
    global _current
    overrides = _given(
        http_spans=http_spans,
        priced_hosts=priced_hosts,
        content=capture_content,
        content_limit=content_limit,
        redact=redact,
    )
    where = _given(
        tracer_provider=tracer_provider,
        meter_provider=meter_provider,
        span_exporter=span_exporter,
        service_name=service_name,
    )
    with _lock:
        before = _current
        if before is not None and before.active and not overrides and not where:
            return before
        if before is not None:
            before.uninstall()
        _current = _installed(overrides, where)
        return _current


def _given(**arguments: Any) -> dict[str, Any]:  # noqa: ANN401
    return {name: value for name, value in arguments.items() if value is not None}


def _installed(overrides: dict[str, Any], where: dict[str, Any]) -> Installation:
    try:
        settings = replace(settings_module.from_environment(os.environ), **overrides)
        if not settings.enabled:
            return Installation(None)
        # Here and not above: importing costspan must cost an app nothing before it is installed.
        from costspan.capture import Capture
        from costspan.export import Destination

        return Installation(Capture(settings, Destination(**where)).start())
    except Exception as error:  # noqa: BLE001
        count("install_failed", error)
        return Installation(None)
