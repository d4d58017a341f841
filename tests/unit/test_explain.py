from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest

from costspan.errors import Rejected
from costspan.pricing import default_book
from costspan.pricing.overrides import read_overrides
from costspan_reconcile.amounts import dollars, kept, read_amount
from costspan_reconcile.explain import (
    Class,
    DayState,
    Explained,
    Surroundings,
    Verdict,
    book_price,
    day_state,
    day_verdict,
    explain,
)
from costspan_reconcile.line_items import read_line_item
from costspan_reconcile.match import Billed, Counted, Estimated, match
from costspan_reconcile.openai_costs import hint

DAY = date(2026, 11, 18)
MINI = "gpt-4o-mini-2024-07-18, input"
AROUND = Surroundings(DAY, DayState.FINAL, True, frozenset({("p", "k")}), {}, {"k": "checkout"})


def compared(
    billed: str | None,
    quantity: int | None,
    usage: int | None,
    spans: int | None,
    usd: str | None = None,
    *,
    text: str = MINI,
    around: Surroundings = AROUND,
) -> Explained:
    """One line; the spans are priced at 0.15 USD a million unless `usd` says otherwise."""
    item = read_line_item(text)
    money = Fraction(usd) if usd is not None else Fraction(spans or 0) * Fraction("0.00000015")
    amount = None if quantity is None else Fraction(quantity)
    (line,) = match(
        [] if billed is None else [Billed("p", "k", text, item, Fraction(billed), amount)],
        [] if spans is None else [Estimated("p", "k", item, 1, 0, spans, spans, money)],
        [] if usage is None else [Counted("p", "k", item, usage)],
    )
    return explain(line, around, default_book())


def by_class(found: Explained) -> dict[Class, Fraction]:
    return {part.cause: part.usd for part in found.components}


def test_without_the_providers_usage_coverage_holds_the_metering() -> None:
    # (1,000,000 - 600,000) x 0.15e-6 = 0.06
    found = compared("0.15", 1_000_000, None, 600_000)
    assert (found.coverage, found.metering, found.rate) == (Fraction("0.06"), None, 0)
    assert by_class(found) == {Class.MISSING_SPANS: Fraction("0.06")}


def test_without_a_billed_quantity_metering_and_rate_stay_unsplit() -> None:
    # coverage (800,000 - 600,000) x 0.15e-6 = 0.03; the rest of 0.20 - 0.09 is 0.08
    found = compared("0.20", None, 800_000, 600_000)
    assert (found.coverage, found.unsplit) == (Fraction("0.03"), Fraction("0.08"))
    assert by_class(found) == {
        Class.MISSING_SPANS: Fraction("0.03"),
        Class.UNSPLIT: Fraction("0.08"),
    }


def test_more_spans_than_the_provider_counted_is_said_as_such() -> None:
    found = compared("0.15", 1_000_000, 1_000_000, 2_000_000)
    assert by_class(found) == {Class.SURPLUS_SPANS: Fraction("-0.15")}
    assert "2,000,000 tokens, more than the 1,000,000 that OpenAI counted" in found.text


def test_another_price_is_a_rate_and_not_missing_calls() -> None:
    found = compared("0.075", 1_000_000, 1_000_000, 1_000_000)
    assert by_class(found) == {Class.RATE: Fraction("-0.075")}
    assert found.verdict is Verdict.REVIEW


def test_within_a_cent_or_a_percent_a_line_matches_and_keeps_its_class() -> None:
    found = compared("0.1500001", 1_000_000, 1_000_000, 1_000_000)
    assert found.verdict is Verdict.MATCHED
    assert by_class(found) == {Class.RATE: Fraction("0.0000001")}


def test_a_line_that_no_span_has_is_priced_by_the_book() -> None:
    # 0.20 billed for 1,000,000 at 0.15: 0.15 was not seen, 0.05 is another price
    found = compared("0.20", 1_000_000, 1_000_000, None)
    assert found.unit_price == Fraction("0.00000015")
    assert by_class(found) == {
        Class.MISSING_SPANS: Fraction("0.15"),
        Class.RATE: Fraction("0.05"),
    }


def test_spans_of_a_key_without_a_name_keep_a_key_from_being_accused() -> None:
    quiet = Surroundings(DAY, DayState.FINAL, True, frozenset(), {"p": ("wxyz",)}, {})
    found = compared("0.15", 1_000_000, 1_000_000, None, around=quiet)
    assert by_class(found) == {Class.MISSING_SPANS: Fraction("0.15")}
    assert "wxyz" in found.text
    alone = Surroundings(DAY, DayState.FINAL, True, frozenset(), {}, {})
    found = compared("0.15", 1_000_000, 1_000_000, None, around=alone)
    assert by_class(found) == {Class.UNINSTRUMENTED_KEY: Fraction("0.15")}
    assert found.verdict is Verdict.EXPLAINED


def test_what_is_not_billed_is_awaited_for_72_hours_and_then_judged() -> None:
    young = Surroundings(DAY, DayState.PROVISIONAL, False, frozenset({("p", "k")}), {}, {})
    assert compared(None, None, 1_000_000, 1_000_000, around=young).verdict is Verdict.AWAITING
    found = compared(None, None, 1_000_000, 1_000_000)
    assert by_class(found) == {Class.METERING: Fraction("-0.15")}


def test_a_day_takes_review_only_beyond_a_dollar_and_a_percent() -> None:
    small = [compared("0.90", 6_000_000, 6_000_000, 1_000_000)]
    assert day_verdict(DayState.FINAL, small) is Verdict.MATCHED
    large = [compared("9.00", 60_000_000, 60_000_000, 1_000_000)]
    assert day_verdict(DayState.FINAL, large) is Verdict.REVIEW
    assert day_verdict(DayState.OPEN, large) is Verdict.OPEN


@pytest.mark.parametrize(
    ("text", "per_million"),
    [
        (MINI, "0.15"),
        ("gpt-4o-mini-2024-07-18, cached input", "0.075"),
        ("priority | gpt-4o-mini, output", "1"),
        ("gpt-4o-2024-05-13, input", "5"),  # not the price of gpt-4o
        ("ft-gpt-4o-2024-08-06, input", "3.75"),
        ("evals | gpt-4o-mini, input", None),
        ("gpt-4o-mini image, input", None),
        ("Vector storage", None),
    ],
)
def test_the_book_prices_what_it_lists_and_nothing_else(text: str, per_million: str | None) -> None:
    price = book_price(read_line_item(text), DAY, default_book())
    assert price == (None if per_million is None else Fraction(per_million) / 1_000_000)


def test_a_price_that_was_negotiated_for_a_project_is_the_unit_price_of_its_lines() -> None:
    text = """
    [[override]]
    name = "acme"
    match = { model = "gpt-4o-mini*", meter = "input", project = "proj_a" }
    percent_off = "10"
    """
    book, item = default_book().contracted(read_overrides(text)), read_line_item(MINI)
    assert book_price(item, DAY, book, "proj_a") == Fraction("0.135") / 1_000_000
    assert book_price(item, DAY, book, "proj_b") == Fraction("0.15") / 1_000_000


END = datetime(2026, 11, 19, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("now", "readings", "state"),
    [
        (END - HOUR, [(END - HOUR, "a")], "OPEN"),
        (END, [(END, "a")], "PROVISIONAL"),
        (END + 71 * HOUR, [(END, "a"), (END + 71 * HOUR, "a")], "PROVISIONAL"),
        (END + 72 * HOUR, [(END + 50 * HOUR, "a"), (END + 72 * HOUR, "a")], "PROVISIONAL"),
        (END + 72 * HOUR, [(END + 48 * HOUR, "a"), (END + 72 * HOUR, "a")], "FINAL"),
        (END + 99 * HOUR, [(END, "a"), (END + 48 * HOUR, "b"), (END + 49 * HOUR, "a")], "PROVISIONAL"),
        (END + 99 * HOUR, [], "PROVISIONAL"),
    ],
)  # fmt: skip
def test_a_day_is_final_after_72_hours_and_24_without_a_change(
    now: datetime, readings: list[tuple[datetime, str]], state: str
) -> None:
    assert day_state(DAY, now, readings)[0] == state


@pytest.mark.parametrize("text", ["NaN", "Infinity", "1e999999999", "", "1,5", "0x1", "1" * 200])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(Rejected):
        read_amount(text)


def test_amounts_are_exact_where_the_default_context_would_round() -> None:
    text = "123456789.1234567890123456789012345"
    assert str(kept(read_amount(text))) == f"{text}{'0' * 15}"
    assert kept(read_amount("0E-6176")) == 0
    assert dollars(Fraction(1, 3)) == "$0.333333333333"
    assert dollars(Fraction(Decimal("-2.50"))) == "-$2.5"


@pytest.mark.parametrize(
    ("redacted", "end"),
    [
        ("sk-proj-********abcd", "abcd"),
        ("sk-...WxYz", "WxYz"),
        ("sk-abc...def", "def"),
        ("sk-proj-****", ""),
        ("abcd", ""),
        ("", ""),
    ],
)
def test_the_hint_of_a_key_is_its_visible_end(redacted: str, end: str) -> None:
    assert hint(redacted) == end


def test_usage_of_one_key_is_not_taken_for_that_of_two() -> None:
    item = read_line_item(MINI)
    million, half = Fraction(1_000_000), Fraction("0.15")
    (line,) = match(
        [Billed("p", key, MINI, item, half, million) for key in ("k1", "k2")],
        [Estimated("p", "", item, 2, 0, 2_000_000, 2_000_000, Fraction("0.30"))],
        [Counted("p", "k1", item, 1_000_000)],
    )
    found = explain(line, AROUND, default_book())
    assert by_class(found) == {}  # bill and spans agree; no surplus is made up to cancel a lack
