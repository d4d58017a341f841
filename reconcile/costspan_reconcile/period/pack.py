"""The evidence of a closed month: everything its numbers stand on, in one file anyone can check.

The manifest names every document with its hash, and the sign-off carries the hash of the manifest,
so that one hash stands for all. The documents are kept in the store when the month is locked: the
pack is the same for ever, whatever becomes of the calls or of this program.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from importlib.metadata import version
from importlib.resources import files
from uuid import UUID

from costspan.money import plain
from costspan_collector.store import Row, Store, load_sql
from costspan_reconcile.period.month import Month

_PACKAGE = "costspan_reconcile.period"
FORMAT = "costspan-evidence/1"
MANIFEST, SIGN_OFF, README = "manifest.json", "sign_off.json", "README.txt"
CHAIN, BODIES = "fetches/chain.jsonl", "fetches/bodies"
READINGS, BILL = "bill/readings.jsonl", "bill/lines.jsonl"
RESTATEMENTS = "bill/restatements.jsonl"
USAGE = "usage/rows.jsonl"
RUNS, LINES, COMPONENTS = (
    "reconciliation/runs.jsonl",
    "reconciliation/lines",
    "reconciliation/components",
)
UNCLASSIFIED = "reconciliation/unclassified.jsonl"
ALLOCATIONS = "allocation/sums.jsonl"
BRIDGE, ADJUSTMENTS, INVOICE, STEPS = (
    "close/bridge.jsonl",
    "close/adjustments.jsonl",
    "close/invoice.json",
    "close/steps.jsonl",
)
VERSIONS, QUERY, ESTIMATE = "versions.json", "estimate/query.sql", "estimate/result.json"
_ROW = "formatRowNoNewline('JSONEachRow', *)"
_LONG_AGO = (1980, 1, 1, 0, 0, 0)
"""The earliest date a zip can have. Equal documents make an equal file."""


@dataclass(frozen=True, slots=True)
class Document:
    """A row of `evidence`."""

    close_id: UUID
    name: str
    sha256: str
    body: str


@dataclass(frozen=True, slots=True)
class _Line:
    name: str
    line: str


_TABLES = (
    (CHAIN, "pack_chain"),
    (READINGS, "pack_readings"),
    (BILL, "pack_bill"),
    (USAGE, "pack_usage"),
    (RUNS, "pack_runs"),
    (UNCLASSIFIED, "pack_unclassified"),
    (ALLOCATIONS, "pack_allocations"),
)


def documents(store: Store, month: Month) -> dict[str, str]:
    """Return what the ledger holds of a month: name and content, without what a person states."""
    found = {name: _lines(_rows(store, sql, month)) for name, sql in _TABLES}
    for row in _rows(store, "pack_bodies", month):
        found[f"{BODIES}/{row.name}.json"] = row.line
    for folder, sql in ((LINES, "pack_lines"), (COMPONENTS, "pack_components")):
        by_day: dict[str, list[_Line]] = {str(day): [] for day in month.days}
        for row in _rows(store, sql, month):
            by_day[row.name].append(row)
        found |= {f"{folder}/{day}.jsonl": _lines(rows) for day, rows in by_day.items()}
    found[RESTATEMENTS] = _restatements(found[READINGS])
    found[VERSIONS] = _versions(found[RUNS])
    found[README] = files(_PACKAGE).joinpath("README.txt").read_text(encoding="utf-8")
    return found | _estimate(store, month)


def manifest(month: Month, found: Mapping[str, str]) -> str:
    """Return the document that names all others."""
    named = {
        name: {"sha256": digest(body), "bytes": len(body.encode())}
        for name, body in sorted(found.items())
    }
    return document({"format": FORMAT, "month": str(month), "documents": named})


def signed(month: Month, found: Mapping[str, str], actor: str, at: datetime) -> dict[str, str]:
    """Return the documents with the manifest, and the sign-off that carries its hash."""
    named = manifest(month, found)
    sign_off = {
        "month": str(month),
        "locked_by": actor,
        "locked_at": at,
        "manifest_sha256": digest(named),
    }
    return {**found, MANIFEST: named, SIGN_OFF: document(sign_off)}


def rows(close_id: UUID, found: Mapping[str, str]) -> list[Document]:
    """Return the rows that keep some documents."""
    return [Document(close_id, name, digest(body), body) for name, body in found.items()]


def pack(found: Iterable[Document]) -> bytes:
    """Return the zip of some documents: the same bytes for the same documents."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as target:
        for row in sorted(found, key=lambda row: row.name):
            target.writestr(zipfile.ZipInfo(row.name, _LONG_AGO), row.body, zipfile.ZIP_DEFLATED)
    return content.getvalue()


def evidence(store: Store, close_id: UUID) -> list[Document]:
    """Return the documents of a locked month."""
    return store.select(load_sql(_PACKAGE, "evidence"), Document, close_id=close_id)


def document(content: object) -> str:
    """Return `content` as JSON, the same text for the same content, every digit of an amount."""
    return json.dumps(content, default=_written, sort_keys=True, indent=1) + "\n"


def listed(rows: Sequence[Row], *, without: str = "") -> str:
    """Return frozen values as JSON, one a line, `without` one of their fields."""
    named = (
        {name: value for name, value in asdict(row).items() if name != without} for row in rows
    )
    return "".join(json.dumps(row, default=_written) + "\n" for row in named)


def digest(text: str) -> str:
    """Return the SHA-256 of `text`."""
    return hashlib.sha256(text.encode()).hexdigest()


def _rows(store: Store, sql: str, month: Month) -> list[_Line]:
    return store.select(load_sql(_PACKAGE, sql), _Line, since=month.first, until=month.until)


def _lines(rows: Iterable[_Line]) -> str:
    return "".join(f"{row.line}\n" for row in rows)


def _restatements(readings: str) -> str:
    """Return the changes of content that the readings of the bill saw, with both hashes."""
    newest: dict[str, str] = {}
    changes: list[str] = []
    for line in readings.splitlines():
        reading = json.loads(line)
        if reading["source"] != "costs" or reading["status"] != "ok":
            continue
        day, content = reading["day"], reading["content_sha256"]
        if newest.get(day, content) != content:
            change = {
                "day": day,
                "read_at": reading["fetched_at"],
                "fetch_id": reading["fetch_id"],
                "revision": reading["revision"],
                "old_sha256": newest[day],
                "new_sha256": content,
            }
            changes.append(json.dumps(change) + "\n")
        newest[day] = content
    return "".join(changes)


def _versions(runs: str) -> str:
    """Return with what the days were reconciled."""
    rows = [json.loads(line) for line in runs.splitlines()]
    return document(
        {
            "costspan": version("costspan"),
            "price_books": sorted({row["price_book"] for row in rows}),
            "line_item_grammars": sorted({row["grammar"] for row in rows}),
            "tolerances": [
                json.loads(text) for text in sorted({row["tolerances"] for row in rows})
            ],
        }
    )


def _estimate(store: Store, month: Month) -> dict[str, str]:
    """Return the query that makes the estimate, and the hash of what it gave for each day."""
    query = load_sql("costspan_reconcile", "estimates")
    by_day: dict[str, list[str]] = {str(day): [] for day in month.days}
    for row in store.select(
        f"SELECT toString(day) AS name, {_ROW} AS line FROM ({query})",  # noqa: S608 - a file of ours
        _Line,
        since=month.first,
        until=month.until,
    ):
        by_day[row.name].append(row.line)
    results = {
        day: {"rows": len(lines), "sha256": digest("\n".join(sorted(lines)))}
        for day, lines in by_day.items()  # sorted: a subquery keeps no order
    }
    return {QUERY: query, ESTIMATE: document(results)}


def _written(value: object) -> str:
    if isinstance(value, Decimal):
        return plain(value)
    return value.isoformat() if isinstance(value, datetime) else str(value)
