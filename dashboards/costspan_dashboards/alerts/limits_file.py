"""`alerts.toml`: the limits of an installation. Checked whole at start; a mistake has its line."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError

from costspan.errors import Rejected
from costspan_dashboards.alerts.limits import Budget, LatencyObjective, Limits
from costspan_dashboards.alerts.rules import RULES

_LIMITS = TypeAdapter(Limits)
_LISTS: Mapping[str, type[Any]] = {"budgets": Budget, "latency_objectives": LatencyObjective}
_LINE = re.compile(r"\(at line (\d+), column \d+\)")


def read_limits(path: Path) -> Limits:
    """Return the limits in a file.

    Raises:
        Rejected: it cannot be read or a value is none; the message names line and reason.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path} cannot be read: {error}"
        raise Rejected(msg) from error
    try:
        return _checked(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        place = _LINE.search(str(error))
        line = int(place[1]) if place else text.count("\n") + 1
        msg = f"{path}, line {line}: this is not TOML: {_LINE.sub('', str(error)).strip()}"
        raise Rejected(msg) from error
    except _WrongError as error:
        msg = f"{path}, line {_line_of(text, error.where)}: {error.reason}"
        raise Rejected(msg) from error


class _WrongError(Exception):
    def __init__(self, where: Sequence[str | int], reason: str) -> None:
        super().__init__(reason)
        self.where = where
        self.reason = reason


def _checked(found: Mapping[str, Any]) -> Limits:
    _known(found, Limits, ())
    for name, shape in _LISTS.items():
        several = found.get(name, [])
        if not isinstance(several, list):
            raise _WrongError(
                (name,), f"of {name} there may be several: begin each with [[{name}]]"
            )
        for place, one in enumerate(cast("list[Any]", several)):
            if isinstance(one, dict):
                _known(cast("dict[str, Any]", one), shape, (name, place))
    disabled = found.get("disabled", ())
    for place, name in enumerate(cast("list[Any]", disabled) if isinstance(disabled, list) else ()):
        if name not in RULES:
            raise _WrongError(
                ("disabled", place), f"{name!r} is no rule; rules are {', '.join(RULES)}"
            )
    try:
        limits = _LIMITS.validate_json(TypeAdapter(Any).dump_json(found), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise _WrongError(first["loc"], f"{name}: {first['msg']}") from error
    if not 0 < limits.success_objective < 1:
        raise _WrongError(("success_objective",), "success_objective must be between 0 and 1")
    for place, plan in enumerate(limits.budgets):
        if plan.usd_per_month <= 0 or bool(plan.dimension) != bool(plan.value):
            reason = (
                "a budget is more than 0 dollars, and names both dimension and value or neither"
            )
            raise _WrongError(("budgets", place), reason)
        if str(plan) in [str(one) for one in limits.budgets[:place]]:
            raise _WrongError(("budgets", place), f"{plan} has a budget already")
    for place, one in enumerate(limits.latency_objectives):
        if one.seconds <= 0 or not 0 < one.share < 1:
            reason = "an objective has more than 0 seconds and a share between 0 and 1"
            raise _WrongError(("latency_objectives", place), reason)
    _positive(limits, ())
    return limits


def _known(found: Mapping[str, Any], shape: type[Any], where: tuple[str | int, ...]) -> None:
    names = {field.name: field.default_factory for field in fields(shape)}
    for name, value in found.items():
        if name not in names:
            known = ", ".join(sorted(names))
            raise _WrongError((*where, name), f"{name!r} is not known here; known are {known}")
        if isinstance(value, dict) and isinstance(names[name], type):
            inner = cast("type[Any]", names[name])
            _known(cast("dict[str, Any]", value), inner, (*where, name))


def _positive(limits: object, where: tuple[str, ...]) -> None:
    if not is_dataclass(limits):
        return
    for field in fields(limits):
        value = getattr(limits, field.name)
        if isinstance(value, float | int | Decimal):
            name = ".".join((*where, field.name))
            if value <= 0:
                raise _WrongError((*where, field.name), f"{name} must be more than 0")
            if value > 1 and field.name.endswith(("share", "tail")):
                raise _WrongError((*where, field.name), f"{name} is a share: at most 1")
        _positive(value, (*where, field.name))


def _line_of(text: str, where: Sequence[str | int]) -> int:
    """Return the line on which a key stands: below its table's head, the n-th of such heads."""
    lines = text.splitlines()
    head, place = "", 0
    if len(where) > 1 or (where and where[0] in _LISTS):
        head = str(where[0])
        place = next((part for part in where if isinstance(part, int)), 0)
    key = next((str(part) for part in reversed(where) if isinstance(part, str)), "")
    start = 0
    if head:
        heads = [
            number
            for number, line in enumerate(lines)
            if re.match(rf"\s*\[+\s*{re.escape(head)}\s*\]+", line)
        ]
        if heads:
            start = heads[min(place, len(heads) - 1)]
    for number in range(start, len(lines)):
        if re.match(rf"\s*{re.escape(key)}\s*=", lines[number]):
            return number + 1
    return start + 1
