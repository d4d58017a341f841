from datetime import date
from fractions import Fraction
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from costspan.pricing import default_book
from costspan_reconcile.amounts import kept, read_amount
from costspan_reconcile.bill_pages import CostRow, content_sha256
from costspan_reconcile.book_prices import Prices
from costspan_reconcile.explain import (
    Class,
    DayState,
    Repeated,
    Surroundings,
    Traffic,
    explain,
)
from costspan_reconcile.line_items import read_line_item
from costspan_reconcile.match import Billed, Counted, Estimated, match

PROJECTS = st.sampled_from(["proj_a", "proj_b", ""])
KEYS = st.sampled_from(["key_1", "key_2", ""])
_TEXTS = (
    "gpt-4o-mini-2024-07-18, input",
    "gpt-4o-mini, input",
    "gpt-4o-mini-2024-07-18, output",
    "priority | gpt-5.6-sol, output, long context",
    "flex | gpt-5.6-sol, output",
    "gpt-5.6-sol, output",
    "no-such-model, cached input",
    "evals | gpt-4o-mini-2024-07-18, input",
    "web search tool calls",
    "Vector storage",
    "Text tokens",
)
TEXTS = st.sampled_from(_TEXTS)
PRICES = Prices(default_book())
AMOUNTS = st.decimals(-1000, 1000, allow_nan=False, places=34).map(Fraction)
PICO = st.integers(0, 10**15).map(lambda pico: Fraction(pico, 10**12))
COUNTS = st.integers(0, 10**12)


def bill(project: str, key: str, text: str, usd: Fraction, quantity: Fraction | None) -> Billed:
    return Billed(project, key, text, read_line_item(text), usd, quantity)


def spans(
    project: str, key: str, text: str, quantity: int | None, priced: int, usd: Fraction | None
) -> Estimated:
    """`quantity` is what has no price, None where the spans do not say how much there was."""
    counted = priced if usd is not None else 0
    return Estimated(
        project,
        key,
        read_line_item(text),
        calls=2,
        unpriced_calls=0 if usd is not None else 2,
        quantity=None if quantity is None else quantity + counted,
        priced_quantity=None if quantity is None else counted,
        usd=usd,
    )


def count(project: str, key: str, text: str, quantity: int) -> Counted:
    return Counted(project, key, read_line_item(text), quantity)


def surroundings(
    state: DayState,
    settled: bool,
    instrumented: list[tuple[str, str]],
    unnamed: list[str],
    calls: tuple[int, int, int, int | None],
    repeated: int,
    neighbour: Fraction,
) -> Surroundings:
    hints = dict.fromkeys(unnamed, ("zzzz",))
    day = date(2026, 11, 18)
    made, unseen, output, requests = calls
    traffic = Traffic(made, unseen, unseen, output, output, 1, requests)
    places = [(project, key) for project in ("proj_a", "proj_b") for key in ("key_1", "key_2", "")]
    models = ("gpt-4o-mini", "gpt-5.6-sol", "no-such-model")
    return Surroundings(
        day,
        state,
        settled,
        frozenset(instrumented),
        hints,
        {"key_1": "checkout"},
        {(*where, model): traffic for where in places for model in models},
        {
            (*where, read_line_item(text).product.family): Repeated(
                Fraction(repeated), Fraction(repeated)
            )
            for where in places
            for text in _TEXTS
        },
        {(*where, read_line_item(text)): (neighbour,) for where in places for text in _TEXTS},
    )


BILLED = st.builds(bill, PROJECTS, KEYS, TEXTS, AMOUNTS, st.none() | COUNTS.map(Fraction))
ESTIMATED = st.builds(spans, PROJECTS, KEYS, TEXTS, st.none() | COUNTS, COUNTS, st.none() | PICO)
COUNTED = st.builds(count, PROJECTS, KEYS, TEXTS, COUNTS)
SURROUNDINGS = st.builds(
    surroundings,
    st.sampled_from(DayState),
    st.booleans(),
    st.lists(st.tuples(PROJECTS, KEYS)),
    st.lists(PROJECTS, max_size=1),
    st.tuples(COUNTS, st.integers(0, 3), COUNTS, st.none() | COUNTS),
    COUNTS,
    AMOUNTS,
)
DAYS = st.tuples(
    st.lists(BILLED, max_size=12),
    st.lists(ESTIMATED, max_size=12),
    st.lists(COUNTED, max_size=12),
    st.booleans(),
)


@given(DAYS, SURROUNDINGS)
def test_every_dollar_is_in_exactly_one_class(
    day: tuple[list[Billed], list[Estimated], list[Counted], bool], around: Surroundings
) -> None:
    billed, estimated, counted, keyed = day
    lines = match(billed, estimated, counted, keyed=keyed)
    explained = [explain(line, around, PRICES) for line in lines]

    gap = sum((row.usd for row in billed), Fraction(0)) - sum(
        (row.usd or Fraction(0) for row in estimated), Fraction(0)
    )
    classed = sum((part.usd for each in explained for part in each.components), Fraction(0))
    assert classed == gap
    for each in explained:
        difference = each.line.billed - each.line.estimated
        found = each.parts
        parts = (found.coverage, found.metering, found.rate, found.unsplit)
        assert sum((part for part in parts if part is not None), Fraction(0)) == difference
        for part in each.components:
            assert Fraction(kept(part.usd)) == part.usd, "the store keeps every digit"
        if around.state is DayState.OPEN:
            assert {part.cause for part in each.components} <= {Class.OPEN}


@given(DAYS, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(
    day: tuple[list[Billed], list[Estimated], list[Counted], bool], random: Random
) -> None:
    billed, estimated, counted, keyed = day
    one = match(billed, estimated, counted, keyed=keyed)
    for rows in (billed, estimated, counted):
        random.shuffle(rows)
    other = match(billed, estimated, counted, keyed=keyed)
    assert [_facts(line) for line in one] == [_facts(line) for line in other]


def _facts(line: object) -> tuple[object, ...]:
    names = ("project", "api_key_id", "item", "level", "billed", "estimated", "usage_quantity")
    return tuple(getattr(line, name) for name in names)


@given(
    quantity=st.integers(1, 10**12),
    usage=st.integers(1, 10**12),
    spans=st.integers(1, 10**12),
    pico=st.integers(1, 10**9),
    billed=AMOUNTS,
)
def test_the_identity_holds_as_it_is_written(
    quantity: int, usage: int, spans: int, pico: int, billed: Fraction
) -> None:
    price = Fraction(pico, 10**12)
    item = read_line_item("gpt-4o, input")
    (line,) = match(
        [Billed("p", "k", "gpt-4o, input", item, billed, Fraction(quantity))],
        [Estimated("p", "k", item, 1, 0, spans, spans, spans * price)],
        [Counted("p", "k", item, usage)],
    )
    around = Surroundings(date(2026, 11, 18), DayState.FINAL, True, frozenset(), {}, {})
    found = explain(line, around, PRICES)
    assert found.parts.coverage == (usage - spans) * price
    assert found.parts.metering == (quantity - usage) * price
    assert found.parts.rate == billed - price * quantity


@given(
    st.decimals(
        allow_nan=False, allow_infinity=False, places=34, min_value=-(10**9), max_value=10**9
    )
)
def test_an_amount_of_34_places_is_kept_to_the_last_digit(amount: object) -> None:
    assert Fraction(kept(read_amount(str(amount)))) == Fraction(str(amount))


@given(st.permutations(["0.5", "1E-7", "0E-6176"]))
def test_a_day_has_one_hash_whatever_the_order_of_its_rows(amounts: list[str]) -> None:
    rows = [
        CostRow(
            date(2026, 1, 1), "p", "k", f"item {text}", "usd", "", text, read_amount(text), None, ""
        )
        for text in amounts
    ]
    assert content_sha256(rows) == content_sha256(sorted(rows, key=_line_item))


def _line_item(row: CostRow) -> str:
    return row.line_item
