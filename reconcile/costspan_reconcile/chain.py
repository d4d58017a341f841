"""Every page as it was received, in a chain of hashes that shows what was changed or taken out."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from costspan.errors import Rejected, Unavailable
from costspan_collector.store import Store, load_sql
from costspan_reconcile.openai_costs import Page

_PACKAGE = "costspan_reconcile"
_RECORDS_AT_ONCE = 1000
_TRIES = 10
_NAMED = 5


@dataclass(frozen=True, slots=True)
class FetchedPage:
    """A row of `billing_fetches`."""

    sequence: int
    fetch_id: UUID
    endpoint: str
    parameters: str
    page: int
    request_id: str
    fetched_at: datetime
    body: str
    body_sha256: str
    previous_sha256: str
    record_sha256: str


@dataclass(frozen=True, slots=True)
class _End:
    sequence: int
    record_sha256: str


@dataclass(frozen=True, slots=True)
class _Record:
    """A row of `billing_fetches` without its body; `body_is` is the hash of what is kept of it."""

    sequence: int
    fetch_id: UUID
    endpoint: str
    parameters: str
    page: int
    request_id: str
    fetched_at: datetime
    body_is: str
    body_sha256: str
    previous_sha256: str
    record_sha256: str


@dataclass(frozen=True, slots=True)
class _Lost:
    fetch_id: UUID
    fetched_at: datetime


def keep_pages(store: Store, fetch_id: UUID, pages: Sequence[Page]) -> None:
    """Write the pages of one reading to the end of the chain, all or none.

    Of two processes that found the same end one is first: the engine keeps one block of a token.

    Raises:
        Unavailable: the store did not take them.
    """
    if not pages:
        return
    for _ in range(_TRIES):
        end = _end(store)
        rows = _chained(end, fetch_id, pages)
        store.insert("billing_fetches", rows, token=f"after {end.record_sha256}")
        if any(row.record_sha256 == rows[0].record_sha256 for row in _records(store, end.sequence)):
            return
    msg = "other processes read the bill at the same moment; let one of them do it"
    raise Unavailable(msg)


def _chained(end: _End, fetch_id: UUID, pages: Sequence[Page]) -> list[FetchedPage]:
    rows: list[FetchedPage] = []
    for page in pages:
        parts = (
            end.sequence + 1,
            fetch_id,
            page.endpoint,
            page.parameters,
            page.number,
            page.request_id,
            page.fetched_at,
            page.body,
            hashlib.sha256(page.body.encode()).hexdigest(),
            end.record_sha256,
        )
        row = FetchedPage(*parts, record_sha256(FetchedPage(*parts, record_sha256="")))
        rows.append(row)
        end = _End(row.sequence, row.record_sha256)
    return rows


def record_sha256(page: FetchedPage | _Record) -> str:
    """Return the hash that a record of the chain must carry."""
    record = [
        page.sequence,
        str(page.fetch_id),
        page.endpoint,
        page.parameters,
        page.page,
        page.request_id,
        page.fetched_at.isoformat(),
        page.body_sha256,
        page.previous_sha256,
    ]
    return hashlib.sha256(json.dumps(record).encode()).hexdigest()


def check_chain(store: Store) -> str:
    """Walk the chain from its first record; return what was found, in one line.

    Raises:
        Rejected: it is broken; the message says where.
    """
    before = _End(0, "")
    faults: list[str] = []
    for after in range(0, _end(store).sequence, _RECORDS_AT_ONCE):
        for record in _records(store, after):
            if record.body_is != record.body_sha256:
                faults.append(f"the body of record {record.sequence} was changed")
            if record_sha256(record) != record.record_sha256:
                faults.append(f"record {record.sequence} was changed")
            if record.previous_sha256 != before.record_sha256:
                faults.append(
                    f"record {record.sequence} does not follow from record {before.sequence}"
                )
            before = _End(record.sequence, record.record_sha256)
    faults += [
        f"no page of the reading {lost.fetch_id} at {lost.fetched_at:%Y-%m-%d %H:%M} UTC is left"
        for lost in store.select(load_sql(_PACKAGE, "readings_without_pages"), _Lost)
    ]
    if faults:
        more = f", and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
        msg = f"the chain of the pages received is broken: {'; '.join(faults[:_NAMED])}{more}"
        raise Rejected(msg)
    return f"{before.sequence} pages received, none changed or taken out"


def _end(store: Store) -> _End:
    ends = store.select(load_sql(_PACKAGE, "chain_end"), _End)
    return ends[0] if ends else _End(0, "")


def _records(store: Store, after: int) -> Iterator[_Record]:
    sql = load_sql(_PACKAGE, "chain_records")
    yield from store.select(sql, _Record, after=after, until=after + _RECORDS_AT_ONCE)
