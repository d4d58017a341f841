"""Figures as people read them. Money stays `Decimal` until it is text."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal

from costspan_dashboards.filters import TimeRange

UNKNOWN = "unknown"
NOT_BILLED = "not billed"
_SIGNIFICANT = 3
_FEWEST_PLACES = 6
_LARGE_PERCENT = 1000
_MARKUP = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~:$&])")


def usd_text(amount: Decimal | None) -> str:
    """Return dollars for a person: `$1,234.50`, and three digits that count below a dollar.

    >>> usd_text(Decimal("0.000471"))
    '$0.000471'
    """
    if amount is None:
        return UNKNOWN
    sign, size = ("-" if amount < 0 else ""), abs(amount)
    places = 2
    if 0 < size < 1:
        places = max(2, _SIGNIFICANT - 1 - size.adjusted())
    rounded = size.quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_EVEN)
    if not rounded:
        sign = ""
    return f"{sign}${rounded:,.2f}" if rounded >= 1 else f"{sign}${rounded:f}"


def cost_text(amount: Decimal | None, *, unpriced: bool) -> str:
    """Return the cost of a call; `unpriced` is False for one that is known to cost nothing.

    OpenAI does not bill a call that it answers with an error.
    """
    return NOT_BILLED if amount is None and not unpriced else usd_text(amount)


def usd_format(amounts: Iterable[Decimal | None]) -> str:
    """Return a format for a column of dollars in which no amount is shown as zero but zero."""
    least = min((abs(amount) for amount in amounts if amount), default=Decimal(1))
    return f"$%.{max(_FEWEST_PLACES, _SIGNIFICANT - 1 - least.adjusted())}f"


def escaped(text: str) -> str:
    """Return `text` so that Markdown shows it as it is.

    A dollar sign starts a formula in Streamlit, and what an app sends may hold links and images.
    """
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))


def count_text(count: int | None) -> str:
    """Return a whole number with thousands apart."""
    return UNKNOWN if count is None else f"{count:,}"


def percent_text(part: Decimal | int, whole: Decimal | int) -> str:
    """Return `part` of `whole` in percent; a dash where there is no whole."""
    if not whole:
        return "-"
    percent = Decimal(part) * 100 / Decimal(whole)
    if 0 < abs(percent) < Decimal("0.1"):
        return "<0.1 %" if percent > 0 else ">-0.1 %"
    return f"{percent:.1f} %"


def change_text(now: Decimal | int | None, before: Decimal | int | None) -> str | None:
    """Return how much `now` is above `before`, in percent; None where that says nothing."""
    if now is None or not before:
        return None
    percent = (Decimal(now) - Decimal(before)) * 100 / Decimal(before)
    return f"{percent:+,.0f} %" if abs(percent) >= _LARGE_PERCENT else f"{percent:+.1f} %"


def seconds_text(duration_us: int | None) -> str:
    """Return microseconds as milliseconds or seconds."""
    if duration_us is None:
        return UNKNOWN
    if duration_us < 1_000_000:
        return f"{Decimal(duration_us) / 1000:.0f} ms"
    return f"{Decimal(duration_us) / 1_000_000:.2f} s"


def time_text(moment: datetime) -> str:
    """Return a moment to the second, with its zone."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def range_text(time: TimeRange) -> str:
    """Return a stretch of time with its zone."""
    return f"{time.since:%Y-%m-%d %H:%M} to {time.until:%Y-%m-%d %H:%M} UTC"


def age_text(moment: datetime, now: datetime) -> str:
    """Return how long ago `moment` was."""
    seconds = max(0, int((now - moment).total_seconds()))
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = seconds // size
            return f"{count} {unit}{'' if count == 1 else 's'} ago"
    return f"{seconds} s ago"


def unpriced_text(calls: int) -> str:
    """Return the words that stand beside a total: what is not in it."""
    if not calls:
        return "every billable call has a price"
    return f"+ {calls:,} call{'' if calls == 1 else 's'} without a price"
