"""What an app does with the SDK, written once: the sync client's calls never wait.

A behaviour is a coroutine that is given an `App` and returns what the app sees of the call.
"""

import asyncio
import gc
import inspect
import json
import os
import pickle
import signal
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import openai
from pydantic import BaseModel

MODEL = "gpt-4o-mini"
KEY = "sk-proj-0123456789abcdefWXYZ"
CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "A secret."}]}
STREAM: dict[str, Any] = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
RESPONSE: dict[str, Any] = {"model": MODEL, "input": "A secret."}
TOOLS: list[dict[str, Any]] = [{"type": "function", "function": {"name": "weather"}}]


class Person(BaseModel):
    """What `parse` returns."""

    name: str


@dataclass
class App:
    """The app's clients and its own tracing; without capture the tracing does nothing."""

    client: Any
    early: Any
    """Made before costspan was imported."""
    is_async: bool
    port: int
    hanging: Callable[[], object]
    """Return when a request hangs."""
    inside: Callable[[str], AbstractContextManager[object]] = lambda _: nullcontext()
    """The app's own span, its name being the feature that the calls inside are attributed to."""
    suppressed: Callable[[], AbstractContextManager[object]] = nullcontext
    spans_of_child: Callable[[], list[Any]] = list
    adopted: list[Any] = field(default_factory=list[Any])
    """Spans that another process ended."""
    clients: list[Any] = field(default_factory=list[Any])
    """What `made` made, to be closed after the behaviour."""

    @property
    def base_url(self) -> str:
        """The server's address."""
        return f"http://127.0.0.1:{self.port}/v1"

    def made(self, name: str = "OpenAI", **options: Any) -> Any:
        """Return another client of this mode that goes on with this run."""
        headers = self.client.default_headers
        mine = {key: value for key, value in headers.items() if key.startswith("x-")}
        mine = {key: value for key, value in mine.items() if not key.startswith("x-stainless")}
        given: dict[str, Any] = {"api_key": KEY, "default_headers": mine, **options}
        made = getattr(openai, f"Async{name}" if self.is_async else name)(**given)
        self.clients.append(made)
        return made


@dataclass(frozen=True)
class Behaviour:
    """One row of the table, as far as it is acted out."""

    run: Callable[[App], Awaitable[Any]]
    needs: str
    """The path of the API that the SDK must have."""
    modes: tuple[str, ...]
    script: str
    answer: dict[str, Any]
    pad: int


BEHAVIOURS: dict[str, Behaviour] = {}


def behaviour(
    needs: str = "chat.completions.create",
    *,
    modes: tuple[str, ...] = ("sync", "async"),
    script: str = "ok",
    answer: dict[str, Any] | None = None,
    pad: int = 0,
) -> Callable[[Callable[[App], Awaitable[Any]]], Callable[[App], Awaitable[Any]]]:
    """Add a behaviour under the name of its function."""

    def add(run: Callable[[App], Awaitable[Any]]) -> Callable[[App], Awaitable[Any]]:
        BEHAVIOURS[run.__name__] = Behaviour(run, needs, modes, script, answer or {}, pad)
        return run

    return add


# One way to write it for both kinds of client.


async def done(result: Any) -> Any:
    """Return a result, awaited if it must be."""
    return await result if inspect.isawaitable(result) else result


@asynccontextmanager
async def entered(manager: Any) -> AsyncGenerator[Any]:
    """Enter a context manager of either kind."""
    if hasattr(manager, "__aenter__"):
        async with manager as value:
            yield value
    else:
        with manager as value:
            yield value


async def drained(stream: Any, most: int | None = None) -> list[Any]:
    """Return the chunks of a stream; `most` of them, then break."""
    chunks: list[Any] = []
    if hasattr(stream, "__aiter__"):
        async for chunk in stream:
            chunks.append(chunk)
            if len(chunks) == most:
                break
    else:
        for chunk in stream:
            chunks.append(chunk)
            if len(chunks) == most:
                break
    return chunks


async def outcome(call: Callable[[], Any]) -> Any:
    """Return what a call returns or raises."""
    try:
        return await done(call())
    except Exception as error:  # noqa: BLE001
        return error


async def closed(stream: Any) -> None:
    """Close a stream of either kind."""
    await done(stream.close())


async def seen_of(stream: Any, most: int | None = None) -> list[Any]:
    """Return a stream's kind, what it tells of itself, and its chunks."""
    kind: list[Any] = [
        type(stream),
        stream.__class__,
        [isinstance(stream, cls) for cls in (openai.Stream, openai.AsyncStream)],
        [hasattr(stream, name) for name in ("__next__", "__anext__", "__enter__", "__aenter__")],
        sorted(stream.__dict__),
        type(stream.response),
        stream.response.status_code,
    ]
    return [kind, await drained(stream, most)]


# Chat completions.


@behaviour()
async def chat(app: App) -> Any:
    return await done(app.client.chat.completions.create(**CHAT, service_tier="auto"))


@behaviour()
async def chat_precreated_client(app: App) -> Any:
    return await done(app.early.chat.completions.create(**CHAT))


@behaviour()
async def chat_with_options(app: App) -> Any:
    client = app.client.with_options(timeout=9, max_retries=1)
    return await done(client.chat.completions.create(**CHAT))


@behaviour()
async def chat_azure(app: App) -> Any:
    azure = app.made(
        "AzureOpenAI",
        azure_endpoint=f"http://127.0.0.1:{app.port}",
        api_version="2024-10-21",
    )
    return await done(azure.chat.completions.create(**CHAT))


@behaviour()
async def chat_custom_http_client(app: App) -> Any:
    base = openai.DefaultAsyncHttpxClient if app.is_async else openai.DefaultHttpxClient
    http_client: Any = base(timeout=7)
    own = app.made(base_url=app.base_url, http_client=http_client)
    result = await done(own.chat.completions.create(**CHAT))
    return [result, own._client is http_client, type(http_client)]


@behaviour()
async def chat_compatible_server(app: App) -> Any:
    other = app.made(base_url=f"http://localhost:{app.port}/v1")
    return await done(other.chat.completions.create(**CHAT))


@behaviour(answer={"service_tier": "priority"})
async def chat_priority(app: App) -> Any:
    return await done(app.client.chat.completions.create(**CHAT, service_tier="priority"))


@behaviour()
async def chat_tools(app: App) -> Any:
    return await done(app.client.chat.completions.create(**CHAT, tools=TOOLS))


@behaviour()
async def chat_many_choices(app: App) -> Any:
    return await done(app.client.chat.completions.create(**CHAT, n=3))


def _parser(app: App) -> Any:
    mine = app.client.chat.completions
    return mine if hasattr(mine, "parse") else app.client.beta.chat.completions


@behaviour("beta.chat.completions.parse")
async def chat_parse(app: App) -> Any:
    return await done(_parser(app).parse(**CHAT, response_format=Person))


@behaviour(
    "beta.chat.completions.parse",
    answer={"choices": [{"index": 0, "message": {"content": "{"}, "finish_reason": "length"}]},
)
async def chat_parse_length_error(app: App) -> Any:
    return await outcome(lambda: _parser(app).parse(**CHAT, response_format=Person))


@behaviour("chat.completions.with_raw_response.create")
async def chat_raw(app: App) -> Any:
    raw = await done(app.client.chat.completions.with_raw_response.create(**CHAT))
    return [raw, raw.parse(), raw.parse()]


@behaviour("chat.completions.with_raw_response.create")
async def chat_raw_unparsed(app: App) -> Any:
    return await done(app.client.chat.completions.with_raw_response.create(**CHAT))


@behaviour("chat.completions.with_streaming_response.create")
async def chat_streaming_response_parse(app: App) -> Any:
    async with entered(app.client.chat.completions.with_streaming_response.create(**CHAT)) as raw:
        lazy = raw.http_response.is_stream_consumed
        return [type(raw), raw.status_code, lazy, await done(raw.parse())]


@behaviour("chat.completions.with_streaming_response.create")
async def chat_streaming_response_bytes(app: App) -> Any:
    async with entered(app.client.chat.completions.with_streaming_response.create(**CHAT)) as raw:
        lazy = raw.http_response.is_stream_consumed
        return [type(raw), lazy, b"".join(await drained(raw.iter_bytes()))]


@behaviour(
    answer={
        "model": "gpt-audio",
        "usage": {
            "prompt_tokens": 50,
            "completion_tokens": 40,
            "prompt_tokens_details": {"audio_tokens": 30},
            "completion_tokens_details": {"audio_tokens": 32},
        },
    }
)
async def chat_audio(app: App) -> Any:
    asked = {**CHAT, "model": "gpt-audio"}
    return await done(app.client.chat.completions.create(**asked))


@behaviour(
    answer={
        "model": "gpt-5.6-terra",
        "usage": {
            "prompt_tokens": 1117,
            "completion_tokens": 211,
            "prompt_tokens_details": {"cached_tokens": 1000, "cache_write_tokens": 64},
            "completion_tokens_details": {
                "reasoning_tokens": 64,
                "accepted_prediction_tokens": 9,
                "rejected_prediction_tokens": 3,
            },
        },
    }
)
async def chat_cache_write(app: App) -> Any:
    asked = {**CHAT, "model": "gpt-5.6-terra"}
    return await done(app.client.chat.completions.create(**asked))


@behaviour()
async def chat_pickled(app: App) -> Any:
    result = await done(app.client.chat.completions.create(**CHAT))

    def copied() -> Any:
        return pickle.loads(pickle.dumps(app.client)).__class__  # noqa: S301

    return [result, pickle.loads(pickle.dumps(result)), await outcome(copied)]  # noqa: S301


@behaviour()
async def chat_suppressed(app: App) -> Any:
    with app.suppressed():
        return await done(app.client.chat.completions.create(**CHAT))


@behaviour()
async def inspected(app: App) -> Any:
    methods: list[Any] = [
        app.client.request,
        app.client.chat.completions.create,
        type(app.client).request,
        type(app.client)._process_response,
        openai.Stream.__init__,
        openai.AsyncStream.__init__,
    ]
    return [
        [
            str(inspect.signature(method)),
            method.__name__,
            method.__qualname__,
            method.__doc__,
            inspect.iscoroutinefunction(method),
            inspect.isfunction(method),
            inspect.ismethod(method),
        ]
        for method in methods
    ]


# Streams of chat completions.


@behaviour()
async def stream(app: App) -> Any:
    return await seen_of(await done(app.client.chat.completions.create(**STREAM)))


@behaviour()
async def stream_no_usage(app: App) -> Any:
    return await seen_of(await done(app.client.chat.completions.create(**CHAT, stream=True)))


@behaviour()
async def stream_other_options(app: App) -> Any:
    options = {"include_obfuscation": False}
    made = app.client.chat.completions.create(**CHAT, stream=True, stream_options=options)
    return await seen_of(await done(made))


@behaviour("chat.completions.with_raw_response.create")
async def stream_no_usage_raw(app: App) -> Any:
    raw = await done(app.client.chat.completions.with_raw_response.create(**CHAT, stream=True))
    return [type(raw), await seen_of(raw.parse())]


@behaviour("chat.completions.with_streaming_response.create")
async def stream_no_usage_lines(app: App) -> Any:
    manager = app.client.chat.completions.with_streaming_response.create(**CHAT, stream=True)
    async with entered(manager) as raw:
        return await drained(raw.iter_lines())


@behaviour()
async def stream_compatible_server(app: App) -> Any:
    other = app.made(base_url=f"http://localhost:{app.port}/v1")
    return await seen_of(await done(other.chat.completions.create(**CHAT, stream=True)))


@behaviour()
async def stream_closed_early(app: App) -> Any:
    made = await done(app.client.chat.completions.create(**STREAM))
    seen = await seen_of(made, 2)
    await closed(made)
    return [seen, made.response.is_closed]


@behaviour()
async def stream_break(app: App) -> Any:
    made = await done(app.client.chat.completions.create(**STREAM))
    seen = await seen_of(made, 2)
    del made
    await _collected(app)
    return seen


@behaviour()
async def stream_with_block_break(app: App) -> Any:
    async with entered(await done(app.client.chat.completions.create(**STREAM))) as made:
        seen = await seen_of(made, 2)
    return [seen, made.response.is_closed]


@behaviour()
async def stream_never_iterated(app: App) -> Any:
    made = await done(app.client.chat.completions.create(**STREAM))
    seen = [made.__class__]
    del made
    await _collected(app)
    return seen


async def _collected(app: App) -> None:
    """Let the garbage collector, and after it the event loop, close what is not held."""
    for _ in range(4):
        gc.collect()
        if app.is_async:
            await asyncio.sleep(0)


@behaviour("beta.chat.completions.stream")
async def stream_helper(app: App) -> Any:
    options = {"include_usage": True}
    owner = app.client.chat.completions
    owner = owner if hasattr(owner, "stream") else app.client.beta.chat.completions
    async with entered(owner.stream(**CHAT, stream_options=options)) as events:
        kinds = [event.type for event in await drained(events)]
        return [type(events), kinds, await done(events.get_final_completion())]


@behaviour("chat.completions.with_raw_response.create")
async def stream_raw(app: App) -> Any:
    raw = await done(app.client.chat.completions.with_raw_response.create(**STREAM))
    return [type(raw), raw.status_code, await seen_of(raw.parse())]


@behaviour("chat.completions.with_streaming_response.create")
async def stream_streaming_response(app: App) -> Any:
    manager = app.client.chat.completions.with_streaming_response.create(**STREAM)
    async with entered(manager) as raw:
        return [type(raw), await seen_of(await done(raw.parse()))]


@behaviour("chat.completions.with_streaming_response.create")
async def stream_streaming_response_lines(app: App) -> Any:
    manager = app.client.chat.completions.with_streaming_response.create(**STREAM)
    async with entered(manager) as raw:
        return await drained(raw.iter_lines())


@behaviour(script="cut")
async def stream_cut(app: App) -> Any:
    made = await done(app.client.chat.completions.create(**STREAM))
    return [type(made), await outcome(lambda: drained(made))]


@behaviour(script="event")
async def stream_error_event(app: App) -> Any:
    made = await done(app.client.chat.completions.create(**STREAM))
    return [type(made), await outcome(lambda: drained(made))]


@behaviour(modes=("async",), script="pause")
async def stream_cancelled(app: App) -> Any:
    chunks: list[Any] = []

    async def read() -> None:
        async for chunk in await app.client.chat.completions.create(**STREAM):
            chunks.append(chunk)

    task = asyncio.create_task(read())
    await asyncio.to_thread(app.hanging)
    while len(chunks) < 2:
        await asyncio.sleep(0)
    task.cancel()
    (ended,) = await asyncio.gather(task, return_exceptions=True)
    return [chunks, ended, task.cancelled()]


@behaviour()
async def stream_interleaved_with_call(app: App) -> Any:
    with app.inside("outer"):
        made = await done(app.client.chat.completions.create(**STREAM))
        seen = [await seen_of(made, 2)]
        with app.inside("inner"):
            seen.append(await done(app.client.chat.completions.create(**CHAT)))
        seen.append(await drained(made))
    return seen


# Responses.


@behaviour("responses.create")
async def responses(app: App) -> Any:
    return await done(app.client.responses.create(**RESPONSE, service_tier="auto"))


@behaviour("responses.with_raw_response.create")
async def responses_raw(app: App) -> Any:
    raw = await done(app.client.responses.with_raw_response.create(**RESPONSE))
    return [raw, raw.parse()]


@behaviour("responses.parse")
async def responses_parse(app: App) -> Any:
    return await done(app.client.responses.parse(**RESPONSE, text_format=Person))


@behaviour("responses.create")
async def responses_stream(app: App) -> Any:
    return await seen_of(await done(app.client.responses.create(**RESPONSE, stream=True)))


@behaviour("responses.with_raw_response.create")
async def responses_stream_raw(app: App) -> Any:
    raw = await done(app.client.responses.with_raw_response.create(**RESPONSE, stream=True))
    return [type(raw), await seen_of(raw.parse())]


@behaviour("responses.with_streaming_response.create")
async def responses_stream_streaming_response(app: App) -> Any:
    manager = app.client.responses.with_streaming_response.create(**RESPONSE, stream=True)
    async with entered(manager) as raw:
        return [type(raw), await seen_of(await done(raw.parse()))]


@behaviour("responses.stream")
async def responses_stream_helper(app: App) -> Any:
    async with entered(app.client.responses.stream(**RESPONSE)) as events:
        kinds = [event.type for event in await drained(events)]
        return [type(events), kinds, await done(events.get_final_response())]


@behaviour("responses.create")
async def responses_stream_closed_early(app: App) -> Any:
    made = await done(app.client.responses.create(**RESPONSE, stream=True))
    seen = await seen_of(made, 2)
    await closed(made)
    return seen


@behaviour("responses.create")
async def responses_background(app: App) -> Any:
    return await done(app.client.responses.create(**RESPONSE, background=True))


@behaviour("responses.create")
async def responses_background_retrieved(app: App) -> Any:
    begun = await done(app.client.responses.create(**RESPONSE, background=True))
    return [begun, *[await done(app.client.responses.retrieve(begun.id)) for _ in range(2)]]


@behaviour("responses.create")
async def responses_tools(app: App) -> Any:
    tools = [{"type": "web_search"}]
    return await done(app.client.responses.create(**RESPONSE, tools=tools))


# Everything else that has an endpoint.


@behaviour("completions.create")
async def completions_legacy(app: App) -> Any:
    made = app.client.completions.create(model="gpt-3.5-turbo-instruct", prompt="A secret.")
    return await done(made)


@behaviour("embeddings.create")
async def embeddings(app: App) -> Any:
    return await done(
        app.client.embeddings.create(
            model="text-embedding-3-small", input="A secret.", encoding_format="float"
        )
    )


@behaviour("embeddings.with_raw_response.create")
async def embeddings_raw(app: App) -> Any:
    raw = await done(
        app.client.embeddings.with_raw_response.create(
            model="text-embedding-3-small", input="A secret.", encoding_format="float"
        )
    )
    return [raw, raw.parse()]


@behaviour("images.generate")
async def images(app: App) -> Any:
    return await done(app.client.images.generate(model="gpt-image-1", prompt="A secret."))


@behaviour("images.edit")
async def images_edit(app: App) -> Any:
    edit = app.client.images.edit(model="gpt-image-1", image=b"png", prompt="A secret.")
    return await done(edit)


@behaviour("images.create_variation")
async def images_variation(app: App) -> Any:
    return await done(app.client.images.create_variation(model="dall-e-2", image=b"png"))


@behaviour("audio.transcriptions.create")
async def transcription(app: App) -> Any:
    return await done(
        app.client.audio.transcriptions.create(model="gpt-4o-transcribe", file=("a.mp3", b"ID3"))
    )


@behaviour("audio.transcriptions.create", answer={"usage": {"type": "duration", "seconds": 9}})
async def transcription_by_the_minute(app: App) -> Any:
    return await done(
        app.client.audio.transcriptions.create(model="whisper-1", file=("a.mp3", b"ID3"))
    )


@behaviour("responses.create")  # transcriptions came to be streamed in the same release
async def transcription_stream(app: App) -> Any:
    made = app.client.audio.transcriptions.create(
        model="gpt-4o-transcribe", file=("a.mp3", b"ID3"), stream=True
    )
    return await seen_of(await done(made))


@behaviour("audio.translations.create")
async def translation(app: App) -> Any:
    return await done(
        app.client.audio.translations.create(model="whisper-1", file=("a.mp3", b"ID3"))
    )


@behaviour("audio.speech.create")
async def speech(app: App) -> Any:
    made = app.client.audio.speech.create(model="gpt-4o-mini-tts", voice="alloy", input="A secret.")
    result = await done(made)
    return [type(result), result.content]


@behaviour("audio.speech.create")
async def speech_by_the_character(app: App) -> Any:
    made = app.client.audio.speech.create(model="tts-1", voice="alloy", input="A secret.")
    result = await done(made)
    return [type(result), result.content]


@behaviour("audio.speech.with_streaming_response.create")
async def speech_streaming_response(app: App) -> Any:
    manager = app.client.audio.speech.with_streaming_response.create(
        model="gpt-4o-mini-tts", voice="alloy", input="A secret."
    )
    async with entered(manager) as raw:
        lazy = raw.http_response.is_stream_consumed
        return [type(raw), lazy, b"".join(await drained(raw.iter_bytes()))]


@behaviour("moderations.create")
async def moderations(app: App) -> Any:
    made = app.client.moderations.create(model="omni-moderation-latest", input="A secret.")
    return await done(made)


BATCH: dict[str, Any] = {
    "input_file_id": "file-1",
    "endpoint": "/v1/chat/completions",
    "completion_window": "24h",
}


@behaviour("batches.create")
async def batches(app: App) -> Any:
    return await done(app.client.batches.create(**BATCH))


@behaviour("batches.create")
async def batch_results(app: App) -> Any:
    with app.inside("submitter"):
        begun = await done(app.client.batches.create(**BATCH))
    ended = await done(app.client.batches.retrieve(begun.id))
    output = await done(app.client.files.content(ended.output_file_id))
    return [begun, ended, type(output), output.content]


@behaviour("files.create")
async def files_create(app: App) -> Any:
    return await done(app.client.files.create(file=("a.jsonl", b"{}\n"), purpose="batch"))


@behaviour("files.content")
async def files_content(app: App) -> Any:
    result = await done(app.client.files.content("file-1"))
    return [type(result), result.content]


@behaviour("models.list")
async def models_list(app: App) -> Any:
    return await done(app.client.models.list())


@behaviour("beta.threads.runs.create")
async def assistants_run(app: App) -> Any:
    return await done(app.client.beta.threads.runs.create("thread_1", assistant_id="asst_1"))


@behaviour("beta.threads.runs.create")
async def assistants_run_polled(app: App) -> Any:
    runs = app.client.beta.threads.runs
    begun = await done(runs.create("thread_1", assistant_id="asst_1"))
    return [begun, await done(runs.retrieve(begun.id, thread_id="thread_1"))]


@behaviour("beta.threads.runs.create")
async def assistants_run_stream(app: App) -> Any:
    made = app.client.beta.threads.runs.create("thread_1", assistant_id="asst_1", stream=True)
    return await seen_of(await done(made))


@behaviour("fine_tuning.jobs.create")
async def fine_tuning(app: App) -> Any:
    made = app.client.fine_tuning.jobs.create(model=MODEL, training_file="file-1")
    return await done(made)


@behaviour("vector_stores.create")
async def vector_store_create(app: App) -> Any:
    return await done(app.client.vector_stores.create(name="x"))


@behaviour("vector_stores.search")
async def vector_store_search(app: App) -> Any:
    return await done(app.client.vector_stores.search("vs_1", query="A secret."))


# What goes wrong.


@behaviour(script="429,ok")
async def retry_429(app: App) -> Any:
    return await done(app.client.chat.completions.create(**CHAT))


@behaviour(script="500,ok")
async def retry_500_stream(app: App) -> Any:
    return await seen_of(await done(app.client.chat.completions.create(**STREAM)))


@behaviour(script="429")
async def final_429(app: App) -> Any:
    return await outcome(lambda: app.client.chat.completions.create(**CHAT))


@behaviour(script="500")
async def final_500(app: App) -> Any:
    client = app.client.with_options(max_retries=0)
    return await outcome(lambda: client.chat.completions.create(**CHAT))


@behaviour(script="400")
async def final_400(app: App) -> Any:
    return await outcome(lambda: app.client.chat.completions.create(**CHAT))


@behaviour(script="401")
async def final_401_stream(app: App) -> Any:
    return await outcome(lambda: app.client.chat.completions.create(**STREAM))


@behaviour(script="filter")
async def content_filter(app: App) -> Any:
    return await outcome(lambda: app.client.chat.completions.create(**CHAT))


@behaviour(
    answer={
        "choices": [{"index": 0, "message": {"content": ""}, "finish_reason": "content_filter"}]
    }
)
async def content_filter_in_answer(app: App) -> Any:
    return await done(app.client.chat.completions.create(**CHAT))


@behaviour(script="hang")
async def timeout(app: App) -> Any:
    client = app.client.with_options(max_retries=0, timeout=0.05)
    return await outcome(lambda: client.chat.completions.create(**CHAT))


@behaviour()
async def connection_refused(app: App) -> Any:
    nobody = app.made(base_url="http://127.0.0.1:1/v1", max_retries=0)
    return await outcome(lambda: nobody.chat.completions.create(**CHAT))


@behaviour(modes=("async",), script="hang")
async def cancelled(app: App) -> Any:
    task = asyncio.create_task(app.client.chat.completions.create(**CHAT))
    await asyncio.to_thread(app.hanging)
    task.cancel()
    (ended,) = await asyncio.gather(task, return_exceptions=True)
    return [ended, task.cancelled()]


# Many at once, and other processes.


@behaviour()
async def concurrent(app: App) -> Any:
    async def one(number: int) -> Any:
        with app.inside(f"task-{number}"):
            return await done(app.client.chat.completions.create(**CHAT))

    if app.is_async:
        results = await asyncio.gather(*(one(number) for number in range(8)))
    else:
        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(at_once, [one(number) for number in range(8)]))
    return sorted(
        results, key=lambda result: getattr(result, "_request_id", None) or ""
    )  # as they arrived


def at_once(coroutine: Any) -> Any:
    """Return the result of a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as ended:
        return ended.value
    msg = "a sync behaviour waited"
    raise AssertionError(msg)


@behaviour()
async def chat_after_fork(app: App) -> Any:
    seen, spans = _forked(app)
    app.adopted.extend(spans)
    return seen


def _forked(app: App) -> Any:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(10)  # a child that hangs must not keep its parent
        with _exiting(), os.fdopen(writing, "w") as answer:
            json.dump([_in_child(app), app.spans_of_child()], answer)
    os.close(writing)
    with os.fdopen(reading) as answer:
        told = answer.read()
    os.waitpid(child, 0)
    return json.loads(told)


@contextmanager
def _exiting() -> Generator[None]:
    try:
        yield
    finally:
        os._exit(0)


def _in_child(app: App) -> Any:
    """Make a call on a thread of its own: in the child of an event loop one seems to run."""
    found: list[Any] = []

    async def call() -> None:
        with app.inside("child"):
            client = app.made(base_url=app.base_url)
            result = await done(client.chat.completions.create(**CHAT))
        found.append(result.to_dict())

    thread = threading.Thread(
        target=lambda: asyncio.run(call()) if app.is_async else at_once(call())
    )
    thread.start()
    thread.join()
    return found


# Answers that are not what they should be.


@behaviour(answer={"usage": None})
async def usage_missing(app: App) -> Any:
    return await done(app.client.chat.completions.create(**CHAT))


@behaviour(answer={"usage": {"prompt_tokens": 10**30, "completion_tokens": -5}})
async def usage_absurd(app: App) -> Any:
    return await done(app.client.chat.completions.create(**CHAT))


@behaviour(
    answer={
        "id": ["a"],
        "model": {"b": 1},
        "service_tier": 7,
        "choices": "none",
        "usage": "many",
        "system_fingerprint": 1.5,
    }
)
async def answer_of_wrong_types(app: App) -> Any:
    raw = await done(app.client.chat.completions.with_raw_response.create(**CHAT))
    return [raw.content, type(await outcome(raw.parse))]


@behaviour(pad=3_000_000)
async def answer_of_3_megabytes(app: App) -> Any:
    return await done(app.client.chat.completions.create(**CHAT))


@behaviour(script="text")
async def answer_not_json(app: App) -> Any:
    return await outcome(lambda: app.client.chat.completions.create(**CHAT))
