from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from costspan.errors import Rejected
from costspan.pricing import default_book
from costspan.pricing.overrides import read_overrides
from costspan_reconcile.amounts import dollars, kept, read_amount
from costspan_reconcile.book_prices import Prices
from costspan_reconcile.explain import (
    Class,
    DayState,
    Explained,
    Repeated,
    Surroundings,
    Traffic,
    Verdict,
    day_state,
    day_verdict,
    explain,
    period_verdict,
)
from costspan_reconcile.line_items import read_line_item
from costspan_reconcile.match import Billed, Counted, Estimated, match
from costspan_reconcile.openai_costs import hint
from costspan_reconcile.price_truth import Discount, PriceChange
from costspan_reconcile.tolerances import Tolerances

DAY = date(2026, 11, 18)
MINI = "gpt-4o-mini-2024-07-18, input"
PRICES = Prices(default_book())
MILLION = 1_000_000


def around(
    state: DayState = DayState.FINAL,
    *,
    settled: bool = True,
    calls: int = 10,
    requests: int | None = None,
    **more: Any,
) -> Surroundings:
    """A day whose key `k` is instrumented; OpenAI counted `requests`, the spans hold `calls`."""
    known: dict[str, Any] = {
        "instrumented": frozenset({("p", "k")}),
        "unnamed": {},
        "key_names": {"k": "checkout"},
        "traffic": {
            ("p", "k", model): Traffic(calls=calls, requests=requests)
            for model in ("gpt-4o-mini", "gpt-4o", "gpt-5.4", "gpt-5-mini", "gpt-4.1", "gpt-9")
        },
    }
    return Surroundings(DAY, state, settled, **{**known, **more})


def compared(
    billed: str | None,
    quantity: int | None,
    usage: int | None,
    spans: int | None,
    usd: str | None = None,
    *,
    text: str = MINI,
    tiers: dict[str, int] | None = None,
    around: Surroundings | None = None,
    **bill: Any,
) -> Explained:
    """One line; the spans are priced at 0.15 USD a million unless `usd` says otherwise."""
    item = read_line_item(text)
    money = Fraction(usd) if usd is not None else Fraction(spans or 0) * Fraction("0.00000015")
    amount = None if quantity is None else Fraction(quantity)
    counted = tiers or ({} if usage is None else {item.tier: usage})
    (line,) = match(
        [] if billed is None else [Billed("p", "k", text, item, Fraction(billed), amount, **bill)],
        [] if spans is None else [Estimated("p", "k", item, 1, 0, spans, spans, money)],
        [Counted("p", "k", replace(item, tier=tier), many) for tier, many in counted.items()],
    )
    return explain(line, around or _AROUND, PRICES)


_AROUND = around()


def by_class(found: Explained) -> dict[Class, Fraction]:
    return {part.cause: part.usd for part in found.components}


def test_without_the_providers_usage_coverage_holds_the_metering() -> None:
    # (1,000,000 - 600,000) x 0.15e-6 = 0.06
    found = compared("0.15", 1_000_000, None, 600_000)
    assert (found.parts.coverage, found.parts.metering, found.parts.rate) == (
        Fraction("0.06"),
        None,
        0,
    )
    assert by_class(found) == {Class.COVERAGE_UNKNOWN: Fraction("0.06")}


def test_without_a_billed_quantity_metering_and_rate_stay_unsplit() -> None:
    # coverage (800,000 - 600,000) x 0.15e-6 = 0.03; the rest of 0.21 - 0.09 is 0.09
    found = compared("0.21", None, 800_000, 600_000, around=around(requests=12))
    assert (found.parts.coverage, found.parts.unsplit) == (Fraction("0.03"), Fraction("0.09"))
    assert by_class(found) == {
        Class.RETRIES_OR_MISSING_SPANS: Fraction("0.03"),
        Class.UNEXPLAINED: Fraction("0.09"),
    }


@pytest.mark.parametrize(
    ("requests", "spans", "cause"),
    [
        (12, 600_000, "RETRIES_OR_MISSING_SPANS"),
        (10, 600_000, "TOKEN_CAPTURE"),
        (8, 600_000, "COVERAGE_UNKNOWN"),
        (10, 1_400_000, "TOKEN_CAPTURE"),
        (12, 1_400_000, "COVERAGE_UNKNOWN"),
        (8, 1_400_000, "COVERAGE_UNKNOWN"),
        (None, 600_000, "COVERAGE_UNKNOWN"),
    ],
)
def test_requests_tell_missing_calls_from_calls_that_hold_other_tokens(
    requests: int | None, spans: int, cause: str
) -> None:
    found = compared("0.15", MILLION, MILLION, spans, around=around(requests=requests))
    gap = (MILLION - spans) * Fraction("0.00000015")
    assert by_class(found) == {Class(cause): gap}


def test_calls_that_ended_early_explain_no_more_than_their_bounds() -> None:
    # 4 requests more than calls; 2 ended early with at most 100,000 tokens of output at 0.60e-6
    text = "gpt-4o-mini-2024-07-18, output"
    traffic = Traffic(10, 2, 2, unseen_input=5, unseen_output=100_000, requests=14)
    found = compared(
        "0.60",
        MILLION,
        MILLION,
        600_000,
        "0.36",
        text=text,
        around=around(traffic={("p", "k", "gpt-4o-mini"): traffic}),
    )
    assert by_class(found) == {
        Class.ABORTED_OR_TIMED_OUT: Fraction("0.06"),
        Class.RETRIES_OR_MISSING_SPANS: Fraction("0.18"),
    }


def test_duplicates_and_failures_explain_no_more_than_the_spans_hold_of_them() -> None:
    family = read_line_item(MINI).product.family
    repeated = {("p", "k", family): Repeated(Fraction(300_000), Fraction(50_000))}
    found = compared(
        "0.15", MILLION, MILLION, 1_400_000, around=around(requests=8, repeated=repeated)
    )
    assert by_class(found) == {
        Class.PRICED_FAILURES: Fraction("-0.0075"),
        Class.DUPLICATE_SPANS: Fraction("-0.045"),
        Class.COVERAGE_UNKNOWN: Fraction("-0.0075"),
    }


@pytest.mark.parametrize(
    ("other", "cause"),
    [("-0.0594", "CUTOFF"), ("-0.05", "TOKEN_CAPTURE"), ("0.06", "TOKEN_CAPTURE")],
)
def test_two_days_cancel_out_within_two_percent(other: str, cause: str) -> None:
    neighbours = {("p", "k", read_line_item(MINI)): (Fraction(other),)}
    found = compared(
        "0.15", MILLION, MILLION, 600_000, around=around(requests=10, neighbours=neighbours)
    )
    assert by_class(found) == {Class(cause): Fraction("0.06")}


def test_what_agents_and_untraced_batches_used_is_told_before_anything_else() -> None:
    item = read_line_item(MINI)
    (line,) = match(
        [Billed("p", "k", MINI, item, Fraction("0.15"), Fraction(MILLION))],
        [Estimated("p", "k", item, 1, 0, 500_000, 500_000, Fraction("0.075"))],
        [
            Counted("p", "k", item, 500_000),
            Counted("p", "k", item, 200_000, by_agents=True),
            Counted("p", "k", replace(item, tier="batch"), 300_000),
        ],
    )
    found = explain(line, around(requests=12), PRICES)
    assert by_class(found) == {
        Class.AGENTS_API: Fraction("0.03"),
        Class.BATCH_UNTRACED: Fraction("0.045"),
    }


def test_a_price_that_nothing_explains_is_to_be_reviewed() -> None:
    found = compared("0.0831", MILLION, MILLION, MILLION)
    assert by_class(found) == {Class.RATE_UNKNOWN: Fraction("-0.0669")}
    assert found.verdict is Verdict.REVIEW


GPT_54, FIVE_MINI = "gpt-5.4-2026-03-05, input", "gpt-5-mini-2025-08-07, input"


@pytest.mark.parametrize(
    ("text", "paid", "tiers", "causes"),
    [
        # 2.50 a million; flex and batch half of it, long context twice, a region a tenth more
        (GPT_54, "1.25", {"flex": MILLION}, ["TIER_MISMATCH flex"]),
        (GPT_54, "1.25", {"batch": MILLION}, ["TIER_MISMATCH batch"]),
        (GPT_54, "5", {"priority": MILLION}, ["TIER_MISMATCH priority"]),
        (GPT_54, "5", {}, ["LONG_CONTEXT long"]),
        (GPT_54, "0.25", {}, ["WRONG_KIND cached_input"]),
        (GPT_54, "2.75", {}, ["RESIDENCY x 1.1"]),
        (GPT_54, "1.375", {"flex": MILLION}, ["TIER_MISMATCH flex", "RESIDENCY x 1.1"]),
        (GPT_54, "2.125", {"standard": 700_000, "batch": 300_000}, ["MIX batch 0.5, share 0.3"]),
        (GPT_54, "0", {}, ["FREE_TOKENS "]),
        (GPT_54, "2.2", {}, ["CONTRACT_DISCOUNT 12 %"]),
        (GPT_54, "1.1", {"flex": MILLION}, ["TIER_MISMATCH flex", "CONTRACT_DISCOUNT 12 %"]),
        (GPT_54, "2.3", {}, ["PRICE_VERSION since 2026-11-10"]),
        (GPT_54, "2.4", {}, ["RATE_UNKNOWN "]),
        (FIVE_MINI, "0.15", {}, ["FREE_TOKENS 400,000 of 1,000,000 tokens"]),
        ("gpt-4.1, input", "1.2", {}, ["RATE_UNKNOWN "]),  # its pool was not used up
        (MINI, "0.165", {}, ["RATE_UNKNOWN "]),  # too old for a surcharge
    ],
)
def test_the_billed_price_is_found_among_those_of_other_products(
    text: str, paid: str, tiers: dict[str, int], causes: list[str]
) -> None:
    listed = PRICES.of(read_line_item(text), DAY) or Fraction(0)
    known = around(
        requests=10,
        pools=frozenset({"small"}),
        discounts=(Discount(Fraction("0.88"), ("a", "b", "c"), DAY, DAY),),
        changes=(PriceChange(GPT_54, date(2026, 11, 10), Fraction("2.5e-6"), Fraction("2.3e-6")),),
    )
    found = compared(
        paid,
        MILLION,
        None if tiers else MILLION,
        MILLION,
        str(Decimal((listed * MILLION).numerator) / (listed * MILLION).denominator),
        text=text,
        tiers=tiers,
        around=known,
    )
    assert [f"{part.cause} {part.detail}" for part in found.components] == causes
    assert sum(part.usd for part in found.components) == Fraction(paid) - listed * MILLION


def test_a_factor_and_a_tier_are_two_classes_that_sum_to_the_difference() -> None:
    found = compared("1.375", MILLION, None, MILLION, "2.5", text=GPT_54, tiers={"flex": MILLION})
    assert by_class(found) == {
        Class.TIER_MISMATCH: Fraction("-1.25"),
        Class.RESIDENCY: Fraction("0.125"),
    }
    assert found.verdict is Verdict.EXPLAINED


def test_spans_that_do_not_tell_the_tier_are_laid_beside_the_line_that_does() -> None:
    flex = read_line_item("flex | gpt-5-mini-2025-08-07, input")
    plain = read_line_item(FIVE_MINI)
    (line,) = match(
        [
            Billed(
                "p",
                "k",
                "flex | gpt-5-mini-2025-08-07, input",
                flex,
                Fraction("0.125"),
                Fraction(MILLION),
            )
        ],
        [Estimated("p", "k", plain, 9, 0, MILLION, MILLION, Fraction("0.25"))],
        [Counted("p", "k", flex, MILLION)],
    )
    assert line.level == "M4"
    found = explain(line, around(requests=10), PRICES)
    assert [(part.cause, part.detail, part.usd) for part in found.components] == [
        (Class.TIER_MISMATCH, "flex", Fraction("-0.125"))
    ]


def test_spans_move_between_tiers_by_what_each_was_billed_and_keep_every_dollar() -> None:
    """Of a million tokens that the spans call standard, 300,000 were billed as flex."""
    flex = read_line_item("flex | gpt-5-mini-2025-08-07, input")
    plain = read_line_item(FIVE_MINI)
    lines = match(
        [
            Billed("p", "k", "flex", flex, Fraction("0.0375"), Fraction(300_000)),
            Billed("p", "k", "plain", plain, Fraction("0.175"), Fraction(700_000)),
        ],
        [Estimated("p", "k", plain, 10, 0, MILLION, MILLION, Fraction("0.25"))],
        [Counted("p", "k", flex, 300_000), Counted("p", "k", plain, 700_000)],
    )
    found = {line.line_item: explain(line, around(requests=10), PRICES) for line in lines}
    assert {name: each.line.level for name, each in found.items()} == {"flex": "M4", "plain": "M4"}
    assert by_class(found["flex"]) == {Class.TIER_MISMATCH: Fraction("-0.0375")}
    assert by_class(found["plain"]) == {}
    assert found["plain"].line.spans and found["plain"].line.spans.calls == 7


def test_a_negative_term_of_a_line_is_a_credit_and_the_rest_is_judged_by_itself() -> None:
    found = compared(
        "0.10", MILLION, MILLION, MILLION, credit=Fraction("-0.05"), around=around(requests=10)
    )
    assert by_class(found) == {Class.CREDIT_OR_CORRECTION: Fraction("-0.05")}


def test_a_strange_unit_is_said_as_such() -> None:
    found = compared("0.10", None, MILLION, MILLION, strange_unit=True, unit="images")
    assert by_class(found) == {Class.UNIT: Fraction("-0.05")}


def test_tokens_of_a_prepaid_tier_are_bundled() -> None:
    found = compared(None, None, None, MILLION, tiers={"scale": MILLION})
    assert by_class(found) == {Class.BUNDLED: Fraction("-0.15")}


@pytest.mark.parametrize(
    ("state", "text", "cause"),
    [
        (DayState.FINAL, MINI, "FREE_TOKENS"),
        (DayState.PROVISIONAL, MINI, "LAG"),
        (DayState.RESTATED, MINI, "LAG"),
        (DayState.FINAL, "gpt-9, input", "METERING_BASIS"),
    ],
)
def test_a_bill_of_fewer_tokens_than_counted(state: DayState, text: str, cause: str) -> None:
    known = around(state, pools=frozenset({"small"}))
    found = compared("0.09", 600_000, MILLION, MILLION, "0.15", text=text, around=known)
    assert by_class(found) == {Class(cause): Fraction("-0.06")}


def test_a_model_that_is_not_known_to_be_given_away_is_not_called_free() -> None:
    found = compared(None, None, MILLION, MILLION, "1", text="gpt-9, input")
    assert by_class(found) == {Class.UNEXPLAINED: Fraction(-1)}
    assert found.verdict is Verdict.REVIEW


def test_within_a_cent_or_a_percent_a_line_matches_and_keeps_its_class() -> None:
    found = compared("0.1500001", 1_000_000, 1_000_000, 1_000_000)
    assert found.verdict is Verdict.MATCHED
    assert by_class(found) == {Class.ROUNDING: Fraction("0.0000001")}


def test_a_price_that_is_off_by_a_thousandth_is_told_from_ten_dollars_on() -> None:
    small = compared("9.018", 60 * MILLION, 60 * MILLION, 60 * MILLION)
    large = compared("15.03", 100 * MILLION, 100 * MILLION, 100 * MILLION)
    assert (small.verdict, large.verdict) == (Verdict.MATCHED, Verdict.REVIEW)


def test_a_line_that_no_span_has_is_priced_by_the_book() -> None:
    # 0.20 billed for 1,000,000 at 0.15: 0.15 was not seen, 0.05 is another price
    found = compared("0.20", 1_000_000, 1_000_000, None, around=around(requests=12))
    assert found.parts.our_price == Fraction("0.00000015")
    assert by_class(found) == {
        Class.RETRIES_OR_MISSING_SPANS: Fraction("0.15"),
        Class.RATE_UNKNOWN: Fraction("0.05"),
    }


def test_spans_of_a_key_without_a_name_keep_a_key_from_being_accused() -> None:
    quiet = around(calls=0, requests=3, instrumented=frozenset(), unnamed={"p": ("wxyz",)})
    found = compared("0.15", 1_000_000, 1_000_000, None, around=quiet)
    assert by_class(found) == {Class.RETRIES_OR_MISSING_SPANS: Fraction("0.15")}
    assert "wxyz" in found.text
    alone = around(instrumented=frozenset())
    found = compared("0.15", 1_000_000, 1_000_000, None, around=alone)
    assert by_class(found) == {Class.UNINSTRUMENTED_KEY: Fraction("0.15")}
    assert found.verdict is Verdict.EXPLAINED


def test_a_line_without_a_key_accuses_the_project_if_no_span_carries_it() -> None:
    item = read_line_item(MINI)
    (line,) = match([Billed("q", "", MINI, item, Fraction(1), None)], [], [])
    assert explain(line, around(), PRICES).cause is Class.UNINSTRUMENTED_PROJECT


def test_what_is_not_billed_is_awaited_for_72_hours_and_then_judged() -> None:
    young = around(DayState.PROVISIONAL, settled=False)
    assert compared(None, None, 1_000_000, 1_000_000, around=young).verdict is Verdict.AWAITING
    found = compared(None, None, 1_000_000, 1_000_000)
    assert by_class(found) == {Class.FREE_TOKENS: Fraction("-0.15")}


def test_a_day_takes_review_only_beyond_a_dollar_and_a_percent() -> None:
    tolerances = Tolerances()
    small = [compared("0.90", 2_000_000, 2_000_000, 2_000_000)]
    assert day_verdict(DayState.FINAL, small, tolerances) is Verdict.EXPLAINED
    large = [compared("9.00", 20_000_000, 20_000_000, 20_000_000)]
    assert day_verdict(DayState.FINAL, large, tolerances) is Verdict.REVIEW
    assert day_verdict(DayState.OPEN, large, tolerances) is Verdict.OPEN
    wide = Tolerances(day_usd=Decimal(10))
    assert day_verdict(DayState.FINAL, large, wide) is Verdict.EXPLAINED


def test_a_little_that_nobody_can_explain_on_each_of_many_lines_is_to_be_reviewed() -> None:
    little = compared("0.159", 1_000_000, 1_000_000, 1_000_000)
    assert little.verdict is Verdict.MATCHED
    assert day_verdict(DayState.FINAL, [little] * 100, Tolerances()) is Verdict.MATCHED
    assert day_verdict(DayState.FINAL, [little] * 120, Tolerances()) is Verdict.REVIEW


def test_a_zero_without_a_quantity_is_free_only_where_a_pool_is_known() -> None:
    assert by_class(compared("0", None, 1_000_000, 1_000_000)) == {
        Class.FREE_TOKENS: Fraction("-0.15")
    }
    unknown = compared("0", None, 1_000_000, 1_000_000, text="gpt-9, input")
    assert by_class(unknown) == {Class.UNEXPLAINED: Fraction("-0.15")}
    assert unknown.verdict is Verdict.REVIEW


def test_every_class_of_a_price_is_kept_to_its_last_digit() -> None:
    # A mix of tiers in sevenths of a price, and a discount on top.
    discount = Discount(Fraction("0.88"), ("a", "b", "c"), DAY, DAY)
    found = compared(
        "0.1697142857",
        1_000_000,
        None,
        1_000_000,
        tiers={"priority": 3_000_000, "standard": 4_000_000},
        around=around(discounts=(discount,)),
    )
    assert {Class.MIX, Class.CONTRACT_DISCOUNT} <= by_class(found).keys()
    kept_parts = [Fraction(kept(part.usd)) for part in found.components]
    assert kept_parts == [part.usd for part in found.components]
    assert sum(kept_parts, Fraction(0)) == found.billed - found.line.estimated


def test_use_without_any_bill_is_awaited() -> None:
    tolerances = Tolerances()
    assert day_verdict(DayState.PROVISIONAL, [], tolerances, awaited=True) is Verdict.AWAITING
    assert day_verdict(DayState.PROVISIONAL, [], tolerances) is Verdict.MATCHED


@pytest.mark.parametrize(
    ("verdicts", "to_review", "verdict"),
    [
        (["MATCHED", "MATCHED"], "0", "MATCHED"),
        (["MATCHED", "EXPLAINED"], "4.99", "EXPLAINED"),
        (["MATCHED", "REVIEW"], "5.01", "REVIEW"),
        (["REVIEW", "AWAITING"], "9", "AWAITING"),
        (["REVIEW", "OPEN"], "9", "OPEN"),
        (["MATCHED", "BLOCKED"], "0", "BLOCKED"),
        ([], "0", "OPEN"),  # none of its days is over
    ],
)
def test_a_period_is_no_better_than_its_days(
    verdicts: list[str], to_review: str, verdict: str
) -> None:
    found = period_verdict(verdicts, Decimal(1000), Decimal(to_review), Tolerances())
    assert found == verdict


@pytest.mark.parametrize(
    ("verdicts", "verdict"),
    [([], "AWAITING"), (["REVIEW"], "AWAITING"), (["BLOCKED"], "BLOCKED"), (["OPEN"], "OPEN")],
)
def test_a_period_with_days_that_were_never_reconciled_is_awaited(
    verdicts: list[str], verdict: str
) -> None:
    found = period_verdict(verdicts, Decimal(1000), Decimal(9), Tolerances(), missing_days=1)
    assert found == verdict


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
    price = PRICES.of(read_line_item(text), DAY)
    assert price == (None if per_million is None else Fraction(per_million) / 1_000_000)


def test_a_price_that_was_negotiated_for_a_project_is_the_unit_price_of_its_lines() -> None:
    text = """
    [[override]]
    name = "acme"
    match = { model = "gpt-4o-mini*", meter = "input", project = "proj_a" }
    percent_off = "10"
    """
    book, item = default_book().contracted(read_overrides(text)), read_line_item(MINI)
    prices = Prices(book)
    assert prices.of(item, DAY, "proj_a") == Fraction("0.135") / 1_000_000
    assert prices.of(item, DAY, "proj_b") == Fraction("0.15") / 1_000_000


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
        (END + 99 * HOUR, [(END + 50 * HOUR, "a"), (END + 75 * HOUR, "a"), (END + 99 * HOUR, "b")], "RESTATED"),
        (END + 124 * HOUR, [(END + 50 * HOUR, "a"), (END + 75 * HOUR, "a"), (END + 99 * HOUR, "b"), (END + 123 * HOUR, "b")], "FINAL"),
        # Nobody looked after the 72 hours.
        (END + 99 * HOUR, [(END, "a"), (END + 48 * HOUR, "a")], "PROVISIONAL"),
        # It changed before it was 72 hours old, so it was never final.
        (END + 73 * HOUR, [(END + 10 * HOUR, "a"), (END + 40 * HOUR, "a"), (END + 60 * HOUR, "b")], "PROVISIONAL"),
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
    found = explain(line, around(), PRICES)
    assert by_class(found) == {}  # bill and spans agree; no surplus is made up to cancel a lack
