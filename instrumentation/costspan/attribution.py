"""Who a call was for: team, feature, user, customer, prompt.

The values travel in OpenTelemetry baggage, so they cross threads, tasks and services that
propagate it. They are taken out of the context while a call to OpenAI is made, so they are
never sent there.
"""

import hashlib
import inspect
import os
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from functools import wraps
from types import TracebackType
from typing import Any, TypeVar, cast

from opentelemetry import baggage, context
from opentelemetry.context import Context

from costspan import semconv
from costspan.counters import count
from costspan.settings import hashes_users

MOST_CHARACTERS = 256

_Function = TypeVar("_Function", bound=Callable[..., Any])


def attribute(
    *,
    team: str | None = None,
    feature: str | None = None,
    user: str | None = None,
    customer: str | None = None,
    prompt: str | None = None,
) -> "Attribution":
    """Say who the calls inside are for, as a `with` block or a decorator.

    An inner value replaces the outer one; None leaves it. Values are cut at 256 characters. The
    user is hashed (first 16 hex digits of SHA-256) unless `COSTSPAN_CAPTURE_USER_HASH=false`.
    `prompt` is the name of a prompt or of its version, never its text.
    """
    if user and hashes_users(os.environ):
        user = hashlib.sha256(str(user).encode(errors="replace")).hexdigest()[:16]
    given = (team, feature, user, customer, prompt)
    return Attribution(
        {
            name: str(value)[:MOST_CHARACTERS]
            for name, value in zip(semconv.ATTRIBUTION, given, strict=True)
            if value
        }
    )


class Attribution:
    """What `attribute` returns: a context manager that is also a decorator.

    One may be used many times, also by several threads and tasks at once.
    """

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def __enter__(self) -> None:
        _entered.set((*_entered.get(), (self, context.attach(self._context()))))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        entered = _entered.get()
        if not entered or entered[-1][0] is not self:  # left in another task than entered in
            count("attribution_left_elsewhere")
            return
        _entered.set(entered[:-1])
        context.detach(entered[-1][1])

    def __call__(self, function: _Function) -> _Function:
        """Return `function` with its calls attributed; coroutine functions stay such.

        Of a generator function only the call is, not what its caller runs it for: put a block
        around that.
        """
        if inspect.iscoroutinefunction(function):

            @wraps(function)
            async def attributed_async(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
                with self._scope():
                    return await function(*args, **kwargs)

            return cast("_Function", attributed_async)

        @wraps(function)
        def attributed(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            with self._scope():
                return function(*args, **kwargs)

        return cast("_Function", attributed)

    def _context(self) -> Context:
        inside = context.get_current()
        for name, value in self._values.items():
            inside = baggage.set_baggage(name, value, inside)
        return inside

    @contextmanager
    def _scope(self) -> Generator[None]:
        """One use of a decorator: calls overlap, so each keeps its own token."""
        token = context.attach(self._context())
        try:
            yield
        finally:
            context.detach(token)


_entered: ContextVar[tuple[tuple[Attribution, Token[Context]], ...]] = ContextVar(
    "costspan_attributions", default=()
)
"""The blocks this task or thread is in, outermost first."""


def taken_out(inside: Context) -> tuple[dict[str, str], Context]:
    """Return the attribution in a context, and the context without it."""
    found: dict[str, str] = {}
    carried = baggage.get_all(inside)
    if not carried:
        return found, inside
    for name in semconv.ATTRIBUTION:
        if name in carried:
            found[name] = str(carried[name])[:MOST_CHARACTERS]
            inside = baggage.remove_baggage(name, inside)
    return found, inside
