import pytest

from costspan_collector.telemetry import Counters, Figure, render


def test_counters_are_rendered_as_prometheus_reads_them() -> None:
    counters = Counters()
    counters.add("costspan_texts_truncated_total", 2, attribute='a"b\\c\nd')
    counters.add("costspan_insert_seconds_sum", 0.25, table="calls")
    counters.add("costspan_spans_refused_total", 0, reason="bad_id")
    waiting = Figure("costspan_queue_spans", 3, {})
    lines = render([*counters.figures(), waiting]).splitlines()
    assert 'costspan_texts_truncated_total{attribute="a\\"b\\\\c\\nd"} 2' in lines
    assert 'costspan_insert_seconds_sum{table="calls"} 0.25' in lines
    assert "costspan_queue_spans 3" in lines
    assert not [line for line in lines if line.startswith("costspan_spans_refused_total{")]


def test_a_total_is_taken_over_the_labels_not_named() -> None:
    counters = Counters()
    counters.add("costspan_spans_accepted_total", 3, table="calls")
    counters.add("costspan_spans_accepted_total", 4, table="http_attempts")
    assert counters.total("costspan_spans_accepted_total") == 7
    assert counters.total("costspan_spans_accepted_total", table="calls") == 3


def test_a_counter_that_is_not_declared_is_a_mistake() -> None:
    with pytest.raises(KeyError, match="costspan_typo_total"):
        Counters().add("costspan_typo_total")
