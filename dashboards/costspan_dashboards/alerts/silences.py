"""Silences and operator's marks: what people say about alerts, and what that is kept as."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Literal
from uuid import uuid4

from costspan.errors import Rejected
from costspan_collector.store import Store, load_sql
from costspan_dashboards.alerts.cause import DIMENSIONS
from costspan_dashboards.alerts.finding import SEVERITIES, Finding
from costspan_dashboards.alerts.frame import Mark, minute_of
from costspan_dashboards.alerts.runbooks import RUNBOOKS
from costspan_dashboards.alerts.state import Action, ActionKind, Alert

_PACKAGE = "costspan_dashboards.alerts"
_NAMES = ("rule", "severity", *DIMENSIONS)
_KNOWN: Mapping[str, Sequence[str]] = {"rule": tuple(RUNBOOKS), "severity": SEVERITIES}
_MATCHER = re.compile(r"(\w+)=(.+)", re.DOTALL)

Matchers = dict[str, str]
"""By name what a value must be; `*` stands for any text."""


@dataclass(frozen=True, slots=True)
class Silence:
    """Nobody is told of alerts that have all these values, from `starts_at` to `ends_at`."""

    silence_id: str
    matchers: Matchers
    author: str
    comment: str
    starts_at: datetime
    ends_at: datetime
    at: datetime
    """When it was made, or changed at last."""

    def __str__(self) -> str:
        return f"silence {self.silence_id} by {self.author} until {self.ends_at:%Y-%m-%d %H:%M} UTC"

    def holds(self, finding: Finding, now: datetime) -> bool:
        """Say whether it is about a finding, now."""
        if not self.starts_at <= now < self.ends_at:
            return False
        has = [("rule", finding.rule), ("severity", finding.severity)]
        has += [(finding.scope.dimension, finding.scope.value), *finding.shared]
        has += [pair for one in finding.contributors for pair in (*one.where, *one.also)]
        return all(
            any(name == mine and fnmatchcase(value, wanted) for mine, value in has)
            for name, wanted in self.matchers.items()
        )


@dataclass(frozen=True, slots=True)
class OperatorMark:
    """What a person said of a stretch of time: not to be compared with, or the new usual."""

    mark_id: str
    kind: Literal["left_out", "new_level"]
    since: datetime
    until: datetime | None
    dimension: str
    value: str
    author: str
    comment: str
    at: datetime
    undone: bool = False

    @property
    def as_mark(self) -> Mark:
        """What the baselines make of it."""
        until = minute_of(self.until) if self.until else None
        return Mark(self.kind, minute_of(self.since), until, self.dimension, self.value)


def matchers(texts: Iterable[str]) -> Matchers:
    """Return what `name=value` texts ask for.

    Raises:
        Rejected: there is none, or one is not of that form or can never hold.
    """
    found: Matchers = {}
    for text in texts:
        match = _MATCHER.fullmatch(text.strip())
        if not match or match[1] not in _NAMES:
            msg = f"{text!r} is not name=value with a name of {', '.join(_NAMES)}"
            raise Rejected(msg)
        name, value = match[1], match[2]
        known = _KNOWN.get(name, (value,))
        if name in found:
            msg = f"{name} is given twice; * stands for any text"
            raise Rejected(msg)
        if not any(fnmatchcase(one, value) for one in known):
            msg = f"no {name} is called {value}; there are {', '.join(known)}"
            raise Rejected(msg)
        found[name] = value
    if not found:
        msg = "a silence of everything is not made: say what it is about, such as rule=latency"
        raise Rejected(msg)
    return found


def silence(
    store: Store, about: Matchers, author: str, comment: str, ends_at: datetime, now: datetime
) -> Silence:
    """Begin a silence.

    Raises:
        Rejected: it has no author, no comment, or no end to come.
        Unavailable: the store did not answer.
    """
    if not author.strip() or not comment.strip():
        msg = "a silence has an author and a comment, so that others know why it is quiet"
        raise Rejected(msg)
    if ends_at <= now:
        msg = f"a silence ends in the future; {ends_at:%Y-%m-%d %H:%M} UTC is past"
        raise Rejected(msg)
    made = Silence(uuid4().hex[:12], about, author.strip(), comment.strip(), now, ends_at, now)
    store.insert("silences", [made])
    return made


def end_silence(store: Store, ended: Silence, now: datetime) -> None:
    """End a silence before its time."""
    store.insert("silences", [replace(ended, ends_at=now, at=now)])


def silences(store: Store, now: datetime) -> list[Silence]:
    """Return the silences that go on, the one that ends first first."""
    return store.select(load_sql(_PACKAGE, "silences"), Silence, now=now)


def mark(
    store: Store,
    kind: Literal["left_out", "new_level"],
    since: datetime,
    until: datetime | None,
    where: tuple[str, str],
    author: str,
    comment: str,
    now: datetime,
) -> OperatorMark:
    """Mark a stretch of time.

    Raises:
        Rejected: it has no author, or what is left out has no end.
        Unavailable: the store did not answer.
    """
    if not author.strip():
        msg = "a mark has an author, so that others know whom to ask"
        raise Rejected(msg)
    if kind == "left_out" and (until is None or until <= since):
        msg = "what is left out has a beginning and, after it, an end"
        raise Rejected(msg)
    made = OperatorMark(
        uuid4().hex[:12], kind, since, until, *where, author.strip(), comment.strip(), now
    )
    store.insert("alert_marks", [made])
    return made


def undo(store: Store, made: OperatorMark, now: datetime) -> None:
    """Take a mark back."""
    store.insert("alert_marks", [replace(made, undone=True, at=now)])


def marks(store: Store) -> list[OperatorMark]:
    """Return the marks that hold, the newest first."""
    return store.select(load_sql(_PACKAGE, "marks"), OperatorMark)


def act_on(
    store: Store,
    alerts: Iterable[Alert],
    kind: ActionKind,
    author: str,
    comment: str,
    now: datetime,
) -> None:
    """Keep what a person did with the alerts of an incident; the next evaluation takes it up.

    Raises:
        Rejected: nobody says that they did it.
        Unavailable: the store did not answer.
    """
    if not author.strip():
        msg = "say who you are, so that others know who has the alert"
        raise Rejected(msg)
    made = [Action(one.alert_id, kind, author.strip(), comment.strip(), now) for one in alerts]
    store.insert("alert_actions", made)


def actions(store: Store, alert_ids: Iterable[str]) -> list[Action]:
    """Return what people did with some alerts, the first first."""
    return store.select(load_sql(_PACKAGE, "actions"), Action, alert_ids=list(alert_ids))
