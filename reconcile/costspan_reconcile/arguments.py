"""Days, months and numbers, as they are written on a command line."""

import argparse
from datetime import date

from costspan.errors import Rejected
from costspan_reconcile.period.month import Month, read_month

_YEARS = range(2000, 2100)
"""Of a bill. The store has no others either."""


def day(text: str) -> date:
    """Return the UTC day that an argument names.

    Raises:
        ArgumentTypeError: it is no day of these years.
    """
    msg = f"{text!r} is not a day such as 2026-10-05"
    try:
        found = date.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(msg) from error
    if found.year not in _YEARS:
        raise argparse.ArgumentTypeError(msg)
    return found


def month(text: str) -> Month:
    """Return the month that an argument names.

    Raises:
        ArgumentTypeError: it is not written as 2026-10.
    """
    try:
        return read_month(text)
    except Rejected as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def days(text: str) -> int:
    """Return the number of days, up to 400, that an argument is.

    Raises:
        ArgumentTypeError: it is none.
    """
    return number(text, 1, 400, "days")


def number(text: str, least: int, most: int, what: str) -> int:
    """Return the number that an argument is.

    Raises:
        ArgumentTypeError: it is none from `least` to `most`.
    """
    if not text.isdecimal() or not least <= int(text) <= most:
        msg = f"{text!r} is not a number of {what} from {least} to {most}"
        raise argparse.ArgumentTypeError(msg)
    return int(text)
