"""Which days of the bill are due. Friday, 20 November 2026; its Monday is the 16th."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import pytest

from costspan_reconcile.cadence import DayRead, Month, first_due, months_due

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
TODAY = NOW.date()
DAY = timedelta(days=1)
ALL = [TODAY - back * DAY for back in range(100)]


def read(at: datetime, days: list[date] = ALL, *, settled: bool = False) -> dict[date, DayRead]:
    return {day: DayRead(day, at, at, settled) for day in days}


def back(now: datetime, reads: dict[date, DayRead], *, matched: bool = True) -> int:
    """Return how many days are read, today included."""
    return (now.date() - first_due(now, reads, 35, matched=matched)).days + 1


def test_what_was_never_read_is_due() -> None:
    assert back(NOW, {}) == 35


def test_every_run_reads_today_and_yesterday() -> None:
    assert back(NOW, read(NOW)) == 2


@pytest.mark.parametrize(
    ("now", "days"),
    [
        (datetime(2026, 11, 21, 5, 59, tzinfo=UTC), 2),
        (datetime(2026, 11, 21, 6, tzinfo=UTC), 7),
        (datetime(2026, 11, 22, 23, tzinfo=UTC), 7),
        (datetime(2026, 11, 23, 5, 59, tzinfo=UTC), 7),  # a Monday
        (datetime(2026, 11, 23, 6, tzinfo=UTC), 35),
        (datetime(2026, 12, 24, tzinfo=UTC), 35),  # nobody was there for a month
    ],
)
def test_a_week_is_read_each_morning_and_all_that_may_change_each_monday(
    now: datetime, days: int
) -> None:
    assert back(now, read(NOW, [TODAY + n * DAY for n in range(-60, 40)])) == days


@pytest.mark.parametrize(
    ("day", "matched", "first"),
    [
        (17, False, date(2026, 10, 1)),
        (17, True, date(2026, 11, 11)),
        (18, False, date(2026, 11, 12)),
    ],
)
def test_the_month_before_is_read_each_morning_until_its_invoice_is_there(
    day: int, *, matched: bool, first: date
) -> None:
    morning = datetime(2026, 11, day, 6, tzinfo=UTC)
    assert first_due(morning, read(morning - DAY / 24), 35, matched=matched) == first
    assert back(morning, read(morning), matched=matched) == 2


def test_a_try_without_an_answer_leaves_a_day_due() -> None:
    missed = TODAY - 5 * DAY
    reads = {**read(NOW), missed: DayRead(missed, NOW, None, settled=False)}
    assert first_due(NOW, reads, 35, matched=True) == missed


OCTOBER = Month(date(2026, 10, 1), date(2026, 10, 17))
SEPTEMBER = Month(date(2026, 9, 1), date(2026, 10, 1))
AUGUST = Month(date(2026, 8, 1), date(2026, 9, 1))
MONTHS = [OCTOBER, SEPTEMBER, AUGUST]


@pytest.mark.parametrize(
    ("reads", "due"),
    [
        (lambda: read(NOW, []), MONTHS),
        (lambda: read(NOW, OCTOBER.days), [SEPTEMBER, AUGUST]),
        (lambda: read(NOW, OCTOBER.days[1:]), MONTHS),
        (lambda: read(NOW - DAY, OCTOBER.days), [SEPTEMBER, AUGUST, OCTOBER]),
        (lambda: read(NOW - DAY, OCTOBER.days, settled=True), [SEPTEMBER, AUGUST]),
        (
            lambda: {day: DayRead(day, NOW, None, settled=False) for day in OCTOBER.days},
            [SEPTEMBER, AUGUST, OCTOBER],  # it failed, so it comes after those never tried
        ),
    ],
)
def test_months_are_read_newest_first_and_again_until_nothing_changes(
    reads: Callable[[], dict[date, DayRead]], due: list[Month]
) -> None:
    assert months_due(MONTHS, reads(), NOW) == due
