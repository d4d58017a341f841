"""Push to Alertmanager's v2 API: what goes on, after each evaluation, and what ended, for a while.

Labels are what an alert is known by, so figures are annotations; what becomes a page is another
alert there. An alert that is not pushed again ends by itself after four intervals. Its silences and ours add up.
"""

import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from costspan_dashboards.alerts.message import compose
from costspan_dashboards.alerts.settings import Alerts
from costspan_dashboards.alerts.state import Alert
from costspan_dashboards.alerts.wire import Outcome, send

ALERTMANAGER = "alertmanager"
TELLS_THE_END_FOR = timedelta(minutes=5)

_INTERVALS = 4


def push(settings: Alerts, alerts: Iterable[Alert], now: datetime) -> Outcome:
    """Push alerts that go on or ended a moment ago, and the one that always fires."""
    address = settings.alertmanager_url.get_secret_value().rstrip("/")
    body = json.dumps(posted(settings, alerts, now)).encode()
    return send(
        "POST",
        f"{address}/api/v2/alerts",
        settings.notify_timeout_seconds,
        content=body,
        headers={"Content-Type": "application/json"},
    )


def posted(settings: Alerts, alerts: Iterable[Alert], now: datetime) -> list[dict[str, Any]]:
    """Return the body of a push."""
    until = now + _INTERVALS * timedelta(seconds=settings.interval_seconds)
    root = settings.dashboard_url.rstrip("/")
    watchdog = {
        "labels": {"alertname": "CostspanWatchdog", "severity": "info"},
        "annotations": {
            "summary": "Always firing: whoever misses it knows that costspan is silent"
        },
        "startsAt": now.isoformat(),
        "endsAt": until.isoformat(),
        "generatorURL": f"{root}/alerts",
    }
    return [watchdog, *(_posted(settings, one, until) for one in alerts if _is_told(one, now))]


def _is_told(alert: Alert, now: datetime) -> bool:
    if alert.firing_since is None or alert.hushed:
        return False
    ended = alert.ended_at
    return alert.is_up or (ended is not None and now - ended <= TELLS_THE_END_FOR)


def _posted(settings: Alerts, alert: Alert, until: datetime) -> dict[str, Any]:
    found, root = alert.finding, settings.dashboard_url.rstrip("/")
    message = compose(
        alert, alert.state, alert.alert_id, root, shows_addresses=settings.show_addresses
    )
    return {
        "labels": {
            "alertname": found.rule,
            "severity": found.severity,
            "episode": found.episode or "-",
            "incident": alert.incident or alert.alert_id,
        },
        "annotations": {
            "summary": message.title,
            "description": message.body,
            "scope": message.payload["scope"],
            "state": alert.state,
            "fingerprint": alert.fingerprint,
        },
        "startsAt": (alert.firing_since or found.since).isoformat(),
        "endsAt": (until if alert.is_up or alert.ended_at is None else alert.ended_at).isoformat(),
        "generatorURL": f"{root}/alerts?{urlencode({'alert': alert.alert_id})}",
    }
