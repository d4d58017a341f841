"""OpenAI's API on loopback, with faults on request. Standard library only: any SDK drives it.

A request says by its own headers what is to happen: `x-script` names a fault for each attempt,
`x-answer` is merged into the JSON answer, `x-run` tells one run of a behaviour from another.
"""

import gzip
import json
import re
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

Json = dict[str, Any]

CHAT_USAGE: Json = {
    "prompt_tokens": 1117,
    "completion_tokens": 211,
    "total_tokens": 1328,
    "prompt_tokens_details": {"cached_tokens": 1023},
    "completion_tokens_details": {"reasoning_tokens": 64},
}
RESPONSE_USAGE: Json = {
    "input_tokens": 1117,
    "output_tokens": 211,
    "total_tokens": 1328,
    "input_tokens_details": {"cached_tokens": 1023},
    "output_tokens_details": {"reasoning_tokens": 64},
}
_MODEL = "gpt-4o-mini-2024-07-18"
_WORDS = ("One", " two", " three", " four", " five", " six")
_TOOL_CALL: Json = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city":"Oslo"}'},
}
_FILE: Json = {
    "id": "file-1",
    "object": "file",
    "bytes": 3,
    "created_at": 1,
    "filename": "a.jsonl",
    "purpose": "batch",
    "status": "processed",
}


def chat(request: Json) -> Json:
    """Return a completion with as many choices as `request` asks for."""
    called = "tools" in request
    message: Json = {"role": "assistant", "content": '{"name":"Ada"}', "refusal": None}
    if called:
        message |= {"content": None, "tool_calls": [_TOOL_CALL]}
    reason = "tool_calls" if called else "stop"
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": _MODEL,
        "service_tier": "default",
        "system_fingerprint": "fp_1",
        "choices": [
            {"index": index, "message": message, "finish_reason": reason, "logprobs": None}
            for index in range(request.get("n") or 1)
        ],
        "usage": CHAT_USAGE,
    }


def chat_chunks(request: Json) -> Iterator[Json]:
    """Yield the chunks of a streamed completion; the usage only if `request` asks for it."""
    options: Json = request.get("stream_options") or {}
    asked = options.get("include_usage")
    common: Json = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": _MODEL,
        "service_tier": "default",
        "system_fingerprint": "fp_1",
        **({"usage": None} if asked else {}),
    }
    for word in _WORDS:
        delta = {"role": "assistant", "content": word}
        yield {**common, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    yield {**common, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    if asked:
        yield {**common, "choices": [], "usage": CHAT_USAGE}


def response(request: Json) -> Json:
    """Return a response; one in the background is queued at first, and has used nothing yet."""
    later = request["method"] == "GET"
    queued = bool(request.get("background")) and not later
    text: Json = {"type": "output_text", "text": '{"name":"Ada"}', "annotations": []}
    item: Json = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [text],
    }
    searched: Json = {
        "id": "ws_1",
        "type": "web_search_call",
        "status": "completed",
        "action": {"type": "search", "query": "x"},
    }
    output: list[Json] = [searched, item] if request.get("tools") else [item]
    return {
        "id": f"resp_{request['work']}" if queued or later else "resp_1",
        "object": "response",
        "background": queued or later,
        "created_at": 1,
        "model": _MODEL,
        "status": "queued" if queued else "completed",
        "output": [] if queued else output,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": request.get("tools") or [],
        "service_tier": "default",
        "usage": None if queued else RESPONSE_USAGE,
    }


def response_events(request: Json) -> Iterator[Json]:
    """Yield the events of a streamed response."""
    done = response(request)
    begun: Json = {**done, "status": "in_progress", "output": [], "usage": None}
    (item,) = done["output"]
    (text,) = item["content"]
    place: Json = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    started: Json = {**item, "status": "in_progress", "content": []}
    bodies: list[Json] = [
        {"type": "response.created", "response": begun},
        {"type": "response.output_item.added", "output_index": 0, "item": started},
        {"type": "response.content_part.added", **place, "part": {**text, "text": ""}},
        {"type": "response.output_text.delta", **place, "delta": '{"name":', "logprobs": []},
        {"type": "response.output_text.delta", **place, "delta": '"Ada"}', "logprobs": []},
        {"type": "response.output_text.done", **place, "text": text["text"], "logprobs": []},
        {"type": "response.content_part.done", **place, "part": text},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": done},
    ]
    for number, body in enumerate(bodies):
        yield {**body, "sequence_number": number}


def completion(_request: Json) -> Json:
    """Return a completion of the legacy API."""
    return {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 1,
        "model": "gpt-3.5-turbo-instruct",
        "choices": [{"index": 0, "text": "x", "finish_reason": "length", "logprobs": None}],
        "usage": {"prompt_tokens": 12, "completion_tokens": 7, "total_tokens": 19},
    }


def embeddings(_request: Json) -> Json:
    """Return one vector."""
    return {
        "object": "list",
        "model": "text-embedding-3-small",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}],
        "usage": {"prompt_tokens": 8, "total_tokens": 8},
    }


def image(_request: Json) -> Json:
    """Return one image with tokens by kind."""
    return {
        "created": 1,
        "background": "opaque",
        "output_format": "png",
        "quality": "low",
        "size": "1024x1024",
        "data": [{"b64_json": "aGk="}],
        "usage": {
            "input_tokens": 60,
            "output_tokens": 272,
            "total_tokens": 332,
            "input_tokens_details": {"text_tokens": 20, "image_tokens": 40},
            "output_tokens_details": {"text_tokens": 0, "image_tokens": 272},
        },
    }


TRANSCRIPTION_USAGE: Json = {
    "type": "tokens",
    "input_tokens": 14,
    "output_tokens": 45,
    "total_tokens": 59,
    "input_token_details": {"text_tokens": 4, "audio_tokens": 10},
}


def transcription_events(_request: Json) -> Iterator[Json]:
    """Yield the events of a streamed transcription."""
    yield {"type": "transcript.text.delta", "delta": "Hello"}
    yield {"type": "transcript.text.delta", "delta": " you"}
    yield {"type": "transcript.text.done", "text": "Hello you", "usage": TRANSCRIPTION_USAGE}


_RUN_USAGE: Json = {"prompt_tokens": 30, "completion_tokens": 20, "total_tokens": 50}


def run(request: Json) -> Json:
    """Return an assistant's run, which reports its usage when it is done."""
    done = request["method"] == "GET"
    return {
        "id": f"run_{request['work']}",
        "object": "thread.run",
        "created_at": 1,
        "thread_id": "thread_1",
        "assistant_id": "asst_1",
        "status": "completed" if done else "queued",
        "model": "gpt-4o-mini",
        "instructions": "x",
        "tools": [],
        "metadata": {},
        "parallel_tool_calls": True,
        "usage": _RUN_USAGE if done else None,
    }


def run_events(request: Json) -> Iterator[Json]:
    """Yield the events of a streamed run."""
    begun = {**run(request), "id": f"run_stream_{request['work']}"}
    done = {**begun, "status": "completed", "usage": _RUN_USAGE}
    yield {"event": "thread.run.created", "data": begun}
    yield {"event": "thread.run.completed", "data": done}


def batch(request: Json) -> Json:
    """Return a batch, done when it is asked for again."""
    done = request["method"] == "GET"
    return {
        "id": f"batch_{request['work']}",
        "object": "batch",
        "endpoint": "/v1/chat/completions",
        "input_file_id": "file-1",
        "completion_window": "24h",
        "status": "completed" if done else "validating",
        "created_at": 1,
        **({"output_file_id": f"file-out-{request['work']}"} if done else {}),
    }


def batch_output(work: str) -> bytes:
    """Return the output file of a batch: two lines."""
    usage = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
    body = {**chat({}), "usage": usage}
    lines = [
        {
            "id": f"batch_req_{work}_{number}",
            "custom_id": f"line-{number}",
            "response": {
                "status_code": 200,
                "request_id": f"req_line_{number}",
                "body": {**body, "id": f"chatcmpl-{work}-{number}"},
            },
            "error": None,
        }
        for number in range(2)
    ]
    return "".join(f"{json.dumps(line)}\n" for line in lines).encode()


def _listed(item: Json) -> Json:
    return {"object": "list", "data": [item], "has_more": False}


_OF_WORK = re.compile(r"(?<=/)(batch|resp|run|file-out)[_-][^/]+")
"""An id with the name of a run in it, so that no two behaviours are about the same work."""

_ANSWERS: dict[str, Callable[[Json], Json]] = {
    "POST chat/completions": chat,
    "POST responses": response,
    "GET responses/resp": response,
    "POST completions": completion,
    "POST embeddings": embeddings,
    "POST images/generations": image,
    "POST images/edits": image,
    "POST images/variations": lambda _: {"created": 1, "data": [{"b64_json": "aGk="}]},
    "POST audio/transcriptions": lambda _: {"text": "Hello you", "usage": TRANSCRIPTION_USAGE},
    "POST audio/translations": lambda _: {"text": "Hello you"},
    "POST moderations": lambda _: {
        "id": "modr-1",
        "model": "omni-moderation-latest",
        "results": [{"flagged": False, "categories": {}, "category_scores": {}}],
    },
    "POST batches": batch,
    "GET batches/batch": batch,
    "POST files": lambda _: _FILE,
    "GET models": lambda _: _listed(
        {"id": "gpt-4o-mini", "object": "model", "created": 1, "owned_by": "openai"}
    ),
    "POST threads/thread_1/runs": run,
    "GET threads/thread_1/runs/run": run,
    "POST fine_tuning/jobs": lambda _: {
        "id": "ftjob-1",
        "object": "fine_tuning.job",
        "created_at": 1,
        "model": "gpt-4o-mini-2024-07-18",
        "organization_id": "acme",
        "result_files": [],
        "seed": 0,
        "status": "queued",
        "training_file": "file-1",
        "hyperparameters": {"n_epochs": "auto"},
    },
    "POST vector_stores": lambda _: {
        "id": "vs_1",
        "object": "vector_store",
        "created_at": 1,
        "name": "x",
        "status": "completed",
        "usage_bytes": 0,
        "file_counts": {"in_progress": 0, "completed": 0, "failed": 0, "cancelled": 0, "total": 0},
    },
    "POST vector_stores/vs_1/search": lambda _: {
        "object": "vector_store.search_results.page",
        "search_query": ["x"],
        "data": [],
        "has_more": False,
        "next_page": None,
    },
}
_EVENTS: dict[str, Callable[[Json], Iterator[Json]]] = {
    "POST chat/completions": chat_chunks,
    "POST responses": response_events,
    "POST audio/transcriptions": transcription_events,
    "POST threads/thread_1/runs": run_events,
}
_BYTES: dict[str, tuple[str, bytes]] = {
    "POST audio/speech": ("audio/mpeg", b"ID3" + bytes(3000)),
    "GET files/file-1/content": ("application/octet-stream", b'{"a":1}\n'),
}
_ERRORS: dict[str, tuple[int, Json]] = {
    "400": (400, {"code": "context_length_exceeded", "type": "invalid_request_error"}),
    "401": (401, {"code": "invalid_api_key", "type": "invalid_request_error"}),
    "429": (429, {"code": "rate_limit_exceeded", "type": "requests"}),
    "500": (500, {"code": None, "type": "server_error"}),
    "filter": (400, {"code": "content_filter", "type": None}),
}


class OpenAiServer:
    """The server, and what it was sent."""

    def __init__(self) -> None:
        self.sent: defaultdict[str, list[Json]] = defaultdict(list)
        """The requests of each run."""
        self.waiting = threading.Semaphore(0)
        """Released for each request that hangs."""
        self.closing = threading.Event()
        self.port = 0
        self._attempts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def arrived(self, of_run: str, request: Json) -> int:
        """Note a request; return how many of its run came before."""
        with self._lock:
            self.sent[of_run].append(request)
            self._attempts[of_run] += 1
            return self._attempts[of_run] - 1

    def until_hanging(self) -> None:
        """Return when a request hangs."""
        if not self.waiting.acquire(timeout=10):
            msg = "no request arrived that was to hang"
            raise TimeoutError(msg)

    @contextmanager
    def listening(self) -> Generator["OpenAiServer"]:
        """Listen on a free port of loopback."""

        class Handler(_Handler):
            api = self

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

            def handle_error(self, request: object, client_address: object) -> None:
                """Say nothing: that the client hung up is what is tested."""

        server = Server(("127.0.0.1", 0), Handler)
        self.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            self.closing.set()
            server.shutdown()
            thread.join()
            server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    api: OpenAiServer

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        data = self.rfile.read(int(self.headers.get("content-length") or 0))
        if "chunked" in (self.headers.get("transfer-encoding") or ""):
            data = self._unchunked()
        is_json = "json" in (self.headers.get("content-type") or "")
        body: Json = json.loads(data) if is_json and data else {}
        run_name = self.headers.get("x-run", "")
        streamed = bool(body.get("stream")) or b'name="stream"\r\n\r\ntrue' in data
        attempt = self.api.arrived(
            run_name,
            {
                "path": self.path,
                "headers": sorted(
                    f"{name.lower()}: {value}"
                    for name, value in self.headers.items()
                    if name.lower() not in {"x-run", "content-length", "content-type"}
                ),
                "body": body or len(data),
            },
        )
        script = (self.headers.get("x-script") or "ok").split(",")
        fault = script[min(attempt, len(script) - 1)]
        self._request_id = f"req_{run_name.split('/')[0]}_{attempt}"
        with suppress(OSError):
            self._act(fault, body, streamed=streamed)

    def _unchunked(self) -> bytes:
        parts: list[bytes] = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _act(self, fault: str, body: Json, *, streamed: bool) -> None:
        path = urlsplit(self.path).path.removeprefix("/v1/")
        if path.startswith("/openai/deployments/"):
            path = path.split("/", 4)[4]
        name = f"{self.command} " + _OF_WORK.sub(r"\1", path)
        work = "_".join(self.headers.get("x-run", "").split("/")[:2])
        asked: Json = {**body, "method": self.command, "work": work}
        if fault in _ERRORS:
            status, error = _ERRORS[fault]
            content = json.dumps({"error": {"message": "No.", "param": None, **error}})
            self._send(status, "application/json", content.encode())
        elif fault == "hang":
            self.api.waiting.release()
            self.api.closing.wait(5)
            self.close_connection = True
        elif fault == "text":
            self._send(200, "application/json", b"<html>not JSON</html>")
        elif name == "GET files/file-out/content":
            self._send(200, "application/octet-stream", batch_output(work))
        elif name in _BYTES:
            self._send(200, *_BYTES[name])
        elif streamed and name in _EVENTS:
            self._stream(fault, list(_EVENTS[name](asked)))
        else:
            answer = {**_ANSWERS[name](asked), **json.loads(self.headers.get("x-answer") or "{}")}
            if pad := int(self.headers.get("x-pad") or 0):
                answer["padding"] = "x" * pad
            self._send(200, "application/json", json.dumps(answer).encode())

    def _headers(self, status: int, kind: str) -> None:
        self.send_response(status)
        for name, value in (
            ("content-type", kind),
            ("x-request-id", self._request_id),
            ("openai-organization", "acme"),
            ("openai-project", "proj_1"),
            ("x-ratelimit-remaining-requests", "4999"),
            ("x-ratelimit-remaining-tokens", "199000"),
        ):
            self.send_header(name, value)
        if status >= 429:
            self.send_header("retry-after-ms", "1")

    def _send(self, status: int, kind: str, content: bytes) -> None:
        self._headers(status, kind)
        accepted = self.headers.get("accept-encoding") or ""
        if kind == "application/json" and "gzip" in accepted and not self.headers.get("x-pad"):
            content = gzip.compress(content, compresslevel=1)  # as OpenAI does
            self.send_header("content-encoding", "gzip")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def _stream(self, fault: str, events: list[Json]) -> None:
        self._headers(200, "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for number, event in enumerate(events):
            if number == 2 and fault == "cut":
                self.wfile.flush()
                self.close_connection = True
                return
            if number == 2 and fault == "event":
                error = {"message": "Overloaded.", "type": "server_error", "code": "overloaded"}
                self._chunk(f"data: {json.dumps({'error': error})}\n\n")
                break
            if number == 2 and fault == "pause":
                self.wfile.flush()
                self.api.waiting.release()
                self.api.closing.wait(5)
                self.close_connection = True
                return
            named = event.get("event") or event.get("type")
            data = json.dumps(event["data"] if "event" in event else event)
            self._chunk((f"event: {named}\n" if named else "") + f"data: {data}\n\n")
        self._chunk("data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    def _chunk(self, text: str) -> None:
        data = text.encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
