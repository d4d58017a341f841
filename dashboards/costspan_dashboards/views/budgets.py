"""Budgets: what this month has cost, where it is heading, and how sure that is."""

from datetime import datetime
from decimal import Decimal

import streamlit as st

from costspan_collector.settings import read_settings
from costspan_collector.store import Store
from costspan_dashboards.alerts.forecast import COVERAGE, LEAST_DAYS, LEAST_INTERVAL_DAYS
from costspan_dashboards.alerts.outlook import Outlook, outlooks
from costspan_dashboards.alerts.settings import Alerts
from costspan_dashboards.figures import escaped, percent_text, time_text, unpriced_text, usd_text

_PICO = 10**12


def draw(store: Store, now: datetime) -> None:
    """Draw the page."""
    settings = _settings()
    until, found = outlooks(store, settings.limits.budgets, settings.watermark, now)
    everything, budgets = found[0], [one for one in found if one.budget_usd is not None]
    st.subheader(f"{until:%B %Y} (UTC), USD, estimated")
    spent, heading, between = st.columns(3)
    spent.metric("Spent so far", _usd(everything.forecast.spent_pico), border=True)
    heading.metric("Heading for", _heading(everything), border=True)
    between.metric(f"In {COVERAGE:.0%} of such months between", _between(everything), border=True)
    st.caption(
        f"Calls up to {time_text(until)}; {escaped(unpriced_text(everything.unpriced))}. "
        f"{escaped(_known_from(everything))}"
    )
    st.subheader("Budgets")
    if not budgets:
        st.info(
            "No budget is set. `alerts.toml`, which `COSTSPAN_ALERTS_FILE` names, takes them: of "
            "all calls or of a team, project, feature, model, key or environment."
        )
        st.code('[[budgets]]\nusd_per_month = 500\ndimension = "team"\nvalue = "search"', "toml")
        return
    st.dataframe(
        [
            {
                "budget of": one.of,
                "USD a month": usd_text(one.budget_usd),
                "spent so far": _usd(one.forecast.spent_pico),
                "of it": percent_text(_spent(one), one.budget_usd or 0),
                "heading for": _heading(one),
                f"in {COVERAGE:.0%} of such months between": _between(one),
                "calls without a price": one.unpriced,
                "outlook": _verdict(one),
            }
            for one in budgets
        ],
        hide_index=True,
    )


@st.cache_resource(show_spinner=False)
def _settings() -> Alerts:
    """Return what alerts go by: the file is read once, at start, as they do."""
    return read_settings(Alerts)


def _spent(one: Outlook) -> Decimal:
    return Decimal(one.forecast.spent_pico) / _PICO


def _heading(one: Outlook) -> str:
    expected = one.forecast.expected_pico
    return _usd(expected) if expected is not None else "not known yet"


def _between(one: Outlook) -> str:
    interval = one.forecast.interval
    if interval is None:
        return "not known yet"
    return f"{_usd(interval.low_pico)} and {_usd(interval.high_pico)}"


def _verdict(one: Outlook) -> str:
    planned, interval = one.budget_usd or Decimal(0), one.forecast.interval
    if _spent(one) >= planned:
        return "used up"
    if interval and interval.low_pico > planned * _PICO:
        return "will not last"
    if interval is None:
        return "not known yet"
    return "may not last" if interval.high_pico > planned * _PICO else "will last"


def _known_from(one: Outlook) -> str:
    forecast = one.forecast
    if forecast.expected_pico is None:
        return f"A forecast needs {LEAST_DAYS} whole days of calls."
    if forecast.interval is None:
        return f"How sure it is can be told from {LEAST_INTERVAL_DAYS} whole days on."
    return f"How sure it is, the same forecast tells, made on {forecast.origins} past days."


def _usd(pico: int) -> str:
    return usd_text(Decimal(pico) / _PICO)
