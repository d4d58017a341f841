"""The texts of a call: what tokens are counted of where no usage was reported.

They are bounded, and never leave the process.

The tokens of a message beside its text are those of recorded traffic (tests/unit/test_estimate.py).
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

from costspan.capture.answer import mapping

_MOST_CHARACTERS: Final = 2**20
_TEXT_CHARACTERS: Final = 16
"""What a text counts at least, so that a million empty ones have an end too."""
_MOST_NUMBER: Final = 10**9

_CONVERSATION_TOKENS: Final = 3
_CONVERSATION_TOKENS_GPT5: Final = 2
_MESSAGE_TOKENS: Final = 3
_NAME_TOKENS: Final = 1
_DEFAULT_COMPLETION_TOKENS: Final = 16
"""`max_tokens` of the older completions, where the request names none."""

_GPT5 = re.compile(r"(?:ft:)?gpt-[5-9]")
_NOT_REASONING = re.compile(r"(?:ft:)?(?:gpt-[34]|chatgpt|.*-chat)")
_ADDS = {
    "tools": "tools",
    "functions": "tools",
    "web_search_options": "tools",
    "previous_response_id": "history",
    "conversation": "history",
    "prediction": "prediction",
    "audio": "audio",
}
"""What a field of a request adds that no text shows."""
_PART_ADDS = {
    "image_url": "images",
    "input_image": "images",
    "input_audio": "audio",
    "file": "files",
    "input_file": "files",
}
_TEXT_DELTAS = frozenset(
    {
        "response.output_text.delta",
        "response.refusal.delta",
        "response.function_call_arguments.delta",
        "response.custom_tool_call_input.delta",
    }
)


class _Room:
    """The characters that are left for one side of a call."""

    def __init__(self) -> None:
        self._left = _MOST_CHARACTERS

    @property
    def full(self) -> bool:
        return self._left < 0

    def takes(self, text: str) -> bool:
        self._left -= max(len(text), _TEXT_CHARACTERS)
        return not self.full


class Answered:
    """The output that was seen, in a body or in the events of a stream."""

    def __init__(self) -> None:
        self._pieces: dict[object, list[str]] = {}
        self._room = _Room()

    def keep(self, event: Mapping[str, Any]) -> None:
        """Take in a body, or one event."""
        if event.get("type") in _TEXT_DELTAS:
            self._add(event.get("output_index"), event.get("delta"))
        for choice in _objects(event.get("choices")):
            index = choice.get("index")
            told = mapping(choice.get("delta")) or mapping(choice.get("message")) or choice
            for name in ("content", "refusal", "text"):
                self._add(index, told.get(name))
            for call in _called(told):
                for name in ("name", "arguments", "input"):
                    self._add((index, call.get("index")), _function(call).get(name))
        for index, item in enumerate(_objects(event.get("output"))):
            self._add(index, item.get("arguments", item.get("input")))
            for part in _objects(item.get("content")):
                self._add(index, part.get("text", part.get("refusal")))

    @property
    def cut(self) -> bool:
        """Whether a part of it was not kept."""
        return self._room.full

    def texts(self) -> tuple[str, ...]:
        """Return what was written, by what it is a part of."""
        return tuple("".join(pieces) for pieces in self._pieces.values())

    def _add(self, index: object, text: object) -> None:
        if isinstance(text, str) and text and self._room.takes(text):
            self._pieces.setdefault(index, []).append(text)


class Asked:
    """The input of a request, the bound it sets to the output, and what no text shows."""

    def __init__(self, body: Mapping[str, Any], api_type: str, model: str) -> None:
        self.texts: list[str] = []
        self.tokens = 0
        """What is known without counting: the frame of each message, texts sent as tokens."""
        self.choices = 1
        """How many answers were asked for."""
        self.most_tokens: int | None = None
        """The longest output that the request allows, None if it names no bound."""
        self._room = _Room()
        self._unseen = {adds: None for name, adds in _ADDS.items() if body.get(name)}
        if api_type == "embeddings":
            self.choices = self.most_tokens = 0
            self._plain(body.get("input"))
        elif api_type == "completions":
            prompts = self._plain(body.get("prompt"))
            answers = _number(body.get("n")) or 1
            self.choices = answers * prompts
            tried = max(answers, _number(body.get("best_of")) or 1) * prompts
            self.most_tokens = (
                _number(body.get("max_tokens")) or _DEFAULT_COMPLETION_TOKENS
            ) * tried
        else:
            self._conversation(body, model)
            if _reasons(body, model):
                self._unseen["reasoning"] = None

    @property
    def unseen(self) -> list[str]:
        """What is not counted."""
        return [*self._unseen, *(["length"] if self._room.full else [])]

    def _conversation(self, body: Mapping[str, Any], model: str) -> None:
        for format in (
            body.get("response_format"),
            (mapping(body.get("text")) or {}).get("format"),
        ):
            if (mapping(format) or {}).get("type") == "json_schema":
                self._unseen["schemas"] = None
        if body.get("prompt"):
            self._unseen["prompt"] = None  # which OpenAI keeps
        messages = body.get("messages", body.get("input"))
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        if instructions := body.get("instructions"):
            self._message({"role": "system", "content": instructions})
        for message in _objects(messages):
            self._message(message)
        if self.tokens:
            newer = _GPT5.match(model) is not None
            self.tokens += _CONVERSATION_TOKENS_GPT5 if newer else _CONVERSATION_TOKENS
        self.choices = _number(body.get("n")) or 1
        for name in ("max_completion_tokens", "max_output_tokens", "max_tokens"):
            if most := _number(body.get(name)):
                self.most_tokens = most * self.choices
                return

    def _message(self, message: Mapping[str, Any]) -> None:
        kind = message.get("type", "message")
        if kind in ("reasoning", "item_reference"):
            self._unseen["history"] = None
            return
        self.tokens += _MESSAGE_TOKENS
        self._add(message.get("role"))
        self._content(message.get("content"))
        self._add(message.get("refusal"))
        if isinstance(message.get("name"), str) and kind == "message":
            self.tokens += _NAME_TOKENS
            self._add(message["name"])
        calls = _called(message)
        if calls or kind != "message" or message.get("role") in ("tool", "function"):
            self._unseen["tools"] = None
        for call in calls if kind == "message" else [message]:
            for name in ("name", "arguments", "input"):
                self._add(_function(call).get(name))
            self._content(call.get("output"))

    def _content(self, content: object) -> None:
        self._add(content)
        for part in _objects(content):
            if adds := _PART_ADDS.get(str(part.get("type"))):
                self._unseen[adds] = None
            self._add(part.get("text", part.get("refusal")))

    def _plain(self, given: object) -> int:
        """Take in texts, or tokens, of which there may be one or several; return how many."""
        several = cast("list[object]", given if isinstance(given, list) else [given])
        if several and isinstance(several[0], int):
            several = cast("list[object]", [several])
        for one in several:
            if isinstance(one, list):
                self.tokens += len(cast("list[object]", one))
            else:
                self._add(one)
        return len(several)

    def _add(self, text: object) -> None:
        if isinstance(text, str) and self._room.takes(text):
            self.texts.append(text)


def _reasons(body: Mapping[str, Any], model: str) -> bool:
    """Return whether a model may think before it writes; one that nobody knows may."""
    effort = body.get("reasoning_effort", (mapping(body.get("reasoning")) or {}).get("effort"))
    return effort != "none" and _NOT_REASONING.match(model) is None


def _called(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    older = mapping(message.get("function_call"))
    return _objects(message.get("tool_calls")) + ([older] if older else [])


def _function(call: Mapping[str, Any]) -> Mapping[str, Any]:
    return mapping(call.get("function")) or mapping(call.get("custom")) or call


def _objects(value: object) -> list[Mapping[str, Any]]:
    if not isinstance(value, list):
        return []
    return [found for item in cast("Iterable[object]", value) if (found := mapping(item))]


def _number(value: object) -> int | None:
    return value if type(value) is int and 0 < value <= _MOST_NUMBER else None
