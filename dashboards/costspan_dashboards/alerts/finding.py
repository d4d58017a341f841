"""What was found, as it is told: a title, a text, the cause, calls to look at."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Literal
from urllib.parse import urlencode

from costspan_dashboards.alerts.cause import AT_MOST, Contributor, Explanation, Pairs
from costspan_dashboards.alerts.frame import time_of
from costspan_dashboards.alerts.scopes import WINDOWS_MINUTES, Basis, Scope, View, figure

Severity = Literal["info", "ticket", "page"]
Unit = Literal[
    "share",
    "times_usual",
    "usd_per_hour",
    "usd_per_call",
    "usd",
    "attempts_per_call",
    "calls",
    "minutes",
    "days",
    "spans",
]

SEVERITIES: tuple[Severity, ...] = ("info", "ticket", "page")
"""The mildest first."""

_FILTERS = ("feature", "model", "team", "project")
"""What the Calls page can be narrowed by."""
_OWNED = ("feature", "model", "team", "project", "key", "user", "service", "")
_NEARLY, _NEARLY_ALL = 0.8, 0.9
_LARGE_PART = 0.25


@dataclass(frozen=True, slots=True)
class Example:
    """A call to look at."""

    trace_id: str
    span_id: str
    started_at: datetime
    duration_us: int
    cost_usd: Decimal | None
    error_type: str
    unpriced: bool = True
    """Whether it lacks a cost that it should have. Snapshots of older versions do not say."""

    @property
    def link(self) -> str:
        """The call on the Calls page."""
        return f"/calls?{urlencode({'trace': self.trace_id, 'span': self.span_id})}"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one rule found wrong, as one thing to act on."""

    rule: str
    severity: Severity
    scope: Scope
    """The one it is seen in best."""
    since: datetime
    """The earliest window in which it was seen began then."""
    until: datetime
    observed: Decimal
    usual: Decimal
    unit: Unit
    title: str
    facts: tuple[str, ...]
    """Sentences, the most important first."""
    contributors: tuple[Contributor, ...]
    shared: Pairs
    """What nearly all calls of the first cause have in common."""
    examples: tuple[Example, ...]
    link: str
    """To the calls of the first cause."""
    kind: str = ""
    """Of the change: volume, model mix, input tokens per call, cached share, price, error_kind
    and the like."""
    waiting: str = ""
    """What it costs to wait."""
    changes: tuple[str, ...] = ()
    """What else is new in the calls of the cause."""
    episode: str = ""
    """Tells apart what one rule may find at the same time; empty where it finds one thing."""
    window_minutes: int = 0
    """How much of the present it was seen in; 0 where it is not about calls."""
    alone_from: float | None = None
    """From that share on a further cause would be an alert by itself; None where it may be chance."""

    @property
    def cause(self) -> Pairs:
        """The first cause; empty if it is spread over everything."""
        return self.contributors[0].where if self.contributors else ()

    @property
    def causes(self) -> tuple[Pairs, ...]:
        """The first cause, and the others that are a large part of it."""
        return (self.cause, *(one.where for one in self.further))

    @property
    def further(self) -> tuple[Contributor, ...]:
        """The other causes that are a large part of it, or enough by themselves."""
        least = _LARGE_PART if self.alone_from is None else self.alone_from
        return tuple(one for one in self.contributors[1:] if one.share >= least)

    @property
    def where(self) -> Pairs:
        """What the calls to look at have in common."""
        return _where(self.scope, self.contributors)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a rule saw in one scope and window, with how much it stands out."""

    scope: Scope
    window_minutes: int
    observed: float
    usual: float
    score: float
    """Comparable within a rule only."""
    severity: Severity
    calls: int
    """In the window."""
    affected: int
    """Of what the rule counts: failed, slow or unpriced calls."""


def leader(view: View, seen: Sequence[Seen], name: str) -> Seen:
    """Return the scope to lead with: of those that show it about as well, the one people own.

    A scope that holds nearly all calls, by the figure `name`, says no more than "all calls" does.
    """
    best = max(one.score for one in seen)
    near = [one for one in seen if one.score >= _NEARLY * best]
    whole = view.by("")[figure(name)][:, 0]
    narrow = [
        one
        for one in near
        if not one.scope.dimension
        or one.window_minutes not in WINDOWS_MINUTES
        or one.calls < _NEARLY_ALL * whole[WINDOWS_MINUTES.index(one.window_minutes)]
    ]
    return min(narrow or near, key=lambda one: (_OWNED.index(one.scope.dimension), -one.score))


def matching(seen: Sequence[Seen], first: Seen, explanation: Explanation) -> Seen:
    """Return what was seen of the cause itself, so that title and cause are about the same calls."""
    wanted = explanation.where or (("", ""),)
    named = [one for one in seen if (one.scope.dimension, one.scope.value) in wanted]
    return max(named, key=lambda one: one.score, default=first)


def single(seen: Seen) -> Explanation:
    """Return the explanation that says: it is this scope."""
    pairs = ((seen.scope.dimension, seen.scope.value),)
    one = Contributor(pairs, (), exact(seen.observed), exact(seen.usual), share=1.0)
    return Explanation((one,), pairs)


def each(seen: Sequence[Seen]) -> Explanation:
    """Return the explanation that says: it is each of these scopes, by what is affected."""
    whole = max(sum(one.affected for one in seen), 1)
    leading = sorted(seen, key=lambda one: -one.affected)[:AT_MOST]
    contributors = tuple(
        replace(single(one).contributors[0], share=one.affected / whole) for one in leading
    )
    return Explanation(contributors, contributors[0].where)


def against_text(what: str, basis: Basis) -> str:
    """Return what was compared with, and how much there was of it."""
    return f"{what} of {basis}"


def median_text(basis: Basis) -> str:
    """Return what `scopes.usual` is the level of."""
    more = ", and of days of the week that run alike" if basis.kind == "same hour of week" else ""
    return f"{against_text('median', basis)}{more}"


def find(
    view: View,
    rule: str,
    severity: Severity,
    seen: Seen,
    *,
    title: str,
    unit: Unit,
    against: str,
    explanation: Explanation | None = None,
    others: Sequence[Seen] = (),
    noun: str = "",
    waiting: str = "",
    kind: str = "",
    text: Sequence[str] = (),
    changes: Sequence[str] = (),
    episode: str = "",
    alone_from: float | None = None,
) -> Finding:
    """Put what was seen, its cause and what else is known into words."""
    until = view.frame.at
    contributors = explanation.contributors if explanation else ()
    facts = [
        *([waiting] if waiting else []),
        *(cause_text(explanation, noun) if explanation else []),
        *([f"What changed is the {kind}."] if kind and kind not in "".join(text[:1]) else []),
        *text,
        *changes,
    ]
    named = list(dict.fromkeys(str(one.scope) for one in others if one.scope != seen.scope))
    if named:
        more = f" and {len(named) - 5} more" if len(named) > 5 else ""
        facts.append(f"Also outside of the usual: {', '.join(named[:5])}{more}.")
    facts += [
        f"Seen in the {seen.window_minutes} minutes up to {until:%H:%M} UTC.",
        f"Usual is the {against}.",
    ]
    return Finding(
        rule=rule,
        severity=severity,
        scope=seen.scope,
        since=time_of(view.frame.until - seen.window_minutes),
        until=until,
        observed=exact(seen.observed),
        usual=exact(seen.usual),
        unit=unit,
        title=title,
        facts=tuple(facts),
        contributors=contributors,
        shared=explanation.shared if explanation else (),
        examples=(),
        link=link(rule, seen.scope, contributors),
        kind=kind,
        waiting=waiting,
        changes=tuple(changes),
        episode=episode,
        window_minutes=seen.window_minutes,
        alone_from=alone_from,
    )


def link(rule: str, scope: Scope, contributors: Sequence[Contributor]) -> str:
    """Return the address of the calls of the first cause."""
    pairs = dict(_where(scope, contributors))
    if contributors:
        pairs |= dict(contributors[0].also)
    query = [("range", "last 24 hours")]
    query += [(name, pairs[name]) for name in _FILTERS if name in pairs]
    if rule in {"errors", "rate_limited"}:
        query.append(("show", "failed"))
    if rule in {"spend", "entity_spend", "unit_cost"}:
        query.append(("order", "most expensive first"))
    return f"/calls?{urlencode(query)}"


def _where(scope: Scope, contributors: Sequence[Contributor]) -> Pairs:
    """Return the first cause; with the scope, where that is a kind of error and no place."""
    cause = contributors[0].where if contributors else ()
    if not scope.dimension or any(name != "error_kind" for name, _ in cause):
        return cause
    return ((scope.dimension, scope.value), *cause)


def exact(value: float) -> Decimal:
    """Return a figure of a test as it is shown: more digits than six say nothing."""
    return Decimal(str(round(value, 6)))


def percent(share: float) -> str:
    """Return a share as text."""
    return f"{share * 100:.1f} %"


def scope_text(where: Pairs, scope: Scope) -> str:
    """Return what a title is about: the calls of the cause, else those of the scope."""
    named = " & ".join(f"{name}={value}" for name, value in where if name != "error_kind")
    return named or ("all calls" if where else str(scope))


def cause_text(explanation: Explanation, noun: str) -> list[str]:
    """Return what explains it, in sentences."""
    if not explanation.contributors:
        kind = dict(explanation.shared).get("error_kind")
        besides = f", nearly all of it error_kind={kind}" if kind else ""
        return [f"No single cause: it is spread over everything{besides}."]
    lines: list[str] = []
    for place, one in enumerate(explanation.contributors):
        also = [pair for pair in one.also if pair not in one.where]
        all_of_it = " & ".join(f"{name}={value}" for name, value in also)
        besides = f" (nearly all of it {all_of_it})" if all_of_it else ""
        lead = f"{one.share * 100:.0f} % of the {noun} is" if not place else f"{one.share:.0%} is"
        lines.append(f"{lead} {one}{besides}.")
    return lines
