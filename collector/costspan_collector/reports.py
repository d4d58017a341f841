"""The collector's figures, as they stand: for `/metrics`, and each minute for the store."""

import os
import socket
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from costspan.errors import CostspanError
from costspan_collector.pipeline import Pipeline
from costspan_collector.store import Store
from costspan_collector.telemetry import Figure

EVERY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Report:
    """One row of `collector_metrics`."""

    at: datetime
    collector: str
    name: str
    labels: Mapping[str, str]
    value: float


def figures(pipeline: Pipeline) -> list[Figure]:
    """Return what was counted, and how far the store is behind."""
    backlog = pipeline.backlog
    return [
        *pipeline.counters.figures(),
        Figure("costspan_queue_spans", pipeline.waiting),
        Figure("costspan_spool_segments", backlog.segments),
        Figure("costspan_spool_bytes", backlog.bytes),
        Figure("costspan_spool_oldest_seconds", backlog.oldest_seconds),
        Figure("costspan_spool_quarantined", backlog.quarantined),
    ]


def report(store: Store, pipeline: Pipeline, now: datetime) -> None:
    """Put the figures into the store, where whoever does not ask the collector finds them.

    A store that takes none is counted, and told by the rows it lacks.
    """
    collector = f"{socket.gethostname()}:{os.getpid()}"
    rows = [Report(now, collector, f.name, f.labels, f.value) for f in figures(pipeline)]
    try:
        store.insert("collector_metrics", rows)
    except CostspanError:
        pipeline.counters.add("costspan_reports_lost_total")


@contextmanager
def reporting(store: Store, pipeline: Pipeline, seconds: float = EVERY_SECONDS) -> Generator[None]:
    """Report at once, then every so often, until the block ends; then once more."""
    ended = threading.Event()

    def repeat() -> None:
        while True:
            last = ended.is_set()
            report(store, pipeline, datetime.now(UTC))
            if last:
                return
            ended.wait(seconds)

    thread = threading.Thread(target=repeat, name="costspan-reports", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
