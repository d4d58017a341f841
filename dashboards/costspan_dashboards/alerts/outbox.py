"""Each step of an alert reaches each channel once: claim, send, mark.

A try that was claimed and never marked (the process died while sending) is tried again after
its wait: a page told twice, with the same key, is better than a page lost.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from uuid import UUID, uuid4

from pydantic import TypeAdapter

from costspan_collector.store import Store, load_sql
from costspan_dashboards.alerts.channels import Channel, Outcome, compose, names
from costspan_dashboards.alerts.settings import Alerts
from costspan_dashboards.alerts.state import Alert

_PACKAGE = "costspan_dashboards.alerts"
_KEEP = timedelta(days=2)
_FIRST_WAIT = timedelta(minutes=1)
_LONGEST_WAIT = timedelta(minutes=30)
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

    delivered: int
    failed: int
    waiting: int
    given_up: int


@dataclass(frozen=True, slots=True)
class _Due:
    alert_id: str
    sequence: int
    channel: str
    newest: bool
    snapshot: str
    reason: str
    last_try: int
    last_at: datetime | None


@dataclass(frozen=True, slots=True)
class _Claim:
    claim_id: UUID


def send_due(store: Store, channels: Sequence[Channel], settings: Alerts, now: datetime) -> Sent:
    """Send what has not arrived and is due; a failing channel does not hold up the others."""
    by_name = {channel.name: channel for channel in channels}
    due = store.select(
        load_sql(_PACKAGE, "due_messages"), _Due, since=now - _KEEP, channels=names(channels)
    )
    delivered = failed = waiting = given_up = 0
    for one in due:
        if not one.newest:
            _mark(
                store, one, one.last_try, uuid4(), now, "superseded", "a newer step took its place"
            )
        elif one.last_try >= settings.notify_tries:
            given_up += 1
        elif one.last_at and now < one.last_at + _wait(one.last_try):
            waiting += 1
        else:
            outcome = _try(store, by_name[one.channel], one, settings, now)
            if outcome:
                delivered += outcome.delivered
                failed += not outcome.delivered
    return Sent(delivered, failed, waiting, given_up)


def _try(
    store: Store, channel: Channel, due: _Due, settings: Alerts, now: datetime
) -> Outcome | None:
    number, claim = due.last_try + 1, uuid4()
    _mark(store, due, number, claim, now, "claimed", "")
    won = store.select(
        load_sql(_PACKAGE, "claims"), _Claim, message_id=_message_id(due), try_number=number
    )
    if won != [_Claim(claim)]:
        return None
    alert = _ALERT.validate_json(due.snapshot)
    message = compose(alert, due.reason, _message_id(due), settings.dashboard_url)
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
) -> None:
    row = Notification(
        message_id=_message_id(due),
        alert_id=due.alert_id,
        sequence=due.sequence,
        channel=due.channel,
        try_number=number,
        outcome=outcome,
        claim_id=claim,
        at=now,
        detail=detail,
    )
    store.insert("notifications", [row])


def _message_id(due: _Due) -> str:
    return sha256(f"{due.alert_id}|{due.sequence}|{due.channel}".encode()).hexdigest()[:16]


def _wait(tries: int) -> timedelta:
    return min(_FIRST_WAIT * 2 ** (tries - 1), _LONGEST_WAIT)
