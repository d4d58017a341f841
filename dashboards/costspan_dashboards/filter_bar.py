"""The filter bar above every page. What is chosen is in the URL, so a link shows the same."""

from datetime import datetime

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from costspan_collector.store import Store
from costspan_dashboards.filters import (
    CUSTOM,
    PRESETS,
    Filters,
    TimeRange,
    dates_range,
    preset_range,
    shown,
)
from costspan_dashboards.queries import choices

_DEFAULT = "last 7 days"
_TIME, _CHOICE = 3, 2


def filter_bar(store: Store, now: datetime, *, narrows: bool) -> Filters:
    """Draw the bar and return what is chosen.

    `narrows` is False on a page that shows everything in the time range: the choices stay
    where they are, and rest.
    """
    slots = st.columns([_TIME, _CHOICE, _CHOICE, _CHOICE, _CHOICE])
    time = _time(slots[0], now)
    offered = choices(store, time)
    picked: list[tuple[str, ...]] = []
    for slot, name, values in zip(
        slots[1:],
        ("team", "feature", "model", "project"),
        (offered.teams, offered.features, offered.models, offered.projects),
        strict=True,
    ):
        # A value in the URL stays on offer even where the time range has no call with it.
        options = dict.fromkeys([*map(shown, values), *st.query_params.get_all(name)])
        chosen = slot.multiselect(
            name.capitalize(),
            list(options),
            key=name,
            bind="query-params",
            placeholder="all",
            disabled=not narrows,
            wrap=False,
            help=None if narrows else "This page shows everything in the time range.",
        )
        picked.append(tuple(chosen))
    if not narrows:
        return Filters(time)
    return Filters(time, *picked)


def _time(slot: DeltaGenerator, now: datetime) -> TimeRange:
    preset = slot.selectbox(
        "Time (UTC)",
        [*PRESETS, CUSTOM],
        index=list(PRESETS).index(_DEFAULT),
        key="range",
        bind="query-params",
    )
    if preset != CUSTOM:
        return preset_range(preset, now)
    below, _ = st.columns([1, 3])
    days = below.date_input("Days (UTC)", value=[], key="dates", bind="query-params")
    return dates_range(days, now)
