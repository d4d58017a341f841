"""What was asked and answered, for an app that wants it kept: bounded, redacted, text only.

The JSON is OpenTelemetry's for `gen_ai.input.messages`: messages of parts. Images, audio and files
keep their type and nothing else.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, cast

from costspan import semconv
from costspan.counters import count

Redact = Callable[[str], str]

_MOST_GATHERED: Final = 2**20
_PART_CHARACTERS: Final = 16
"""What a part counts at least, so that a million empty ones have an end too."""
_NAME_CHARACTERS: Final = 256
_TEXT: Final = frozenset({"text", "input_text", "output_text", "summary_text", "refusal"})
_CALLS: Final = frozenset({"function_call", "custom_tool_call"})


def content_attributes(
    request_body: Mapping[str, Any],
    response_body: Mapping[str, Any] | None,
    limit: int,
    redact: Redact | None = None,
) -> dict[str, str | bool]:
    """Return the content of a chat or responses call as span attributes.

    Each text goes through `redact` whole and is cut after; `limit` characters are kept of what
    goes in, and as many of what comes out. Where `redact` raises nothing is kept at all.
    """
    try:
        return _attributes(request_body, response_body or {}, limit, redact)
    except Exception as error:  # noqa: BLE001
        count("content_dropped", error)
        return {}


def _attributes(
    request: Mapping[str, Any], response: Mapping[str, Any], limit: int, redact: Redact | None
) -> dict[str, str | bool]:
    asked, told = _Room(limit, redact), _Room(limit, redact)
    found = {
        semconv.SYSTEM_INSTRUCTIONS: asked.parts(request.get("instructions")),
        semconv.INPUT_MESSAGES: asked.messages(request.get("messages", request.get("input"))),
        semconv.OUTPUT_MESSAGES: told.choices(_list(response.get("choices")))
        or told.answer(response),
    }
    attributes: dict[str, str | bool] = {
        name: json.dumps(value, ensure_ascii=False).encode(errors="replace").decode()
        for name, value in found.items()
        if value
    }
    if asked.cut or told.cut:
        attributes[semconv.CONTENT_CUT] = True
    return attributes


class _Room:
    """The characters that are left for one side of a call."""

    def __init__(self, limit: int, redact: Redact | None) -> None:
        self._left = limit
        self._redact = redact
        self.cut = False

    def messages(self, value: object) -> list[dict[str, Any]]:
        """Return what was asked: a text, chat messages or the items of a response."""
        if isinstance(value, str):
            value = [{"role": "user", "content": value}]
        return [self._message(_object(item)) for item in self._fitting(_list(value))]

    def choices(self, choices: list[object]) -> list[dict[str, Any]]:
        """Return the choices of a chat completion."""
        return [
            self._message(_object(choice.get("message")), choice.get("finish_reason"))
            for choice in map(_object, self._fitting(choices))
        ]

    def answer(self, response: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the output of a response: one message, whatever it took to make it."""
        incomplete = _object(response.get("incomplete_details")).get("reason")
        items = self._fitting(_list(response.get("output")))
        parts = [part for item in items for part in self._message(_object(item))["parts"]]
        finish = incomplete or response.get("status")
        return [_message("assistant", parts, finish)] if parts else []

    def parts(self, content: object) -> list[dict[str, Any]]:
        """Return a content, which is a text or a list of parts."""
        if isinstance(content, str):
            content = [{"type": "text", "text": content}]
        return [self._part(_object(item)) for item in self._fitting(_list(content))]

    def _message(self, item: Mapping[str, Any], finish_reason: object = None) -> dict[str, Any]:
        kind = _name(item.get("type")) or "message"
        if kind in _CALLS:
            arguments = item.get("arguments", item.get("input"))
            called = self._called(item.get("call_id"), item.get("name"), arguments)
            return _message("assistant", [called])
        if kind.endswith("_call_output") or item.get("role") == "tool":
            identity = item.get("call_id", item.get("tool_call_id"))
            answer = self._text(_plain(item.get("output", item.get("content"))))
            part = {"type": "tool_call_response", "id": _name(identity), "response": answer}
            return _message("tool", [part])
        if kind == "reasoning":
            return _message("assistant", self.parts(item.get("summary")))
        if kind != "message":
            return _message("assistant", [{"type": kind}])
        parts = self.parts(item.get("content"))
        if isinstance(item.get("refusal"), str):
            parts.append(self._part({"type": "refusal", "refusal": item["refusal"]}))
        for call in map(_object, self._fitting(_list(item.get("tool_calls")))):
            function = _object(call.get("function") or call.get("custom"))
            arguments = function.get("arguments", function.get("input"))
            parts.append(self._called(call.get("id"), function.get("name"), arguments))
        return _message(item.get("role"), parts, finish_reason)

    def _part(self, part: Mapping[str, Any]) -> dict[str, Any]:
        kind = _name(part.get("type")) or "text"
        if kind not in _TEXT:
            return {"type": kind}
        text = self._text(_plain(part.get("text", part.get("refusal"))))
        return {"type": "reasoning" if kind == "summary_text" else "text", "content": text}

    def _called(self, identity: object, name: object, arguments: object) -> dict[str, Any]:
        return {
            "type": "tool_call",
            "id": _name(identity),
            "name": _name(name),
            "arguments": self._text(_plain(arguments)),
        }

    def _text(self, text: str) -> str:
        if self._redact is not None:
            text = str(self._redact(text))
        kept = text[: max(self._left, 0)]
        self.cut = self.cut or len(kept) < len(text)
        self._left -= len(kept)
        return kept

    def _fitting(self, items: list[object]) -> Iterable[object]:
        for item in items:
            if self._left <= 0:
                self.cut = True
                return
            self._left -= _PART_CHARACTERS
            yield item


class Gathered:
    """The body of an answer, put together from the events of its stream."""

    def __init__(self) -> None:
        self._choices: dict[int, dict[str, Any]] = {}
        self._deltas: list[str] = []
        self._final: Mapping[str, Any] | None = None
        self._room = _MOST_GATHERED

    def gather(self, event: object) -> None:
        """Take in one event, as a dict."""
        told = _object(event)
        final = _object(told.get("response")) or told
        choices = [_object(choice) for choice in _list(told.get("choices"))]
        if final.get("output") or any("message" in choice for choice in choices):
            self._final = final
        elif told.get("type") == "response.output_text.delta":
            self._deltas.append(self._kept(told.get("delta")))
        for choice in choices:
            self._add(choice)

    def body(self) -> Mapping[str, Any] | None:
        """Return what a call without streaming would have answered, None if it was too long."""
        if self._room < 0:
            count("content_too_large")
            return None
        if self._final is not None:
            return self._final
        if self._deltas:
            part = {"type": "output_text", "text": "".join(self._deltas)}
            return {"output": [{"type": "message", "role": "assistant", "content": [part]}]}
        return {"choices": [_joined(self._choices[index]) for index in sorted(self._choices)]}

    def _add(self, choice: Mapping[str, Any]) -> None:
        index = choice.get("index")
        known = self._choices.setdefault(
            index if isinstance(index, int) else 0,
            {"content": [], "refusal": [], "calls": {}, "finish_reason": None},
        )
        known["finish_reason"] = choice.get("finish_reason") or known["finish_reason"]
        delta = _object(choice.get("delta"))
        for name in ("content", "refusal"):
            if isinstance(delta.get(name), str):
                known[name].append(self._kept(delta[name]))
        for call in map(_object, _list(delta.get("tool_calls"))):
            function = _object(call.get("function"))
            begun = known["calls"].setdefault(
                call.get("index"), {"id": None, "name": None, "arguments": []}
            )
            begun["id"] = call.get("id") or begun["id"]
            begun["name"] = function.get("name") or begun["name"]
            begun["arguments"].append(self._kept(function.get("arguments")))

    def _kept(self, text: object) -> str:
        """Return a piece of text; half a secret is not redacted, so it is all of it or nothing."""
        if not isinstance(text, str):
            return ""
        self._room -= len(text)
        return text if self._room >= 0 else ""


def _joined(choice: Mapping[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "".join(choice["content"]) or None,
        "refusal": "".join(choice["refusal"]) or None,
        "tool_calls": [
            {
                "id": call["id"],
                "function": {"name": call["name"], "arguments": "".join(call["arguments"])},
            }
            for call in choice["calls"].values()
        ],
    }
    return {"message": message, "finish_reason": choice["finish_reason"]}


def _message(
    role: object, parts: list[dict[str, Any]], finish_reason: object = None
) -> dict[str, Any]:
    message = {"role": _name(role) or "user", "parts": parts}
    finish = _name(finish_reason)
    return message if finish is None else {**message, "finish_reason": finish}


def _name(value: object) -> str | None:
    return value[:_NAME_CHARACTERS] if isinstance(value, str) and value else None


def _object(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def _list(value: object) -> list[object]:
    return list(cast("Iterable[object]", value)) if isinstance(value, list | tuple) else []


def _plain(value: object) -> str:
    """Return a text as it is and anything else as JSON."""
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, default=str, ensure_ascii=False)
