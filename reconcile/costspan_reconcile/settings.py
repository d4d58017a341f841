"""What the reconciliation reads from the environment."""

from pathlib import Path

from pydantic import AliasChoices, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from costspan.errors import Rejected

MISSING_ADMIN_KEY = (
    "no admin key, so nothing is reconciled: set OPENAI_ADMIN_KEY (or "
    "COSTSPAN_RECONCILE_ADMIN_KEY, or COSTSPAN_RECONCILE_ADMIN_KEY_FILE to a file that holds it) "
    "to an organization admin key with read-only permission"
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
    admin_key_file: Path | None = None
    """A file that holds the admin key and nothing else, as secret stores mount it. It wins over
    both variables, and is read at each run, so that the key may be changed under a running server."""
    organization: str = ""
    """The id of the organization whose bill this is, `org-…`. If unset, the one that the bill first
    named; a bill of another one is blocked."""
    base_url: str = Field(default="https://api.openai.com/v1", pattern=r"^https?://[^/]")
    """Not taken from OPENAI_BASE_URL: a proxy for calls must not be handed the admin key."""
    interval_seconds: float = Field(default=3600, gt=0)
    """Between readings of today and yesterday."""
    lookback_days: int = Field(default=35, ge=1, le=400)
    """Read once a week, for late changes; the last seven of them daily."""
    backfill_months: int = Field(default=13, ge=1, le=60)
    """How far back the bill is read at the first start, this month included: to the first span, and
    no further than this."""
    timeout_seconds: float = Field(default=60, gt=0)
    """Of one request."""

    def key(self) -> str:
        """Return the admin key.

        Raises:
            Rejected: none is set; the message says what to set.
        """
        key = self._stated().strip()
        if not key:
            raise Rejected(MISSING_ADMIN_KEY)
        if not key.isascii() or not key.isprintable() or " " in key:
            msg = "the admin key has characters that no key has; copy it again"
            raise Rejected(msg)
        return key

    def _stated(self) -> str:
        if self.admin_key_file is None:
            return self.admin_key.get_secret_value() if self.admin_key else ""
        try:
            return self.admin_key_file.read_text(encoding="ascii", errors="replace")
        except OSError as error:
            msg = f"COSTSPAN_RECONCILE_ADMIN_KEY_FILE: cannot read it ({error.strerror})"
            raise Rejected(msg) from error
