from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from costspan.errors import Rejected
from costspan_collector.store import Store, migrate, pending


@dataclass(frozen=True)
class Table:
    name: str


@dataclass(frozen=True)
class Applied:
    name: str
    sha256: str


@pytest.fixture
def empty(engine: Store) -> Iterator[Store]:
    yield engine
    engine.command("DROP DATABASE costspan SYNC")
    engine.command("CREATE DATABASE costspan")
    engine.command("USE costspan")


def tables(store: Store) -> set[str]:
    sql = "SELECT name FROM system.tables WHERE database = currentDatabase()"
    return {table.name for table in store.select(sql, Table)}


def test_an_empty_database_gets_every_table(empty: Store) -> None:
    names = migrate(empty)
    assert names == sorted(names)
    assert names[:2] == ["0001_calls.sql", "0002_job_runs.sql"]
    assert {"calls", "http_attempts", "job_runs", "schema_migrations"} <= tables(empty)


def test_a_second_run_does_nothing(empty: Store) -> None:
    assert migrate(empty)
    assert migrate(empty) == []
    assert pending(empty) == []


def test_what_is_pending_can_be_asked_without_a_change(empty: Store) -> None:
    assert next(migration.name for migration in pending(empty)) == "0001_calls.sql"
    assert tables(empty) == set()


def test_a_file_that_broke_in_the_middle_is_applied_again(empty: Store) -> None:
    first = pending(empty)[0]
    empty.command(first.text.split(";\n")[0])
    assert tables(empty) == {"calls"}
    assert first.name in migrate(empty)
    assert "http_attempts" in tables(empty)


def test_a_file_edited_after_it_was_applied_is_refused(empty: Store) -> None:
    migrate(empty)
    empty.insert("schema_migrations", [Applied("0001_calls.sql", "0" * 64)])
    for ask in (migrate, pending):
        with pytest.raises(Rejected, match=r"0001_calls\.sql changed after it was applied"):
            ask(empty)
