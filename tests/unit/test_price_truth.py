"""What the bill says of prices, from what was paid for a unit."""

from collections.abc import Iterable
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest

from costspan.pricing import default_book
from costspan_reconcile.book_prices import Prices
from costspan_reconcile.free_tokens import free_by_pool, is_whole_pool, pool_of
from costspan_reconcile.line_items import read_line_item
from costspan_reconcile.price_truth import Paid, UnitPrice, changes, discounts, unit_prices

PRICES = Prices(default_book())
FIRST = date(2026, 11, 1)
LISTED = {"gpt-4o": "2.5", "gpt-5.4": "2.5", "gpt-5-mini": "0.25", "gpt-4.1": "2"}
"""USD a million tokens of input."""


def paid(model: str, day: int, share: str, tokens: int = 1_000_000) -> Paid:
    usd = Decimal(LISTED[model]) * Decimal(share) * tokens / 1_000_000
    return Paid(
        FIRST + timedelta(days=day), f"{model}, input", "tokens", usd, Decimal(tokens), ("p",)
    )


def at(models: Iterable[str], days: Iterable[int], share: str) -> tuple[UnitPrice, ...]:
    return unit_prices([paid(model, day, share) for day in days for model in models], PRICES)


MODELS = ("gpt-4o", "gpt-5-mini", "gpt-4.1")


@pytest.mark.parametrize(
    ("models", "days", "share", "found"),
    [
        (MODELS, 5, "0.88", True),
        (MODELS[:2], 5, "0.88", False),
        (MODELS, 4, "0.88", False),
        (MODELS, 5, "1", False),
        (("gpt-5.4", "gpt-5-mini", "gpt-4o"), 5, "0.5", False),  # the price of flex or batch
    ],
)
def test_a_discount_holds_for_three_models_on_five_days(
    models: tuple[str, ...], days: int, share: str, found: bool
) -> None:
    assert bool(discounts(at(models, range(days), share))) is found


def test_shares_that_differ_by_more_than_a_thousandth_are_no_agreement() -> None:
    prices = (
        *at(MODELS[:1], range(5), "0.88"),
        *at(MODELS[1:2], range(5), "0.89"),
        *at(MODELS[2:], range(5), "0.90"),
    )
    assert discounts(prices) == ()


@pytest.mark.parametrize(
    ("shares", "since"),
    [
        (["1", "1", "0.8", "0.8"], 2),
        (["1", "0.8"], None),  # one day is no witness
        (["1", "0.8", "0.8", "1"], None),  # it came back
        (["0.8", "0.8", "0.8"], None),  # never the book's, so nothing began
        (["1", "0.9", "0.8", "0.8"], 2),
    ],
)
def test_a_price_change_has_a_day_before_it_and_two_after(
    shares: list[str], since: int | None
) -> None:
    rows = [paid("gpt-4o", day, share) for day, share in enumerate(shares)]
    found = changes(unit_prices(rows, PRICES))
    assert [change.since for change in found] == (
        [] if since is None else [FIRST + timedelta(days=since)]
    )


def test_of_several_prices_on_a_day_the_one_with_most_tokens_is_the_new_one() -> None:
    rows = [paid("gpt-4o", 0, "1")]
    for day in (1, 2):
        rows += [paid("gpt-4o", day, "0.8"), paid("gpt-4o", day, f"0.7{day}", 10)]
    (change,) = changes(unit_prices(rows, PRICES))
    assert change.after_usd == Fraction("2e-6")


def test_a_resident_price_is_named_and_no_discount() -> None:
    (one,) = at(("gpt-5.4",), range(1), "1.1")
    assert (one.same_as, one.ratio) == ("residency", Fraction("1.1"))


@pytest.mark.parametrize(
    ("text", "pool"),
    [
        ("gpt-4o-2024-08-06, input", "large"),
        ("gpt-4o-mini-2024-07-18, output", "small"),
        ("ft-gpt-4o-2024-08-06, input", ""),
        ("evals | gpt-4o, input", ""),
        ("gpt-9, input", ""),
    ],
)
def test_a_pool_is_known_by_the_family_of_a_model(text: str, pool: str) -> None:
    assert pool_of(read_line_item(text)) == pool


def test_a_pool_is_used_up_where_what_is_not_paid_adds_up_to_its_size() -> None:
    price = Fraction("2e-6")
    rows = [
        (read_line_item("gpt-4.1, input"), Fraction(900_000), Fraction(0), price),
        (read_line_item("gpt-4.1, output"), Fraction(300_000), 200_000 * price, price),
    ]
    (tokens,) = free_by_pool(rows).values()
    assert tokens == 1_000_000
    assert is_whole_pool(tokens)
    assert not is_whole_pool(tokens + 1)
