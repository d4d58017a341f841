"""Months: what changes after the lock, and what is on the invoice only."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from costspan.errors import Rejected
from costspan_reconcile.period.bridge import Invoice, Kind, read_entry
from costspan_reconcile.period.close import bridge, close_month
from costspan_reconcile.period.month import Month, read_month

CREDIT = Decimal("-3.25")
TAX, PROMOTION = "1.87", "10.00"
SIGNER = "finance"


@pytest.fixture
def october(world: Any) -> Month:
    """A month that is over, with calls on three days of it, and all of its days final."""
    world.now = datetime(2026, 11, 5, 12, tzinfo=UTC)
    world.days_read = 40
    month = read_month("2026-10")
    world.traffic(month.days[3], month.days[11], month.days[30])
    world.reconcile()
    world.now += timedelta(hours=25)
    world.reconcile()
    assert {world.days()[day].day_state for day in month.days} == {"FINAL"}
    return month


def test_29_a_day_that_changes_after_the_lock(world: Any, october: Month) -> None:
    day = october.days[11]
    world.charge(
        "Promotional credit",
        day,
        CREDIT,
        project=world.project("agent-runner"),
        since=world.now + timedelta(days=3),
    )
    locked = close_month(
        world.store, october, world.now, SIGNER, invoice=invoice(world, october), sign=True
    )
    before = world.everything_of(october)
    assert locked.state == "LOCKED"

    world.now += timedelta(days=4)
    world.reconcile()
    world.settle_months()
    world.settle_months()

    assert world.everything_of(october) == before
    assert world.billed(day) != world.days()[day].billed_usd
    (booked,) = world.adjustments()
    assert (booked.month, booked.original_month, booked.day) == (
        datetime(2026, 11, 1, tzinfo=UTC).date(),
        october.first,
        day,
    )
    assert (booked.line_item, booked.amount_usd) == ("Promotional credit", CREDIT)


def test_34_tax_and_credits_that_only_the_invoice_has(world: Any, october: Month) -> None:
    before = world.everything_of(october)
    billed = world.cents(october)

    def close(*entries: tuple[Kind, str]) -> Any:
        total = Fraction(billed) + Fraction(TAX) - Fraction(PROMOTION)
        stated = tuple(read_entry(kind, text) for kind, text in entries)
        return close_month(
            world.store, october, world.now, SIGNER, invoice=Invoice("INV-7", total, stated)
        )

    with pytest.raises(Rejected, match=r"\$8\.1"):
        close()
    with pytest.raises(Rejected, match=r"\$(10|9\.99)"):
        close((Kind.TAX, TAX))
    matched = close((Kind.TAX, TAX), (Kind.CREDIT, PROMOTION))

    assert matched.state == "INVOICE_MATCHED"
    lines = {line.kind: line for line in bridge(world.store, matched.close_id)}
    assert lines["billed"].amount_usd == world.month_billed(october)
    assert lines["tax"].amount_usd == Decimal(TAX)
    assert (lines["credit"].amount_usd, lines["credit"].charge_category) == (-10, "Credit")
    assert sum(Fraction(line.amount_usd) for line in lines.values()) == matched.invoice_usd
    assert world.everything_of(october) == before, "no day is any different for it"
    world.expect({})


def invoice(world: Any, month: Month) -> Invoice:
    return Invoice("INV-7", Fraction(world.cents(month)), ())
