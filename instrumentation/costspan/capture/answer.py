"""What headers, bodies and errors tell, as span attributes.

All of it comes from outside, so each value is checked: text is cut and made encodable, counts
are whole and fit 64 bits. Messages are never kept; they may quote a prompt or a key.
"""

from collections.abc import Callable, Mapping
from typing import Any, cast

from costspan import semconv
from costspan.usage import Usage

Attributes = dict[str, str | int | float | bool | list[str]]

MOST_CHARACTERS = 256
_MOST_INT64 = 2**63 - 1


def text(value: object) -> str | None:
    """Return text that any exporter can encode, None for anything else."""
    if not isinstance(value, str) or not value:
        return None
    if value.isascii():
        return value if len(value) <= MOST_CHARACTERS else value[:MOST_CHARACTERS]
    return value[:MOST_CHARACTERS].encode(errors="replace").decode()


def whole(value: object) -> int | None:
    """Return a header's whole number, None for anything else."""
    if not isinstance(value, str) or not value.isdecimal() or len(value) > 19:
        return None
    number = int(value)
    return number if number <= _MOST_INT64 else None


def mapping(value: object) -> Mapping[str, Any] | None:
    """Return `value` if it is a JSON object."""
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else None


def put(attributes: Attributes, name: str, value: str | float | None) -> None:
    """Set an attribute unless its value is unknown."""
    if value is not None:
        attributes[name] = value


_AZURE_REQUEST_ID = "apim-request-id"
_HEADERS: Mapping[bytes, tuple[str, Callable[[str], str | int | None]]] = {
    b"x-request-id": (semconv.REQUEST_ID, text),
    b"apim-request-id": (_AZURE_REQUEST_ID, text),
    b"openai-organization": (semconv.ORGANIZATION, text),
    b"openai-project": (semconv.PROJECT, text),
    b"x-ratelimit-limit-requests": (semconv.RATE_LIMIT_REQUESTS, whole),
    b"x-ratelimit-limit-tokens": (semconv.RATE_LIMIT_TOKENS, whole),
    b"x-ratelimit-remaining-requests": (semconv.RATE_LIMIT_REMAINING_REQUESTS, whole),
    b"x-ratelimit-remaining-tokens": (semconv.RATE_LIMIT_REMAINING_TOKENS, whole),
}


def from_headers(headers: Any) -> Attributes:  # noqa: ANN401
    """Return what the headers of an answer tell, in one pass over them."""
    found: Attributes = {}
    for name, value in headers.raw:
        wanted = _HEADERS.get(name.lower())
        if wanted is not None:
            attribute, read = wanted
            put(found, attribute, read(value.decode("latin-1")))
    azure = found.pop(_AZURE_REQUEST_ID, None)
    if azure is not None:
        found.setdefault(semconv.REQUEST_ID, azure)
    return found


def from_error(error: BaseException) -> Attributes:
    """Return what an exception tells: its class, OpenAI's code, and what its answer's headers do."""
    found: Attributes = {}
    response = getattr(error, "response", None)
    if response is not None:
        found |= from_headers(response.headers)
        put(found, semconv.HTTP_STATUS, getattr(error, "status_code", None))
    request = getattr(response, "request", None) or getattr(error, "request", None)
    if request is not None:
        put(found, semconv.RETRIES, whole(request.headers.get("x-stainless-retry-count")))
    put(found, semconv.ERROR_CODE, text(getattr(error, "code", None)))
    found[semconv.ERROR_TYPE] = type(error).__name__
    return found


_NEVER_SENT = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout"})
_LOST = frozenset({"APITimeoutError", "APIConnectionError"})


def may_be_billed(error: BaseException) -> bool:
    """Return whether OpenAI may have worked on a call that raised before its answer arrived.

    An answer of 4xx or 5xx is not billed. A call that was cut off on this side (timeout, lost
    connection, cancellation) may be.
    """
    if type(error.__cause__).__name__ in _NEVER_SENT:
        return False
    return type(error).__name__ in _LOST or not isinstance(error, Exception)


def from_usage(usage: Usage, reported: Mapping[str, Any]) -> Attributes:
    """Return the token counts; one that was not reported is absent, not 0."""
    told = {name for name, value in reported.items() if value is not None}
    for details in reported.values():
        told |= {name for name, value in (mapping(details) or {}).items() if value is not None}
    found: Attributes = {semconv.INPUT_TOKENS: usage.input_tokens}
    for name, count, is_told in (
        (
            semconv.OUTPUT_TOKENS,
            usage.output_tokens,
            not told.isdisjoint({"output_tokens", "completion_tokens"}),
        ),
        (semconv.CACHED_TOKENS, usage.cached_tokens, "cached_tokens" in told),
        (semconv.CACHE_WRITE_TOKENS, usage.cache_write_tokens, "cache_write_tokens" in told),
        (semconv.REASONING_TOKENS, usage.reasoning_tokens, "reasoning_tokens" in told),
        (semconv.AUDIO_INPUT_TOKENS, usage.audio_input_tokens, False),
        (semconv.AUDIO_OUTPUT_TOKENS, usage.audio_output_tokens, False),
    ):
        if is_told or count:
            found[name] = count
    return found
