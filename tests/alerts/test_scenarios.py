"""The acceptance suite of alerts: each scenario on a seeded world, over the product's own rules.

A quick part always runs; everything, on seeds 1 to 5, with `-m bench`, or as a table with
`python tests/alerts/report.py`.
"""

import sys
from dataclasses import replace
from datetime import timedelta
from functools import cache
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from contents import KIND, holds_all, message_of
from injections import Added, having
from report import BUDGET_SEEDS, line
from rows import BY_NAME, MARKED_Q04, ROWS, Row
from simulation import Log, Simulation, Told
from verdict import Verdict, judge_row
from world import World

QUICK = ("E01", "E04", "L02", "C02", "D01")
SEEDS = (1, 2, 3, 4, 5)
ALL = (*ROWS, MARKED_Q04)


def verdict(row: Row, seed: int) -> Verdict:
    """Act a row out on a seed."""
    return judge_row(row, *row.run(seed))


@cache
def acted_out(name: str) -> tuple[World, Log]:
    """Return a quick row on seed 1."""
    return BY_NAME[name].run(1)


def first_told(name: str) -> Told:
    """Return the first message of what must fire in a scenario."""
    row = BY_NAME[name]
    if name in QUICK:
        log = acted_out(name)[1]
    else:
        soon = row.t0 + timedelta(minutes=20)
        log = Simulation(row.world(1)).run(row.t0 - timedelta(minutes=5), soon)
    rules = {one.rule for one in row.must}
    found = [one for one in log.told if one.alert.finding.rule in rules]
    assert found, [one.alert.finding.title for one in log.told]
    return found[0]


def test_every_scenario_of_the_document_has_a_row() -> None:
    groups = {"E": 12, "L": 6, "C": 10, "Q": 9, "D": 9}
    named = [f"{letter}{n:02}" for letter, count in groups.items() for n in range(1, count + 1)]
    assert [row.name for row in ROWS] == named
    assert len(ROWS) == 46


@pytest.mark.parametrize("name", QUICK)
def test_a_scenario_goes_as_its_row_asks(name: str) -> None:
    one = judge_row(BY_NAME[name], *acted_out(name))
    assert one.passes, line(one)


def test_no_row_passes_where_nothing_is_told_that_must_be() -> None:
    told_nothing = {row.name for row in ROWS if judge_row(row, row.world(1), Log()).passes}
    assert told_nothing <= {row.name for row in ROWS if not row.must}


def test_no_quiet_row_passes_where_something_is_told() -> None:
    _, log = acted_out("E01")
    quiet = [replace(row, t0=BY_NAME["E01"].t0) for row in ROWS if not row.must]
    passing = [row.name for row in quiet if judge_row(row, row.world(1), log).passes]
    assert passing == ["Q01"]  # which asks for no more than a budget


@pytest.mark.parametrize("name", KIND)
def test_a_message_holds_what_every_message_must(name: str) -> None:
    told = first_told(name)
    holds_all(name, told, message_of(told))


def test_a_message_holds_no_users_address() -> None:
    row = BY_NAME["C02"]
    (loop,) = row.faults
    assert isinstance(loop, Added)
    address = replace(loop, change=having(user="ann@example.test"))
    log = Simulation(replace(row, faults=(address,)).world(1)).run(
        row.t0 - timedelta(minutes=2), row.t0 + timedelta(minutes=8)
    )
    assert {one.alert.finding.rule for one in log.told} >= {"entity_spend"}
    messages = [message_of(told) for told in log.told]
    for message in messages:
        assert "ann@example.test" not in f"{message.title}{message.body}{message.payload}"


@pytest.mark.bench
@pytest.mark.timeout(0)
@pytest.mark.parametrize("row", ALL, ids=lambda row: row.name)
def test_a_row_passes_on_all_seeds(row: Row) -> None:
    seeds = BUDGET_SEEDS if row.name == "Q01" else SEEDS
    found = [verdict(row, seed) for seed in seeds]
    passed = sum(one.passes for one in found)
    told = "\n".join(line(one) for one in found)
    assert passed >= min(row.needs, len(seeds)), told
