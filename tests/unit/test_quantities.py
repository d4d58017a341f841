from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from costspan.capture.cost import from_price, from_usage
from costspan.pricing import Part, Price, Status
from costspan.quantities import exact, flat, part_of, quantity, unspoken, whole
from costspan.usage import OtherModel, Usage

COUNTS = st.integers(0, 10**6)


@st.composite
def usages(draw: st.DrawFn, others: bool = True) -> Usage:
    text, cached, kept_30m, kept_12h, audio, cached_audio, image, cached_image, written, spoken = (
        draw(COUNTS) for _ in range(10)
    )
    meters = draw(st.sets(st.sampled_from(["web_search", "audio_seconds", "characters"])))
    drawn = draw(st.lists(usages(others=False), max_size=2)) if others else []
    return Usage(
        text + cached + kept_30m + kept_12h + audio + cached_audio + image + cached_image,
        written + spoken,
        cached_tokens=cached + cached_audio + cached_image,
        cache_write_30m_tokens=kept_30m,
        cache_write_12h_tokens=kept_12h,
        audio_input_tokens=audio + cached_audio,
        audio_output_tokens=spoken,
        image_input_tokens=image + cached_image,
        cached_audio_tokens=cached_audio,
        cached_image_tokens=cached_image,
        metered=tuple((meter, Fraction(draw(st.integers(1, 10**9)), 1000)) for meter in meters),
        others=tuple(OtherModel("svg", f"gpt-{n}/x", usage) for n, usage in enumerate(drawn)),
    )


@given(usages())
def test_a_flat_usage_is_the_whole_one_again(usage: Usage) -> None:
    again = whole(flat(usage))
    assert flat(again) == flat(usage)
    assert again.input_tokens == usage.input_tokens
    assert again._replace(others=(), metered=()) == usage._replace(others=(), metered=())


def test_a_decision_is_one_again() -> None:
    assert whole(flat(Usage(70, 5, is_decision=True))) == Usage(70, 0, is_decision=True)


@given(st.integers(0, 10**18), st.integers(0, 20))
def test_a_quantity_is_written_with_all_its_digits(steps: int, places: int) -> None:
    amount = Fraction(steps, 10**places)
    assert quantity(str(exact(amount))) == amount
    assert exact(steps) == steps


def test_a_quantity_of_another_model_makes_a_part_under_its_label() -> None:
    assert part_of("image_tool/gpt-image-2/image_output") == "image_tool_image_output"
    assert part_of("cached_input") == "cached_input"


@pytest.mark.parametrize(
    "usage",
    [Usage(10, 5), Usage(10, 5, 3, 2, audio_input_tokens=4), Usage(5, 9, image_output_tokens=9)],
)
def test_an_ordinary_call_has_no_attribute_beyond_opentelemetry_s(usage: Usage) -> None:
    assert not unspoken(usage)
    assert not [name for name in from_usage(usage, {}) if name.startswith("costspan.usage.")]


def test_what_opentelemetry_has_no_name_for_is_on_the_span() -> None:
    usage = Usage(
        100,
        0,
        cached_tokens=30,
        cache_write_12h_tokens=7,
        audio_input_tokens=40,
        cached_audio_tokens=20,
        metered=(("web_search", 2), ("audio_seconds", Fraction(17, 2))),
        others=(OtherModel("image_tool", "gpt-image-2", Usage(8, 0)),),
    )
    found: dict[str, Any] = {
        name.removeprefix("costspan.usage."): value
        for name, value in from_usage(usage, {}).items()
        if name.startswith("costspan.usage.")
    }
    assert found == {
        "cache_write_12h": 7,
        "cached_audio_input": 20,
        "web_search": 2,
        "audio_seconds": "8.5",
        "image_tool/gpt-image-2/input": 8,
    }


def test_two_models_that_worked_as_the_same_thing_make_one_part() -> None:
    parts = (Part("svg_input", 3, 5, 15), Part("svg_input", 2, 10, 20))
    found = from_price(Price(Status.PRICED, parts, "book", "gpt-5.4/standard/short"))
    assert found["costspan.cost.part.svg_input"] == 35
    assert found["costspan.cost.usd"] == "0.000000000035"
