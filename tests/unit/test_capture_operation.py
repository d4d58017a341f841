"""A request is named by what it does, without ids, and billed only where an answer is made."""

import pytest

from costspan.capture.operation import operation_of


@pytest.mark.parametrize(
    ("method", "url", "name", "api_type"),
    [
        ("post", "/chat/completions", "chat", "chat_completions"),
        ("post", "/responses", "chat", "responses"),
        ("post", "/completions", "text_completion", "completions"),
        ("post", "/embeddings", "embeddings", "embeddings"),
        ("post", "/images/generations", "images.generations", "images"),
        ("post", "/audio/transcriptions", "audio.transcriptions", "audio"),
        ("get", "/responses/resp_68af4030592c81938ec0a5fbab4a3e9f", "responses.get", "responses"),
        ("post", "/responses/resp_68af403/cancel", "responses.cancel", "responses"),
        ("get", "/models/whisper", "models.get", "models"),
        ("get", "/files/file-abc123/content", "files.content.get", "files"),
        ("post", "/vector_stores/vs_1/file_batches", "vector_stores.file_batches", "vector_stores"),
        ("get", "https://api.openai.com/v1/models", "models.get", "models"),
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
        ("post", "/images/edits", True),
        ("get", "/responses/resp_1", False),
        ("post", "/responses/resp_1/cancel", False),
        ("post", "/responses/input_tokens", False),
        ("post", "/chat/completions/chatcmpl-1", False),
        ("get", "/chat/completions", False),
        ("post", "/moderations", False),
        ("post", "/assistants", False),
    ],
)
def test_reading_an_answer_again_is_not_billed_again(method: str, url: str, billed: bool) -> None:
    assert operation_of(method, url).billed is billed
