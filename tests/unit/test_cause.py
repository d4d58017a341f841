"""Which calls explain it: on cubes whose cause is known."""

from fractions import Fraction

import numpy as np
import pytest

from costspan_dashboards.alerts.cause import Pairs, Table, explain, fall, is_news, shift
from costspan_dashboards.alerts.change import PARTS, Usage, decompose, leading
from costspan_dashboards.alerts.frame import DIMENSIONS, Floats, Ints, Names

FEATURES = [f"feature-{n}" for n in range(8)]
MODELS = [f"model-{n}" for n in range(4)]
USERS = [f"user-{n}" for n in range(12)]


class Cube:
    """What many kinds of call usually cost, and what they cost now."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.names = Names()
        kinds = [
            (f, m, u) for f in FEATURES for m in MODELS for u in USERS if self.rng.random() < 0.7
        ]
        self.codes: Ints = np.zeros((len(DIMENSIONS), len(kinds)), np.int64)
        for place, name in enumerate(("feature", "model", "user")):
            self.codes[DIMENSIONS.index(name)] = self.names.encode(name, [k[place] for k in kinds])
        self.expected: Floats = self.rng.lognormal(1, 1, len(kinds))
        self.actual: Floats = self.expected * self.rng.normal(1, 0.05, len(kinds))

    def of(self, **where: str) -> Ints:
        """Return the kinds of call that have these values."""
        chosen = np.ones(self.codes.shape[1], np.bool_)
        for name, value in where.items():
            chosen &= self.codes[DIMENSIONS.index(name)] == self.names.code(name, value)
        return np.flatnonzero(chosen)

    @property
    def table(self) -> Table:
        """The cube as it is searched."""
        return Table.of(self.names, self.codes, self.actual, self.expected)


def pairs(**where: str) -> Pairs:
    """Return a cause, in the order in which it is told."""
    return tuple(where.items())


@pytest.mark.parametrize("seed", range(8))
def test_one_value_is_named(seed: int) -> None:
    cube = Cube(seed)
    cube.actual[cube.of(feature="feature-3")] *= 3
    found = explain(cube.table)
    assert found.where == pairs(feature="feature-3")
    assert found.contributors[0].share > 0.8


@pytest.mark.parametrize("seed", range(8))
def test_two_values_together_are_named_and_no_more(seed: int) -> None:
    cube = Cube(seed)
    cube.actual[cube.of(feature="feature-2", model="model-1")] *= 6
    assert explain(cube.table).where == pairs(feature="feature-2", model="model-1")


def test_two_causes_are_both_named_though_they_look_like_one_that_holds_both() -> None:
    cube = Cube(1)
    cube.actual[cube.of(feature="feature-1", model="model-0")] *= 6
    cube.actual[cube.of(user="user-5", model="model-0")] *= 7
    found = explain(cube.table)
    causes = {one.where for one in found.contributors}
    assert pairs(model="model-0", user="user-5") in causes
    assert pairs(feature="feature-1", model="model-0") in causes


def test_a_value_never_seen_before_is_named() -> None:
    cube = Cube(2)
    cube.expected[cube.of(user="user-7")] = 0
    assert explain(cube.table).where == pairs(user="user-7")


def test_a_fall_is_found_by_the_other_sign() -> None:
    cube = Cube(3)
    cube.actual[cube.of(feature="feature-0")] = 0
    found = explain(cube.table, fall)
    assert found.where == pairs(feature="feature-0")
    assert found.contributors[0].actual == 0


def test_what_is_spread_over_everything_has_no_single_cause() -> None:
    cube = Cube(4)
    cube.actual = cube.expected * 2
    assert explain(cube.table).contributors == ()


def test_a_slow_model_is_no_slow_feature() -> None:
    cube = Cube(5)
    calls = np.full(len(cube.expected), 100.0)
    moved = np.zeros(len(calls))
    moved[cube.of(model="model-2")] = 80.0
    table = Table.of(cube.names, cube.codes, moved, calls)
    found = explain(table, shift)
    assert found.where == pairs(model="model-2")
    assert found.contributors[0].share == 1


def test_of_two_that_cannot_be_told_apart_the_preferred_is_named() -> None:
    names = Names()
    codes = np.zeros((len(DIMENSIONS), 2), np.int64)
    codes[DIMENSIONS.index("feature")] = names.encode("feature", ["review", "agent"])
    codes[DIMENSIONS.index("model")] = names.encode("model", ["large", "large"])
    other = np.zeros((len(DIMENSIONS), 1), np.int64)
    other[DIMENSIONS.index("feature")] = names.encode("feature", ["chat"])
    other[DIMENSIONS.index("model")] = names.encode("model", ["small"])
    table = Table.of(
        names,
        np.concatenate([codes, other], axis=1),
        np.array([20.0, 1.0, 1.0]),
        np.array([0.5, 0.1, 1.0]),
    )
    assert explain(table, prefer="feature", slack=4).where == pairs(feature="review")
    assert explain(table, prefer="model", slack=4).where == pairs(model="large")


def test_of_many_users_one_has_two_of_five_failures_by_chance() -> None:
    names, users = Names(), [f"user-{n}" for n in range(300)]
    kinds = [("chat", user) for user in users] + [("translate", user) for user in users[:40]]
    codes = np.zeros((len(DIMENSIONS), len(kinds)), np.int64)
    for place, name in enumerate(("feature", "user")):
        codes[DIMENSIONS.index(name)] = names.encode(name, [kind[place] for kind in kinds])
    expected = np.array([0.01 if feature == "chat" else 0.0015 for feature, _ in kinds])
    actual = np.zeros(len(kinds))
    actual[[300, 301, 302, 303]] = 2, 1, 1, 1
    table = Table.of(names, codes, actual, expected)
    assert "user" in dict(explain(table).where)
    found = explain(table, choice=1)
    assert [one.where for one in found.contributors] == [pairs(feature="translate")]


def test_many_calls_that_are_a_little_slower_are_no_cause_beside_a_few_that_are_slow() -> None:
    cube = Cube(6)
    calls, moved = np.full(len(cube.expected), 1000.0), np.full(len(cube.expected), 50.0)
    slow = cube.of(feature="feature-4")
    calls[slow], moved[slow] = 4.0, 4.0
    table = Table.of(cube.names, cube.codes, moved, calls)
    assert explain(table, shift).where != pairs(feature="feature-4")
    found = explain(table, shift, least=0.5)
    assert [one.where for one in found.contributors] == [pairs(feature="feature-4")]


def test_a_cause_inside_a_told_one_is_no_news() -> None:
    told = [pairs(model="large", error_kind="server_error")]
    assert not is_news(pairs(model="large"), pairs(error_kind="server_error"), told)
    assert is_news(pairs(feature="chat", error_kind="timeout"), (), told)


def usage(calls: int, each_in: int, cached: int, out: int, price: tuple[int, int, int]) -> Usage:
    """Return calls of one model at prices of uncached, cached and output tokens."""
    tokens, hit, said = calls * each_in, calls * cached, calls * out
    paid = [(tokens - hit) * price[0], hit * price[1], said * price[2]]
    values = [calls, tokens, hit, said, *paid, sum(paid) + 7 * calls]
    return Usage(*(Fraction(value, 3) for value in values))


CHEAP, DEAR = (200_000, 50_000, 800_000), (3_000_000, 750_000, 12_000_000)


@pytest.mark.parametrize(
    ("past", "present", "kind"),
    [
        ({"s": usage(100, 900, 500, 250, CHEAP)}, {"s": usage(230, 900, 500, 250, CHEAP)}, "volume"),
        ({"s": usage(100, 900, 500, 250, CHEAP)}, {"l": usage(101, 900, 500, 250, DEAR)}, "model mix"),
        ({"l": usage(90, 6000, 0, 250, DEAR)}, {"l": usage(91, 12000, 0, 250, DEAR)}, "input tokens per call"),
        ({"l": usage(90, 6000, 3600, 250, DEAR)}, {"l": usage(90, 6000, 300, 250, DEAR)}, "cached share"),
        ({"s": usage(90, 400, 0, 250, CHEAP)}, {"s": usage(90, 400, 0, 750, CHEAP)}, "output tokens per call"),
        (
            {"s": usage(90, 400, 100, 250, CHEAP), "l": usage(9, 400, 100, 250, DEAR)},
            {"s": usage(90, 400, 100, 250, CHEAP), "l": usage(9, 400, 100, 250, (4_500_000, 1_125_000, 18_000_000))},
            "price",
        ),
        ({}, {"s": usage(50, 400, 0, 250, CHEAP)}, "volume"),
        ({"s": usage(50, 400, 0, 250, CHEAP)}, {}, "volume"),
    ],
)  # fmt: skip
def test_the_parts_of_a_change_add_up_to_the_last_digit(
    past: dict[str, Usage], present: dict[str, Usage], kind: str
) -> None:
    parts = decompose(past, present)
    before = sum((each.cost for each in past.values()), Fraction(0))
    after = sum((each.cost for each in present.values()), Fraction(0))
    assert tuple(parts) == PARTS
    assert sum(parts.values()) == after - before
    assert leading(parts) == kind
