"""Figures as people read them, and the time ranges they are of."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from costspan_dashboards.breakdown import csv_text
from costspan_dashboards.charts import Bar, stacked_bars, step_seconds
from costspan_dashboards.figures import (
    age_text,
    change_text,
    cost_text,
    escaped,
    percent_text,
    unpriced_text,
    usd_format,
    usd_text,
)
from costspan_dashboards.filters import (
    NONE,
    Filters,
    TimeRange,
    dates_range,
    preset_range,
)

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (None, "unknown"),
        ("0", "$0.00"),
        ("12.344999999999", "$12.34"),
        ("1234567.895", "$1,234,567.90"),
        ("0.5", "$0.500"),
        ("0.000471", "$0.000471"),
        ("0.0000000025", "$0.00000000250"),
        ("0.000000000001", "$0.00000000000100"),
        ("0.99999", "$1.00"),
        ("-0.002", "-$0.00200"),
        ("-3", "-$3.00"),
    ],
)
def test_dollars_read_well_at_every_size(amount: str | None, text: str) -> None:
    assert usd_text(None if amount is None else Decimal(amount)) == text


def test_a_call_that_is_not_billed_is_not_of_unknown_cost() -> None:
    assert cost_text(None, unpriced=True) == "unknown"
    assert cost_text(None, unpriced=False) == "not billed"
    assert cost_text(Decimal(0), unpriced=False) == "$0.00"


def test_a_column_of_dollars_has_places_for_its_smallest_amount() -> None:
    assert usd_format([Decimal(120), None, Decimal(0)]) == "$%.6f"
    assert usd_format([Decimal(120), Decimal("-0.0000000025")]) == "$%.11f"
    assert usd_format([]) == "$%.6f"


def test_a_change_from_nothing_or_unknown_has_no_percentage() -> None:
    assert change_text(Decimal(3), Decimal(2)) == "+50.0 %"
    assert change_text(2, 4) == "-50.0 %"
    assert change_text(218, 1) == "+21,700 %"
    assert change_text(Decimal(3), Decimal(0)) is None
    assert change_text(None, Decimal(1)) is None
    assert change_text(Decimal(1), None) is None


def test_a_small_share_is_not_shown_as_none() -> None:
    assert percent_text(1, 100_000) == "<0.1 %"
    assert percent_text(0, 100_000) == "0.0 %"
    assert percent_text(0, 0) == "-"


def test_calls_without_a_price_are_said_in_words() -> None:
    assert unpriced_text(0) == "every billable call has a price"
    assert unpriced_text(12) == "+ 12 calls without a price"


def test_what_an_app_sends_is_shown_as_text() -> None:
    assert escaped("![x](http://evil/) $1 and $2") == (
        r"\!\[x\]\(http\://evil/\) \$1 and \$2"  # no image, no link, no formula
    )


def test_age_is_in_the_largest_whole_unit() -> None:
    assert age_text(NOW - timedelta(seconds=59), NOW) == "59 s ago"
    assert age_text(NOW - timedelta(minutes=61), NOW) == "1 hour ago"
    assert age_text(NOW - timedelta(days=3), NOW) == "3 days ago"


def test_a_preset_ends_now_and_the_period_before_touches_it() -> None:
    week = preset_range("last 7 days", NOW)
    assert week == TimeRange(NOW - timedelta(days=7), NOW)
    assert week.previous == TimeRange(NOW - timedelta(days=14), NOW - timedelta(days=7))


def test_chosen_days_are_whole_and_what_is_yet_to_come_is_cut_off() -> None:
    eighteenth = datetime(2026, 11, 18, tzinfo=UTC)
    assert dates_range([date(2026, 11, 18), date(2026, 11, 19)], NOW) == TimeRange(
        eighteenth, eighteenth + timedelta(days=2)
    )
    assert dates_range([date(2026, 11, 18)], NOW).length == timedelta(days=1)
    assert dates_range([date(2026, 11, 21), date(2026, 12, 24)], NOW).until == NOW
    assert dates_range([], NOW) == TimeRange(NOW.replace(hour=0, minute=0), NOW)
    assert dates_range([date(2027, 1, 1)], NOW).length == timedelta(0)


def test_choosing_none_finds_calls_that_carry_no_value() -> None:
    filters = Filters(preset_range("last hour", NOW), teams=(NONE, "search"))
    assert filters.parameters()["teams"] == ["", "search"]


def test_a_chart_has_between_ten_and_fifty_bars() -> None:
    for hours in (1, 24, 7 * 24, 14 * 24, 30 * 24):
        length = timedelta(hours=hours)
        assert 10 <= length.total_seconds() / step_seconds(length) <= 50


def test_the_axis_of_a_chart_spans_the_silence_at_both_ends_and_cuts_no_bar_off() -> None:
    def axis(since: datetime, step: datetime) -> list[datetime]:
        chart = stacked_bars(
            [Bar(step, "chat", 1.0, "$1.00")],
            time=TimeRange(since, NOW),
            order=["chat"],
            other="",
            seconds=3600,
            unit="USD",
        )
        ends = chart.to_dict()["encoding"]["x"]["scale"]["domain"]
        return [datetime.fromtimestamp(end / 1000, UTC) for end in ends]

    day_ago = NOW - timedelta(days=1)
    silent = axis(day_ago, NOW.replace(hour=2, minute=0))
    assert silent == [day_ago.replace(minute=0), NOW]
    last_bar_ends = NOW.replace(minute=56, second=24)
    assert axis(day_ago, NOW.replace(minute=0))[1] == last_bar_ends


def test_csv_keeps_every_digit_and_runs_no_formula() -> None:
    text = csv_text(("team", "usd"), [("=1+1", Decimal("0.000000000001")), ("a,b", None)])
    assert text == 'team,usd\n\'=1+1,0.000000000001\n"a,b",\n'
