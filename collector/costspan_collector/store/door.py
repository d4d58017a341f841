"""A read-only ClickHouse interface over HTTP, on the embedded engine.

One process has the engine; through this door others read what it holds: `clickhouse-connect`,
Grafana, or a costspan command with `http://reader:TOKEN@host:8123` for its URL.
"""

import base64
import binascii
import hmac
import re
from collections.abc import Generator
from contextlib import closing, contextmanager
from typing import Any

import chdb  # pyright: ignore[reportMissingTypeStubs]
from anyio import CapacityLimiter, to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from costspan.errors import Rejected
from costspan_collector.listening import bound, running
from costspan_collector.settings import Upkeep
from costspan_collector.store.client import DATABASE, Store

MOST_SECONDS, MOST_ROWS, MOST_RESULT_BYTES, MOST_MEMORY_BYTES = 30, 5_000_000, 2**28, 2**31
_LIMITS = (
    f"max_execution_time = {MOST_SECONDS}, max_result_rows = {MOST_ROWS}, "
    f"max_result_bytes = {MOST_RESULT_BYTES}, max_memory_usage = {MOST_MEMORY_BYTES}, "
    "result_overflow_mode = 'throw', readonly = 1"
)
_READERS = 4
_MOST_QUERY_BYTES = 2**20

_READS = ("SELECT", "WITH", "SHOW", "DESCRIBE", "EXISTS", "EXPLAIN")
_LITERAL = re.compile(r"'(?:[^'\\]|\\.|'')*'")
# What the engine's own readonly mode lets through: a file written, and a file read.
_TOUCHES_FILES = re.compile(r"\bINTO OUTFILE\b|\bfile\b", re.IGNORECASE)
# And this, where the engine goes and reads what a function names: an address, another database.
_DESCRIBES_FUNCTION = re.compile(r"DESCRIBE TABLE [^\s(]+\(")
_FORMAT = re.compile(r"\bFORMAT (\w+)\s*$")
_CODE = re.compile(r"Code: (\d+)")
_AUTHENTICATION_FAILED, _READONLY, _UNKNOWN = 516, 164, 1002


class _Refused(Exception):
    """The engine's code for it, and what to tell."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"Code: {code}. DB::Exception: {message}")


@contextmanager
def open_door(store: Store, settings: Upkeep) -> Generator[str]:
    """Serve the door beside the caller, and give its address; '' where no token is set.

    Raises:
        Rejected: the store is a server and has its own, or the port cannot be had.
    """
    token = settings.door_token.get_secret_value()
    if not token:
        yield ""
        return
    scheme, _, directory = store.url.partition("://")
    if scheme != "chdb":
        msg = "COSTSPAN_STORE_DOOR_TOKEN is for the embedded engine; ask the server itself"
        raise Rejected(msg)
    try:
        listener = bound(settings.door_host, settings.door_port)
    except OSError as error:
        msg = (
            f"port {settings.door_port} on {settings.door_host} cannot be used "
            f"({error.strerror}); choose another with COSTSPAN_STORE_DOOR_PORT"
        )
        raise Rejected(msg) from error
    with listener, running(door(directory, token), listener) as url:
        yield url


def door(directory: str, token: str) -> Starlette:
    """Return the app that reads the engine of `directory` for whoever knows `token`."""
    readers = CapacityLimiter(_READERS)

    async def answer(request: Request) -> Response:
        if not _may_enter(request, token):
            return _fault(_Refused(_AUTHENTICATION_FAILED, "the token is not right"), 403)
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MOST_QUERY_BYTES:
                return _fault(_Refused(_READONLY, "the query is too long"), 413)
        asked = request.query_params
        sql = "\n".join(filter(None, (asked.get("query", ""), body.decode(errors="replace"))))
        bound = {
            name.removeprefix("param_"): value
            for name, value in asked.items()
            if name.startswith("param_")
        }
        wanted = request.headers.get("x-clickhouse-format", "TabSeparated")
        wanted = asked.get("default_format", wanted)
        database = asked.get("database", DATABASE)
        try:
            content, shape = await to_thread.run_sync(
                _read, directory, database, sql, wanted, bound, limiter=readers
            )
        except (_Refused, RuntimeError) as error:  # the engine's errors are RuntimeErrors
            return _fault(error)
        headers = {"X-ClickHouse-Format": shape, "X-ClickHouse-Timezone": "UTC"}
        return Response(content, media_type="application/octet-stream", headers=headers)

    async def ping(request: Request) -> Response:
        del request
        return PlainTextResponse("Ok.\n")

    return Starlette(
        routes=[Route("/ping", ping), Route("/", answer, methods=["GET", "POST"])],
    )


def _may_enter(request: Request, token: str) -> bool:
    kind, _, credentials = request.headers.get("authorization", "").partition(" ")
    given = request.headers.get("x-clickhouse-key", "")
    if kind.lower() == "bearer":
        given = credentials
    elif kind.lower() == "basic":
        try:
            given = base64.b64decode(credentials, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return False
    return hmac.compare_digest(given.encode(), token.encode())


def _read(
    directory: str, database: str, sql: str, wanted: str, bound: dict[str, str]
) -> tuple[bytes, str]:
    """Return the answer and its format. A handle of its own keeps readers apart."""
    if not re.fullmatch(r"\w+", database):
        raise _Refused(_READONLY, "a database is named by letters, digits and underscores")
    with closing(chdb.connect(directory)) as handle:
        handle.query(f"USE {database}", "TabSeparated")
        handle.query(f"SET {_LIMITS}", "TabSeparated")
        told = _FORMAT.search(_checked(handle, sql))
        result = handle.query(sql, wanted, params=bound)
        return result.bytes(), told[1] if told else wanted


def _checked(handle: Any, sql: str) -> str:  # noqa: ANN401 - chdb types its handles loosely
    """Return the statement as the engine understands it, in one line without comments."""
    escaped = sql.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")
    parsed = handle.query(
        "SELECT formatQuerySingleLine({sql:String})", "TabSeparatedRaw", params={"sql": escaped}
    )
    text: str = parsed.bytes().decode().strip()
    bare = _LITERAL.sub("''", text)
    if not bare.startswith(_READS):
        raise _Refused(_READONLY, "this door is for reading: SELECT, SHOW, DESCRIBE, EXPLAIN")
    if _TOUCHES_FILES.search(bare):
        raise _Refused(
            _READONLY, "this door reads tables, not files, and `file` names nothing here"
        )
    if _DESCRIBES_FUNCTION.match(bare):
        raise _Refused(_READONLY, "this door describes tables and queries: DESCRIBE (SELECT …)")
    return text


def _fault(error: Exception, status: int = 500) -> Response:
    text = str(error)
    code = _CODE.search(text)
    headers = {"X-ClickHouse-Exception-Code": code[1] if code else str(_UNKNOWN)}
    return PlainTextResponse(text, status, headers=headers)
