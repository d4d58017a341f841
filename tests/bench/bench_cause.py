"""How well a cause is named: cubes of spend whose cause is known.

    uv run python tests/bench/bench_cause.py [cubes of each kind]

Feature, model, prompt, tenant and region (as team and service), up to 4,000 leaves that scatter;
one to two causes planted in each. What is named counts where it is the same calls as the truth.
The study asks for an F1 of at least 0.97 on such cubes.
"""

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from costspan_dashboards.alerts.cause import DIMENSIONS, Pairs, Table, explain, fall, rise
from costspan_dashboards.alerts.frame import Names

Random = np.random.Generator
Floats = NDArray[np.float64]
_SIZES: Mapping[str, int] = {"feature": 8, "model": 4, "prompt": 3, "team": 12, "service": 4}
_LEAVES = 4000
_SCATTER = 0.1
ASKED = 0.97


@dataclass(frozen=True)
class Cube:
    """Dollars by leaf, what was to be expected, and which elements were changed."""

    table: Table
    truth: tuple[Pairs, ...]
    falls: bool = False


def base(random: Random) -> Table:
    """Return a cube in which nothing is wrong but chance."""
    names = Names()
    codes = np.zeros((len(DIMENSIONS), _LEAVES), np.int64)
    for name, size in _SIZES.items():
        values = [names.code(name, f"{name}-{place}") for place in range(size)]
        weights = 1 / np.arange(1, size + 1)
        codes[DIMENSIONS.index(name)] = random.choice(values, _LEAVES, p=weights / weights.sum())
    expected = random.lognormal(0, 1.2, _LEAVES)
    actual: Floats = expected * random.lognormal(0, _SCATTER, _LEAVES)
    return Table(names, codes, actual, expected).merged()


def members(table: Table, where: Pairs) -> NDArray[np.bool_]:
    """Return which leaves an element holds."""
    chosen = np.ones(table.codes.shape[1], np.bool_)
    for name, value in where:
        chosen &= table.codes[DIMENSIONS.index(name)] == table.names.code(name, value)
    return chosen


def element(random: Random, table: Table, dimensions: int) -> Pairs:
    """Return an element that holds between 2 and 30 % of the dollars."""
    while True:
        order = np.argsort(random.random(len(_SIZES)))[:dimensions].tolist()
        places = sorted(DIMENSIONS.index(list(_SIZES)[place]) for place in order)
        leaf = int(random.integers(len(table.expected)))
        where = table.pairs(places, leaf)
        share = table.expected[members(table, where)].sum() / table.expected.sum()
        if 0.02 <= share <= 0.3:
            return where


def times(table: Table, where: Pairs, factor: float) -> Table:
    """Return the table with an element's dollars multiplied."""
    return replace(table, actual=table.actual * np.where(members(table, where), factor, 1.0))


def one(random: Random, dimensions: int = 1) -> Cube:
    """One element spends more."""
    table = base(random)
    where = element(random, table, dimensions)
    return Cube(times(table, where, random.uniform(1.6, 4)), (where,))


def two_causes(random: Random) -> Cube:
    """Two elements that share no call spend more, by about as much."""
    table = base(random)
    while True:
        first, second = element(random, table, 1), element(random, table, 2)
        if not (members(table, first) & members(table, second)).any():
            break
    a, b = (float(table.expected[members(table, where)].sum()) for where in (first, second))
    excess = max(a, b) * random.uniform(1, 2)
    table = times(times(table, first, 1 + excess / a), second, 1 + excess / b)
    return Cube(table, (first, second))


def new_value(random: Random) -> Cube:
    """A tenant nobody has seen comes."""
    table = base(random)
    code = table.names.code("team", "newcomer")
    some = random.choice(table.codes.shape[1], 200, replace=False)
    codes = table.codes[:, some].copy()
    codes[DIMENSIONS.index("team")] = code
    dollars = random.lognormal(0, 1, 200)
    dollars *= random.uniform(0.1, 0.4) * table.expected.sum() / dollars.sum()
    table = Table(
        table.names,
        np.concatenate([table.codes, codes], axis=1),
        np.concatenate([table.actual, dollars]),
        np.concatenate([table.expected, np.zeros(200)]),
    ).merged()
    return Cube(table, ((("team", "newcomer"),),))


def model_switch(random: Random) -> Cube:
    """A feature goes from one model to one that costs eight times as much."""
    table = base(random)
    while True:
        (pair,) = element(random, table, 1)
        if pair[0] == "feature":
            break
    old, new = (table.names.code("model", f"model-{place}") for place in (0, 1))
    row = DIMENSIONS.index("model")
    moving = members(table, (pair,)) & (table.codes[row] == old)
    codes = table.codes[:, moving].copy()
    codes[row] = new
    table = Table(
        table.names,
        np.concatenate([table.codes, codes], axis=1),
        np.concatenate([np.where(moving, 0.0, table.actual), 8 * table.actual[moving]]),
        np.concatenate([table.expected, np.zeros(int(moving.sum()))]),
    ).merged()
    return Cube(table, ((pair, ("model", "model-1")),))


def growth_and_one(random: Random) -> Cube:
    """All grow by a fifth, and one element by far more."""
    cube = one(random)
    return replace(cube, table=replace(cube.table, actual=cube.table.actual * 1.2))


def dip(random: Random) -> Cube:
    """One element nearly stops."""
    table = base(random)
    where = element(random, table, 1)
    return Cube(times(table, where, random.uniform(0.05, 0.4)), (where,), falls=True)


KINDS: Mapping[str, Callable[[Random], Cube]] = {
    "one value": one,
    "two dimensions": lambda random: one(random, 2),
    "two causes": two_causes,
    "new value": new_value,
    "model switch": model_switch,
    "growth and one": growth_and_one,
    "dip": dip,
}


def main(cubes: int) -> None:
    """Print hits, F1 and the time of each kind."""
    hits = named = true = firsts = 0
    began = time.perf_counter()
    for kind, make in KINDS.items():
        kind_hits = kind_named = kind_true = 0
        for seed in range(cubes):
            cube = make(np.random.default_rng([seed, len(kind)]))
            found = [
                each.where
                for each in explain(cube.table, fall if cube.falls else rise).contributors
            ]
            leaves = [members(cube.table, where) for where in cube.truth]
            same = [
                any(np.array_equal(members(cube.table, where), truth) for truth in leaves)
                for where in found
            ]
            kind_hits += sum(same)
            kind_named += len(found)
            kind_true += len(cube.truth)
            firsts += bool(same) and same[0]
        print(f"{kind:<16}F1 {2 * kind_hits / (kind_named + kind_true):.3f}")
        hits, named, true = hits + kind_hits, named + kind_named, true + kind_true
    each = (time.perf_counter() - began) / (cubes * len(KINDS))
    f1 = 2 * hits / (named + true)
    print(
        f"all: F1 {f1:.3f} (asked {ASKED}), first exact {firsts / (cubes * len(KINDS)):.3f}, "
        f"{each * 1000:.1f} ms a cube"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30)
