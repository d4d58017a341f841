"""What was found, as it is told: a title, a text, the cause, calls to look at."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from urllib.parse import urlencode

from costspan_dashboards.alerts.cause import Contributor, Explanation, Pairs
from costspan_dashboards.alerts.rules import Breach, Rule, Scope, Severity, Unit
from costspan_dashboards.figures import seconds_text, usd_text

_FILTERS = ("feature", "model", "team", "project")
"""What the Calls page can be narrowed by."""


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
class Slowness:
    """The 95th percentile of durations, now and in the median of the same slots."""

    p95_us: int
    usual_p95_us: int


@dataclass(frozen=True, slots=True)
class Finding:
    """The breaches of one rule as one thing to act on."""

    rule: Rule
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

    @property
    def cause(self) -> Pairs:
        """The first cause; empty if it is spread over everything."""
        return self.contributors[0].where if self.contributors else ()


def found(
    breach: Breach,
    others: tuple[Breach, ...],
    explanation: Explanation,
    examples: tuple[Example, ...],
    *,
    since: datetime,
    until: datetime,
    slowness: Slowness | None = None,
) -> Finding:
    """Put a breach, its cause and its evidence into words."""
    title = _headline(breach, slowness)
    facts = [
        f"Seen in the {breach.window_minutes} minutes up to {until:%H:%M} UTC.",
        f"Usual is the {breach.against}.",
        *_extent(breach),
        *_cause(breach, explanation),
    ]
    if others:
        named = ", ".join(str(other.scope) for other in others[:5])
        more = f" and {len(others) - 5} more" if len(others) > 5 else ""
        facts.append(f"Also outside of the usual: {named}{more}.")
    return Finding(
        rule=breach.rule,
        severity="page" if any(one.severity == "page" for one in (breach, *others)) else "ticket",
        scope=breach.scope,
        since=since,
        until=until,
        observed=breach.observed,
        usual=breach.usual,
        unit=breach.unit,
        title=title,
        facts=tuple(facts),
        contributors=explanation.contributors,
        shared=explanation.shared,
        examples=examples,
        link=_link(breach, explanation.contributors),
    )


def _headline(breach: Breach, slowness: Slowness | None) -> str:
    scope = breach.scope
    if breach.unit == "share":
        calls = f"calls of {scope}" if scope.dimension else "all calls"
        return (
            f"{_percent(breach.observed)} of {calls} failed ({breach.affected_calls} of "
            f"{breach.calls}), usually {_percent(breach.usual)}"
        )
    if breach.unit == "usd_per_hour":
        usual = f"usually {usd_text(breach.usual)}/h" if breach.usual else "usually nothing"
        return f"Spend of {scope} is {usd_text(breach.observed)}/h, {usual}"
    times = f"{breach.observed.normalize():f} times the usual"
    if slowness is None:
        return f"Calls of {scope} take {times}"
    return (
        f"p95 latency of {scope} is {seconds_text(slowness.p95_us)}, usually "
        f"{seconds_text(slowness.usual_p95_us)}; like for like calls take {times}"
    )


def _extent(breach: Breach) -> list[str]:
    if breach.unit == "usd_per_hour":
        excess = (breach.observed - breach.usual) * breach.window_minutes / 60
        text = (
            f"In the last {breach.window_minutes} minutes it cost {usd_text(excess)} "
            "more than usual."
        )
        if breach.affected_calls:
            text += f" {breach.affected_calls} calls without a price come on top."
        return [text]
    a_minute = Decimal(breach.affected_calls) / breach.window_minutes
    kind = "failed" if breach.unit == "share" else "unusually slow"
    return [f"That is {a_minute:.1f} {kind} calls a minute."]


def _cause(breach: Breach, explanation: Explanation) -> list[str]:
    if not explanation.contributors:
        kind = dict(explanation.shared).get("error_type")
        besides = f", nearly all of it error_type={kind}" if kind else ""
        return [f"No single cause: it is spread over everything{besides}."]
    kind = {"errors": "failures", "latency": "slow calls", "spend": "dollars"}[breach.rule]
    lines: list[str] = []
    for place, one in enumerate(explanation.contributors):
        all_of_it = " & ".join(f"{name}={value}" for name, value in one.also)
        besides = f" (nearly all of it {all_of_it})" if all_of_it else ""
        lead = (
            f"{_whole_percent(one.share)} of the excess {kind} is"
            if not place
            else f"{_whole_percent(one.share)} is"
        )
        lines.append(f"{lead} {one}{besides}.")
    return lines


def _link(breach: Breach, contributors: tuple[Contributor, ...]) -> str:
    pairs = {breach.scope.dimension: breach.scope.value}
    if contributors:
        pairs = dict((*contributors[0].where, *contributors[0].also))
    query = [("range", "last 24 hours")]
    query += [(name, pairs[name]) for name in _FILTERS if name in pairs]
    if breach.rule == "errors":
        query.append(("show", "failed"))
    if breach.rule == "spend":
        query.append(("order", "most expensive first"))
    return f"/calls?{urlencode(query)}"


def _percent(share: Decimal) -> str:
    return f"{share * 100:.1f} %"


def _whole_percent(share: float) -> str:
    return f"{share * 100:.0f} %"
