"""One evaluation: pure, the same for the live loop, a backtest and a simulation.

`evaluate_now` reads for it, keeps what it says, and tells. The scheduler calls it; so can a person.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from threading import Event, Lock

from apscheduler.schedulers.base import BaseScheduler
from pydantic import TypeAdapter

from costspan.errors import CostspanError
from costspan_collector.jobs import run_job
from costspan_collector.store import Store, load_sql
from costspan_dashboards.alerts.alertmanager import push
from costspan_dashboards.alerts.cause import DIMENSIONS
from costspan_dashboards.alerts.channels import open_channels
from costspan_dashboards.alerts.finding import Example, Finding
from costspan_dashboards.alerts.frame import Frame
from costspan_dashboards.alerts.heartbeat import beat
from costspan_dashboards.alerts.incidents import ABOUT_ARRIVAL, tell
from costspan_dashboards.alerts.limits import Limits
from costspan_dashboards.alerts.outbox import Sent, channel_findings, send_due
from costspan_dashboards.alerts.queries import kept_alerts, latest_alerts
from costspan_dashboards.alerts.read import read_frame, watermark
from costspan_dashboards.alerts.read_plumbing import read_plumbing
from costspan_dashboards.alerts.rules import judge
from costspan_dashboards.alerts.scopes import Basis, View
from costspan_dashboards.alerts.settings import Alerts
from costspan_dashboards.alerts.silences import Silence, actions, marks, silences
from costspan_dashboards.alerts.state import Action, Alert, Timing, Transition, act, advance
from costspan_dashboards.alerts.wire import Outcome

JOB = "alerts"

_PACKAGE = "costspan_dashboards.alerts"
_ALERT = TypeAdapter(Alert)
_RETRY_SECONDS = 5
_log = logging.getLogger("costspan.alerts")
_one_at_a_time = Lock()
"""The scheduler's run and a person's must not both step the same alert."""
_one_sender = Lock()

Key = tuple[str, str]
"""Rule and episode: what one alert goes on about."""


@dataclass(frozen=True, slots=True)
class People:
    """What people said that an evaluation goes by."""

    silences: tuple[Silence, ...] = ()
    actions: tuple[Action, ...] = ()


NOBODY = People()


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
    not_told: Mapping[str, str]
    """Alertmanager or the heartbeat, where it did not answer, and why."""

    def __str__(self) -> str:
        states = [alert.state for alert in self.alerts]
        counts = ", ".join(
            f"{states.count(name)} {name}"
            for name in ("firing", "acknowledged", "pending", "stale")
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
        parts += [f"{name} failed: {why}" for name, why in self.not_told.items()]
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
    limits: Limits | None = None,
    people: People = NOBODY,
) -> tuple[dict[Key, Alert], list[Transition]]:
    """Return the alerts after these findings, and the steps they took. Pure.

    Of `alerts` those that are kept from one evaluation to the next are needed (`Alert.is_kept`).
    """
    found = {key_of(finding): finding for finding in findings}
    after: dict[Key, Alert] = {}
    transitions: list[Transition] = []
    for key in {**alerts, **found}:
        known = fresh or key[0] in ABOUT_ARRIVAL
        alert, steps = advance(
            alerts.get(key),
            found.get(key) if known else None,  # what was seen is over: nothing is seen now
            fresh=known,
            now=now,
            timing=timing,
            version=limits.version(key[0]) if limits else "",
        )
        transitions += steps
        if alert is None:
            continue
        for action in people.actions:
            if action.alert_id == alert.alert_id:
                alert, steps = act(alert, action, now)
                transitions += steps
        after[key] = alert
    return tell(after, transitions, people.silences, now, timing)


def evaluate(
    limits: Limits,
    frame: Frame,
    alerts: Mapping[Key, Alert],
    timing: Timing,
    people: People = NOBODY,
) -> tuple[dict[Key, Alert], list[Transition]]:
    """Judge a frame and step the alerts. Pure."""
    return step(
        judge(frame, limits),
        alerts,
        fresh=is_fresh(frame, timing),
        now=frame.now,
        timing=timing,
        limits=limits,
        people=people,
    )


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
        marked = tuple(one.as_mark for one in marks(store))
        frame = read_frame(store, now, until, marks=marked, plumbing=read_plumbing(store, now))
        limits = settings.limits
        findings = [_with_examples(store, one) for one in judge(frame, limits)]
        findings += channel_findings(store, channels, now)
        fresh = is_fresh(frame, settings.timing)
        live = {key_of(alert.finding): alert for alert in kept_alerts(store)}
        people = People(
            tuple(silences(store, now)),
            tuple(actions(store, [alert.alert_id for alert in live.values()])),
        )
        alerts, transitions = step(
            findings,
            live,
            fresh=fresh,
            now=now,
            timing=settings.timing,
            limits=limits,
            people=people,
        )
        keep(store, alerts.values(), transitions)
    with _one_sender:  # while a channel is slow, the next evaluation goes on
        sent = send_due(store, channels, settings, now)
    told = {
        name: outcome.detail
        for name, outcome in _told_elsewhere(store, settings, now)
        if not outcome.delivered
    }
    return Evaluation(
        at=now,
        until=until,
        basis=View.of(frame, limits.quiet_environments).past.basis,
        fresh=fresh,
        findings=tuple(findings),
        alerts=tuple(alert for alert in alerts.values() if alert.is_live),
        transitions=tuple(transitions),
        sent=sent,
        not_told=told,
    )


def keep(store: Store, alerts: Iterable[Alert], transitions: Sequence[Transition]) -> None:
    """Keep what an evaluation came to.

    Steps first: a crash in between is healed from them, and no message is lost.
    """
    store.insert("alert_events", [_event(step) for step in transitions])
    store.insert("alert_states", [_state(alert) for alert in alerts])


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
    channels = open_channels(settings)
    unsent = Event()

    def evaluated() -> str:
        done = evaluate_now(store, settings, clock())
        if done.sent.failed or done.sent.waiting:
            unsent.set()
        return str(done)

    def sent_again() -> None:
        if unsent.is_set() and _one_sender.acquire(blocking=False):
            try:
                left = send_due(store, channels, settings, clock())
            except CostspanError as error:
                _log.warning("messages wait: %s", error)
            else:
                if not left.failed and not left.waiting:
                    unsent.clear()
            finally:
                _one_sender.release()

    scheduler.add_job(
        lambda: run_job(store, JOB, evaluated),
        trigger="interval",
        seconds=settings.interval_seconds,
        id=JOB,
        max_instances=1,
        coalesce=True,
    )
    scheduler.add_job(
        sent_again,
        trigger="interval",
        seconds=_RETRY_SECONDS,
        id="alert_messages",
        max_instances=1,
        coalesce=True,
    )


def _told_elsewhere(store: Store, settings: Alerts, now: datetime) -> Iterator[tuple[str, Outcome]]:
    if settings.alertmanager_url.get_secret_value():
        yield "alertmanager", push(settings, latest_alerts(store), now)
    if settings.heartbeat_url.get_secret_value():
        yield "heartbeat", beat(settings)


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
    incident: str


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
        incident=alert.incident or alert.alert_id,
    )


def _state(alert: Alert) -> _State:
    return _State(
        # Alerts of one incident share a fingerprint; each has a row.
        fingerprint="|".join(key_of(alert.finding)),
        alert_id=alert.alert_id,
        rule=alert.finding.rule,
        severity=alert.finding.severity,
        state=alert.state,
        sequence=alert.sequence,
        evaluated_at=alert.evaluated_at,
        snapshot=_ALERT.dump_json(alert).decode(),
    )
