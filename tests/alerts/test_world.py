"""The generator makes the totals that the document gives, and the same calls for the same seed."""

import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from injections import Added, Fault, Held, Lost, Replayed, Volume, failing, gone, having, times
from world import FEATURES, NAMES, World

from costspan_dashboards.alerts.frame import Cells

WEDNESDAY = datetime(2026, 10, 21, 14, tzinfo=UTC)
DAY = int(WEDNESDAY.timestamp() // 86400)


@pytest.fixture(scope="module")
def weekdays() -> list[World]:
    """Several: features drift."""
    return [World(seed, WEDNESDAY, 28) for seed in range(1, 6)]


def a_call(cells: Cells, feature: int) -> float:
    """Return the mean dollars of a call."""
    mine = cells.code("feature") == feature
    return float(cells.count("cost_pico")[mine].sum() / cells.count("calls")[mine].sum() / 1e12)


def test_totals_of_a_weekday_are_within_a_tenth_of_the_documents(weekdays: list[World]) -> None:
    days = [world.spans(DAY).cells()[0] for world in weekdays]
    usd = [float(cells.count("cost_pico").sum()) / 1e12 for cells in days]
    calls = [int(cells.count("calls").sum()) for cells in days]
    assert np.mean(calls) == pytest.approx(70_600, rel=0.1)
    assert np.mean(usd) == pytest.approx(154, rel=0.1)
    peak = [cells.between(DAY * 1440 + 810, DAY * 1440 + 870) for cells in days]
    assert np.mean([cells.count("calls").sum() / 60 for cells in peak]) == pytest.approx(
        98, rel=0.1
    )
    # What an hour of the peak costs, by feature, of as many calls as the table gives it.
    hour = {
        feature.name: feature.peak * 60 * float(np.mean([a_call(cells, code) for cells in days]))
        for code, feature in enumerate(FEATURES, start=1)
        if feature.name != "nightly_report"
    }
    assert sum(hour.values()) == pytest.approx(12.8, rel=0.1)
    for feature, usd_an_hour in (
        ("review", 9.4),
        ("summarize", 1.1),
        ("agent", 0.95),
        ("chat", 0.9),
    ):
        assert hour[feature] == pytest.approx(usd_an_hour, rel=0.1), feature
    failed = sum(cells.count("attempts")[cells.code("error_kind") > 0].sum() for cells in days)
    assert 0.009 < failed / sum(cells.count("attempts").sum() for cells in days) < 0.013


def test_a_weekend_has_a_third_of_the_calls(weekdays: list[World]) -> None:
    share = [len(world.calls(DAY + 3)) / len(world.calls(DAY)) for world in weekdays[:3]]
    assert 0.30 < np.mean(share) < 0.40


def test_the_same_seed_makes_the_same_calls_whatever_is_asked_first() -> None:
    one, other = World(7, WEDNESDAY, 28), World(7, WEDNESDAY, 3)
    other.calls(DAY - 1)
    assert np.array_equal(one.calls(DAY).started, other.calls(DAY).started)
    assert len(World(8, WEDNESDAY, 28).calls(DAY)) != len(one.calls(DAY))


def test_nothing_begins_before_the_history_does() -> None:
    world = World(1, WEDNESDAY, 0.25)
    assert world.calls(DAY).started.min() >= WEDNESDAY.timestamp() - 6 * 3600
    assert len(world.calls(DAY - 1)) == 0


def test_spans_come_in_the_order_of_their_arrival() -> None:
    world = World(1, WEDNESDAY, 28)
    spans = world.spans(DAY)
    order = list(world.in_order_of_arrival(DAY))
    assert [at for at, _ in order] == sorted(at for at, _ in order)
    assert {place for _, place in order} == set(range(len(spans)))
    assert (spans.arrived > spans.started).all()
    late = spans.arrived - spans.started - spans.duration
    assert 0.003 < (late > 30).mean() < 0.007


def test_a_fault_changes_what_it_selects_and_nothing_else() -> None:
    clean = World(1, WEDNESDAY, 28).calls(DAY)
    slow = Fault(0, 60, times(pace=2), {"model": "large"})
    calls = World(1, WEDNESDAY, 28, (slow,)).calls(DAY)
    at = WEDNESDAY.timestamp()
    mine = (clean.started >= at) & (clean.started < at + 3600)
    mine &= clean.model == NAMES.code("model", "large")
    assert mine.sum() > 300
    assert np.array_equal(calls.pace, np.where(mine, 2 * clean.pace, clean.pace))


def test_faults_compose() -> None:
    faults = (
        Fault(0, 60, having(prompt="v2"), {"feature": "chat"}),
        Fault(0, 60, failing(1, "server_error"), {"prompt": "v2"}),
        Fault(30, 60, gone, {"prompt": "v2"}),
        Added(0, 10, a_minute=600, change=having(user="new")),
        Volume(0, 60, 0, "classify"),
    )
    world = World(1, WEDNESDAY, 28, faults)
    spans, at = world.spans(DAY), WEDNESDAY.timestamp()
    new = spans.calls.prompt == NAMES.code("prompt", "v2")
    assert 900 < new.sum() < 1600
    assert (spans.kind[new] == NAMES.code("error_kind", "server_error")).all()
    assert (spans.attempts[new] == 3).all()
    assert (spans.started[new] < at + 1800).all()
    assert 5500 < (spans.calls.user == NAMES.code("user", "new")).sum() < 6500
    classify = spans.calls.feature == NAMES.code("feature", "classify")
    assert not (classify & (spans.started >= at) & (spans.started < at + 3600)).any()
    assert (classify & (spans.started >= at + 3600)).any()


def test_what_is_held_lost_or_delivered_again() -> None:
    at = WEDNESDAY.timestamp()
    held = World(1, WEDNESDAY, 28, (Held(0, 5),)).spans(DAY)
    mine = (held.started >= at) & (held.started < at + 300)
    assert mine.sum() > 300
    assert (held.arrived[mine] >= at + 300).all()
    clean = World(1, WEDNESDAY, 28).spans(DAY)
    lost = World(1, WEDNESDAY, 28, (Lost(0, 20),)).spans(DAY)
    assert not ((lost.arrived >= at) & (lost.arrived < at + 1200)).any()
    assert 1500 < len(clean) - len(lost) < 2500
    again = World(1, WEDNESDAY, 28, (Replayed(-180, 0, at=5),)).spans(DAY)
    assert len(again) > len(clean) + 10_000
    once, _ = again.once().cells()
    assert np.array_equal(once.counts, clean.cells()[0].counts)
