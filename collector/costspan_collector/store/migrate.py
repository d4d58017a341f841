"""Numbered `.sql` files, a ledger of their hashes, and no edit once applied."""

import hashlib
from dataclasses import dataclass
from importlib.resources import files

from costspan.errors import Rejected
from costspan_collector.store.client import Store

_LEDGER = """
CREATE TABLE IF NOT EXISTS schema_migrations
(name String, sha256 String, applied_at DateTime64(3, 'UTC') DEFAULT now64(3))
ENGINE = ReplacingMergeTree ORDER BY name
"""


@dataclass(frozen=True, slots=True)
class _Applied:
    name: str
    sha256: str


def migrate(store: Store) -> list[str]:
    """Apply what is pending; return the names applied.

    Every statement is harmless when run again, since ClickHouse has no transactional DDL: a
    file that broke in the middle is simply applied once more.

    Raises:
        Rejected: a file that was applied before has changed since.
    """
    store.command(_LEDGER)
    ledger = store.select("SELECT name, sha256 FROM schema_migrations FINAL", _Applied)
    applied = {row.name: row.sha256 for row in ledger}
    done: list[str] = []
    folder = files("costspan_collector.store").joinpath("migrations")
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if not file.name.endswith(".sql"):
            continue
        text = file.read_text(encoding="utf-8")
        digest = hashlib.sha256(text.encode()).hexdigest()
        if file.name in applied:
            if applied[file.name] != digest:
                msg = f"{file.name} changed after it was applied; add a new file instead"
                raise Rejected(msg)
            continue
        for statement in filter(None, map(str.strip, text.split(";\n"))):
            store.command(statement)
        store.insert("schema_migrations", [_Applied(file.name, digest)])
        done.append(file.name)
    return done
