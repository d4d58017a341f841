"""Each step that is told reaches each channel once: claim, send, mark.

Of a try that was claimed and never marked (the process died while sending) nobody knows how it
ended. It is made again where the receiver knows a second message by its key, and is `unknown`
where a person would be told twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from uuid import UUID, uuid4

from pydantic import TypeAdapter

from costspan_collector.store import Store, load_sql
from costspan_dashboards.alerts.channels import Channel, names
from costspan_dashboards.alerts.finding import SEVERITIES, Finding
from costspan_dashboards.alerts.incidents import members
from costspan_dashboards.alerts.message import compose
from costspan_dashboards.alerts.queries import live_alerts
from costspan_dashboards.alerts.scopes import Scope
from costspan_dashboards.alerts.settings import Alerts
from costspan_dashboards.alerts.state import Alert, Transition
from costspan_dashboards.alerts.wire import Outcome

CHANNEL_DOWN = "channel_down"

_PACKAGE = "costspan_dashboards.alerts"
_KEEP = timedelta(days=7)
_GIVE_UP_AFTER = timedelta(hours=24)
_WAITS = tuple(timedelta(seconds=seconds) for seconds in (5, 15, 60, 300, 900))
_BREAKS_AT = 3
"""After so many failures in a row a channel is given one message at a time."""
_DOWN_AFTER = timedelta(minutes=5)
_ALERT = TypeAdapter(Alert)


@dataclass(frozen=True, slots=True)
class Notification:
    """A row of `notifications`."""

    message_id: str
    alert_id: str
    sequence: int
    channel: str
    try_number: int
    outcome: str
    claim_id: UUID
    at: datetime
    detail: str


@dataclass(frozen=True, slots=True)
class Sent:
    """What one round of sending did."""

    delivered: int = 0
    failed: int = 0
    waiting: int = 0
    given_up: int = 0
    """Dead letters: they are sent when their channel works again."""


@dataclass(frozen=True, slots=True)
class ChannelHealth:
    """How a channel has gone since it delivered at last."""

    channel: str
    failures: int
    first_at: datetime
    last_at: datetime
    detail: str

    def rests(self, now: datetime) -> bool:
        """Say whether it is left alone for now."""
        return self.failures >= _BREAKS_AT and now < self.last_at + _wait(self.failures)


@dataclass(frozen=True, slots=True)
class _Delivered:
    channel: str
    delivered_at: datetime


@dataclass(frozen=True, slots=True)
class _Due:
    alert_id: str
    sequence: int
    channel: str
    at: datetime
    newest: bool
    snapshot: str
    reason: str
    last_try: int
    last_at: datetime | None
    open: bool


@dataclass(frozen=True, slots=True)
class _Claim:
    claim_id: UUID


def send_due(store: Store, channels: Sequence[Channel], settings: Alerts, now: datetime) -> Sent:
    """Send what has not arrived and is due; a failing channel does not hold up the others."""
    by_name = {channel.name: channel for channel in channels}
    since = now - _KEEP
    due = store.select(
        load_sql(_PACKAGE, "due_messages"), _Due, since=since, channels=names(channels)
    )
    if not due:
        return Sent()
    live = live_alerts(store)
    resting = {one.channel for one in health(store, names(channels), now) if one.rests(now)}
    worked = {
        one.channel: one.delivered_at
        for one in store.select(load_sql(_PACKAGE, "delivered"), _Delivered, since=since)
    }
    sent = {"delivered": 0, "failed": 0, "waiting": 0, "given_up": 0}
    for one in due:
        alert = _ALERT.validate_json(one.snapshot)
        if not _is_for(alert.finding, one.channel, settings):
            continue
        what = _what_now(one, by_name[one.channel], settings, now, worked.get(one.channel))
        if what in _SETTLED:
            _mark(store, one, one.last_try, uuid4(), now, what, _SETTLED[what])
        elif what != "due":
            sent[what] += 1
        elif one.channel in resting:
            sent["waiting"] += 1
        else:
            outcome = _try(store, by_name[one.channel], one, alert, live, settings, now)
            if outcome is None:  # another process is at it
                continue
            sent["delivered" if outcome.delivered else "failed"] += 1
            if outcome.delivered:
                worked[one.channel] = now
            else:
                resting.add(one.channel)  # what else it is to be told can wait for this one
    return Sent(**sent)


def send_unkept(
    step: Transition,
    channels: Sequence[Channel],
    settings: Alerts,
    tried: Sequence[Notification],
    now: datetime,
) -> list[Notification]:
    """Try once on each channel that has not had it, and return what is to be kept of that.

    For a time without a store: nobody else can send the same meanwhile.
    """
    made: list[Notification] = []
    for channel in channels:
        name, alert = channel.name, step.alert
        message_id = _message_id(alert.alert_id, alert.sequence, name)
        before = [one.outcome for one in tried if one.message_id == message_id]
        if "delivered" in before or not _is_for(alert.finding, name, settings):
            continue
        message = compose(
            alert,
            step.reason,
            message_id,
            settings.dashboard_url,
            shows_addresses=settings.show_addresses,
        )
        outcome = channel.send(message)
        made.append(
            Notification(
                message_id=message_id,
                alert_id=alert.alert_id,
                sequence=alert.sequence,
                channel=name,
                try_number=len(before) + 1,
                outcome="delivered" if outcome.delivered else "failed",
                claim_id=uuid4(),
                at=now,
                detail=outcome.detail,
            )
        )
    return made


def keep_contact(
    store: Store, name: str, outcome: Outcome, known: Sequence[ChannelHealth], now: datetime
) -> None:
    """Keep that a place which is told of every evaluation did not answer, or does so again."""
    if outcome.delivered and name not in {one.channel for one in known}:
        return
    row = Notification(
        message_id=name,
        alert_id="",
        sequence=0,
        channel=name,
        try_number=1,
        outcome="delivered" if outcome.delivered else "failed",
        claim_id=uuid4(),
        at=now,
        detail=outcome.detail,
    )
    store.insert("notifications", [row])


def health(store: Store, channels: Sequence[str], now: datetime) -> list[ChannelHealth]:
    """Return those of the named channels that failed when they were tried last."""
    return store.select(
        load_sql(_PACKAGE, "channel_health"),
        ChannelHealth,
        since=now - _KEEP,
        channels=channels,
    )


def channel_findings(known: Sequence[ChannelHealth], now: datetime) -> list[Finding]:
    """Return what is wrong with channels, as something to tell through the others."""
    return [
        Finding(
            rule=CHANNEL_DOWN,
            severity="ticket",
            scope=Scope(),
            since=one.first_at,
            until=now,
            observed=Decimal(one.failures),
            usual=Decimal(0),
            unit="times_usual",
            title=f"Messages do not arrive through {one.channel}",
            facts=(
                f"It failed {one.failures} times since {one.first_at:%Y-%m-%d %H:%M} UTC.",
                f"The last time: {one.detail}.",
                "It is tried again, at most 15 minutes apart; then it gets what is still true.",
                "This alert goes through every other channel.",
            ),
            contributors=(),
            shared=(),
            examples=(),
            link="/alerts",
            episode=one.channel,
        )
        for one in known
        if one.failures >= _BREAKS_AT and now - one.first_at >= _DOWN_AFTER
    ]


_SETTLED = {
    "superseded": "a newer step took its place",
    "unknown": "the process died while sending; a second message would reach people twice",
}


def _is_for(finding: Finding, channel: str, settings: Alerts) -> bool:
    if finding.rule == CHANNEL_DOWN and finding.episode == channel:
        return False
    least = SEVERITIES.index(settings.notify_from)
    return channel == "log" or SEVERITIES.index(finding.severity) >= least


def _what_now(
    due: _Due, channel: Channel, settings: Alerts, now: datetime, worked: datetime | None
) -> str:
    if not due.newest:
        return "superseded"
    if due.last_at is None:
        return "due"
    if due.open:  # while its sender may live, it is the sender's
        patience = timedelta(seconds=2 * settings.notify_timeout_seconds)
        if now < due.last_at + patience:
            return "waiting"
        return "due" if channel.keyed else "unknown"
    if now - due.at > _GIVE_UP_AFTER:
        return "due" if worked and worked > due.last_at else "given_up"
    return "due" if now >= due.last_at + _wait(due.last_try) else "waiting"


def _try(
    store: Store,
    channel: Channel,
    due: _Due,
    alert: Alert,
    live: Sequence[Alert],
    settings: Alerts,
    now: datetime,
) -> Outcome | None:
    number, claim = due.last_try + 1, uuid4()
    message_id = _message_id(due.alert_id, due.sequence, due.channel)
    _mark(store, due, number, claim, now, "claimed", "", token=f"{message_id}/{number}")
    won = store.select(
        load_sql(_PACKAGE, "claims"), _Claim, message_id=message_id, try_number=number
    )
    if won != [_Claim(claim)]:
        return None
    fellows = members(alert, live)
    message = compose(
        alert,
        due.reason,
        message_id,
        settings.dashboard_url,
        fellows,
        shows_addresses=settings.show_addresses,
    )
    outcome = channel.send(message)
    result = "delivered" if outcome.delivered else "failed"
    _mark(store, due, number, claim, now, result, outcome.detail)
    return outcome


def _mark(
    store: Store,
    due: _Due,
    number: int,
    claim: UUID,
    now: datetime,
    outcome: str,
    detail: str,
    *,
    token: str = "",
) -> None:
    row = Notification(
        message_id=_message_id(due.alert_id, due.sequence, due.channel),
        alert_id=due.alert_id,
        sequence=due.sequence,
        channel=due.channel,
        try_number=number,
        outcome=outcome,
        claim_id=claim,
        at=now,
        detail=detail,
    )
    store.insert("notifications", [row], token=token)


def _message_id(alert_id: str, sequence: int, channel: str) -> str:
    return sha256(f"{alert_id}|{sequence}|{channel}".encode()).hexdigest()[:16]


def _wait(tries: int) -> timedelta:
    return _WAITS[min(tries, len(_WAITS)) - 1]
