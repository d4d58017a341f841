"""A past that takes long to make is made once for a module, and brought back for each test."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import pytest
import streamlit as st
from streamlit.components.v2 import manifest_scanner
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

from costspan_collector.store import Store

Remembered = Callable[[str, Callable[[], None]], None]

_FILLED = """
SELECT name FROM system.tables
WHERE database = 'costspan' AND total_rows > 0 AND name != 'schema_migrations'
"""


@dataclass(frozen=True, slots=True)
class _Filled:
    name: str


@pytest.fixture(scope="module")
def remembered(engine: Store) -> Iterator[Remembered]:
    """Fill an empty store: `remembered(name, fill)` fills it the first time, then with the same."""
    known: dict[str, list[str]] = {}

    def bring(name: str, fill: Callable[[], None]) -> None:
        if name in known:
            for table in known[name]:
                engine.command(
                    f"ALTER TABLE costspan.{table} ATTACH PARTITION ALL FROM {name}.{table}"
                )
            return
        fill()
        known[name] = [row.name for row in engine.select(_FILLED, _Filled)]
        engine.command(f"CREATE DATABASE {name}")
        for table in known[name]:
            engine.command(f"CREATE TABLE {name}.{table} AS costspan.{table}")
            engine.command(f"ALTER TABLE {name}.{table} ATTACH PARTITION ALL FROM costspan.{table}")

    yield bring
    for name in known:
        engine.command(f"DROP DATABASE {name} SYNC")


@pytest.fixture(scope="session", autouse=True)
def installed_components() -> Iterator[None]:
    """Streamlit looks through all that is installed at each start of a page; once is enough."""
    with pytest.MonkeyPatch.context() as patch:
        found = cache(manifest_scanner.scan_component_manifests)
        patch.setattr(manifest_scanner, "scan_component_manifests", found)
        yield


@pytest.fixture
def open_page(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., AppTest]]:
    """Open a page by its URL path and query, as a browser would: `open_page("calls", team="a")`."""
    monkeypatch.setenv("COSTSPAN_CLICKHOUSE_URL", store.url)
    st.cache_resource.clear()

    def opened(path: str = "", **query: str | list[str]) -> AppTest:
        script = files("costspan_dashboards").joinpath("app.py")
        app = AppTest.from_file(str(script), default_timeout=60)
        app.query_params.update(query)
        if path:
            app._page_hash = calc_hash(path)
        app.run()
        assert not app.exception, app.exception
        return app

    yield opened
    st.cache_resource.clear()
