"""Bills that cannot be judged yet, or at all, and bills that change."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

CREDIT = Decimal("-3.25")


def test_27_costs_that_are_late_are_awaited_and_never_free(world: Any) -> None:
    yesterday = world.ago(1)
    calls = [call for call in world.traffic(yesterday) if call.at.date() == yesterday]
    world.wire = replace(world.wire, costs_lag=timedelta(hours=36), usage_lag=timedelta(minutes=30))

    world.reconcile()

    world.expect({yesterday: "AWAITING"}, {yesterday: {"AWAITING_PROVIDER": -world.usd(calls)}})
    assert "free" not in world.said(yesterday, "").lower()

    world.now += timedelta(hours=30)
    world.wire = replace(world.wire, costs_lag=timedelta(0))
    world.reconcile()

    world.expect({yesterday: "MATCHED"})


def test_28_a_day_that_changes_after_it_was_final(world: Any) -> None:
    day = world.ago(5)
    world.traffic(day)
    world.days_read = 9
    states: list[str] = []
    world.charge(
        "Promotional credit",
        day,
        CREDIT,
        project=world.project("agent-runner"),
        since=world.now + timedelta(hours=26),
    )

    for hours in (0, 25, 2, 25):
        world.now += timedelta(hours=hours)
        world.reconcile()
        states.append(world.days()[day].day_state)

    assert states == ["PROVISIONAL", "FINAL", "RESTATED", "FINAL"]
    assert world.revisions()[day].revision == 2
    world.expect({day: "EXPLAINED"}, {day: {"CREDIT_OR_CORRECTION": CREDIT}})
    kept = world.store.select(
        "SELECT amount FROM billed_lines WHERE day = {day:Date} AND revision = 1",
        world.Text,
        day=day,
    )
    assert kept, "the bill as it was"


def test_30_a_bill_that_is_not_complete(world: Any) -> None:
    day = world.ago(5)
    world.traffic(day)
    world.reconcile()
    before, revisions = world.days()[day], world.revisions()
    assert before.verdict == "MATCHED"
    good = world.wire

    faults: list[dict[str, Any]] = [
        {"cursor": "repeats"},
        {"cursor": "missing"},
        {"missing_day": day},
        {"lost_page": 2},
    ]
    for fault in faults:
        world.now += timedelta(minutes=1)
        world.days_read = 32 if "lost_page" in fault else 6
        world.wire = replace(good, **fault)
        world.reconcile()

        row = world.days()[day]
        assert row.verdict == "BLOCKED", fault
        assert "BLOCKED_INCOMPLETE" in row.reason, fault
        assert row.billed_usd == before.billed_usd, "what was good before is kept"
        assert world.revisions() == revisions
        world.check_sums()

    world.wire, world.days_read = good, 6
    world.reconcile()
    never_read = [world.ago(back) for back in range(6, 32)]
    world.expect({day: "MATCHED", **dict.fromkeys(never_read, "BLOCKED")})


def test_31_a_row_in_another_currency(world: Any) -> None:
    day, following = world.ago(5), world.ago(4)
    world.traffic(day, following)
    world.reconcile()
    before = world.days()
    assert before[day].verdict == "MATCHED"

    world.charge("gpt-4.1-2025-04-14, input", day, "5", project=world.project("support-desk"))
    world.wire = replace(world.wire, currency="eur", foreign_day=day)
    world.reconcile()

    row = world.days()[day]
    assert row.verdict == "BLOCKED"
    assert "BLOCKED_CURRENCY" in row.reason
    assert row.billed_usd == before[day].billed_usd
    assert world.days()[following].verdict == "MATCHED"


def test_33_an_admin_key_of_another_organization(world: Any) -> None:
    day = world.ago(5)
    world.traffic(day)
    settings = world.settings.model_copy(update={"organization": world.organization.id})
    world.settings = settings
    world.wire = replace(world.wire, extra_fields=True, organization_id="org-someone-else")

    world.reconcile()

    row = world.days()[day]
    assert row.verdict == "BLOCKED"
    assert "BLOCKED_WRONG_ORG" in row.reason
    assert row.billed_usd is None


def test_33_a_bill_of_nothing_while_spans_show_spend(world: Any) -> None:
    days = [world.ago(back) for back in range(3, 6)]
    world.traffic(*days)
    world.wire = replace(world.wire, empty=True)

    world.reconcile()

    rows = world.days()
    assert {rows[day].verdict for day in days} == {"BLOCKED"}
    assert all("BLOCKED_WRONG_ORG" in rows[day].reason for day in days)
    assert not any(name.startswith("FREE") for day in days for name in world.classes(day))
