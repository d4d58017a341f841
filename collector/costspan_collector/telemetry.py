"""What the collector counts about itself, in Prometheus' text form."""

import threading
from collections import defaultdict

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
}


class Counters:
    """Numbers that only grow, each by name and labels. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: defaultdict[tuple[str, tuple[tuple[str, str], ...]], float] = defaultdict(int)

    def add(self, name: str, amount: float = 1, /, **labels: str) -> None:
        """Add `amount`, if any, to the counter of that name and those labels."""
        if name not in _METRICS:
            msg = f"{name} is not declared"
            raise KeyError(msg)
        if amount:
            with self._lock:
                self._values[name, tuple(sorted(labels.items()))] += amount

    def total(self, name: str, /, **labels: str) -> float:
        """Return the sum over all counters of that name that carry those labels."""
        wanted = set(labels.items())
        with self._lock:
            return sum(
                value
                for (found, has), value in self._values.items()
                if found == name and wanted <= set(has)
            )

    def render(self, **gauges: float) -> str:
        """Return everything, and the `gauges` of this moment, as Prometheus reads it."""
        with self._lock:
            values = dict(self._values)
        for name, value in gauges.items():
            values[name, ()] = value
        lines: list[str] = []
        for name, (kind, explained) in _METRICS.items():
            lines += [f"# HELP {name} {explained}", f"# TYPE {name} {kind}"]
            for (found, labels), value in sorted(values.items()):
                if found == name:
                    lines.append(f"{name}{_labels(labels)} {value:.12g}")
        return "\n".join(lines) + "\n"


def _labels(labels: tuple[tuple[str, str], ...]) -> str:
    quoted = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels)
    return f"{{{quoted}}}" if quoted else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
