"""What is due for the months after each run of the reconciliation."""

from datetime import datetime

from costspan.money import plain
from costspan_collector.store import Store
from costspan_reconcile.period.adjustments import Adjustment, book_adjustments
from costspan_reconcile.period.month import Month
from costspan_reconcile.period.states import advance_all


def settle(store: Store, now: datetime) -> tuple[str, ...]:
    """Book what changed in locked months and move the others; return a line for each thing done.

    Doing it again does nothing.
    """
    booked = book_adjustments(store, now)
    return (*map(_line, booked), *advance_all(store, now))


def _line(row: Adjustment) -> str:
    return (
        f"{Month(row.original_month)} is locked and {row.line_item} of {row.day} changed by "
        f"{plain(row.amount_usd)} USD: booked in {Month(row.month)}"
    )
