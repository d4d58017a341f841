"""The script that Streamlit runs: the frame around every page.

Its folder joins `sys.path` while it runs, so everything is imported by its full name.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from importlib.resources import files

import streamlit as st

from costspan.errors import CostspanError, Unavailable
from costspan_collector.settings import ClickHouse
from costspan_collector.store import Store, connect
from costspan_dashboards.figures import escaped
from costspan_dashboards.filter_bar import filter_bar
from costspan_dashboards.views import (
    alerts,
    allocation,
    budgets,
    calls,
    close,
    home,
    reconciliation,
    spend,
)

# A file of ours: the browser would fetch a named icon from another host.
_ICON = str(files("costspan_dashboards").joinpath("icon.svg"))


def main() -> None:
    """Draw the page that the URL names."""
    st.set_page_config(page_title="costspan", page_icon=_ICON, layout="wide")
    now = datetime.now(UTC)
    draws: dict[str, Callable[[], None]] = {
        "Home": lambda: home.draw(store, filters, now, pages["Alerts"]),
        "Spend": lambda: spend.draw(store, filters, now),
        "Budgets": lambda: budgets.draw(store, now),
        "Calls": lambda: calls.draw(store, filters, now),
        "Alerts": lambda: alerts.draw(store, filters.time),
        "Reconciliation": lambda: reconciliation.draw(store, filters.time),
        "Allocation": lambda: allocation.draw(store, filters.time),
        "Close": lambda: close.draw(store),
    }
    pages = {
        name: st.Page(draw, title=name, url_path=name.lower(), default=name == "Home")
        for name, draw in draws.items()
    }
    page = st.navigation(list(pages.values()), position="top")
    try:
        store = _store(ClickHouse().url)
        if page.title not in {"Budgets", "Close"}:  # which are about months
            filters = filter_bar(store, now, narrows=page.title in {"Home", "Spend", "Calls"})
        page.run()
    except CostspanError as error:
        advice = " Reload the page in a moment." if isinstance(error, Unavailable) else ""
        st.error(
            f"The store cannot be read: {escaped(str(error))}.{advice}", icon=":material/cloud_off:"
        )


@st.cache_resource(show_spinner=False)
def _store(url: str) -> Store:
    return connect(url, read_only=True)


main()
