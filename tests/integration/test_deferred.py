"""Work that is read later, by two processes and twice, counts once in the real store."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette

from costspan_collector.listening import listen, running
from costspan_collector.pipeline import Pipeline
from costspan_collector.receiver import routes
from costspan_collector.settings import Receiver
from costspan_collector.store import Store

CREATED = 1_748_779_200
"""2025-06-01, 12:00 UTC"""
LINES = 700
RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "created_at": CREATED,
    "background": True,
    "status": "completed",
    "model": "gpt-4o-mini-2024-07-18",
    "output": [],
    "service_tier": "default",
    "usage": {"input_tokens": 1117, "output_tokens": 211, "total_tokens": 1328},
}
RUN: dict[str, Any] = {
    "id": "run_1",
    "object": "thread.run",
    "created_at": CREATED,
    "thread_id": "thread_1",
    "assistant_id": "asst_1",
    "status": "completed",
    "model": "gpt-4o-mini",
    "usage": {"prompt_tokens": 381, "completion_tokens": 88, "total_tokens": 469},
}
BATCH: dict[str, Any] = {"id": "batch_1", "object": "batch", "status": "completed"}


def line(number: int) -> str:
    body = {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion",
        "created": CREATED + number,
        "model": "gpt-4o-mini-2024-07-18",
        "service_tier": "default",
        "choices": [{"index": 0, "message": {"content": "secret"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1117, "completion_tokens": 211, "total_tokens": 1328},
    }
    response = {"status_code": 200, "request_id": "r", "body": body}
    told = {"id": f"batch_req_{number}", "custom_id": "c", "response": response, "error": None}
    return json.dumps(told)


ANSWERS = {
    "POST /v1/batches": BATCH | {"status": "validating"},
    "GET /v1/batches/batch_1": BATCH | {"output_file_id": "file-1"},
    "GET /v1/files/file-1/content": "\n".join(map(line, range(LINES))) + "\n",
    "POST /v1/responses": RESPONSE | {"status": "queued", "usage": None},
    "GET /v1/responses/resp_1": RESPONSE,
    "POST /v1/threads/thread_1/runs": RUN | {"status": "queued", "usage": None},
    "GET /v1/threads/thread_1/runs/run_1": RUN,
}

APP = """
import sys
import warnings
import costspan.auto
import openai
import costspan

warnings.simplefilter("ignore", DeprecationWarning)
client = openai.OpenAI()
if "submit" in sys.argv:
    with costspan.attribute(team="ml"):
        client.responses.create(model="gpt-4o-mini", input="x", background=True)
        client.beta.threads.runs.create("thread_1", assistant_id="asst_1")
        client.batches.create(
            input_file_id="file-0", endpoint="/v1/chat/completions", completion_window="24h"
        )
    client.batches.retrieve("batch_1")
for _ in range(5):
    client.responses.retrieve("resp_1")
    client.beta.threads.runs.retrieve("run_1", thread_id="thread_1")
client.files.content("file-1")
left_open = client.files.with_streaming_response.content("file-1").__enter__()
print(sum(len(data) for data in left_open.iter_bytes()))
"""
"""It ends without a flush: what it has read is recorded all the same."""


@pytest.fixture
def api() -> Iterator[str]:
    """OpenAI, as far as work that is read later goes."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            body = ANSWERS[f"{self.command} {self.path}"]
            is_file = isinstance(body, str)
            content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            kind = "application/octet-stream" if is_file else "application/json"
            self.send_response(200)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def received(store: Store, tmp_path: Path) -> Iterator[tuple[str, Pipeline]]:
    """A receiver whose clock is right, since the apps' clocks are."""
    settings = Receiver(port=0, spool=tmp_path / "spool", segment_seconds=0.05)
    pipeline = Pipeline(store, settings)
    app = Starlette(routes=[*routes(pipeline, settings, now=lambda: datetime.now(UTC))])
    with listen(settings) as listener, running(app, listener) as url:
        yield url, pipeline
    pipeline.close()


def run(api: str, received: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "OPENAI_BASE_URL": api,
        "OPENAI_API_KEY": "sk-test",
        "OTEL_EXPORTER_OTLP_ENDPOINT": received,
        "OTEL_SERVICE_NAME": "reader",
        "COSTSPAN_CAPTURE_PRICED_HOSTS": "127.0.0.1",
        "COSTSPAN_CAPTURE_HTTP_SPANS": "false",
    }
    return subprocess.run(
        [sys.executable, "-c", APP, *arguments],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )


@dataclass(frozen=True)
class Found:
    api_type: str
    tier: str
    team: str
    calls: int
    input_tokens: int
    cost_usd: Decimal


@dataclass(frozen=True)
class Status:
    operation: str
    price_status: str
    calls: int
    lacking: int


def test_two_processes_that_read_the_same_work_make_one_row_of_it(
    api: str, received: tuple[str, Pipeline], store: Store
) -> None:
    url, pipeline = received
    size = len(str(ANSWERS["GET /v1/files/file-1/content"]))
    for arguments in ((), ("submit",)):
        done = run(api, url, *arguments)
        assert (done.stdout, done.stderr) == (f"{size}\n", "")
    assert pipeline.settle()
    found = store.select(
        """
        SELECT api_type, response_tier AS tier, team, count() AS calls,
            toUInt64(sum(input_tokens)) AS input_tokens, sum(cost_usd) AS cost_usd
        FROM calls FINAL WHERE price_status = 'priced' GROUP BY ALL ORDER BY api_type
        """,
        Found,
    )
    assert found == [
        Found("assistants", "", "ml", 1, 381, Decimal("0.000109950000")),
        Found("chat_completions", "batch", "ml", 700, 781_900, Decimal("0.102952500000")),
        Found("responses", "default", "ml", 1, 1117, Decimal("0.000294150000")),
    ]
    beside = store.select(
        """
        SELECT operation, price_status, count() AS calls, countIf(unpriced) AS lacking
        FROM calls FINAL WHERE price_status != 'priced' GROUP BY ALL
        ORDER BY price_status, operation
        """,
        Status,
    )
    assert beside == [
        Status("batches", "deferred", 1, 0),
        Status("chat", "deferred", 1, 0),
        Status("threads.runs", "deferred", 1, 0),
        Status("batches.get", "not_billed", 1, 0),
        Status("files.content.get", "not_billed", 4, 0),
        Status("responses.get", "not_billed", 10, 0),
        Status("threads.runs.get", "not_billed", 10, 0),
    ]
