"""Attributes of a span, read by the type they must have."""

import math
from collections import Counter
from collections.abc import Collection, Iterator
from enum import StrEnum
from itertools import islice
from typing import NoReturn

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from costspan import semconv
from costspan.errors import Rejected

LONGEST_TEXT = 1024
MOST_ATTRIBUTES = 1024
"""Of one span or resource; OpenTelemetry's own default is 128."""
MOST_TEXTS = 128
_LONGEST_SECONDS = 10**9
_OPEN_ENDED = (semconv.USAGE, semconv.ESTIMATE, semconv.COST_PART)


class Reason(StrEnum):
    """Why a span can never be kept: a few words, for counting."""

    BAD_ID = "bad_id"
    BAD_TIME = "bad_time"
    BAD_COST = "bad_cost"
    BAD_USAGE = "bad_usage"
    WRONG_TYPE = "wrong_type"
    OUT_OF_RANGE = "out_of_range"
    TOO_MANY_ATTRIBUTES = "too_many_attributes"
    UNREADABLE = "unreadable"


class BadSpan(Rejected):
    """A span that can never be kept, and why."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Attributes:
    """The attributes of one span or resource.

    Each reader takes the name and the older names of one thing and returns what the first of
    them holds. Messages name the attribute and never what it held, which may be private.
    """

    def __init__(self, pairs: Collection[KeyValue], truncated: Counter[str]) -> None:
        self.number = len(pairs)
        """How many there are; those beyond `MOST_ATTRIBUTES` are not looked at."""
        self._values = {pair.key: pair.value for pair in islice(pairs, MOST_ATTRIBUTES)}
        self._truncated = truncated

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def starting_with(self, prefix: str) -> Iterator[str]:
        """Yield the names that start with `prefix`."""
        return (name for name in self._values if name.startswith(prefix))

    def text(self, *names: str) -> str:
        """Return a text, cut to its longest length; empty where there is none."""
        name, kind, value = self._first(names)
        if kind == "string_value":
            return self.cut(name, value.string_value)
        if kind == "int_value":  # ids of users and customers are often numbers
            return str(value.int_value)
        if kind:
            self._wrong(name, kind, "text")
        return ""

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of texts; empty where there is none."""
        _, kind, value = self._first((name,))
        if kind != "array_value":
            return (self.text(name),) if kind else ()
        items = value.array_value.values
        if len(items) > MOST_TEXTS:
            self._count_cut(name)
        first = items[:MOST_TEXTS]
        for item in first:
            if not item.HasField("string_value"):
                self._wrong(name, item.WhichOneof("value"), "a list of texts")
        return tuple(self.cut(name, item.string_value) for item in first)

    def count(self, *names: str, most: int) -> int | None:
        """Return a whole number from 0 to `most`; None where there is none."""
        name, kind, value = self._first(names)
        if not kind:
            return None
        if kind != "int_value":
            self._wrong(name, kind, "a whole number")
        if not 0 <= value.int_value <= most:
            raise BadSpan(
                Reason.OUT_OF_RANGE, f"{name} is {value.int_value}, not within 0 and {most}"
            )
        return value.int_value

    def microseconds(self, name: str) -> int | None:
        """Return a time given in seconds as whole microseconds; None where there is none."""
        _, kind, value = self._first((name,))
        if not kind:
            return None
        if kind not in {"double_value", "int_value"}:
            self._wrong(name, kind, "seconds")
        seconds = value.double_value if kind == "double_value" else value.int_value
        if not (math.isfinite(seconds) and 0 <= seconds < _LONGEST_SECONDS):
            raise BadSpan(Reason.OUT_OF_RANGE, f"{name} is {seconds}, no time that can have passed")
        return round(seconds * 1_000_000)

    def flag(self, name: str) -> bool:
        """Return a truth value; False where there is none."""
        _, kind, value = self._first((name,))
        if kind and kind != "bool_value":
            self._wrong(name, kind, "true or false")
        return value.bool_value

    def cut(self, name: str, text: str) -> str:
        """Return `text`, cut to its longest length; a cut is counted."""
        if len(text) <= LONGEST_TEXT:
            return text
        self._count_cut(name)
        return text[:LONGEST_TEXT]

    def _count_cut(self, name: str) -> None:
        """Count it; of names whose end is the sender's choice, by their beginning."""
        open_ended = (start for start in _OPEN_ENDED if name.startswith(start))
        self._truncated[next(open_ended, name)] += 1

    def _first(self, names: tuple[str, ...]) -> tuple[str, str | None, AnyValue]:
        for name in names:
            value = self._values.get(name)
            kind = value.WhichOneof("value") if value is not None else None
            if value is not None and kind:  # a null is as good as absent
                return name, kind, value
        return names[0], None, _NOTHING

    def _wrong(self, name: str, kind: str | None, wanted: str) -> NoReturn:
        found = (kind or "empty").removesuffix("_value")
        raise BadSpan(Reason.WRONG_TYPE, f"{name} is {found} where {wanted} belongs")


_NOTHING = AnyValue()
