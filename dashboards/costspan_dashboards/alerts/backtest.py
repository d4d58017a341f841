"""What rules would have said of stored calls: the live evaluation, over moments that are past.

All calls are taken to have come in time. Of the pipeline itself what the store keeps is looked at
every PLUMBING_EVERY. What is then not known, and what only the serving process knew, LEFT_OUT, is
not replayed.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from costspan_collector.store import Store, load_sql
from costspan_dashboards.alerts.evaluate import Key, is_fresh, judged, step
from costspan_dashboards.alerts.finding import Severity
from costspan_dashboards.alerts.frame import (
    DAY_MINUTES,
    HISTORY_DAYS,
    MONTHS_DAYS,
    PRESENT_MINUTES,
    Archive,
    Cells,
    Codes,
    Frame,
    History,
    Mark,
    Names,
    Plumbing,
    Users,
    minute_of,
    slot_of,
)
from costspan_dashboards.alerts.read import read_cells, read_users, watermark
from costspan_dashboards.alerts.read_plumbing import read_plumbing
from costspan_dashboards.alerts.settings import Alerts
from costspan_dashboards.alerts.silences import marks
from costspan_dashboards.alerts.state import Alert, worse
from costspan_dashboards.queries import extent

_PACKAGE = "costspan_dashboards.alerts"
LEFT_OUT = ("late", "store_unhealthy", "price_book_old", "channel_down")
"""Rules that are not replayed."""
PLUMBING_EVERY = timedelta(minutes=15)

_DAY = timedelta(days=1)
_WEEK = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Episode:
    """An alert that people would have been told of."""

    alert_id: str
    incident: str
    """What is told as one has the same."""
    rule: str
    severity: Severity
    title: str
    firing_since: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class Backtest:
    """What would have been."""

    since: datetime
    until: datetime
    episodes: tuple[Episode, ...]
    messages: int
    pages_a_week: float
    """Of incidents: what is told as one counts once."""
    tickets_a_week: float


@dataclass(frozen=True, slots=True)
class _Arrival:
    at: datetime


def backtest(
    store: Store,
    settings: Alerts,
    since: datetime,
    until: datetime,
    *,
    only: str = "",
    every: timedelta = timedelta(minutes=1),
    progress: Callable[[datetime], None] = lambda _: None,
) -> Backtest:
    """Evaluate one rule, or all, at each moment of a stretch of time that has calls behind it.

    `progress` hears of each moment.

    Raises:
        Unavailable: the store did not answer.
    """
    reach = extent(store)
    if reach and reach.first_started_at < until:  # what was before says nothing of how often
        since = max(since, reach.first_started_at)
    alerts: dict[Key, Alert] = {}
    episodes: dict[str, Episode] = {}
    messages = 0
    for frame in frames(store, settings, since, until, every):
        progress(frame.now)
        after, steps = step(
            judged(frame, settings.limits, alerts, only=only),
            {key: alert for key, alert in alerts.items() if alert.is_kept},
            fresh=is_fresh(frame, settings.timing),
            now=frame.now,
            timing=settings.timing,
            limits=settings.limits,
        )
        alerts = after
        messages += sum(one.tells for one in steps)
        for one in [*after.values(), *(each.alert for each in steps)]:
            if one.firing_since:
                episodes[one.alert_id] = Episode(
                    one.alert_id,
                    one.incident or one.alert_id,
                    one.finding.rule,
                    one.finding.severity,
                    one.finding.title,
                    one.firing_since,
                    one.ended_at,
                )
    weeks = (until - since) / _WEEK
    incidents: dict[str, Severity] = {}
    for one in episodes.values():
        known = incidents.get(one.incident, one.severity)
        incidents[one.incident] = one.severity if worse(one.severity, known) else known
    severities = list(incidents.values())
    return Backtest(
        since=since,
        until=until,
        episodes=tuple(episodes.values()),
        messages=messages,
        pages_a_week=severities.count("page") / weeks,
        tickets_a_week=severities.count("ticket") / weeks,
    )


def frames(
    store: Store, settings: Alerts, since: datetime, until: datetime, every: timedelta
) -> Iterator[Frame]:
    """Give the frame of each moment, as the live evaluation would have had it."""
    names, marked = Names(), tuple(one.as_mark for one in marks(store))
    past = read_cells(
        store,
        names,
        "past_cells",
        since=since - timedelta(days=MONTHS_DAYS),
        until=until,
        minutes=5,
    )
    archive = Archive(past, Cells.none(names))
    first = int(past.minute[0]) // 60 * 60 if len(past) else None
    before = settings.watermark + timedelta(minutes=PRESENT_MINUTES + 1)
    slot, history, plumbing = -1, None, Plumbing()
    now = since
    while now < until:
        end_of_day = min(now + _DAY, until)
        present = read_cells(store, names, "present_cells", since=now - before, until=end_of_day)
        arrivals = [
            one.at
            for one in store.select(
                load_sql(_PACKAGE, "arrival_times"), _Arrival, since=now - _DAY, until=end_of_day
            )
        ]
        while now < end_of_day:
            end = minute_of(watermark(now, settings.watermark))
            if history is None or slot != slot_of(end):
                slot = slot_of(end)
                history = _history(store, archive, slot, first, marked)
            if (now - since) % PLUMBING_EVERY < every:
                plumbing = read_plumbing(store, now)
            arrived = bisect_right(arrivals, now)
            yield Frame(
                now=now,
                until=end,
                present=present.between(end - PRESENT_MINUTES, minute_of(now) + 1),
                latest_arrival=arrivals[arrived - 1] if arrived else None,
                first_arrival=now,
                history=history,
                plumbing=plumbing,
            )
            now += every


def _history(
    store: Store, archive: Archive, slot: int, first: int | None, marked: tuple[Mark, ...]
) -> History:
    found = archive.history(slot, marks=marked)
    ends = [slot - day * DAY_MINUTES for day in range(HISTORY_DAYS, 0, -1)]

    def users(codes: Codes) -> Users:
        return read_users(store, found.names, slot, ends, codes)

    return replace(found, first=first, read_users=users)
