"""Who gets the billed dollars that no call accounts for: one TOML file, refused if anything is wrong.

    [[rule]]
    name = "storage"
    match = { line_item = "*storage*" }
    policy = "proportional"

    [[rule]]
    name = "the nightly batch"
    match = { project = "proj_1", key = "nightly*", class = "UNINSTRUMENTED_KEY" }
    policy = "fixed"
    shares = { data = 2, search = 1 }

    [[rule]]
    name = "scale tier"
    match = { class = "ORG_LEVEL_FEE" }
    policy = "even"
    teams = ["data", "search"]

`match` may leave out what does not matter; each is a glob or a list of globs. A key is known by its
id and by its name; `class` is the class of the reconciled line, such as STORAGE. `proportional`
goes by what the teams and features of the line's project were billed directly that day, those of
all projects where the line has none; `central` keeps the dollars out of every team. Where several
rules fit, the last in the file holds; where none does, it is central.
"""

import hashlib
import re
import tomllib
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NoReturn, cast

from costspan.errors import Rejected
from costspan_reconcile.explain.classes import Class

_HEADER = re.compile(r"^\s*\[\[\s*rule\s*]]", re.MULTILINE)
_MATCHES = ("project", "key", "line_item", "class")
_NEEDS = {"proportional": None, "fixed": "shares", "even": "teams", "central": None}
_FIELDS = {"name", "match", "policy", "shares", "teams"}
_MOST = 10**9


@dataclass(frozen=True, slots=True)
class Rule:
    """What becomes of the rest of the lines that it fits."""

    name: str
    match: Mapping[str, tuple[str, ...]]
    """Globs; what is left out fits everything."""
    policy: str
    """As a row of `allocation_lines` has it: '', listed or proportional."""
    shares: Mapping[str, int]
    """Of each team, if listed."""

    def fits(self, line: Mapping[str, AbstractSet[str]]) -> bool:
        """Return whether this is for a line, by everything that it is known as."""
        return all(
            any(fnmatchcase(name, glob) for name in line[what] for glob in globs)
            for what, globs in self.match.items()
        )


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of one file."""

    rules: tuple[Rule, ...]
    sha256: str

    def rule(self, line: Mapping[str, AbstractSet[str]]) -> Rule | None:
        """Return the rule for a line, if there is one."""
        return next((rule for rule in reversed(self.rules) if rule.fits(line)), None)


def load_policy(path: Path) -> Policy:
    """Return the rules in a file.

    Raises:
        Rejected: the file cannot be read or something in it is wrong; says where and what.
    """
    try:
        return read_policy(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        msg = f"cannot read the rules of the allocation in {path}: {error}"
        raise Rejected(msg) from error
    except Rejected as error:
        msg = f"{path}: {error}"
        raise Rejected(msg) from error


def read_policy(text: str) -> Policy:
    """Return the rules written in `text`.

    Raises:
        Rejected: something in it is wrong; says in which line and what.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        last = f"line {len(text.splitlines())}, the last"
        raise Rejected(str(error).replace("end of document", last)) from error
    if unknown := sorted(document.keys() - {"rule"}):
        msg = f"line {_line(text, 0, unknown[0])}: unknown key {unknown[0]!r}; use [[rule]]"
        raise Rejected(msg)
    entries = document.get("rule", [])
    starts = [found.start() for found in _HEADER.finditer(text)]
    if not isinstance(entries, list) or len(starts) != len(cast("list[Any]", entries)):
        msg = f"line {_line(text, 0, 'rule')}: write each rule as [[rule]], in double brackets"
        raise Rejected(msg)
    rules: list[Rule] = []
    for entry, start in zip(cast("list[dict[str, Any]]", entries), starts, strict=True):
        try:
            rules.append(_rule(entry, {rule.name for rule in rules}))
        except _Wrong as wrong:
            msg = f"line {_line(text, start, wrong.key)}: {wrong}"
            raise Rejected(msg) from wrong
    return Policy(tuple(rules), hashlib.sha256(text.encode()).hexdigest())


NO_RULES = read_policy("")


class _Wrong(Exception):
    """Something is wrong with one key of a rule."""

    def __init__(self, key: str, why: str) -> None:
        super().__init__(f"{key}: {why}")
        self.key = key


def _refuse(key: str, why: str) -> NoReturn:
    raise _Wrong(key, why)


def _rule(entry: Mapping[str, Any], taken: AbstractSet[str]) -> Rule:
    if unknown := sorted(entry.keys() - _FIELDS):
        _refuse(unknown[0], f"unknown; a rule has {', '.join(sorted(_FIELDS))}")
    name, policy = entry.get("name"), entry.get("policy")
    if not isinstance(name, str) or not name:
        _refuse("name", "every rule needs one; it is kept with each dollar that goes by it")
    if name in taken:
        _refuse("name", f"{name!r} is the name of another rule")
    if not isinstance(policy, str) or policy not in _NEEDS:
        _refuse("policy", f"is none of {', '.join(_NEEDS)}")
    for field in ("shares", "teams"):
        if field in entry and _NEEDS[policy] != field:
            _refuse(field, f"the policy {policy} takes none")
    shares = _shares(entry.get("shares")) if policy == "fixed" else dict[str, int]()
    if policy == "even":
        shares = dict.fromkeys(_texts("teams", entry.get("teams")), 1)
    kept = {"fixed": "listed", "even": "listed", "central": ""}.get(policy, policy)
    return Rule(name, _match(entry.get("match")), kept, shares)


def _match(value: object) -> Mapping[str, tuple[str, ...]]:
    if not isinstance(value, dict):
        _refuse("match", 'say what this is for, such as { class = "STORAGE" }; { } is everything')
    found = cast("dict[str, object]", value)
    if unknown := sorted(found.keys() - {*_MATCHES}):
        _refuse(unknown[0], f"unknown; a match has {', '.join(_MATCHES)}")
    match = {
        key: _texts(key, [globs] if isinstance(globs, str) else globs)
        for key, globs in found.items()
    }
    for glob in match.get("class", ()):
        if not any(fnmatchcase(name, glob) for name in Class):
            _refuse("class", f"there is no {glob!r}; there are {', '.join(sorted(Class))}")
    return match


def _texts(key: str, value: object) -> tuple[str, ...]:
    texts = cast("list[object]", value) if isinstance(value, list) else []
    found = tuple(text for text in texts if isinstance(text, str) and text)
    if not found or len(found) < len(texts):
        _refuse(key, "write a list of texts, none of them empty")
    if len({*found}) < len(found):
        _refuse(key, "names one of them twice")
    return found


def _shares(value: object) -> Mapping[str, int]:
    shares = cast("dict[str, object]", value) if isinstance(value, dict) else {}
    found = {
        team: share
        for team, share in shares.items()
        if team and type(share) is int and 0 < share <= _MOST
    }
    if not found or len(found) < len(shares):
        _refuse(
            "shares", "give each team a whole number above zero, such as { data = 2, search = 1 }"
        )
    return found


def _line(text: str, start: int, key: str) -> int:
    """Return the line of `key` in the table whose header is at `start`; of the header if not there."""
    header = start + len(text[start:]) - len(text[start:].lstrip())  # it may begin with empty lines
    following = _HEADER.search(text, header + 2)
    end = following.start() if following else len(text)
    found = re.compile(rf"(?<![\w.-]){re.escape(key)}\s*(=|])").search(text, header, end)
    return text.count("\n", 0, found.start() if found else header) + 1
