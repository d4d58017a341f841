"""Twenty thousand random lines shared out by the engine, held against the rule in fractions."""

import random
from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from decimal import Context, Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

from hypothesis import given
from hypothesis import strategies as st

from costspan_collector.store import Store, load_sql
from costspan_reconcile.allocate.cents import shown_cents

DAY = date(2026, 11, 18)
PICO = Fraction(1, 10**12)
POOLS = 20_000
EXACT = Context(prec=100)
Party = tuple[str, str, str, str]
NOBODY: Party = ("", "", "", "")


@dataclass(frozen=True)
class Pool:
    """A line, the weights of who used it, and the quantity that is on the bill."""

    name: str
    billed_usd: Decimal
    billed_quantity: Decimal | None
    weights: dict[Party, Decimal] = field(default_factory=dict[Party, Decimal])

    def shares(self) -> dict[tuple[str, Party], Decimal]:
        """Return who gets what, worked out in fractions, in any order that the weights are in."""
        used = sum(map(Fraction, self.weights.values()), Fraction(0))
        rest = max(Fraction(self.billed_quantity or 0) - used, Fraction(0)) if used else Fraction(1)
        parts = [("direct", party, Fraction(weight)) for party, weight in self.weights.items()]
        if rest:
            parts.append(("unattributed", NOBODY, rest))
        whole = Fraction(self.billed_usd) // PICO
        tail = Fraction(self.billed_usd) - whole * PICO
        exact = [whole * weight / (used + rest) for _, _, weight in parts]
        quanta = [share.__floor__() for share in exact]
        by_name = sorted(range(len(parts)), key=lambda n: (-parts[n][2], parts[n][1], parts[n][0]))
        for n in sorted(by_name, key=lambda n: quanta[n] - exact[n])[: whole - sum(quanta)]:
            quanta[n] += 1
        return {
            (kind, party): decimal(amount * PICO + (tail if n == by_name[0] else 0))
            for n, ((kind, party, _), amount) in enumerate(zip(parts, quanta, strict=True))
        }


@dataclass(frozen=True)
class Line:
    allocation_id: UUID
    day: date
    project: str
    line_item: str
    billed_usd: Decimal
    billed_quantity: Decimal | None
    weights_of: UUID


@dataclass(frozen=True)
class Weight:
    allocation_id: UUID
    day: date
    project: str
    line_item: str
    kind: str
    team: str
    feature: str
    user: str
    customer: str
    weight: Decimal


@dataclass(frozen=True)
class Share:
    line_item: str
    kind: str
    team: str
    feature: str
    user: str
    customer: str
    amount_usd: Decimal


def decimal(value: Fraction) -> Decimal:
    return Decimal(value.numerator * (10**40 // value.denominator)).scaleb(-40, EXACT)


def pools(seed: int, count: int) -> list[Pool]:
    """Return lines of every size, some negative, most with ties and with digits below a pico-dollar."""
    random_ = random.Random(seed)  # noqa: S311 - the same each time
    made: list[Pool] = []
    for number in range(count):
        digits = random_.choice([2, 12, 13, 20, 34, 40])
        amount = random_.choice([1, 10, 10**6]) * 10**digits
        billed = Decimal(random_.randint(-amount, amount) or 1).scaleb(-digits, EXACT)
        most = random_.choice([1, 3, 10**9])
        weights: dict[Party, Decimal] = {}
        for _ in range(random_.choice([0, 1, 2, 3, 3, 7, 20])):
            party = tuple(random_.choice(["", "a", "b", "c"]) for _ in range(4))
            fine = random_.choice([0, 0, 0, 20])
            weights[party] = Decimal(random_.randint(1, most * 10**fine)).scaleb(-fine)  # type: ignore[index]
        used = sum(weights.values(), Decimal(0))
        quantity = random_.choice([None, Decimal(0), used, used * 2, used + 1, used / 2])
        quantity = None if quantity is None else quantity.quantize(Decimal("1e-20"), context=EXACT)
        made.append(Pool(f"line {number}", billed, quantity, weights))
    return made


def shared_out(
    store: Store, made: list[Pool], order: random.Random
) -> dict[str, dict[Any, Decimal]]:
    """Have the engine share them out by weights that are frozen, told in a random order."""
    allocation_id, frozen = uuid4(), uuid4()
    lines = [
        Line(allocation_id, DAY, "p", pool.name, pool.billed_usd, pool.billed_quantity, frozen)
        for pool in made
    ]
    weights = [
        Weight(frozen, DAY, "p", pool.name, "direct", *party, weight)
        for pool in made
        for party, weight in pool.weights.items()
    ]
    order.shuffle(lines)
    order.shuffle(weights)
    store.insert("allocation_lines", lines)
    store.insert("allocations", weights)
    sql = load_sql("costspan_reconcile.allocate", "share_out")
    store.command(
        sql,
        allocation_ids=[allocation_id],
        run_ids=[uuid4()],
        since=DAY,
        until=DAY + timedelta(days=1),
        rest=False,
    )
    found: defaultdict[str, dict[Any, Decimal]] = defaultdict(dict)
    wanted = "line_item, kind, team, feature, user, customer, amount_usd"
    for row in store.select(
        f"SELECT {wanted} FROM allocations WHERE allocation_id = {{of:UUID}}",
        Share,
        of=allocation_id,
    ):
        found[row.line_item][row.kind, (row.team, row.feature, row.user, row.customer)] = (
            row.amount_usd
        )
    return found


def test_the_shares_of_random_lines_add_up_and_are_those_of_the_largest_remainder(
    store: Store,
) -> None:
    made = pools(7, POOLS)

    found = shared_out(store, made, random.Random(1))  # noqa: S311

    assert sum(pool.billed_usd < 0 for pool in made) > POOLS / 3
    for pool in made:
        assert found[pool.name] == pool.shares(), pool
        total = Decimal(0)
        for amount in found[pool.name].values():
            total = EXACT.add(total, amount)
        assert total == pool.billed_usd


def test_the_order_in_which_weights_come_does_not_matter(store: Store) -> None:
    made = pools(8, 500)
    first = shared_out(store, made, random.Random(2))  # noqa: S311
    again = shared_out(store, list(reversed(made)), random.Random(3))  # noqa: S311
    assert first == again
    assert all(
        replace(pool, weights=dict(reversed(pool.weights.items()))).shares() == pool.shares()
        for pool in made
    )


def test_the_example_of_three_equal_users_of_a_tenth_of_a_dollar(store: Store) -> None:
    users: dict[Party, Decimal] = {("", "", user, ""): Decimal(1) for user in "cab"}
    pool = Pool("line", Decimal("0.100000000001"), None, users)
    (found,) = shared_out(store, [pool], random.Random(4)).values()  # noqa: S311
    assert found == {
        ("direct", ("", "", "a", "")): Decimal("0.033333333334"),
        ("direct", ("", "", "b", "")): Decimal("0.033333333334"),
        ("direct", ("", "", "c", "")): Decimal("0.033333333333"),
    }


AMOUNTS = st.lists(
    st.decimals(min_value=-(10**9), max_value=10**9, allow_nan=False, places=20), max_size=40
)


@given(AMOUNTS)
def test_shown_cents_add_up_to_the_shown_total(amounts: list[Decimal]) -> None:
    cents = shown_cents(amounts)
    exact = sum(map(Fraction, amounts), Fraction(0))
    assert sum(map(Fraction, cents), Fraction(0)) == Fraction(round(exact * 100), 100)
    for amount, shown in zip(amounts, cents, strict=True):
        assert abs(Fraction(shown) - Fraction(amount)) < Fraction(1, 100)
        assert shown == shown.quantize(Decimal("0.01"))


@given(AMOUNTS)
def test_no_amount_is_shown_above_a_larger_one(amounts: list[Decimal]) -> None:
    different = sorted({*amounts})
    assert all(small <= large for small, large in pairwise(shown_cents(different)))
