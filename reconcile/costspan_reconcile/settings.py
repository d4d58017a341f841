"""What the reconciliation reads from the environment."""

from pydantic import AliasChoices, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from costspan.errors import Rejected

MISSING_ADMIN_KEY = (
    "no admin key, so nothing is reconciled: set OPENAI_ADMIN_KEY (or "
    "COSTSPAN_RECONCILE_ADMIN_KEY) to an organization admin key with read-only permission"
)


class Reconcile(BaseSettings):
    """Where the bill is read, how often, and how far back."""

    model_config = SettingsConfigDict(
        env_prefix="COSTSPAN_RECONCILE_", frozen=True, validate_by_name=True
    )

    admin_key: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("COSTSPAN_RECONCILE_ADMIN_KEY", "OPENAI_ADMIN_KEY"),
    )
    """OpenAI's own variable works; ours wins."""
    base_url: str = Field(default="https://api.openai.com/v1", pattern=r"^https?://[^/]")
    """Not taken from OPENAI_BASE_URL: a proxy for calls must not be handed the admin key."""
    lookback_days: int = Field(default=35, ge=1, le=400)
    """Read at the first run of a process."""
    interval_seconds: float = Field(default=3600, gt=0)
    """Between readings of today and yesterday."""
    recheck_seconds: float = Field(default=86_400, gt=0)
    """Between readings of the last `recheck_days`, for late changes."""
    recheck_days: int = Field(default=35, ge=1, le=400)
    timeout_seconds: float = Field(default=60, gt=0)
    """Of one request."""

    def key(self) -> str:
        """Return the admin key.

        Raises:
            Rejected: none is set; the message says what to set.
        """
        key = self.admin_key.get_secret_value().strip() if self.admin_key else ""
        if not key:
            raise Rejected(MISSING_ADMIN_KEY)
        if not key.isascii() or not key.isprintable() or " " in key:
            msg = "the admin key has characters that no key has; copy it again"
            raise Rejected(msg)
        return key
