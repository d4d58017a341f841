"""See the calls an app makes over a WebSocket: Realtime, Live, and Responses.

They bypass the SDK's `request`. So the socket that the SDK opens is watched instead: `recv`, `send`
and `close` of that one object. Whatever connection, iterator or session of the SDK the app uses,
its messages go by here, also after a reconnection. No hook may change an outcome: what fails in
here is counted.
"""

import inspect
import weakref
from collections.abc import Callable
from functools import wraps
from types import ModuleType, SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit
from weakref import WeakKeyDictionary

from costspan.capture.answer import Attributes, from_headers, text
from costspan.capture.conversation import (
    LIVE,
    REALTIME,
    RESPONSES,
    TRANSLATIONS,
    Api,
    Conversation,
    Sessions,
)
from costspan.capture.start import Starter
from costspan.counters import count

Method = Callable[..., Any]
Patch = Callable[[type, str, Callable[[Method], Method]], None]
Place = Callable[[ModuleType, Patch], None]

_APIS = {
    "openai.resources.realtime.realtime": REALTIME,
    "openai.resources.realtime.translations.translations": TRANSLATIONS,
    "openai.resources.beta.realtime.realtime": REALTIME,
    "openai.resources.responses.responses": RESPONSES,
    "openai.resources.beta.responses.responses": RESPONSES,
    "openai.resources.live.live": LIVE,
    "openai.resources.live.sideband": LIVE,
    "openai.resources.live.forks": LIVE,
}


def patches(starter: Starter, active: Callable[[], bool]) -> list[tuple[str, Place]]:
    """Return, for each module of the SDK that connects, what to do once it is imported.

    `active`: whether calls are still to be recorded; a socket may outlive the hooks.
    """
    sessions = Sessions()

    def placing(api: Api) -> Place:
        def place(module: ModuleType, patch: Patch) -> None:
            hooks = _Hooks(
                lambda client: Conversation(starter, active, sessions, client, api),
            )
            for name, cls in list(vars(module).items()):
                if name.endswith("ConnectionManager") and isinstance(cls, type):
                    hooks.place(cls, patch)

        return place

    return [(module, placing(api)) for module, api in _APIS.items()]


class _Hooks:
    """The hooks in one module's connection managers."""

    def __init__(self, converse: Callable[[Any], Conversation]) -> None:
        self._converse = converse
        self._conversations: WeakKeyDictionary[Any, Conversation] = WeakKeyDictionary()
        """By manager: one that reconnects goes on with its conversation."""

    def place(self, cls: type, patch: Patch) -> None:
        """Put the hooks into a connection manager of any version of the SDK."""
        is_async = hasattr(cls, "__aenter__")
        if hasattr(cls, "_connect_ws"):  # in older SDKs `enter` itself connects
            patch(cls, "_connect_ws", self._connect_async if is_async else self._connect)
        for name in ("__aenter__" if is_async else "__enter__", "enter"):
            patch(cls, name, self._enter_async if is_async else self._enter)

    def _connect(self, original: Method) -> Method:
        @wraps(original)
        def connect(manager: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            socket = original(manager, *args, **kwargs)
            _safely(self._connected, manager, socket)
            return socket

        return connect

    def _connect_async(self, original: Method) -> Method:
        @wraps(original)
        async def connect(manager: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            socket = await original(manager, *args, **kwargs)
            _safely(self._connected, manager, socket)
            return socket

        return connect

    def _enter(self, original: Method) -> Method:
        @wraps(original)
        def enter(manager: Any) -> Any:  # noqa: ANN401
            _safely(self._conversations.pop, manager, None)
            try:
                connection = original(manager)
            except BaseException as error:
                _safely(self._refused, manager, error)
                raise
            _safely(self._entered, manager, connection)
            return connection

        return enter

    def _enter_async(self, original: Method) -> Method:
        @wraps(original)
        async def enter(manager: Any) -> Any:  # noqa: ANN401
            _safely(self._conversations.pop, manager, None)
            try:
                connection = await original(manager)
            except BaseException as error:
                _safely(self._refused, manager, error)
                raise
            _safely(self._entered, manager, connection)
            return connection

        return enter

    def _connected(self, manager: Any, socket: Any) -> None:  # noqa: ANN401
        if not any(base.__module__.startswith("websockets.") for base in type(socket).__mro__):
            return  # a double, in a test of the app
        conversation = self._conversations.get(manager)
        if conversation is None:
            conversation = self._converse(_private(manager, "client"))
            self._conversations[manager] = conversation
        path = str(socket.request.path)
        query = parse_qs(urlsplit(path).query)
        model = (query.get("model") or query.get("deployment") or [""])[0]
        conversation.connected(path, text(model) or "", _told(socket))
        _watch(socket, conversation)

    def _entered(self, manager: Any, connection: Any) -> None:  # noqa: ANN401
        if manager not in self._conversations:
            self._connected(manager, connection._connection)  # noqa: SLF001
        conversation = self._conversations.get(manager)
        if conversation is not None:
            weakref.finalize(connection, _safely, conversation.abandoned).atexit = False

    def _refused(self, manager: Any, error: BaseException) -> None:  # noqa: ANN401
        conversation = self._conversations.get(manager)
        if conversation is None:  # no socket came of it
            model = text(_private(manager, "model"))
            self._converse(_private(manager, "client")).refused(model or "", error)
        else:
            conversation.abandoned()


def _watch(socket: Any, conversation: Conversation) -> None:  # noqa: ANN401
    """Replace three methods of a socket until it is closed."""
    from websockets.exceptions import ConnectionClosed, ConnectionClosedError

    methods = {name: getattr(socket, name) for name in ("recv", "send", "close")}

    def lost(error: Exception | None = None) -> None:
        for name in methods:
            vars(socket).pop(name, None)
        conversation.lost(error if isinstance(error, ConnectionClosedError) else None)

    @wraps(methods["recv"])
    def recv(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        try:
            data = methods["recv"](*args, **kwargs)
        except ConnectionClosed as error:
            _safely(lost, error)
            raise
        _safely(conversation.received, data)
        return data

    @wraps(methods["recv"])
    async def recv_async(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        try:
            data = await methods["recv"](*args, **kwargs)
        except ConnectionClosed as error:
            _safely(lost, error)
            raise
        _safely(conversation.received, data)
        return data

    @wraps(methods["send"])
    def send(message: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        asked = _safely(conversation.sending, message)
        try:
            return methods["send"](message, *args, **kwargs)
        except BaseException as error:
            _safely(conversation.unsent, asked, error)
            raise

    @wraps(methods["send"])
    async def send_async(message: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        asked = _safely(conversation.sending, message)
        try:
            return await methods["send"](message, *args, **kwargs)
        except BaseException as error:
            _safely(conversation.unsent, asked, error)
            raise

    @wraps(methods["close"])
    def close(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        try:
            return methods["close"](*args, **kwargs)
        finally:
            _safely(lost)

    @wraps(methods["close"])
    async def close_async(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        try:
            return await methods["close"](*args, **kwargs)
        finally:
            _safely(lost)

    is_async = inspect.iscoroutinefunction(methods["recv"])
    socket.recv = recv_async if is_async else recv
    socket.send = send_async if is_async else send
    socket.close = close_async if is_async else close


def _told(socket: Any) -> Attributes:  # noqa: ANN401
    """Return what the headers of the handshake's answer tell."""
    raw = [(name.encode(), value.encode()) for name, value in socket.response.headers.raw_items()]
    return from_headers(SimpleNamespace(raw=raw))


def _private(manager: object, name: str) -> object:
    """Return what a manager keeps under a name of its class's own."""
    ending = f"__{name}"
    return next((value for key, value in vars(manager).items() if key.endswith(ending)), None)


def _safely(step: Callable[..., Any], *args: Any) -> Any:  # noqa: ANN401
    try:
        return step(*args)
    except Exception as error:  # noqa: BLE001
        count("socket_unread", error)
        return None
