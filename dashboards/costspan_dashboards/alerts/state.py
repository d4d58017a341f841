"""What an alert does next. Pure: an alert, what was just seen and the clock in, transitions out.

inactive -> pending -> firing -> resolved, and beside it stale: firing, but no data to tell.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from costspan_dashboards.alerts.cause import Pairs, is_news
from costspan_dashboards.alerts.finding import Finding

State = Literal["pending", "firing", "stale", "resolved", "inactive"]

_MOST_NEWS = 5
"""Further causes told in one episode; then the page must be looked at anyway."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One episode of one rule."""

    alert_id: str
    fingerprint: str
    state: State
    sequence: int
    """Of the last transition."""
    pending_since: datetime
    finding: Finding
    """What was seen at last; while all is well again, what was seen before."""
    last_breach_at: datetime
    evaluated_at: datetime
    firing_since: datetime | None = None
    well_since: datetime | None = None
    """Since when the breach is gone, while there is data to say so."""
    ended_at: datetime | None = None
    told_causes: tuple[Pairs, ...] = ()

    @property
    def is_live(self) -> bool:
        """Say whether the episode goes on."""
        return self.state in {"pending", "firing", "stale"}


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


def fingerprint(finding: Finding) -> str:
    """Return what names the same trouble again: the rule, and the scope it was first seen in."""
    text = f"{finding.rule}|{finding.scope.dimension}|{finding.scope.value}|{finding.episode}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def advance(
    alert: Alert | None, finding: Finding | None, *, fresh: bool, now: datetime, timing: Timing
) -> tuple[Alert | None, Sequence[Transition]]:
    """Return the alert after this evaluation, and the steps it took.

    `fresh` is False where no data arrived: then nothing is known, and nothing is resolved. An
    evaluation of a moment that was evaluated before changes nothing.
    """
    if alert is None or not alert.is_live:
        return _begin(finding, now, timing) if finding else (alert, ())
    if now <= alert.evaluated_at:
        return alert, ()
    seen = replace(alert, evaluated_at=now)
    if finding:
        return _still(replace(seen, well_since=None, last_breach_at=now), finding, now, timing)
    if not fresh:
        if alert.state == "firing":
            return _step(
                replace(seen, well_since=None), "stale", "no calls arrive: not known", False
            )
        return replace(seen, well_since=None), ()
    if alert.state == "pending":
        return _step(replace(seen, ended_at=now), "inactive", "went away by itself", False)
    well_since = alert.well_since or now
    seen = replace(seen, well_since=well_since)
    if now - well_since >= timing.keep_firing_for:
        return _step(replace(seen, ended_at=now), "resolved", "back to usual", True)
    if alert.state == "stale":
        return _step(seen, "firing", "calls arrive again", False)
    return seen, ()


def _begin(finding: Finding, now: datetime, timing: Timing) -> tuple[Alert, Sequence[Transition]]:
    mark = fingerprint(finding)
    alert_id = hashlib.sha256(f"{mark}|{now.isoformat()}".encode()).hexdigest()[:16]
    alert = Alert(
        alert_id=alert_id,
        fingerprint=mark,
        state="inactive",
        sequence=0,
        pending_since=now,
        finding=finding,
        last_breach_at=now,
        evaluated_at=now,
    )
    alert, first = _step(alert, "pending", "first seen", False)
    alert, second = _still(alert, finding, now, timing)
    return alert, (*first, *second)


def _still(
    alert: Alert, finding: Finding, now: datetime, timing: Timing
) -> tuple[Alert, Sequence[Transition]]:
    before = alert.finding
    worse = before.severity == "ticket" and finding.severity == "page"
    # The first onset and the highest severity of the episode stay.
    seen = replace(
        alert,
        finding=replace(
            finding,
            since=before.since,
            severity="page" if before.severity == "page" else finding.severity,
        ),
    )
    if alert.state == "pending":
        if now - alert.pending_since < timing.pending_for:
            return seen, ()
        told = replace(seen, firing_since=now, told_causes=(finding.cause,))
        return _step(told, "firing", "lasts", True)
    told = replace(seen, told_causes=(*seen.told_causes, finding.cause))
    if worse:
        return _step(told, "firing", "is now a page", True)
    new = (
        is_news(finding.cause, finding.shared, alert.told_causes)
        and len(alert.told_causes) <= _MOST_NEWS
    )
    if new and finding.severity == "page":
        return _step(told, "firing", "has a further cause", True)
    if alert.state == "stale":
        return _step(seen, "firing", "calls arrive again", False)
    return seen, ()


def _step(
    alert: Alert, state: State, reason: str, tells: bool
) -> tuple[Alert, Sequence[Transition]]:
    after = replace(alert, state=state, sequence=alert.sequence + 1)
    return after, (Transition(after, alert.state, reason, tells),)
