"""The detector: it knows the past only, and finds in it what people found."""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from costspan_dashboards.alerts.baseline import LEAST_ROWS, REST_SECONDS, detect

Floats = NDArray[np.float64]
TESTS = Path(__file__).parents[1]
DATA = TESTS / "data" / "anomaly"
HOUR, DAY = 3600.0, 86_400.0
THRESHOLD = 3.0
"""What serves both corpora."""


@pytest.fixture(scope="module")
def scoring() -> Iterator[Any]:
    spec = spec_from_file_location("scoring", TESTS / "bench" / "anomaly" / "scoring.py")
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "scoring", module)
        spec.loader.exec_module(module)
        yield module


def series(days: int = 14, step: float = 300.0, seed: int = 0) -> tuple[Floats, Floats]:
    """Return a daily wave with noise."""
    times = 1.7e9 + np.arange(0, days * DAY, step)
    noise = np.random.default_rng(seed).normal(0, 3, len(times))
    return times, 100 + 50 * np.sin(times * 2 * np.pi / DAY) + noise


def read(name: str) -> tuple[Floats, Floats, list[list[float]]]:
    corpus, _, file = name.partition("/")
    table: Floats = np.loadtxt(DATA / name, delimiter=",", skiprows=1)
    return table[:, 0], table[:, 1], json.loads((DATA / corpus / "labels.json").read_text())[file]


NAMES = sorted(str(path.relative_to(DATA)) for path in DATA.rglob("*.csv"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("factor", [0.0, 1e6, float("nan")])
def test_the_future_does_not_move_a_score(name: str, factor: float) -> None:
    times, values, _ = read(name)
    whole = detect(times, values)
    for at in (len(times) // 5, len(times) // 2 + 7, len(times) - 1):
        assert np.array_equal(detect(times[:at], values[:at]), whole[:at])
        later = np.concatenate([values[:at], values[at:] * factor])
        assert np.array_equal(detect(times, later)[:at], whole[:at])
        sooner = np.concatenate([times[:at], times[at] + (times[at:] - times[at]) / 7])
        assert np.array_equal(detect(sooner, values)[:at], whole[:at])


@pytest.mark.parametrize(("rows", "added"), [(1, 60), (1, -60), (10, -90), (900, 60)])
def test_a_spike_a_drop_and_a_new_level_are_what_stands_out(rows: int, added: float) -> None:
    times, values = series()
    values[3000 : 3000 + rows] += added
    scores = detect(times, values)
    assert scores[3000] > 5
    assert scores[400:3000].max() < 4
    assert int(np.argmax(scores)) in range(3000, 3000 + rows + 12)


def test_an_hour_that_is_usual_for_its_time_of_day_is_not_odd() -> None:
    times, values = series()
    daily = (times % DAY) // HOUR == 3
    values[daily] += 200
    assert detect(times, values)[4 * 288 :].max() < 5
    values[daily & (times > times[-1] - DAY)] -= 200
    scores = detect(times, values)
    assert scores[times <= times[-1] - DAY][4 * 288 :].max() < 5
    assert scores[times > times[-1] - DAY].max() > 5


def test_what_goes_on_is_told_once_within_the_rest() -> None:
    times, values = series()
    values[3000:3060] = 300
    told = np.flatnonzero(detect(times, values)[3000:3060] > 3)
    assert told[0] == 0
    assert len(told) < 12
    rest = detect(times, values)
    for row in np.flatnonzero(rest):
        near = (times < times[row]) & (times >= times[row] - REST_SECONDS)
        assert rest[row] > rest[near].max(initial=0)


@pytest.mark.parametrize("step", [900.0, HOUR])
def test_mere_noise_has_a_score_of_three_every_few_weeks(step: float) -> None:
    times, values = series(days=365, step=step)
    told = np.count_nonzero(detect(times, values)[times > times[0] + 14 * DAY] >= THRESHOLD)
    assert 14 < (365 - 14) / told < 42


def test_what_has_become_usual_lately_is_not_odd_any_more() -> None:
    times, values = series(days=365, step=HOUR)
    late = np.arange(320 * 24, 365 * 24)
    spikes = np.sort(np.random.default_rng(1).choice(late, 90, replace=False))
    values[spikes] += 200
    scores = detect(times, values)[spikes]
    assert scores[0] > 5
    assert np.count_nonzero(scores[-25:] >= THRESHOLD) < 5


def test_what_climbs_is_not_told_at_each_step() -> None:
    times, values = series()
    values[3000:3024] += np.arange(24) * 20
    scores = detect(times, values)[3000:3024]
    told = scores[scores > 0]
    assert scores[:4].max() > THRESHOLD
    assert len(told) < 12
    assert np.diff(told).min() > 0.5


@pytest.mark.parametrize(
    "values",
    [
        [],
        [1.0],
        [1.0] * LEAST_ROWS,
        [7.0] * 500,
        [0.0] * 500,
        [float("nan")] * 500,
        [float("inf")] * 500,
        [1.0, float("nan")] * 300,
        [1e308, -1e308] * 300,
        [5e-324, 0.0] * 300,
    ],
    ids=lambda values: f"{len(values)} of {values[:2]}",
)
def test_odd_input_has_finite_scores(values: Sequence[float]) -> None:
    times = np.arange(len(values)) * 300.0
    scores = detect(times, values)
    assert scores.shape == (len(values),)
    assert np.isfinite(scores).all()
    assert (scores >= 0).all()


def test_a_constant_that_changes_is_odd_and_one_that_stays_is_not() -> None:
    times, values = np.arange(3000) * 300.0, np.full(3000, 7.0)
    assert detect(times, values).max() < 1
    values[2500] = 8
    assert int(np.argmax(detect(times, values))) == 2500


@pytest.mark.parametrize("order", ["gaps", "repeated", "sparse", "backwards"])
def test_irregular_times_are_taken_as_they_come(order: str) -> None:
    times, values = series()
    random = np.random.default_rng(1)
    if order == "gaps":
        kept = (random.random(len(times)) < 0.5) & ~((times > times[900]) & (times < times[1600]))
        kept[3000] = True
        times, values = times[kept], values[kept]
    elif order == "repeated":
        times = np.repeat(times[::2], 2)
    elif order == "sparse":
        times = times[0] + np.arange(len(times)) * 3 * DAY
    else:
        times = times[::-1]
    values[-100] += 400
    scores = detect(times, values)
    assert np.isfinite(scores).all()
    if order != "backwards":
        assert int(np.argmax(scores)) == len(scores) - 100


def test_rows_without_a_number_are_no_past() -> None:
    times, values = series()
    holes = np.zeros(len(times), bool)
    holes[::7] = True
    holed = np.where(holes, np.nan, values)
    scores = detect(times, holed)
    assert not scores[holes].any()
    assert np.array_equal(scores[~holes], detect(times[~holes], values[~holes]))


@pytest.mark.parametrize(
    ("corpus", "least"), [("nab", 70.0), ("cloud", 0.75)], ids=["nab", "cloud"]
)
def test_what_people_marked_is_found(scoring: Any, corpus: str, least: float) -> None:
    files: list[Any] = []
    for name in NAMES:
        if name.startswith(corpus):
            times, values, ranges = read(name)
            files.append(scoring.Scored(name, times, detect(times, values), ranges))
    assert len(files) == 3
    if corpus == "nab":
        assert scoring.nab_total(files, THRESHOLD).total >= least
    else:
        found = scoring.page_total(files, THRESHOLD)
        assert found.f1 >= least
        assert found.false_a_week <= 0.7


def labelled(scoring: Any, *rows: int, **scores: float) -> Any:
    """Return 1,000 rows, of which 500 to 599 are wrong, and a detector that reports some."""
    given = np.zeros(1000)
    given[list(rows)] = 1.0
    for row, score in scores.items():
        given[int(row[1:])] = score
    return scoring.Scored("a/b", np.arange(1000) * 3600.0, given, [[500 * 3600.0, 599 * 3600.0]])


def test_the_benchmarks_score_is_what_it_is_known_to_be(scoring: Any) -> None:
    def total(*rows: int) -> float:
        return float(scoring.nab_total([labelled(scoring, *rows)], 0.5).total)

    assert total(500) == pytest.approx(100)
    assert total() == 0
    assert total(500, 510, 599) == pytest.approx(100)  # the first detection alone counts
    end = 2 / (1 + np.exp(-5 * 0.01)) - 1
    full = 2 / (1 + np.exp(-5)) - 1
    assert total(599) == pytest.approx(50 * (end / full + 1))
    assert total(500, 300) == pytest.approx(100 - 50 * 0.11)  # before any window: the full cost
    after = 1 - 2 / (1 + np.exp(5 * 50 / 99))
    assert total(500, 649) == pytest.approx(100 - 50 * 0.11 * after)
    assert total(500, 100, 149) == pytest.approx(100)  # probation: the first 150 rows
    assert total(500, 150) == pytest.approx(100 - 50 * 0.11)


def test_the_best_threshold_leaves_out_what_costs_more_than_it_brings(scoring: Any) -> None:
    found = scoring.nab_total([labelled(scoring, r500=2.0, r300=1.0, r301=1.5)])
    assert (found.total, found.threshold) == (pytest.approx(100), 2.0)
    nothing = scoring.nab_total([labelled(scoring, *range(150, 500))])
    assert nothing.total == 0


def test_pages_are_rows_within_an_hour_and_incidents_are_ranges(scoring: Any) -> None:
    one = scoring.page_total([labelled(scoring, 300, 302, 520, 521, 700)], 0.5)
    assert (one.precision, one.recall) == (pytest.approx(1 / 3), 1.0)
    assert one.f1 == pytest.approx(0.5)
    assert one.false_a_week == pytest.approx(2 / (849 / 168))
    none = scoring.page_total([labelled(scoring)], 0.5)
    assert (none.f1, none.precision, none.recall) == (0, 0, 0)


@pytest.mark.bench
def test_a_thousand_rows_take_no_more_than_ten_milliseconds() -> None:
    times, values = series(days=70)
    began = time.process_time()
    detect(times, values)
    assert (time.process_time() - began) * 1e6 / len(times) < 10
