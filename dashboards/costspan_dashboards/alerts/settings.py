"""How alerts are raised and where they go."""

import re
from datetime import timedelta
from decimal import Decimal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from costspan_dashboards.alerts.rules import ErrorGates, LatencyGates, SpendGates


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

    success_objective: Decimal = Field(default=Decimal("0.98"), gt=0, lt=1)
    errors_min_count: int = Field(default=5, gt=0)
    errors_min_ratio: float = Field(default=2.0, gt=1)
    latency_min_calls: int = Field(default=30, gt=1)
    latency_min_ratio: float = Field(default=1.15, gt=1)
    spend_min_ratio: Decimal = Field(default=Decimal("1.8"), gt=1)
    spend_min_excess_usd_per_hour: Decimal = Field(default=Decimal(3), gt=0)
    spend_page_excess_usd_per_hour: Decimal = Field(default=Decimal(25), gt=0)

    notify_urls: SecretStr = SecretStr("")
    """Apprise URLs, apart by commas or spaces. The log is always told."""
    notify_timeout_seconds: float = Field(default=15, gt=0, le=60)
    notify_tries: int = Field(default=10, gt=0)
    """Of one message on one channel, one minute apart, then two, four, up to thirty."""
    dashboard_url: str = ""
    """Put before links in messages, such as https://costspan.example.org; links are relative
    without it."""

    @property
    def watermark(self) -> timedelta:
        """How long calls may take to arrive."""
        return timedelta(seconds=self.watermark_seconds)

    @property
    def error_gates(self) -> ErrorGates:
        """What a rise in failures must pass."""
        return ErrorGates(
            min_errors=self.errors_min_count,
            min_ratio=self.errors_min_ratio,
            success_objective=self.success_objective,
        )

    @property
    def latency_gates(self) -> LatencyGates:
        """What a slow-down must pass."""
        return LatencyGates(min_calls=self.latency_min_calls, min_ratio=self.latency_min_ratio)

    @property
    def spend_gates(self) -> SpendGates:
        """What a rise in spend must pass."""
        return SpendGates(
            min_ratio=self.spend_min_ratio,
            min_excess_usd_per_hour=self.spend_min_excess_usd_per_hour,
            page_excess_usd_per_hour=self.spend_page_excess_usd_per_hour,
        )

    def urls(self) -> list[str]:
        """Return the channels' URLs; a comma inside of one stays there."""
        text = self.notify_urls.get_secret_value().strip()
        return re.split(r"[\s,]+(?=[\w+-]+://)", text.rstrip(", ")) if text else []
