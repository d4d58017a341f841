"""What the pages ask about alerts."""

from dataclasses import dataclass
from datetime import datetime

from pydantic import TypeAdapter

from costspan_collector.store import Store, load_sql
from costspan_dashboards.alerts.state import Alert
from costspan_dashboards.filters import TimeRange

_PACKAGE = "costspan_dashboards.alerts"
_ALERT = TypeAdapter(Alert)


@dataclass(frozen=True, slots=True)
class Event:
    """One step of an alert."""

    at: datetime
    rule: str
    severity: str
    from_state: str
    to_state: str
    reason: str
    title: str
    tells: bool
    alert_id: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message on one channel, and how far it got."""

    last_at: datetime
    channel: str
    alert_id: str
    sequence: int
    tries: int
    outcome: str
    detail: str


@dataclass(frozen=True, slots=True)
class LastEvaluation:
    """The last run of the alert job."""

    started_at: datetime
    ended_at: datetime
    status: str
    detail: str


@dataclass(frozen=True, slots=True)
class _Snapshot:
    snapshot: str


def latest_alerts(store: Store) -> list[Alert]:
    """Return the latest episode of all that rules ever went on about."""
    rows = store.select(load_sql(_PACKAGE, "live_alerts"), _Snapshot)
    return [_ALERT.validate_json(row.snapshot) for row in rows]


def kept_alerts(store: Store) -> list[Alert]:
    """Return the alerts that the next evaluation must know of."""
    return [alert for alert in latest_alerts(store) if alert.is_kept]


def live_alerts(store: Store) -> list[Alert]:
    """Return the alerts that go on, told of or not."""
    return [alert for alert in kept_alerts(store) if alert.is_live]


def open_alerts(store: Store) -> list[Alert]:
    """Return the alerts that ask somebody to act and that go on, pages first."""
    up = [one for one in live_alerts(store) if one.is_up and one.finding.severity != "info"]
    return sorted(up, key=lambda one: (one.finding.severity != "page", one.finding.since))


def open_incidents(store: Store) -> list[list[Alert]]:
    """Return the open alerts by incident: the one that leads it first, pages first."""
    found: dict[str, list[Alert]] = {}
    for alert in open_alerts(store):
        found.setdefault(alert.incident or alert.alert_id, []).append(alert)
    return list(found.values())


def notices(store: Store) -> list[Alert]:
    """Return what goes on and is good to know, and asks nobody to act."""
    return [one for one in live_alerts(store) if one.is_up and one.finding.severity == "info"]


def recent_events(store: Store, time: TimeRange) -> list[Event]:
    """Return the steps of alerts in a stretch of time, the newest first."""
    return store.select(
        load_sql(_PACKAGE, "recent_events"), Event, since=time.since, until=time.until
    )


def recent_deliveries(store: Store, time: TimeRange) -> list[Delivery]:
    """Return the messages of a stretch of time, the newest first."""
    return store.select(
        load_sql(_PACKAGE, "recent_notifications"), Delivery, since=time.since, until=time.until
    )


def last_evaluation(store: Store) -> LastEvaluation | None:
    """Return when alerts were evaluated at last, None if never."""
    rows = store.select(load_sql(_PACKAGE, "last_evaluation"), LastEvaluation)
    return rows[0] if rows else None
