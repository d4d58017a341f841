"""Lines of the bill that are not plain calls, and lines that are named otherwise."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

GPT_41, GPT_55 = "gpt-4.1-2025-04-14", "gpt-5.5-2026-04-23"
TUNED = "ft:gpt-4o-2024-08-06:acme:router:Ab3xYz"
IMAGE = "gpt-image-2"
GIB = 2**30


def test_08_web_searches_that_no_estimate_has(world: Any) -> None:
    day = world.ago(5)
    world.traffic(day)
    searches = [
        world.entry(
            "agent-runner",
            GPT_55,
            day,
            endpoint="web_search_calls",
            units=units,
            input_tokens=0,
            cached_tokens=0,
            output_tokens=0,
        )
        for units in (70, 110, 55)
    ]

    world.reconcile()

    assert world.usd(searches) == Decimal("2.35")
    world.expect({day: "EXPLAINED"}, {day: {"TOOL_FEE": Decimal("2.35")}})
    assert "235" in world.said(day, "TOOL_FEE"), "how many calls drove it"


def test_09_storage_only_and_no_call_that_day(world: Any) -> None:
    day = world.ago(5)
    world.keep_files(world.project("support-desk"), 63 * GIB + world.random.randrange(GIB))
    world.ledger.since = world.midnight(day)
    days = [world.ago(back) for back in range(1, 6)]

    world.reconcile()

    fees = {each: world.billed(each) for each in days}
    assert all(Decimal("6.1") < fee < Decimal("6.4") for fee in fees.values())
    world.expect(dict.fromkeys(days, "EXPLAINED"), {each: {"STORAGE": fees[each]} for each in days})


def test_21_evals_that_usage_does_not_show(world: Any) -> None:
    day = world.ago(5)
    world.traffic(day)
    project = world.project("support-desk")
    evals = [
        world.charge(f"evals | {GPT_41}, {kind}", day, usd, project=project, quantity=quantity)
        for kind, usd, quantity in (("input", "3.80", 1_900_000), ("output", "0.64", 80_000))
    ]

    world.reconcile()

    world.expect({day: "EXPLAINED"}, {day: {"PLATFORM_SURFACE": sum(evals)}})


def test_22_a_fine_tuned_model_is_named_otherwise_on_the_bill(world: Any) -> None:
    day = world.ago(5)
    world.traffic(day)
    for _ in range(8):
        world.call("shop-backend", TUNED, day)

    world.reconcile()

    world.expect({day: "MATCHED"})
    tuned = [line for line in world.lines(day) if line.line_item.startswith("ft-")]
    assert {line.line_item for line in tuned} >= {
        "ft-gpt-4o-2024-08-06, input",
        "ft-gpt-4o-2024-08-06, output",
    }
    assert {line.verdict for line in tuned} == {"MATCHED"}
    assert {line.match_level for line in tuned} == {"M1"}


def test_23_an_image_model_is_dated_on_the_bill_only(world: Any) -> None:
    day = world.ago(5)
    world.traffic(day)
    _images(world, day, 9)
    world.wire = replace(world.wire, billed_names={IMAGE: f"{IMAGE}-2026-04-21"})

    world.reconcile()

    world.expect({day: "MATCHED"})
    levels = {
        line.match_level
        for line in world.lines(day)
        if line.line_item.startswith(IMAGE) and line.billed_usd
    }
    assert levels == {"M2"}


def test_23_two_snapshots_of_one_family_are_not_guessed_between(world: Any) -> None:
    day = world.ago(5)
    world.traffic(day)
    images = _images(world, day, 9)
    world.wire = replace(world.wire, billed_names={IMAGE: f"{IMAGE}-2026-04-21"})
    for kind, usd in (("text, input", "1.25"), ("image, input", "2.40"), ("image, output", "9.00")):
        world.charge(
            f"{IMAGE}-2026-09-09 {kind}",
            day,
            usd,
            project=world.project("shop-backend"),
            key=world.key("shop-backend").id,
            quantity=300_000,
        )

    world.reconcile()

    assert world.usd(images) > 2
    assert world.days()[day].verdict == "REVIEW"
    levels = {line.match_level for line in world.lines(day) if line.line_item.startswith(IMAGE)}
    assert "M2" not in levels
    world.check_properties()


def test_24_a_line_item_that_nobody_knows(world: Any) -> None:
    day = world.ago(5)
    world.traffic(day)
    fee = world.charge(
        "quantum annealing hours", day, "3.00", project=world.project("agent-runner")
    )

    world.reconcile()

    world.expect({day: "REVIEW"}, {day: {"UNCLASSIFIED": fee}})
    assert "quantum annealing hours" in world.said(day, "UNCLASSIFIED")


def test_25_a_correction_is_negative(world: Any) -> None:
    """One is of the organization, one of a project."""
    day, following = world.ago(5), world.ago(4)
    world.traffic(day, following)
    credit = world.charge("Promotional credit", day, "-3.25", project=None)
    refund = world.charge("Refund", following, "-1.75", project=world.project("agent-runner"))

    world.reconcile()

    world.expect(
        {day: "EXPLAINED", following: "EXPLAINED"},
        {day: {"CREDIT_OR_CORRECTION": credit}, following: {"CREDIT_OR_CORRECTION": refund}},
    )


def test_32_amounts_of_34_digits_and_zeros_of_decimal128(world: Any) -> None:
    """A float keeps seventeen digits: the day would be wrong from the eighteenth on."""
    day = world.ago(5)
    world.wire = replace(world.wire, amounts="padded", zero_rows=True)
    world.traffic(day)
    project = world.project("support-desk")
    odd = world.charge(
        "Vector storage", day, "1.000321957447155490471234567890123", project=project
    )
    world.charge("assistants api | file search", day, "0", project=project)

    world.reconcile()

    world.expect({day: "EXPLAINED"}, {day: {"STORAGE": odd}})
    row = world.days()[day]
    assert row.billed_usd == world.billed(day)
    assert Decimal(float(row.billed_usd)) != row.billed_usd
    texts = world.store.select(
        "SELECT amount FROM billed_lines WHERE day = {day:Date}", world.Text, day=day
    )
    assert {"0E-6176", "1.000321957447155490471234567890123"} <= {row.amount for row in texts}


def _images(world: Any, day: Any, calls: int) -> list[Any]:
    return [
        world.call(
            "shop-backend",
            IMAGE,
            day,
            input_tokens=20_000,
            image_input_tokens=12_000,
            cached_tokens=0,
            output_tokens=16_000,
            image_output_tokens=16_000,
        )
        for _ in range(calls)
    ]
