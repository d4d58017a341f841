"""Frames from the store: the present from the calls, the past from their rollup of five minutes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from costspan_collector.store import Store, load_sql
from costspan_dashboards.alerts.frame import (
    BAND_MINUTES,
    COUNTS,
    DAY_MINUTES,
    DIMENSIONS,
    HISTORY_DAYS,
    MONTHS_DAYS,
    PRESENT_MINUTES,
    RECENT_HOURS,
    SLOT_MINUTES,
    SUMS,
    Cells,
    Codes,
    Frame,
    History,
    Mark,
    Names,
    Plumbing,
    Users,
    hours_of,
    minute_of,
    slot_of,
    time_of,
)

_PACKAGE = "costspan_dashboards.alerts"
_AHEAD = timedelta(hours=1)
"""How far in the future calls are looked for: a clock may be wrong."""


@dataclass(frozen=True, slots=True)
class _Arrivals:
    first_hour: datetime | None
    earliest_at: datetime | None
    latest_at: datetime | None


@dataclass(frozen=True, slots=True)
class _User:
    user: str


def watermark(now: datetime, delay: timedelta) -> datetime:
    """Return the whole minute before which calls are taken to have arrived."""
    return (now - delay).astimezone(UTC).replace(second=0, microsecond=0)


def read_frame(
    store: Store,
    now: datetime,
    until: datetime,
    *,
    marks: tuple[Mark, ...] = (),
    plumbing: Plumbing | None = None,
) -> Frame:
    """Return all that one evaluation looks at.

    Raises:
        Unavailable: the store did not answer.
    """
    names = Names()
    end = minute_of(until)
    present = read_cells(
        store,
        names,
        "present_cells",
        since=until - timedelta(minutes=PRESENT_MINUTES),
        until=now + _AHEAD,
    )
    (arrivals,) = store.select(
        load_sql(_PACKAGE, "arrivals"),
        _Arrivals,
        since=until - timedelta(days=HISTORY_DAYS),
        until=now,
    )
    return Frame(
        now=now,
        until=end,
        present=present,
        latest_arrival=arrivals.latest_at,
        first_arrival=arrivals.earliest_at,
        history=_history(store, names, slot_of(end), arrivals.first_hour, marks),
        plumbing=plumbing or Plumbing(),
    )


def _history(
    store: Store, names: Names, until: int, first: datetime | None, marks: tuple[Mark, ...]
) -> History:
    low, high = BAND_MINUTES
    ends = [until - day * DAY_MINUTES for day in range(HISTORY_DAYS, 0, -1)]
    today, hour = until - until % DAY_MINUTES, until - until % 60
    band = read_cells(
        store,
        names,
        "band_cells",
        starts=[time_of(end + low) for end in ends],
        slots=(high - low) // SLOT_MINUTES,
    )

    def past(since: int, until: int, minutes: int) -> Cells:
        return read_cells(
            store,
            names,
            "past_cells",
            since=time_of(since),
            until=time_of(until),
            minutes=minutes,
        )

    fives = past(hour, until, SLOT_MINUTES)
    return History(
        until=until,
        first=minute_of(first) if first else None,
        band=band,
        recent=Cells.joined([past(hour - RECENT_HOURS * 60, hour, 60), fives]),
        days=Cells.joined(
            [
                past(today - MONTHS_DAYS * DAY_MINUTES, today, DAY_MINUTES),
                past(today, hour, 60),
                fives,
            ]
        ),
        read_users=lambda users: read_users(store, names, until, ends, users),
        marks=marks,
    )


def read_users(store: Store, names: Names, until: int, ends: list[int], users: Codes) -> Users:
    """Return the past of some users, for the slot that ends at `until`.

    Raises:
        Unavailable: the store did not answer.
    """
    if not len(users):
        return Users(Cells.none(names), frozenset())
    first, last = hours_of(until)
    named = [names.name("user", code) for code in users.tolist()]
    known = store.select(
        load_sql(_PACKAGE, "known_users"),
        _User,
        since=time_of(ends[0]),
        until=time_of(first),
        users=named,
    )
    return Users(
        read_cells(
            store,
            names,
            "user_cells",
            starts=[time_of(hours_of(end)[0]) for end in ends],
            hours=(last - first) // 60,
            users=named,
        ),
        frozenset(names.code("user", row.user) for row in known),
    )


def read_cells(store: Store, names: Names, query: str, **parameters: object) -> Cells:
    """Return the cells that one of our queries gives.

    Raises:
        Unavailable: the store did not answer.
    """
    columns = store.select_columns(load_sql(_PACKAGE, query), **parameters)
    if not columns:
        return Cells.none(names)
    return _of(names, columns)


def _of(names: Names, columns: Mapping[str, Sequence[Any]]) -> Cells:
    return Cells.of(
        names,
        np.asarray(columns["minute"], np.int64),
        {name: names.encode(name, columns[name]) for name in DIMENSIONS if name in columns},
        {name: np.asarray(columns[name]) for name in (*COUNTS, *SUMS) if name in columns},
    )
