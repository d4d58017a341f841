"""What an alert does next. Pure: an alert, what was just seen and the clock in, transitions out.

inactive -> pending -> firing -> resolved. Beside it: acknowledged (firing, and somebody has it),
stale (firing, but no data to tell) and closed (by a person, or since its rule was changed). What
is silenced or inhibited goes on all the same and says so in `hushed`; `incidents.py` decides that.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from costspan_dashboards.alerts.cause import Pairs, is_news
from costspan_dashboards.alerts.finding import SEVERITIES, Finding, Severity
from costspan_dashboards.alerts.limits import EASED

State = Literal["pending", "firing", "acknowledged", "stale", "resolved", "closed", "inactive"]

ActionKind = Literal["acknowledge", "close"]

RULE_CHANGED = "rule changed"
FURTHER_CAUSE = "has a further cause"

_LIVE = frozenset({"pending", "firing", "acknowledged", "stale"})
_REST_PART, _MOST_REST = 0.25, timedelta(days=1)
_MOST_NEWS = 5
"""Further causes told in one episode; then the page must be looked at anyway."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One episode of one rule."""

    alert_id: str
    fingerprint: str
    """Names the same trouble again; alerts of one incident share it."""
    state: State
    sequence: int
    """Of the last transition."""
    pending_since: datetime
    finding: Finding
    """What was seen at last; while all is well again, what was seen before; of what is resolved,
    what people were told: a breach that fades ends by what is left of it."""
    last_breach_at: datetime
    evaluated_at: datetime
    firing_since: datetime | None = None
    news_since: datetime | None = None
    """Since when it has a further cause for a ticket that nobody was told of."""
    well_since: datetime | None = None
    """Since when the breach is gone, while there is data to say so."""
    ended_at: datetime | None = None
    told_causes: tuple[Pairs, ...] = ()
    told: Finding | None = None
    """What people were told of it last."""
    rule_version: str = ""
    """Of the limits it was raised by."""
    incident: str = ""
    """The `alert_id` of the alert that its incident began with."""
    told_at: datetime | None = None
    """When people were told of its incident last."""
    told_severity: Severity = "info"
    """The highest they were told of."""
    severe_at: datetime | None = None
    """When it was last seen to be as bad as it is told."""
    owed: str = ""
    """Why people would have been told, had it not been hushed."""
    hushed: str = ""
    """Why nobody is told: a silence, or an alert that inhibits it. Empty if they are."""
    taken_by: str = ""
    """Who acknowledged it."""
    acted_at: datetime | None = None
    """Of the last thing a person did with it that was taken up."""
    dismissed: bool = False
    """Closed by a person while the breach goes on: it raises nothing until that is over."""

    @property
    def is_live(self) -> bool:
        """Say whether the episode goes on."""
        return self.state in _LIVE

    @property
    def is_up(self) -> bool:
        """Say whether it is more than pending, and goes on."""
        return self.is_live and self.state != "pending"

    @property
    def shown_state(self) -> str:
        """What it is called where people look: also whether nobody is told of it."""
        if not self.hushed or not self.is_up:
            return self.state
        return "inhibited" if self.hushed.startswith("inhibited") else "silenced"

    @property
    def is_kept(self) -> bool:
        """Say whether the next evaluation must know of it."""
        return self.is_live or self.dismissed


@dataclass(frozen=True, slots=True)
class Transition:
    """A step that is kept for good; `tells` says whether people are told."""

    alert: Alert
    """As it is after the step."""
    from_state: State
    reason: str
    tells: bool


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a breach must last, and how long it must be gone."""

    pending_for: timedelta
    keep_firing_for: timedelta
    stale_after: timedelta = timedelta(minutes=15)
    """Without any arrival for that long nothing can be said to be well."""
    renotify_after: timedelta = timedelta(hours=4)
    """A page that nobody acknowledged is told again."""


@dataclass(frozen=True, slots=True)
class Action:
    """What a person did with an alert."""

    alert_id: str
    kind: ActionKind
    author: str
    comment: str
    at: datetime


def fingerprint(finding: Finding) -> str:
    """Return what names the same trouble again: the rule, and the scope it was first seen in."""
    text = f"{finding.rule}|{finding.scope.dimension}|{finding.scope.value}|{finding.episode}"
    return _digest(text)


def advance(
    alert: Alert | None,
    finding: Finding | None,
    *,
    fresh: bool,
    now: datetime,
    timing: Timing,
    version: str = "",
) -> tuple[Alert | None, Sequence[Transition]]:
    """Return the alert after this evaluation, and the steps it took.

    `fresh` is False where no data arrived: then nothing is known, and nothing is resolved. An
    evaluation of a moment that was evaluated before changes nothing.
    """
    if alert is None or not alert.is_kept:
        return _begin(finding, now, timing, version) if finding else (alert, ())
    if now <= alert.evaluated_at:
        return alert, ()
    if version and alert.rule_version and version != alert.rule_version:
        return _changed(alert, finding, now, timing, version)
    seen = replace(alert, evaluated_at=now)
    if finding:
        seen = replace(seen, well_since=None, last_breach_at=now)
        return (seen, ()) if alert.dismissed else _still(seen, finding, now, timing)
    if not fresh:
        seen = replace(seen, well_since=None)
        if alert.state in {"firing", "acknowledged"}:
            return step(seen, "stale", "not known: no calls arrive, or its rule fails")
        return seen, ()
    if alert.state == "pending":
        return step(replace(seen, ended_at=now), "inactive", "went away by itself")
    well_since = alert.well_since or now
    seen = replace(seen, well_since=well_since, news_since=None)
    if now - well_since >= _rest(seen, timing):
        if alert.dismissed:
            return replace(seen, dismissed=False), ()
        ended = replace(seen, ended_at=now, finding=seen.told or seen.finding)
        return step(ended, "resolved", "back to usual", tells=True)
    if alert.state == "stale":
        return step(seen, _up(seen), "known again")
    return seen, ()


def act(alert: Alert, action: Action, now: datetime) -> tuple[Alert, Sequence[Transition]]:
    """Return the alert after what a person did; doing it again changes nothing."""
    if alert.acted_at and action.at <= alert.acted_at:
        return alert, ()
    said = f": {action.comment}" if action.comment else ""
    alert = replace(alert, acted_at=action.at)
    if action.kind == "acknowledge" and alert.is_up and not alert.taken_by:
        taken = replace(alert, taken_by=action.author, evaluated_at=now)
        state: State = "stale" if alert.state == "stale" else "acknowledged"
        return step(taken, state, f"acknowledged by {action.author}{said}")
    if action.kind == "close" and alert.is_live:
        ended = replace(alert, ended_at=now, evaluated_at=now, dismissed=True)
        return step(ended, "closed", f"closed by {action.author}{said}", tells=alert.is_up)
    return alert, ()


def step(
    alert: Alert, state: State, reason: str, *, tells: bool = False
) -> tuple[Alert, Sequence[Transition]]:
    """Return the alert in its next state, and the step that brought it there."""
    told = alert.finding if tells else alert.told
    after = replace(alert, state=state, sequence=alert.sequence + 1, told=told)
    return after, (Transition(after, alert.state, reason, tells),)


def worse(one: Severity, other: Severity) -> bool:
    """Say whether one severity is above another."""
    return SEVERITIES.index(one) > SEVERITIES.index(other)


def _rest(alert: Alert, timing: Timing) -> timedelta:
    """Return how long all must be well: what went up and down for days is not over in minutes."""
    wavers = alert.finding.rule in EASED and alert.finding.rule != "no_data"
    if not wavers or alert.firing_since is None:
        return timing.keep_firing_for
    lasted = alert.last_breach_at - alert.firing_since
    return max(timing.keep_firing_for, min(lasted * _REST_PART, _MOST_REST))


def _begin(
    finding: Finding, now: datetime, timing: Timing, version: str, sequence: int = 0
) -> tuple[Alert, Sequence[Transition]]:
    mark = fingerprint(finding)
    # To the minute: two processes that evaluate the same minute begin the same episode.
    alert_id = _digest(f"{mark}|{now.replace(second=0, microsecond=0).isoformat()}|{version}")
    alert = Alert(
        alert_id=alert_id,
        fingerprint=mark,
        state="inactive",
        sequence=sequence,
        pending_since=now,
        finding=finding,
        last_breach_at=now,
        evaluated_at=now,
        rule_version=version,
    )
    alert, first = step(alert, "pending", "first seen")
    alert, second = _still(alert, finding, now, timing)
    return alert, (*first, *second)


def _changed(
    alert: Alert, finding: Finding | None, now: datetime, timing: Timing, version: str
) -> tuple[Alert, Sequence[Transition]]:
    ended = replace(alert, ended_at=now, evaluated_at=now, dismissed=False)
    closed, steps = step(ended, "closed", RULE_CHANGED, tells=alert.is_up)
    if finding is None:
        return closed, steps
    begun, more = _begin(finding, now, timing, version, closed.sequence)
    return begun, (*steps, *more)


def _still(
    alert: Alert, finding: Finding, now: datetime, timing: Timing
) -> tuple[Alert, Sequence[Transition]]:
    before = alert.finding
    is_worse = worse(finding.severity, before.severity)
    # The first onset and the highest severity of the episode stay.
    seen = replace(
        alert,
        severe_at=alert.severe_at if worse(before.severity, finding.severity) else now,
        finding=replace(
            finding,
            since=before.since,
            severity=finding.severity if is_worse else before.severity,
        ),
    )
    if alert.state == "pending":
        if now - alert.pending_since < timing.pending_for:
            return seen, ()
        told = replace(seen, firing_since=now, told_causes=finding.causes)
        return step(told, "firing", "lasts", tells=True)
    told = replace(seen, told_causes=(*seen.told_causes, *finding.causes), taken_by="")
    if is_worse:
        return step(told, "firing", f"is now a {finding.severity}", tells=True)
    pages = finding.severity == "page"
    since = alert.news_since or now
    may_be_told = pages or (finding.severity == "ticket" and finding.alone_from is not None)
    new = may_be_told and _has_news(finding, alert)
    if new and (pages or now - since >= timing.keep_firing_for):
        return step(replace(told, news_since=None), "firing", FURTHER_CAUSE, tells=True)
    seen = replace(seen, news_since=since if new else None)
    if alert.state == "stale":
        return step(seen, _up(seen), "known again")
    return seen, ()


def _has_news(finding: Finding, alert: Alert) -> bool:
    """Say whether it has a cause that nobody was told of."""
    told = alert.told_causes
    return len(told) <= _MOST_NEWS and (
        is_news(finding.cause, finding.shared, told)
        or any(is_news(one.where, one.also, told) for one in finding.further)
    )


def _up(alert: Alert) -> State:
    return "acknowledged" if alert.taken_by else "firing"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
