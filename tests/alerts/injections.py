"""What goes wrong in a world: composable changes of its calls, and of how many there are.

Each has a beginning and an end, in minutes from `t0`, and a selector. A `Fault` turns calls into
other calls, more, fewer or none; a `Volume` changes how often something is called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from world import FEATURES, NAMES, Calls, Feature, Floats, Ints, Spans, profile

Change = Callable[[Calls, np.random.Generator], Calls]
FOREVER = 10**9
DAY_MINUTES = 1440


@dataclass(frozen=True)
class Stretch:
    """A stretch of time, in minutes from `t0`."""

    since: float = 0
    until: float = FOREVER

    def touches(self, t0: datetime, since: float, until: float) -> bool:
        """Say whether it overlaps a range of seconds."""
        start = t0.timestamp()
        return start + self.since * 60 < until and since < start + self.until * 60

    def holds(self, t0: datetime, seconds: Floats) -> NDArray[np.bool_]:
        """Say which moments are in it."""
        minute = (seconds - t0.timestamp()) / 60
        return (minute >= self.since) & (minute < self.until)

    def volume(
        self, _t0: datetime, _feature: str, _minutes: Ints, factor: Floats, shift: Ints
    ) -> tuple[Floats, Ints]:
        """Return by how much, and by how many minutes, traffic is changed."""
        return factor, shift

    def apply(self, calls: Calls, _t0: datetime, _day: int, _rng: np.random.Generator) -> Calls:
        """Return the calls of a day with the fault in them."""
        return calls

    def deliver(self, spans: Spans, _t0: datetime) -> Spans:
        """Return the spans of a day as they are delivered."""
        return spans


@dataclass(frozen=True)
class Fault(Stretch):
    """A change of the calls that begin while it lasts and have these values."""

    change: Change = lambda calls, _: calls
    where: Mapping[str, str] = field(default_factory=dict[str, str])
    share: float = 1.0
    """Of those calls."""

    def apply(self, calls: Calls, t0: datetime, _day: int, rng: np.random.Generator) -> Calls:
        """Return the calls of a day with the fault in them."""
        mine = self.holds(t0, calls.started)
        for dimension, value in self.where.items():
            mine &= getattr(calls, dimension) == NAMES.code(dimension, value)
        if self.share < 1:
            mine &= rng.random(len(calls)) < self.share
        if not mine.any():
            return calls
        return Calls.joined([calls.where(~mine), self.change(calls.where(mine), rng)])


@dataclass(frozen=True)
class Ramp(Fault):
    """Calls that become slower and slower until they are `times` as slow, and stay that."""

    minutes: float = 60
    times: float = 1

    def apply(self, calls: Calls, t0: datetime, _day: int, rng: np.random.Generator) -> Calls:
        """Return the calls of a day with the fault in them."""

        def slower(some: Calls, _: np.random.Generator) -> Calls:
            gone = (some.started - t0.timestamp()) / 60 - self.since
            by = 1 + (self.times - 1) * np.clip(gone / self.minutes, 0, 1)
            return replace(some, first_token=some.first_token * by, pace=some.pace * by)

        change = Fault(self.since, self.until, slower, self.where)
        return change.apply(calls, t0, _day, rng)


@dataclass(frozen=True)
class Added(Stretch):
    """Calls that come on top, like those of a feature but for some columns."""

    a_minute: float = 0
    like: str = "chat"
    count: int | None = None
    """How many in all, where that is not left to chance; on one day."""
    input_tokens: float | None = None
    change: Change = lambda calls, _: calls

    def apply(self, calls: Calls, t0: datetime, day: int, rng: np.random.Generator) -> Calls:
        """Return the calls of a day with the further ones."""
        start = t0.timestamp()
        since = max(start + self.since * 60, day * DAY_MINUTES * 60)
        until = min(start + self.until * 60, (day + 1) * DAY_MINUTES * 60)
        if until <= since:
            return calls
        size = self.count or int(rng.poisson((until - since) / 60 * self.a_minute))
        (feature,) = (one for one in FEATURES if one.name == self.like)
        if self.input_tokens:
            feature = replace(feature, input_tokens=self.input_tokens)
        made = self._made(rng, size, feature)
        made = replace(
            made,
            started=np.sort(rng.uniform(since, until, size)),
            call_id=(day * 16 + 15) * 2**32 + rng.integers(0, 2**31) + np.arange(size),
        )
        return Calls.joined([calls, made])

    def _made(self, rng: np.random.Generator, size: int, feature: Feature) -> Calls:
        return self.change(profile(rng, size, feature), rng)


@dataclass(frozen=True)
class Held(Stretch):
    """Nothing arrives before it is over: the store takes no rows, and senders keep them."""

    def apply(self, calls: Calls, t0: datetime, _day: int, rng: np.random.Generator) -> Calls:
        """Return the calls of a day with the fault in them."""
        over = t0.timestamp() + self.until * 60 + rng.uniform(0, 20, len(calls))
        late = np.where(self.holds(t0, calls.started), over - calls.started, 0)
        return replace(calls, delay=np.maximum(calls.delay, late))


@dataclass(frozen=True)
class Lost(Stretch):
    """Nothing arrives while it lasts, and is not sent again."""

    def deliver(self, spans: Spans, t0: datetime) -> Spans:
        """Return the spans of a day that are delivered."""
        return spans.where(np.flatnonzero(~self.holds(t0, spans.arrived)))


@dataclass(frozen=True)
class Replayed(Stretch):
    """What began in the stretch is delivered again, some minutes from `t0`; every third twice."""

    at: float = 0

    def deliver(self, spans: Spans, t0: datetime) -> Spans:
        """Return the spans of a day as they are delivered."""
        again = np.flatnonzero(self.holds(t0, spans.started))
        again = np.concatenate([again, again[::3]])
        kept = np.concatenate([np.arange(len(spans)), again])
        twice = spans.where(kept)
        arrived = twice.arrived.copy()
        arrived[len(spans) :] = t0.timestamp() + self.at * 60 + np.arange(len(again)) / 1000
        return replace(twice, arrived=arrived)


@dataclass(frozen=True)
class Volume(Stretch):
    """So many times the traffic of a feature, or of all; or the same, some minutes later."""

    factor: float = 1.0
    feature: str = ""
    later_minutes: int = 0

    def volume(
        self, t0: datetime, feature: str, minutes: Ints, factor: Floats, shift: Ints
    ) -> tuple[Floats, Ints]:
        """Return by how much, and by how many minutes, traffic is changed."""
        if self.feature and feature != self.feature:
            return factor, shift
        mine = self.holds(t0, minutes.astype(np.float64) * 60)
        return np.where(mine, factor * self.factor, factor), shift + self.later_minutes * mine


def failing(share: float, kind: str, *, again: float | None = None) -> Change:
    """Return the change after which a further share of attempts fails.

    `again` is how likely a further attempt fails after one that failed; as likely as the first
    if it is not given.
    """
    return lambda calls, _: calls.but(
        extra=share,
        extra_kind=NAMES.code("error_kind", kind),
        again=np.nan if again is None else again,
    )


def having(**values: str) -> Change:
    """Return the change that gives calls other values: `having(prompt="v2")`."""
    return lambda calls, _: calls.but(
        **{name: NAMES.code(name, value) for name, value in values.items()}
    )


def times(**factors: float) -> Change:
    """Return the change that multiplies columns: `times(output_tokens=3)`."""

    def multiplied(calls: Calls, _: np.random.Generator) -> Calls:
        columns = {
            name: (getattr(calls, name) * factor).astype(getattr(calls, name).dtype)
            for name, factor in factors.items()
        }
        return replace(calls, **columns)

    return multiplied


def given(**columns: float) -> Change:
    """Return the change that gives columns one value: `given(retries=8)`."""
    return lambda calls, _: calls.but(**columns)


def all_of(*changes: Change) -> Change:
    """Return several changes as one."""

    def changed(calls: Calls, rng: np.random.Generator) -> Calls:
        for change in changes:
            calls = change(calls, rng)
        return calls

    return changed


def gone(calls: Calls, _: np.random.Generator) -> Calls:
    """Leave none of them: they were never made, or nobody was told of them."""
    return calls.where(np.zeros(len(calls), np.bool_))


def only(count: int, *, failed: int, kind: str) -> Change:
    """Return the change that leaves so many calls, some of which fail for good."""

    def left(calls: Calls, _: np.random.Generator) -> Calls:
        few = calls.where(np.linspace(0, len(calls) - 1, count).astype(np.int64))
        code, place = NAMES.code("error_kind", kind), np.arange(count)
        return replace(
            few,
            fails=np.zeros(count),
            extra=np.where(place < failed, 1.0, 0.0),
            extra_kind=np.full(count, code),
        )

    return left


def arriving(seconds: float) -> Change:
    """Return the change that makes calls arrive so much later."""
    return lambda calls, _: replace(calls, delay=calls.delay + seconds)
