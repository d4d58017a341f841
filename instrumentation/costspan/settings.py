"""What the environment says about capture: the `COSTSPAN_CAPTURE_*` variables."""

import difflib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

PREFIX = "COSTSPAN_CAPTURE_"

_log = logging.getLogger("costspan")


@dataclass(frozen=True, slots=True)
class Settings:
    """How to capture. A field is set by `COSTSPAN_CAPTURE_` and its name in capitals."""

    enabled: bool = True
    """Off also where `OTEL_SDK_DISABLED` is true."""
    http_spans: bool = True
    """A child span for each HTTP attempt."""
    stream_usage: Literal["auto", "always", "never"] = "auto"
    """Whether to ask a stream for its usage where the app did not; auto: on priced hosts."""
    user_hash: bool = True
    """Whether `attribute(user=...)` keeps a hash in place of the name."""
    priced_hosts: tuple[str, ...] = ("api.openai.com", "*.api.openai.com", "*.openai.azure.com")
    """Hosts that charge OpenAI's prices; a call to any other host has no cost."""

    estimates: bool = True
    """Whether tokens are counted where no usage was seen; needs `costspan[tokens]`."""
    content: bool = False
    """Whether a span holds what was asked and answered."""
    content_limit: int = 10_000
    """The most characters kept of what was asked, and as many of what was answered."""
    redact: Callable[[str], str] | None = None
    """What each kept text goes through first. Only `install` can set it."""

    def prices(self, host: str) -> bool:
        """Return whether `host` charges OpenAI's prices."""
        return any(fnmatchcase(host, pattern) for pattern in self.priced_hosts)


def from_environment(environment: Mapping[str, str]) -> Settings:
    """Return the settings in `environment`.

    A misspelt name or a value that cannot be read is reported in the log and otherwise ignored:
    a typing error must not stop the app.
    """
    found: dict[str, object] = {}
    for variable in sorted(environment):
        if not variable.startswith(PREFIX):
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name not in _READERS:
            _report_unknown(variable)
            continue
        try:
            found[name] = _READERS[name](environment[variable].strip())
        except ValueError as error:
            _log.warning("costspan: %s is ignored: %s", variable, error)
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        found["enabled"] = False
    return Settings(**found)  # pyright: ignore[reportArgumentType]  each reader returns its field's type


def hashes_users(environment: Mapping[str, str]) -> bool:
    """Return `Settings.user_hash` alone; it is asked for at every attribution."""
    return environment.get(f"{PREFIX}USER_HASH", "true").strip().lower() not in _FALSE


def _report_unknown(variable: str) -> None:
    known = [PREFIX + name.upper() for name in _READERS]
    near = difflib.get_close_matches(variable, known, n=1, cutoff=0)
    _log.warning("costspan: unknown variable %s is ignored; did you mean %s?", variable, near[0])


_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})
_MOST_DIGITS = 9


def _flag(text: str) -> bool:
    word = text.lower()
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    msg = f"{text!r} is neither true nor false"
    raise ValueError(msg)


def _characters(text: str) -> int:
    if not text.isdecimal() or len(text) > _MOST_DIGITS:
        msg = f"{text!r} is not a number of characters"
        raise ValueError(msg)
    return int(text)


def _when(text: str) -> str:
    if text.lower() not in {"auto", "always", "never"}:
        msg = f"{text!r} is none of auto, always, never"
        raise ValueError(msg)
    return text.lower()


def _hosts(text: str) -> tuple[str, ...]:
    return tuple(host.strip().lower() for host in text.split(",") if host.strip())


_READERS: Mapping[str, Callable[[str], object]] = {
    "enabled": _flag,
    "http_spans": _flag,
    "stream_usage": _when,
    "user_hash": _flag,
    "priced_hosts": _hosts,
    "estimates": _flag,
    "content": _flag,
    "content_limit": _characters,
}
