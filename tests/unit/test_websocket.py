"""Whatever a server sends, in whatever order: each span that begins ends, once."""

import json
from contextlib import suppress
from typing import Any, cast

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider

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
from costspan.export import Destination
from costspan.settings import Settings

_ODD: st.SearchStrategy[Any] = st.sampled_from([None, 0, -1, 1e400, "x", [], {}, [{}], "é\ud800"])
_NAMES = st.sampled_from(["a", "b"])
_SESSION = st.fixed_dictionaries(
    {},
    optional={
        "id": _NAMES | _ODD,
        "model": st.just("gpt-live-1") | _ODD,
        "audio": st.just({"input": {"transcription": {"model": "whisper-1"}}}) | _ODD,
    },
)
_USAGE = st.fixed_dictionaries({"input_tokens": _ODD | st.just(3), "output_tokens": _ODD}) | (
    st.fixed_dictionaries({"seconds": st.floats() | _ODD})
)
_RESPONSE = st.fixed_dictionaries(
    {},
    optional={
        "id": _NAMES | _ODD,
        "status": st.sampled_from(["completed", "failed"]) | _ODD,
        "status_details": _ODD,
        "usage": _USAGE | _ODD,
    },
)
_EVENT = st.fixed_dictionaries(
    {
        "type": st.sampled_from(
            [
                "response.created",
                "response.done",
                "response.completed",
                "response.output_audio.delta",
                "response.event",
                "decision.event",
                "session.created",
                "session.usage.updated",
                "session.closed",
                "input_audio_buffer.committed",
                "conversation.item.input_audio_transcription.completed",
                "conversation.item.input_audio_transcription.failed",
                "rate_limits.updated",
                "error",
            ]
        )
    },
    optional={
        "response": _RESPONSE | _ODD,
        "response_id": _NAMES,
        "session": _SESSION | _ODD,
        "usage": _USAGE | _ODD,
        "item_id": _NAMES | _ODD,
        "stream_id": _NAMES | _ODD,
        "rate_limits": _ODD,
        "event": st.fixed_dictionaries({"type": st.just("response.created")}) | _ODD,
        "error": st.fixed_dictionaries({"type": _ODD, "code": _ODD, "event_id": _ODD}) | _ODD,
    },
)
_ASK = st.sampled_from(
    [
        '{"type": "response.create", "stream_id": "a"}',
        '{"type": "response.create", "response": []}',
        '{"event_id": "x", "type": "response.create"}',
        '{"type": "session.start", "session": {"model": "gpt-live-1"}}',
        '["response.create"]',
    ]
)


CLIENT = openai.OpenAI(api_key="sk-test", base_url="http://127.0.0.1:9/v1")


class _Ledger(SpanProcessor):
    """The spans that began and the spans that ended."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.ended: list[int] = []

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:  # noqa: ARG002
        self.begun.append(span.get_span_context().span_id)

    def on_end(self, span: ReadableSpan) -> None:
        self.ended.append(cast("Any", span).get_span_context().span_id)


@pytest.mark.parametrize("api", [REALTIME, RESPONSES, LIVE, TRANSLATIONS])
@settings(max_examples=40, deadline=None)
@given(steps=st.lists(_EVENT | _ASK, max_size=12), broken=st.booleans())
def test_every_span_that_begins_ends_once(
    api: Api, steps: list[dict[str, Any] | str], broken: bool
) -> None:
    ledger = _Ledger()
    provider = TracerProvider()
    provider.add_span_processor(ledger)
    starter = Starter(Settings(), Destination(tracer_provider=provider))
    conversation = Conversation(starter, lambda: True, Sessions(), CLIENT, api)
    conversation.connected("/v1/live/sessions/a/attach", "", {})
    for step in steps:
        # What is raised here is counted where the socket is watched.
        with suppress(AttributeError, TypeError, ValueError, ArithmeticError):
            if isinstance(step, str):
                conversation.sending(step)
            else:
                conversation.received(json.dumps(step).encode())
    conversation.lost(ConnectionResetError() if broken else None)
    assert sorted(ledger.begun) == sorted(ledger.ended)
