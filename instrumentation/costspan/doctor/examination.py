"""What the doctor finds."""

import logging
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from urllib.parse import urlsplit


@dataclass
class Examination:
    """What was found. Each finding is one line that says what to do."""

    versions: dict[str, str | None] = field(default_factory=dict[str, str | None])
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    other_instrumentations: list[str] = field(default_factory=list[str])
    destination: dict[str, Any] = field(default_factory=dict[str, Any])
    call: dict[str, Any] | None = None
    price: dict[str, Any] | None = None
    counters: dict[str, int] = field(default_factory=dict[str, int])
    findings: list[str] = field(default_factory=list[str])


class _Ear(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(record.getMessage().removeprefix("costspan: "))


@contextmanager
def heard(lines: list[str]) -> Generator[None]:
    """Take what costspan logs for a finding, in place of the log."""
    log, ear = logging.getLogger("costspan"), _Ear(lines)
    propagated, log.propagate = log.propagate, False
    log.addHandler(ear)
    try:
        yield
    finally:
        log.removeHandler(ear)
        log.propagate = propagated


def installed(name: str) -> str | None:
    """Return the version of an installed package."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def without_password(url: str) -> str:
    """Return a URL without what may be secret in it."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()
