"""An error as OpenAI words it."""

from typing import NoReturn, Self

from starlette.requests import Request
from starlette.responses import JSONResponse


class Refusal(Exception):
    """An answer of 4xx or 5xx."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}

    @classmethod
    def not_found(cls, path: str) -> Self:
        """Return the refusal of a path."""
        return cls(404, f"Invalid URL ({path})")

    @classmethod
    def missing_scope(cls) -> Self:
        """Return the refusal of a key that may not read the bill."""
        return cls(
            403,
            "You have insufficient permissions for this operation. Missing scopes: api.usage.read.",
            code="missing_scope",
        )

    @classmethod
    def wrong_key(cls, secret: str) -> Self:
        """Return the refusal of a key; like OpenAI's, it shows the ends of what was sent."""
        if not secret:
            return cls(401, "You didn't provide an API key.")
        shown = f"{secret[:3]}{'*' * 12}{secret[-4:]}"
        return cls(401, f"Incorrect API key provided: {shown}.", code="invalid_api_key")


def refuse(message: str, param: str | None = None) -> NoReturn:
    """Refuse a parameter.

    Raises:
        Refusal: always.
    """
    raise Refusal(400, message, code="invalid_value", param=param)


async def answer(_request: Request, error: Exception) -> JSONResponse:
    """Turn a refusal into its response."""
    if not isinstance(error, Refusal):
        raise error
    return JSONResponse(error.body, error.status, error.headers)
