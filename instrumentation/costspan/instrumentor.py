"""The way in for `opentelemetry-instrument`, which finds it by its entry point."""

from collections.abc import Collection
from typing import Any, Final

from opentelemetry.instrumentation.instrumentor import (  # pyright: ignore[reportMissingTypeStubs]
    BaseInstrumentor,
)

from costspan.install import Installation, install

_ARGUMENTS: Final = frozenset(
    {
        "tracer_provider",
        "meter_provider",
        "http_spans",
        "priced_hosts",
        "capture_content",
        "content_limit",
        "redact",
    }
)


class CostspanInstrumentor(BaseInstrumentor):
    """Capture as OpenTelemetry's own instrumentations are switched on: `.instrument(...)`."""

    _installation: Installation | None = None

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return what has to be installed for this to make sense."""
        return ("openai >= 1.40",)

    def _instrument(self, **kwargs: Any) -> None:  # noqa: ANN401  the loader passes what it likes
        self._installation = install(
            **{name: value for name, value in kwargs.items() if name in _ARGUMENTS}
        )

    def _uninstrument(self, **_: Any) -> None:  # noqa: ANN401
        if self._installation is not None:
            self._installation.uninstall()
            self._installation = None
