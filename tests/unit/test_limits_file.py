"""`alerts.toml` is checked whole at start, and a mistake is named with its line."""

from decimal import Decimal
from pathlib import Path

import pytest

from costspan.errors import Rejected
from costspan_dashboards.alerts.limits import Budget, LatencyObjective, Limits
from costspan_dashboards.alerts.limits_file import read_limits

GOOD = """
success_objective = 0.995
disabled = ["late"]

[errors]
min_errors = 9

[spend]
page_excess_usd_per_hour = 100.50

[[latency_objectives]]
feature = "chat"
seconds = 12

[[budgets]]
usd_per_month = 4000

[[budgets]]
usd_per_month = 250.10
dimension = "team"
value = "search"
"""


def written(directory: Path, text: str) -> Path:
    """Return a file that holds a text."""
    path = directory / "alerts.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_what_a_file_does_not_say_stays_as_it_is(tmp_path: Path) -> None:
    limits = read_limits(written(tmp_path, GOOD))
    assert limits.errors.min_errors == 9
    assert limits.errors.tail == Limits().errors.tail
    assert limits.spend.page_excess_usd_per_hour == Decimal("100.50")
    assert limits.budgets[1] == Budget(Decimal("250.10"), "team", "search")
    assert limits.latency_objectives == (LatencyObjective(12, 0.95, "chat"),)
    assert read_limits(written(tmp_path, "")) == Limits()


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("[errors]\n\nmin_erors = 3", 3, "'min_erors' is not known here; known are min_errors"),
        ("[spend]\nz = 6\n[errors]\nmin_errors = 'few'", 4, "errors.min_errors"),
        ("x = 1\n", 1, "'x' is not known here"),
        ("[spend\n", 1, "not TOML"),
        ("disabled = ['erors']", 1, "'erors' is no rule"),
        ("\nsuccess_objective = 1.5", 2, "between 0 and 1"),
        ("[[budgets]]\nusd_per_month = 1\n[[budgets]]\nusd_per_month = 2\ndimension = 'team'", 3, "both"),
        ("[[budgets]]\nusd_per_month = 1\n[[budgets]]\nusd = 2", 4, "'usd' is not known"),
        ("[[latency_objectives]]\nseconds = 12\nshare = 95", 1, "a share between 0 and 1"),
        ("[[latency_objectives]]\nsecond = 12", 2, "'second' is not known here"),
        ("[latency]\nz = 5\nmin_ratio = -1", 3, "latency.min_ratio must be more than 0"),
        ("[spend]\nmin_excess_usd_per_hour = -1", 2, "must be more than 0"),
        ("[spend]\nz = true", 2, "spend.z"),
        ("[arrival]\nlate_share = 15", 2, "arrival.late_share is a share: at most 1"),
        ("budgets = 5", 1, "begin each with [[budgets]]"),
        ("disabled = []\n[budgets]\nusd_per_month = 5", 2, "begin each with [[budgets]]"),
        ("budgets = [3]", 1, "budgets.0"),
        ("[[budgets]]\nusd_per_month = 1\n[[budgets]]\nusd_per_month = 2", 3, "all calls has a budget"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_line(
    tmp_path: Path, text: str, line: int, reason: str
) -> None:
    with pytest.raises(Rejected) as found:
        read_limits(written(tmp_path, text))
    assert f"alerts.toml, line {line}: " in str(found.value)
    assert reason in str(found.value)


def test_a_file_that_is_not_there_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="cannot be read"):
        read_limits(tmp_path / "none.toml")
