"""Content is kept only as text, redacted whole, then cut, in OpenTelemetry's shape."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from costspan.content import Gathered, content_attributes
from costspan.counters import counters

IN, OUT = "gen_ai.input.messages", "gen_ai.output.messages"
ANSWER = {"choices": [{"message": {"role": "assistant", "content": "4"}, "finish_reason": "stop"}]}


def content(request: Any, response: Any = None, limit: int = 1000, redact: Any = None) -> Any:
    found = content_attributes(request, response, limit, redact)
    return {
        name: json.loads(value) if isinstance(value, str) else value
        for name, value in found.items()
    }


def test_a_chat_with_a_tool_keeps_the_shape_of_the_conventions() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": "[2,2]"}}
    request = {
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "2+2?"}]},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": "4"},
        ]
    }
    called = {"type": "tool_call", "id": "call_1", "name": "add", "arguments": "[2,2]"}
    assert content(request, ANSWER) == {
        IN: [
            {"role": "system", "parts": [{"type": "text", "content": "be brief"}]},
            {"role": "user", "parts": [{"type": "text", "content": "2+2?"}]},
            {"role": "assistant", "parts": [called]},
            {
                "role": "tool",
                "parts": [{"type": "tool_call_response", "id": "call_1", "response": "4"}],
            },
        ],
        OUT: [
            {
                "role": "assistant",
                "parts": [{"type": "text", "content": "4"}],
                "finish_reason": "stop",
            }
        ],
    }


def test_a_response_keeps_instructions_input_items_and_output() -> None:
    request = {
        "instructions": "be brief",
        "input": [
            {"role": "user", "content": "2+2?"},
            {"type": "function_call", "call_id": "c", "name": "add", "arguments": "[2,2]"},
            {"type": "function_call_output", "call_id": "c", "output": "4"},
        ],
    }
    answer = {
        "status": "completed",
        "output": [
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "sum"}]},
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "4"}],
            },
        ],
    }
    found = content(request, answer)
    assert found["gen_ai.system_instructions"] == [{"type": "text", "content": "be brief"}]
    assert [message["role"] for message in found[IN]] == ["user", "assistant", "tool"]
    assert found[OUT] == [
        {
            "role": "assistant",
            "parts": [{"type": "reasoning", "content": "sum"}, {"type": "text", "content": "4"}],
            "finish_reason": "completed",
        }
    ]
    assert content({"input": "hi"})[IN] == [
        {"role": "user", "parts": [{"type": "text", "content": "hi"}]}
    ]


def test_an_image_leaves_its_type_and_nothing_else() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    found = content({"messages": [{"role": "user", "content": [image]}]})
    assert found[IN] == [{"role": "user", "parts": [{"type": "image_url"}]}]


def test_a_text_is_redacted_before_it_is_cut() -> None:
    seen: list[str] = []

    def redact(text: str) -> str:
        seen.append(text)
        return text.replace("card 4111-1111", "card ****")

    found = content({"input": "card 4111-1111 " + "x" * 100}, limit=72, redact=redact)
    (part,) = found[IN][0]["parts"]
    assert part["content"].startswith("card **** xxx")
    assert found["costspan.content.cut"] is True
    assert seen == ["card 4111-1111 " + "x" * 100]


def test_what_is_kept_is_bounded_however_many_messages_there_are() -> None:
    many = [{"role": "user", "content": "long " * 50}] * 10_000
    found = content_attributes({"messages": many}, None, 1000)
    assert len(str(found[IN])) < 3000
    assert found["costspan.content.cut"] is True
    empty = content_attributes({"messages": [{"role": "user", "content": ""}] * 10_000}, None, 1000)
    assert len(str(empty[IN])) < 5000


def test_where_redact_raises_nothing_is_kept_and_that_is_counted() -> None:
    def broken(_: str) -> str:
        raise ValueError

    before = counters().get("content_dropped", 0)
    assert content_attributes({"input": "a secret"}, ANSWER, 1000, broken) == {}
    assert counters()["content_dropped"] == before + 1


@pytest.mark.parametrize(
    "hostile",
    [None, 7, "x", [], [None], [{"content": 7}], [{"content": [None, 3]}], [{"tool_calls": "x"}]],
)
def test_a_body_of_the_wrong_shape_stops_nothing(hostile: Any) -> None:
    before = counters().get("content_dropped", 0)
    content({"messages": hostile}, {"choices": hostile})
    content({"input": hostile}, {"output": hostile})
    assert counters().get("content_dropped", 0) == before


def test_text_that_cannot_be_encoded_is_still_text() -> None:
    found = content_attributes({"input": "half \ud83d of a pair"}, None, 1000)
    str(found[IN]).encode()


def test_a_streamed_chat_is_put_together_again() -> None:
    def event(finish: str | None = None, **delta: Any) -> dict[str, Any]:
        return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    def call(**function: Any) -> list[dict[str, Any]]:
        return [{"index": 0, "id": "c" if "name" in function else None, "function": function}]

    gathered = Gathered()
    events: list[dict[str, Any]] = [
        event(role="assistant", content="fo"),
        event(content="ur"),
        event(tool_calls=call(name="add", arguments="[2")),
        event(tool_calls=call(arguments=",2]")),
        event(finish="tool_calls"),
        {"choices": [], "usage": {"prompt_tokens": 1}},
    ]
    for each in events:
        gathered.gather(each)
    (message,) = content({}, gathered.body())[OUT]
    assert message == {
        "role": "assistant",
        "parts": [
            {"type": "text", "content": "four"},
            {"type": "tool_call", "id": "c", "name": "add", "arguments": "[2,2]"},
        ],
        "finish_reason": "tool_calls",
    }


def test_a_streamed_response_is_its_last_event_or_what_came_until_it_broke() -> None:
    part = {"type": "output_text", "text": "four"}
    full = {"status": "completed", "output": [{"type": "message", "content": [part]}]}
    broken, whole = Gathered(), Gathered()
    for gathered in (broken, whole):
        gathered.gather({"type": "response.created", "response": {"output": []}})
        gathered.gather({"type": "response.output_text.delta", "delta": "fo"})
    whole.gather({"type": "response.completed", "response": full})
    assert content({}, whole.body())[OUT][0]["parts"] == [{"type": "text", "content": "four"}]
    assert content({}, broken.body())[OUT][0]["parts"] == [{"type": "text", "content": "fo"}]


def test_a_stream_too_long_to_redact_whole_is_not_kept() -> None:
    before = counters().get("content_too_large", 0)
    gathered = Gathered()
    for _ in range(3):
        gathered.gather({"choices": [{"index": 0, "delta": {"content": "x" * 2**19}}]})
    assert gathered.body() is None
    assert counters()["content_too_large"] == before + 1


def test_a_name_is_redacted_wherever_it_is_written() -> None:
    told = [{"type": "text", "text": "Zoë called"}]
    request = {"messages": [{"role": "tool", "tool_call_id": "c", "content": told}]}
    hide: Callable[[str], str] = lambda text: text.replace("Zoë", "***")  # noqa: E731
    (message,) = content(request, redact=hide)[IN]
    assert "*** called" in message["parts"][0]["response"]


@pytest.mark.parametrize(
    "body",
    [
        ANSWER,
        {"output": [{"type": "message", "content": [{"type": "output_text", "text": "4"}]}]},
    ],
)
def test_an_answer_in_one_piece_is_gathered_too(body: dict[str, Any]) -> None:
    gathered = Gathered()
    gathered.gather(body)
    (message,) = content({}, gathered.body())[OUT]
    assert message["parts"] == [{"type": "text", "content": "4"}]
