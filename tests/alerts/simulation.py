"""The product's alert loop over a world, minute by minute, with a notifier that writes down.

Rules, state machine and incidents are the product's own; frames are made from spans as they arrive.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import numpy as np
from world import DAY_SECONDS, NAMES, Floats, Ints, World, archived

from costspan_dashboards.alerts.evaluate import NOBODY, Key, People, evaluate
from costspan_dashboards.alerts.finding import Finding
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
    Plumbing,
    Users,
    hours_of,
    minute_of,
    slot_of,
)
from costspan_dashboards.alerts.incidents import members
from costspan_dashboards.alerts.limits import Limits
from costspan_dashboards.alerts.read import watermark
from costspan_dashboards.alerts.settings import Alerts
from costspan_dashboards.alerts.state import Alert, Timing, Transition

_MINUTE = timedelta(minutes=1)
_AHEAD_MINUTES = 60


class Frames:
    """Frames of a world at any moment, the moments in their order."""

    def __init__(self, world: World, delay: timedelta, *, odd_arrivals: bool = False) -> None:
        self._world = world
        self._delay = delay
        self._odd = odd_arrivals
        """Whether the past must be made anew for each slot, since much of it arrives late."""
        self._days: dict[int, tuple[Cells, Cells]] = {}
        self._near: dict[int, tuple[Cells, Floats]] = {}
        self._users_of: dict[int, Ints] = {}
        self._day = -1
        self._archive: Archive | None = None
        self._history: History | None = None
        self._hours: dict[tuple[int, int], Cells] = {}
        """Of past days the hours that the present touches, in every user."""

    def at(self, now: datetime, marks: tuple[Mark, ...], plumbing: Plumbing) -> Frame:
        """Return what an evaluation at a moment looks at."""
        until = minute_of(watermark(now, self._delay))
        self.turn_to(now)
        if self._history is None or self._history.until != slot_of(until):
            self._history = self._past(slot_of(until), now, marks)
        seconds = now.timestamp()
        near = [self._near[day] for day in sorted(self._near)]
        parts = [_arrived(cells, arrived, until, seconds) for cells, arrived in near]
        latest = [arrived.max(initial=0, where=arrived <= seconds) for _, arrived in near]
        return Frame(
            now=now,
            until=until,
            present=Cells.joined(parts),
            latest_arrival=datetime.fromtimestamp(max(latest), UTC) if max(latest) else None,
            history=self._history,
            plumbing=plumbing,
        )

    def turn_to(self, now: datetime) -> None:
        """Let the world make the day of a moment, and what is kept of the days before."""
        day = int(now.timestamp() // DAY_SECONDS)
        if day == self._day:
            return
        self._day, self._history = day, None
        for one in (day - 1, day):
            if one not in self._near:
                cells, arrived = self._world.spans(one).once().cells()
                self._near[one] = cells, arrived
                self._days[one] = archived(cells)
        self._near = {one: self._near[one] for one in (day - 1, day)}
        for one in range(day - MONTHS_DAYS, day):
            if one not in self._days and (one + 1) * DAY_SECONDS > self._world.first:
                self._days[one] = self._world.archived(one)
        self._days.pop(day - MONTHS_DAYS - 1, None)
        self._archive, self._hours = self._made(), {}

    def _made(self) -> Archive:
        fives = [self._days[day][0] for day in sorted(self._days)]
        return Archive(Cells.joined(fives), Cells.none(NAMES))

    def _past(self, slot: int, now: datetime, marks: tuple[Mark, ...]) -> History:
        if self._odd:
            for day, (cells, arrived) in self._near.items():
                self._days[day] = archived(cells.where(arrived <= now.timestamp()))
            self._archive, self._hours = self._made(), {}
        assert self._archive is not None
        found = self._archive.history(slot, marks=marks)
        known: dict[bytes, Users] = {}

        def read_users(users: Codes) -> Users:
            asked = users.tobytes()
            if asked not in known:
                known[asked] = self._users(users, slot)
            return known[asked]

        return replace(found, read_users=read_users)

    def _users(self, users: Codes, slot: int) -> Users:
        def of(since: int, until: int) -> list[Cells]:
            days = range(since // DAY_MINUTES, (until - 1) // DAY_MINUTES + 1)
            return [self._days[day][1].between(since, until) for day in days if day in self._days]

        hours = hours_of(slot)
        if hours not in self._hours:
            ends = [slot - day * DAY_MINUTES for day in range(HISTORY_DAYS, 0, -1)]
            past = [cells for end in ends for cells in of(*hours_of(end))]
            self._hours = {hours: Cells.joined([Cells.none(NAMES), *past])}
        everybody = self._hours[hours]
        asked = np.zeros(NAMES.size("user"), np.bool_)
        asked[users] = True
        called = np.zeros_like(asked)
        for callers in self._callers(slot - HISTORY_DAYS * DAY_MINUTES, hours[0]):
            called[callers] = True
        known = np.flatnonzero(asked & called)
        return Users(everybody.where(asked[everybody.code("user")]), frozenset(known.tolist()))

    def _callers(self, since: int, until: int) -> Iterator[Ints]:
        """Give the users who called in a range of minutes, day by day."""
        for day in range(since // DAY_MINUTES, (until - 1) // DAY_MINUTES + 1):
            if day not in self._days:
                continue
            begin, end = day * DAY_MINUTES, (day + 1) * DAY_MINUTES
            cells = self._days[day][1]
            if since <= begin and end <= until:
                if day not in self._users_of:
                    self._users_of[day] = np.unique(cells.code("user"))
                yield self._users_of[day]
            else:
                yield cells.between(since, until).code("user")


def _arrived(cells: Cells, arrived: Floats, until: int, seconds: float) -> Cells:
    ends = until - PRESENT_MINUTES, until + _AHEAD_MINUTES
    first, last = (int(place) for place in np.searchsorted(cells.minute, ends))
    return cells.between(*ends).where(arrived[first:last] <= seconds)


@dataclass(frozen=True, slots=True)
class Told:
    """A message that reached the notifier."""

    at: datetime
    alert: Alert
    reason: str
    fellows: tuple[Alert, ...]

    @property
    def names(self) -> tuple[Alert, ...]:
        """Every alert that it tells of."""
        return (self.alert, *self.fellows)


@dataclass
class Log:
    """What became of a simulation."""

    told: list[Told] = field(default_factory=list[Told])
    steps: list[tuple[datetime, Transition]] = field(
        default_factory=list[tuple[datetime, Transition]]
    )
    seen: list[tuple[datetime, dict[Key, Alert]]] = field(
        default_factory=list[tuple[datetime, dict[Key, Alert]]]
    )
    """The alerts that went on after each evaluation that had any."""
    frames: list[Frame] = field(default_factory=list[Frame])
    """The last one."""
    evaluations: int = 0
    cpu_seconds: float = 0.0
    """Of the evaluations, without the making of the world."""

    def episodes(self, since: datetime) -> dict[str, Alert]:
        """Return by id the alerts that fired from a moment on, as they were last."""
        found: dict[str, Alert] = {}
        for _, step in self.steps:
            alert = step.alert
            if alert.firing_since and alert.firing_since >= since:
                found[alert.alert_id] = alert
        for _, alerts in self.seen:
            for alert in alerts.values():
                if alert.alert_id in found and alert.sequence >= found[alert.alert_id].sequence:
                    found[alert.alert_id] = alert
        return found


@dataclass
class Simulation:
    """An installation that watches a world."""

    world: World
    limits: Limits = field(default_factory=Limits)
    timing: Timing = Alerts().timing
    delay: timedelta = Alerts().watermark
    plumbing: Callable[[datetime], Plumbing] = lambda _: Plumbing()
    people: Callable[[datetime, dict[Key, Alert]], People] = lambda _, __: NOBODY
    marks: Callable[[datetime], tuple[Mark, ...]] = lambda _: ()
    alive: Callable[[datetime], bool] = lambda _: True
    odd_arrivals: bool = False

    def run(self, since: datetime, until: datetime, *, every: timedelta = _MINUTE) -> Log:
        """Evaluate from `since` to `until`."""
        frames = Frames(self.world, self.delay, odd_arrivals=self.odd_arrivals)
        log, alerts = Log(), dict[Key, Alert]()
        now = since
        while now <= until:
            if self.alive(now):
                frames.turn_to(now)
                began = time.process_time()
                frame = frames.at(now, self.marks(now), self.plumbing(now))
                people = self.people(now, alerts)
                after, steps = evaluate(self.limits, frame, alerts, self.timing, people)
                log.cpu_seconds += time.process_time() - began
                log.evaluations += 1
                log.steps += [(now, step) for step in steps]
                log.told += [_told(now, step, after) for step in steps if step.tells]
                if after:
                    log.seen.append((now, after))
                log.frames = [frame]
                alerts = {key: alert for key, alert in after.items() if alert.is_kept}
            now += every
        return log


def _told(now: datetime, step: Transition, after: dict[Key, Alert]) -> Told:
    return Told(now, step.alert, step.reason, tuple(members(step.alert, after.values())))


def text_of(finding: Finding) -> str:
    """Return all the words of a finding."""
    return "\n".join((finding.title, *finding.facts))
