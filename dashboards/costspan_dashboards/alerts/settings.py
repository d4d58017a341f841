"""How alerts are raised and where they go."""

import re
from datetime import timedelta
from functools import cached_property
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from costspan_dashboards.alerts.finding import Severity
from costspan_dashboards.alerts.limits import Limits
from costspan_dashboards.alerts.limits_file import read_limits
from costspan_dashboards.alerts.state import Timing


class Alerts(BaseSettings):
    """Variables `COSTSPAN_ALERTS_<NAME>`. The defaults need no set-up."""

    model_config = SettingsConfigDict(env_prefix="COSTSPAN_ALERTS_", frozen=True)

    interval_seconds: int = Field(default=60, gt=0)
    watermark_seconds: int = Field(default=90, ge=0)
    """Calls that began before now minus this are taken to have arrived."""
    for_seconds: int = Field(default=60, ge=0)
    """How long a breach must last before anyone is told."""
    keep_firing_for_seconds: int = Field(default=300, ge=0)
    """How long all must be well before an alert is resolved."""
    stale_after_seconds: int = Field(default=900, gt=0)
    """Without any call for that long nothing can be said to be well."""

    renotify_hours: float = Field(default=4, gt=0)
    """A page that nobody acknowledged is told again after that."""

    file: Path | None = None
    """A TOML file that changes from where on something is an alert; see `limits.py`."""

    notify_urls: SecretStr = SecretStr("")
    """Apprise URLs, apart by commas or spaces. The log is always told."""
    notify_timeout_seconds: float = Field(default=15, gt=0, le=60)
    notify_from: Severity = "ticket"
    """The mildest that goes anywhere but to the log."""
    webhook_url: SecretStr = SecretStr("")
    """Is sent each message as JSON, signed with `webhook_secret`."""
    webhook_secret: SecretStr = SecretStr("")
    alertmanager_url: SecretStr = SecretStr("")
    """Is sent the alerts that go on after each evaluation, such as https://alertmanager:9093."""
    heartbeat_url: SecretStr = SecretStr("")
    """Is asked for after each evaluation that worked; whoever answers there misses it else."""
    show_addresses: bool = False
    """Whether messages show users that are called by an e-mail address as that."""
    dashboard_url: str = ""
    """Put before links in messages, such as https://costspan.example.org; links are relative
    without it."""

    @property
    def watermark(self) -> timedelta:
        """How long calls may take to arrive."""
        return timedelta(seconds=self.watermark_seconds)

    @property
    def timing(self) -> Timing:
        """How long a breach must last, and how long it must be gone."""
        return Timing(
            pending_for=timedelta(seconds=self.for_seconds),
            keep_firing_for=timedelta(seconds=self.keep_firing_for_seconds),
            stale_after=timedelta(seconds=self.stale_after_seconds),
            renotify_after=timedelta(hours=self.renotify_hours),
        )

    @cached_property
    def limits(self) -> Limits:
        """From where on something is an alert.

        Raises:
            Rejected: the file is not as it should be; the message says where and why.
        """
        return read_limits(self.file) if self.file else Limits()

    def urls(self) -> list[str]:
        """Return the channels' URLs; a comma inside of one stays there."""
        text = self.notify_urls.get_secret_value().strip()
        return re.split(r"[\s,]+(?=[\w+-]+://)", text.rstrip(", ")) if text else []
