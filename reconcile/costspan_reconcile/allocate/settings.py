"""Where the rules of the allocation are."""

from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict

from costspan_reconcile.allocate.policy import NO_RULES, Policy, load_policy


class Allocation(BaseSettings):
    """How billed dollars that no call accounts for are shared."""

    model_config = SettingsConfigDict(env_prefix="COSTSPAN_ALLOCATION_", frozen=True)

    policy: Path | None = None
    """A TOML file of rules, see `costspan_reconcile.allocate.policy`; if unset, nobody gets them."""

    def read(self) -> Policy:
        """Return the rules.

        Raises:
            Rejected: the file is wrong; the message says where and what.
        """
        return load_policy(self.policy) if self.policy else NO_RULES
