"""Negotiated prices: one TOML file, read once and refused at the start if anything in it is wrong.

    [[override]]
    name = "acme-2026"
    match = { model = "gpt-6*", tier = ["standard", "batch"], meter = "input", project = "proj_1" }
    percent_off = "12.5"
    from = 2026-10-01
    to = 2027-10-01

    [[override]]
    name = "acme-gpt-5.4"
    match = { model = "gpt-5.4", meter = "input" }
    amount = "2.10"
    per = 1_000_000

`match` may leave out what does not matter; model is a glob, the others a text or a list. Where
several fit, the last in the file holds. An amount replaces the rate with its regional factor;
`from` is the first day, `to` the first day after, both at midnight UTC.
"""

import re
import tomllib
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from fnmatch import fnmatchcase
from fractions import Fraction
from pathlib import Path
from typing import Any, NoReturn, cast

from costspan.errors import Rejected
from costspan.money import PICO_PER_USD
from costspan.pricing.book import default_book

_HEADER = re.compile(r"^\s*\[\[\s*override\s*]]", re.MULTILINE)
_FIELDS = frozenset({"name", "match", "percent_off", "amount", "per", "from", "to"})
_MATCHES = frozenset({"model", "tier", "meter", "project"})


@dataclass(frozen=True, slots=True)
class Override:
    """One negotiated price: a factor on the list rate, or a rate of its own in pico-dollars."""

    name: str
    model: str
    tiers: frozenset[str]
    meters: frozenset[str]
    """Empty: all of them, as for tiers and projects."""
    projects: frozenset[str]
    valid_from: datetime
    valid_to: datetime
    factor: Fraction | None
    pico: Fraction

    def covers(
        self, models: AbstractSet[str], tier: str, meter: str, project: str | None, at: datetime
    ) -> bool:
        """Return whether this holds for such a unit; `models` are the names of one model."""
        return (
            self.valid_from <= at < self.valid_to
            and (not self.tiers or tier in self.tiers)
            and (not self.meters or meter in self.meters)
            and (not self.projects or project in self.projects)
            and any(fnmatchcase(model, self.model) for model in models)
        )

    def rate(self, listed: Fraction) -> Fraction:
        """Return the negotiated pico-dollars a unit, where the list says `listed`."""
        return self.pico if self.factor is None else listed * self.factor


@dataclass(frozen=True, slots=True)
class Overrides:
    """The overrides of one file, and its text: it is part of the version of a book."""

    rules: tuple[Override, ...]
    text: str


def load_overrides(path: Path) -> Overrides:
    """Return the overrides in a file.

    Raises:
        Rejected: the file cannot be read or something in it is wrong; says where and what.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"cannot read overrides {path}: {error}"
        raise Rejected(msg) from error
    try:
        return read_overrides(text)
    except Rejected as error:
        msg = f"{path}: {error}"
        raise Rejected(msg) from error


def read_overrides(text: str) -> Overrides:
    """Return the overrides written in `text`.

    Raises:
        Rejected: something in it is wrong; says in which line and what.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        last = f"line {len(text.splitlines())}, the last"
        raise Rejected(str(error).replace("end of document", last)) from error
    if unknown := sorted(document.keys() - {"override"}):
        msg = f"line {_line(text, 0, unknown[0])}: unknown key {unknown[0]!r}; use [[override]]"
        raise Rejected(msg)
    entries = document.get("override", [])
    if not isinstance(entries, list):
        msg = f"line {_line(text, 0, 'override')}: write [[override]], in double brackets"
        raise Rejected(msg)
    starts = [found.start() for found in _HEADER.finditer(text)]
    rules: list[Override] = []
    for entry, start in zip(cast("list[dict[str, Any]]", entries), starts, strict=True):
        try:
            rules.append(_override(entry))
        except _Wrong as wrong:
            msg = f"line {_line(text, start, wrong.key)}: {wrong}"
            raise Rejected(msg) from wrong
    return Overrides(tuple(rules), text)


class _Wrong(Exception):
    """Something is wrong with one key of an override."""

    def __init__(self, key: str, why: str) -> None:
        super().__init__(f"{key}: {why}")
        self.key = key


def _refuse(key: str, why: str) -> NoReturn:
    raise _Wrong(key, why)


def _override(entry: Mapping[str, Any]) -> Override:
    _known(entry, _FIELDS)
    name, match = entry.get("name"), entry.get("match")
    if not isinstance(name, str) or not name:
        _refuse("name", "every override needs one; it is recorded with each call")
    if not isinstance(match, dict) or not match:
        _refuse("match", 'say what this holds for, such as { model = "gpt-6*" }')
    where = cast("dict[str, Any]", match)
    _known(where, _MATCHES)
    model = where.get("model", "*")
    if not isinstance(model, str):
        _refuse("model", f"{model!r} is not a name or a glob")
    rows = default_book().rows
    factor, pico = _amount(entry)
    valid_from = _midnight(entry, "from", datetime.min.replace(tzinfo=UTC))
    valid_to = _midnight(entry, "to", datetime.max.replace(tzinfo=UTC))
    if valid_from >= valid_to:
        _refuse("to", "is not after `from`, so this never holds")
    return Override(
        name=name,
        model=model,
        tiers=_names(where, "tier", {tier for _, tier, _ in rows} - {"any"}),
        meters=_names(
            where, "meter", {m for found in rows.values() for row in found for m in row.usd}
        ),
        projects=_names(where, "project", None),
        valid_from=valid_from,
        valid_to=valid_to,
        factor=factor,
        pico=pico,
    )


def _amount(entry: Mapping[str, Any]) -> tuple[Fraction | None, Fraction]:
    if ("percent_off" in entry) == ("amount" in entry):
        key = "amount" if "amount" in entry else "match"
        _refuse(key, "give either percent_off, or amount and per")
    if "percent_off" in entry:
        percent = _decimal(entry, "percent_off")
        if not 0 <= percent <= 100:
            _refuse("percent_off", f"{percent} is not between 0 and 100")
        return 1 - percent / 100, Fraction(0)
    per = entry.get("per")
    if type(per) is not int or per <= 0:
        _refuse("per" if "per" in entry else "amount", "needs `per`, a whole number of units")
    amount = _decimal(entry, "amount")
    if amount < 0:
        _refuse("amount", "is below zero")
    return None, amount * PICO_PER_USD / per


def _decimal(entry: Mapping[str, Any], key: str) -> Fraction:
    value = entry[key]
    if not isinstance(value, str):
        _refuse(key, f'write it in quotes, "{value}", so that its digits are exact')
    try:
        return Fraction(Decimal(value))
    except (InvalidOperation, ValueError, OverflowError):
        _refuse(key, f"{value!r} is not a decimal number")


def _midnight(entry: Mapping[str, Any], key: str, otherwise: datetime) -> datetime:
    value = entry.get(key)
    if value is None:
        return otherwise
    if isinstance(value, datetime):
        if value.tzinfo is None:
            _refuse(key, f"{value} has no time zone; write a day, or add Z")
        return value.astimezone(UTC)
    if isinstance(value, date):
        return datetime.combine(value, time(), UTC)
    _refuse(key, f"{value!r} is not a day such as 2026-10-01")


def _names(where: Mapping[str, Any], key: str, known: set[str] | None) -> frozenset[str]:
    value = where.get(key, [])
    listed = cast("list[object]", value) if isinstance(value, list) else [value]
    names = frozenset(name for name in listed if isinstance(name, str) and name)
    if len(names) != len(listed):
        _refuse(key, f"{value!r} is not a text or a list of different texts")
    if known is not None and (unknown := sorted(names - known)):
        _refuse(key, f"there is no {unknown[0]!r}; there are {', '.join(sorted(known))}")
    return names


def _known(entry: Mapping[str, Any], known: AbstractSet[str]) -> None:
    if unknown := sorted(entry.keys() - known):
        _refuse(unknown[0], f"unknown; there are {', '.join(sorted(known))}")


def _line(text: str, start: int, key: str) -> int:
    """Return the line of `key` after `start`, of `start` where it is not written."""
    end = _HEADER.search(text, start + 2)
    found = re.compile(rf"(?<![\w.-]){re.escape(key)}\s*(=|])").search(
        text, start, end.start() if end else len(text)
    )
    return text.count("\n", 0, found.start() if found else _first(text, start)) + 1


def _first(text: str, start: int) -> int:
    """Return where the header at `start` stands, after the empty lines that belong to the match."""
    return start + len(text[start:]) - len(text[start:].lstrip())
