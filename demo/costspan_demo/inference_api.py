"""OpenAI's inference endpoints: chat completions, responses and embeddings, plain and streamed.

Answers are words from a seed; what is exact is around them: usage, headers, errors, and the
order of a stream's events. Every request that is answered leaves an entry in the ledger.
"""

import asyncio
import base64
import hashlib
import json
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from random import Random
from typing import Any, cast

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from costspan_demo.ledger import Entry, Ledger
from costspan_demo.organization import REASONING, SERVED_AS, Key
from costspan_demo.refusal import Refusal
from costspan_demo.traffic import RATE_LIMITED, SERVER_ERROR, Failure

Json = dict[str, Any]

_WAIT_SECONDS = 0.02
_TOKEN_SECONDS = 0.002
_CACHEABLE_TOKENS = 1024
_CACHE_STEP = 128
_CHARACTERS_PER_TOKEN = 4
_DIMENSIONS = 1536
_REQUESTS_PER_MINUTE, _TOKENS_PER_MINUTE = 10_000, 2_000_000

# Of 1000 request bodies: refused on every attempt, and refused on the first attempt only.
_ALWAYS_LIMITED, _LIMITED_ONCE, _FAILED_ONCE = 15, 40, 40

_WORDS = [
    "the",
    "order",
    "was",
    "shipped",
    "on",
    "monday",
    "and",
    "you",
    "can",
    "follow",
    "it",
    "in",
    "your",
    "account",
    "under",
    "deliveries",
    "if",
    "it",
    "has",
    "not",
    "arrived",
    "by",
    "friday",
    "please",
    "answer",
    "this",
    "message",
    "so",
    "that",
    "we",
    "send",
    "another",
    "one",
]


@dataclass(frozen=True, slots=True)
class _Work:
    """What one accepted request uses and says."""

    entry: Entry
    words: tuple[str, ...]
    """One a token; the reasoning tokens are not among them."""
    created: int
    id: str

    @property
    def text(self) -> str:
        return "".join(self.words)


class Inference:
    """Answers for an organization and charges its ledger."""

    def __init__(self, ledger: Ledger, now: Callable[[], datetime], seed: int) -> None:
        self._ledger = ledger
        self._now = now
        self._seed = seed
        self._keys = {key.secret: key for key in ledger.organization.keys}
        self._prefixes: set[tuple[str, str, str]] = set()
        self._served = 0

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v1/chat/completions", self._chat, methods=["POST"]),
            Route("/v1/responses", self._responses, methods=["POST"]),
            Route("/v1/embeddings", self._embeddings, methods=["POST"]),
        ]

    # One endpoint each.

    async def _chat(self, request: Request) -> Response:
        body, work, headers = await self._accept(request, "messages")
        if not body.get("stream"):
            await self._charge_after(work)
            return JSONResponse(_completion(work), headers=headers)
        options: Json = body.get("stream_options") or {}
        chunks = _chat_chunks(work, with_usage=options.get("include_usage") is True)
        return self._stream(work, chunks, headers)

    async def _responses(self, request: Request) -> Response:
        body, work, headers = await self._accept(request, "input")
        if not body.get("stream"):
            await self._charge_after(work)
            return JSONResponse(_response(work, "completed"), headers=headers)
        return self._stream(work, _response_events(work), headers)

    async def _embeddings(self, request: Request) -> Response:
        body, work, headers = await self._accept(request, "input")
        await self._charge_after(work)
        asked = body["input"]
        answers = len(cast("list[Any]", asked)) if isinstance(asked, list) else 1
        random = Random(work.id)  # noqa: S311
        packed = body.get("encoding_format") == "base64"
        answer = {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": _vector(random, packed=packed)}
                for index in range(answers)
            ],
            "model": work.entry.model,
            "usage": {
                "prompt_tokens": work.entry.input_tokens,
                "total_tokens": work.entry.input_tokens,
            },
        }
        return JSONResponse(answer, headers=headers)

    # What they share.

    async def _accept(self, request: Request, content: str) -> tuple[Json, _Work, dict[str, str]]:
        secret = request.headers.get("authorization", "").removeprefix("Bearer ")
        key = self._keys.get(secret)
        if key is None:
            raise Refusal.wrong_key(secret)
        raw = await request.body()
        self._served += 1
        headers = self._headers(key)
        try:
            body: Json = json.loads(raw)
            asked, said = str(body["model"]), _texts(body[content])
        except (ValueError, KeyError, TypeError) as error:
            message = f"Missing or unreadable parameter: {error}"
            raise Refusal(400, message, headers=headers) from None
        if asked not in SERVED_AS:
            message = f"The model `{asked}` does not exist or you do not have access to it."
            raise Refusal(404, message, code="model_not_found", headers=headers)
        failure = _failure(raw, request.headers.get("x-stainless-retry-count", "0"))
        if failure is not None:
            self._refuse(key, asked, failure, headers)
        return body, self._work(key, body, asked, said, headers["x-request-id"]), headers

    def _refuse(self, key: Key, asked: str, failure: Failure, headers: dict[str, str]) -> None:
        request_id = headers["x-request-id"]
        refused = Entry(
            request_id=request_id,
            key=key,
            model=SERVED_AS[asked],
            at=self._now(),
            status=failure.status,
        )
        self._ledger.add(refused)
        if failure is RATE_LIMITED:
            message = f"Rate limit reached for {asked} in organization on requests per minute."
            waits = {"retry-after": "1", "x-ratelimit-remaining-requests": "0"}
            raise Refusal(429, message, kind="requests", code=failure.code, headers=headers | waits)
        message = "The server had an error while processing your request. Sorry about that!"
        raise Refusal(
            failure.status, message, kind="server_error", code=failure.code, headers=headers
        )

    def _work(self, key: Key, body: Json, asked: str, said: list[str], request_id: str) -> _Work:
        random = Random(f"{self._seed} {request_id}")  # noqa: S311
        counts = [4 + len(text) // _CHARACTERS_PER_TOKEN for text in said]
        embeds = asked.startswith("text-embedding")
        spoken = 0 if embeds else _answer_tokens(body, random)
        reasoning = 64 if asked in REASONING else 0
        instructions = body.get("instructions") or (said[0] if said else "")
        first = 4 + len(instructions) // _CHARACTERS_PER_TOKEN
        if body.get("instructions"):
            counts.append(first)
        entry = Entry(
            request_id=request_id,
            key=key,
            model=SERVED_AS[asked],
            at=self._now(),
            endpoint="embeddings" if embeds else "completions",
            input_tokens=sum(counts),
            cached_tokens=0 if embeds else self._cached(key, asked, instructions, first),
            output_tokens=spoken + reasoning,
            reasoning_tokens=reasoning,
        )
        words = tuple(f"{random.choice(_WORDS)} " for _ in range(spoken))
        prefix = "chatcmpl-" if "messages" in body else "resp_"
        return _Work(
            entry, words, int(entry.at.timestamp()), f"{prefix}{random.getrandbits(116):029x}"
        )

    def _cached(self, key: Key, model: str, instructions: str, tokens: int) -> int:
        """Return how much of a prompt's beginning was seen before, in whole cache steps."""
        if tokens < _CACHEABLE_TOKENS:
            return 0
        prefix = key.id, model, hashlib.sha256(instructions.encode()).hexdigest()
        if prefix in self._prefixes:
            return tokens // _CACHE_STEP * _CACHE_STEP
        self._prefixes.add(prefix)
        return 0

    def _headers(self, key: Key) -> dict[str, str]:
        random = Random(f"{self._seed} {key.id} {self._served}")  # noqa: S311
        left = _REQUESTS_PER_MINUTE - 1 - self._served % 600
        return {
            "x-request-id": f"req_{random.getrandbits(128):032x}",
            "openai-organization": self._ledger.organization.slug,
            "openai-project": key.project,
            "openai-processing-ms": str(round(1000 * _WAIT_SECONDS)),
            "openai-version": "2020-10-01",
            "x-ratelimit-limit-requests": str(_REQUESTS_PER_MINUTE),
            "x-ratelimit-limit-tokens": str(_TOKENS_PER_MINUTE),
            "x-ratelimit-remaining-requests": str(left),
            "x-ratelimit-remaining-tokens": str(_TOKENS_PER_MINUTE - 900 * (self._served % 600)),
            "x-ratelimit-reset-requests": "6ms",
            "x-ratelimit-reset-tokens": "20ms",
        }

    async def _charge_after(self, work: _Work) -> None:
        await asyncio.sleep(_WAIT_SECONDS + _TOKEN_SECONDS * work.entry.output_tokens)
        self._ledger.add(replace(work.entry, at=self._now()))

    def _stream(
        self, work: _Work, events: Iterator[tuple[str, int]], headers: dict[str, str]
    ) -> Response:
        async def paced() -> AsyncIterator[str]:
            written = 0
            try:
                await asyncio.sleep(_WAIT_SECONDS)
                for event, tokens in events:
                    written += tokens
                    yield event
                    await asyncio.sleep(_TOKEN_SECONDS * tokens)
            finally:
                # A stream that was cut off is charged for what was generated until then.
                output_tokens = work.entry.reasoning_tokens + written
                self._ledger.add(replace(work.entry, at=self._now(), output_tokens=output_tokens))

        return StreamingResponse(paced(), media_type="text/event-stream", headers=headers)


def _failure(raw: bytes, attempt: str) -> Failure | None:
    """Return the failure planted for a body, the same in every run."""
    draw = int.from_bytes(hashlib.sha256(raw).digest()[:4]) % 1000
    if draw < _ALWAYS_LIMITED:
        return RATE_LIMITED
    if attempt != "0":
        return None
    if draw < _ALWAYS_LIMITED + _LIMITED_ONCE:
        return RATE_LIMITED
    return SERVER_ERROR if draw < _ALWAYS_LIMITED + _LIMITED_ONCE + _FAILED_ONCE else None


def _texts(content: Any) -> list[str]:  # noqa: ANN401 - JSON
    """Return the texts of messages, of input items, or of an embeddings input."""
    if isinstance(content, str):
        return [content]
    if isinstance(content, dict):
        item = cast("Json", content)
        return _texts(item.get("content", item.get("text", "")))
    return [text for item in content for text in _texts(item)]


def _answer_tokens(body: Json, random: Random) -> int:
    """Return the length of an answer; as with the real one, the caller may bound it."""
    bounds = ("max_tokens", "max_completion_tokens", "max_output_tokens")
    least = [int(body[name]) for name in bounds if body.get(name)]
    return min([random.randint(20, 120), *least])


def _vector(random: Random, *, packed: bool) -> list[float] | str:
    vector = [random.uniform(-0.05, 0.05) for _ in range(_DIMENSIONS)]
    if not packed:
        return vector
    return base64.b64encode(struct.pack(f"<{_DIMENSIONS}f", *vector)).decode()


# Chat completions.


def _chat_usage(entry: Entry) -> Json:
    return {
        "prompt_tokens": entry.input_tokens,
        "completion_tokens": entry.output_tokens,
        "total_tokens": entry.input_tokens + entry.output_tokens,
        "prompt_tokens_details": {"cached_tokens": entry.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": entry.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _completion(work: _Work) -> Json:
    message: Json = {"role": "assistant", "content": work.text, "refusal": None, "annotations": []}
    return {
        "id": work.id,
        "object": "chat.completion",
        "created": work.created,
        "model": work.entry.model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": _chat_usage(work.entry),
        "service_tier": "default",
        "system_fingerprint": "fp_demo",
    }


def _chat_chunks(work: _Work, *, with_usage: bool) -> Iterator[tuple[str, int]]:
    """Yield each event with the tokens it brings; usage comes last, only if it was asked for."""
    head = {
        "id": work.id,
        "object": "chat.completion.chunk",
        "created": work.created,
        "model": work.entry.model,
        "service_tier": "default",
        "system_fingerprint": "fp_demo",
    }

    def chunk(delta: Json, finish_reason: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return _data(head | {"choices": [choice]} | ({"usage": None} if with_usage else {}))

    yield chunk({"role": "assistant", "content": "", "refusal": None}), 0
    for word in work.words:
        yield chunk({"content": word}), 1
    yield chunk({}, "stop"), 0
    if with_usage:
        yield _data(head | {"choices": [], "usage": _chat_usage(work.entry)}), 0
    yield "data: [DONE]\n\n", 0


def _data(event: Json) -> str:
    return f"data: {json.dumps(event, separators=(',', ':'))}\n\n"


# Responses.


def _response(work: _Work, status: str) -> Json:
    entry = work.entry
    done = status == "completed"
    return {
        "id": work.id,
        "object": "response",
        "created_at": work.created,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "metadata": {},
        "model": entry.model,
        "output": [_message(work, status, work.text)] if done else [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "service_tier": "default" if done else "auto",
        "store": True,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": {
            "input_tokens": entry.input_tokens,
            "input_tokens_details": {"cached_tokens": entry.cached_tokens, "cache_write_tokens": 0},
            "output_tokens": entry.output_tokens,
            "output_tokens_details": {"reasoning_tokens": entry.reasoning_tokens},
            "total_tokens": entry.input_tokens + entry.output_tokens,
        }
        if done
        else None,
        "user": None,
    }


def _message(work: _Work, status: str, text: str | None) -> Json:
    content = [] if text is None else [_part(text)]
    return {
        "id": f"msg_{work.id.removeprefix('resp_')}",
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": content,
    }


def _part(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _response_events(work: _Work) -> Iterator[tuple[str, int]]:
    """Yield each event with the tokens it brings; usage is inside the last one."""
    item = _message(work, "completed", work.text)
    place = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    begun: Json = {"output_index": 0, "item": _message(work, "in_progress", None)}
    events: list[tuple[str, Json, int]] = [
        ("response.created", {"response": _response(work, "in_progress")}, 0),
        ("response.in_progress", {"response": _response(work, "in_progress")}, 0),
        ("response.output_item.added", begun, 0),
        ("response.content_part.added", place | {"part": _part("")}, 0),
        *(
            ("response.output_text.delta", place | {"delta": word, "logprobs": []}, 1)
            for word in work.words
        ),
        ("response.output_text.done", place | {"text": work.text, "logprobs": []}, 0),
        ("response.content_part.done", place | {"part": _part(work.text)}, 0),
        ("response.output_item.done", {"output_index": 0, "item": item}, 0),
        ("response.completed", {"response": _response(work, "completed")}, 0),
    ]
    for number, (name, fields, tokens) in enumerate(events):
        yield f"event: {name}\n{_data({'type': name, 'sequence_number': number} | fields)}", tokens
