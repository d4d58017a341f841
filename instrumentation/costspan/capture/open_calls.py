"""The calls of one connection that have begun and not ended."""

from collections import deque
from dataclasses import dataclass, field
from decimal import Decimal

from costspan.capture.call import Call
from costspan.counters import count

_MOST_OPEN = 256


@dataclass(slots=True, eq=False)
class Open:
    """A call that has begun; `call` is None where its span is not recorded."""

    call: Call | None
    lane: str | None = None
    event_id: str | None = None
    key: str = ""


@dataclass(slots=True, eq=False)
class OpenSession(Open):
    """A session billed by the second."""

    total_seconds: Decimal = field(default_factory=Decimal)


class OpenCalls:
    """What was asked for, in order, and what is being answered, by key. Neither grows for ever.

    Any thread may ask; what another thread took meanwhile is not there any more.
    """

    def __init__(self) -> None:
        self._asked: deque[Open] = deque()
        self._answered: dict[str, Open] = {}

    def ask(self, asked: Open) -> None:
        """Keep what was asked for."""
        self._asked.append(asked)
        if len(self._asked) > _MOST_OPEN:
            _drop(self._asked.popleft())

    def asked(self) -> list[Open]:
        """Return what was asked for and not answered yet, oldest first."""
        return list(self._asked)

    def asked_in(self, lanes: set[str | None]) -> Open | None:
        """Return what was asked for first in these lanes."""
        return next((one for one in self.asked() if one.lane in lanes), None)

    def take(self, asked: Open) -> bool:
        """Take out what was asked for, and return whether it was still there."""
        try:
            self._asked.remove(asked)
        except ValueError:  # another thread did
            return False
        return True

    def answer(self, known: Open) -> None:
        """Keep what is being answered."""
        self._answered[known.key] = known
        if len(self._answered) > _MOST_OPEN:
            _drop(self._answered.pop(next(iter(self._answered))))

    def answered(self, key: str) -> Open | None:
        """Return what is being answered under a key."""
        return self._answered.get(key)

    def all_answered(self) -> list[Open]:
        """Return what is being answered, oldest first."""
        return list(self._answered.values())

    def answered_in(self, lane: str | None) -> Open | None:
        """Return what is being answered in a lane, the newest."""
        return next((one for one in reversed(self.all_answered()) if one.lane == lane), None)

    def end(self, key: str) -> Open | None:
        """Take out what is being answered under a key."""
        return self._answered.pop(key, None)

    def clear(self) -> list[Open]:
        """Take out everything."""
        found = [*self.asked(), *self.all_answered()]
        self._asked.clear()
        self._answered.clear()
        return found


def _drop(known: Open) -> None:
    count("too_many_open")
    if known.call is not None:
        known.call.closed()
