"""A few scenarios through the real store: rows in chDB, SQL frames, and the same outcome as without."""

import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from rows import BY_NAME
from simulation import Log, Simulation
from stored import run_stored, stored_usd, world_usd

from costspan_collector.store import Store
from costspan_dashboards.alerts.backtest import backtest
from costspan_dashboards.alerts.evaluate import Evaluation
from costspan_dashboards.alerts.message import compose
from costspan_dashboards.alerts.rules import RULES, plumbing
from costspan_dashboards.alerts.settings import Alerts
from costspan_dashboards.alerts.state import Transition

ABOUT_CALLS = {name for name, rule in RULES.items() if rule.__module__ != plumbing.__name__}
"""The simulation knows nothing of jobs, price books and bills."""
pytestmark = [pytest.mark.bench, pytest.mark.timeout(0)]

Step = tuple[str, str, str, str, str, bool, object]


def steps_of_log(log: Log) -> list[Step]:
    """Return each step of a simulation; of those of one minute the order says nothing."""
    return sorted((_told(f"{at:%H:%M}", step) for at, step in log.steps), key=repr)


def steps_of_store(found: list[Evaluation]) -> list[Step]:
    """Return each step of the product's loop."""
    steps = [
        _told(f"{one.at:%H:%M}", step)
        for one in found
        for step in one.transitions
        if step.alert.finding.rule in ABOUT_CALLS
    ]
    return sorted(steps, key=repr)


def _told(at: str, step: Transition) -> Step:
    found = step.alert.finding
    return (at, found.rule, found.severity, step.alert.state, step.reason, step.tells, found.cause)


@pytest.mark.parametrize(
    ("name", "history_days", "minutes"),
    [("E01", 8, 30), ("C02", 8, 20), ("D01", 8, 30), ("D04", 8, 6), ("D08", 0.25, 12)],
)
def test_the_store_and_the_simulation_tell_the_same(
    store: Store, name: str, history_days: float, minutes: float
) -> None:
    row = BY_NAME[name]
    row = replace(row, history_days=history_days, lead=30 if name == "D01" else 3)
    world = row.world(1)
    found = run_stored(row, 1, store, minutes)
    simulation = Simulation(world, **(row.setting or {}))
    log = simulation.run(row.t0 - timedelta(minutes=row.lead), row.t0 + timedelta(minutes=minutes))
    assert steps_of_store(found) == steps_of_log(log)
    assert bool(log.steps) == bool(row.must)
    day = timedelta(days=1)
    stretch = row.t0 - day, row.t0 - timedelta(minutes=10)
    assert stored_usd(store, *stretch) == world_usd(world, *stretch)
    if name in {"E01", "C02"}:
        told = next(step for one in found for step in one.transitions if step.tells)
        message = compose(told.alert, told.reason, "m1", "https://costs.example.test")
        assert len(message.payload["example_traces"]) == 3
        assert message.body.count("Example: https://costs.example.test/calls?trace=") == 3


def test_m12_a_backtest_finds_the_episodes_of_the_live_run(store: Store) -> None:
    """replay: rules run over the history in a backtest: the same episodes as the live run produced,
    minute for minute."""
    row = replace(BY_NAME["D08"], lead=3)
    found = run_stored(row, 1, store, 45)
    live = {
        (alert.finding.rule, alert.finding.severity, alert.firing_since, alert.ended_at)
        for one in found
        for alert in (step.alert for step in one.transitions)
        if alert.finding.rule in ABOUT_CALLS and alert.firing_since
    }
    since, until = found[0].at, found[-1].at + timedelta(minutes=1)
    replayed = backtest(store, Alerts(), since, until)
    ended = {one for one in live if one[3]} or live
    assert ended
    assert {
        (one.rule, one.severity, one.firing_since, one.ended_at)
        for one in replayed.episodes
        if one.rule in ABOUT_CALLS
    } == ended
