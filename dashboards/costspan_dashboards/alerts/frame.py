"""What the rules look at: sums of calls in cells of time and kind, and nothing else.

Whoever makes a frame (`read.py` from the store, a simulation from its own calls) makes the same
cells, so rules, backtest and tests share one evaluation. Time is whole minutes since 1970, UTC.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from typing import Any, Literal, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
Kept = TypeVar("Kept")

DIMENSIONS: tuple[str, ...] = (
    "environment",
    "service",
    "team",
    "project",
    "key",
    "feature",
    "model",
    "prompt",
    "user",
    "error_kind",
)
"""`model` is what answered, or what was asked for where nothing did; `error_kind` is one of
ERROR_KINDS, or empty for what worked; `user` is told in the present and in `History.users` only."""

ERROR_KINDS: tuple[str, ...] = (
    "rate_limit",
    "server_error",
    "timeout",
    "connection",
    "invalid_request",
    "authentication",
    "other",
)

COUNTS: tuple[str, ...] = (
    "calls",
    "attempts",
    "input_tokens",
    "cached_tokens",
    "output_tokens",
    "cost_pico",
    "input_cost_pico",
    "cached_cost_pico",
    "output_cost_pico",
    "priced_calls",
    "unpriced_calls",
    "timed_calls",
    "streamed_calls",
    "paced_calls",
    "late_calls",
    "ahead_calls",
)
"""Whole numbers of a cell. A call is in the cell of how it ended; each of its `attempts` is in the
cell of how that attempt ended. So a call that worked at the second try after a 429 is one call and
one attempt of the kind '', and one attempt of `rate_limit`. All else stands with the call.
`cost_pico` is known cost in pico-dollars; three of its parts, uncached input, cached input and
output, stand beside it, the rest is other meters. A failed call is not billed and lacks no price.
`timed_calls` worked at the first attempt; `streamed_calls` of these told their first chunk;
`paced_calls` their output tokens too. `late_calls` arrived more than LATE_SECONDS after their end,
`ahead_calls` ended more than AHEAD_SECONDS after they arrived, or took no time."""

SUMS: tuple[str, ...] = (
    "log_duration",
    "log_duration_squared",
    "log_first_chunk",
    "log_first_chunk_squared",
    "log_pace",
    "log_pace_squared",
    "cost_usd_squared",
)
"""Sums of the natural logarithms (of microseconds, at least one) over the calls that tell them. A
pace is the microseconds of an output token: (duration - first chunk) / output tokens."""

LATE_SECONDS = 90
AHEAD_SECONDS = 60

SLOT_MINUTES = 5
BAND_MINUTES = (-90, 30)
"""The stretch of past days that `History.band` holds, around the end of the slot."""
PRESENT_MINUTES = 60
HISTORY_DAYS = 28
RECENT_HOURS = 72
MONTHS_DAYS = 70

_COUNT = {name: place for place, name in enumerate(COUNTS)}
_SUM = {name: place for place, name in enumerate(SUMS)}
_DIMENSION = {name: place for place, name in enumerate(DIMENSIONS)}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MINUTE = timedelta(minutes=1)
_DENSE = 4
"""Times as many keys as rows may be looked up in a table; more are sorted."""
DAY_MINUTES = 1440


def minute_of(at: datetime) -> int:
    """Return the whole minutes from 1970 to `at`."""
    return (at - _EPOCH) // _MINUTE


def time_of(minute: int) -> datetime:
    """Return when a minute begins."""
    return _EPOCH + int(minute) * _MINUTE


class Names:
    """The values of each dimension, as numbers. It only grows, so a number keeps its meaning."""

    def __init__(self) -> None:
        self._names: list[list[str]] = [[""] for _ in DIMENSIONS]
        self._codes: list[dict[str, int]] = [{"": 0} for _ in DIMENSIONS]

    def code(self, dimension: str, value: str) -> int:
        """Return the number of a value; it gets one if it has none."""
        place = _DIMENSION[dimension]
        codes = self._codes[place]
        if value not in codes:
            codes[value] = len(self._names[place])
            self._names[place].append(str(value))
        return codes[value]

    def known(self, dimension: str, values: Iterable[str]) -> frozenset[int]:
        """Return the numbers of those values that have one."""
        codes = self._codes[_DIMENSION[dimension]]
        return frozenset(codes[value] for value in values if value in codes)

    def name(self, dimension: str, code: int) -> str:
        """Return the value that has a number."""
        return self._names[_DIMENSION[dimension]][code]

    def encode(self, dimension: str, values: Sequence[str]) -> Codes:
        """Return the numbers of many values."""
        known = {value: self.code(dimension, value) for value in dict.fromkeys(values)}
        return np.fromiter((known[value] for value in values), np.int64, len(values))

    def size(self, dimension: str) -> int:
        """Return how many values there are, the empty one included."""
        return len(self._names[_DIMENSION[dimension]])


@dataclass(frozen=True, eq=False)
class Cells:
    """Sums by time and kind of call, in the order of time: one column is one cell."""

    names: Names
    minute: Ints
    """When the cell begins."""
    codes: Codes
    """A row for each of DIMENSIONS."""
    counts: Ints
    """A row for each of COUNTS."""
    sums: Floats
    """A row for each of SUMS."""

    def __len__(self) -> int:
        return len(self.minute)

    @classmethod
    def of(
        cls,
        names: Names,
        minute: Ints,
        kinds: Mapping[str, Codes],
        figures: Mapping[str, NDArray[np.generic]],
    ) -> Cells:
        """Make cells of columns by name, in any order; what is not given is empty or zero."""
        size = len(minute)
        order = np.argsort(minute, kind="stable")
        codes = np.zeros((len(DIMENSIONS), size), np.int64)
        counts = np.zeros((len(COUNTS), size), np.int64)
        sums = np.zeros((len(SUMS), size), np.float64)
        for name, column in kinds.items():
            codes[_DIMENSION[name]] = column[order]
        for name, column in figures.items():
            if name in _COUNT:
                counts[_COUNT[name]] = column[order]
            else:
                sums[_SUM[name]] = column[order]
        return cls(names, minute[order].astype(np.int64), codes, counts, sums)

    @classmethod
    def none(cls, names: Names) -> Cells:
        """Return no cells."""
        return cls.of(names, np.zeros(0, np.int64), {}, {})

    @classmethod
    def joined(cls, parts: Sequence[Cells]) -> Cells:
        """Return the cells of several, which share one `names`, in the order of time."""
        parts = [part for part in parts if len(part)] or parts[:1]
        if len(parts) == 1:
            return parts[0]
        joined = cls(
            parts[0].names,
            np.concatenate([part.minute for part in parts]),
            np.concatenate([part.codes for part in parts], axis=1),
            np.concatenate([part.counts for part in parts], axis=1),
            np.concatenate([part.sums for part in parts], axis=1),
        )
        if (np.diff(joined.minute) >= 0).all():
            return joined
        return joined.where(np.argsort(joined.minute, kind="stable"))

    def code(self, dimension: str) -> Codes:
        """Return the values of one dimension, as numbers."""
        return self.codes[_DIMENSION[dimension]]

    def count(self, name: str) -> Ints:
        """Return one of COUNTS."""
        return self.counts[_COUNT[name]]

    def sum(self, name: str) -> Floats:
        """Return one of SUMS."""
        return self.sums[_SUM[name]]

    def where(self, chosen: NDArray[np.bool_] | Ints) -> Cells:
        """Return the cells that a mask or an index in the order of time chooses."""
        index = np.flatnonzero(chosen) if chosen.dtype == np.bool_ else chosen
        return Cells(
            self.names,
            self.minute[index],
            np.take(self.codes, index, axis=1),
            np.take(self.counts, index, axis=1),
            np.take(self.sums, index, axis=1),
        )

    def between(self, since: int, until: int) -> Cells:
        """Return the cells that begin in a half-open range of minutes; nothing is copied."""
        first, last = (int(place) for place in np.searchsorted(self.minute, (since, until)))
        return Cells(
            self.names,
            self.minute[first:last],
            self.codes[:, first:last],
            self.counts[:, first:last],
            self.sums[:, first:last],
        )

    def coarser(self, minutes: int, *, without: Iterable[str] = ()) -> Cells:
        """Return the cells summed up by longer stretches of time, some dimensions left out."""
        dropped = set(without)
        minute = self.minute - self.minute % minutes
        kept = [
            np.zeros_like(row) if name in dropped else row
            for name, row in zip(DIMENSIONS, self.codes, strict=True)
        ]
        if not len(self):
            return self
        _, group = groups([minute, *kept])
        order = np.argsort(group, kind="stable")
        first = firsts(group[order])
        one = order[first]
        return Cells(
            self.names,
            minute[one],
            np.stack([row[one] for row in kept]),
            np.add.reduceat(np.take(self.counts, order, axis=1), first, axis=1),
            np.add.reduceat(np.take(self.sums, order, axis=1), first, axis=1),
        )


def groups(columns: Sequence[Ints]) -> tuple[Ints, Ints]:
    """Return the index of one member of each group of equal rows, and the group of each row.

    Groups are in the order of their rows' values, the first column first.
    """
    rows = len(columns[0])
    key = np.zeros(rows, np.int64)
    width = 1
    for column in columns if rows else ():
        low, high = int(column.min()), int(column.max())
        if low == high:
            continue
        size = high - low + 1
        if width * size >= 2**62:
            key = np.unique(key, return_inverse=True)[1].astype(np.int64)
            width = int(key.max()) + 1
        key = key * size + (column - low)
        width *= size
    if width > _DENSE * rows:
        _, member, group = np.unique(key, return_index=True, return_inverse=True)
        return member.astype(np.int64), group.astype(np.int64)
    seen = np.zeros(width, np.int64)
    seen[key] = 1
    group = (np.cumsum(seen) - 1)[key]
    member = np.empty(int(seen.sum()), np.int64)
    member[group[::-1]] = np.arange(rows)[::-1]  # the first of each
    return member, group


def firsts(ordered: Ints) -> Ints:
    """Return where each new value of an ordered row begins."""
    begins = np.ones(len(ordered), np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=begins[1:])
    return np.flatnonzero(begins)


def tally(codes: Codes, weights: NDArray[Any], size: int = 0) -> Floats:
    """Return the sum of the weights of each code."""
    return np.bincount(codes, weights, size).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Mark:
    """What an operator said of a stretch of time, of all calls or of those with one value.

    `left_out` is no past to compare with (an incident, a holiday); from the beginning of a
    `new_level` on, things are as they should be, and what was before is no measure any more.
    """

    kind: Literal["left_out", "new_level"]
    since: int
    until: int | None = None
    dimension: str = ""
    value: str = ""


@dataclass(frozen=True, eq=False)
class Users:
    """The past of some users."""

    cells: Cells
    """By the hour and user: the two hours of the day that the present hour touches, on each of
    the HISTORY_DAYS before."""
    known: frozenset[int]
    """Who of them called at all, within HISTORY_DAYS and before the present hour."""


class Keeping:
    """What keeps what rules work out on it."""

    @cached_property
    def _kept(self) -> dict[tuple[object, ...], object]:
        return {}

    def kept(self, key: tuple[object, ...], make: Callable[[], Kept]) -> Kept:
        """Return what `make` returns, made once.

        A key names whatever the value depends on besides this, in the first place its kind.
        """
        if key not in self._kept:
            self._kept[key] = make()
        return cast("Kept", self._kept[key])


@dataclass(frozen=True, eq=False)
class History(Keeping):
    """The past as it is compared with, for all evaluations of one five-minute slot."""

    until: int
    """The whole five minutes up to which calls are here."""
    first: int | None
    """The minute of the first call ever; None where there was none."""
    band: Cells
    """By five minutes: BAND_MINUTES around `until`, on each of the HISTORY_DAYS before."""
    recent: Cells
    """By the hour, and finer in the hour that goes on: the last RECENT_HOURS."""
    days: Cells
    """By the day, and finer of today: the last MONTHS_DAYS up to `until`."""
    read_users: Callable[[Codes], Users]
    """Reads the past of some users; asked only where one of them spends much."""
    marks: tuple[Mark, ...] = ()

    @property
    def names(self) -> Names:
        """What the numbers in the cells mean."""
        return self.band.names

    @property
    def hours(self) -> int:
        """How many hours of history there are."""
        return 0 if self.first is None else max(0, (self.until - self.first) // 60)


@dataclass(frozen=True, slots=True)
class JobHealth:
    """How a scheduled job has gone."""

    job: str
    last_started_at: datetime | None
    last_ok_at: datetime | None
    expected_every: timedelta
    failures: int
    """In a row, up to now."""
    detail: str
    """Of the last run."""


@dataclass(frozen=True, slots=True)
class Drift:
    """What the bill and our estimate of a day differ by, where the day was compared."""

    day: datetime
    final: bool
    billed_usd: Decimal
    estimated_usd: Decimal
    explained: bool
    """Whether reconciliation names a cause that asks for nothing."""


@dataclass(frozen=True, slots=True)
class Plumbing:
    """What is known of the pipeline itself."""

    refused_spans: int = 0
    """In the last hour, for good; the sender was told."""
    accepted_spans: int = 0
    lost_spans: int = 0
    """In the last hour, given up by exporters that said so."""
    quarantined_files: int = 0
    """What the store cannot take, set aside on the disks of collectors."""
    store_failing_since: datetime | None = None
    jobs: tuple[JobHealth, ...] = ()
    drifts: tuple[Drift, ...] = ()
    billing_failing_since: datetime | None = None
    billing_reason: str = ""
    price_book: str = ""
    price_book_review_at: datetime | None = None
    """From then on a price of a model in use is no longer promised."""
    price_book_models: tuple[str, ...] = ()
    """Those models."""


@dataclass(frozen=True, eq=False)
class Frame(Keeping):
    """All that one evaluation looks at."""

    now: datetime
    until: int
    """The watermark: calls that began before this minute are taken to have arrived."""
    present: Cells
    """By the minute, in every dimension: the last PRESENT_MINUTES before `until`, and what has
    come of the minutes since."""
    latest_arrival: datetime | None
    """When a call arrived at last, as far back as HISTORY_DAYS."""
    history: History
    plumbing: Plumbing = field(default_factory=Plumbing)
    first_arrival: datetime | None = None
    """When the first call arrived: what began before is a past that was brought along, not late."""

    @classmethod
    def of_nothing(cls, now: datetime, plumbing: Plumbing) -> Frame:
        """Return the frame of a moment of whose calls nothing can be read."""
        none, until = Cells.none(Names()), minute_of(now)
        history = History(until, None, none, none, none, lambda _: Users(none, frozenset()))
        return cls(now, until, none, None, history, plumbing)

    @property
    def names(self) -> Names:
        """What the numbers in the cells mean."""
        return self.present.names

    @property
    def at(self) -> datetime:
        """The watermark as a time."""
        return time_of(self.until)

    def window(self, minutes: int) -> Cells:
        """Return the present's last minutes before the watermark."""
        return self.kept(
            ("window", minutes), lambda: self.present.between(self.until - minutes, self.until)
        )


def slot_of(until: int) -> int:
    """Return the end of the last whole five minutes, for which a `History` is made."""
    return until - until % SLOT_MINUTES


class Archive:
    """All cells of a stretch of time, from which the history of any slot of it is cut.

    `five_minutes` are cells of five minutes without the user, `by_user` cells of an hour with it.
    """

    def __init__(self, five_minutes: Cells, by_user: Cells) -> None:
        self._fives = five_minutes
        self._hours = five_minutes.coarser(60)
        self._days = five_minutes.coarser(DAY_MINUTES)
        self._by_user = by_user
        self._first = int(five_minutes.minute[0]) if len(five_minutes) else None

    def history(self, until: int, *, marks: tuple[Mark, ...] = ()) -> History:
        """Return the history of the slot that ends at `until`."""
        low, high = BAND_MINUTES
        hour, today = until - until % 60, until - until % DAY_MINUTES
        fives = self._fives.between(hour, until)
        return History(
            until=until,
            first=self._first,
            band=Cells.joined([self._fives.between(end + low, end + high) for end in _ends(until)]),
            recent=Cells.joined([self._hours.between(hour - RECENT_HOURS * 60, hour), fives]),
            days=Cells.joined(
                [
                    self._days.between(today - MONTHS_DAYS * DAY_MINUTES, today),
                    self._hours.between(today, hour),
                    fives,
                ]
            ),
            read_users=lambda users: self._users(users, until),
            marks=marks,
        )

    def _users(self, users: Codes, until: int) -> Users:
        hours = [self._by_user.between(*hours_of(end)) for end in _ends(until)]
        cells = Cells.joined([some.where(np.isin(some.code("user"), users)) for some in hours])
        first, _ = hours_of(until)
        before = self._by_user.between(until - HISTORY_DAYS * DAY_MINUTES, first)
        known = users[np.isin(users, before.code("user"))]
        return Users(cells, frozenset(known.tolist()))


def hours_of(end: int) -> tuple[int, int]:
    """Return the range of the whole hours that the PRESENT_MINUTES before `end` touch."""
    return (end - PRESENT_MINUTES) // 60 * 60, -(-end // 60) * 60


def _ends(until: int) -> list[int]:
    return [until - day * DAY_MINUTES for day in range(HISTORY_DAYS, 0, -1)]
