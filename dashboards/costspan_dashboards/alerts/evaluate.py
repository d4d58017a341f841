"""One evaluation: pure, the same for the live loop, a backtest and a simulation.

`evaluate_now` reads for it, keeps what it says, and tells. `loop.py` calls it; so can a person.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from threading import Lock
from urllib.parse import parse_qsl, urlencode, urlsplit

from pydantic import TypeAdapter

from costspan.pricing import Book
from costspan_collector.store import Store, load_sql
from costspan_dashboards.alerts.alertmanager import ALERTMANAGER, push
from costspan_dashboards.alerts.cause import DIMENSIONS
from costspan_dashboards.alerts.channels import names, open_channels
from costspan_dashboards.alerts.finding import Example, Finding
from costspan_dashboards.alerts.frame import Frame
from costspan_dashboards.alerts.heartbeat import HEARTBEAT, beat
from costspan_dashboards.alerts.incidents import ABOUT_ARRIVAL, tell
from costspan_dashboards.alerts.limits import EASED, Limits
from costspan_dashboards.alerts.outbox import (
    ChannelHealth,
    Sent,
    channel_findings,
    health,
    keep_contact,
    send_due,
)
from costspan_dashboards.alerts.queries import kept_alerts, latest_alerts
from costspan_dashboards.alerts.read import read_frame, watermark
from costspan_dashboards.alerts.read_plumbing import read_plumbing, with_reviews
from costspan_dashboards.alerts.rules import judge
from costspan_dashboards.alerts.rules.plumbing import RULE_FAILS
from costspan_dashboards.alerts.scopes import SCOPES, Basis, Scope, View
from costspan_dashboards.alerts.settings import Alerts
from costspan_dashboards.alerts.silences import Silence, actions, marks, silences
from costspan_dashboards.alerts.state import Action, Alert, Timing, Transition, act, advance
from costspan_dashboards.alerts.wire import Outcome

JOB = "alerts"

_PACKAGE = "costspan_dashboards.alerts"
_ELSEWHERE = (ALERTMANAGER, HEARTBEAT)
_ALERT = TypeAdapter(Alert)
_one_at_a_time = Lock()
"""The scheduler's run and a person's must not both step the same alert."""
one_sender = Lock()
"""While a channel is slow, the next evaluation goes on; but nobody else sends."""

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
    people: People

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
    closed = {key for key, alert in alerts.items() if alert.dismissed}
    fresh = fresh and not any(rule == "no_data" for rule, _ in found.keys() - closed)
    failing = {episode for rule, episode in found if rule == RULE_FAILS}
    after: dict[Key, Alert] = {}
    transitions: list[Transition] = []
    for key in {**alerts, **found}:
        known = (fresh or key[0] in ABOUT_ARRIVAL) and key[0] not in failing
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
        judged(frame, limits, alerts),
        alerts,
        fresh=is_fresh(frame, timing),
        now=frame.now,
        timing=timing,
        limits=limits,
        people=people,
    )


def judged(
    frame: Frame, limits: Limits, alerts: Mapping[Key, Alert], *, only: str = ""
) -> tuple[Finding, ...]:
    """Return what the rules find; an alert that fires goes on by limits that are eased."""
    found = judge(frame, limits, only=only)
    seen = {key_of(one) for one in found}
    up = {
        key for key, alert in alerts.items() if (alert.is_up or alert.dismissed) and key not in seen
    }
    still = [
        replace(one, severity="info")  # it is no worse than it was
        for key in sorted(up)
        if _is_eased(alerts[key], frame.now)
        for one in judge(frame, limits.eased, only=key[0], about=_told_of(alerts[key]))
        if key_of(one) == key
    ]
    return (*found, *still)


def _is_eased(alert: Alert, now: datetime) -> bool:
    """Say whether an alert goes on by milder limits."""
    longest = EASED.get(alert.finding.rule)
    return bool(longest and alert.firing_since and now - alert.firing_since <= longest)


def _told_of(alert: Alert) -> frozenset[Scope]:
    """Return the scopes that an alert was told of: others do not keep it up."""
    scopes = {alert.finding.scope}
    for cause in (alert.finding.cause, *alert.told_causes):
        named = {Scope(*pair) for pair in cause if pair[0] in SCOPES}
        scopes |= named or {Scope()}
    return frozenset(scopes)


def is_fresh(frame: Frame, timing: Timing) -> bool:
    """Say whether calls arrive: without, nothing can be said to be well."""
    latest = frame.latest_arrival
    return latest is not None and frame.now - latest < timing.stale_after


def evaluate_now(
    store: Store,
    settings: Alerts,
    now: datetime,
    *,
    book: Book | None = None,
    store_failing_since: datetime | None = None,
) -> Evaluation:
    """Judge the calls before the watermark, step the alerts, and send what is due.

    Args:
        store: What is judged, and where alerts are kept.
        settings: How, and who is told.
        now: The moment of the evaluation.
        book: Whose review dates are looked at.
        store_failing_since: What the process knows of the store that the store cannot tell.

    Raises:
        Unavailable: the store does not answer; the next evaluation makes up for it.
        Rejected: a notification URL is not understood.
    """
    channels = open_channels(settings)
    with _one_at_a_time:
        frame = frame_now(store, settings, now, book, store_failing_since)
        limits = settings.limits
        live = {key_of(alert.finding): alert for alert in kept_alerts(store)}
        findings = [_with_examples(store, one) for one in judged(frame, limits, live)]
        ailing = health(store, [*names(channels), *_ELSEWHERE], now)
        findings += channel_findings(ailing, now)
        fresh = is_fresh(frame, settings.timing)
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
    with one_sender:
        sent = send_due(store, channels, settings, now)
    not_told = _tell_elsewhere(store, settings, ailing, now)
    return Evaluation(
        at=now,
        until=frame.at,
        basis=View.of(frame, limits.quiet_environments).past.basis,
        fresh=fresh,
        findings=tuple(findings),
        alerts=tuple(alert for alert in alerts.values() if alert.is_live),
        transitions=tuple(transitions),
        sent=sent,
        not_told=not_told,
        people=people,
    )


def frame_now(
    store: Store,
    settings: Alerts,
    now: datetime,
    book: Book | None,
    store_failing_since: datetime | None = None,
) -> Frame:
    """Return all that an evaluation looks at, the pipeline included.

    Raises:
        Unavailable: the store does not answer.
    """
    plumbing = replace(read_plumbing(store, now), store_failing_since=store_failing_since)
    if book:
        plumbing = with_reviews(plumbing, store, book, now)
    marked = tuple(one.as_mark for one in marks(store))
    until = watermark(now, settings.watermark)
    return read_frame(store, now, until, marks=marked, plumbing=plumbing)


def keep(store: Store, alerts: Iterable[Alert], transitions: Sequence[Transition]) -> None:
    """Keep what an evaluation came to.

    Steps first: a crash in between is healed from them, and no message is lost.
    """
    store.insert("alert_events", [_event(step) for step in transitions])
    store.insert("alert_states", [_state(alert) for alert in alerts])


def _tell_elsewhere(
    store: Store, settings: Alerts, ailing: Sequence[ChannelHealth], now: datetime
) -> dict[str, str]:
    """Tell Alertmanager and the heartbeat, keep who did not answer, and return it with the reason."""
    outcomes: dict[str, Outcome] = {}
    if settings.alertmanager_url.get_secret_value():
        outcomes[ALERTMANAGER] = push(settings, latest_alerts(store), now)
    if settings.heartbeat_url.get_secret_value():
        outcomes[HEARTBEAT] = beat(settings)
    for name, outcome in outcomes.items():
        keep_contact(store, name, outcome, ailing, now)
    return {name: one.detail for name, one in outcomes.items() if not one.delivered}


def _with_examples(store: Store, finding: Finding) -> Finding:
    """Return the finding with calls to look at, where it is about calls of the present."""
    finding = replace(finding, link=_shown_as(store, finding))
    if not finding.window_minutes:
        return finding
    wanted = dict.fromkeys(DIMENSIONS, "") | dict(finding.where)
    rows = store.select(
        load_sql(_PACKAGE, "examples"),
        Example,
        since=finding.since,
        until=finding.until,
        rule=finding.rule,
        **wanted,
    )
    return replace(finding, examples=tuple(rows))


def _shown_as(store: Store, finding: Finding) -> str:
    """Return the link with every name that the page has for the model that was asked for."""
    asked = dict(parse_qsl(urlsplit(finding.link).query)).get("model")
    if not asked:
        return finding.link
    rows = store.select(
        load_sql(_PACKAGE, "answered_as"),
        _Model,
        asked=asked,
        since=finding.until - timedelta(days=1),
        until=finding.until,
    )
    every = [("model", row.model) for row in rows] or [("model", asked)]
    return finding.link.replace(urlencode({"model": asked}), urlencode(every))


@dataclass(frozen=True, slots=True)
class _Model:
    model: str


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
