from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from math import floor

from hypothesis import given
from hypothesis import strategies as st

from costspan.money import PICO_PER_USD, from_pico
from costspan.pricing import Status, default_book, price
from costspan.pricing.overrides import read_overrides
from costspan.usage import Usage

AT = datetime(2026, 11, 20, tzinfo=UTC)
BOOK = default_book().contracted(
    read_overrides('[[override]]\nname = "a"\nmatch = { model = "*" }\npercent_off = "7.77"')
)
MODELS = st.sampled_from(sorted(default_book().names))
HOSTS = st.sampled_from(["api.openai.com", "eu.api.openai.com"])
TIERS = st.sampled_from([None, "default", "flex", "priority", "fast", "ultrafast", "batch"])
COUNTS = st.integers(0, 300_000)
SECONDS = st.fractions(0, 10_000, max_denominator=1_000)


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    fresh, cached, kept, kept_long = (draw(COUNTS) for _ in range(4))
    audio = draw(st.integers(0, fresh)) if draw(st.booleans()) else 0
    return Usage(
        fresh + cached + kept + kept_long,
        draw(COUNTS),
        cached_tokens=cached,
        cache_write_30m_tokens=kept,
        cache_write_12h_tokens=kept_long,
        audio_input_tokens=audio,
        metered=tuple(
            (meter, quantity)
            for meter, quantity in (("audio_seconds", draw(SECONDS)), ("web_search", draw(COUNTS)))
            if quantity and draw(st.booleans())
        ),
    )


@given(usages(), MODELS, TIERS, HOSTS)
def test_parts_sum_to_the_whole_and_none_is_lost(
    usage: Usage, model: str, tier: str | None, host: str
) -> None:
    found = price(usage, model=model, at=AT, tier=tier, host=host, book=BOOK)
    if found.status is Status.PRICED and found.usd is not None:
        billed = {meter for meter, _ in usage.quantities()}
        free = model in default_book().free
        assert free or billed <= {part.meter for part in found.parts}
        assert found.usd == from_pico(sum(part.pico for part in found.parts))
        assert Decimal(0) <= (found.contracted_usd or Decimal(0)) <= found.usd
    else:
        assert found.usd is found.contracted_usd is None
        assert found.reason


@given(usages(), MODELS, TIERS, HOSTS)
def test_each_part_is_the_exact_product_rounded_half_even_once(
    usage: Usage, model: str, tier: str | None, host: str
) -> None:
    found = price(usage, model=model, at=AT, tier=tier, host=host, book=BOOK)
    for part in (*found.parts, *(found.contracted or ())):
        exact = Fraction(part.quantity) * Fraction(part.pico_per_unit)
        below = floor(exact)
        rest = exact - below
        up = rest > Fraction(1, 2) or (rest == Fraction(1, 2) and below % 2 == 1)
        assert part.pico == below + up
        assert part.pico_per_unit <= 1_000 * PICO_PER_USD


@given(st.lists(st.tuples(COUNTS, COUNTS, SECONDS), min_size=2, max_size=5), MODELS, TIERS, HOSTS)
def test_splitting_a_call_moves_no_component_by_more_than_a_picodollar_a_cut(
    calls: list[tuple[int, int, Fraction]], model: str, tier: str | None, host: str
) -> None:
    def parts(read: int, written: int, seconds: Fraction) -> dict[str, int]:
        metered = (("audio_seconds", seconds),) if seconds else ()
        usage = Usage(read, written, metered=metered)
        found = price(usage, model=model, at=AT, tier=tier, host=host, book=BOOK)
        contracted = found.contracted or ()
        return {part.meter: part.pico for part in contracted if part.meter != "search_request"}

    longest = default_book().long_context_above.get(model)
    if longest is not None:  # the context of a call is no sum
        most = longest // len(calls)
        calls = [(read % most, written, seconds) for read, written, seconds in calls]
    whole = parts(*(sum(column) for column in zip(*calls, strict=True)))  # type: ignore[arg-type]
    each = [parts(*call) for call in calls]
    for meter, pico in whole.items():
        split = sum(part.get(meter, 0) for part in each)
        assert abs(pico - split) <= len(calls) - 1
