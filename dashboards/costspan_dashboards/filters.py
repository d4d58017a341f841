"""What the person looking has asked to see: a stretch of time and a choice of values."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

NONE = "(none)"
"""How a value that a call does not carry is shown and chosen; the store keeps it as ''."""


@dataclass(frozen=True, slots=True)
class TimeRange:
    """A half-open stretch of time, [since, until), both ends aware and in UTC."""

    since: datetime
    until: datetime

    @property
    def length(self) -> timedelta:
        """How long it is."""
        return self.until - self.since

    @property
    def previous(self) -> "TimeRange":
        """The stretch of the same length just before this one."""
        return self.back(self.length)

    def back(self, by: timedelta) -> "TimeRange":
        """Return the stretch of the same length, `by` earlier."""
        return TimeRange(self.since - by, self.until - by)


@dataclass(frozen=True, slots=True)
class Filters:
    """The filter bar. An empty choice lets everything through."""

    time: TimeRange
    teams: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    projects: tuple[str, ...] = ()

    def parameters(self) -> dict[str, object]:
        """Return what the queries bind."""
        return {
            "since": self.time.since,
            "until": self.time.until,
            "teams": stored(self.teams),
            "features": stored(self.features),
            "models": stored(self.models),
            "projects": stored(self.projects),
        }


PRESETS = {
    "last hour": timedelta(hours=1),
    "last 24 hours": timedelta(hours=24),
    "last 7 days": timedelta(days=7),
    "last 14 days": timedelta(days=14),
    "last 30 days": timedelta(days=30),
}
CUSTOM = "custom dates"


def preset_range(preset: str, now: datetime) -> TimeRange:
    """Return the stretch that `preset` names, ending now."""
    return TimeRange(now - PRESETS[preset], now)


def dates_range(days: Sequence[date], now: datetime) -> TimeRange:
    """Return whole UTC days, from the first of `days` to the last; what is yet to come is cut off.

    No day at all is today.
    """
    midnight = time(tzinfo=UTC)
    first, last = (min(days), max(days)) if days else (now.date(), now.date())
    until = datetime.combine(last, midnight) + timedelta(days=1)
    since = datetime.combine(first, midnight)
    return TimeRange(since, max(since, min(until, now)))


def shown(value: str) -> str:
    """Return a stored value as a person sees it."""
    return value or NONE


def stored(values: Sequence[str]) -> list[str]:
    """Return chosen values as the store keeps them."""
    return ["" if value == NONE else value for value in values]
