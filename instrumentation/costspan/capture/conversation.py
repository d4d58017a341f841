"""The calls made over one WebSocket connection, as its messages tell of them."""

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from time import perf_counter
from typing import Any, cast
from weakref import WeakValueDictionary

from opentelemetry import context
from opentelemetry.instrumentation.utils import is_instrumentation_enabled

from costspan import semconv
from costspan.capture import messages
from costspan.capture.answer import Attributes, mapping, text
from costspan.capture.call import Call, end_late
from costspan.capture.open_calls import Open, OpenCalls, OpenSession
from costspan.capture.operation import Operation
from costspan.capture.start import Starter

_MOST_SESSIONS = 1024
_MOST_INT64 = 2**63 - 1
_BUSY = "conversation_already_has_active_response"
_ATTACHED_TO = re.compile(r"/live/sessions/([^/?]+)/attach")


def _operation(name: str, api_type: str) -> Operation:
    return Operation(name, api_type, billed=True, streams_usage_on_request=False, settles=False)


@dataclass(frozen=True, slots=True)
class Api:
    """What an endpoint bills: each response, and in some a whole session by the second."""

    response: Operation
    session: Operation | None = None


REALTIME = Api(_operation("chat", "realtime"))
RESPONSES = Api(_operation("chat", "responses"))
LIVE = Api(_operation("chat", "responses"), _operation("live.sessions", "live"))
TRANSLATIONS = Api(_operation("chat", "realtime"), _operation("realtime.translations", "realtime"))
_TRANSCRIPTION = _operation("audio.transcriptions", "realtime")
_DECISION = _operation("decisions", "decisions")


class Sessions:
    """The Live sessions of this process: one may be told of over several connections."""

    def __init__(self) -> None:
        self._tellers: WeakValueDictionary[str, Conversation] = WeakValueDictionary()
        self._recorded: OrderedDict[str, Decimal] = OrderedDict()
        self._lock = threading.RLock()  # a connection may be collected while it is held

    def join(self, session_id: str, conversation: "Conversation") -> bool:
        """Return whether this connection is the one that records the session."""
        with self._lock:
            return self._tellers.setdefault(session_id, conversation) is conversation

    def leave(self, session_id: str, seconds: Decimal) -> None:
        """Note what is recorded of a session, for a connection that may join it later."""
        with self._lock:
            self._tellers.pop(session_id, None)
            seconds = max(seconds, self._recorded.get(session_id, seconds))
            self._recorded[session_id] = seconds
            self._recorded.move_to_end(session_id)
            if len(self._recorded) > _MOST_SESSIONS:
                self._recorded.popitem(last=False)

    def recorded_seconds(self, session_id: str) -> Decimal:
        """Return how much of a session's running total is in the spans of earlier connections."""
        return self._recorded.get(session_id, Decimal(0))


class Failure(Exception):
    """An error event or a lost connection, without its message: that may quote a prompt."""


def failure(kind: object, code: object = None) -> Failure:
    """Return a failure that shows as an error of type `kind`."""
    name = text(kind)
    known = name if name is not None and name.isidentifier() else "error"
    return cast("Failure", type(known, (Failure,), {"code": text(code)})())


class Conversation:
    """What is seen of one connection. Every method may run on a thread of its own."""

    def __init__(
        self,
        starter: Starter,
        active: Callable[[], bool],
        sessions: Sessions,
        client: Any,  # noqa: ANN401
        api: Api,
    ) -> None:
        self._starter = starter
        self._active = active
        self._sessions = sessions
        self._client = client
        self._api = api
        self._context = context.get_current()
        self._session_id: str | None = None
        self._muted = False
        """The session is recorded by another connection."""
        self._model = ""
        self._transcriber: str | None = None
        self._told: Attributes = {}
        self._calls = OpenCalls()
        self._session: OpenSession | None = None
        self._trouble: Failure | None = None
        """An error event that may be the reason why something ends."""

    # What happens.

    def connected(self, path: str, model: str, told: Attributes) -> None:
        """Note what the handshake tells."""
        self._model = model
        self._told = told
        attached = _ATTACHED_TO.search(path)
        if attached is not None:
            self._join(attached[1])
        if self._api.session is not None and model:
            self._begin_session(self._start(self._api.session, model))

    def refused(self, model: str, error: BaseException) -> None:
        """Record a connection that was not made."""
        self._end(self._start(self._api.session or self._api.response, model), error)

    def sending(self, data: object) -> object:
        """Begin a call if `data` asks for one; the result is for `unsent`."""
        event = messages.asking(data)
        if event is None:
            return None
        kind = event.get("type")
        if kind == "response.create" and self._api.session is None:
            return self._ask(event)
        if kind == "session.start" and self._api.session is not None and self._session is None:
            model = text((mapping(event.get("session")) or {}).get("model")) or ""
            return self._begin_session(self._start(self._api.session, model))
        return None

    def unsent(self, asked: object, error: BaseException) -> None:
        """End a call whose request could not be sent."""
        if isinstance(asked, Open):
            self._calls.take(asked)
            self._end(asked.call, error)

    def received(self, data: bytes | str) -> None:
        """Note what a message tells."""
        if isinstance(data, str):
            data = data.encode()
        kind, at = messages.head(data)
        if messages.is_delta(kind):
            self._delta(data, at)
            return
        event = messages.telling(kind, data)
        if event is not None and not self._muted:
            self._event(event, text(event.get("stream_id")))

    def lost(self, error: Exception | None = None) -> None:
        """End what is open: the connection is closed, by `error` or in good order."""
        trouble, self._trouble = self._trouble, None
        for call in self._rest():
            if trouble is not None:
                self._end(call, trouble)
            elif error is not None:
                call.told({}, pending=True)  # what was asked may have been worked on, and billed
                self._end(call, error)
            else:
                call.closed()

    def abandoned(self) -> None:
        """End what is open: nobody holds the connection any more."""
        for call in self._rest():
            call.abandoned()

    # Events.

    def _event(self, event: Mapping[str, Any], lane: str | None) -> None:
        kind = event.get("type")
        if kind == "response.created":
            self._created(event, lane)
        elif kind in messages.ENDS:
            self._done(event, lane)
        elif kind == "response.event":
            nested = mapping(event.get("event")) or {}
            delegation = text(event.get("delegation_id"))
            if str(nested.get("type")).endswith(".delta"):
                self._chunk(self._calls.answered_in(delegation))
            else:
                self._event(nested, delegation)
        elif kind == "decision.event":
            self._decided(mapping((mapping(event.get("event")) or {}).get("decision")) or {})
        elif kind == "rate_limits.updated":
            self._limited(event.get("rate_limits"))
        elif kind == "input_audio_buffer.committed":
            self._committed(event)
        elif isinstance(kind, str) and kind.startswith(messages.TRANSCRIBED):
            self._transcribed(event)
        elif kind == "error":
            self._error(event, lane)
        else:
            self._session_told(event)

    def _created(self, event: Mapping[str, Any], lane: str | None) -> None:
        self._trouble = None
        response = mapping(event.get("response")) or {}
        key = text(response.get("id")) or f"lane {lane}"
        if self._calls.answered(key) is not None:
            return
        asked = self._calls.asked_in({lane, None})
        if asked is not None and self._calls.take(asked):
            call = asked.call
        else:
            model = text(response.get("model")) or self._model
            call = self._start_here(self._api.response, model)
        self._calls.answer(Open(call, lane, key=key))
        if call is not None:
            call.told(self._told, pending=True)
            call.saw(self._as_response(response))

    def _done(self, event: Mapping[str, Any], lane: str | None) -> None:
        self._trouble = None
        response = mapping(event.get("response")) or {}
        known = self._calls.end(text(response.get("id")) or f"lane {lane}")
        if known is None:
            model = text(response.get("model")) or self._model
            known = Open(self._start_here(self._api.response, model))
        if known.call is not None:
            known.call.told(self._told, pending=True)
            try:
                known.call.saw(self._as_response(response))
            finally:
                known.call.completed()

    def _delta(self, data: bytes, at: int) -> None:
        response_id = messages.response_of(data, at)
        if response_id is not None:
            self._chunk(self._calls.answered(response_id))
        elif self._api is RESPONSES:
            self._chunk(self._calls.answered_in(messages.lane_of(data, at)))

    def _chunk(self, known: Open | None) -> None:
        call = known.call if known is not None else None
        if call is None:
            return
        call.last_chunk = perf_counter()
        call.chunks += 1
        if call.chunks == 1:
            call.first_chunk = call.last_chunk

    def _committed(self, event: Mapping[str, Any]) -> None:
        item = text(event.get("item_id"))
        if item is None or self._transcriber is None or self._calls.answered(item) is not None:
            return
        call = self._start_here(_TRANSCRIPTION, self._transcriber)
        self._calls.answer(Open(call, lane=item, key=item))

    def _transcribed(self, event: Mapping[str, Any]) -> None:
        item = text(event.get("item_id")) or ""
        known = self._calls.end(item)
        if known is None:
            known = Open(self._start_here(_TRANSCRIPTION, self._transcriber or ""))
        call = known.call
        if call is None:
            return
        call.told(self._told)
        error = mapping(event.get("error"))
        if error is not None:
            self._end(call, failure(error.get("type"), error.get("code")))
            return
        try:
            call.saw({"id": item, "model": self._transcriber, "usage": event.get("usage")})
        finally:
            call.end()

    def _decided(self, decision: Mapping[str, Any]) -> None:
        call = self._start_here(_DECISION, text(decision.get("model")) or "")
        if call is not None:
            call.told(self._told)
            try:
                call.saw(decision)
            finally:
                call.end()

    def _limited(self, limits: object) -> None:
        """Note rate limits: on the calls that are open, and on the later ones."""
        names = {
            "requests": semconv.RATE_LIMIT_REMAINING_REQUESTS,
            "tokens": semconv.RATE_LIMIT_REMAINING_TOKENS,
        }
        found: Attributes = {}
        for item in cast("list[object]", limits) if isinstance(limits, list) else []:
            limit = mapping(item) or {}
            name, left = names.get(str(limit.get("name"))), limit.get("remaining")
            if name and type(left) is int and 0 <= left <= _MOST_INT64:
                found[name] = left
        self._told = {**self._told, **found}
        for known in self._calls.all_answered():
            if known.call is not None:
                known.call.told(found)

    def _error(self, event: Mapping[str, Any], lane: str | None) -> None:
        """Find the request an error is about.

        An error that names none does not end anything yet: an app may have sent audio too short
        to be of use just before a good request. It is the reason if nothing better follows.
        """
        error = mapping(event.get("error")) or event
        cause = error.get("event_id") or error.get("client_event_id")
        wrong = failure(error.get("type"), error.get("code"))
        if self._api is RESPONSES:
            about = self._calls.asked_in({lane}) or self._calls.answered_in(lane)
        else:
            refused = error.get("code") == _BUSY or str(error.get("param")).startswith("response")
            asked = self._calls.asked() if refused or cause is not None else []
            about = next((one for one in asked if cause in {None, one.event_id}), None)
        if about is not None:
            self._calls.take(about)
            self._calls.end(about.key)
            self._end(about.call, wrong)
        elif cause is None or self._api is not REALTIME:
            self._trouble = wrong

    # Sessions.

    def _session_told(self, event: Mapping[str, Any]) -> None:
        session = mapping(event.get("session")) or {}
        model = text(session.get("model"))
        self._model = model or self._model
        if self._api.session is None:
            if session:
                self._transcriber = _transcriber(session)
            return
        self._trouble = None
        operation = self._api.session
        known = self._session or self._begin_session(self._start_here(operation, model or ""))
        if self._session_id is None:
            self._join(text(session.get("id")))
        call = known.call
        if call is not None:
            call.told(self._told, pending=True)
            call.saw({"id": self._session_id, "model": model})
            call.saw({"usage": self._seconds(known, mapping(event.get("usage")))})
        if event.get("type") == "session.closed":
            self._leave()
            if call is not None:
                reason = text(event.get("reason"))
                call.saw(_ended("completed", reason, None))
                call.completed()

    def _begin_session(self, call: Call | None) -> OpenSession:
        self._session = OpenSession(call)
        return self._session

    def _seconds(
        self, known: OpenSession, usage: Mapping[str, Any] | None
    ) -> Mapping[str, Any] | None:
        """Return the part of a running total that no earlier connection has recorded."""
        seconds = usage.get("seconds") if usage is not None else None
        if usage is None or type(seconds) not in {int, float}:
            return usage
        known.total_seconds = Decimal(str(seconds))
        before = self._sessions.recorded_seconds(self._session_id or "")
        return {**usage, "seconds": float(known.total_seconds - before)} if before else usage

    def _join(self, session_id: str | None) -> None:
        self._session_id = session_id
        if session_id is not None:
            self._muted = not self._sessions.join(session_id, self)

    def _leave(self) -> None:
        known, self._session = self._session, None
        session_id, self._session_id = self._session_id, None
        if session_id is not None and not self._muted:
            seconds = known.total_seconds if known is not None else Decimal(0)
            self._sessions.leave(session_id, seconds)

    # Calls.

    def _ask(self, event: Mapping[str, Any]) -> Open:
        body = mapping(event.get("response")) or event
        trouble, self._trouble = self._trouble, None
        before = self._calls.asked()
        if trouble is not None and before and self._calls.take(before[0]):  # not answered since
            self._end(before[0].call, trouble)
        model = text(body.get("model")) or self._model
        call = self._start(self._api.response, model, text(body.get("service_tier")))
        asked = Open(call, text(event.get("stream_id")), text(event.get("event_id")))
        self._calls.ask(asked)
        return asked

    def _rest(self) -> Iterator[Call]:
        """Take everything that is open."""
        found = self._calls.clear()
        if self._session is not None:
            found.append(self._session)
        self._leave()
        return (known.call for known in found if known.call is not None)

    def _start_here(self, operation: Operation, model: str) -> Call | None:
        """Start a call that the server began: inside of what the app was doing on connecting."""
        token = context.attach(self._context)
        try:
            return self._start(operation, model)
        finally:
            context.detach(token)

    def _start(self, operation: Operation, model: str, tier: str | None = None) -> Call | None:
        if not self._active() or not is_instrumentation_enabled():
            return None
        end_late()
        _, call = self._starter.start(
            self._client,
            operation,
            model=model,
            tier=tier,
            streamed=operation in {self._api.response, self._api.session},
        )
        return call

    def _end(self, call: Call | None, error: BaseException) -> None:
        if call is not None:
            known = isinstance(error, Failure)
            call.failed(error if known else failure(type(error).__name__, _status(error)))

    def _as_response(self, response: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a Realtime response in the words of the Responses API."""
        if self._api is not REALTIME:
            return response
        details = mapping(response.get("status_details")) or {}
        return {
            "id": response.get("id"),
            "model": self._model,
            "usage": response.get("usage"),
            **_ended(response.get("status"), details.get("reason"), details.get("error")),
        }


def _ended(status: object, reason: object, error: object) -> dict[str, Any]:
    return {
        "object": "response",
        "status": status,
        "incomplete_details": {"reason": reason},
        "error": error,
    }


def _transcriber(session: Mapping[str, Any]) -> str | None:
    """Return the model that a Realtime session transcribes its input with, in either version."""
    heard = mapping((mapping(session.get("audio")) or {}).get("input")) or {}
    named = heard.get("transcription") or session.get("input_audio_transcription")
    return text((mapping(named) or {}).get("model"))


def _status(error: BaseException) -> str | None:
    """Return the status a handshake was refused with, or the code a connection was closed with."""
    told = getattr(error, "response", None) or getattr(error, "rcvd", None)
    status = getattr(told, "status_code", None) or getattr(told, "code", None)
    return None if status is None else str(int(status))
