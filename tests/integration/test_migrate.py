import sys
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

import pytest

from costspan.errors import Rejected
from costspan_collector.store import Store, migrate, pending
from costspan_collector.store.migrate import Migration
from costspan_collector.store.rollups import refresh, verify


@dataclass(frozen=True)
class Table:
    name: str


@dataclass(frozen=True)
class Applied:
    name: str
    sha256: str


@dataclass(frozen=True)
class Sum:
    calls: int
    cost_usd: Decimal


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


def test_rows_are_moved_on_a_server_only_where_nobody_else_inserts(empty: Store) -> None:
    old = [file for file in pending(empty) if file.name < "0011"]
    server = Store(lambda: empty._client, "https://clickhouse.example:8443")
    for statement in (s for file in old for s in file.statements):
        empty.command(statement)
    empty.command(
        "CREATE TABLE schema_migrations (name String, sha256 String, applied_at DateTime64(3, 'UTC') "
        "DEFAULT now64(3)) ENGINE = ReplacingMergeTree ORDER BY name"
    )
    for file in old:
        empty.command(
            "INSERT INTO schema_migrations (name, sha256) VALUES ({name:String}, {sha256:String})",
            name=file.name,
            sha256=file.sha256,
        )
    with pytest.raises(
        Rejected, match="stop every collector of this server, then run `costspan migrate --alone`"
    ):
        migrate(server)
    assert pending(empty)[0].name > "0010"


def test_an_upgrade_keeps_every_row_and_rolls_it_up(empty: Store) -> None:
    """A directory of the release before the rollups, with rows in it."""
    old = [file for file in pending(empty) if file.name < "0006"]
    for statement in (s for file in old for s in file.text.split(";\n") if s.strip()):
        empty.command(statement)
    empty.command(
        "INSERT INTO calls (started_at, trace_id, span_id, request_model, cost_usd, price_status) "
        "SELECT toDateTime64('2026-11-19 22:00:00', 6, 'UTC') + number, toFixedString(hex(number), 16), "
        "toFixedString('', 8), 'gpt-5', toDecimal64('0.000000000001', 12) * number, 'priced' "
        "FROM numbers(10000)"
    )
    sql = "SELECT count() AS calls, sum(c.cost_usd) AS cost_usd FROM calls AS c FINAL"
    before = empty.select(sql, Sum)
    migrate(empty)
    assert empty.select(sql, Sum) == before == [Sum(10_000, Decimal("0.000049995000"))]
    assert refresh(empty, overlap=timedelta(0)) == 3
    rolled_up = (
        "SELECT sum(c.calls) AS calls, sum(c.cost_usd) AS cost_usd FROM cost_hourly AS c FINAL"
    )
    assert empty.select(rolled_up, Sum) == before
    assert verify(empty).differences == ()


def test_an_upgrade_renames_the_past_that_alerts_compare_with(
    empty: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory of the release whose signals went by the snapshot that answered."""
    old = [file for file in pending(empty) if file.name < "0021"]

    def shipped(store: Store) -> list[Migration]:
        del store
        return old

    with monkeypatch.context() as release:
        release.setattr(sys.modules[migrate.__module__], "pending", shipped)
        migrate(empty)
    empty.command(
        "INSERT INTO calls (started_at, trace_id, span_id, request_model, response_model) VALUES "
        "('2026-11-19 22:00:00', unhex(repeat('01', 16)), unhex(repeat('01', 8)), 'gpt-5', 'gpt-5-2025-08-07')"
    )
    refresh(empty, overlap=timedelta(0))
    names = "SELECT DISTINCT toString(model) AS name FROM signals_5m FINAL"
    assert empty.select(names, Table) == [Table("gpt-5-2025-08-07")]
    assert migrate(empty)[0] == "0021_signals_read_once.sql"
    refresh(empty, overlap=timedelta(0))
    assert empty.select(names, Table) == [Table("gpt-5")]
    assert verify(empty).differences == ()
