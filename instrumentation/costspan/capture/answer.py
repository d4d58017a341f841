"""What headers, bodies and errors tell, as span attributes.

All of it comes from outside, so each value is checked: text is cut and made encodable, counts
are whole and fit 64 bits. Messages are never kept; they may quote a prompt or a key.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, cast

from costspan import semconv
from costspan.counters import count
from costspan.errors import InvalidUsage
from costspan.usage import Usage, read_usage

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
            if (known := read(value.decode("latin-1"))) is not None:
                found[attribute] = known
    azure = found.pop(_AZURE_REQUEST_ID, None)
    if azure is not None:
        found.setdefault(semconv.REQUEST_ID, azure)
    return found


def from_error(error: BaseException) -> Attributes:
    """Return what an exception tells: its class, OpenAI's code, and what its answer's headers do.

    It may be any exception, of a transport of the app's own say, and mean other things by the
    same names.
    """
    found: Attributes = {semconv.ERROR_TYPE: type(error).__name__}
    try:
        put(found, semconv.ERROR_CODE, text(getattr(error, "code", None)))
        response = getattr(error, "response", None)
        headers = getattr(response, "headers", None)
        if hasattr(headers, "raw"):
            found |= from_headers(headers)
            put(found, semconv.HTTP_STATUS, getattr(error, "status_code", None))
        request = getattr(response, "request", None) or getattr(error, "request", None)
        if request is not None:
            sent = whole(request.headers.get("x-stainless-retry-count"))
            put(found, semconv.RETRIES, sent or None)
    except Exception as fault:  # noqa: BLE001
        count("error_unread", fault)
    return found


_NEVER_SENT = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout"})
_LOST = frozenset({"APITimeoutError", "APIConnectionError"})


def may_be_billed(error: BaseException) -> bool:
    """Return whether OpenAI may have worked on a call that raised before its answer arrived.

    An answer of 4xx or 5xx is not billed. A call that was cut off on this side (timeout, lost
    connection, cancellation, a time limit of the app's own) may be.
    """
    if type(error.__cause__).__name__ in _NEVER_SENT:
        return False
    if type(error).__name__ in _LOST or not isinstance(error, Exception):
        return True
    return not type(error).__module__.startswith("openai") and _raised_while_sending(error)


def _raised_while_sending(error: BaseException) -> bool:
    at = error.__traceback__
    while at is not None:
        if str(at.tb_frame.f_globals.get("__name__")).startswith("httpx"):
            return True
        at = at.tb_next
    return False


_ENDED = frozenset({"completed", "incomplete", "failed", "cancelled", "expired"})


class Answer:
    """What the body of an answer tells, or the events of one; the latest word counts."""

    seen = False
    usage: Usage | None = None
    reported: Mapping[str, Any] = MappingProxyType({})
    """The usage as it was reported; a count that is missing there is unknown, not 0."""
    invalid = False
    """Whether the reported usage cannot be true."""
    failure: str | None = None
    """Why the work failed, where it is a body that says so."""
    code: str | None = None
    _model: object = None
    _tier: object = None
    _fingerprint: object = None
    _id: object = None

    def __init__(self) -> None:
        self._finish_reasons: dict[int, str] = {}

    @property
    def named(self) -> bool:
        """Whether the model is known."""
        return self._model is not None

    def saw(self, body: Mapping[str, Any], request: Mapping[str, Any] | None = None) -> None:
        """Take in a body. `request` is for the few answers that leave to it what they are."""
        self.saw_head(body)
        self._read_usage(body, request)
        choices = body.get("choices")
        if isinstance(choices, list):
            self._read_choices(cast("list[object]", choices))
        elif body.get("object") in ("response", "thread.run"):
            self._read_status(body)

    def saw_head(self, body: Mapping[str, Any]) -> None:
        """Take in of a body who answered, and under which id."""
        self.seen = True
        told = body.get
        self._model = told("model") or self._model
        self._tier = told("service_tier") or self._tier
        self._fingerprint = told("system_fingerprint") or self._fingerprint
        if self._id is None:
            self._id = told("id")

    def attributes(self) -> Attributes:
        """Return all of it but the usage."""
        found: Attributes = {}
        for attribute, value in (
            (semconv.RESPONSE_MODEL, self._model),
            (semconv.RESPONSE_TIER, self._tier),
            (semconv.SYSTEM_FINGERPRINT, self._fingerprint),
            (semconv.RESPONSE_ID, self._id),
        ):
            if value is not None and (known := text(value)) is not None:
                found[attribute] = known
        if reasons := self._finish_reasons:
            found[semconv.FINISH_REASONS] = list(map(reasons.__getitem__, sorted(reasons)))
        if self.failure is not None:
            put(found, semconv.ERROR_CODE, self.code)
            found[semconv.ERROR_TYPE] = self.failure
        return found

    def _read_usage(self, body: Mapping[str, Any], request: Mapping[str, Any] | None) -> None:
        try:
            usage = read_usage(body, request)
        except InvalidUsage:
            self.invalid, self.usage = True, None
            return
        if usage is not None:
            self.invalid, self.usage = False, usage
            self.reported = mapping(body.get("usage")) or {}

    def _read_choices(self, choices: list[object]) -> None:
        for position, item in enumerate(choices):
            choice = mapping(item) or {}
            given = choice.get("finish_reason")
            if given is not None and (reason := text(given)):
                index = choice.get("index")
                self._finish_reasons[index if isinstance(index, int) else position] = reason

    def _read_status(self, body: Mapping[str, Any]) -> None:
        status = text(body.get("status"))
        incomplete = mapping(body.get("incomplete_details")) or {}
        if status in _ENDED:
            self._finish_reasons = {0: text(incomplete.get("reason")) or status}
        if status == "failed":
            told = mapping(body.get("error")) or mapping(body.get("last_error")) or {}
            self.code = text(told.get("code"))
            self.failure = self.code or "response_failed"
