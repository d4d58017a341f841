"""What the collector reads from the environment, and a check for misspelt names."""

import os
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from getpass import getuser
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from costspan.errors import Rejected
from costspan.pricing import Book, default_book
from costspan.pricing.overrides import load_overrides
from costspan_collector.store.retention import Keep

Group = TypeVar("Group", bound=BaseSettings)

CAPTURE_PREFIX = "COSTSPAN_CAPTURE_"
"""Belongs to the app-side package, which checks its own names."""


class ClickHouse(BaseSettings):
    """Where the rows are."""

    model_config = SettingsConfigDict(env_prefix="COSTSPAN_CLICKHOUSE_", frozen=True)

    url: str = "chdb://./costspan-data"
    """`chdb:///directory` for the embedded engine, `https://user:password@host:8443/db` for a server."""


class Receiver(BaseSettings):
    """How spans come in."""

    model_config = SettingsConfigDict(env_prefix="COSTSPAN_RECEIVER_", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=4318, ge=0, le=65535)
    """OTLP/HTTP's own port, so that an app needs no setting; 0 takes a free one."""
    max_body_bytes: int = Field(default=16 * 2**20, gt=0)
    """Of one request, counted after decompression too."""
    max_request_spans: int = Field(default=50_000, gt=0)
    """Of one request: a span may be two bytes on the wire, and costs far more to read."""
    queue_spans: int = Field(default=50_000, gt=0)
    """Spans that may wait for the disk before senders are asked to come back later."""
    queue_bytes: int = Field(default=2**26, gt=0)
    """Their bytes, unpacked: one span may be as large as a request."""
    spool: Path | None = None
    """Where acknowledged spans wait for the store. If unset, `spool` in the directory of the embedded
    engine, or `./costspan-spool` before a server."""
    spool_bytes: int = Field(default=2**30, gt=0)
    """What may wait there before senders are asked to come back later."""
    segment_bytes: int = Field(default=64 * 2**20, gt=0)
    """Of one insert, about."""
    segment_seconds: float = Field(default=1, gt=0)
    """How long a span that was acknowledged may wait for others before it is inserted."""
    min_free_bytes: int = Field(default=2**29, ge=0)
    """Left free on the disk; more than the 256 MiB that the engine itself insists on."""
    tokens: SecretStr = SecretStr("")
    """Any of these, separated by commas, is asked of senders: `Authorization: Bearer TOKEN`."""
    grpc_port: int | None = Field(default=None, ge=0, le=65535)
    """OTLP/gRPC's own is 4317; not served if unset."""


class Upkeep(BaseSettings):
    """How the rows are looked after, and who may read them from outside."""

    model_config = SettingsConfigDict(env_prefix="COSTSPAN_STORE_", frozen=True)

    rollup_seconds: float = Field(default=60, gt=0)
    """How often the rollups are brought up to date. What is read is right in between, too."""
    keep_identities_days: int | None = Field(default=None, ge=1)
    """Users, customers, ids of requests and responses, HTTP attempts; for good if unset."""
    keep_calls_days: int | None = Field(default=None, ge=1)
    keep_rollups_days: int | None = Field(default=None, ge=1)
    door_token: SecretStr = SecretStr("")
    """The password of the read-only ClickHouse interface; not served if unset."""
    door_host: str = "127.0.0.1"
    door_port: int = Field(default=8123, ge=0, le=65535)

    def keep(self) -> Keep:
        """Return how long rows are kept.

        Raises:
            Rejected: calls would be kept longer than their sums.
        """
        if self.keep_rollups_days is not None and (
            self.keep_calls_days is None or self.keep_calls_days > self.keep_rollups_days
        ):
            msg = (
                "COSTSPAN_STORE_KEEP_ROLLUPS_DAYS is less than COSTSPAN_STORE_KEEP_CALLS_DAYS: "
                "sums must be kept as long as the calls, or longer"
            )
            raise Rejected(msg)
        return Keep(self.keep_identities_days, self.keep_calls_days, self.keep_rollups_days)


class Pricing(BaseSettings):
    """What calls cost here."""

    model_config = SettingsConfigDict(env_prefix="COSTSPAN_PRICING_", frozen=True)

    overrides: Path | None = None
    """Negotiated prices, a TOML file; the apps that call know list prices only."""

    def book(self) -> Book:
        """Return the price book, with what was negotiated.

        Raises:
            Rejected: the file of overrides is wrong; the message says where and what.
        """
        book = default_book()
        return book.contracted(load_overrides(self.overrides)) if self.overrides else book


class Audit(BaseSettings):
    """Who changes numbers that are kept."""

    model_config = SettingsConfigDict(env_prefix="COSTSPAN_", frozen=True)

    actor: str = ""

    def name(self) -> str:
        """Return the actor: the user of this machine where none is set."""
        if self.actor:
            return self.actor
        try:
            return getuser()
        except (KeyError, OSError):  # a container's user may have no name
            return f"uid {os.getuid()}"


def read_settings(group: type[Group], **given: Any) -> Group:  # noqa: ANN401 - each field has its own
    """Return one group of settings: what is `given`, else the environment, else the defaults.

    Raises:
        Rejected: a value cannot be used; the message names the variable and not the value.
    """
    try:
        return group(**given)
    except ValidationError as error:
        prefix = str(group.model_config.get("env_prefix", ""))
        wrong = (
            f"{prefix}{fault['loc'][0]}".upper() + f": {fault['msg']}" for fault in error.errors()
        )
        raise Rejected("; ".join(wrong)) from error


def unknown_variables(
    environ: Mapping[str, str], groups: Iterable[type[BaseSettings]]
) -> list[str]:
    """Return a line for each `COSTSPAN_` variable that no group reads: nearly always a typo."""
    known = {
        f"{group.model_config.get('env_prefix', '')}{field}".upper()
        for group in groups
        for field in group.model_fields
    }
    lines: list[str] = []
    for name in sorted(environ):
        if not name.startswith("COSTSPAN_") or name.startswith(CAPTURE_PREFIX) or name in known:
            continue
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(known))}"
        lines.append(f"{name} is set, but this command does not read it; {hint}")
    return lines
