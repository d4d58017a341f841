from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from costspan.money import from_pico, plain, to_pico, usd

pico = st.integers(min_value=-(10**24), max_value=10**24)


@given(pico)
def test_pico_and_dollars_are_two_ways_to_write_the_same_amount(amount: int) -> None:
    assert to_pico(from_pico(amount)) == amount


@given(pico)
def test_what_a_person_reads_is_the_amount(amount: int) -> None:
    assert usd(plain(from_pico(amount))) == from_pico(amount)


@given(st.lists(st.integers(min_value=0, max_value=10**18), max_size=20))
def test_the_sum_of_dollars_is_the_dollars_of_the_sum(amounts: list[int]) -> None:
    assert sum((from_pico(amount) for amount in amounts), Decimal(0)) == from_pico(sum(amounts))
