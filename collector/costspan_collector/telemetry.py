"""What the collector counts about itself, in Prometheus' text form."""

import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

_METRICS: dict[str, tuple[str, str]] = {
    "costspan_requests_total": ("counter", "Requests to the receiver, by the status they got."),
    "costspan_requests_refused_total": ("counter", "Requests not read or kept, by reason."),
    "costspan_spans_received_total": (
        "counter",
        "Spans of acknowledged requests: accepted, refused or passed by.",
    ),
    "costspan_spans_accepted_total": (
        "counter",
        "Spans that are durable, by table; those delivered again count again.",
    ),
    "costspan_spans_refused_total": ("counter", "Spans that can never be kept, by reason."),
    "costspan_spans_passed_by_total": ("counter", "Spans that are not ours to keep, by reason."),
    "costspan_spans_postponed_total": (
        "counter",
        "Spans not kept, whose sender was asked to come again, by reason.",
    ),
    "costspan_spans_stored_total": ("counter", "Spans that the store took, by table."),
    "costspan_texts_truncated_total": (
        "counter",
        "Texts cut to their longest length, by attribute.",
    ),
    "costspan_spans_clamped_total": (
        "counter",
        "Spans kept as if they took no time, since their end cannot be true, by reason.",
    ),
    "costspan_insert_seconds_sum": ("counter", "Time spent in inserts, by table."),
    "costspan_insert_seconds_count": ("counter", "Inserts made, by table."),
    "costspan_insert_failures_total": ("counter", "Inserts that failed, by table and kind."),
    "costspan_segments_stored_total": ("counter", "Write-ahead segments that the store took."),
    "costspan_segment_faults_total": (
        "counter",
        "Pieces of segments by fault: torn ends are cut, corrupt and refused ones in quarantine.",
    ),
    "costspan_queue_spans": ("gauge", "Spans waiting for the disk."),
    "costspan_spool_segments": ("gauge", "Write-ahead segments waiting for the store."),
    "costspan_spool_bytes": ("gauge", "Their bytes."),
    "costspan_spool_oldest_seconds": ("gauge", "The age of the oldest."),
    "costspan_spool_quarantined": ("gauge", "Files in quarantine; they wait for a person."),
    "costspan_spans_duplicate": (
        "gauge",
        "Of the spans accepted within a day, those delivered again; counted each hour.",
    ),
    "costspan_spans_dropped_by_apps": (
        "gauge",
        "Spans that apps gave up within a day, by their own count; read each hour.",
    ),
    "costspan_reports_lost_total": (
        "counter",
        "Minutes whose figures are not in collector_metrics: the store did not take them.",
    ),
}


@dataclass(frozen=True, slots=True)
class Figure:
    """One number, as it stands."""

    name: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict[str, str])


class Counters:
    """Numbers by name and labels. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: defaultdict[tuple[str, tuple[tuple[str, str], ...]], float] = defaultdict(int)

    def add(self, name: str, amount: float = 1, /, **labels: str) -> None:
        """Add `amount`, if any, to the counter of that name and those labels."""
        if amount:
            with self._lock:
                self._values[_declared(name), tuple(sorted(labels.items()))] += amount

    def set(self, name: str, value: float) -> None:
        """Put a gauge where it stands now."""
        with self._lock:
            self._values[_declared(name), ()] = value

    def total(self, name: str, /, **labels: str) -> float:
        """Return the sum over all counters of that name that carry those labels."""
        wanted = set(labels.items())
        with self._lock:
            return sum(
                value
                for (found, has), value in self._values.items()
                if found == name and wanted <= set(has)
            )

    def figures(self) -> list[Figure]:
        """Return all of them."""
        with self._lock:
            values = sorted(self._values.items())
        return [Figure(name, value, dict(labels)) for (name, labels), value in values]


def render(figures: Iterable[Figure]) -> str:
    """Return figures as Prometheus reads them."""
    by_name: defaultdict[str, list[Figure]] = defaultdict(list)
    for figure in figures:
        by_name[figure.name].append(figure)
    lines: list[str] = []
    for name, (kind, explained) in _METRICS.items():
        lines += [f"# HELP {name} {explained}", f"# TYPE {name} {kind}"]
        lines += [f"{name}{_labels(each.labels)} {each.value:.12g}" for each in by_name[name]]
    return "\n".join(lines) + "\n"


def _declared(name: str) -> str:
    if name not in _METRICS:
        msg = f"{name} is not declared"
        raise KeyError(msg)
    return name


def _labels(labels: Mapping[str, str]) -> str:
    quoted = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{quoted}}}" if quoted else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
