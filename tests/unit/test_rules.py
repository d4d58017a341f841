"""The rules on aggregates made by hand: each figure is derived where it stands."""

import math
from collections.abc import Iterable
from decimal import Decimal
from random import Random

import pytest

from costspan_dashboards.alerts.rules import (
    Basis,
    ErrorGates,
    ErrorHistory,
    ErrorWindow,
    LatencyCell,
    LatencyGates,
    SpendGates,
    SpendWindow,
    beta_binomial_tail,
    error_scatter,
    errors,
    latency,
    spend,
)

WEEKS = Basis("same hour of day", tuple(range(1, 15)), 14 * 24)
YOUNG = Basis("same hour of day", (1, 2, 3), 80)
NONE = Basis("objective", (), 6)
# 168 slots of 10 calls, one in a hundred failing, scattered as coin flips are.
PAST = ErrorHistory("", "", 168, 1680, 17, 16800, 19, 170)


def window(minutes: int, calls: int, failed: int, feature: str = "") -> ErrorWindow:
    return ErrorWindow(minutes, "feature" if feature else "", feature, calls, failed)


def spent(minutes: int, day: int, dollars: str, calls: int = 20, feature: str = "") -> SpendWindow:
    square = float(dollars) ** 2 / calls  # of equal calls
    return SpendWindow(
        minutes, day, "feature" if feature else "", feature, calls, 0, Decimal(dollars), square
    )


def steady(dollars_per_hour: str) -> list[SpendWindow]:
    """Two weeks of the same spend every day, in both windows."""
    quarter = str(Decimal(dollars_per_hour) / 4)
    return [
        spent(minutes, day, amount)
        for day in range(1, 15)
        for minutes, amount in ((15, quarter), (60, dollars_per_hour))
    ]


def test_the_tail_of_few_calls_is_that_of_the_written_out_law() -> None:
    # Beta-binomial with a = 1, b = 1 (mean 1/2, scatter 1/3) is uniform on 0..n.
    assert beta_binomial_tail(8, 9, 0.5, 1 / 3) == pytest.approx(0.2)
    assert beta_binomial_tail(0, 9, 0.5, 1 / 3) == 1
    assert beta_binomial_tail(10, 9, 0.5, 1 / 3) == 0
    # a = 2, b = 2: P(k) = 6 (k + 1) (n - k + 1) / ((n + 1) (n + 2) (n + 3)); n = 2, k = 2: 18 / 60.
    assert beta_binomial_tail(2, 2, 0.5, 1 / 5) == pytest.approx(0.3)


def test_a_tail_of_many_calls_is_quick_and_sums_to_one() -> None:
    assert beta_binomial_tail(1, 100_000, 0.01, 1 / 61) < 1
    whole = beta_binomial_tail(1, 1000, 0.01, 1 / 61)
    # P(0) = B(a, n + b) / B(a, b) with a = 0.6, b = 59.4.
    none = math.exp(math.lgamma(1059.4) - math.lgamma(1060) - math.lgamma(59.4) + math.lgamma(60.0))
    assert whole + none == pytest.approx(1)


def test_scatter_is_read_from_the_past_and_bounded() -> None:
    assert error_scatter(None) == pytest.approx(1 / 61)
    # 100 slots of 10 calls, in 5 of which all fail: p = 0.05; the squares of k - n p sum to
    # 5 * 9.5^2 + 95 * 0.5^2 = 475; 475 / (0.05 * 0.95) = 10000; (10000 - 1000) / 9000 = 1.
    burst = ErrorHistory("", "", 100, 1000, 50, 10_000, 500, 500)
    assert error_scatter(burst) == 0.03
    assert error_scatter(PAST) == 0.005  # as coin flips: the least we believe


def test_a_fifth_failing_where_one_in_a_hundred_did_is_a_page() -> None:
    (breach,) = errors([window(15, 150, 30)], [PAST], WEEKS, ErrorGates())
    assert (breach.severity, breach.observed) == ("page", Decimal("0.2"))
    # (17 + 50 * 0.01) / (1680 + 50)
    assert breach.usual == Decimal("0.010116")
    assert breach.against == "share in 14 same slots (same hour of day), 14 days of history"


def test_two_calls_at_night_of_which_one_fails_are_quiet() -> None:
    assert errors([window(60, 2, 1)], [PAST], WEEKS, ErrorGates()) == []


def test_four_failures_are_too_few_whatever_their_share() -> None:
    assert errors([window(5, 4, 4)], [PAST], WEEKS, ErrorGates()) == []
    assert errors([window(5, 9, 9)], [PAST], WEEKS, ErrorGates())


def test_twice_the_usual_is_needed_however_sure_it_is() -> None:
    # 1.9 % of 100,000 calls where 1 % is usual.
    assert errors([window(60, 100_000, 1900)], [PAST], WEEKS, ErrorGates()) == []


def test_what_fails_half_of_the_time_is_found_when_it_fails_always() -> None:
    half = ErrorHistory("", "", 168, 1680, 840, 16_800, 4200, 8400)
    assert errors([window(15, 300, 200)], [half], WEEKS, ErrorGates()) == []
    assert errors([window(15, 300, 300)], [half], WEEKS, ErrorGates())


def test_a_small_lasting_rise_is_a_ticket() -> None:
    (breach,) = errors([window(60, 6000, 210)], [_big_past()], WEEKS, ErrorGates(tail=0.1))
    assert breach.severity == "ticket"  # 3.5 %: above the objective's 2 %, below its double


def test_a_burst_that_is_over_is_not_raised_by_the_longer_window() -> None:
    rows = [window(5, 50, 0), window(15, 150, 40), window(60, 600, 41)]
    assert errors(rows, [PAST], WEEKS, ErrorGates()) == []
    # No calls at all since: nothing says that it is over.
    assert errors(rows[1:], [PAST], WEEKS, ErrorGates())


def test_without_a_day_of_history_the_objective_is_the_baseline() -> None:
    assert errors([window(5, 100, 4)], [], NONE, ErrorGates()) == []  # 4 % is its double
    (breach,) = errors([window(5, 100, 60)], [], NONE, ErrorGates())
    assert breach.usual == Decimal("0.02")
    assert breach.against == "objective 98%, 6 h of history"


def test_a_scope_without_a_past_takes_that_of_all_calls() -> None:
    (breach,) = errors([window(15, 60, 30, "new")], [PAST], WEEKS, ErrorGates())
    assert breach.usual == Decimal("0.010116")


def test_spend_is_raised_with_exact_dollars() -> None:
    rows = [*steady("3.10"), spent(15, 0, "10.30"), spent(60, 0, "12.625")]
    (breach,) = spend(rows, WEEKS, SpendGates())
    # The quarter leads: 10.30 * 4 = 41.20 an hour; 38.10 more than usual is a page.
    assert (breach.observed, breach.usual) == (Decimal("41.20"), Decimal("3.100"))
    assert (breach.severity, breach.window_minutes) == ("page", 15)
    assert breach.against == "median of 14 same slots (same hour of day), 14 days of history"


@pytest.mark.parametrize(
    ("usual", "now", "why"),
    [
        ("1", "3.9", "2.90 dollars an hour more: too little money"),
        ("10", "17.9", "1.79 times: too small a rise"),
        ("10", "10", "nothing at all"),
        ("10", "0", "a fall"),
    ],
)
def test_spend_below_a_gate_is_quiet(usual: str, now: str, why: str) -> None:
    quarter = str(Decimal(now) / 4)
    rows = [*steady(usual), spent(15, 0, quarter), spent(60, 0, now)]
    assert spend(rows, WEEKS, SpendGates()) == [], why


def test_the_dollar_floors_can_be_lowered() -> None:
    rows = [*steady("0.03"), spent(15, 0, "0.10"), spent(60, 0, "0.40")]
    assert spend(rows, WEEKS, SpendGates()) == []
    low = SpendGates(
        min_excess_usd_per_hour=Decimal("0.05"), page_excess_usd_per_hour=Decimal("0.25")
    )
    (breach,) = spend(rows, WEEKS, low)
    assert breach.severity == "page"


def test_days_that_differ_widen_the_band() -> None:
    # Days of 2, 4, 6, ... 28 dollars: median 15, MAD 7, spread 10.4; z > 6 needs 78 dollars.
    past = [
        spent(minutes, day, str(Decimal(2 * day) * minutes / 60))
        for day in range(1, 15)
        for minutes in (15, 60)
    ]
    assert spend([*past, spent(15, 0, "15"), spent(60, 0, "60")], WEEKS, SpendGates()) == []
    assert spend([*past, spent(15, 0, "25"), spent(60, 0, "100")], WEEKS, SpendGates())


def test_one_dear_call_is_no_spike() -> None:
    rows = [*steady("1"), spent(15, 0, "8", calls=1), spent(60, 0, "8", calls=4)]
    assert spend(rows, WEEKS, SpendGates()) == []


def test_monday_after_a_weekend_of_history_is_quiet() -> None:
    past = [spent(m, day, str(Decimal("4.2") * m / 60)) for day in (1, 2, 3) for m in (15, 60)]
    monday = [spent(15, 0, "3"), spent(60, 0, "12")]  # 12 / 4.2 = 2.86 times
    assert spend([*past, *monday], YOUNG, SpendGates()) == []
    assert spend([*past, spent(15, 0, "5"), spent(60, 0, "20")], YOUNG, SpendGates())


def test_a_scope_never_seen_is_judged_by_its_dollars() -> None:
    rows = [*steady("30"), spent(15, 0, "7.5"), spent(15, 0, "2", feature="new")]
    (breach,) = spend(rows, WEEKS, SpendGates())
    assert (str(breach.scope), breach.usual) == ("feature=new", Decimal(0))


def test_spend_says_nothing_without_a_past() -> None:
    assert spend([spent(15, 0, "1000")], NONE, SpendGates()) == []


def cells(
    day: int, calls: int, *, mean: float = 0.0, slow: float = 0.05, feature: str = "chat"
) -> Iterable[LatencyCell]:
    """Calls of a log-normal with sigma 0.5 around `mean`."""
    for minutes in (15, 60):
        n = calls * minutes // 60
        yield LatencyCell(
            minutes, day, feature, "m", "t", "p", n, round(slow * n), mean * n, n * (0.25 + mean**2)
        )


def test_calls_that_take_a_third_longer_are_found_and_a_tenth_is_not() -> None:
    past = [cell for day in range(1, 15) for cell in cells(day, 400, mean=0.01 * (-1) ** day)]
    third = [*past, *cells(0, 400, mean=math.log(1.33), slow=0.12)]
    found = latency(third, WEEKS, LatencyGates())
    assert {str(breach.scope) for breach in found} == {
        "all calls",
        "feature=chat",
        "model=m",
        "team=t",
        "project=p",
    }
    assert found[0].observed == Decimal("1.33")
    tenth = [*past, *cells(0, 400, mean=math.log(1.1), slow=0.07)]
    assert latency(tenth, WEEKS, LatencyGates()) == []


def test_a_slow_tail_is_found_where_the_middle_did_not_move() -> None:
    past = [cell for day in range(1, 15) for cell in cells(day, 400)]
    assert latency([*past, *cells(0, 400, slow=0.08)], WEEKS, LatencyGates()) == []
    assert latency([*past, *cells(0, 400, slow=0.40)], WEEKS, LatencyGates())


def test_more_calls_of_a_slow_kind_are_no_slow_down() -> None:
    past = [
        cell
        for day in range(1, 15)
        for cell in (*cells(day, 400), *cells(day, 40, mean=3.0, feature="report"))
    ]
    mixed = [*cells(0, 100), *cells(0, 400, mean=3.0, feature="report")]
    assert latency([*past, *mixed], WEEKS, LatencyGates()) == []


def test_few_slow_calls_are_quiet() -> None:
    past = [cell for day in range(1, 15) for cell in cells(day, 400)]
    one = LatencyCell(15, 0, "chat", "m", "t", "p", 1, 1, math.log(180), math.log(180) ** 2)
    assert latency([*past, one], WEEKS, LatencyGates()) == []


def test_four_clean_weeks_raise_nothing() -> None:
    """Every hour of four weeks against the two before: 672 evaluations of four scopes."""
    world = _World(Random(20261118))  # noqa: S311 - a world to alert on
    raised: list[object] = []
    for hour in range(14 * 24, 42 * 24):
        basis = Basis("same hour of day", tuple(range(1, 15)), hour)
        rows = world.at(hour)
        raised += spend(rows.spend, basis, SpendGates(min_excess_usd_per_hour=Decimal("0.5")))
        raised += errors(rows.errors, rows.error_history, basis, ErrorGates())
    assert raised == []


class _World:
    """Hourly sums of four features with a day and a week shape, bursty errors, scattered costs."""

    def __init__(self, random: Random) -> None:
        self.calls: dict[tuple[str, int], int] = {}
        self.failed: dict[tuple[str, int], int] = {}
        self.cost: dict[tuple[str, int], tuple[Decimal, float]] = {}
        rates = {"chat": 900, "search": 300, "review": 60, "agent": 12}
        for feature, peak in rates.items():
            drift = 0.0
            for hour in range(42 * 24):
                drift = 0.8 * drift + random.gauss(0, 0.12)
                weekend = 0.35 if hour // 24 % 7 >= 5 else 1.0
                shape = 0.15 + 0.85 * math.exp(-0.5 * ((hour % 24 - 14) / 4) ** 2)
                mean = peak * shape * weekend * math.exp(drift)
                calls = max(0, round(random.gauss(mean, math.sqrt(mean + 1))))
                share = random.betavariate(0.66, 59.3)
                amounts = [0.03 * random.lognormvariate(0, 0.8) for _ in range(min(calls, 60))]
                scale = calls / max(1, len(amounts))
                self.calls[feature, hour] = calls
                self.failed[feature, hour] = sum(random.random() < share for _ in range(calls))
                self.cost[feature, hour] = (
                    Decimal(str(round(sum(amounts) * scale, 12))),
                    sum(amount**2 for amount in amounts) * scale,
                )

    def at(self, hour: int) -> "_Rows":
        rows = _Rows()
        features = ("chat", "search", "review", "agent")
        for feature in features:
            for day in range(15):
                key = (feature, hour - 24 * day)
                cost, square = self.cost[key]
                rows.spend.append(
                    SpendWindow(60, day, "feature", feature, self.calls[key], 0, cost, square)
                )
            past = [(feature, hour - 24 * day) for day in range(1, 15)]
            n = [self.calls[key] for key in past]
            k = [self.failed[key] for key in past]
            rows.errors.append(
                ErrorWindow(
                    60, "feature", feature, self.calls[feature, hour], self.failed[feature, hour]
                )
            )
            rows.error_history.append(
                ErrorHistory(
                    "feature",
                    feature,
                    len(n),
                    sum(n),
                    sum(k),
                    sum(x * x for x in n),
                    sum(x * x for x in k),
                    sum(x * y for x, y in zip(n, k, strict=True)),
                )
            )
        return rows


class _Rows:
    def __init__(self) -> None:
        self.spend: list[SpendWindow] = []
        self.errors: list[ErrorWindow] = []
        self.error_history: list[ErrorHistory] = []


def _big_past() -> ErrorHistory:
    """168 slots of 500 calls, 1.1 % failing, little scatter."""
    return ErrorHistory("", "", 168, 84_000, 924, 42_000_000, 6000, 462_000)
