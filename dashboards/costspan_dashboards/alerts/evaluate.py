"""One evaluation: read, judge, step, keep, tell. The scheduler calls it; so can a person."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import median
from threading import Lock

from apscheduler.schedulers.base import BaseScheduler
from pydantic import TypeAdapter

from costspan_collector.jobs import run_job
from costspan_collector.store import Store, load_sql
from costspan_dashboards.alerts import baseline, rules
from costspan_dashboards.alerts.cause import (
    DIMENSIONS,
    Explanation,
    error_leaves,
    explain,
    latency_leaves,
    spend_leaves,
)
from costspan_dashboards.alerts.channels import open_channels
from costspan_dashboards.alerts.finding import Example, Finding, Slowness, found
from costspan_dashboards.alerts.outbox import Sent, send_due
from costspan_dashboards.alerts.queries import live_alerts
from costspan_dashboards.alerts.rules import Basis, Breach, Rule
from costspan_dashboards.alerts.settings import Alerts
from costspan_dashboards.alerts.state import Alert, Timing, Transition, advance

JOB = "alerts"
RULES: tuple[Rule, ...] = ("errors", "latency", "spend")

_PACKAGE = "costspan_dashboards.alerts"
_ALERT = TypeAdapter(Alert)
_NEARLY, _NEARLY_ALL = 0.8, 0.9
_OWNED = ("feature", "model", "team", "project", "")
_one_at_a_time = Lock()
"""The scheduler's run and a person's must not both step the same alert."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one evaluation saw and did."""

    at: datetime
    until: datetime
    """The watermark: calls that began before were looked at."""
    basis: Basis
    fresh: bool
    breaches: tuple[Breach, ...]
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


def evaluate_now(store: Store, settings: Alerts, now: datetime) -> Evaluation:
    """Judge the calls before the watermark, step the alerts, and send what is due.

    Raises:
        Unavailable: the store does not answer; the next evaluation makes up for it.
        Rejected: a notification URL is not understood.
    """
    channels = open_channels(settings)
    with _one_at_a_time:
        until = baseline.watermark(now, settings.watermark)
        seen = baseline.read_seen(store, until)
        basis = baseline.choose_basis(seen)
        fresh = seen.latest_at is not None and until - seen.latest_at < timedelta(
            seconds=settings.stale_after_seconds
        )
        breaches = _breaches(store, settings, until, basis) if fresh else []
        findings: dict[Rule, Finding | None] = {
            rule: _find(store, [breach for breach in breaches if breach.rule == rule], until, basis)
            for rule in RULES
        }
        alerts, transitions = _step(store, settings, findings, fresh=fresh, now=now)
        sent = send_due(store, channels, settings, now)
    return Evaluation(
        at=now,
        until=until,
        basis=basis,
        fresh=fresh,
        breaches=tuple(breaches),
        alerts=tuple(alert for alert in alerts if alert.is_live),
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


def _breaches(store: Store, settings: Alerts, until: datetime, basis: Basis) -> list[Breach]:
    errors = rules.errors(
        baseline.read_error_windows(store, until),
        baseline.read_error_history(store, until, basis) if basis.seasonal else (),
        basis,
        settings.error_gates,
    )
    if not basis.seasonal:
        return errors
    return [
        *errors,
        *rules.latency(
            baseline.read_latency_cells(store, until, basis), basis, settings.latency_gates
        ),
        *rules.spend(baseline.read_spend_windows(store, until, basis), basis, settings.spend_gates),
    ]


def _find(store: Store, breaches: list[Breach], until: datetime, basis: Basis) -> Finding | None:
    """Make one finding of all breaches of a rule: the scope that shows it best leads."""
    if not breaches:
        return None
    first = _leader(breaches)
    others = [breach for breach in breaches if breach is not first]
    explanation = _explain(store, first, until, basis)
    return found(
        first,
        tuple(others),
        explanation,
        _examples(store, first, explanation, until),
        since=until - timedelta(minutes=first.window_minutes),
        until=until,
        slowness=_slowness(store, first, until, basis) if first.rule == "latency" else None,
    )


def _leader(breaches: list[Breach]) -> Breach:
    """Return the breach to lead with: of those that show it about as well, the one people own.

    A scope that holds nearly all calls says no more than "all calls" does.
    """
    best = max(breach.score for breach in breaches)
    near = [breach for breach in breaches if breach.score >= _NEARLY * best]
    whole = {breach.window_minutes: breach.calls for breach in near if not breach.scope.dimension}
    narrow = [
        breach
        for breach in near
        if not breach.scope.dimension
        or breach.calls < _NEARLY_ALL * whole.get(breach.window_minutes, math.inf)
    ]
    return min(narrow, key=lambda breach: (_OWNED.index(breach.scope.dimension), -breach.score))


def _explain(store: Store, breach: Breach, until: datetime, basis: Basis) -> Explanation:
    cells = baseline.read_cells(
        store, until, basis, rule=breach.rule, window_minutes=breach.window_minutes
    )
    if breach.rule == "errors":
        return explain(error_leaves(cells, float(breach.usual)))
    if breach.rule == "latency":
        return explain(latency_leaves(cells))
    leaves = spend_leaves(cells, window_minutes=breach.window_minutes, days=len(basis.days))
    return explain(leaves)


def _examples(
    store: Store, breach: Breach, explanation: Explanation, until: datetime
) -> tuple[Example, ...]:
    wanted = dict.fromkeys(DIMENSIONS, "")
    if explanation.contributors:
        wanted |= dict(explanation.contributors[0].where)
    elif breach.scope.dimension:
        wanted[breach.scope.dimension] = breach.scope.value
    rows = store.select(
        load_sql(_PACKAGE, "examples"),
        Example,
        since=until - timedelta(minutes=breach.window_minutes),
        until=until,
        rule=breach.rule,
        **wanted,
    )
    return tuple(rows)


@dataclass(frozen=True, slots=True)
class _Duration:
    day: int
    p95_us: int


def _slowness(store: Store, breach: Breach, until: datetime, basis: Basis) -> Slowness | None:
    rows = store.select(
        load_sql(_PACKAGE, "durations"),
        _Duration,
        since=until - timedelta(days=max(basis.days) + 1),
        until=until,
        days=list(basis.days),
        window_minutes=breach.window_minutes,
        dimension=breach.scope.dimension,
        value=breach.scope.value,
    )
    by_day = {row.day: row.p95_us for row in rows}
    now = by_day.pop(0, None)
    return Slowness(now, round(median(by_day.values()))) if now and by_day else None


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


def _step(
    store: Store,
    settings: Alerts,
    findings: dict[Rule, Finding | None],
    *,
    fresh: bool,
    now: datetime,
) -> tuple[list[Alert], list[Transition]]:
    timing = Timing(
        pending_for=timedelta(seconds=settings.for_seconds),
        keep_firing_for=timedelta(seconds=settings.keep_firing_for_seconds),
    )
    live = {alert.finding.rule: alert for alert in live_alerts(store)}
    alerts: list[Alert] = []
    transitions: list[Transition] = []
    for rule, finding in findings.items():
        alert, steps = advance(live.get(rule), finding, fresh=fresh, now=now, timing=timing)
        transitions += steps
        if alert is not None:
            alerts.append(alert)
    # Steps first: a crash in between is healed from them, and no message is lost.
    store.insert("alert_events", [_event(step) for step in transitions])
    store.insert("alert_states", [_state(alert) for alert in alerts])
    return alerts, transitions


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
