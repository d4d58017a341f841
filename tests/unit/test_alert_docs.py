"""What `docs/alerts.md` says of rules and limits is so."""

import re
import tomllib
from dataclasses import fields, is_dataclass
from pathlib import Path

from costspan_dashboards.alerts.limits import LatencyObjective, Limits
from costspan_dashboards.alerts.limits_file import read_limits
from costspan_dashboards.alerts.outbox import CHANNEL_DOWN
from costspan_dashboards.alerts.rules import RULES
from costspan_dashboards.alerts.rules.plumbing import RULE_FAILS
from costspan_dashboards.alerts.runbooks import RUNBOOKS

TEXT = Path(__file__).parents[2].joinpath("docs/alerts.md").read_text(encoding="utf-8")
EXAMPLE, DEFAULTS = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)


def test_every_rule_has_a_row_an_example_and_something_to_do() -> None:
    rows = re.findall(r"^\| `(\w+)` \| .* \| .* \| .* \|$", TEXT, re.MULTILINE)
    assert rows == [*dict.fromkeys(rows)]
    (block,) = re.findall(r"```text\n(.*?)```", TEXT, re.DOTALL)
    examples = re.findall(r"^(\w+): ", block, re.MULTILINE)
    assert set(rows) == set(examples) == {*RULES, CHANNEL_DOWN, RULE_FAILS} == RUNBOOKS.keys()


def test_the_defaults_are_all_there_and_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / "alerts.toml"
    file.write_text(DEFAULTS, encoding="utf-8")
    assert read_limits(file) == Limits()
    document = tomllib.loads(DEFAULTS)
    for field in fields(Limits):
        limits = getattr(Limits(), field.name)
        if is_dataclass(limits):
            assert set(document[field.name]) == {one.name for one in fields(limits)}


def test_the_example_can_be_read(tmp_path: Path) -> None:
    file = tmp_path / "alerts.toml"
    file.write_text(EXAMPLE, encoding="utf-8")
    limits = read_limits(file)
    assert limits.latency_objectives == (LatencyObjective(12, 0.95, "chat"),)
    assert [str(one) for one in limits.budgets] == ["all calls", "team=search"]
