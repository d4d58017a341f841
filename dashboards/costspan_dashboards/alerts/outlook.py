"""Where the month is heading: of all calls and of each budget, by the figures that `budget` judges."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from costspan_collector.store import Store
from costspan_dashboards.alerts.forecast import Forecast, month_end
from costspan_dashboards.alerts.frame import (
    DAY_MINUTES,
    MONTHS_DAYS,
    Cells,
    Frame,
    Names,
    Plumbing,
    minute_of,
    slot_of,
    time_of,
)
from costspan_dashboards.alerts.limits import Budget
from costspan_dashboards.alerts.read import read_cells, watermark
from costspan_dashboards.alerts.rules.budget import cells_of, daily_pico
from costspan_dashboards.alerts.scopes import Scope, View


@dataclass(frozen=True, slots=True)
class Outlook:
    """A calendar month, as far as it is known."""

    of: str
    """Whose dollars they are, in words."""
    budget_usd: Decimal | None
    """None where none is set."""
    forecast: Forecast
    unpriced: int
    """Calls of the month without a price, which are in no figure."""


def outlooks(
    store: Store, budgets: Sequence[Budget], delay: timedelta, now: datetime
) -> tuple[datetime, list[Outlook]]:
    """Return up to when calls are counted, and all calls' month before that of each budget.

    Raises:
        Unavailable: the store did not answer.
    """
    until = slot_of(minute_of(watermark(now, delay)))
    today = until - until % DAY_MINUTES
    names = Names()
    days = read_cells(
        store,
        names,
        "past_cells",
        since=time_of(today - MONTHS_DAYS * DAY_MINUTES),
        until=time_of(until),
        minutes=DAY_MINUTES,
    )
    nothing = Frame.of_nothing(now, Plumbing())
    history = replace(nothing.history, until=until, days=days)
    view = View.of(replace(nothing, until=until, present=Cells.none(names), history=history), ())
    planned: dict[str, Budget | Scope] = {"all calls": Scope()}
    planned |= {str(one): one for one in budgets}
    at = time_of(until)
    month = minute_of(datetime(at.year, at.month, 1, tzinfo=UTC))
    return at, [
        Outlook(
            of=name,
            budget_usd=one.usd_per_month if isinstance(one, Budget) else None,
            forecast=month_end(*daily_pico(view, one), at),
            unpriced=int(cells_of(view, one).between(month, until).count("unpriced_calls").sum()),
        )
        for name, one in planned.items()
    ]
