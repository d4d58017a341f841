import hashlib
import json
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from costspan.counters import counters
from costspan.errors import Rejected
from costspan.pricing import Status, default_book, price, price_meter, read_book
from costspan.pricing.body import price_body, price_cases
from costspan.usage import OtherModel, Usage, read_usage

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


CASES = Path(__file__).parents[1] / "data/pricing"


@pytest.mark.parametrize(("name", "count"), [("golden_dev.json", 192), ("siblings.json", 132)])
def test_every_golden_case_is_exact_to_a_picodollar_or_flagged_for_the_reason_it_states(
    name: str, count: int
) -> None:
    document = json.loads((CASES / name).read_text(encoding="utf-8"))
    expected = [
        {
            "id": case["id"],
            "usd": case["expected_usd"] and Decimal(case["expected_usd"]),
            "status": next(iter(case["expected_flags"]), "priced"),
        }
        for case in document["cases"]
    ]
    found = [
        {"id": case["id"], "usd": case["usd"] and Decimal(case["usd"]), "status": case["status"]}
        for case in price_cases(document)
    ]
    assert len(found) == count
    assert [pair for pair in zip(found, expected, strict=True) if pair[0] != pair[1]] == []


def test_a_file_of_something_else_is_no_file_of_cases() -> None:
    with pytest.raises(Rejected, match="not a file of cases"):
        list(price_cases({"cases": {"id": "x"}}))


def usd_of(usage: Usage | None, model: str, **more: Any) -> Decimal | None:
    at: datetime = more.pop("at", NOW)
    return price(usage, model=model, at=at, **more).usd


@pytest.mark.parametrize(
    ("usage", "model", "more", "dollars"),
    [
        # the tiers that only some models have
        (Usage(1_000_000, 0), "gpt-6.1-sol", {"tier": "ultrafast"}, "24"),
        (Usage(100_000, 0), "gpt-6.1-sol", {"tier": "ultrafast"}, "1.2"),
        (Usage(100_000, 0), "gpt-6.2-sol", {"tier": "ultrafast"}, "0.6"),
        (Usage(100_000, 0), "gpt-6.2-sol", {"tier": "fast"}, "0.4"),
        (Usage(100_000, 0), "gpt-6.2-sol", {"batch": True}, "0.1"),
        (Usage(100_000, 0), "gpt-6-sol", {"tier": "ultrafast"}, None),
        (Usage(300_000, 0), "gpt-5.4", {"tier": "priority"}, None),
        (Usage(300_000, 0), "gpt-5.5-pro", {"batch": True}, None),
        (Usage(100, 0, cached_tokens=50), "gpt-4o", {"batch": True}, None),
        # cache writes of twelve hours
        (Usage(10**5, 0, cache_write_12h_tokens=10**5), "gpt-5.6-sol", {"tier": "priority"}, "2"),
        (Usage(10**5, 0, cache_write_12h_tokens=10**5), "gpt-6.2-sol", {}, "0.5"),
        # where writes have no fee of their own, they are input like any other
        (Usage(10**5, 0, cache_write_30m_tokens=10**5), "gpt-5.4", {}, "0.25"),
        (Usage(10**5, 0, cache_write_30m_tokens=10**5), "gpt-5.4", {"tier": "flex"}, "0.125"),
        (Usage(10**5, 0, cache_write_30m_tokens=10**5), "gpt-4", {}, None),
        # names
        (Usage(1_000_000, 0), "gpt-4o-audio-preview-2025-06-03", {}, "2.5"),
        (Usage(1_000_000, 0), "GPT-4o-mini", {}, "0.15"),
        (Usage(1_000_000, 0), "ft:gpt-4.1-2025-04-14:acme::id:ckpt-step-90", {}, "3"),
        (Usage(1_000_000, 0), "gpt-4o-mini-2024-07-18.ft-0123abc", {}, "0.3"),
        (Usage(1_000_000, 0), "ft:gpt-4o-2024-08-06:acme::id", {"batch": True}, "2.225"),
        (Usage(1_000_000, 0), "ft:gpt-5-2025-08-07:acme::id", {}, None),
        (Usage(100_000, 0), "gpt-6-sol-2026-09-03", {}, "0.2"),
        (Usage(100_000, 0), "gpt-6-sol-2031-01-01", {}, None),
        # every residency host, tokens only, and only what was released since March 2026
        (Usage(100_000, 0), "gpt-6-sol", {"host": "jp.api.openai.com"}, "0.22"),
        (Usage(100_000, 0), "gpt-6-sol", {"host": "example.com"}, "0.2"),
        (Usage(100_000, 0), "gpt-realtime-2.1-mini", {"host": "au.api.openai.com"}, "0.066"),
        (Usage(100_000, 0), "gpt-realtime-mini", {"host": "au.api.openai.com"}, "0.06"),
        (Usage(0, 0, metered=(("web_search", 1),)), "gpt-6-sol", {"host": "eu.api.openai.com"}, "0.01"),
        # a decision has one rate, whatever was cached or came out
        (Usage(200_000, 9, cached_tokens=5, is_decision=True), "gpt-6-luna", {}, "0.02"),
        (Usage(300_000, 9, is_decision=True), "gpt-6-luna", {}, "0.06"),
        (Usage(300, 9, is_decision=True), "gpt-6-sol", {}, None),
        # audio costs what it cost at the time
        (Usage(10, 0, audio_input_tokens=10), "gpt-4o-audio-preview-2024-12-17", {}, "0.0004"),
        (Usage(10, 0, audio_input_tokens=10), "gpt-4o-audio-preview", {"at": datetime(2024, 11, 1, tzinfo=UTC)}, "0.001"),
        # a search model searches with every request
        (Usage(0, 0), "gpt-4o-mini-search-preview-2025-03-11", {}, "0.025"),
        # free, whatever the answer says
        (None, "omni-moderation-2024-09-26", {}, "0"),
    ],
)  # fmt: skip
def test_what_is_billed_by_its_own_rule_is_priced_by_it(
    usage: Usage | None, model: str, more: dict[str, Any], dollars: str | None
) -> None:
    assert usd_of(usage, model, **more) == (None if dollars is None else Decimal(dollars))


def test_the_sum_holds_for_what_has_no_last_decimal() -> None:
    ten_seconds = Usage(0, 0, metered=(("audio_seconds", 10),))
    assert usd_of(ten_seconds, "gpt-realtime-whisper") == Decimal("0.002833333333")
    half = Usage(0, 0, metered=(("audio_seconds", Fraction(15, 2)),))
    assert usd_of(half, "gpt-transcribe") == Decimal("0.0005625")


def test_the_tool_of_another_model_is_priced_at_that_model() -> None:
    drawn = Usage(412, 1056, image_input_tokens=323, image_output_tokens=1056)
    usage = Usage(2300, 150, others=(OtherModel("image_tool", "gpt-image-1.5", drawn),))
    found = price(usage, model="gpt-5.4", at=NOW)
    assert {part.meter: part.pico for part in found.parts} == {
        "input": 5_750_000_000,
        "output": 2_250_000_000,
        "image_tool_input": 445_000_000,
        "image_tool_image_input": 2_584_000_000,
        "image_tool_image_output": 33_792_000_000,
    }


def test_a_tool_without_a_price_leaves_the_call_unpriced_with_the_parts_that_are_known() -> None:
    usage = Usage(2300, 150, others=(OtherModel("image_tool", "", Usage(1, 1)),))
    found = price(usage, model="gpt-5.4", at=NOW)
    assert (found.status, found.usd) == (Status.UNPRICED_COMPONENT, None)
    assert [part.meter for part in found.parts] == ["input", "output"]
    assert "image_tool" in found.reason


@pytest.mark.parametrize(("tokens", "dollars"), [(300, "0.011245"), (9_000, "0.01135")])
def test_a_search_block_is_billed_unless_the_reported_input_has_room_for_it(
    tokens: int, dollars: str
) -> None:
    # 8,300 tokens of gpt-4o-mini at $0.15 a million, or the 9,000 reported, and a search of $0.01
    found = price(Usage(tokens, 0, metered=(("web_search", 1),)), model="gpt-4o-mini", at=NOW)
    assert found.usd == Decimal(dollars)


@pytest.mark.parametrize(
    ("meter", "quantity", "at", "dollars"),
    [
        ("container_minutes_64g", 21, NOW, "2.016"),
        ("container_minutes_1g", Fraction(11, 2), NOW, "0.009"),
        ("container_minutes_1g", 21, datetime(2026, 6, 1, 23, 59, tzinfo=UTC), "0.06"),
        ("vector_store_gib_days", Fraction(1, 3), NOW, "0.033333333333"),
        ("training_hours", Fraction(51, 20), NOW, "255"),
        ("container_minutes_2g", 5, NOW, None),
    ],
)
def test_a_thing_that_lives_on_its_own_has_a_fee_of_its_own(
    meter: str, quantity: int | Fraction, at: datetime, dollars: str | None
) -> None:
    found = price_meter(meter, quantity, at=at)
    assert found.usd == (None if dollars is None else Decimal(dollars))


def test_a_promotion_that_has_run_out_is_counted_and_said_once() -> None:
    call = Usage(100, 0)
    before = counters().get("price_past_review_by", 0)
    promised = price(call, model="gpt-5.6-sol", at=datetime(2026, 11, 21, 23, 59, tzinfo=UTC))
    assert not promised.reason
    assert counters().get("price_past_review_by", 0) == before
    for _ in range(3):
        late = price(call, model="gpt-5.6-sol", at=datetime(2026, 11, 22, tzinfo=UTC))
        assert late.usd == promised.usd
        assert "2026-11-21" in late.reason
    counted = counters()["price_past_review_by"]
    assert counted > before
    price(call, model="gpt-5.6-sol", at=datetime(2026, 11, 23, tzinfo=UTC))
    assert counters()["price_past_review_by"] == counted


def test_what_was_looked_up_before_a_change_is_looked_up_again_after_it() -> None:
    call, tier = Usage(1_000_000, 0), "priority"
    before = datetime(2026, 7, 29, tzinfo=UTC)
    for at, status in (
        (before, Status.UNKNOWN_TIER),
        (NOW, Status.PRICED),
        (before, Status.UNKNOWN_TIER),
    ):
        assert price(call, model="gpt-5.6-terra", at=at, tier=tier).status is status


def test_an_event_is_priced_by_the_response_it_carries() -> None:
    response = {
        "model": "gpt-4o",
        "service_tier": "priority",
        "usage": {"input_tokens": 10, "output_tokens": 0},
    }
    event = {"type": "response.completed", "response": response}
    assert price_body(event, at=NOW).usd == price_body(response, at=NOW).usd == Decimal("0.0000425")


BOOK: dict[str, Any] = {
    "book": {"name": "mine"},
    "rows": [
        {
            "model": "gpt-x",
            "tier": "standard",
            "context": "short",
            "usd": {"audio_seconds": "0.05"},
            "per": 60,
            "source": "a contract",
        }
    ],
    "aliases": {},
    "snapshots": {},
    "rules": {
        "long_context": {"models": [], "above_input_tokens": 1},
        "region": {"models": [], "hosts": "eu", "factor": "1.1"},
        "search_block": {"models": [], "tokens": 1},
        "free": {"models": []},
    },
    "minimums": [],
}


def book_text(amount: object) -> str:
    row = BOOK["rows"][0] | {"usd": {"audio_seconds": amount}}
    return json.dumps(BOOK | {"rows": [row]})


def test_an_amount_without_quotes_is_refused_with_its_row() -> None:
    with pytest.raises(Rejected, match=r"row 1 \(gpt-x\).*quotes"):
        read_book(book_text(0.1))


def test_a_book_that_is_none_is_refused() -> None:
    with pytest.raises(Rejected, match="price book"):
        read_book("{}")


def test_the_version_changes_with_any_rate() -> None:
    one, other = read_book(book_text("0.05")), read_book(book_text("0.06"))
    assert one.version != other.version
    rates = one.rates("gpt-x", "standard", "short", NOW)
    assert rates is not None
    assert rates.pico["audio_seconds"] == Fraction(5 * 10**10, 60)  # a second has no last decimal


def test_the_version_of_the_book_is_the_hash_of_its_file() -> None:
    content = files("costspan.pricing").joinpath("book.json").read_bytes()
    assert default_book().version == hashlib.sha256(content).hexdigest()[:16]


def test_every_alias_and_rule_names_a_model_of_the_book() -> None:
    book = default_book()
    assert set(book.aliases.values()) <= book.names
    assert set(book.snapshots.values()) <= book.names
    assert set(book.long_context_above) <= book.names
    assert book.region_models <= book.names
    assert not set(book.aliases) & book.names


def test_nothing_of_a_request_but_a_number_is_kept() -> None:
    usage = read_usage({}, {"model": "tts-1", "input": "a secret"})
    assert "secret" not in repr(usage)
