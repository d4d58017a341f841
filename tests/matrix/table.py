"""What is due for each behaviour: one row for each, the same for every SDK that has the API.

Amounts are worked out by hand from OpenAI's list, for the bodies of `openai_server.py`:
gpt-4o-mini at 0.15 in, 0.075 cached and 0.60 out a million tokens, so 94 + 1,023 + 211 tokens
are 0.0000141 + 0.000076725 + 0.0001266 dollars. Likewise gpt-audio at 2.50, 32 (audio), 10 and
64 (audio), gpt-5.6-terra at 2, 0.20, 2.50 (cache write) and 12, gpt-image-1 at 5, 10 (image) and
40 (image), whisper-1 at 0.006 a minute, tts-1 at 15 a million characters.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from costspan import semconv

SDKS = ("1.40.0", "1.109.1", "2.54.0", "3.52.0")
"""The oldest that is supported, the last of 1.x, the newest of 2.x and of 3.x."""

CHAT_TOKENS = {
    semconv.INPUT_TOKENS: 1117,
    semconv.CACHED_TOKENS: 1023,
    semconv.OUTPUT_TOKENS: 211,
    semconv.REASONING_TOKENS: 64,
}
CHAT_COST = "0.000217425"
CHAT_PARTS = {"input": 14_100_000, "cached_input": 76_725_000, "output": 126_600_000}
PRIORITY_COST = "0.000362375"
"""At 0.25, 0.125 and 1.00: 0.0000235 + 0.000127875 + 0.000211."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """The span that is due for one call."""

    operation: str = "chat"
    api: str = "chat_completions"
    asked: str | None = "gpt-4o-mini"
    served: str | None = "gpt-4o-mini-2024-07-18"
    tokens: Mapping[str, int] = field(default_factory=lambda: CHAT_TOKENS)
    status: str | None = "priced"
    """None: nothing is billed and nothing was answered."""
    cost: str | None = CHAT_COST
    parts: Mapping[str, int] | None = None
    """The cost by part, where it is worked out too."""
    more: Mapping[str, Any] = field(default_factory=dict[str, Any])
    attempts: int = 1
    answered: bool = True
    """Whether OpenAI's headers arrived."""
    error: str | None = None
    feature: str | None = None
    """Whom it is attributed to; the name of the behaviour by default."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One behaviour."""

    does: str
    calls: tuple[Call, ...]
    since: tuple[int, int] = (1, 40)
    """The first release of the SDK that has the API."""
    modes: tuple[str, ...] = ("sync", "async")
    settled: tuple[Call, ...] = ()
    """Work that was submitted before and is billed when it is done: a span of its own."""
    older: tuple[tuple[int, int], tuple[Call, ...]] | None = None
    """A release, and what is due before it: where the SDK itself behaves otherwise."""

    def due(self, release: tuple[int, int]) -> tuple[Call, ...]:
        """Return the calls that are due with a release of the SDK."""
        return self.older[1] if self.older and release < self.older[0] else self.calls


CHAT = Call(
    more={
        semconv.RESPONSE_ID: "chatcmpl-1",
        semconv.RESPONSE_TIER: "default",
        semconv.SYSTEM_FINGERPRINT: "fp_1",
        semconv.FINISH_REASONS: ["stop"],
    }
)
RESPONSE = Call(
    api="responses",
    more={
        semconv.RESPONSE_ID: "resp_1",
        semconv.RESPONSE_TIER: "default",
        semconv.FINISH_REASONS: ["completed"],
    },
)


def of(call: Call, more: Mapping[str, Any] | None = None, **changes: Any) -> Call:
    """Return `call` with changes; an attribute that is None is not due."""
    return replace(call, **changes, more={**call.more, **(more or {})})


def streamed(call: Call, chunks: int, outcome: str = "completed", **more: Any) -> Call:
    """Return `call` as a stream that gave the app `chunks`."""
    timed: dict[str, Any] = {
        semconv.TIME_TO_FIRST_CHUNK: "seconds" if chunks else None,
        semconv.TIME_PER_CHUNK: "seconds" if chunks > 1 else None,
        semconv.STREAM_CHUNKS: chunks or None,
        semconv.STREAM_OUTCOME: outcome,
        semconv.REQUEST_STREAM: True,
    }
    return of(call, {**timed, **more})


UNTOLD: dict[str, Any] = {"tokens": {}, "cost": None, "status": "missing_usage"}
"""The usage never arrived, so the cost is unknown and says so."""
UNKNOWN_MODEL: dict[str, Any] = {**UNTOLD, "status": "unknown_model"}
INVALID: dict[str, Any] = {**UNTOLD, "status": "invalid_usage"}
UNBILLED: dict[str, Any] = {"tokens": {}, "cost": None, "status": "not_billed", "served": None}
REFUSED = Call(tokens={}, cost=None, status=None, served=None)
"""An answer of 4xx or 5xx: not billed, and not a call whose cost is unknown."""
STREAM = streamed(CHAT, 8)
CUT_SHORT = of(streamed(CHAT, 2, "closed_early"), {semconv.FINISH_REASONS: None}, **UNTOLD)
FAILED = of(streamed(CHAT, 2, "failed"), {semconv.FINISH_REASONS: None}, **UNTOLD)
RESPONSE_CUT_SHORT = of(
    streamed(RESPONSE, 2, "closed_early"), {semconv.FINISH_REASONS: None}, **UNTOLD
)
LAZY: dict[str, Any] = {semconv.STREAM_OUTCOME: "completed"}
IMAGE = Call(
    operation="images.generations",
    api="images",
    asked="gpt-image-1",
    served=None,
    tokens={
        semconv.INPUT_TOKENS: 60,
        semconv.IMAGE_INPUT_TOKENS: 40,
        semconv.OUTPUT_TOKENS: 272,
        semconv.IMAGE_OUTPUT_TOKENS: 272,
    },
    cost="0.01138",
    parts={"input": 100_000_000, "image_input": 400_000_000, "image_output": 10_880_000_000},
)
TRANSCRIPTION = Call(
    operation="audio.transcriptions",
    api="audio",
    asked="gpt-4o-transcribe",
    served=None,
    tokens={
        semconv.INPUT_TOKENS: 14,
        semconv.AUDIO_INPUT_TOKENS: 10,
        semconv.OUTPUT_TOKENS: 45,
    },
    status="unpriced_component",  # what a token of audio costs there is not known
    cost=None,
)
SPEECH = Call(
    operation="audio.speech",
    api="audio",
    asked="gpt-4o-mini-tts",
    served=None,
    **UNTOLD,
)
EMBEDDINGS = Call(
    operation="embeddings",
    api="embeddings",
    asked="text-embedding-3-small",
    served="text-embedding-3-small",
    tokens={semconv.INPUT_TOKENS: 8},
    cost="0.00000016",
    parts={"input": 160_000},
)
DEFERRED: dict[str, Any] = {"tokens": {}, "cost": None, "status": "deferred"}
"""Submitted: billed when it is done, so neither priced nor unknown."""
RUN = Call(
    operation="threads.runs",
    api="assistants",
    asked=None,
    served="gpt-4o-mini",
    more={semconv.RESPONSE_ID: "run_WORK"},
    **DEFERRED,
)
RUN_DONE = Call(
    api="assistants",
    served="gpt-4o-mini",
    tokens={semconv.INPUT_TOKENS: 30, semconv.OUTPUT_TOKENS: 20},
    cost="0.0000165",
    more={semconv.RESPONSE_ID: "run_WORK", semconv.FINISH_REASONS: ["completed"]},
)
IN_BACKGROUND = of(
    RESPONSE, {semconv.RESPONSE_ID: "resp_WORK", semconv.FINISH_REASONS: None}, **DEFERRED
)
SUBMITTED = Call(
    operation="batches",
    api="batches",
    asked=None,
    served=None,
    more={semconv.RESPONSE_ID: "batch_WORK"},
    **DEFERRED,
)
BATCH_LINE = Call(
    tokens={semconv.INPUT_TOKENS: 1000, semconv.OUTPUT_TOKENS: 100},
    cost="0.000105",
    parts={"input": 75_000_000, "output": 30_000_000},
    more={
        semconv.BATCH: "batch_WORK",
        semconv.RESPONSE_TIER: "batch",
        semconv.SYSTEM_FINGERPRINT: "fp_1",
        semconv.FINISH_REASONS: ["stop"],
    },
    feature="submitter",
)
"""At 0.075 and 0.30 a million: half the price."""


def unbilled(operation: str, **changes: Any) -> Call:
    """Return the call of an operation that no tokens are billed for."""
    named: dict[str, Any] = {"operation": operation, "api": operation.split(".")[0], "asked": None}
    return replace(Call(), **{**UNBILLED, **named, **changes})


def _row(does: str, *calls: Call, **changes: Any) -> Row:
    return Row(does=does, calls=calls, **changes)


SINCE_RESPONSES: dict[str, Any] = {"since": (1, 66)}

GROUPS: Mapping[str, Mapping[str, Row]] = {
    "Chat completions": {
        "chat": _row("create", of(CHAT, {semconv.REQUEST_TIER: "auto"}, parts=CHAT_PARTS)),
        "chat_precreated_client": _row("a client made before the import", CHAT),
        "chat_with_options": _row("`with_options`", CHAT),
        "chat_azure": _row("`AzureOpenAI`", of(CHAT, {semconv.PROVIDER: "azure.ai.openai"})),
        "chat_custom_http_client": _row("an `http_client` of the app's own", CHAT),
        "chat_compatible_server": _row(
            "a compatible server: tokens, but no price",
            of(CHAT, {semconv.SERVER_ADDRESS: "localhost"}, cost=None, status="unknown_model"),
        ),
        "chat_priority": _row(
            "`service_tier`: priced by the tier that served",
            of(
                CHAT,
                {semconv.REQUEST_TIER: "priority", semconv.RESPONSE_TIER: "priority"},
                cost=PRIORITY_COST,
            ),
        ),
        "chat_tools": _row("tools", of(CHAT, {semconv.FINISH_REASONS: ["tool_calls"]})),
        "chat_many_choices": _row(
            "n > 1", of(CHAT, {semconv.FINISH_REASONS: ["stop", "stop", "stop"]})
        ),
        "chat_parse": _row("`parse`", CHAT),
        "chat_parse_length_error": _row(
            "`parse` that raises: the tokens are billed all the same",
            of(
                CHAT,
                {semconv.FINISH_REASONS: ["length"]},
                error="LengthFinishReasonError",
            ),
            # It is raised after the request is done.
            older=((1, 66), (of(CHAT, {semconv.FINISH_REASONS: ["length"]}),)),
        ),
        "chat_raw": _row("`with_raw_response`, parsed twice", CHAT),
        "chat_raw_unparsed": _row("`with_raw_response`, never parsed", CHAT),
        "chat_streaming_response_parse": _row("`with_streaming_response`, parsed", of(CHAT, LAZY)),
        "chat_streaming_response_bytes": _row(
            "`with_streaming_response`, read as bytes", of(CHAT, LAZY)
        ),
        "chat_audio": _row(
            "audio in and out",
            of(
                CHAT,
                asked="gpt-audio",
                served="gpt-audio",
                tokens={
                    semconv.INPUT_TOKENS: 50,
                    semconv.AUDIO_INPUT_TOKENS: 30,
                    semconv.OUTPUT_TOKENS: 40,
                    semconv.AUDIO_OUTPUT_TOKENS: 32,
                },
                cost="0.003138",
                parts={
                    "input": 50_000_000,
                    "audio_input": 960_000_000,
                    "output": 80_000_000,
                    "audio_output": 2_048_000_000,
                },
            ),
        ),
        "chat_cache_write": _row(
            "cache writes and predictions",
            of(
                CHAT,
                asked="gpt-5.6-terra",
                served="gpt-5.6-terra",
                tokens={
                    semconv.INPUT_TOKENS: 1117,
                    semconv.CACHED_TOKENS: 1000,
                    semconv.CACHE_WRITE_TOKENS: 64,
                    semconv.OUTPUT_TOKENS: 211,
                    semconv.REASONING_TOKENS: 64,
                    semconv.ACCEPTED_PREDICTION_TOKENS: 9,
                    semconv.REJECTED_PREDICTION_TOKENS: 3,
                },
                cost="0.002998",
                parts={
                    "input": 106_000_000,
                    "cached_input": 200_000_000,
                    "cache_write_30m": 160_000_000,
                    "output": 2_532_000_000,
                },
            ),
        ),
        "chat_pickled": _row("answers and clients pickled, as far as the SDK allows", CHAT),
        "chat_suppressed": _row("OpenTelemetry's suppression key: no span"),
        "inspected": _row("`inspect` of the SDK's methods: as without us"),
    },
    "Streams of chat completions": {
        "stream": _row("with the app's own `include_usage`", STREAM),
        "stream_no_usage": _row("without: we ask, and the app does not see it", streamed(CHAT, 7)),
        "stream_other_options": _row(
            "with other `stream_options`: kept, and we ask", streamed(CHAT, 7)
        ),
        "stream_no_usage_raw": _row("without, `with_raw_response`", streamed(CHAT, 7)),
        "stream_no_usage_lines": _row(
            "without, `with_streaming_response`, read as lines", streamed(CHAT, 0)
        ),
        "stream_compatible_server": _row(
            "of a compatible server: not asked",
            of(
                streamed(CHAT, 7),
                {semconv.SERVER_ADDRESS: "localhost"},
                **UNKNOWN_MODEL,
            ),
        ),
        "stream_closed_early": _row("closed early", CUT_SHORT),
        "stream_break": _row(
            "left by `break` and dropped", of(CUT_SHORT, {semconv.STREAM_OUTCOME: "abandoned"})
        ),
        "stream_with_block_break": _row("left by `break` in a `with` block", CUT_SHORT),
        "stream_never_iterated": _row(
            "never read",
            of(
                streamed(CHAT, 0, "abandoned"),
                {
                    semconv.RESPONSE_ID: None,
                    semconv.RESPONSE_TIER: None,
                    semconv.SYSTEM_FINGERPRINT: None,
                    semconv.FINISH_REASONS: None,
                },
                **UNTOLD | {"served": None},
            ),
        ),
        "stream_helper": _row("`.stream()` helper", STREAM),
        "stream_raw": _row("`with_raw_response`", STREAM),
        "stream_streaming_response": _row("`with_streaming_response`, parsed", STREAM),
        "stream_streaming_response_lines": _row(
            "`with_streaming_response`, read as lines", streamed(CHAT, 0)
        ),
        "stream_cut": _row(
            "broken off by the server",
            of(FAILED, error="APIConnectionError"),
            older=((3, 0), (of(FAILED, error="RemoteProtocolError"),)),
        ),
        "stream_error_event": _row(
            "with an error in it",
            of(FAILED, {semconv.ERROR_CODE: "overloaded"}, error="APIError"),
        ),
        "stream_cancelled": _row(
            "cancelled between two chunks",
            of(FAILED, error="CancelledError"),
            modes=("async",),
        ),
        "stream_interleaved_with_call": _row(
            "interleaved with another call",
            of(CHAT, feature="inner"),
            of(STREAM, feature="outer"),
        ),
    },
    "Responses": {
        "responses": _row(
            "create", of(RESPONSE, {semconv.REQUEST_TIER: "auto"}), **SINCE_RESPONSES
        ),
        "responses_raw": _row("`with_raw_response`", RESPONSE, **SINCE_RESPONSES),
        "responses_parse": _row("`parse`", RESPONSE, **SINCE_RESPONSES),
        "responses_stream": _row("stream", streamed(RESPONSE, 9), **SINCE_RESPONSES),
        "responses_stream_raw": _row(
            "stream, `with_raw_response`", streamed(RESPONSE, 9), **SINCE_RESPONSES
        ),
        "responses_stream_streaming_response": _row(
            "stream, `with_streaming_response`", streamed(RESPONSE, 9), **SINCE_RESPONSES
        ),
        "responses_stream_helper": _row(
            "`.stream()` helper", streamed(RESPONSE, 9), **SINCE_RESPONSES
        ),
        "responses_stream_closed_early": _row(
            "stream closed early", RESPONSE_CUT_SHORT, **SINCE_RESPONSES
        ),
        "responses_background": _row(
            "in the background: billed when it is done", IN_BACKGROUND, **SINCE_RESPONSES
        ),
        "responses_background_retrieved": _row(
            "in the background, retrieved twice: counted once",
            IN_BACKGROUND,
            *(
                unbilled(
                    "responses.get",
                    served="gpt-4o-mini-2024-07-18",
                    more=IN_BACKGROUND.more,
                )
                for _ in range(2)
            ),
            settled=(of(RESPONSE, {semconv.RESPONSE_ID: "resp_WORK"}),),
            **SINCE_RESPONSES,
        ),
        "responses_tools": _row(
            "built-in tools: the search and its 8,000 tokens are charged too",
            of(
                RESPONSE,
                cost="0.011417425",
                parts={
                    **CHAT_PARTS,
                    "search_content": 1_200_000_000,
                    "web_search": 10_000_000_000,
                },
            ),
            **SINCE_RESPONSES,
        ),
    },
    "Other endpoints": {
        "completions_legacy": _row(
            "completions",
            Call(
                operation="text_completion",
                api="completions",
                asked="gpt-3.5-turbo-instruct",
                served="gpt-3.5-turbo-instruct",
                tokens={semconv.INPUT_TOKENS: 12, semconv.OUTPUT_TOKENS: 7},
                cost="0.000032",
                parts={"input": 18_000_000, "output": 14_000_000},
                more={semconv.RESPONSE_ID: "cmpl-1", semconv.FINISH_REASONS: ["length"]},
            ),
        ),
        "embeddings": _row("embeddings", EMBEDDINGS),
        "embeddings_raw": _row("embeddings, `with_raw_response`", EMBEDDINGS),
        "images": _row("images", IMAGE),
        "images_edit": _row("images: edit", of(IMAGE, operation="images.edits")),
        "images_variation": _row(
            "images: variation",
            Call(
                operation="images.variations",
                api="images",
                asked="dall-e-2",
                served=None,
                **UNKNOWN_MODEL,
            ),
        ),
        "transcription": _row("audio: transcription", TRANSCRIPTION),
        "transcription_by_the_minute": _row(
            "audio: transcription by the minute",
            of(TRANSCRIPTION, asked="whisper-1", tokens={}, status="priced", cost="0.0009"),
        ),
        "transcription_stream": _row(
            "audio: transcription, stream", streamed(TRANSCRIPTION, 3), **SINCE_RESPONSES
        ),
        "translation": _row(
            "audio: translation",
            of(SPEECH, operation="audio.translations", asked="whisper-1"),
        ),
        "speech": _row("audio: speech", SPEECH),
        "speech_by_the_character": _row(
            "audio: speech by the character",
            of(SPEECH, asked="tts-1", status="priced", cost="0.000135"),
        ),
        "speech_streaming_response": _row(
            "audio: speech, `with_streaming_response`", of(SPEECH, LAZY)
        ),
        "moderations": _row(
            "moderations",
            unbilled(
                "moderations",
                status="priced",
                cost="0",
                asked="omni-moderation-latest",
                served="omni-moderation-latest",
                more={semconv.RESPONSE_ID: "modr-1"},
            ),
        ),
        "batches": _row(
            "batches: submitted, billed when they are done",
            SUBMITTED,
        ),
        "batch_results": _row(
            "batches: results read, each line half the price",
            unbilled("batches.get", more={semconv.RESPONSE_ID: "batch_WORK"}),
            unbilled("files.content.get", api="files"),
            of(SUBMITTED, feature="submitter"),
            settled=tuple(
                of(
                    BATCH_LINE,
                    {
                        semconv.REQUEST_ID: f"req_line_{number}",
                        semconv.RESPONSE_ID: f"chatcmpl-WORK-{number}",
                    },
                )
                for number in range(2)
            ),
        ),
        "files_create": _row(
            "files: upload", unbilled("files", more={semconv.RESPONSE_ID: "file-1"})
        ),
        "files_content": _row("files: content", unbilled("files.content.get", api="files")),
        "models_list": _row("models", unbilled("models.get")),
        "assistants_run": _row("assistants: run, billed when it is done", RUN),
        "assistants_run_polled": _row(
            "assistants: run, polled",
            RUN,
            unbilled("threads.runs.get", api="assistants", served="gpt-4o-mini", more=RUN.more),
            settled=(RUN_DONE,),
        ),
        "assistants_run_stream": _row(
            "assistants: run, stream",
            streamed(RUN, 2, **{semconv.RESPONSE_ID: "run_stream_WORK"}),
            settled=(of(RUN_DONE, {semconv.RESPONSE_ID: "run_stream_WORK"}),),
        ),
        "fine_tuning": _row(
            "fine-tuning: job",
            unbilled(
                "fine_tuning.jobs",
                asked="gpt-4o-mini",
                served="gpt-4o-mini-2024-07-18",
                more={semconv.RESPONSE_ID: "ftjob-1"},
            ),
        ),
        "vector_store_create": _row(
            "vector stores: create",
            unbilled("vector_stores", more={semconv.RESPONSE_ID: "vs_1"}),
            **SINCE_RESPONSES,
        ),
        "vector_store_search": _row(
            "vector stores: search", unbilled("vector_stores.search"), **SINCE_RESPONSES
        ),
    },
    "What goes wrong": {
        "retry_429": _row(
            "429 with Retry-After, then an answer",
            of(CHAT, {semconv.RETRIES: 1}, attempts=2),
        ),
        "retry_500_stream": _row(
            "500, then a stream", of(STREAM, {semconv.RETRIES: 1}, attempts=2)
        ),
        "final_429": _row(
            "429 to the end",
            of(
                REFUSED,
                {
                    semconv.RETRIES: 2,
                    semconv.HTTP_STATUS: 429,
                    semconv.ERROR_CODE: "rate_limit_exceeded",
                },
                attempts=3,
                error="RateLimitError",
            ),
        ),
        "final_500": _row(
            "500 to the end",
            of(REFUSED, {semconv.HTTP_STATUS: 500}, error="InternalServerError"),
        ),
        "final_400": _row(
            "400",
            of(
                REFUSED,
                {semconv.HTTP_STATUS: 400, semconv.ERROR_CODE: "context_length_exceeded"},
                error="BadRequestError",
            ),
        ),
        "final_401_stream": _row(
            "401 in place of a stream",
            of(
                REFUSED,
                {
                    semconv.HTTP_STATUS: 401,
                    semconv.ERROR_CODE: "invalid_api_key",
                    semconv.REQUEST_STREAM: True,
                },
                error="AuthenticationError",
            ),
        ),
        "content_filter": _row(
            "refused by the content filter",
            of(
                REFUSED,
                {semconv.HTTP_STATUS: 400, semconv.ERROR_CODE: "content_filter"},
                error="BadRequestError",
            ),
        ),
        "content_filter_in_answer": _row(
            "cut by the content filter", of(CHAT, {semconv.FINISH_REASONS: ["content_filter"]})
        ),
        "timeout": _row(
            "timeout: may be billed, so its cost is unknown",
            of(REFUSED, answered=False, error="APITimeoutError", status="missing_usage"),
        ),
        "connection_refused": _row(
            "connection refused: never sent, so never billed",
            of(REFUSED, answered=False, error="APIConnectionError"),
        ),
        "cancelled": _row(
            "task cancelled while it waits",
            of(
                REFUSED,
                answered=False,
                error="CancelledError",
                status="missing_usage",
            ),
            modes=("async",),
        ),
    },
    "Many at once": {
        "concurrent": _row(
            "eight at once, in threads or by `gather`",
            *(of(CHAT, feature=f"task-{number}") for number in range(8)),
        ),
        "chat_after_fork": _row("a forked worker", of(CHAT, feature="child")),
    },
    "Answers that are not what they should be": {
        "usage_missing": _row("no usage", of(CHAT, **UNTOLD)),
        "usage_absurd": _row("absurd usage", of(CHAT, **INVALID)),
        "answer_of_wrong_types": _row(
            "wrong types",
            Call(served=None, **INVALID),
        ),
        "answer_of_3_megabytes": _row("three megabytes", CHAT),
        "answer_not_json": _row(
            "not JSON",
            Call(served=None, error="JSONDecodeError", **UNTOLD),
        ),
    },
}
ROWS = {name: row for group in GROUPS.values() for name, row in group.items()}
