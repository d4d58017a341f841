"""Allocation: who was billed what, to the last dollar of the bill, and what is nobody's."""

from collections.abc import Sequence
from dataclasses import astuple, fields
from datetime import UTC, date, timedelta
from decimal import Decimal
from itertools import zip_longest

import streamlit as st

from costspan.money import plain
from costspan_collector.store import Store
from costspan_dashboards.breakdown import csv_text
from costspan_dashboards.figures import escaped, percent_text, usd_text
from costspan_dashboards.filters import TimeRange, shown
from costspan_reconcile.allocate.cents import shown_cents, sum_exact
from costspan_reconcile.allocate.queries import (
    DIMENSIONS,
    AllocatedDay,
    AllocatedTo,
    Rest,
    allocated_days,
    allocated_to,
    rest,
)

NOBODY, OTHERS, TOTAL = "(unattributed)", "all others", "total"
_MOST = 1000
_MOST_IN_FILE = 100_000
_ROWS_AT_ONCE = 40


def draw(store: Store, range: TimeRange) -> None:
    """Draw the page."""
    since, until = _days(range)
    days = allocated_days(store, since, until)
    if not any(day.allocated_usd is not None for day in days):
        st.info(
            f"No closed day (UTC) from {since} to {until - timedelta(days=1)} has a bill that is "
            "shared out yet. That happens with each reconciliation; the page Reconciliation says "
            "how it stands, and needs an admin key."
        )
        return
    by = st.segmented_control(
        "By", DIMENSIONS, default=DIMENSIONS[0], required=True, key="to", bind="query-params"
    )
    rows = allocated_to(store, since, until, by=by, most=_MOST)
    _figures(days)
    _tie_out(days, rows)
    _table(rows, by)
    st.download_button(
        "Table as CSV, every digit",
        lambda: _csv(store, since, until, by),
        file_name=f"costspan-allocation-{since}-{until - timedelta(days=1)}.csv",
        mime="text/csv",
        on_click="ignore",
    )
    _rest(rest(store, since, until, most=_MOST))


def _days(range: TimeRange) -> tuple[date, date]:
    """Return the UTC days that the range touches: the bill knows no smaller unit."""
    last = (range.until - timedelta(microseconds=1)).astimezone(UTC).date()
    return range.since.astimezone(UTC).date(), last + timedelta(days=1)


def _figures(days: Sequence[AllocatedDay]) -> None:
    known = [day for day in days if day.allocated_usd is not None]
    amounts = [
        sum_exact([getattr(day, name) for day in known])
        for name in ("billed_usd", "direct_usd", "shared_usd", "unattributed_usd")
    ]
    labels = ("Billed, USD", "By calls", "By rules", "Unattributed")
    for column, label, amount in zip(st.columns(4), labels, amounts, strict=True):
        column.metric(
            label,
            usd_text(amount),
            percent_text(amount, amounts[0]) if label != labels[0] else None,
            delta_color="off",
            delta_arrow="off",
        )


def _tie_out(days: Sequence[AllocatedDay], rows: Sequence[AllocatedTo]) -> None:
    known = [day for day in days if day.allocated_usd is not None]
    billed = sum_exact([day.billed_usd for day in known])
    allocated = sum_exact([row.billed_usd for row in rows])
    frozen = sum(day.frozen for day in known)
    said = (
        f"{len(known)} closed days (UTC) from {known[-1].day} to {known[0].day}, {frozen} of them "
        "final: their weights stay, whatever the bill says later."
    )
    if billed == allocated:
        st.caption(
            f"The rows sum to the bill to the last digit: {escaped(usd_text(billed))}. {said}"
        )
    else:
        st.error(
            f"The rows sum to {escaped(usd_text(allocated))}, the bill to "
            f"{escaped(usd_text(billed))}. Reload the page; if it stays so, please report it.",
            icon=":material/error:",
        )
    waiting = [day.day for day in days if day.allocated_usd is None]
    if waiting:
        st.warning(
            f"{len(waiting)} closed days from {waiting[-1]} to {waiting[0]} have a bill that is not "
            "shared out yet, and are in no figure here."
        )


def _table(rows: Sequence[AllocatedTo], by: str) -> None:
    columns = ("direct_usd", "shared_usd", "unattributed_usd", "billed_usd")
    exact = {name: [getattr(row, name) for row in rows] for name in columns}
    # The cents of a column add up to its total; those of a row may miss its own by one.
    cents = {name: shown_cents(amounts) for name, amounts in exact.items()}
    labels = {"direct_usd": "by calls", "shared_usd": "by rules"}
    if by == "project":
        labels["unattributed_usd"] = "unattributed"
    labels["billed_usd"] = "billed"
    st.dataframe(
        [
            *(
                _named(row, by)
                | {label: _cents_text(cents[name][n]) for name, label in labels.items()}
                | {"billed, to the last digit": plain(row.billed_usd)}
                | {
                    "share of the bill": percent_text(
                        row.billed_usd, sum_exact(exact["billed_usd"])
                    )
                }
                for n, row in enumerate(rows)
            ),
            dict(zip_longest(by.split(" and "), (TOTAL,), fillvalue=""))
            | {label: _cents_text(sum_exact(cents[name])) for name, label in labels.items()}
            | {"billed, to the last digit": plain(sum_exact(exact["billed_usd"]))},
        ],
        hide_index=True,
        placeholder="",
        height="content" if len(rows) <= _ROWS_AT_ONCE else "auto",
    )
    st.caption(
        "By calls: by the quantity of each product that the calls used. By rules: what no call "
        "accounts for, where a rule of COSTSPAN_ALLOCATION_POLICY says who pays it. The cents of "
        "each column add up to its total."
    )


def _cents_text(cents: Decimal) -> str:
    return f"{'-' if cents < 0 else ''}${abs(cents):,.2f}"


def _named(row: AllocatedTo, by: str) -> dict[str, str]:
    first, *second = by.split(" and ")
    name = NOBODY if row.is_nobody else OTHERS if row.is_other else shown(row.value)
    blank = row.is_nobody or row.is_other
    return {first: name} | {each: "" if blank else shown(row.feature) for each in second}


def _rest(rows: Sequence[Rest]) -> None:
    if not rows:
        return
    st.subheader("What no call accounts for, USD")
    st.dataframe(
        [
            {
                "project": row.project or "(none)",
                "key": row.key_name or row.api_key_id or "(not known)",
                "line item": row.line_item,
                "by the rule": row.rule or "(none)",
                "shared": usd_text(row.shared_usd),
                "unattributed": usd_text(row.unattributed_usd),
            }
            for row in rows
        ],
        hide_index=True,
    )
    if len(rows) == _MOST:
        st.caption(f"The {_MOST:,} largest; choose fewer days for the rest.")


def _csv(store: Store, since: date, until: date, by: str) -> str:
    rows = allocated_to(store, since, until, by=by, most=_MOST_IN_FILE)
    return csv_text([field.name for field in fields(AllocatedTo)], map(_cells, rows))


def _cells(row: AllocatedTo) -> tuple[object, ...]:
    name = NOBODY if row.is_nobody else OTHERS if row.is_other else row.value
    return (name, *astuple(row)[1:])
