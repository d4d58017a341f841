"""Every `.sql` file runs on the migrated schema, and its header says what it takes."""

import re
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest

from costspan_collector.store import Store

ROOT = Path(__file__).parents[2]
QUERIES = sorted(
    path
    for folder in ("collector", "reconcile", "dashboards", "demo")
    for path in (ROOT / folder).glob("**/sql/*.sql")
    if "sent" not in path.stem.split("_")  # which read a segment: see test_sent.py
)
_COMMA = re.compile(r",\s*(?![^(]*\))")
_PARAMETER = re.compile(r"(?P<name>\w+) (?P<type>[A-Z]\w*(?:\([^)]*\)+)?)(?: \((?P<note>.*)\))?")
_BOUND = re.compile(r"\{(\w+):([^}]+)\}")
_SAMPLES = {
    "Date": "2026-11-20",
    "DateTime": "2026-11-20 00:00:00",
    "DateTime64": "2026-11-20 00:00:00.000000",
    "UUID": "00000000-0000-0000-0000-000000000000",
    "String": "00000000000000000000000000000000",
    "Bool": True,
}


def declared(sql: str) -> dict[str, tuple[str, list[str]]]:
    """Return the parameters that a header names: type, and the texts a note says are allowed."""
    lines = [line.removeprefix("--").strip() for line in sql.splitlines() if line[:2] == "--"]
    _, found, listed = " ".join(lines).partition("parameters:")
    assert found, "the header has no `-- parameters:`"
    parameters: dict[str, tuple[str, list[str]]] = {}
    if listed.strip() == "none":
        return parameters
    for text in _COMMA.split(listed.strip()):
        match = _PARAMETER.fullmatch(text)
        assert match, f"{text!r} is not `name Type` or `name Type (note)`"
        parameters[match["name"]] = match["type"], re.findall(r"'([^']*)'", match["note"] or "")
    return parameters


def sample(kind: str, allowed: str | None) -> Any:
    if allowed is not None:
        return allowed
    outer, _, inner = kind.partition("(")
    if outer == "Array":
        return [sample(inner.removesuffix(")"), None)]
    return _SAMPLES.get(outer, 1)


@pytest.mark.parametrize("path", QUERIES, ids=lambda path: f"{path.parent.parent.name}-{path.stem}")
def test_a_query_runs_and_its_header_names_its_parameters(path: Path, store: Store) -> None:
    sql = path.read_text(encoding="utf-8")
    assert sql.startswith("-- "), "a header says what a row is"
    parameters = declared(sql)

    assert {name: kind for name, (kind, _) in parameters.items()} == dict(_BOUND.findall(sql))

    choices = zip_longest(*(allowed for _, allowed in parameters.values()))
    for choice in list(choices) or [(None,) * len(parameters)]:
        values = {
            name: sample(kind, text if text is not None else next(iter(allowed), None))
            for (name, (kind, allowed)), text in zip(parameters.items(), choice, strict=True)
        }
        store._client.query(sql, parameters=values)


def test_there_are_queries_to_run() -> None:
    assert {"overview", "spend_by_dimension"} <= {path.stem for path in QUERIES}
