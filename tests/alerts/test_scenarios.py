"""The acceptance suite of alerts: each scenario on a seeded world, over the product's own rules.

A quick part always runs; everything, on seeds 1 to 5, with `-m bench`, or as a table with
`python tests/alerts/report.py`.
"""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from not_yet import NOT_YET, holds
from report import BUDGET_SEEDS, line
from rows import BY_NAME, MARKED_Q04, ROWS, Row
from simulation import Log
from verdict import Verdict, judge_row

QUICK = ("E01", "E04", "L02", "C02", "C10", "D01")
SEEDS = (1, 2, 3, 4, 5)
ALL = (*ROWS, MARKED_Q04)


def verdict(row: Row, seed: int) -> Verdict:
    """Act a row out on a seed."""
    return judge_row(row, *row.run(seed))


def test_every_scenario_of_the_document_has_a_row() -> None:
    groups = {"E": 12, "L": 6, "C": 10, "Q": 9, "D": 9}
    named = [f"{letter}{n:02}" for letter, count in groups.items() for n in range(1, count + 1)]
    assert [row.name for row in ROWS] == named
    assert len(ROWS) == 46


@pytest.mark.parametrize("name", QUICK)
def test_a_scenario_goes_as_its_row_asks(name: str) -> None:
    assert name not in NOT_YET
    one = verdict(BY_NAME[name], 1)
    assert one.passes, line(one)


def test_no_row_passes_where_nothing_is_told_that_must_be() -> None:
    told_nothing = {row.name for row in ROWS if judge_row(row, row.world(1), Log()).passes}
    assert told_nothing == {row.name for row in ROWS if not row.must}


def test_no_quiet_row_passes_where_something_is_told() -> None:
    _, log = BY_NAME["E01"].run(1)
    quiet = [replace(row, t0=BY_NAME["E01"].t0) for row in ROWS if not row.must]
    passing = [row.name for row in quiet if judge_row(row, row.world(1), log).passes]
    assert passing == ["Q01"]  # which asks for no more than a budget


@pytest.mark.bench
@pytest.mark.timeout(0)
@pytest.mark.parametrize("row", ALL, ids=lambda row: row.name)
def test_a_row_passes_on_all_seeds_unless_it_is_known_not_to(row: Row) -> None:
    seeds = BUDGET_SEEDS if row.name == "Q01" else SEEDS
    found = [verdict(row, seed) for seed in seeds]
    passed = sum(one.passes for one in found)
    told = "\n".join(line(one) for one in found)
    with holds(row.name):
        assert passed >= min(row.needs, len(seeds)), told
