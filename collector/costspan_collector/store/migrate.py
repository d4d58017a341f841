"""Numbered `.sql` files, a ledger of their hashes, and no edit once applied."""

import hashlib
from dataclasses import dataclass
from importlib.resources import files

from costspan.errors import Rejected
from costspan_collector.store.client import Store
from costspan_collector.store.cluster import on_cluster

_LEDGER = """\
CREATE TABLE IF NOT EXISTS schema_migrations
(name String, sha256 String, applied_at DateTime64(3, 'UTC') DEFAULT now64(3))
ENGINE = ReplacingMergeTree ORDER BY name
"""

_LEDGER_EXISTS = """
SELECT count() > 0 AS found FROM system.tables
WHERE database = currentDatabase() AND name = 'schema_migrations'
"""


_FIRST = "0001_calls.sql"
_MOVES_ROWS = "0011_counted_once.sql"


@dataclass(frozen=True, slots=True)
class _Exists:
    found: bool


@dataclass(frozen=True, slots=True)
class _Applied:
    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Migration:
    """A numbered file of statements."""

    name: str
    text: str

    @property
    def sha256(self) -> str:
        """Return the digest that the ledger keeps."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def statements(self) -> list[str]:
        """Return them, each with the comment before it."""
        return [part for part in map(str.strip, self.text.split(";\n")) if part]


def pending(store: Store) -> list[Migration]:
    """Return the files that are not applied yet, in order. Changes nothing.

    Raises:
        Rejected: a file that was applied before has changed since.
    """
    folder = files("costspan_collector.store").joinpath("migrations")
    applied = _ledger(store)
    found: list[Migration] = []
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if not file.name.endswith(".sql"):
            continue
        migration = Migration(file.name, file.read_text(encoding="utf-8"))
        if file.name not in applied:
            found.append(migration)
        elif applied[file.name] != migration.sha256:
            msg = f"{file.name} changed after it was applied; add a new file instead"
            raise Rejected(msg)
    return found


def migrate(store: Store, *, alone: bool = False) -> list[str]:
    """Apply what is pending; return the names applied.

    Every statement is harmless when run again, since ClickHouse has no transactional DDL: a
    file that broke in the middle is simply applied once more. `alone`: nobody inserts meanwhile.

    Raises:
        Rejected: a file that was applied before has changed since, or wants a server that nobody
            else inserts into, and this is not said.
    """
    _run(store, _LEDGER)
    done: list[str] = []
    found = pending(store)
    names = [migration.name for migration in found]
    if _MOVES_ROWS in names and names[0] != _FIRST and not (alone or store.reads_files):
        msg = (
            f"{_MOVES_ROWS} moves the calls to a new table, and what is inserted meanwhile is lost: "
            "stop every collector of this server, then run `costspan migrate --alone`"
        )
        raise Rejected(msg)
    for migration in found:
        for statement in migration.statements:
            _run(store, statement)
        store.insert("schema_migrations", [_Applied(migration.name, migration.sha256)])
        done.append(migration.name)
    return done


def _run(store: Store, statement: str) -> None:
    store.command(on_cluster(statement, store.cluster) if store.cluster else statement)


def _ledger(store: Store) -> dict[str, str]:
    (exists,) = store.select(_LEDGER_EXISTS, _Exists)
    if not exists.found:
        return {}
    rows = store.select("SELECT name, sha256 FROM schema_migrations FINAL", _Applied)
    return {row.name: row.sha256 for row in rows}
