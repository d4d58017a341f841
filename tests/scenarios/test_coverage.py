"""Calls that the spans do not have, or have too often."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

GPT_41, GPT_55 = "gpt-4.1-2025-04-14", "gpt-5.5-2026-04-23"
MINI = "gpt-4o-mini-2024-07-18"


def test_01_a_clean_day_is_matched_to_the_last_digit(world: Any) -> None:
    day = world.ago(5)
    world.traffic(day, world.ago(4), world.ago(2))

    world.reconcile()

    world.expect({day: "MATCHED"})
    assert {line.match_level for line in world.lines(day) if line.billed_usd} == {"M1"}


def test_02_cached_tokens_that_the_estimator_ignores(world: Any) -> None:
    day = world.ago(5)
    world.traffic(day)
    calls = [
        world.call(
            "agent-runner", GPT_55, day, seen=False, input_tokens=200_000, cached_tokens=cached
        )
        for cached in (128_000, 64_000, 128_000)
    ]
    for call in calls:
        world.see(replace(call, cached_tokens=0))
    blind = [replace(call, cached_tokens=0) for call in calls]

    world.reconcile()

    world.expect(
        {day: "EXPLAINED"}, {day: {"WRONG_KIND|TOKEN_CAPTURE": world.usd(calls) - world.usd(blind)}}
    )


def test_10_a_second_app_on_the_same_key(world: Any) -> None:
    day = world.ago(5)
    world.traffic(day)
    other = [world.call("agent-runner", GPT_55, day, seen=False) for _ in range(7)]

    world.reconcile()

    world.expect({day: "EXPLAINED"}, {day: {"RETRIES_OR_MISSING_SPANS": world.usd(other)}})
    assert "agent-runner" in world.said(day, "RETRIES_OR_MISSING_SPANS"), "whose key it is"


def test_11_an_unknown_key_in_a_known_project(world: Any) -> None:
    day = world.ago(5)
    world.traffic(day)
    nightly = [world.call("nightly-export", GPT_55, day, seen=False) for _ in range(5)]

    world.reconcile()

    world.expect({day: "EXPLAINED"}, {day: {"UNINSTRUMENTED_KEY": world.usd(nightly)}})
    assert "nightly-export" in world.said(day, "UNINSTRUMENTED_KEY")


def test_12_timeouts_of_the_client_that_the_server_finished(world: Any) -> None:
    day = world.ago(5)
    world.traffic(day)
    lost = [world.call("agent-runner", GPT_55, day, seen=False, cached_tokens=0) for _ in range(4)]
    for call in lost:
        world.see(
            replace(call, output_tokens=0),
            usage_seen=False,
            error="APITimeoutError",
            longest_answer=16_000,
        )

    world.reconcile()

    world.expect({day: "EXPLAINED"}, {day: {"ABORTED_OR_TIMED_OUT": world.usd(lost)}})


def test_13_streams_that_were_cut_off_before_they_told_their_usage(world: Any) -> None:
    day = world.ago(5)
    world.traffic(day)
    cut = [
        world.call("agent-runner", GPT_55, day, seen=False, cached_tokens=0, output_tokens=1_900)
        for _ in range(4)
    ]
    for call in cut:
        world.see(
            replace(call, output_tokens=1_700),
            usage_seen=False,
            stream_outcome="closed_early",
            longest_answer=2_000,
        )

    world.reconcile()

    world.expect({day: "EXPLAINED"}, {day: {"ABORTED_OR_TIMED_OUT": world.usd(cut)}})


def test_14_retries_of_the_sdk_inside_one_span(world: Any) -> None:
    day = world.ago(5)
    world.traffic(day)
    extra = []
    for _ in range(4):
        call = world.call("agent-runner", GPT_55, day, see={"retries": 1})
        # The first attempt was finished by the server after the client had given up on it.
        first = replace(
            call, request_id=f"{call.request_id}_first", at=call.at - timedelta(minutes=9)
        )
        world.ledger.add(first)
        extra.append(first)

    world.reconcile()

    world.expect({day: "EXPLAINED"}, {day: {"RETRIES_OR_MISSING_SPANS": world.usd(extra)}})


def test_15_spans_of_a_gateway_and_of_the_sdk_for_one_call(world: Any) -> None:
    day = world.ago(5)
    world.traffic(day)
    twice = [world.call("agent-runner", GPT_55, day) for _ in range(6)]
    for call in twice:
        world.see(call, scope="gateway")

    world.reconcile()

    world.expect({day: "EXPLAINED"}, {day: {"DUPLICATE_SPANS": -world.usd(twice)}})


def test_16_spans_of_a_tenth_of_the_calls(world: Any) -> None:
    day = world.ago(5)
    unseen = []
    for number in range(60):
        model = (MINI, GPT_41)[number % 2]
        call = world.call("shop-backend", model, day, seen=number % 20 < 2)
        if number % 20 >= 2:
            unseen.append(call)

    world.reconcile()

    world.expect({day: "EXPLAINED"}, {day: {"RETRIES_OR_MISSING_SPANS": world.usd(unseen)}})
    row = world.days()[day]
    assert 0.05 < row.estimated_usd / row.billed_usd < 0.2


def test_26_a_call_over_midnight_is_on_another_day_of_the_bill(world: Any) -> None:
    day, following = world.ago(5), world.ago(4)
    world.traffic(day, following)
    world.agree(billed_when_started=True)
    late = [
        world.call(
            "support-desk",
            GPT_41,
            day,
            at=world.midnight(following) + timedelta(seconds=20 + number),
            duration=timedelta(seconds=90),
        )
        for number in range(3)
    ]

    world.reconcile()

    world.expect(
        {day: "EXPLAINED", following: "EXPLAINED"},
        {day: {"CUTOFF": world.usd(late)}, following: {"CUTOFF": -world.usd(late)}},
    )
