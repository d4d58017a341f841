"""One evaluation: pure, the same for the live loop, a backtest and a simulation.

`evaluate_now` reads for it, keeps what it says, and tells. The scheduler calls it; so can a person.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from threading import Lock

from apscheduler.schedulers.base import BaseScheduler
from pydantic import TypeAdapter

from costspan_collector.jobs import run_job
from costspan_collector.store import Store, load_sql
from costspan_dashboards.alerts.cause import DIMENSIONS
from costspan_dashboards.alerts.channels import open_channels
from costspan_dashboards.alerts.finding import Example, Finding
from costspan_dashboards.alerts.frame import Frame
from costspan_dashboards.alerts.limits import Limits
from costspan_dashboards.alerts.outbox import Sent, send_due
from costspan_dashboards.alerts.queries import live_alerts
from costspan_dashboards.alerts.read import read_frame, watermark
from costspan_dashboards.alerts.rules import judge
from costspan_dashboards.alerts.scopes import Basis, View
from costspan_dashboards.alerts.settings import Alerts
from costspan_dashboards.alerts.state import Alert, Timing, Transition, advance

JOB = "alerts"

_PACKAGE = "costspan_dashboards.alerts"
_ALERT = TypeAdapter(Alert)
_ABOUT_ARRIVAL = frozenset(
    {
        "no_data",
        "collector_loss",
        "store_unhealthy",
        "price_book_old",
        "reconciliation_drift",
        "billing_key_failing",
        "job_late",
        "budget",
    }
)
"""Rules that know how things are while no calls arrive."""
_one_at_a_time = Lock()
"""The scheduler's run and a person's must not both step the same alert."""

Key = tuple[str, str]
"""Rule and episode: what one alert goes on about."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one evaluation saw and did."""

    at: datetime
    until: datetime
    """The watermark: calls that began before were looked at."""
    basis: Basis
    fresh: bool
    findings: tuple[Finding, ...]
    alerts: tuple[Alert, ...]
    """Pending, firing and stale ones."""
    transitions: tuple[Transition, ...]
    sent: Sent

    def __str__(self) -> str:
        states = [alert.state for alert in self.alerts]
        counts = ", ".join(
            f"{states.count(name)} {name}" for name in ("firing", "pending", "stale")
        )
        done = {
            "steps": len(self.transitions),
            "messages delivered": self.sent.delivered,
            "failed": self.sent.failed,
            "given up": self.sent.given_up,
        }
        parts = [
            counts,
            f"compared with {self.basis}" if self.basis.seasonal else "objectives only",
            *(f"{count} {name}" for name, count in done.items() if count),
        ]
        if not self.fresh:
            parts.insert(0, "no calls arrive")
        return "; ".join(parts)


def key_of(finding: Finding) -> Key:
    """Return what the alert of a finding goes on about."""
    return finding.rule, finding.episode


def step(
    findings: Sequence[Finding],
    alerts: Mapping[Key, Alert],
    *,
    fresh: bool,
    now: datetime,
    timing: Timing,
) -> tuple[dict[Key, Alert], list[Transition]]:
    """Return the alerts after these findings, and the steps they took."""
    found = {key_of(finding): finding for finding in findings}
    after: dict[Key, Alert] = {}
    transitions: list[Transition] = []
    for key in {**alerts, **found}:
        known = fresh or key[0] in _ABOUT_ARRIVAL
        finding = found.get(key) if known else None  # what was seen is over: nothing is seen now
        alert, steps = advance(alerts.get(key), finding, fresh=known, now=now, timing=timing)
        transitions += steps
        if alert is not None:
            after[key] = alert
    return after, transitions


def evaluate(
    limits: Limits, frame: Frame, alerts: Mapping[Key, Alert], timing: Timing
) -> tuple[dict[Key, Alert], list[Transition]]:
    """Judge a frame and step the alerts. Pure."""
    findings = judge(frame, limits)
    fresh = is_fresh(frame, timing)
    return step(findings, alerts, fresh=fresh, now=frame.now, timing=timing)


def is_fresh(frame: Frame, timing: Timing) -> bool:
    """Say whether calls arrive: without, nothing can be said to be well."""
    latest = frame.latest_arrival
    return latest is not None and frame.now - latest < timing.stale_after


def evaluate_now(store: Store, settings: Alerts, now: datetime) -> Evaluation:
    """Judge the calls before the watermark, step the alerts, and send what is due.

    Raises:
        Unavailable: the store does not answer; the next evaluation makes up for it.
        Rejected: a notification URL is not understood.
    """
    channels = open_channels(settings)
    with _one_at_a_time:
        until = watermark(now, settings.watermark)
        frame = read_frame(store, now, until)
        limits = settings.limits
        findings = [_with_examples(store, one) for one in judge(frame, limits)]
        fresh = is_fresh(frame, settings.timing)
        live = {key_of(alert.finding): alert for alert in live_alerts(store)}
        alerts, transitions = step(findings, live, fresh=fresh, now=now, timing=settings.timing)
        # Steps first: a crash in between is healed from them, and no message is lost.
        store.insert("alert_events", [_event(step) for step in transitions])
        store.insert("alert_states", [_state(alert) for alert in alerts.values()])
        sent = send_due(store, channels, settings, now)
    return Evaluation(
        at=now,
        until=until,
        basis=View.of(frame, limits.quiet_environments).past.basis,
        fresh=fresh,
        findings=tuple(findings),
        alerts=tuple(alert for alert in alerts.values() if alert.is_live),
        transitions=tuple(transitions),
        sent=sent,
    )


def add_jobs(
    scheduler: BaseScheduler,
    store: Store,
    settings: Alerts,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> None:
    """Evaluate every `COSTSPAN_ALERTS_INTERVAL_SECONDS`, beginning one interval from now.

    Raises:
        Rejected: a notification URL is not understood.
    """
    open_channels(settings)
    scheduler.add_job(
        lambda: run_job(store, JOB, lambda: str(evaluate_now(store, settings, clock()))),
        trigger="interval",
        seconds=settings.interval_seconds,
        id=JOB,
        max_instances=1,
        coalesce=True,
    )


def _with_examples(store: Store, finding: Finding) -> Finding:
    """Return the finding with calls to look at, where it is about calls."""
    if not finding.window_minutes:
        return finding
    wanted = dict.fromkeys(DIMENSIONS, "")
    if finding.contributors:
        wanted |= dict(finding.contributors[0].where)
    elif finding.scope.dimension:
        wanted[finding.scope.dimension] = finding.scope.value
    rows = store.select(
        load_sql(_PACKAGE, "examples"),
        Example,
        since=finding.since,
        until=finding.until,
        rule=finding.rule,
        **wanted,
    )
    return replace(finding, examples=tuple(rows))


@dataclass(frozen=True, slots=True)
class _Event:
    alert_id: str
    sequence: int
    at: datetime
    rule: str
    severity: str
    from_state: str
    to_state: str
    reason: str
    title: str
    tells: bool
    snapshot: str


@dataclass(frozen=True, slots=True)
class _State:
    fingerprint: str
    alert_id: str
    rule: str
    severity: str
    state: str
    sequence: int
    evaluated_at: datetime
    snapshot: str


def _event(step: Transition) -> _Event:
    alert = step.alert
    return _Event(
        alert_id=alert.alert_id,
        sequence=alert.sequence,
        at=alert.evaluated_at,
        rule=alert.finding.rule,
        severity=alert.finding.severity,
        from_state=step.from_state,
        to_state=alert.state,
        reason=step.reason,
        title=alert.finding.title,
        tells=step.tells,
        snapshot=_ALERT.dump_json(alert).decode(),
    )


def _state(alert: Alert) -> _State:
    return _State(
        fingerprint=alert.fingerprint,
        alert_id=alert.alert_id,
        rule=alert.finding.rule,
        severity=alert.finding.severity,
        state=alert.state,
        sequence=alert.sequence,
        evaluated_at=alert.evaluated_at,
        snapshot=_ALERT.dump_json(alert).decode(),
    )
