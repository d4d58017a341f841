"""Every migration has a form for a cluster, which the engine's own parser understands."""

import re
from importlib.resources import files

import chdb  # pyright: ignore[reportMissingTypeStubs]
import pytest

from costspan_collector.store import Migration, Store
from costspan_collector.store.cluster import on_cluster

FOLDER = files("costspan_collector.store").joinpath("migrations")
MIGRATIONS = sorted(
    (
        Migration(file.name, file.read_text())
        for file in FOLDER.iterdir()
        if file.name[-4:] == ".sql"
    ),
    key=lambda migration: migration.name,
)
DATA = re.compile(r"INSERT INTO|OPTIMIZE")


def normal(store: Store, statement: str) -> str:
    """The statement in one line, as the engine understands it; it raises if it does not."""
    escaped = statement.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")
    handle = chdb.connect(store.url.removeprefix("chdb://"))
    try:
        told = handle.query(
            "SELECT formatQuerySingleLine({sql:String})", "TabSeparatedRaw", params={"sql": escaped}
        )
        return str(told.bytes().decode()).strip()
    finally:
        handle.close()


@pytest.mark.parametrize("migration", MIGRATIONS, ids=lambda migration: migration.name)
def test_a_migration_goes_to_every_server_and_its_tables_replicate(
    store: Store, migration: Migration
) -> None:
    for statement in migration.statements:
        single = normal(store, statement)
        cluster = normal(store, on_cluster(statement, "main"))
        if DATA.match(single):
            assert cluster == single
            continue
        assert " ON CLUSTER main" in cluster.replace("`", "").replace("'", "")
        assert not re.search(r"ENGINE = (?!Replicated)\w*MergeTree", cluster)
        assert cluster.count("MergeTree") == single.count("MergeTree")
        assert "non_replicated" not in cluster
        back = re.sub(r" ON CLUSTER [`'\w]+", "", cluster)
        back = back.replace("ENGINE = Replicated", "ENGINE = ")
        back = back.replace("'/clickhouse/tables/{uuid}/{shard}', '{replica}', ", "")
        back = back.replace("('/clickhouse/tables/{uuid}/{shard}', '{replica}')", "")
        back = re.sub(
            r"replicated_deduplication_window = (\d+), replicated_deduplication_window_seconds = \d+",
            r"non_replicated_deduplication_window = \1",
            back,
        )
        assert back == single  # nothing else is another


def test_a_table_has_a_path_of_its_own_on_every_shard() -> None:
    told = on_cluster(
        "-- A row.\nCREATE TABLE t (a UInt8) ENGINE = ReplacingMergeTree(b, c) ORDER BY a", "main"
    )
    assert told == (
        "-- A row.\nCREATE TABLE t ON CLUSTER 'main' (a UInt8) ENGINE = ReplicatedReplacingMergeTree("
        "'/clickhouse/tables/{uuid}/{shard}', '{replica}', b, c) ORDER BY a"
    )
