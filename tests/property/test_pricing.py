from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from costspan.money import from_pico
from costspan.pricing import default_book, price
from costspan.usage import Usage

AT = datetime(2026, 11, 20, tzinfo=UTC)
MODELS = sorted({model for model, tier, _ in default_book().rows if tier == "standard"})
HOSTS = st.sampled_from(["api.openai.com", "eu.api.openai.com"])


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    fresh = draw(st.integers(0, 300_000))
    cached = draw(st.integers(0, 300_000))
    return Usage(fresh + cached, draw(st.integers(0, 100_000)), cached_tokens=cached)


@given(usages(), st.sampled_from(MODELS), HOSTS)
def test_parts_sum_to_the_whole(usage: Usage, model: str, host: str) -> None:
    found = price(usage, model=model, at=AT, host=host)
    if found.usd is not None:
        assert found.usd == from_pico(sum(part.pico for part in found.parts))
        assert all(part.pico >= 0 for part in found.parts)


@given(st.integers(0, 100_000), st.integers(0, 100_000), st.sampled_from(MODELS), HOSTS)
def test_splitting_a_call_moves_nothing_by_more_than_one_picodollar(
    one: int, other: int, model: str, host: str
) -> None:
    whole, first, second = (
        price(Usage(tokens, 0), model=model, at=AT, host=host).pico
        for tokens in (one + other, one, other)
    )
    if whole is not None and first is not None and second is not None:
        assert abs(whole - first - second) <= 1
