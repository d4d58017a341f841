"""A calendar month in UTC: what is closed at once."""

import re
from dataclasses import dataclass
from datetime import date, timedelta

from costspan.errors import Rejected

_WRITTEN = re.compile(r"(20\d\d)-(0[1-9]|1[0-2])")


@dataclass(frozen=True, slots=True, order=True)
class Month:
    """The days in `first <= day < until`."""

    first: date

    @property
    def until(self) -> date:
        """Return the first day after it."""
        return (self.first + timedelta(days=31)).replace(day=1)

    @property
    def days(self) -> list[date]:
        """Return its days, first to last."""
        count = (self.until - self.first).days
        return [self.first + timedelta(days=index) for index in range(count)]

    def __str__(self) -> str:
        return f"{self.first:%Y-%m}"


def month_of(day: date) -> Month:
    """Return the month that `day` is in."""
    return Month(day.replace(day=1))


def read_month(text: str) -> Month:
    """Return the month that `text` names.

    Raises:
        Rejected: it is not written as 2026-10.
    """
    match = _WRITTEN.fullmatch(text)
    if match is None:
        msg = f"{text!r} is not a month such as 2026-10"
        raise Rejected(msg)
    return Month(date(int(match[1]), int(match[2]), 1))
