"""The rules for what no call accounts for: what they mean, and how a wrong one is refused."""

from pathlib import Path

import pytest

from costspan.errors import Rejected
from costspan_reconcile.allocate.policy import NO_RULES, Policy, load_policy, read_policy

RULES = """
[[rule]]
name = "everything"
match = { }
policy = "proportional"

[[rule]]
name = "nightly"
match = { project = ["proj_1", "proj_2"], key = "nightly*", class = "UNINSTRUMENTED_*" }
policy = "fixed"
shares = { data = 2, search = 1 }

[[rule]]
name = "storage"
match = { line_item = "*storage*" }
policy = "even"
teams = ["data", "search"]

[[rule]]
name = "not shared"
match = { project = "proj_3" }
policy = "central"
"""


def rule_of(policy: Policy, **line: str) -> str:
    known = {"project": "proj_1", "key": "key_1", "line_item": "x, input", "class": "MATCHED"}
    rule = policy.rule({what: {name} for what, name in (known | line).items()})
    return rule.name if rule else ""


def test_the_last_rule_that_fits_in_everything_it_names_holds() -> None:
    policy = read_policy(RULES)
    assert rule_of(policy) == "everything"
    assert rule_of(policy, key="nightly batch") == "everything"
    instrumented = {"key": "nightly batch", "class": "UNINSTRUMENTED_KEY"}
    assert rule_of(policy, **instrumented) == "nightly"
    assert rule_of(policy, **instrumented, project="proj_9") == "everything"
    assert rule_of(policy, **instrumented, line_item="Vector storage") == "storage"
    assert rule_of(policy, line_item="Vector storage", project="proj_3") == "not shared"


def test_without_rules_nothing_is_shared() -> None:
    assert rule_of(NO_RULES) == ""
    assert read_policy("# none") != NO_RULES  # but it is another file, and named in each run


def test_even_is_a_fixed_share_of_one_each() -> None:
    kept = {rule.name: (rule.policy, dict(rule.shares)) for rule in read_policy(RULES).rules}
    assert kept == {
        "everything": ("proportional", {}),
        "nightly": ("listed", {"data": 2, "search": 1}),
        "storage": ("listed", {"data": 1, "search": 1}),
        "not shared": ("", {}),
    }


GOOD = '[[rule]]\nname = "a"\nmatch = {}\npolicy = "central"\n\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[rule]\n", r"line 1: write each rule as \[\[rule\]\]"),
        ("rule = 1\n", r"line 1: write each rule as"),
        (GOOD + "[[rules]]\n", r"line 6: unknown key 'rules'"),
        (GOOD + "[[rule]]\nmatch = {}\n", "line 6: name: every rule needs one"),
        (GOOD + GOOD, "line 7: name: 'a' is the name of another rule"),
        (
            '[[rule]]\nname = "a"\npolicy = "even"\nteams = ["a"]',
            "line 1: match: say what this is for",
        ),
        ('[[rule]]\nname = "a"\nmatch = {}\n', "line 1: policy: is none of proportional, fixed"),
        (GOOD + '[[rule]]\nname = "b"\nmatch = {}\npolicy = "evn"\n', "line 9: policy: is none of"),
        (
            '[[rule]]\nname = "a"\nmatch = { team = "x" }\npolicy = "central"',
            "line 3: team: unknown",
        ),
        (
            '[[rule]]\nname = "a"\nmatch = { key = [] }\npolicy = "central"',
            "line 3: key: write a list",
        ),
        (
            '[[rule]]\nname = "a"\nmatch = { class = "STORAG" }\npolicy = "central"',
            "line 3: class: there is no 'STORAG'; there are .*, STORAGE,",
        ),
        (
            '[[rule]]\nname = "a"\nmatch = {}\npolicy = "fixed"\nshares = { a = 0.5 }',
            "line 5: shares: give each team a whole number",
        ),
        ('[[rule]]\nname = "a"\nmatch = {}\npolicy = "fixed"\n', "line 1: shares: give each team"),
        (
            '[[rule]]\nname = "a"\nmatch = {}\npolicy = "fixed"\nshares = { a = true }',
            "line 5: shares: give each team",
        ),
        (
            '[[rule]]\nname = "a"\nmatch = {}\npolicy = "even"\nteams = ["a", "a"]',
            "line 5: teams: names one of them twice",
        ),
        (
            '[[rule]]\nname = "a"\nmatch = {}\npolicy = "even"\nshares = { a = 1 }',
            "line 5: shares: the policy even takes none",
        ),
        ('[[rule]]\nname = "a"\nwhen = 1\n', "line 3: when: unknown; a rule has match, name"),
        ('[[rule]]\nname = "a\n', "line 2"),
    ],
)
def test_a_rule_that_is_wrong_is_refused_with_its_line_and_the_reason(text: str, said: str) -> None:
    with pytest.raises(Rejected, match=said):
        read_policy(text)


def test_a_file_is_named_with_what_is_wrong_in_it(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    with pytest.raises(Rejected, match="cannot read the rules of the allocation in .*rules.toml"):
        load_policy(path)
    path.write_text("[rule]\n")
    with pytest.raises(Rejected, match="rules.toml: line 1"):
        load_policy(path)
    path.write_text(RULES)
    assert load_policy(path) == read_policy(RULES)
