"""One client for the embedded engine (chDB) and for a ClickHouse server."""

import fcntl
import logging
import os
import struct
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from functools import cache, cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Protocol, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import clickhouse_connect
from clickhouse_connect.datatypes.base import ClickHouseType
from clickhouse_connect.datatypes.registry import get_from_name
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import (
    ClickHouseError,
    DataError,
    OperationalError,
    ProgrammingError,
)
from clickhouse_connect.driver.insert import InsertContext
from clickhouse_connect.driver.transform import NativeTransform
from pydantic import TypeAdapter

from costspan.errors import Rejected, Unavailable
from costspan_collector.store.columns import shipped_columns

DATABASE = "costspan"

_log = logging.getLogger("costspan.store")

_NOT_OF_THE_TABLE = (DataError, ProgrammingError)


class Row(Protocol):
    """A frozen dataclass whose fields are the columns of a table or of a query."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


Shape = TypeVar("Shape", bound=Row)


class Store:
    """Rows in, rows out. Safe to share between threads."""

    def __init__(self, opens: Callable[[], Client], url: str, cluster: str = "") -> None:
        self._opens = opens
        self.url = url
        """Where it is, without user and password."""
        self.cluster = cluster
        """The servers that hold the same rows; '' where there is one."""
        self._columns: dict[tuple[str, tuple[str, ...]], Sequence[ClickHouseType]] = {}

    @cached_property
    def _client(self) -> Client:
        return self._opens()

    def opened(self) -> "Store":
        """Open it now, so that what is wrong is told now."""
        _ = self._client
        return self

    def another(self) -> "Store":
        """Return a handle of its own, opened when it is first used."""
        return Store(self._opens, self.url, self.cluster)

    def insert(self, table: str, rows: Sequence[Row], *, token: str = "") -> None:
        """Write `rows` to `table` as one block; they are durable on return.

        A `token` makes the write safe to repeat: the engine keeps the first block of a token.

        Raises:
            Unavailable: the rows are not written; the same call may work later.
            Rejected: the engine refused the rows for good.
        """
        if rows:
            self.insert_blocks(table, self.encode(table, rows), token=token)

    def encode(self, table: str, rows: Sequence[Row]) -> bytes:
        """Return `rows` in the engine's own format; several, one after the other, are one.

        Raises:
            Unavailable: the engine was asked for the table's columns and did not answer.
            Rejected: a value is none that its column can hold.
        """
        names = tuple(field.name for field in fields(rows[0]))
        try:
            context = InsertContext(table, names, self._types(table, names), column_oriented=True)
            context.data = [[getattr(row, name) for row in rows] for name in names]
            context.current_block = 1  # without the statement that goes before the first
            encoded = b"".join(NativeTransform.build_insert(context))
            if context.insert_exception is not None:
                raise context.insert_exception
        except (*_NOT_OF_THE_TABLE, ValueError, TypeError, OverflowError, struct.error) as error:
            msg = f"{len(rows)} rows are none of {table}: {_first_line(error)}"
            raise Rejected(msg) from error
        except ClickHouseError as error:  # of a server that was asked for the columns
            raise Unavailable(_first_line(error)) from error
        return encoded

    def insert_blocks(self, table: str, blocks: bytes, *, token: str = "") -> None:
        """Write what `encode` returned, as `insert` does.

        Raises:
            Unavailable: the rows are not written; the same call may work later.
            Rejected: the engine refused the rows for good.
        """
        settings: dict[str, Any] = {"async_insert": 0, "max_partitions_per_insert_block": 0}
        if token:
            settings["insert_deduplication_token"] = token
        try:
            self._client.raw_insert(table, insert_block=blocks, fmt="Native", settings=settings)
        except ClickHouseError as error:
            raise _not_written(table, error) from error

    @property
    def reads_files(self) -> bool:
        """Return whether the engine is in this process, and so can read a file of ours."""
        return self.url.startswith("chdb:")

    def insert_read(
        self,
        table: str,
        data: bytes | Path,
        *,
        statement: str,
        schema: str,
        at_once: int,
        token: str = "",
    ) -> None:
        """Write to `table` what a statement reads out of `data` or a file of it, as `insert` does.

        `schema` is a file of messages and one of them, which `data` is a row of: `/a/b.proto:Row`.
        The statement reads it from the file {path:String}, so the store must be one that can, and
        looks at as many messages `at_once`: it is quickest where what it makes of them stays in the
        processor's cache.

        Raises:
            Unavailable: the rows are not written; the same call may work later.
            Rejected: the engine cannot read it, or the statement refused what it read.
        """
        settings = {
            "async_insert": 0,
            "max_block_size": at_once,  # the same blocks each time, or a token is not kept to
            "max_insert_threads": 1,
            "max_partitions_per_insert_block": 0,
            "optimize_on_insert": 0,  # FINAL and the merges replace rows anyway
            "format_schema": schema,
            "input_format_protobuf_oneof_presence": 1,  # or a zero is as good as nothing
            "query_plan_merge_expressions": 0,  # take longer than they save, as on the next line
            "compile_expressions": 0,
            "insert_deduplication_token": token,
        }
        chosen = ", ".join(f"{name} = '{value}'" for name, value in settings.items() if value != "")
        try:
            with _file_of(data) as path:
                self._client.command(f"{statement}\nSETTINGS {chosen}", {"path": str(path)})
        except OSError as error:
            msg = f"rows for {table} cannot be put where the engine reads them: {error.strerror}"
            raise Unavailable(msg) from error
        except ClickHouseError as error:
            if _ENGINES_OWN not in str(error) or any(name in str(error) for name in _NO_ROOM):
                raise _not_written(table, error) from error
            msg = f"{table} cannot be read by the engine: {_first_line(error)}"
            raise Rejected(msg) from error

    def _types(self, table: str, names: tuple[str, ...]) -> Sequence[ClickHouseType]:
        known = self._columns.get((table, names))
        if known is None:
            try:
                known = self._client.create_insert_context(table, names).column_types
            except (OperationalError, Unavailable):  # rows are encoded while a server is away
                shipped = shipped_columns()[table]
                known = [get_from_name(shipped[name]) for name in names]
            self._columns[table, names] = known
        return known

    def select(self, sql: str, shape: type[Shape], **parameters: object) -> list[Shape]:
        """Return the rows of a query, each checked against `shape`, column for column.

        Raises:
            Unavailable: the engine did not answer.
            Rejected: the engine refused the query, or its columns are not those of `shape`.
        """
        try:
            result = self._client.query(sql, parameters=parameters)
        except OperationalError as error:
            raise Unavailable(_first_line(error)) from error
        except ClickHouseError as error:
            raise Rejected(_first_line(error)) from error
        names = tuple(field.name for field in fields(shape))
        found = tuple(result.column_names)  # chDB names no columns where there is no row
        if found and found != names:
            msg = f"{shape.__name__} has {names}, the query gives {found}"
            raise Rejected(msg)
        check = _adapter(shape)
        return [
            check.validate_python(dict(zip(names, row, strict=True))) for row in result.result_rows
        ]

    def select_columns(self, sql: str, **parameters: object) -> dict[str, Sequence[Any]]:
        """Return a query's columns by name, for many rows of plain values; none if it has no row.

        Raises:
            Unavailable: the engine did not answer.
            Rejected: the engine refused the query.
        """
        try:
            result = self._client.query(sql, parameters=parameters, column_oriented=True)
        except OperationalError as error:
            raise Unavailable(_first_line(error)) from error
        except ClickHouseError as error:
            raise Rejected(_first_line(error)) from error
        return dict(zip(result.column_names, result.result_set, strict=True))

    def command(self, sql: str, **parameters: object) -> None:
        """Run a statement that returns no rows.

        Raises:
            Unavailable: the engine did not answer.
            Rejected: the engine refused it.
        """
        try:
            self._client.command(sql, parameters=parameters)
        except OperationalError as error:
            raise Unavailable(_first_line(error)) from error
        except ClickHouseError as error:
            raise Rejected(_first_line(error)) from error

    def close(self) -> None:
        """Let go of the engine."""
        if "_client" in self.__dict__:
            self._client.close()


def connect(url: str, *, read_only: bool = False) -> Store:
    """Return a store for `url`: `chdb:///var/lib/costspan` or `https://user:password@host:8443/db`.

    In one process a chDB directory may be opened any number of times; by one process only. A server
    that is one of a cluster is `https://user:password@host:8443/db?cluster=name`.

    Raises:
        Rejected: the URL is none of these, the server does not let us in, or another process has
            the directory open.
        Unavailable: the server did not answer.
    """
    return Store(*_found(url, read_only=read_only)).opened()


def attach(url: str, prepare: Callable[[Store], object]) -> Store:
    """Return a store that is prepared before it is used, also where its server is away for now.

    Until the server is there, every use is `Unavailable`.

    Raises:
        Rejected: as `connect`, or by what prepares it.
    """
    opens, shown, cluster = _found(url)
    if shown.startswith("chdb:"):
        store = connect(url)
        prepare(store)
        return store
    one_at_a_time = threading.Lock()

    def prepared() -> Client:
        with one_at_a_time:
            client = opens()
            prepare(Store(lambda: client, shown, cluster))
        return client

    def opened() -> Client:
        try:
            return prepared()
        except Rejected as error:  # the server is at fault, not what it was to be used for
            raise Unavailable(str(error)) from error

    for name in ("urllib3", "clickhouse_connect"):  # would tell each try in pages of their own
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        prepared().close()
    except Unavailable as error:
        _log.error("%s; spans are kept on this disk until it does", error)
    return Store(opened, shown, cluster)


def _found(url: str, *, read_only: bool = False) -> tuple[Callable[[], Client], str, str]:
    """Return what opens it, where it is without the password, and the cluster it is one of."""
    settings: dict[str, Any] = {"readonly": 1} if read_only else {}
    parts = urlsplit(url)
    if parts.scheme == "chdb":
        path = Path(unquote(parts.netloc + parts.path)).absolute()
        return partial(_embedded, path, settings), f"chdb://{path}", ""
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        msg = f"{_without_password(url)!r} is no store: use chdb:///directory or https://user@host:8443/db"
        raise Rejected(msg)
    asked = dict(parse_qsl(parts.query, keep_blank_values=True))
    cluster = asked.pop("cluster", "")
    if asked:
        msg = f"{', '.join(asked)} after the ? of {_without_password(url)} is nothing: only cluster is"
        raise Rejected(msg)
    if cluster and not read_only:
        settings |= _ON_ALL_REPLICAS
    return partial(_server, url, settings), _without_password(url), cluster


_ON_ALL_REPLICAS = {
    "insert_quorum": "auto",
    "insert_quorum_parallel": 0,  # or the next does nothing
    "select_sequential_consistency": 1,
    "alter_sync": 2,
    "mutations_sync": 2,
}
"""What was acknowledged is on most replicas, and who writes what was read before has read it all."""


def _server(url: str, settings: dict[str, Any]) -> Client:
    parts = urlsplit(url)
    try:
        return clickhouse_connect.get_client(
            host=parts.hostname,
            port=parts.port or (8443 if parts.scheme == "https" else 8123),
            username=unquote(parts.username or "default"),
            password=unquote(parts.password or ""),
            secure=parts.scheme == "https",
            database=parts.path.strip("/") or DATABASE,
            tz_mode="aware",
            autogenerate_session_id=False,
            settings=settings,
        )
    except ClickHouseError as error:
        if any(name in str(error) for name in _NOT_LET_IN):
            msg = f"{_without_password(url)} does not let us in: {_first_line(error)}"
            raise Rejected(msg) from error
        msg = f"{_without_password(url)} does not answer: {_first_line(error)}"
        raise Unavailable(msg) from error


_NOT_LET_IN = ("AUTHENTICATION_FAILED", "REQUIRED_PASSWORD", "UNKNOWN_DATABASE", "ACCESS_DENIED")


def _embedded(path: Path, settings: dict[str, Any]) -> Client:
    try:
        path.mkdir(parents=True, exist_ok=True)
        if _held_by_another_process(path):
            msg = (
                f"{path} is in use by another costspan process; stop it, name another directory in "
                "COSTSPAN_CLICKHOUSE_URL, or read through that process: set "
                "COSTSPAN_STORE_DOOR_TOKEN for it, and here "
                "COSTSPAN_CLICKHOUSE_URL=http://reader:TOKEN@127.0.0.1:8123"
            )
            raise Rejected(msg)
        _opened_here.add(path)
        with clickhouse_connect.get_client(interface="chdb", path=str(path)) as first:
            first.command(f"CREATE DATABASE IF NOT EXISTS {DATABASE}")
            return clickhouse_connect.get_client(
                interface="chdb",
                path=str(path),
                database=DATABASE,
                tz_mode="aware",
                settings=settings,
            )
    except OSError as error:
        msg = f"cannot use {path}: {error.strerror}; name another in COSTSPAN_CLICKHOUSE_URL"
        raise Rejected(msg) from error
    except ClickHouseError as error:
        msg = f"cannot open {path}: {_first_line(error)}"
        raise Rejected(msg) from error


def _held_by_another_process(path: Path) -> bool:
    """Return whether an engine elsewhere has the lock that ours would want.

    Asked first, since the engine tells this on stderr only and its error does not name it.
    """
    try:
        with (path / "status").open() as status:
            fcntl.flock(status, fcntl.LOCK_SH | fcntl.LOCK_NB)  # let go with the file
    except FileNotFoundError:
        return False
    except BlockingIOError:
        # This process may open its own engine again. The file says whose it is; but the first
        # process of every container has the same number.
        told = (path / "status").read_text()
        return path not in _opened_here or f"PID: {os.getpid()}\n" not in told
    return False


_opened_here: set[Path] = set()


_FINAL = (
    "ARGUMENT_OUT_OF_BOUND",
    "CANNOT_CONVERT_TYPE",
    "CANNOT_PARSE",
    "DECIMAL_OVERFLOW",
    "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO",
    "INCORRECT_DATA",
    "NO_SUCH_COLUMN_IN_TABLE",
    "PROTOBUF",
    "TOO_LARGE_STRING_SIZE",
    "TYPE_MISMATCH",
    "VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE",
    "VIOLATED_CONSTRAINT",
)
_ENGINES_OWN = "DB::Exception"
_NO_ROOM = ("NOT_ENOUGH_SPACE", "CANNOT_WRITE_TO_FILE", "CANNOT_FSYNC", "TOO_MANY_PARTS")
_MAY_ONLY_READ = ("ACCESS_DENIED", "READONLY", "readonly")
"""The last is told by the client, of a setting."""


def _not_written(table: str, error: ClickHouseError) -> Rejected | Unavailable:
    """Return why: `Rejected` if the rows are to blame; all else may pass, and loses no row."""
    told = str(error)
    why = f"rows for {table} are not written: {_first_line(error)}"
    if isinstance(error, DataError) or any(name in told for name in _FINAL):
        return Rejected(why)
    if any(name in told for name in _MAY_ONLY_READ):
        why += "; let the user of COSTSPAN_CLICKHOUSE_URL insert, or name another"
    return Unavailable(why)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:500]


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


@contextmanager
def _file_of(data: bytes | Path) -> Generator[Path]:
    """Give what the engine reads a plain name: in another's it might see a pattern."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "data")
        if isinstance(data, Path):
            path.symlink_to(data.absolute())
        else:
            path.write_bytes(data)
        yield path


@cache
def _adapter(shape: type[Shape]) -> TypeAdapter[Shape]:
    return TypeAdapter(shape)
