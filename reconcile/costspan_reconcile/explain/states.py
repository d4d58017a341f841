"""How settled the bill of a day is."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum

SETTLED_AFTER = timedelta(hours=72)
STABLE_FOR = timedelta(hours=24)


class DayState(StrEnum):
    """A day is open, provisional, final; a final one that changed is restated until it is final."""

    OPEN = "OPEN"
    PROVISIONAL = "PROVISIONAL"
    FINAL = "FINAL"
    RESTATED = "RESTATED"


def day_state(
    day: date, now: datetime, readings: Sequence[tuple[datetime, str]]
) -> tuple[DayState, bool]:
    """Return the state of `day` and whether 72 hours have passed since it ended.

    `readings` are the times and content hashes of the good readings, oldest first. The bill has
    no published date of finality: it is final when it has stopped changing. A reading from before
    the 72 hours are over does not tell that.
    """
    end = datetime.combine(day, time.min, UTC) + timedelta(days=1)
    if now < end:
        return DayState.OPEN, False
    stretches = _stretches(readings)
    settled = now >= end + SETTLED_AFTER
    final = [
        last >= end + SETTLED_AFTER and last - first >= STABLE_FOR for first, last in stretches
    ]
    if final and final[-1]:
        return DayState.FINAL, settled
    return (DayState.RESTATED if any(final) else DayState.PROVISIONAL), settled


def _stretches(readings: Sequence[tuple[datetime, str]]) -> list[tuple[datetime, datetime]]:
    """Return the first and last reading of each stretch of equal ones."""
    found: list[tuple[datetime, datetime]] = []
    content: str | None = None
    for read_at, sha256 in readings:
        found[-1:] = (
            [(found[-1][0], read_at)] if sha256 == content else [*found[-1:], (read_at, read_at)]
        )
        content = sha256
    return found
