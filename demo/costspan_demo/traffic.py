"""The truth: every call of the organization in the days before `now`, from a seed.

The local OpenAI bills these calls and the history loader sends spans of the traced ones, each in
its own process, so the same seed, `now` and days must give the same calls everywhere.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from random import Random

from costspan_demo.organization import (
    BURST_FEATURE,
    BURST_NEIGHBOUR,
    NIGHTLY_FEATURE,
    REASONING,
    SERVED_AS,
    SPIKE_FEATURE,
    Feature,
    Key,
    Organization,
)

SPIKE = timedelta(minutes=75)
BURST = timedelta(minutes=20)
_SPIKE_CALLS, _SPIKE_TOKENS = 75, 140_000
_BURST_CALLS, _BURST_FAILING = 60, 0.65
_NEIGHBOUR_CALLS = 30
"""Of another feature with the same model meanwhile, which do not fail."""
_MOST_INPUT = 250_000
"""Under the length at which long-context prices begin."""

_USERS = [f"user-{number:03}" for number in range(1, 41)]
SPIKE_USER = "user-017"

# Share of a day's calls by UTC hour, and of a week's by weekday, Monday first.
_HOURS = (2, 2, 1, 1, 1, 2, 4, 7, 10, 12, 12, 11, 10, 11, 12, 12, 11, 9, 7, 6, 5, 4, 3, 3)
_WEEKDAYS = (1.1, 1.15, 1.15, 1.1, 1.0, 0.55, 0.5)
_NIGHTLY_HOUR = 2

_SECONDS_PER_TOKEN = {
    "gpt-4o-mini": 0.008,
    "gpt-4.1": 0.012,
    "gpt-5.4-mini": 0.007,
    "gpt-5.5": 0.015,
    "text-embedding-3-small": 0.0,
}


@dataclass(frozen=True, slots=True)
class Failure:
    """How OpenAI refuses a call; `retried`: the SDK tries such a call twice more."""

    status: int
    code: str
    error: str
    """The class of the SDK's exception."""
    retried: bool


RATE_LIMITED = Failure(429, "rate_limit_exceeded", "RateLimitError", retried=True)
SERVER_ERROR = Failure(500, "server_error", "InternalServerError", retried=True)
TOO_LONG = Failure(400, "context_length_exceeded", "BadRequestError", retried=False)
_FAILURES = (RATE_LIMITED, RATE_LIMITED, SERVER_ERROR, SERVER_ERROR, TOO_LONG)
_FAILING = 0.012
_RETRIED = 0.006


@dataclass(frozen=True, slots=True)
class Call:
    """One call as it really was; a failed one used nothing."""

    key: Key
    feature: Feature
    user: str
    started_at: datetime
    duration: timedelta
    first_chunk: timedelta | None
    retries: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    reasoning_tokens: int
    request_id: str
    response_id: str
    failure: Failure | None = None

    @property
    def ended_at(self) -> datetime:
        """When the answer was complete, which is what puts a call on a day's bill."""
        return self.started_at + self.duration

    @property
    def served(self) -> str:
        """The model that answered."""
        return SERVED_AS[self.feature.model]


def history(organization: Organization, *, seed: int, now: datetime, days: int) -> list[Call]:
    """Return every call that ended before `now` and began at most `days` days before it.

    Planted: a spend spike and an error burst that last until `now`, and a key that no trace shows.
    """
    since = now - timedelta(days=days)
    calls: list[Call] = []
    for feature in organization.features:
        random = Random(f"{seed} {feature.name}")  # noqa: S311 - repeatable, not secret
        key = organization.key(feature.key)
        for started_at in _starts(feature, since, now, random):
            calls.append(_call(feature, key, started_at, random))
        if feature.name == SPIKE_FEATURE:
            calls += _spike(feature, key, now, random)
        if feature.name == BURST_FEATURE:
            calls += _burst(feature, key, now, random)
        if feature.name == BURST_NEIGHBOUR:
            calls += [
                _call(feature, key, at, random)
                for at in _through_burst(_NEIGHBOUR_CALLS, now, random)
            ]
    return sorted(
        (call for call in calls if call.started_at >= since and call.ended_at < now),
        key=lambda call: (call.started_at, call.request_id),
    )


def _starts(
    feature: Feature, since: datetime, until: datetime, random: Random
) -> Iterator[datetime]:
    hour = since.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    while hour < until:
        for _ in range(_poisson(_expected(feature, hour), random)):
            yield hour + timedelta(microseconds=random.randrange(3_600_000_000))
        hour += timedelta(hours=1)


def _expected(feature: Feature, hour: datetime) -> float:
    """Return the mean number of calls in the hour that begins at `hour`."""
    if feature.name == NIGHTLY_FEATURE:
        return feature.calls_per_day if hour.hour == _NIGHTLY_HOUR else 0.0
    share = _HOURS[hour.hour] / sum(_HOURS)
    return feature.calls_per_day * share * _WEEKDAYS[hour.weekday()]


def _call(feature: Feature, key: Key, started_at: datetime, random: Random) -> Call:
    input_tokens = min(_MOST_INPUT, _lognormal(feature.input_median, feature.sigma, random))
    output_tokens = _lognormal(feature.output_median, feature.sigma, random)
    cached_tokens = 0
    if input_tokens >= 1024 and random.random() < feature.cached:
        cached_tokens = int(input_tokens * random.uniform(0.5, 0.95)) // 128 * 128
    thought = random.uniform(0.2, 0.6) if feature.model in REASONING else 0.0
    call = Call(
        key=key,
        feature=feature,
        user=_USERS[int(len(_USERS) * random.random() ** 2)],
        started_at=started_at,
        duration=timedelta(),
        first_chunk=None,
        retries=0,
        input_tokens=input_tokens,
        cached_tokens=cached_tokens,
        output_tokens=output_tokens,
        reasoning_tokens=int(output_tokens * thought) // 64 * 64,
        request_id=f"req_{random.getrandbits(128):032x}",
        response_id=f"{_ID_PREFIX[feature.api]}{random.getrandbits(116):029x}",
    )
    return _failing(_timed(call, random), random)


_ID_PREFIX = {"chat_completions": "chatcmpl-", "responses": "resp_", "embeddings": ""}


def _timed(call: Call, random: Random) -> Call:
    per_token = _SECONDS_PER_TOKEN[call.feature.model]
    waiting = 0.12 + 2e-6 * call.input_tokens + per_token * call.reasoning_tokens
    writing = per_token * (call.output_tokens - call.reasoning_tokens)
    pace = random.lognormvariate(0, 0.2)
    return replace(
        call,
        duration=_seconds((waiting + writing) * pace),
        first_chunk=_seconds(waiting * pace) if call.feature.streamed else None,
    )


def _failing(call: Call, random: Random) -> Call:
    chance = random.random()
    if chance < _FAILING:
        return failed(call, random.choice(_FAILURES), random)
    if chance < _FAILING + _RETRIED:
        waited = _seconds(random.uniform(0.5, 1.2))
        first = call.first_chunk + waited if call.first_chunk is not None else None
        return replace(call, retries=1, duration=call.duration + waited, first_chunk=first)
    return call


def failed(call: Call, failure: Failure, random: Random) -> Call:
    """Return `call` as one that OpenAI refused: quick, and nothing used."""
    return replace(
        call,
        duration=_seconds(random.uniform(1.6, 3.0) if failure.retried else 0.15),
        first_chunk=None,
        retries=2 if failure.retried else 0,
        input_tokens=0,
        cached_tokens=0,
        output_tokens=0,
        reasoning_tokens=0,
        response_id="",
        failure=failure,
    )


def _spike(feature: Feature, key: Key, now: datetime, random: Random) -> Iterator[Call]:
    long_prompts = replace(feature, input_median=_SPIKE_TOKENS, sigma=0.2, cached=0.1)
    for number in range(_SPIKE_CALLS):
        started_at = now - SPIKE + SPIKE * ((number + random.random()) / _SPIKE_CALLS)
        call = _call(long_prompts, key, started_at, random)
        yield replace(call, feature=feature, user=SPIKE_USER)


def _burst(feature: Feature, key: Key, now: datetime, random: Random) -> Iterator[Call]:
    for started_at in _through_burst(_BURST_CALLS, now, random):
        call = _call(feature, key, started_at, random)
        yield failed(call, SERVER_ERROR, random) if random.random() < _BURST_FAILING else call


def _through_burst(count: int, now: datetime, random: Random) -> Iterator[datetime]:
    for number in range(count):
        yield now - BURST + BURST * ((number + random.random()) / count)


def _lognormal(median: int, sigma: float, random: Random) -> int:
    return max(1, round(random.lognormvariate(math.log(median), sigma))) if median else 0


def _poisson(mean: float, random: Random) -> int:
    """Count the arrivals in one unit of time, each an exponential wait after the one before."""
    count, waited = 0, random.expovariate(1.0) if mean else math.inf
    while waited < mean:
        count += 1
        waited += random.expovariate(1.0)
    return count


def _seconds(seconds: float) -> timedelta:
    return timedelta(microseconds=round(seconds * 1_000_000))
