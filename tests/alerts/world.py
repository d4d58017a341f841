"""A world of calls with known laws: section 2 of the scenarios, drawn day by day with numpy.

`World(seed, start, history_days)` makes the same calls for the same seed, whatever is asked first.
What goes wrong in it is in `injections.py`. Times are seconds from 1970, UTC.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from costspan_dashboards.alerts.frame import (
    COUNTS,
    DAY_MINUTES,
    DIMENSIONS,
    SUMS,
    Cells,
    Names,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

PICO_PER_MILLIONTH = 10**6
DAY_SECONDS = 86400
SERVICE, ENVIRONMENT, PROMPT = "shop", "production", "v1"
TIMEOUT_SECONDS, REFUSAL_SECONDS = 15.0, 0.4
RETRY_WAITS_SECONDS = (0.5, 2.0)


@dataclass(frozen=True, slots=True)
class Feature:
    """How often a feature is called at the peak, and what its calls are like."""

    name: str
    peak: float
    """Calls a minute."""
    models: tuple[str, ...]
    """Each takes an equal part."""
    input_tokens: float
    """The median."""
    output_tokens: float = 250
    caches: bool = False


FEATURES = (
    Feature("chat", 40, ("small",), 900, caches=True),
    Feature("search", 25, ("embed", "small"), 300),
    Feature("summarize", 15, ("small",), 4000),
    Feature("review", 10, ("large",), 6000, caches=True),
    Feature("classify", 5, ("small",), 250),
    Feature("translate", 2, ("small",), 500),
    Feature("agent", 0.5, ("large",), 9000, 900, caches=True),
    Feature("nightly_report", 0.1, ("large",), 12000),
)
PRICES = {  # dollars of a million tokens: uncached input, cached input, output
    "small": (0.2, 0.05, 0.8),
    "large": (3.0, 0.75, 12.0),
    "embed": (0.05, 0.05, 0.0),
    "reason": (10.0, 10.0, 40.0),
}
USERS = tuple(f"u{place:03}" for place in range(300))
ACCOUNTS = tuple(f"account-{place}" for place in range(3))
KINDS = ("rate_limit", "server_error", "timeout", "invalid_request")
KIND_SHARES = (0.45, 0.30, 0.15, 0.10)

NAMES = Names()
"""Of all worlds: a number keeps its meaning."""
for _dimension, _values in (
    ("feature", [feature.name for feature in FEATURES]),
    ("model", list(PRICES)),
    ("user", [*USERS, *ACCOUNTS]),
    ("service", [SERVICE]),
    ("environment", [ENVIRONMENT]),
    ("prompt", [PROMPT]),
    ("error_kind", list(KINDS)),
):
    NAMES.encode(_dimension, _values)

_KIND_CODES = NAMES.encode("error_kind", KINDS)
_TIMEOUT, _INVALID = (
    NAMES.code("error_kind", "timeout"),
    NAMES.code("error_kind", "invalid_request"),
)
_EPOCH_DAY = 20_500
"""2026-02-16, a Monday: drift and weather begin there."""
_DRIFT_DAYS = 400
_FIVES = DAY_MINUTES // 5
_ZIPF = np.cumsum(1 / np.arange(1, len(USERS) + 1) ** 1.1)


@dataclass(frozen=True, eq=False)
class Calls:
    """Calls that will be made: what they ask for, and how likely they fail. A row is a call."""

    call_id: Ints
    started: Floats
    feature: Ints
    model: Ints
    prompt: Ints
    user: Ints
    service: Ints
    environment: Ints
    input_tokens: Ints
    cached_share: Floats
    output_tokens: Ints
    first_token: Floats
    """Seconds."""
    pace: Floats
    """Seconds of an output token."""
    fails: Floats
    """The share of attempts that fails anyway, of the usual kinds."""
    extra: Floats
    """The share of attempts that fails besides."""
    extra_kind: Ints
    again: Floats
    """How likely an attempt fails after one of the share besides; NaN where that says nothing."""
    retries: Ints
    waits: NDArray[np.bool_]
    """Whether it waits before it tries again."""
    delay: Floats
    """Seconds from the end to the arrival."""
    ahead: Floats
    """Seconds by which the clock of its host is ahead."""
    price: Floats
    """Times the list price."""

    def __len__(self) -> int:
        return len(self.started)

    def where(self, chosen: NDArray[np.bool_] | Ints) -> Calls:
        """Return some of them."""
        return Calls(*(getattr(self, one.name)[chosen] for one in fields(self)))

    def but(self, **columns: Any) -> Calls:
        """Return them with other columns; one value stands for all."""
        full = {
            name: np.broadcast_to(np.asarray(value, getattr(self, name).dtype), len(self)).copy()
            for name, value in columns.items()
        }
        return replace(self, **full)

    @classmethod
    def joined(cls, parts: Sequence[Calls]) -> Calls:
        """Return all of several."""
        return cls(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)))


@dataclass(frozen=True, eq=False)
class Spans:
    """Calls that have ended, as the product is told of them."""

    calls: Calls
    started: Floats
    """By the clock of the host."""
    duration: Floats
    attempts: Ints
    kind: Ints
    """Of the error that it ended with; 0 for none."""
    arrived: Floats
    failed_of: Ints
    """A row for each attempt that failed and was tried again: the call."""
    failed_kind: Ints

    def __len__(self) -> int:
        return len(self.started)

    def once(self) -> Spans:
        """Return them as the store keeps them: a call that is delivered again counts once."""
        order = np.argsort(self.arrived, kind="stable")
        _, first = np.unique(self.calls.call_id[order], return_index=True)
        return self if len(first) == len(self) else self.where(np.sort(order[first]))

    def where(self, kept: Ints) -> Spans:
        """Return some of them, in ascending order, and any of them again after that."""
        place = np.full(len(self), -1)
        place[kept[::-1]] = np.arange(len(kept))[::-1]  # the first of each
        failed = place[self.failed_of]
        return Spans(
            self.calls.where(kept),
            self.started[kept],
            self.duration[kept],
            self.attempts[kept],
            self.kind[kept],
            self.arrived[kept],
            failed[failed >= 0],
            self.failed_kind[failed >= 0],
        )

    def cells(self) -> tuple[Cells, Floats]:
        """Return a cell of each call and of each attempt tried again, and when each arrived."""
        calls, ok = self.calls, self.kind == 0
        cached = np.where(ok, calls.input_tokens * calls.cached_share, 0).astype(np.int64)
        uncached = calls.input_tokens * ok - cached
        output = calls.output_tokens * ok
        parts = [
            np.rint(tokens * prices * PICO_PER_MILLIONTH).astype(np.int64)
            for tokens, prices in zip((uncached, cached, output), self._prices(), strict=True)
        ]
        cost = sum(parts[1:], parts[0])
        priced = ok & np.isin(calls.model, NAMES.encode("model", list(PRICES)))
        first = ok & (self.attempts == 1)
        paced = first & (output > 0)
        log_duration = np.log(np.maximum(self.duration * 1e6, 1)) * first
        log_first = np.log(np.maximum(calls.first_token * 1e6, 1)) * first
        log_pace = np.log(np.maximum(calls.pace * 1e6, 1)) * paced
        ended = self.started + self.duration
        figures: dict[str, NDArray[Any]] = {
            "calls": np.ones(len(self), np.int64),
            "attempts": np.ones(len(self), np.int64),
            "input_tokens": calls.input_tokens * ok,
            "cached_tokens": cached,
            "output_tokens": output,
            "cost_pico": cost,
            "input_cost_pico": parts[0],
            "cached_cost_pico": parts[1],
            "output_cost_pico": parts[2],
            "priced_calls": priced,
            "unpriced_calls": ok & ~priced,
            "timed_calls": first,
            "streamed_calls": first,
            "paced_calls": paced,
            "late_calls": self.arrived > ended + 90,
            "ahead_calls": ended > self.arrived + 60,
            "log_duration": log_duration,
            "log_duration_squared": log_duration**2,
            "log_first_chunk": log_first,
            "log_first_chunk_squared": log_first**2,
            "log_pace": log_pace,
            "log_pace_squared": log_pace**2,
            "cost_usd_squared": (cost / 1e12) ** 2,
        }
        whose = np.concatenate([np.arange(len(self)), self.failed_of])
        minute = (self.started // 60).astype(np.int64)[whose]
        order = np.argsort(minute, kind="stable")
        codes = np.zeros((len(DIMENSIONS), len(whose)), np.int64)
        for place, name in enumerate(DIMENSIONS):
            if hasattr(calls, name):
                codes[place] = getattr(calls, name)[whose]
        codes[-1] = np.concatenate([self.kind, self.failed_kind])
        more = np.zeros(len(self.failed_of))
        counts = np.stack([np.concatenate([figures[name], more]) for name in COUNTS])
        counts[COUNTS.index("attempts"), len(self) :] = 1
        sums = np.stack([np.concatenate([figures[name], more]) for name in SUMS])
        cells = Cells(
            NAMES,
            minute[order],
            np.take(codes, order, axis=1),
            np.rint(np.take(counts, order, axis=1)).astype(np.int64),
            np.take(sums, order, axis=1),
        )
        return cells, self.arrived[whose][order]

    def _prices(self) -> tuple[Floats, Floats, Floats]:
        table = np.zeros((3, NAMES.size("model")))
        for model, prices in PRICES.items():
            table[:, NAMES.code("model", model)] = prices
        found = table[:, self.calls.model] * self.calls.price
        return found[0], found[1], found[2]


class World:
    """Calls from `history_days` before `start` on, day by day (days since 1970)."""

    def __init__(
        self,
        seed: int,
        start: datetime,
        history_days: float = 28,
        faults: Sequence[Any] = (),
    ) -> None:
        self.seed = seed
        self.start = start
        self.first = start.timestamp() - history_days * DAY_SECONDS
        self.faults = faults

    def touched(self, day: int) -> bool:
        """Say whether a day is other than in a clean world."""
        since, until = day * DAY_SECONDS, (day + 1) * DAY_SECONDS
        return since < self.first or any(
            fault.touches(self.start, since, until) for fault in self.faults
        )

    def calls(self, day: int) -> Calls:
        """Return the calls that are made on a day, in the order of their start."""
        parts = [
            _drawn(self.seed, day, place, self._volume(day, place))
            for place in range(len(FEATURES))
        ]
        calls = Calls.joined(parts)
        rng = np.random.default_rng([self.seed, day, 200])
        for fault in self.faults:
            calls = fault.apply(calls, self.start, day, rng)
        calls = calls.where(calls.started >= self.first)
        return calls.where(np.argsort(calls.started, kind="stable"))

    def spans(self, day: int) -> Spans:
        """Return what becomes of the calls of a day; each delivery is a row."""
        spans = ended(self.calls(day), np.random.default_rng([self.seed, day, 100]))
        for fault in self.faults:
            spans = fault.deliver(spans, self.start)
        return spans

    def in_order_of_arrival(self, day: int) -> Iterator[tuple[float, int]]:
        """Give when each span of a day arrives, and its place, the first first."""
        arrived = self.spans(day).arrived
        for place in np.argsort(arrived, kind="stable").tolist():
            yield float(arrived[place]), place

    def archived(self, day: int) -> tuple[Cells, Cells]:
        """Return the cells of a day as they are kept: of five minutes, and by the hour and user."""
        if not self.touched(day):
            return _archived(self.seed, day)
        return archived(self.spans(day).once().cells()[0])

    def _volume(self, day: int, place: int) -> Floats:
        minutes = np.arange(day * DAY_MINUTES, (day + 1) * DAY_MINUTES)
        factor, shift = np.ones(DAY_MINUTES), np.zeros(DAY_MINUTES, np.int64)
        for fault in self.faults:
            factor, shift = fault.volume(self.start, FEATURES[place].name, minutes, factor, shift)
        return factor * _rates(place, minutes, shift)


def shape(minutes: Ints) -> Floats:
    """Return how much of the peak there is in each minute of a week."""
    hour, weekday = minutes % DAY_MINUTES / 60, (minutes // DAY_MINUTES + 3) % 7
    found = 0.15 + 0.85 * np.exp(-0.5 * ((hour - 14) / 4) ** 2)
    return found * np.where(weekday >= 5, 0.35, 1.0)


def ended(calls: Calls, rng: np.random.Generator) -> Spans:
    """Let each attempt succeed or fail."""
    count = len(calls)
    attempts, kind = np.zeros(count, np.int64), np.zeros(count, np.int64)
    spent, stuck = np.zeros(count), np.zeros(count, np.bool_)
    going = np.arange(count)
    retried: list[tuple[Ints, Ints]] = []
    for attempt in range(int(calls.retries.max(initial=0)) + 1):
        extra = calls.extra[going]
        share = 1 - (1 - calls.fails[going]) * (1 - extra)
        sticks = stuck[going]
        attempts[going] += 1
        bad = rng.random(len(going)) < np.where(sticks, calls.again[going], share)
        is_extra = rng.random(len(going)) * share < extra
        usual = _KIND_CODES[rng.choice(len(KINDS), len(going), p=KIND_SHARES)]
        found = np.where(is_extra, calls.extra_kind[going], usual)
        found = np.where(sticks, kind[going], found)
        kind[going] = np.where(bad, found, 0)
        stuck[going] |= is_extra & ~np.isnan(calls.again[going])
        failed, its = going[bad], found[bad]
        spent[failed] += np.where(its == _TIMEOUT, TIMEOUT_SECONDS, REFUSAL_SECONDS)
        more = (its != _INVALID) & (attempt < calls.retries[failed])
        going, its = failed[more], its[more]
        wait = RETRY_WAITS_SECONDS[min(attempt, len(RETRY_WAITS_SECONDS) - 1)]
        spent[going] += wait * calls.waits[going]
        retried.append((going, its))
    ok = kind == 0
    duration = spent + ok * (calls.first_token + calls.pace * calls.output_tokens)
    return Spans(
        calls=calls,
        started=calls.started + calls.ahead,
        duration=duration,
        attempts=attempts,
        kind=kind,
        arrived=calls.started + duration + calls.delay,
        failed_of=np.concatenate([one for one, _ in retried]) if retried else np.zeros(0, np.int64),
        failed_kind=np.concatenate([one for _, one in retried])
        if retried
        else np.zeros(0, np.int64),
    )


def archived(cells: Cells) -> tuple[Cells, Cells]:
    """Return cells as they are kept: of five minutes, and by the hour and user."""
    return cells.coarser(5, without=("user",)), cells.coarser(60, without=("error_kind",))


@lru_cache(maxsize=120)
def _archived(seed: int, day: int) -> tuple[Cells, Cells]:
    clean = World(seed, datetime.fromtimestamp(day * DAY_SECONDS, UTC), 1)
    return archived(clean.spans(day).cells()[0])


@cache
def _weather(seed: int) -> tuple[Floats, Floats]:
    """Return the drift of each feature and the weather of each model, by five minutes."""
    rng = np.random.default_rng([seed, 1])
    memory, places, models = 0.95, len(FEATURES), len(PRICES)
    sigma = np.concatenate([np.full(places, 0.05), np.full(models, 0.03 * np.sqrt(1 - memory**2))])
    shocks = rng.standard_normal((_DRIFT_DAYS * _FIVES, places + models)) * sigma
    for row in range(1, len(shocks)):
        shocks[row] += memory * shocks[row - 1]
    return np.exp(shocks[:, :places]), shocks[:, places:]


@cache
def _ranking(seed: int, place: int) -> Ints:
    return np.random.default_rng([seed, 2, place]).permutation(len(USERS))


@cache
def _user_codes() -> tuple[Ints, Ints]:
    return NAMES.encode("user", USERS), NAMES.encode("user", ACCOUNTS)


def _rates(place: int, minutes: Ints, shift: Ints) -> Floats:
    feature, local = FEATURES[place], minutes - shift
    if feature.name == "nightly_report":
        minute = local % DAY_MINUTES
        weekend = (local // DAY_MINUTES + 3) % 7 >= 5
        runs = (minute >= 120) & (minute < 150)
        return np.where(weekend, 0.35, 1.0) * runs * feature.peak
    return np.asarray(feature.peak * shape(local), np.float64)


def _drawn(seed: int, day: int, place: int, rate: Floats) -> Calls:
    feature = FEATURES[place]
    rng = np.random.default_rng([seed, day, 10 + place])
    drift, weather = _weather(seed)
    five = (day - _EPOCH_DAY) * _FIVES + np.arange(DAY_MINUTES) // 5
    level = rate * drift[five, place] * rng.gamma(30, 1 / 30, DAY_MINUTES)
    count = np.asarray(rng.poisson(level), np.int64)
    minute = np.repeat(np.arange(DAY_MINUTES), count)
    share = rng.beta(0.66, 59.3, _FIVES)[minute // 5]
    size = len(minute)
    models = NAMES.encode("model", feature.models)
    model = models[rng.integers(0, len(models), size)]
    users, accounts = _user_codes()
    if feature.name == "agent":
        user = accounts[rng.integers(0, len(accounts), size)]
    else:
        rank = np.asarray(np.searchsorted(_ZIPF, rng.random(size) * _ZIPF[-1]), np.int64)
        user = users[_ranking(seed, place)[rank]]
    slow = weather[five[minute], model - 1]
    calls = profile(rng, size, feature)
    peak = 1 + 0.08 * np.exp(-0.5 * ((minute / 60 - 14) / 4) ** 2)
    embeds = model == NAMES.code("model", "embed")
    return replace(
        calls,
        call_id=(day * 16 + place) * 2**32 + np.arange(size),
        started=(day * DAY_MINUTES + minute) * 60.0 + rng.random(size) * 60,
        model=model,
        user=user,
        output_tokens=np.where(embeds, 0, calls.output_tokens),
        first_token=calls.first_token * np.exp(slow) * peak,
        pace=calls.pace * np.exp(slow) * peak,
        fails=share,
    )


def profile(rng: np.random.Generator, size: int, feature: Feature) -> Calls:
    """Return calls like those of a feature, all at time 0."""

    def tokens(median: float, sigma: float) -> Ints:
        return (median * np.exp(sigma * rng.standard_normal(size))).astype(np.int64) + 1

    def all_of(dimension: str, value: str) -> Ints:
        return np.full(size, NAMES.code(dimension, value))

    delay = rng.exponential(3, size)
    late = rng.random(size) < 0.005
    return Calls(
        call_id=np.zeros(size, np.int64),
        started=np.zeros(size),
        feature=all_of("feature", feature.name),
        model=all_of("model", feature.models[0]),
        prompt=all_of("prompt", PROMPT),
        user=all_of("user", ""),
        service=all_of("service", SERVICE),
        environment=all_of("environment", ENVIRONMENT),
        input_tokens=tokens(feature.input_tokens, 0.6),
        cached_share=rng.beta(6, 4, size) if feature.caches else np.zeros(size),
        output_tokens=tokens(feature.output_tokens, 0.7),
        first_token=0.45 * np.exp(0.35 * rng.standard_normal(size)),
        pace=np.exp(0.25 * rng.standard_normal(size)) / 70,
        fails=np.full(size, 0.011),
        extra=np.zeros(size),
        extra_kind=np.zeros(size, np.int64),
        again=np.full(size, np.nan),
        retries=np.full(size, 2),
        waits=np.ones(size, np.bool_),
        delay=np.where(late, rng.uniform(30, 120, size), delay),
        ahead=np.zeros(size),
        price=np.ones(size),
    )
