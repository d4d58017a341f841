"""Shared by all tests: one real engine for the session, a migrated database for each test."""

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import costspan
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
        """Every ended span; streams that nobody holds are collected first."""
        gc.collect()
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
