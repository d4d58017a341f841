"""Recorded OpenAI traffic through the real SDK: our figures are the recording's, the app's its own."""

import asyncio
import inspect
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai
import pytest
import yaml

from costspan import semconv

CASSETTES = Path(__file__).parents[1] / "data" / "cassettes"
FILES = sorted(path.relative_to(CASSETTES).as_posix() for path in CASSETTES.rglob("*.yaml"))
RESOURCES = ("chat/completions", "responses", "embeddings", "completions")
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Exchange:
    resource: str
    base_url: str
    api_version: str
    body: dict[str, Any]
    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def usage(self) -> dict[str, Any] | None:
        """The last usage in the recording, read without costspan."""
        text = httpx2.Response(200, headers=self.headers, content=self.content).text
        if "event-stream" not in self.headers.get("content-type", ""):
            events = [json.loads(text)] if text.startswith("{") else []
        else:
            lines = [line[5:].strip() for line in text.splitlines() if line.startswith("data:")]
            events = [json.loads(line) for line in lines if line.startswith("{")]
        reported = [(event.get("response") or event).get("usage") for event in events]
        return next((usage for usage in reversed(reported) if usage), None)


@cache
def exchanges(file: str) -> tuple[Exchange, ...]:
    document = yaml.load((CASSETTES / file).read_text(encoding="utf-8"), LOADER)  # noqa: S506
    return tuple(
        found for item in document["interactions"] if (found := exchange(item)) is not None
    )


def exchange(item: dict[str, Any]) -> Exchange | None:
    url = urlsplit(str(item["request"]["uri"]))
    resource = next((name for name in RESOURCES if url.path.endswith(f"/{name}")), None)
    if resource is None or item["request"]["method"] != "POST":
        return None
    recorded = item["response"]["body"]["string"]
    content = recorded if isinstance(recorded, bytes) else recorded.encode()
    headers = {name.lower(): values[0] for name, values in item["response"]["headers"].items()}
    for hop in ("transfer-encoding", "content-length", "connection"):
        headers.pop(hop, None)
    if not content.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd")) and headers.get(
        "content-encoding"
    ) in {"gzip", "zstd", "br"}:
        headers.pop("content-encoding")  # the recorder had decompressed it
    base = f"{url.scheme}://{url.netloc}{url.path.removesuffix(f'/{resource}')}"
    return Exchange(
        resource,
        base,
        url.query,
        json.loads(item["request"]["body"]),
        item["response"]["status"]["code"],
        headers,
        content,
    )


@dataclass(frozen=True)
class Seen:
    """What an app sees, and what it sends."""

    result: Any
    body: dict[str, Any]
    headers: dict[str, str]


def answer(recorded: Exchange, sent: list[httpx2.Request]) -> Callable[..., httpx2.Response]:
    def handle(request: httpx2.Request) -> httpx2.Response:
        sent.append(request)
        return httpx2.Response(
            recorded.status, headers=recorded.headers, stream=Bytes(recorded.content)
        )

    return handle


class Bytes(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """A body that arrives in pieces, as from a socket."""

    def __init__(self, content: bytes) -> None:
        self.pieces = [content[start : start + 400] for start in range(0, len(content), 400)]

    def __iter__(self) -> Iterator[bytes]:
        yield from self.pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece


def method(client: Any, recorded: Exchange) -> tuple[Callable[..., Any], dict[str, Any]]:
    resource: Any = client
    for name in recorded.resource.split("/"):
        resource = getattr(resource, name)
    body = {**recorded.body}
    names = inspect.signature(resource.create).parameters
    extra = {name: body.pop(name) for name in list(body) if name not in names}
    return resource.create, {**body, "extra_body": extra or None}


def problem(error: openai.APIError) -> Any:
    return (type(error), str(error), error.body, getattr(error, "status_code", None), error.code)


def kind(made: Any) -> Any:
    return made.__class__


def is_a(made: Any, stream: Any) -> bool:
    return isinstance(made, stream)


def options(recorded: Exchange) -> dict[str, Any]:
    query = dict(pair.split("=", 1) for pair in recorded.api_version.split("&") if pair)
    return {
        "api_key": "sk-a-key-that-is-long-enough-to-hint",
        "base_url": recorded.base_url,
        "default_query": query,
        "max_retries": 0,
    }


def replay(recorded: Exchange) -> Seen:
    sent: list[httpx2.Request] = []
    transport = httpx2.MockTransport(answer(recorded, sent))
    with openai.OpenAI(
        **options(recorded), http_client=httpx2.Client(transport=transport)
    ) as client:
        create, arguments = method(client, recorded)
        try:
            made: Any = create(**arguments)
            if is_a(made, openai.Stream):
                result = (kind(made), [dumped(chunk) for chunk in made])
            else:
                result = (kind(made), dumped(made))
        except openai.APIError as error:
            result = problem(error)
    return seen(result, sent)


async def replay_async(recorded: Exchange) -> Seen:
    sent: list[httpx2.Request] = []
    transport = httpx2.MockTransport(answer(recorded, sent))
    async with openai.AsyncOpenAI(
        **options(recorded), http_client=httpx2.AsyncClient(transport=transport)
    ) as client:
        create, arguments = method(client, recorded)
        try:
            made: Any = await create(**arguments)
            if is_a(made, openai.AsyncStream):
                result = (kind(made), [dumped(chunk) async for chunk in made])
            else:
                result = (kind(made), dumped(made))
        except openai.APIError as error:
            result = problem(error)
    return seen(result, sent)


def seen(result: Any, sent: list[httpx2.Request]) -> Seen:
    (request,) = sent
    headers = {name: value for name, value in request.headers.items() if name != "content-length"}
    return Seen(result, json.loads(request.content), headers)


def dumped(model: Any) -> Any:
    """Everything a model holds, and which of its fields were set."""
    return (
        type(model),
        model.to_dict(warnings=False),
        model.to_json(warnings=False),
        getattr(model, "_request_id", None),
    )


@pytest.mark.parametrize("file", FILES)
def test_a_recorded_exchange_has_its_tokens_on_the_span_and_the_app_sees_no_difference(
    file: str, capture: Any
) -> None:
    for recorded in exchanges(file):
        bare = replay(recorded)
        captured = capture(priced_hosts=("*.openai.com", "*.azure.com"))
        with_us = replay(recorded)
        (span,) = captured.calls
        check(recorded, bare, with_us, span)
        captured.stop()


@pytest.mark.parametrize("file", FILES)
def test_the_same_holds_for_the_async_client(file: str, capture: Any) -> None:
    for recorded in exchanges(file):
        bare = asyncio.run(replay_async(recorded))
        captured = capture(priced_hosts=("*.openai.com", "*.azure.com"))
        with_us = asyncio.run(replay_async(recorded))
        (span,) = captured.calls
        check(recorded, bare, with_us, span)
        captured.stop()


def check(recorded: Exchange, bare: Seen, with_us: Seen, span: Any) -> None:
    assert with_us.result == bare.result
    assert with_us.headers == bare.headers
    added = {name: value for name, value in with_us.body.items() if name not in bare.body}
    assert added in ({}, {"stream_options": {"include_usage": True}})
    assert {name: with_us.body[name] for name in bare.body} == bare.body

    attributes = span.attributes
    usage = recorded.usage
    if usage is None or recorded.status != 200:
        assert semconv.INPUT_TOKENS not in attributes
        assert semconv.COST_USD not in attributes
        return
    details: dict[str, Any] = (
        usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
    )
    written: dict[str, Any] = (
        usage.get("completion_tokens_details") or usage.get("output_tokens_details") or {}
    )
    expected: dict[str, Any] = {
        semconv.INPUT_TOKENS: usage.get("prompt_tokens", usage.get("input_tokens")),
        semconv.OUTPUT_TOKENS: usage.get("completion_tokens", usage.get("output_tokens")),
        semconv.CACHED_TOKENS: details.get("cached_tokens"),
        semconv.REASONING_TOKENS: written.get("reasoning_tokens"),
    }
    assert {name: attributes.get(name) for name in expected} == expected


def test_the_recordings_are_many_and_of_every_kind() -> None:
    with_usage = [
        found for file in FILES for found in exchanges(file) if found.status == 200 and found.usage
    ]
    by_resource = {
        name: sum(1 for found in with_usage if found.resource == name) for name in RESOURCES
    }
    streamed = sum(1 for found in with_usage if found.body.get("stream"))
    assert len(with_usage) == 399, by_resource
    assert min(by_resource.values()) >= 30, by_resource
    assert streamed >= 20
