"""Where messages go: the log always, and whatever apprise can reach.

A channel's URL is a secret: it is never logged, stored or shown. What names a channel is the
service and its place in the setting.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote

import apprise
from apprise import Apprise, AppriseAsset, AppriseResultStatus, NotifyFormat, NotifyType

from costspan.errors import Rejected
from costspan_dashboards.alerts.settings import Alerts
from costspan_dashboards.alerts.state import Alert

_log = logging.getLogger("costspan.alerts")
_HEADER_SCHEMES = {"json", "jsons", "xml", "xmls", "form", "forms"}

# Apprise and urllib3 write full URLs at lower levels, with the tokens in their paths.
for _name in ("apprise", "urllib3"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)


@dataclass(frozen=True, slots=True)
class Message:
    """What one channel is told about one step of an alert."""

    message_id: str
    """The same at every try: receivers may drop what they have had."""
    title: str
    body: str
    state: str
    severity: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a try ended."""

    delivered: bool
    detail: str


class Channel(Protocol):
    """Somewhere people are told."""

    @property
    def name(self) -> str:
        """What it is called on pages and in the store."""
        ...

    def send(self, message: Message) -> Outcome:
        """Try once, in bounded time."""
        ...


class LogChannel:
    """The server's own log."""

    name = "log"

    def send(self, message: Message) -> Outcome:
        """Write one line."""
        _log.warning("%s | %s", message.title, message.body.replace("\n", " | "))
        return Outcome(delivered=True, detail="")


class AppriseChannel:
    """One apprise URL."""

    def __init__(self, url: str, position: int, timeout_seconds: float) -> None:
        self._url = url
        self._timeout_seconds = timeout_seconds
        service = _opened(url)
        if service is None:
            msg = (
                f"URL number {position} in COSTSPAN_ALERTS_NOTIFY_URLS is not one apprise "
                "understands; its form is service://..., see the apprise documentation"
            )
            raise Rejected(msg)
        self.name = f"{service.service_name} #{position}"

    def send(self, message: Message) -> Outcome:
        """Send once; the channel's answer decides, and no answer in time is a failure."""
        service = Apprise(asset=_asset())
        if not service.add(self._with_key(message.message_id)):
            return Outcome(delivered=False, detail="apprise no longer understands the URL")
        result = service.notify(
            body=message.body,
            title=message.title,
            notify_type=_type(message),
            body_format=NotifyFormat.TEXT,
            timeout=self._timeout_seconds,
        )
        with result:
            if result.status == AppriseResultStatus.SUCCESS:
                return Outcome(delivered=True, detail="")
            return Outcome(delivered=False, detail=f"apprise: {result.status.name.lower()}")

    def _with_key(self, message_id: str) -> str:
        if self._url.partition("://")[0].lower() not in _HEADER_SCHEMES:
            return self._url
        mark = "&" if "?" in self._url else "?"
        return f"{self._url}{mark}+Idempotency-Key={quote(message_id)}"


def open_channels(settings: Alerts) -> list[Channel]:
    """Return every channel there is.

    Raises:
        Rejected: a URL is not understood; the message names its place, never the URL.
    """
    channels: list[Channel] = [LogChannel()]
    for position, url in enumerate(settings.urls(), start=1):
        channels.append(AppriseChannel(url, position, settings.notify_timeout_seconds))
    return channels


def compose(alert: Alert, reason: str, message_id: str, dashboard_url: str) -> Message:
    """Put a step of an alert into words."""
    found = alert.finding
    lead = "RESOLVED" if alert.state == "resolved" else found.severity.upper()
    lines = [f"State: {alert.state}, {reason}; first seen {found.since:%Y-%m-%d %H:%M} UTC."]
    if alert.state == "resolved" and alert.ended_at:
        lasted = int((alert.ended_at - found.since).total_seconds() // 60)
        lines[0] = f"State: resolved, {reason}; it lasted {lasted} minutes. It was:"
    lines += found.facts
    root = dashboard_url.rstrip("/")
    lines += [f"Example: {root}{example.link}" for example in found.examples]
    lines += [
        f"Look at: {root}{found.link}",
        f"Rule {found.rule}, alert {alert.alert_id}, message {message_id}.",
    ]
    return Message(
        message_id=message_id,
        title=f"[{lead}] {found.rule}: {found.title}",
        body="\n".join(lines),
        state=alert.state,
        severity=found.severity,
    )


def names(channels: Sequence[Channel]) -> list[str]:
    """Return what the channels are called."""
    return [channel.name for channel in channels]


def _opened(url: str) -> apprise.NotifyBase | None:
    opened = Apprise.instantiate(url, asset=_asset(), suppress_exceptions=True)
    return opened if isinstance(opened, apprise.NotifyBase) else None


def _asset() -> AppriseAsset:
    # A redirect would carry the message and its headers to a host nobody configured.
    return AppriseAsset(app_id="costspan", app_desc="costspan alerts", http_redirects=False)


def _type(message: Message) -> NotifyType:
    if message.state == "resolved":
        return NotifyType.SUCCESS
    return NotifyType.FAILURE if message.severity == "page" else NotifyType.WARNING
