"""One HTTP request to a place that the configuration names, and how it ended, without its address.

An address may hold a secret: it is in no message, and redirects are not followed to others.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import httpx2

# They write whole addresses at lower levels.
for _name in ("httpx2", "httpcore2"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a try ended."""

    delivered: bool
    detail: str


def send(
    method: str,
    url: str,
    timeout_seconds: float,
    *,
    content: bytes = b"",
    headers: Mapping[str, str] | None = None,
) -> Outcome:
    """Make a request; an answer of 2xx in time is a success."""
    try:
        answer = httpx2.request(
            method, url, content=content, headers=dict(headers or {}), timeout=timeout_seconds
        )
    except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError) as error:
        return Outcome(delivered=False, detail=type(error).__name__)
    ok = answer.is_success
    return Outcome(delivered=ok, detail="" if ok else f"answered {answer.status_code}")
