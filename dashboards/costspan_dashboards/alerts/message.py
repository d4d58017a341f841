"""A step of an alert in words: for people as text, for machines as JSON."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, cast
from urllib.parse import urlencode

from costspan_dashboards.alerts.finding import Severity
from costspan_dashboards.alerts.state import Alert

_MOST_EXAMPLES = 3
_ADDRESS = re.compile(r"[\w.+-]+(?:@|%40)[\w-]+(?:\.[\w-]+)+")


@dataclass(frozen=True, slots=True)
class Message:
    """What one channel is told about one step of an alert."""

    message_id: str
    """The same at every try: receivers may drop what they have had."""
    title: str
    body: str
    state: str
    severity: Severity
    incident: str
    """The same for all messages of an incident: the last one ends what the first began."""
    payload: dict[str, Any]


def compose(
    alert: Alert,
    reason: str,
    message_id: str,
    dashboard_url: str,
    fellows: Sequence[Alert] = (),
    *,
    shows_addresses: bool = False,
) -> Message:
    """Put a step of an alert into words.

    Args:
        alert: As it is after the step.
        reason: Why the step was taken.
        message_id: What names the message.
        dashboard_url: What links begin with.
        fellows: The other alerts of its incident.
        shows_addresses: Whether a user that is called by an e-mail address is shown as that.
    """
    found, root = alert.finding, dashboard_url.rstrip("/")
    over = not alert.is_live
    lead = alert.state.upper() if over else found.severity.upper()
    title = f"[{lead}] {found.rule}: {found.title}"
    links = {
        "calls": f"{root}{found.link}",
        "alert": f"{root}/alerts?{urlencode({'alert': alert.alert_id})}",
        "silence": f"{root}/alerts?{urlencode({'silence': alert.alert_id})}",
        "runbook": f"{root}/alerts?{urlencode({'runbook': found.rule})}",
    }
    examples = [f"{root}{one.link}" for one in found.examples[:_MOST_EXAMPLES]]
    lines = [
        _first_line(alert, reason),
        *found.facts,
        f"Look at: {links['calls']}",
        f"What to do: {links['runbook']}",
        f"Silence it: {links['silence']}",
        f"Severity {found.severity}, rule {found.rule}, fingerprint {alert.fingerprint}.",
        # What may be cut off where a service takes fewer characters.
        *(f"Also: {one.finding.rule}: {one.finding.title}" for one in fellows),
        *(f"Example: {example}" for example in examples),
        f"Alert {alert.alert_id}, message {message_id}.",
    ]
    payload: dict[str, Any] = {
        "schema": 1,
        "message_id": message_id,
        "incident": alert.incident or alert.alert_id,
        "alert_id": alert.alert_id,
        "sequence": alert.sequence,
        "fingerprint": alert.fingerprint,
        "rule": found.rule,
        "severity": found.severity,
        "state": alert.state,
        "reason": reason,
        "title": title,
        "text": "\n".join(lines),
        "since": found.since.isoformat(),
        "until": found.until.isoformat(),
        "observed": str(found.observed),
        "usual": str(found.usual),
        "unit": found.unit,
        "scope": str(found.scope),
        "kind": found.kind,
        "cost_of_waiting": found.waiting,
        "causes": [
            {
                "where": dict(one.where),
                "also": dict(one.also),
                "share": round(one.share, 4),
                "actual": str(one.actual),
                "expected": str(one.expected),
            }
            for one in found.contributors
        ],
        "changes": list(found.changes),
        "also": [f"{one.finding.rule}: {one.finding.title}" for one in fellows],
        "example_traces": [one.trace_id for one in found.examples[:_MOST_EXAMPLES]],
        "links": links,
    }
    if not shows_addresses:
        title, payload = masked(title), _masked_within(payload)
    return Message(
        message_id=message_id,
        title=title,
        body=payload["text"],
        state=alert.state,
        severity=found.severity,
        incident=alert.incident or alert.alert_id,
        payload=payload,
    )


def masked(text: str) -> str:
    """Return the text with a mark in place of each e-mail address, the same for the same one."""
    return _ADDRESS.sub(lambda found: f"address-{sha256(found[0].encode()).hexdigest()[:8]}", text)


def _masked_within(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, dict):
        return {name: _masked_within(one) for name, one in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_masked_within(one) for one in cast("list[Any]", value)]
    return value


def _first_line(alert: Alert, reason: str) -> str:
    since = f"{alert.finding.since:%Y-%m-%d %H:%M} UTC"
    if alert.is_live or alert.ended_at is None:
        return f"State: {alert.state}, {reason}; first seen {since}."
    lasted = int((alert.ended_at - alert.finding.since).total_seconds() // 60)
    return f"State: {alert.state}, {reason}; it lasted {lasted} minutes, since {since}. It was:"


def trial_message(dashboard_url: str, now: datetime) -> Message:
    """Return a message that says that messages arrive."""
    words = "This is a test: messages of costspan arrive here."
    return Message(
        message_id=f"test-{now:%Y%m%d%H%M%S}",
        title="[TEST] costspan",
        body=f"{words}\nLook at: {dashboard_url.rstrip('/')}/alerts",
        state="test",
        severity="info",
        incident=f"test-{now:%Y%m%d%H%M%S}",
        payload={"schema": 1, "state": "test", "severity": "info", "text": words},
    )
