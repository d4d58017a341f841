import json
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from costspan.errors import InvalidUsage, Rejected
from costspan.pricing import Status, default_book, price, read_book
from costspan.usage import Usage, read_usage

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
CALL = Usage(input_tokens=1117, output_tokens=211, cached_tokens=1023)


def test_a_call_costs_the_sum_of_its_parts() -> None:
    found = price(CALL, model="gpt-4o-2024-08-06", at=NOW)
    # 94 x $2.50/M + 1,023 x $1.25/M + 211 x $10/M
    assert {part.meter: part.pico for part in found.parts} == {
        "input": 235_000_000,
        "cached_input": 1_278_750_000,
        "output": 2_110_000_000,
    }
    assert found.usd == Decimal("0.00362375")
    assert found.path == "gpt-4o/standard/short"
    assert found.book == default_book().version


def test_the_tier_that_served_sets_the_price() -> None:
    flex = price(Usage(1_000_000, 0), model="gpt-5-nano", at=NOW, tier="flex").usd
    standard = price(Usage(1_000_000, 0), model="gpt-5-nano", at=NOW, tier="default").usd
    assert (flex, standard) == (Decimal("0.025"), Decimal("0.05"))


def test_a_batch_is_priced_only_when_the_caller_says_so() -> None:
    found = price(Usage(1_000_000, 0), model="gpt-5-nano", at=NOW, tier="default", batch=True)
    assert found.usd == Decimal("0.025")


def test_a_price_holds_from_its_first_day_and_not_before() -> None:
    call = Usage(1_000_000, 0)
    before = price(call, model="o3", at=datetime(2025, 6, 9, 23, 59, 59, tzinfo=UTC)).usd
    after = price(call, model="o3", at=datetime(2025, 6, 10, tzinfo=UTC)).usd
    assert (before, after) == (Decimal(10), Decimal(2))


@pytest.mark.parametrize(
    ("tokens", "context", "dollars"), [(272_000, "short", "0.68"), (272_001, "long", "1.360005")]
)
def test_one_token_more_makes_the_whole_call_long_context(
    tokens: int, context: str, dollars: str
) -> None:
    found = price(Usage(tokens, 0), model="gpt-5.4", at=NOW)
    assert found.path == f"gpt-5.4/standard/{context}"
    assert found.usd == Decimal(dollars)


def test_a_residency_host_adds_ten_percent_for_new_models_only() -> None:
    call = Usage(1_000_000, 0)
    new = price(call, model="gpt-5.4-mini", at=NOW, host="eu.api.openai.com")
    old = price(call, model="gpt-4o", at=NOW, host="eu.api.openai.com")
    assert new.usd == Decimal("0.825")  # 0.75 x 1.1
    assert new.path.endswith("/eu")
    assert old.usd == Decimal("2.5")


@pytest.mark.parametrize(
    ("usage", "model", "tier", "status"),
    [
        (CALL, "gpt-7-nova", None, Status.UNKNOWN_MODEL),
        (CALL, "gpt-4o-2031-01-01", None, Status.UNKNOWN_MODEL),
        (CALL, "", None, Status.UNKNOWN_MODEL),
        (CALL, "gpt-4o", "hyperdrive", Status.UNKNOWN_TIER),
        (CALL, "text-embedding-3-small", "flex", Status.UNKNOWN_TIER),
        (CALL, "gpt-4o", "scale", Status.PREPAID_TIER),
        (None, "gpt-4o", None, Status.MISSING_USAGE),
        (Usage(10, 5, audio_input_tokens=4), "gpt-4o", None, Status.UNPRICED_COMPONENT),
    ],
)
def test_what_cannot_be_priced_has_no_cost_and_says_why(
    usage: Usage | None, model: str, tier: str | None, status: Status
) -> None:
    found = price(usage, model=model, at=NOW, tier=tier)
    assert found.status is status
    assert found.usd is None
    assert found.reason


def test_zero_usage_is_a_real_zero() -> None:
    assert price(Usage(0, 0), model="gpt-4o", at=NOW).usd == Decimal(0)


def golden() -> list[dict[str, Any]]:
    text = (Path(__file__).parents[1] / "data/pricing/golden_dev.json").read_text(encoding="utf-8")
    return json.loads(text)["cases"]


@pytest.mark.parametrize("case", golden(), ids=lambda case: case["id"])
def test_a_golden_case_is_priced_exactly_or_not_at_all(case: dict[str, Any]) -> None:
    response = case["response"]
    try:
        found = price(
            read_usage(response),
            model=response.get("model") or case["request"].get("model") or "",
            at=datetime.fromisoformat(case["timestamp"]),
            tier=response.get("service_tier"),
            host=case["host"],
            batch=case["batch"],
        ).usd
    except InvalidUsage:
        found = None
    if found is not None:
        assert found == Decimal(case["expected_usd"]).quantize(Decimal("1e-12"))


def test_the_golden_cases_of_the_models_in_the_book_are_priced() -> None:
    priced = 0
    for case in golden():
        response = case["response"]
        known = default_book().canonical(response.get("model") or "")
        if known and case["family"] in {"chat_basic", "cached", "responses_basic", "long_context"}:
            usage = read_usage(response)
            at = datetime.fromisoformat(case["timestamp"])
            tier, host = response.get("service_tier"), case["host"]
            found = price(usage, model=known, at=at, tier=tier, host=host, batch=case["batch"])
            assert (found.usd is None) == (case["expected_usd"] is None), case["id"]
            priced += found.usd is not None
    assert priced >= 20


def test_an_amount_without_quotes_is_refused_with_its_row() -> None:
    text = """
        [book]
        name = "mine"
        [[price]]
        model = "gpt-x"
        tier = "standard"
        context = "short"
        per = 1_000_000
        amounts = { input = 0.1 }
        source = "a contract"
    """
    with pytest.raises(Rejected, match=r"number 1 \(gpt-x\).*quotes"):
        read_book(text)


def test_the_version_changes_with_any_rate() -> None:
    row = """
        [book]
        name = "mine"
        [[price]]
        model = "gpt-x"
        tier = "standard"
        context = "short"
        per = 60
        amounts = {{ input = "{amount}" }}
        source = "a contract"
    """
    one, other = read_book(row.format(amount="0.05")), read_book(row.format(amount="0.06"))
    assert one.version != other.version
    rates = one.rates("gpt-x", "standard", "short", NOW)
    assert rates is not None
    assert rates.pico["input"] == Fraction(5 * 10**10, 60)  # $0.05 a minute has no last decimal


def test_every_alias_and_rule_names_a_model_of_the_book() -> None:
    book = default_book()
    models = {model for model, _, _ in book.rows}
    assert set(book.aliases.values()) <= models
    assert set(book.long_context_above) <= models
    assert {model for model, _ in book.region_factor} <= models
    assert not set(book.aliases) & models
