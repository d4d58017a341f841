"""The store that a command works on, and one for a command that is only tried."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager

from costspan.errors import Rejected
from costspan_collector.settings import ClickHouse, read_settings
from costspan_collector.store import Row, Store, connect, migrate, pending

_STOP = (
    "; this command writes, and one process has the embedded engine: stop `costspan serve` (apps "
    "keep their spans meanwhile), run this, and start it again. A ClickHouse server, with "
    "COSTSPAN_CLICKHOUSE_URL=https://..., takes both at once"
)

_ONLY_READS = ("READONLY", "readonly", "this door is for reading")


class Rehearsal(Store):
    """A store that is read as it is, and into which nothing is written."""

    def __init__(self, store: Store) -> None:
        vars(self).update(vars(store))

    def insert(self, table: str, rows: Sequence[Row], *, token: str = "") -> None:
        """Write nothing."""

    def command(self, sql: str, **parameters: object) -> None:
        """Do nothing."""


@contextmanager
def command_store(*, change: bool) -> Generator[Store]:
    """Give the store that COSTSPAN_CLICKHOUSE_URL names; with `change`, one that can be written to.

    Raises:
        Rejected: another process has it, or its schema is old; the message says how to go on.
        Unavailable: it does not answer.
    """
    url = read_settings(ClickHouse).url
    try:
        store = connect(url)
    except Rejected as error:
        if change and "in use by another" in str(error):
            msg = f"{str(error).partition(';')[0]}{_STOP}"
            raise Rejected(msg) from error
        raise
    try:
        if change:
            _migrate(store)
        elif pending(store):
            msg = "the schema is not up to date; run `costspan migrate` first"
            raise Rejected(msg)
        yield store
    finally:
        store.close()


def _migrate(store: Store) -> None:
    try:
        migrate(store)
    except Rejected as error:
        if any(sign in str(error) for sign in _ONLY_READS):
            msg = f"{store.url} can only be read{_STOP}"
            raise Rejected(msg) from error
        raise
