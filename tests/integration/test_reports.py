"""The collector's own figures, at `/metrics` and in the store."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import httpx2
import pytest

from costspan.errors import Unavailable
from costspan_collector.reports import report, reporting
from costspan_collector.store import Store
from costspan_collector.telemetry import Counters
from costspan_collector.upkeep import balanced


@dataclass(frozen=True)
class Told:
    name: str
    labels: dict[str, str]
    value: float


FIGURES = "SELECT name, labels, value FROM collector_figures ORDER BY name, toString(labels)"
REPORTS = "SELECT name, labels, value FROM collector_metrics WHERE name = 'costspan_queue_spans'"


def test_the_store_has_what_metrics_shows(collector: Any, wire: Any) -> None:
    assert collector.post(wire.request(wire.span(1), wire.span(2))).status_code == 200
    assert collector.pipeline.settle()
    with reporting(collector.store, collector.pipeline):
        pass  # one report when it begins, one when it ends
    told = collector.store.select(FIGURES, Told)
    assert Told("costspan_spans_stored_total", {"table": "calls"}, 2) in told
    shown = httpx2.get(f"{collector.url}/metrics").text
    for each in told:
        labels = ",".join(f'{name}="{value}"' for name, value in each.labels.items())
        assert f"\n{each.name}{{{labels}}} ".replace("{}", "") in shown
    assert {each.name for each in told} >= {
        "costspan_spool_bytes",
        "costspan_spool_oldest_seconds",
        "costspan_spool_quarantined",
    }
    assert len(collector.store.select(REPORTS, Told)) == 2


def test_a_store_that_takes_no_report_is_counted(
    collector: Any, wire: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def insert(*_arguments: Any) -> None:
        msg = "no answer"
        raise Unavailable(msg)

    with monkeypatch.context() as patched:
        patched.setattr(Store, "insert", insert)
        report(collector.store, collector.pipeline, wire.now)
    assert collector.total("reports_lost_total") == 1


def test_the_balance_of_a_day_counts_what_came_again_and_what_apps_dropped(
    collector: Any, wire: Any
) -> None:
    request = wire.request(wire.span(1), wire.span(2), wire.span(3, span_id=b""))
    assert collector.post(request).status_code == 200
    assert collector.post(wire.request(wire.span(1))).status_code == 200
    assert collector.pipeline.settle()
    hour: datetime = wire.now.replace(minute=0)
    collector.store.command(
        "INSERT INTO sender_counts VALUES ({hour:DateTime('UTC')}, 'shop', 'a', 9, 3, 4, 2)",
        hour=hour,
    )
    counters = Counters()
    assert balanced(collector.store, counters, wire.now) == (
        "4 spans received in a day, 1 refused, 1 delivered again; apps dropped 6"
    )
    assert counters.total("costspan_spans_duplicate") == 1
    assert counters.total("costspan_spans_dropped_by_apps") == 6
    assert balanced(collector.store, counters, wire.now + timedelta(days=2)).startswith("0 spans")
    assert counters.total("costspan_spans_duplicate") == 0
