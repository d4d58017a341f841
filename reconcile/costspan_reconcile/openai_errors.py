"""What OpenAI or the network refuse, as one line that says what to do.

Nothing of the SDK's own errors is kept: they carry the request's headers, and OpenAI's text may
repeat a part of the key.
"""

from collections.abc import Callable
from typing import TypeVar

import openai

from costspan.errors import CostspanError, Rejected, Unavailable
from costspan_reconcile.wire_json import Incomplete

Answer = TypeVar("Answer")


class BadRequest(Rejected):
    """HTTP 400: OpenAI does not take these parameters."""


def asked(endpoint: str, ask: Callable[[], Answer]) -> Answer:
    """Return what `ask` does.

    Raises:
        BadRequest: OpenAI does not take the parameters.
        Rejected: it refused for another reason, which stays until somebody acts.
        Unavailable: it did not answer, or asked to come back later.
        Incomplete: what it sent cannot be read.
    """
    try:
        return ask()
    except openai.APIError as error:
        failure = _plain(endpoint, error)
    raise failure  # here, so that the SDK's error is not its context


def _plain(endpoint: str, error: openai.APIError) -> CostspanError:
    if isinstance(error, openai.APIStatusError):
        return _refusal(endpoint, error.status_code)
    if isinstance(error, openai.APITimeoutError):
        return Unavailable(
            f"{endpoint}: {error.request.url.host} does not answer in time; the next run tries "
            "again, and COSTSPAN_RECONCILE_TIMEOUT_SECONDS gives it longer"
        )
    if isinstance(error, openai.APIConnectionError):
        return Unavailable(
            f"{endpoint}: {error.request.url.host} does not answer; the next run tries again, and "
            "if it lasts see whether this machine may reach it"
        )
    return Incomplete(f"{endpoint}: the answer cannot be read ({type(error).__name__})")


def _refusal(endpoint: str, status: int) -> CostspanError:
    if status in {408, 409, 429} or status >= 500:
        why = "is asked too often" if status == 429 else "has a fault of its own"
        return Unavailable(f"{endpoint}: OpenAI {why} (HTTP {status}); the next run tries again")
    if status == 400:
        return BadRequest(
            f"{endpoint}: OpenAI does not take these parameters (HTTP 400); a newer costspan may "
            "know what it takes"
        )
    return Rejected(f"{endpoint}: {_TO_DO.get(status, f'OpenAI answered HTTP {status}')}")


_TO_DO = {
    401: (
        "OpenAI does not accept the admin key (HTTP 401); put an organization admin key in "
        "OPENAI_ADMIN_KEY, a project key does not do"
    ),
    403: (
        "the admin key may not read this (HTTP 403); give it read permission for usage "
        "(api.usage.read) and projects"
    ),
    404: (
        "there is nothing at this address (HTTP 404); see that COSTSPAN_RECONCILE_BASE_URL is "
        "OpenAI's own and ends in /v1"
    ),
}
