"""Shared by all tests: one real engine for the session, a migrated database for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from costspan_collector.store import Store, connect, migrate


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """The embedded engine: one directory a process, so one for the whole session."""
    store = connect(f"chdb://{tmp_path_factory.mktemp('engine')}")
    yield store
    store.close()


@pytest.fixture
def store(engine: Store) -> Iterator[Store]:
    """A migrated, empty store. `connect(store.url)` reads the same rows."""
    migrate(engine)
    yield engine
    engine.command("DROP DATABASE costspan SYNC")
    engine.command("CREATE DATABASE costspan")
    engine.command("USE costspan")


@pytest.fixture(scope="session")
def data() -> Path:
    """Recorded input that the tests replay."""
    return Path(__file__).parent / "data"
