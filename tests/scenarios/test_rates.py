"""Calls that cost other than what the spans say: tier, batch, context, region, price, terms."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from costspan.pricing import default_book
from costspan_demo.bill import free_usd

GPT_41, GPT_5_MINI, GPT_55 = "gpt-4.1-2025-04-14", "gpt-5-mini-2025-08-07", "gpt-5.5-2026-04-23"
SMALL_54, MINI = "gpt-5.4-mini-2026-03-17", "gpt-4o-mini-2024-07-18"
GPT_56 = "gpt-5.6-sol"


def test_03_three_tenths_of_a_model_as_batch_without_a_label(world: Any) -> None:
    day = world.ago(5)
    calls = [
        world.call(
            "support-desk",
            GPT_41,
            day,
            seen=False,
            input_tokens=100_000,
            cached_tokens=0,
            output_tokens=10_000,
            batch=number % 10 < 3,
        )
        for number in range(40)
    ]
    as_seen = [replace(call, batch=False) for call in calls]
    for call in as_seen:
        world.see(call)
    world.wire = replace(world.wire, labelled_tiers=frozenset())

    world.reconcile()

    world.expect({day: "EXPLAINED"}, {day: {"MIX": world.usd(calls) - world.usd(as_seen)}})
    said = world.said(day, "MIX")
    assert "batch" in said
    assert "0.3" in said or "30" in said


@pytest.mark.parametrize("labelled", [True, False])
def test_04_flex_calls_priced_as_standard(world: Any, *, labelled: bool) -> None:
    day = world.ago(5)
    world.traffic(day)
    calls = [
        world.call("support-desk", GPT_5_MINI, day, seen=False, tier="flex") for _ in range(60)
    ]
    as_seen = [replace(call, tier="default") for call in calls]
    for call in as_seen:
        world.see(call, tier="")
    tiers = {"priority", "flex"} if labelled else set[str]()
    world.wire = replace(world.wire, labelled_tiers=frozenset(tiers))

    world.reconcile()

    world.expect(
        {day: "EXPLAINED"}, {day: {"TIER_MISMATCH": world.usd(calls) - world.usd(as_seen)}}
    )
    assert "flex" in world.said(day, "TIER_MISMATCH")


@pytest.mark.parametrize("labelled", [True, False])
def test_05_a_project_whose_default_tier_is_fast(world: Any, *, labelled: bool) -> None:
    day = world.ago(5)
    world.traffic(day)
    calls = [world.call("shop-backend", GPT_41, day, seen=False, tier="priority") for _ in range(9)]
    as_seen = [replace(call, tier="default") for call in calls]
    for call in as_seen:
        world.see(call, tier="")
    tiers = {"priority", "flex"} if labelled else set[str]()
    world.wire = replace(world.wire, labelled_tiers=frozenset(tiers))

    world.reconcile()

    world.expect(
        {day: "EXPLAINED"}, {day: {"TIER_MISMATCH": world.usd(calls) - world.usd(as_seen)}}
    )
    assert "priority" in world.said(day, "TIER_MISMATCH")


def test_06_prompts_of_more_than_272k_tokens(world: Any) -> None:
    day = world.ago(5)
    world.traffic(day)
    knows_no_long = replace(default_book(), version="old", long_context_above={})
    long = [
        world.call(
            "agent-runner",
            GPT_55,
            day,
            see={"book": knows_no_long},
            input_tokens=300_000 + 1000 * number,
            cached_tokens=0,
        )
        for number in range(3)
    ]
    short = [
        Fraction(call.input_tokens * 5, 10**6) + Fraction(call.output_tokens * 30, 10**6)
        for call in long
    ]

    world.reconcile()

    surcharge = world.usd(long) - decimal(sum(short, Fraction(0)))
    world.expect({day: "EXPLAINED"}, {day: {"LONG_CONTEXT": surcharge}})


def test_07_a_project_whose_data_stay_in_europe(world: Any) -> None:
    """Only models from March 2026 on cost a tenth more there; gpt-4.1 is older."""
    day = world.ago(5)
    calls = [
        world.call("agent-runner", model, day)
        for model in (SMALL_54, GPT_55, GPT_41)
        for _ in range(20)
    ]
    listed = world.usd(calls)
    world.agree(resident_projects=frozenset({world.project("agent-runner")}))

    world.reconcile()

    world.expect({day: "EXPLAINED"}, {day: {"RESIDENCY": world.usd(calls) - listed}})
    assert "gpt-4.1" not in {
        line.line_item.partition("-2025")[0]
        for line in world.lines(day)
        if line.cause.startswith("RESIDENCY")
    }


def test_17_a_price_cut_that_the_app_has_not_heard_of(world: Any) -> None:
    """gpt-5.6-sol became cheaper on 2026-08-21; the app's price book is from before."""
    world.now = datetime(2026, 8, 25, 12, tzinfo=UTC)
    world.days_read = 7
    cut = datetime(2026, 8, 21, tzinfo=UTC)
    calls = [
        world.call(
            "agent-runner",
            GPT_56,
            cut.date() + timedelta(days=away),
            see={"priced_at": cut - timedelta(days=1)},
            cached_tokens=0,
        )
        for away in (-2, -1, 0, 1)
        for _ in range(6)
    ]
    days = [cut.date(), cut.date() + timedelta(days=1)]
    overpriced = {
        day: decimal(
            sum(
                (
                    Fraction(call.input_tokens * 1 + call.output_tokens * 10, 10**6)
                    for call in calls
                    if call.at.date() == day
                ),
                Fraction(0),
            )
        )
        for day in days
    }

    world.reconcile()

    world.expect(
        dict.fromkeys(days, "EXPLAINED"),
        {day: {"PRICE_VERSION": -overpriced[day]} for day in days},
    )


def test_18_a_contract_discount_of_12_percent_on_everything(world: Any) -> None:
    days = [world.ago(back) for back in range(1, 6)]
    calls = world.traffic(*days, calls=10)
    world.agree(discount=Fraction(12, 100))
    off = {
        day: world.usd([call for call in calls if call.at.date() == day]) * 12 / 88 for day in days
    }

    world.reconcile()

    world.expect(
        dict.fromkeys(days, "EXPLAINED"),
        {day: {"CONTRACT_DISCOUNT": -off[day]} for day in days},
    )
    assert "12" in world.said(days[0], "CONTRACT_DISCOUNT")


@pytest.mark.parametrize("zero_rows", [True, False])
def test_19_a_pool_of_free_tokens_a_day(world: Any, *, zero_rows: bool) -> None:
    """On one day the pool is used up and the rest is billed; on the other all of it is free."""
    world.wire = replace(world.wire, zero_rows=zero_rows)
    beyond, within = world.ago(5), world.ago(4)
    for day, calls in ((beyond, 24), (within, 9)):
        for _ in range(calls):
            world.call("support-desk", GPT_41, day, input_tokens=150_000, cached_tokens=0)
        world.call("shop-backend", MINI, day)
    world.agree(free_tokens_a_day=2_500_000, free_models=frozenset({GPT_41}))

    world.reconcile()

    free = {day: free_usd(world.ledger, day) for day in (beyond, within)}
    assert Decimal(2) < free[within] < free[beyond]
    world.expect(
        {beyond: "EXPLAINED", within: "EXPLAINED"},
        {beyond: {"FREE_TOKENS|MIX": -free[beyond]}, within: {"FREE_TOKENS": -free[within]}},
    )
    assert "free" in world.said(beyond, "").lower()


def test_20_a_scale_tier_that_is_paid_by_a_fee_of_the_organization(world: Any) -> None:
    day = world.ago(5)
    world.traffic(day)
    calls = [world.call("shop-backend", GPT_41, day, seen=False, tier="scale") for _ in range(9)]
    for call in calls:
        world.see(replace(call, tier="default"), tier="")
    fee = world.charge("Scale Tier", day, "24.00", project=None)

    world.reconcile()

    world.expect({day: "EXPLAINED"}, {day: {"ORG_LEVEL_FEE": fee, "BUNDLED": -world.usd(calls)}})


def decimal(value: Fraction) -> Decimal:
    return Decimal(value.numerator) / Decimal(value.denominator)
