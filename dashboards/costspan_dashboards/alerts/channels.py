"""Where messages go: the log always, and whatever apprise can reach.

A channel's URL is a secret: it is never logged, stored or shown. What names a channel is the
service and its place in the setting.
"""

import logging
from collections.abc import Sequence
from typing import Protocol
from urllib.parse import quote, urlsplit

import apprise
from apprise import Apprise, AppriseAsset, AppriseResultStatus, NotifyFormat, NotifyType

from costspan.errors import Rejected
from costspan_dashboards.alerts.message import Message
from costspan_dashboards.alerts.settings import Alerts
from costspan_dashboards.alerts.webhook import WebhookChannel
from costspan_dashboards.alerts.wire import Outcome

_log = logging.getLogger("costspan.alerts")
_HEADER_SCHEMES = {"json", "jsons", "xml", "xmls", "form", "forms"}
_PAGER_SCHEMES = {"pagerduty"}

# Apprise and urllib3 write full URLs at lower levels, with the tokens in their paths.
for _name in ("apprise", "urllib3"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)


class Channel(Protocol):
    """Somewhere people are told."""

    @property
    def name(self) -> str:
        """What it is called on pages and in the store."""
        ...

    @property
    def keyed(self) -> bool:
        """Whether the receiver knows a message that comes a second time by its key."""
        ...

    def send(self, message: Message) -> Outcome:
        """Try once, in bounded time."""
        ...


class LogChannel:
    """The server's own log."""

    name = "log"
    keyed = True  # every line has the message's id

    def send(self, message: Message) -> Outcome:
        """Write one line."""
        _log.warning("%s | %s", message.title, message.body.replace("\n", " | "))
        return Outcome(delivered=True, detail="")


class AppriseChannel:
    """One apprise URL."""

    def __init__(self, url: str, position: int, timeout_seconds: float) -> None:
        # A service that takes fewer characters would refuse the whole message.
        own = "" if "overflow=" in url else f"{'&' if '?' in url else '?'}overflow=truncate"
        self._url = url + own
        self._timeout_seconds = timeout_seconds
        service = _opened(url)
        if service is None:
            msg = (
                f"URL number {position} in COSTSPAN_ALERTS_NOTIFY_URLS is not one apprise "
                "understands; its form is service://..., see the apprise documentation"
            )
            raise Rejected(msg)
        self.name = f"{service.service_name} #{position}"
        self._scheme = url.partition("://")[0].lower()
        self.keyed = self._scheme in _HEADER_SCHEMES | _PAGER_SCHEMES

    def send(self, message: Message) -> Outcome:
        """Send once; the channel's answer decides, and no answer in time is a failure."""
        service = Apprise(asset=_asset())
        if not service.add(self._with_key(message)):
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

    def _with_key(self, message: Message) -> str:
        if self._scheme in _HEADER_SCHEMES:
            key = f"+Idempotency-Key={quote(message.message_id)}"
        elif self._scheme in _PAGER_SCHEMES:
            over = message.state in {"resolved", "closed"}
            key = f"dedup={message.incident}&action={'resolve' if over else 'trigger'}"
        else:
            return self._url
        return f"{self._url}&{key}"


def open_channels(settings: Alerts) -> list[Channel]:
    """Return every channel there is.

    Raises:
        Rejected: a URL is not understood; the message names its place, never the URL.
    """
    channels: list[Channel] = [LogChannel()]
    for position, url in enumerate(settings.urls(), start=1):
        channels.append(AppriseChannel(url, position, settings.notify_timeout_seconds))
    if url := settings.webhook_url.get_secret_value():
        secret = settings.webhook_secret.get_secret_value()
        channels.append(WebhookChannel(url, secret, settings.notify_timeout_seconds))
    for name in ("webhook_url", "alertmanager_url", "heartbeat_url"):
        _check(name, getattr(settings, name).get_secret_value())
    return channels


def names(channels: Sequence[Channel]) -> list[str]:
    """Return what the channels are called."""
    return [channel.name for channel in channels]


def _check(name: str, url: str) -> None:
    parts = urlsplit(url)
    if url and (parts.scheme not in {"http", "https"} or not parts.hostname):
        msg = f"COSTSPAN_ALERTS_{name.upper()} is no address: it begins with https:// and a host"
        raise Rejected(msg)


def _opened(url: str) -> apprise.NotifyBase | None:
    opened = Apprise.instantiate(url, asset=_asset(), suppress_exceptions=True)
    return opened if isinstance(opened, apprise.NotifyBase) else None


def _asset() -> AppriseAsset:
    # A redirect would carry the message and its headers to a host nobody configured.
    return AppriseAsset(app_id="costspan", app_desc="costspan alerts", http_redirects=False)


def _type(message: Message) -> NotifyType:
    if message.state in {"resolved", "closed"}:
        return NotifyType.SUCCESS
    return NotifyType.FAILURE if message.severity == "page" else NotifyType.WARNING
