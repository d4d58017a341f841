"""What people do from a terminal: silence, end a silence, acknowledge, close.

One process has the embedded engine. Where that is `costspan serve`, a command hands what it was
asked to the server, at a socket in the store's directory that only the server's user can open.
"""

import logging
import socket
import stat
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx2
from pydantic import TypeAdapter, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from costspan.errors import CostspanError, Rejected, Unavailable
from costspan_collector.listening import running
from costspan_collector.store import Store
from costspan_dashboards.alerts.incidents import members
from costspan_dashboards.alerts.queries import live_alerts
from costspan_dashboards.alerts.silences import (
    act_on,
    end_silence,
    matchers,
    silence,
    silences,
)

_EMBEDDED = "chdb://"
_SOCKET = "commands.sock"
_TIMEOUT_SECONDS = 30.0
_SERVER_ERROR = 500

_log = logging.getLogger("costspan.alerts")


@dataclass(frozen=True, slots=True)
class ToSilence:
    """Tell nobody of alerts with all these values (`name=value`) for a while."""

    matchers: tuple[str, ...]
    seconds: float
    author: str
    comment: str


@dataclass(frozen=True, slots=True)
class ToEnd:
    """End a silence."""

    silence_id: str


@dataclass(frozen=True, slots=True)
class ToAct:
    """Acknowledge an alert and all of its incident, or close them."""

    alert_id: str
    close: bool
    author: str
    comment: str


Asked = ToSilence | ToEnd | ToAct


@dataclass(frozen=True, slots=True)
class Done:
    """The silence, or the alerts, that it was done to."""

    ids: tuple[str, ...]
    ends_at: datetime | None = None


_ASKED: TypeAdapter[Asked] = TypeAdapter(Asked)
_DONE = TypeAdapter(Done)


def do(store: Store, asked: Asked, now: datetime) -> Done:
    """Do what a person asks for; the next evaluation takes it up.

    Raises:
        Rejected: it cannot be done; the message says why.
        Unavailable: the store did not answer.
    """
    if isinstance(asked, ToSilence):
        about, ends_at = matchers(asked.matchers), now + timedelta(seconds=asked.seconds)
        made = silence(store, about, asked.author, asked.comment, ends_at, now)
        return Done((made.silence_id,), made.ends_at)
    if isinstance(asked, ToEnd):
        going_on = {one.silence_id: one for one in silences(store, now)}
        if asked.silence_id not in going_on:
            msg = (
                f"no silence {asked.silence_id} goes on; known are {', '.join(going_on) or 'none'}"
            )
            raise Rejected(msg)
        end_silence(store, going_on[asked.silence_id], now)
        return Done((asked.silence_id,), now)
    alerts = {one.alert_id: one for one in live_alerts(store)}
    if asked.alert_id not in alerts:
        msg = f"no alert {asked.alert_id} goes on; known are {', '.join(alerts) or 'none'}"
        raise Rejected(msg)
    alert = alerts[asked.alert_id]
    incident = [alert, *(members(alert, alerts.values()) if alert.incident else ())]
    kind = "close" if asked.close else "acknowledge"
    act_on(store, incident, kind, asked.author, asked.comment, now)
    return Done(tuple(one.alert_id for one in incident))


@contextmanager
def open_desk(store: Store) -> Generator[None]:
    """Do what commands hand over, until the block ends; a ClickHouse server needs no such thing."""
    if not store.url.startswith(_EMBEDDED):
        yield
        return
    path = Path(store.url.removeprefix(_EMBEDDED)) / _SOCKET
    app = Starlette(routes=[Route("/", partial(_answer, store), methods=["POST"])])
    with socket.socket(socket.AF_UNIX) as listener:
        try:
            path.unlink(missing_ok=True)  # of a server that was killed
            listener.bind(str(path))
        except OSError as error:  # such as a path that is too long for one
            _log.warning("no socket at %s (%s): silence and acknowledge on the page", path, error)
            yield
            return
        try:
            path.chmod(stat.S_IRUSR | stat.S_IWUSR)  # before it listens nobody gets in
            listener.listen()
            with running(app, listener):
                yield
        finally:
            path.unlink(missing_ok=True)


def hand_over(url: str, asked: Asked) -> Done | None:
    """Let the server that has a store do it; None where none is there to ask.

    Raises:
        Rejected, Unavailable: as it says.
    """
    parts = urlsplit(url)  # of the directory, as `connect` reads it
    path = Path(unquote(parts.netloc + parts.path)) / _SOCKET
    if parts.scheme != "chdb" or not path.is_socket():
        return None
    try:
        with httpx2.Client(transport=httpx2.HTTPTransport(uds=str(path))) as client:
            answer = client.post(
                "http://costspan/", content=_ASKED.dump_json(asked), timeout=_TIMEOUT_SECONDS
            )
    except httpx2.ConnectError:
        return None
    except httpx2.HTTPError as error:
        msg = f"the `costspan serve` that has {url} did not answer: {error}; see if it was done"
        raise Unavailable(msg) from error
    if answer.is_success:
        return _DONE.validate_json(answer.content)
    raise (Rejected if answer.status_code < _SERVER_ERROR else Unavailable)(answer.text)


async def _answer(store: Store, request: Request) -> Response:
    try:
        asked = _ASKED.validate_json(await request.body())
    except ValidationError:  # from a command of another release
        msg = "this `costspan serve` does not know what was asked; restart it after an upgrade"
        return PlainTextResponse(msg, 400)
    try:
        done = await run_in_threadpool(do, store, asked, datetime.now(UTC))
    except CostspanError as error:
        status = 400 if isinstance(error, Rejected) else 503
        return PlainTextResponse(str(error), status)
    return Response(_DONE.dump_json(done), media_type="application/json")
