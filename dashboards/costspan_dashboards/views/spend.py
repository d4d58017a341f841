"""Spend: what it costs, by whatever one wants to know it by."""

from datetime import datetime

import streamlit as st

from costspan_collector.store import Store
from costspan_dashboards.breakdown import OTHER, PART, Breakdown, breakdown, csv_text, label
from costspan_dashboards.charts import stacked_bars, step_seconds
from costspan_dashboards.figures import (
    change_text,
    count_text,
    escaped,
    percent_text,
    range_text,
    time_text,
    unpriced_text,
    usd_format,
    usd_text,
)
from costspan_dashboards.filters import Filters
from costspan_dashboards.queries import DIMENSIONS, Overview, extent, overview

_MEASURES = {"USD": "usd", "tokens": "tokens"}
_PART_NAME = "part of the cost"


def draw(store: Store, filters: Filters, now: datetime) -> None:
    """Draw the page."""
    reach = extent(store)
    choice, unit_choice, _ = st.columns([2, 2, 6], vertical_alignment="bottom")
    by = choice.selectbox(
        "Broken down by", [*DIMENSIONS, _PART_NAME], key="by", bind="query-params"
    )
    unit = unit_choice.segmented_control(
        "In", list(_MEASURES), default="USD", required=True, key="in", bind="query-params"
    )
    measure = _MEASURES[unit]
    seconds = step_seconds(filters.time.length)
    found = breakdown(
        store,
        filters,
        by=PART if by == _PART_NAME else by,
        measure=measure,
        seconds=seconds,
    )
    if not found.steps:
        st.info(
            f"No call in {range_text(filters.time)} matches the filters. "
            "Choose a longer time or fewer filters; the page Home says whether calls come in."
        )
        return
    _headline(found, overview(store, filters), measure, filters, now)
    st.altair_chart(
        stacked_bars(
            found.bars(measure),
            time=filters.time,
            order=found.order,
            other=OTHER,
            seconds=seconds,
            unit=unit,
        )
    )
    st.caption("The first and last bar may be part of a step.")
    comparable = reach is not None and reach.covers(filters.time.previous)
    _table(found, by, measure, comparable=comparable)
    _downloads(found, by, filters)


def _headline(
    found: Breakdown, seen: Overview, measure: str, filters: Filters, now: datetime
) -> None:
    if measure == "usd":
        total = usd_text(found.cost_usd if seen.cost_usd is not None or not seen.calls else None)
        words = f"**{escaped(total)}** estimated, USD"
    else:
        words = f"**{count_text(found.tokens)}** tokens"
    st.markdown(
        f"#### {words} \n{range_text(filters.time)} · {seen.calls:,} calls · "
        f"{unpriced_text(seen.unpriced)} · as of {time_text(now)}"
    )


def _table(found: Breakdown, by: str, measure: str, *, comparable: bool) -> None:
    rows: list[dict[str, object]] = []
    for total in found.totals:
        if measure == "usd":
            share = percent_text(total.cost_usd or 0, found.cost_usd)
            before, change = total.previous_usd, change_text(total.cost_usd, total.previous_usd)
        else:
            share = percent_text(total.tokens, found.tokens)
            before, change = (
                total.previous_tokens,
                change_text(total.tokens, total.previous_tokens),
            )
        row: dict[str, object] = {
            by: total.value,
            "USD, estimated": total.cost_usd,
            "tokens": total.tokens,
            "share": share,
            "calls": total.calls,
            "calls without a price": total.unpriced,
        }
        if by == _PART_NAME:  # cost and tokens are not split along the same lines
            del (
                row["calls without a price"],
                row["tokens" if measure == "usd" else "USD, estimated"],
            )
        if comparable:
            row |= {"period before": before, "change": change or "-"}
        rows.append(row)
    dollars = st.column_config.NumberColumn(
        format=usd_format(
            amount for total in found.totals for amount in (total.cost_usd, total.previous_usd)
        )
    )
    whole = st.column_config.NumberColumn(format="localized")
    st.dataframe(
        rows,
        hide_index=True,
        placeholder="unknown",
        column_config={
            "USD, estimated": dollars,
            "tokens": whole,
            "calls": whole,
            "calls without a price": whole,
            "period before": dollars if measure == "usd" else whole,
        },
    )
    if not comparable:
        st.caption("No comparison: calls were not kept for the whole of the period before.")


def _downloads(found: Breakdown, by: str, filters: Filters) -> None:
    since, until = filters.time.since, filters.time.until
    table, series, _ = st.columns([2, 2, 6])
    stem = f"costspan-{by.replace(' ', '-')}-{since:%Y%m%dT%H%M}-{until:%Y%m%dT%H%M}"
    table.download_button(
        "Table as CSV",
        csv_text(
            ("since", "until", by, "estimated_usd", "previous_usd", "tokens", "calls", "unpriced"),
            (
                (
                    since,
                    until,
                    total.value,
                    total.cost_usd,
                    total.previous_usd,
                    total.tokens,
                    total.calls,
                    total.unpriced,
                )
                for total in found.totals
            ),
        ),
        file_name=f"{stem}.csv",
        mime="text/csv",
        on_click="ignore",
    )
    series.download_button(
        "Series as CSV",
        csv_text(
            ("step", by, "estimated_usd", "tokens", "calls", "unpriced"),
            (
                (
                    step.step,
                    label(step),
                    step.cost_usd,
                    step.tokens,
                    step.calls,
                    step.unpriced,
                )
                for step in found.steps
            ),
        ),
        file_name=f"{stem}-series.csv",
        mime="text/csv",
        on_click="ignore",
    )
