"""A request is named by what it does, without ids, and billed only where an answer is made."""

import time

import pytest

from costspan.capture.operation import BATCH_OUTPUT, operation_of


@pytest.mark.parametrize(
    ("method", "url", "name", "api_type"),
    [
        ("post", "/chat/completions", "chat", "chat_completions"),
        ("get", "/chat/completions/chatcmpl-1", "chat.completions.get", "chat_completions"),
        ("post", "/responses", "chat", "responses"),
        ("post", "/responses/compact", "responses.compact", "responses"),
        ("get", "/responses/resp_68af4030592c81938ec0a5fbab4a3e9f", "responses.get", "responses"),
        ("post", "/responses/resp_68af403/cancel", "responses.cancel", "responses"),
        ("get", "/responses/resp_1/input_items", "responses.input_items.get", "responses"),
        ("post", "/completions", "text_completion", "completions"),
        ("post", "/embeddings", "embeddings", "embeddings"),
        ("post", "/images/generations", "images.generations", "images"),
        ("post", "/images/edits", "images.edits", "images"),
        ("post", "/images/variations", "images.variations", "images"),
        ("post", "/audio/transcriptions", "audio.transcriptions", "audio"),
        ("post", "/audio/translations", "audio.translations", "audio"),
        ("post", "/audio/speech", "audio.speech", "audio"),
        ("post", "/moderations", "moderations", "moderations"),
        ("post", "/decisions", "decisions", "decisions"),
        ("post", "/batches", "batches", "batches"),
        ("get", "/batches/batch_abc", "batches.get", "batches"),
        ("post", "/files", "files", "files"),
        ("get", "/files/file-abc123/content", "files.content.get", "files"),
        ("delete", "/files/file-abc", "files.delete", "files"),
        ("post", "/fine_tuning/jobs", "fine_tuning.jobs", "fine_tuning"),
        (
            "get",
            "/fine_tuning/jobs/ftjob-1/events?after=x",
            "fine_tuning.jobs.events.get",
            "fine_tuning",
        ),
        ("post", "/vector_stores", "vector_stores", "vector_stores"),
        ("post", "/vector_stores/vs_abc/search", "vector_stores.search", "vector_stores"),
        ("post", "/vector_stores/vs_1/file_batches", "vector_stores.file_batches", "vector_stores"),
        ("post", "/assistants", "assistants", "assistants"),
        ("post", "/threads", "threads", "assistants"),
        ("post", "/threads/runs", "threads.runs", "assistants"),
        ("post", "/threads/thread_abc/runs", "threads.runs", "assistants"),
        ("get", "/threads/thread_abc/runs/run_abc", "threads.runs.get", "assistants"),
        (
            "post",
            "/threads/thread_1/runs/run_1/submit_tool_outputs",
            "threads.runs.submit_tool_outputs",
            "assistants",
        ),
        ("post", "/videos", "videos", "videos"),
        ("post", "/videos/video_1/remix", "videos.remix", "videos"),
        ("get", "/videos/video_1/content", "videos.content.get", "videos"),
        ("post", "/containers", "containers", "containers"),
        (
            "get",
            "/containers/cntr_1/files/cfile_1/content",
            "containers.files.content.get",
            "containers",
        ),
        ("post", "/evals", "evals", "evals"),
        ("post", "/evals/eval_abc/runs", "evals.runs", "evals"),
        ("post", "/conversations/conv_abc/items", "conversations.items", "conversations"),
        ("post", "/realtime/client_secrets", "realtime.client_secrets", "realtime"),
        ("post", "/realtime/calls/rtc_1/hangup", "realtime.calls.hangup", "realtime"),
        ("post", "/uploads/upload_abc/parts", "uploads.parts", "uploads"),
        ("get", "/models/whisper", "models.get", "models"),
        ("get", "https://api.openai.com/v1/models", "models.get", "models"),
        ("post", "https://api.openai.com/v1/chat/completions", "chat", "chat_completions"),
        ("get", "/organization/costs", "organization.costs.get", "organization"),
        ("post", "/rerank", "rerank", "rerank"),
        ("post", "/", "request", "request"),
    ],
)
def test_an_operation_is_named_without_ids(method: str, url: str, name: str, api_type: str) -> None:
    operation = operation_of(method, url)
    assert (operation.name, operation.api_type) == (name, api_type)


@pytest.mark.parametrize(
    ("method", "url", "billed"),
    [
        ("post", "/responses", True),
        ("post", "/responses/compact", True),
        ("post", "/images/generations", True),
        ("post", "/images/edits", True),
        ("post", "/images/variations", True),
        ("post", "/audio/transcriptions", True),
        ("post", "/audio/translations", True),
        ("post", "/audio/speech", True),
        ("post", "/audio/voices", False),
        ("post", "/decisions", True),
        ("post", "/videos", True),
        ("post", "/videos/video_1/remix", True),
        ("get", "/videos/video_1", False),
        ("post", "/batches", True),
        ("post", "/batches/batch_1/cancel", False),
        ("get", "/batches/batch_1", False),
        ("post", "/threads/runs", True),
        ("post", "/threads/thread_1/runs", True),
        ("post", "/threads/thread_1/runs/run_1/submit_tool_outputs", False),
        ("post", "/threads/thread_1/messages", False),
        ("post", "/evals/eval_1/runs", True),
        ("post", "/evals", False),
        ("get", "/responses/resp_1", False),
        ("post", "/responses/resp_1/cancel", False),
        ("post", "/responses/input_tokens", False),
        ("post", "/chat/completions/chatcmpl-1", False),
        ("get", "/chat/completions", False),
        ("post", "/moderations", True),
        ("post", "/assistants", False),
        ("post", "/files", False),
        ("post", "/uploads", False),
        ("post", "/fine_tuning/jobs", False),
        ("post", "/vector_stores/vs_1/search", False),
        ("post", "/containers", False),
        ("post", "/conversations", False),
        ("post", "/realtime/client_secrets", False),
    ],
)
def test_reading_an_answer_again_is_not_billed_again(method: str, url: str, billed: bool) -> None:
    assert operation_of(method, url).billed is billed


@pytest.mark.parametrize(
    ("method", "url", "settles"),
    [
        ("get", "/responses/resp_1", True),
        ("post", "/responses/resp_1/cancel", True),
        ("get", "/responses/resp_1/input_items", False),
        ("get", "/threads/thread_1/runs/run_1", True),
        ("post", "/threads/thread_1/runs/run_1/submit_tool_outputs", True),
        ("get", "/threads/thread_1/runs/run_1/steps", False),
        ("get", "/batches/batch_1", True),
        ("get", "/chat/completions/chatcmpl-1", False),
        ("get", "/models", False),
    ],
)
def test_only_some_reads_may_show_the_end_of_work(method: str, url: str, settles: bool) -> None:
    assert operation_of(method, url).settles is settles


def test_the_output_of_a_batch_is_told_from_other_contents() -> None:
    assert operation_of("get", "/files/file-1/content").name == BATCH_OUTPUT
    assert operation_of("get", "/containers/cntr_1/files/cfile_1/content").name != BATCH_OUTPUT


def test_a_stream_is_asked_for_usage_only_where_that_can_be_asked() -> None:
    asked = [
        url
        for url in (
            "/chat/completions",
            "/completions",
            "/responses",
            "/chat/completions/chatcmpl-1",
        )
        if operation_of("post", url).streams_usage_on_request
    ]
    assert asked == ["/chat/completions", "/completions"]


def test_a_kind_that_was_seen_is_remembered_and_a_long_path_is_not() -> None:
    assert operation_of("post", "/responses") is operation_of("post", "/responses")
    long = "/models/" + "x" * 300
    assert operation_of("get", long) == operation_of("get", long)
    assert operation_of("get", long) is not operation_of("get", long)


def test_naming_costs_the_app_next_to_nothing() -> None:
    operation_of("post", "/chat/completions")
    began = time.thread_time()
    for _ in range(1000):
        operation_of("post", "/chat/completions")
    assert (time.thread_time() - began) / 1000 < 5e-6
