"""Calls over a WebSocket: what the app sees is unchanged, and each billed thing is one span."""

import asyncio
import gc
import inspect
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from unittest.mock import MagicMock

import openai
import pytest
from openai.types.realtime import RealtimeServerEvent, ResponseDoneEvent
from opentelemetry.sdk.trace import ReadableSpan
from websockets.exceptions import ConnectionClosed, ConnectionClosedError
from websockets.sync.server import Server, ServerConnection, serve

import costspan
from costspan.counters import counters

Script = Callable[[ServerConnection], None]
Serve = Callable[[Script], str]
Capture = Callable[..., Any]

_MODEL = "gpt-realtime"
_SERVED = "gpt-realtime-2025-08-28"
_AUDIO = "UklG" * 4096

pytestmark = pytest.mark.filterwarnings(  # how the SDK calls `websockets` 17, with us or without
    r"ignore:connect\(\) must be used as a context manager:DeprecationWarning"
)
_since_2 = pytest.mark.skipif(openai.VERSION < "2", reason="not in the SDK before 2.0")
_since_3 = pytest.mark.skipif(openai.VERSION < "3", reason="not in the SDK before 3.0")


@pytest.fixture
def endpoint() -> Iterator[Serve]:
    """Serve a script on a loopback address; the result is the base URL of a client."""
    servers: list[tuple[Server, threading.Thread]] = []

    def start(script: Script) -> str:
        def handler(socket: ServerConnection) -> None:
            with suppress(ConnectionClosed):
                script(socket)

        server = serve(handler, "127.0.0.1", 0, close_timeout=1)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.socket.getsockname()[1]}/v1"

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()


def sync_client(url: str) -> openai.OpenAI:
    """Return a client; before 2.0 a WebSocket is encrypted unless its address says otherwise."""
    return openai.OpenAI(api_key="sk-test", base_url=url, websocket_base_url=f"ws{url[4:]}")


def async_client(url: str) -> openai.AsyncOpenAI:
    """Return the same for asyncio."""
    return openai.AsyncOpenAI(api_key="sk-test", base_url=url, websocket_base_url=f"ws{url[4:]}")


def tell(socket: ServerConnection, kind: str, **fields: Any) -> None:
    """Send an event, in the order of keys that the service has."""
    socket.send(json.dumps({"type": kind, "event_id": f"event_{kind}", **fields}))


def told(socket: ServerConnection, kind: str) -> dict[str, Any]:
    """Wait for an event of the client."""
    while True:
        event = json.loads(socket.recv())
        if event["type"] == kind:
            return event


def greet(socket: ServerConnection, *, transcriber: str | None = None) -> None:
    """Open a session."""
    heard = {"model": transcriber} if transcriber else None
    session = {
        "id": "sess_1",
        "type": "realtime",
        "model": _SERVED,
        "audio": {"input": {"transcription": heard}},
    }
    tell(socket, "session.created", session=session)


def begin(socket: ServerConnection, name: str) -> None:
    """Open a response."""
    response = {"object": "realtime.response", "id": name, "status": "in_progress"}
    tell(socket, "response.created", response=response)


def speak(socket: ServerConnection, name: str) -> None:
    """Send a piece of audio."""
    place = {"response_id": name, "item_id": "item_1", "output_index": 0, "content_index": 0}
    tell(socket, "response.output_audio.delta", **place, delta=_AUDIO)


def end(
    socket: ServerConnection,
    name: str,
    usage: dict[str, Any] | None,
    status: str = "completed",
    details: dict[str, Any] | None = None,
) -> None:
    """Close a response."""
    response = {
        "object": "realtime.response",
        "id": name,
        "status": status,
        "status_details": details,
        "output": [{"type": "message", "content": [{"type": "text", "text": "a secret answer"}]}],
        "usage": usage,
    }
    tell(socket, "response.done", response=response)


def used(text_in: int, audio_in: int, text_out: int, audio_out: int) -> dict[str, Any]:
    """Return the usage of a response."""
    return {
        "total_tokens": text_in + audio_in + text_out + audio_out,
        "input_tokens": text_in + audio_in,
        "output_tokens": text_out + audio_out,
        "input_token_details": {
            "text_tokens": text_in,
            "audio_tokens": audio_in,
            "image_tokens": 0,
            "cached_tokens": 0,
            "cached_tokens_details": {"text_tokens": 0, "audio_tokens": 0, "image_tokens": 0},
        },
        "output_token_details": {"text_tokens": text_out, "audio_tokens": audio_out},
    }


def spoken(socket: ServerConnection) -> None:
    """Answer one request with audio."""
    greet(socket)
    told(socket, "response.create")
    begin(socket, "resp_1")
    for _ in range(3):
        speak(socket, "resp_1")
    limits = [{"name": "tokens", "limit": 40000, "remaining": 39000, "reset_seconds": 0.1}]
    tell(socket, "rate_limits.updated", rate_limits=limits)
    end(socket, "resp_1", used(20, 100, 30, 200))


def read(connection: Any, last: str = "response.done", times: int = 1) -> list[Any]:
    """Return the events up to the `times`th of the last kind."""
    events: list[Any] = []
    for event in connection:
        events.append(event)
        times -= event.type == last
        if not times:
            break
    return events


def attributes(span: ReadableSpan) -> dict[str, Any]:
    """Return the attributes of a span."""
    return dict(span.attributes or {})


def test_a_spoken_answer_is_one_span_and_the_app_sees_what_it_saw_before(
    endpoint: Serve, capture: Capture
) -> None:
    def run(url: str) -> list[RealtimeServerEvent]:
        with sync_client(url).realtime.connect(model=_MODEL) as connection:
            connection.response.create()
            events = read(connection)
            assert isinstance(events[-1], ResponseDoneEvent)
            return events

    url = endpoint(spoken)
    bare = run(url)
    captured = capture(priced_hosts=("127.0.0.1",))
    seen = run(url)
    assert seen == bare
    assert [type(event) for event in seen] == [type(event) for event in bare]

    (span,) = captured.calls
    call = captured.call
    assert span.name == f"chat {_MODEL}"
    assert call["gen_ai.operation.name"] == "chat"
    assert call["openai.api.type"] == "realtime"
    assert call["gen_ai.request.model"] == _MODEL
    assert call["gen_ai.response.model"] == _SERVED
    assert call["gen_ai.response.id"] == "resp_1"
    assert call["gen_ai.usage.input_tokens"] == 120
    assert call["gen_ai.usage.output_tokens"] == 230
    assert call["gen_ai.response.finish_reasons"] == ("completed",)
    assert call["costspan.stream.outcome"] == "completed"
    assert call["costspan.stream.chunks"] == 3
    assert call["gen_ai.response.time_to_first_chunk"] > 0
    assert call["costspan.rate_limit.remaining_tokens"] == 39000
    assert len(call["costspan.key.fingerprint"]) == 16
    assert call["costspan.cost.usd"] == "0.01656"
    assert "error.type" not in call
    assert "secret" not in str(call)
    assert "UklG" not in str(call)


def test_an_async_app_sees_the_same_and_its_span_has_the_same_parent(
    endpoint: Serve, capture: Capture
) -> None:
    url = endpoint(spoken)
    captured = capture()
    tracer = captured.provider.get_tracer("app")

    async def run() -> list[str]:
        client = async_client(url)
        async with client.realtime.connect(model=_MODEL) as connection:
            with tracer.start_as_current_span("turn"), costspan.attribute(feature="phone"):
                await connection.response.create()
            kinds: list[str] = []
            async for event in connection:
                kinds.append(event.type)
                if event.type == "response.done":
                    return kinds
        return []

    assert asyncio.run(run())[-1] == "response.done"
    (span,) = captured.calls
    (turn,) = [span for span in captured.spans if span.name == "turn"]
    assert span.parent is not None
    assert span.parent.span_id == turn.context.span_id
    assert attributes(span)["gen_ai.usage.output_tokens"] == 230
    assert attributes(span)["costspan.feature"] == "phone"


def test_the_beta_of_realtime_is_seen(endpoint: Serve, capture: Capture) -> None:
    def script(socket: ServerConnection) -> None:
        session = {"model": _SERVED, "input_audio_transcription": {"model": "whisper-1"}}
        tell(socket, "session.created", session=session)
        told(socket, "response.create")
        begin(socket, "resp_1")
        place = {"response_id": "resp_1", "item_id": "item_1", "output_index": 0}
        tell(socket, "response.audio.delta", **place, content_index=0, delta=_AUDIO)
        usage = {"type": "duration", "seconds": 3}
        kind = "conversation.item.input_audio_transcription.completed"
        place = {"item_id": "item_0", "content_index": 0}
        tell(socket, kind, **place, transcript="Hello", usage=usage)
        end(socket, "resp_1", used(20, 100, 30, 200))

    captured = capture()
    with sync_client(endpoint(script)).beta.realtime.connect(model=_MODEL) as connection:
        connection.response.create()
        read(connection)
    heard, spoken = captured.calls
    assert heard.name == "audio.transcriptions whisper-1"
    assert attributes(spoken)["gen_ai.response.model"] == _SERVED
    assert attributes(spoken)["gen_ai.usage.output_tokens"] == 230
    assert attributes(spoken)["costspan.stream.chunks"] == 1


def test_raw_messages_are_seen_without_being_changed(endpoint: Serve, capture: Capture) -> None:
    captured = capture()
    with sync_client(endpoint(spoken)).realtime.connect(model=_MODEL) as connection:
        connection.response.create()
        kinds: list[str] = []
        while kinds[-1:] != ["response.done"]:
            data = connection.recv_bytes()
            assert isinstance(data, bytes)
            kinds.append(json.loads(data)["type"])
    assert captured.call["gen_ai.usage.input_tokens"] == 120


def test_any_order_of_keys_is_understood(endpoint: Serve, capture: Capture) -> None:
    def script(socket: ServerConnection) -> None:
        done = {"response": {"id": "resp_1", "status": "completed", "usage": used(1, 2, 3, 4)}}
        socket.send(json.dumps({**done, "event_id": "event_1", "type": "response.done"}))

    captured = capture()
    with sync_client(endpoint(script)).realtime.connect(model=_MODEL) as connection:
        read(connection)
    assert captured.call["gen_ai.usage.output_tokens"] == 7


def test_responses_that_interleave_keep_their_own_tokens(endpoint: Serve, capture: Capture) -> None:
    def script(socket: ServerConnection) -> None:
        greet(socket)
        for _ in range(2):
            told(socket, "response.create")
        begin(socket, "resp_1")
        begin(socket, "resp_2")
        for name in ("resp_2", "resp_1", "resp_2"):
            speak(socket, name)
        end(socket, "resp_2", used(2, 0, 20, 0))
        end(socket, "resp_1", used(1, 0, 10, 0))

    captured = capture()
    with sync_client(endpoint(script)).realtime.connect(model=_MODEL) as connection:
        connection.response.create()
        connection.response.create(response={"conversation": "none"})
        read(connection, times=2)
    found = [
        (
            call["gen_ai.response.id"],
            call["gen_ai.usage.output_tokens"],
            call["costspan.stream.chunks"],
        )
        for call in map(attributes, captured.calls)
    ]
    assert sorted(found) == [("resp_1", 10, 1), ("resp_2", 20, 2)]


def test_an_answer_that_the_server_begins_belongs_to_where_the_app_connected(
    endpoint: Serve, capture: Capture
) -> None:
    def script(socket: ServerConnection) -> None:
        greet(socket)
        told(socket, "input_audio_buffer.append")
        begin(socket, "resp_1")
        end(socket, "resp_1", used(1, 2, 3, 4))

    captured = capture()
    tracer = captured.provider.get_tracer("app")
    with tracer.start_as_current_span("phone call") as outer:
        connection = sync_client(endpoint(script)).realtime.connect(model=_MODEL).enter()
    connection.input_audio_buffer.append(audio=_AUDIO)
    read(connection)
    connection.close()
    (span,) = captured.calls
    assert span.parent is not None
    assert span.parent.span_id == outer.get_span_context().span_id


@pytest.mark.parametrize(
    ("status", "details", "reason", "error"),
    [
        ("cancelled", {"type": "cancelled", "reason": "turn_detected"}, "turn_detected", None),
        ("incomplete", {"reason": "max_output_tokens"}, "max_output_tokens", None),
        ("failed", {"error": {"type": "server_error", "code": "oops"}}, "failed", "oops"),
    ],
)
def test_an_answer_that_stops_early_is_still_billed(
    endpoint: Serve,
    capture: Capture,
    status: str,
    details: dict[str, Any],
    reason: str,
    error: str | None,
) -> None:
    def script(socket: ServerConnection) -> None:
        greet(socket)
        told(socket, "response.create")
        begin(socket, "resp_1")
        end(socket, "resp_1", used(1, 2, 3, 4), status, details)

    captured = capture()
    with sync_client(endpoint(script)).realtime.connect(model=_MODEL) as connection:
        connection.response.create()
        read(connection)
    call = captured.call
    assert call["gen_ai.usage.output_tokens"] == 7
    assert call["gen_ai.response.finish_reasons"] == (reason,)
    assert call.get("error.type") == error


@pytest.mark.parametrize(
    ("model", "usage", "expected"),
    [
        (
            "gpt-4o-mini-transcribe",
            {
                "type": "tokens",
                "total_tokens": 22,
                "input_tokens": 13,
                "output_tokens": 9,
                "input_token_details": {"text_tokens": 0, "audio_tokens": 13},
            },
            {"gen_ai.usage.input_tokens": 13, "gen_ai.usage.output_tokens": 9},
        ),
        ("whisper-1", {"type": "duration", "seconds": 5.5}, {"costspan.cost.usd": "0.00055"}),
    ],
)
def test_a_transcription_is_a_span_of_the_model_that_transcribes(
    endpoint: Serve,
    capture: Capture,
    model: str,
    usage: dict[str, Any],
    expected: dict[str, Any],
) -> None:
    def script(socket: ServerConnection) -> None:
        greet(socket, transcriber=model)
        for name in ("item_1", "item_2"):
            tell(socket, "input_audio_buffer.committed", item_id=name, previous_item_id=None)
        kind = "conversation.item.input_audio_transcription."
        tell(socket, f"{kind}delta", item_id="item_1", content_index=0, delta="Hel")
        place = {"item_id": "item_1", "content_index": 0}
        tell(socket, f"{kind}completed", **place, transcript="Hello", usage=usage)
        error = {"type": "transcription_error", "code": "audio_unintelligible"}
        tell(socket, f"{kind}failed", item_id="item_2", content_index=0, error=error)

    captured = capture(priced_hosts=("127.0.0.1",))
    with sync_client(endpoint(script)).realtime.connect(model=_MODEL) as connection:
        read(connection, last="conversation.item.input_audio_transcription.failed")
    done, failed = captured.calls
    assert done.name == f"audio.transcriptions {model}"
    assert attributes(done)["gen_ai.response.model"] == model
    assert expected.items() <= attributes(done).items()
    assert "error.type" not in attributes(done)
    assert "Hello" not in str(attributes(done))
    assert attributes(failed)["error.type"] == "transcription_error"
    assert attributes(failed)["costspan.error.code"] == "audio_unintelligible"


def test_a_refused_request_ends_with_its_error_and_costs_nothing(
    endpoint: Serve, capture: Capture
) -> None:
    def script(socket: ServerConnection) -> None:
        greet(socket)
        told(socket, "response.create")
        begin(socket, "resp_1")
        asked = told(socket, "response.create")
        error = {"type": "invalid_request_error", "message": "", "event_id": asked["event_id"]}
        tell(socket, "error", error={**error, "code": "conversation_already_has_active_response"})
        end(socket, "resp_1", used(1, 2, 3, 4))

    captured = capture()
    with sync_client(endpoint(script)).realtime.connect(model=_MODEL) as connection:
        connection.response.create()
        connection.response.create(event_id="second")
        read(connection)
    refused, done = captured.calls
    assert attributes(refused)["error.type"] == "invalid_request_error"
    assert attributes(refused)["costspan.error.code"] == "conversation_already_has_active_response"
    assert "costspan.price.status" not in attributes(refused)
    assert "error.type" not in attributes(done)


def test_an_error_about_something_else_is_not_the_fault_of_a_request(
    endpoint: Serve, capture: Capture
) -> None:
    def script(socket: ServerConnection) -> None:
        greet(socket)
        told(socket, "response.create")
        tell(socket, "error", error={"type": "invalid_request_error", "code": "buffer_empty"})
        begin(socket, "resp_1")
        end(socket, "resp_1", used(1, 2, 3, 4))

    captured = capture()
    with sync_client(endpoint(script)).realtime.connect(model=_MODEL) as connection:
        connection.input_audio_buffer.commit()
        connection.response.create()
        read(connection)
    assert captured.call["gen_ai.usage.output_tokens"] == 7
    assert "error.type" not in captured.call


def test_an_error_that_is_not_answered_before_the_next_request_was_about_the_first(
    endpoint: Serve, capture: Capture
) -> None:
    def script(socket: ServerConnection) -> None:
        greet(socket)
        told(socket, "response.create")
        tell(socket, "error", error={"type": "server_error", "code": None})
        told(socket, "response.create")
        begin(socket, "resp_1")
        end(socket, "resp_1", used(1, 2, 3, 4))

    captured = capture()
    with sync_client(endpoint(script)).realtime.connect(model=_MODEL) as connection:
        connection.response.create()
        read(connection, last="error")
        connection.response.create()
        read(connection)
    refused, done = captured.calls
    assert attributes(refused)["error.type"] == "server_error"
    assert "error.type" not in attributes(done)


def test_a_connection_that_breaks_ends_its_answers_with_the_error(
    endpoint: Serve, capture: Capture
) -> None:
    def script(socket: ServerConnection) -> None:
        greet(socket)
        told(socket, "response.create")
        begin(socket, "resp_1")
        socket.close(1011, "internal")

    captured = capture()
    with sync_client(endpoint(script)).realtime.connect(model=_MODEL) as connection:
        connection.response.create()
        with pytest.raises(ConnectionClosedError):
            read(connection)
    call = captured.call
    assert call["error.type"] == "ConnectionClosedError"
    assert call["costspan.error.code"] == "1011"
    assert call["costspan.stream.outcome"] == "failed"


def test_a_request_that_was_cut_off_may_have_been_billed(endpoint: Serve, capture: Capture) -> None:
    def script(socket: ServerConnection) -> None:
        told(socket, "response.create")
        socket.close(1011, "internal")

    captured = capture(priced_hosts=("127.0.0.1",))
    with sync_client(endpoint(script)).realtime.connect(model=_MODEL) as connection:
        connection.response.create()
        with pytest.raises(ConnectionClosedError):
            read(connection)
    assert captured.call["costspan.price.status"] == "missing_usage"
    assert "costspan.cost.usd" not in captured.call


def test_an_app_that_leaves_in_the_middle_closes_its_answers(
    endpoint: Serve, capture: Capture
) -> None:
    captured = capture()
    with sync_client(endpoint(spoken)).realtime.connect(model=_MODEL) as connection:
        connection.response.create()
        read(connection, last="response.created")
        socket = connection._connection
    assert captured.call["costspan.stream.outcome"] == "closed_early"
    assert "error.type" not in captured.call
    assert not {"recv", "send", "close"} & set(vars(socket))


def test_a_connection_that_is_dropped_ends_its_answers(endpoint: Serve, capture: Capture) -> None:
    left = threading.Event()

    def script(socket: ServerConnection) -> None:
        greet(socket)
        told(socket, "response.create")
        begin(socket, "resp_1")
        left.wait(10)

    captured = capture()

    def run() -> Any:
        connection = sync_client(endpoint(script)).realtime.connect(model=_MODEL).enter()
        connection.response.create()
        read(connection, last="response.created")
        return connection._connection

    socket = run()
    gc.collect()
    assert captured.call["costspan.stream.outcome"] == "abandoned"
    left.set()
    socket.close()


def test_a_connection_that_is_refused_is_a_failed_call(capture: Capture) -> None:
    captured = capture()
    with (
        pytest.raises(ConnectionRefusedError),
        sync_client("http://127.0.0.1:9/v1").realtime.connect(model=_MODEL),
    ):
        pass
    call = captured.call
    assert call["error.type"] == "ConnectionRefusedError"
    assert call["gen_ai.request.model"] == _MODEL
    assert "costspan.price.status" not in call


@_since_2
def test_a_responses_socket_gives_one_span_for_each_lane(endpoint: Serve, capture: Capture) -> None:
    def event(kind: str, lane: str, **more: Any) -> dict[str, Any]:
        response = {"object": "response", "id": f"resp_{lane}", "model": "gpt-4o-mini-2024-07-18"}
        return {"response": {**response, **more}, "stream_id": lane, "type": f"response.{kind}"}

    def script(socket: ServerConnection) -> None:
        for _ in range(3):
            told(socket, "response.create")
        events: list[dict[str, Any]] = [
            event("created", "a", status="in_progress"),
            event("created", "b", status="in_progress"),
            {"type": "response.output_text.delta", "delta": "x", "stream_id": "a"},
            {"type": "response.output_text.delta", "delta": "x", "stream_id": "a"},
            {"type": "response.output_text.delta", "delta": "x", "stream_id": "b"},
            {
                "type": "error",
                "stream_id": "c",
                "error": {"type": "rate_limit_error", "code": "rate_limit_exceeded"},
            },
            event("completed", "b", status="completed", usage=_responses_usage(1)),
            event("completed", "a", status="completed", usage=_responses_usage(2)),
        ]
        for one in events:
            socket.send(json.dumps(one))

    captured = capture(priced_hosts=("127.0.0.1",))
    with sync_client(endpoint(script)).responses.connect() as connection:
        for lane in "abc":
            connection.send(
                {
                    "type": "response.create",
                    "model": "gpt-4o-mini",
                    "input": "hi",
                    "stream_id": lane,
                }
            )
        read(connection, last="response.completed", times=2)
    calls = {call.get("gen_ai.response.id"): call for call in map(attributes, captured.calls)}
    assert calls["resp_a"]["gen_ai.usage.input_tokens"] == 2
    assert calls["resp_a"]["costspan.stream.chunks"] == 2
    assert calls["resp_a"]["gen_ai.request.model"] == "gpt-4o-mini"
    assert calls["resp_a"]["openai.api.type"] == "responses"
    assert calls["resp_a"]["costspan.price.status"] == "priced"
    assert calls["resp_b"]["gen_ai.usage.input_tokens"] == 1
    assert calls["resp_b"]["costspan.stream.chunks"] == 1
    assert calls[None]["error.type"] == "rate_limit_error"
    assert len(calls) == 3


def _responses_usage(tokens: int) -> dict[str, Any]:
    return {
        "input_tokens": tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 1,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": tokens + 1,
    }


@_since_3
def test_a_live_session_is_one_span_and_what_it_delegates_is_another(
    endpoint: Serve, capture: Capture
) -> None:
    session = {"id": "live_1", "model": "gpt-live-1", "status": "active", "expires_at": 1}
    response = {"object": "response", "id": "resp_1", "model": "gpt-4o-mini-2024-07-18"}

    def script(socket: ServerConnection) -> None:
        told(socket, "session.start")
        tell(socket, "session.started", session=session)
        tell(socket, "session.usage.updated", usage={"seconds": 30.5})
        for kind, more in (
            ("created", {"status": "in_progress"}),
            ("completed", {"status": "completed", "usage": _responses_usage(5)}),
        ):
            nested = {"type": f"response.{kind}", "response": {**response, **more}}
            tell(socket, "response.event", delegation_id="del_1", event=nested)
        tell(socket, "session.usage.updated", usage={"seconds": 60.25})
        told(socket, "session.close")
        ended = {"reason": "close_requested", "session": session, "usage": {"seconds": 61.5}}
        tell(socket, "session.closed", **ended)

    captured = capture(priced_hosts=("127.0.0.1",))
    with sync_client(endpoint(script)).live.connect() as connection:
        connection.send({"type": "session.start", "session": {"model": "gpt-live-1"}})
        connection.send({"type": "session.close"})
        read(connection, last="session.closed")
    delegated, whole = captured.calls
    assert delegated.name == "chat gpt-4o-mini-2024-07-18"
    assert attributes(delegated)["gen_ai.usage.input_tokens"] == 5
    assert whole.name == "live.sessions gpt-live-1"
    assert attributes(whole)["gen_ai.response.id"] == "live_1"
    assert attributes(whole)["gen_ai.response.finish_reasons"] == ("close_requested",)
    assert attributes(whole)["costspan.stream.outcome"] == "completed"
    assert attributes(whole)["costspan.cost.usd"] == "0.05125"


@_since_3
def test_a_live_session_that_is_refused_ends_with_the_error_and_costs_nothing(
    endpoint: Serve, capture: Capture
) -> None:
    def script(socket: ServerConnection) -> None:
        told(socket, "session.start")
        error = {"type": "invalid_request_error", "code": "unknown_parameter", "message": ""}
        tell(socket, "error", error={**error, "client_event_id": "first"})

    captured = capture(priced_hosts=("127.0.0.1",))
    live: Any = sync_client(endpoint(script)).live
    with live.connect() as connection:
        connection.send(
            {"type": "session.start", "event_id": "first", "session": {"model": "gpt-live-1"}}
        )
        read(connection, last="error")
    assert captured.call["error.type"] == "invalid_request_error"
    assert "costspan.price.status" not in captured.call


@_since_3
def test_a_session_that_is_joined_again_counts_its_seconds_once(
    endpoint: Serve, capture: Capture
) -> None:
    totals = iter([60.0, 90.0, 150.0])

    def script(socket: ServerConnection) -> None:
        tell(socket, "session.updated", session={"id": "live_7", "model": "gpt-live-1"})
        tell(socket, "session.usage.updated", usage={"seconds": next(totals)})

    captured = capture(priced_hosts=("127.0.0.1",))
    live: Any = sync_client(endpoint(script)).live
    with live.sideband.connect(session_id="live_7") as first:
        read(first, last="session.usage.updated")
        with live.sideband.connect(session_id="live_7") as watching_too:
            read(watching_too, last="session.usage.updated")
    assert len(captured.calls) == 1
    with live.sideband.connect(session_id="live_7") as later:
        read(later, last="session.usage.updated")
    costs = [attributes(span)["costspan.cost.usd"] for span in captured.calls]
    assert costs == ["0.05", "0.075"]


@_since_2
def test_an_answer_cut_by_a_reconnection_ends_and_the_next_one_is_seen(
    endpoint: Serve, capture: Capture
) -> None:
    connections = iter([1, 2])

    def script(socket: ServerConnection) -> None:
        greet(socket)
        if next(connections) == 1:
            told(socket, "response.create")
            begin(socket, "resp_1")
            socket.close(1012, "restart")
        else:
            begin(socket, "resp_2")
            end(socket, "resp_2", used(1, 2, 3, 4))

    captured = capture()
    with sync_client(endpoint(script)).realtime.connect(
        model=_MODEL, on_reconnecting=lambda _: None, initial_delay=0.01
    ) as connection:
        connection.response.create()
        read(connection)
    cut, whole = captured.calls
    assert attributes(cut)["costspan.error.code"] == "1012"
    assert attributes(whole)["gen_ai.response.id"] == "resp_2"
    assert attributes(whole)["gen_ai.usage.output_tokens"] == 7


@_since_3
def test_a_translation_is_one_span_that_ends_with_its_session(
    endpoint: Serve, capture: Capture
) -> None:
    def script(socket: ServerConnection) -> None:
        session = {"id": "sess_1", "type": "translation", "model": "gpt-realtime-translate"}
        tell(socket, "session.created", session=session)
        tell(socket, "session.output_audio.delta", delta=_AUDIO)
        told(socket, "session.close")
        tell(socket, "session.closed")

    captured = capture()
    client = sync_client(endpoint(script))
    with client.realtime.translations.connect(model="gpt-realtime-translate") as connection:
        connection.session.close()
        read(connection, last="session.closed")
    (span,) = captured.calls
    assert span.name == "realtime.translations gpt-realtime-translate"
    assert attributes(span)["costspan.stream.outcome"] == "completed"


@_since_3
def test_the_helpers_of_the_sdk_are_seen_too(endpoint: Serve, capture: Capture) -> None:
    from openai.lib.realtime_translation import TranslationSession

    def script(socket: ServerConnection) -> None:
        told(socket, "session.close")
        tell(socket, "session.closed")

    captured = capture()
    client = sync_client(endpoint(script))
    with TranslationSession(
        client.realtime.translations, model="gpt-realtime-translate"
    ) as connection:
        connection.send({"type": "session.close"})
        assert connection.recv(timeout=10).type == "session.closed"
    (span,) = captured.calls
    assert span.name == "realtime.translations gpt-realtime-translate"
    assert attributes(span)["costspan.stream.outcome"] == "completed"


def test_an_async_connection_that_breaks_is_refused_or_is_dropped_ends_its_calls(
    endpoint: Serve, capture: Capture
) -> None:
    def script(socket: ServerConnection) -> None:
        greet(socket)
        asked = told(socket, "response.create")
        begin(socket, "resp_1")
        if asked.get("event_id") == "break":
            socket.close(1011, "internal")
        else:
            with suppress(ConnectionClosed):
                socket.recv()

    captured = capture()
    url = endpoint(script)

    async def run() -> None:
        client = async_client(url)

        async def ask(event_id: str) -> Any:
            connection = await client.realtime.connect(model=_MODEL).enter()
            await connection.response.create(event_id=event_id)
            while (await connection.recv()).type != "response.created":
                pass
            return connection

        broken = await ask("break")
        with pytest.raises(ConnectionClosedError):
            await broken.recv()
        waiting = await ask("wait")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(waiting.recv(), 0.01)
        assert len(captured.calls) == 1
        await waiting.close()
        dropped = await ask("drop")
        socket = dropped._connection
        del dropped
        gc.collect()
        assert len(captured.calls) == 3
        await socket.close()
        with pytest.raises(OSError, match="Connect call failed"):
            await async_client("http://127.0.0.1:9/v1").realtime.connect(model=_MODEL).enter()

    asyncio.run(run())
    outcomes = [attributes(span).get("costspan.stream.outcome") for span in captured.calls]
    assert outcomes == ["failed", "closed_early", "abandoned", None]
    assert attributes(captured.calls[-1])["error.type"] == "ConnectionRefusedError"


def test_hooks_keep_the_shape_of_what_they_replace(capture: Capture) -> None:
    from openai.resources.realtime.realtime import (
        AsyncRealtimeConnectionManager,
        RealtimeConnectionManager,
    )

    def shapes() -> list[tuple[Any, ...]]:
        return [
            (name, inspect.signature(method), inspect.iscoroutinefunction(method), method.__doc__)
            for cls in (RealtimeConnectionManager, AsyncRealtimeConnectionManager)
            for name, method in inspect.getmembers(cls, inspect.isfunction)
        ]

    bare = shapes()
    captured = capture()
    assert hasattr(RealtimeConnectionManager.enter, "__wrapped__")
    assert shapes() == bare
    captured.installation.uninstall()
    assert not hasattr(RealtimeConnectionManager.enter, "__wrapped__")


def test_a_double_of_a_socket_is_left_alone(
    capture: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    double = MagicMock()
    monkeypatch.setattr("websockets.sync.client.connect", MagicMock(return_value=double))
    capture()
    with sync_client("http://127.0.0.1:9/v1").realtime.connect(model=_MODEL) as connection:
        connection.response.create()
    double.send.assert_called_once()
    double.close.assert_called_once()


def test_a_fault_of_ours_is_counted_and_the_app_goes_on(endpoint: Serve, capture: Capture) -> None:
    def script(socket: ServerConnection) -> None:
        greet(socket)
        tell(socket, "response.done", response={"id": ["x"], "usage": {"input_tokens": "many"}})
        tell(socket, "response.created", response="none")
        tell(socket, "rate_limits.updated", rate_limits=[{"name": [], "limit": -1}])
        socket.send(b'{"type": "response.done", "response": ')
        told(socket, "response.create")
        end(socket, "resp_1", used(1, 2, 3, 4))

    captured = capture()
    before = counters().get("socket_unread", 0)
    with sync_client(endpoint(script)).realtime.connect(model=_MODEL) as connection:
        for _ in range(4):
            connection.recv()
        assert connection.recv_bytes().startswith(b'{"type"')
        connection.response.create()
        read(connection)
    assert counters()["socket_unread"] - before == 1
    assert captured.calls


def test_what_is_open_on_a_connection_is_bounded(endpoint: Serve, capture: Capture) -> None:
    def script(socket: ServerConnection) -> None:
        greet(socket)
        for number in range(300):
            begin(socket, f"resp_{number}")
        end(socket, "resp_299", used(1, 2, 3, 4))

    captured = capture()
    with sync_client(endpoint(script)).realtime.connect(model=_MODEL) as connection:
        read(connection)
        assert len(captured.calls) == 300 - 256 + 1
    assert len(captured.calls) == 300


def test_nothing_is_recorded_once_capture_is_off(endpoint: Serve, capture: Capture) -> None:
    captured = capture()
    with sync_client(endpoint(spoken)).realtime.connect(model=_MODEL) as connection:
        captured.installation.uninstall()
        connection.response.create()
        assert read(connection)[-1].type == "response.done"
    assert captured._exporter.get_finished_spans() == ()
