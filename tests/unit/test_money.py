from decimal import Decimal

import pytest

from costspan.money import from_pico, plain, to_pico, usd


def test_a_float_is_refused_because_its_digits_are_an_accident() -> None:
    with pytest.raises(TypeError, match="float"):
        usd(0.1)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def test_a_half_picodollar_goes_to_the_even_neighbour() -> None:
    assert usd("0.0000000000005") == Decimal(0)
    assert usd("0.0000000000015") == Decimal("0.000000000002")


def test_a_34_digit_amount_is_rounded_once_and_not_by_the_default_context() -> None:
    assert usd("123456789012.1234567890125000000001") == Decimal("123456789012.123456789013")


def test_the_cheapest_token_survives() -> None:
    # gpt-5-nano, batch, cached: $0.0025 per million tokens.
    assert to_pico(usd("0.0000000025")) == 2500
    assert from_pico(2500) == Decimal("0.0000000025")


@pytest.mark.parametrize(
    ("amount", "text"),
    [("0.000471000000", "0.000471"), ("0", "0"), ("1E-12", "0.000000000001"), ("100", "100")],
)
def test_a_person_reads_no_exponent_and_no_padding(amount: str, text: str) -> None:
    assert plain(Decimal(amount)) == text
