"""The JSON of an answer, exactly as stated: a number keeps its digits, and nothing is assumed."""

import json
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, NoReturn, cast

from costspan.errors import Rejected
from costspan_reconcile.amounts import read_amount


class Blocked(Rejected):
    """What was read must not be compared with anything; what was read before stays."""

    gate = ""
    """The name of the rule, as it stands before the reason."""


class Incomplete(Blocked):
    """An answer is cut short or contradicts itself; none of it is used."""

    gate = "BLOCKED_INCOMPLETE"


def decode(body: str) -> object:
    """Return what `body` states; numbers with a point stay text, a float would lose digits.

    Raises:
        Incomplete: it is no JSON.
    """
    try:
        return json.loads(body, parse_float=str, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        msg = f"the answer is not JSON ({error})"
        raise Incomplete(msg) from error


def number(value: object, what: str) -> Fraction:
    """Return a number that is sent as a number or as a text.

    Raises:
        Incomplete: it is neither.
    """
    if isinstance(value, bool) or not isinstance(value, str | int):
        fail(f"{what} is {value!r}, not a number")
    try:
        return read_amount(str(value))
    except Rejected as error:
        fail(f"{what}: {error}")


def count(value: object, what: str) -> int:
    """Return a whole number that is not negative, however it is written; 0 for null.

    Raises:
        Incomplete: it is none, or larger than any count.
    """
    if value is None:
        return 0
    counted = number(value, what)
    if counted.denominator != 1 or not 0 <= counted < 2**64:
        fail(f"{what} is {value!r}, not a count")
    return int(counted)


def text(result: Mapping[str, Any], name: str) -> str:
    """Return a field that is a text or null, which is ''.

    Raises:
        Incomplete: it is something else.
    """
    value = result.get(name)
    if value is not None and not isinstance(value, str):
        fail(f"{name} is {value!r}, not a text")
    return value or ""


def record(value: object, what: str) -> Mapping[str, Any]:
    """Return a JSON object.

    Raises:
        Incomplete: it is none.
    """
    if not isinstance(value, Mapping):
        fail(f"{what} is not an object")
    return cast("Mapping[str, Any]", value)


def records(value: object, what: str) -> list[object]:
    """Return a JSON list.

    Raises:
        Incomplete: it is none.
    """
    if not isinstance(value, list):
        fail(f"{what} is not a list")
    return cast("list[object]", value)


def fail(msg: str) -> NoReturn:
    """Refuse the whole answer.

    Raises:
        Incomplete: always.
    """
    raise Incomplete(msg)


def _no_number(name: str) -> NoReturn:
    msg = f"{name} is not a number"
    raise ValueError(msg)
