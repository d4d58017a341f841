"""Keep what was read: every page in a hash chain, and a revision of a day when it changed.

A day's rows are written before the row of `billing_days` that makes them count, so a crash leaves
the revision before. What failed leaves a reason and changes nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from uuid import UUID, uuid4

from costspan.errors import CostspanError
from costspan_collector.store import Store, load_sql
from costspan_reconcile.amounts import kept
from costspan_reconcile.bill_pages import CostRow, content_sha256
from costspan_reconcile.chain import keep_pages
from costspan_reconcile.openai_costs import COSTS, ApiKey, Bill, Grouping
from costspan_reconcile.usage_pages import UsageRow
from costspan_reconcile.wire_json import Blocked

_PACKAGE = "costspan_reconcile"


@dataclass(frozen=True, slots=True)
class Reading:
    """A row of `billing_days`: one try to read one day from one source."""

    source: str
    day: date
    fetch_id: UUID
    fetched_at: datetime
    status: str
    reason: str
    grouped_by: tuple[str, ...]
    content_sha256: str
    revision: int
    revision_fetch_id: UUID
    billed_usd: Decimal | None
    control_usd: Decimal | None


@dataclass(frozen=True, slots=True)
class BilledLine:
    """A row of `billed_lines`."""

    day: date
    project: str
    api_key_id: str
    line_item: str
    currency: str
    organization: str
    amount: str
    amount_usd: Decimal
    quantity: Decimal | None
    quantity_unit: str
    vanished: bool
    revision: int
    fetch_id: UUID


@dataclass(frozen=True, slots=True)
class ProviderUsage:
    """A row of `provider_usage`."""

    source: str
    day: date
    project: str
    api_key_id: str
    model: str
    batch: bool
    service_tier: str
    modality: str
    kind: str
    quantity: int
    revision: int
    fetch_id: UUID
    api_source: str = ""


@dataclass(frozen=True, slots=True)
class ListedKey:
    """A row of `api_keys`."""

    project: str
    project_name: str
    api_key_id: str
    name: str
    hint: str
    seen_at: datetime


@dataclass(frozen=True, slots=True)
class Kept:
    """What a bill changed in the ledger."""

    pages: int
    days_read: int
    days_changed: int
    blocked: tuple[str, ...]
    """`day: reason` for each day whose bill cannot be used."""


@dataclass(frozen=True, slots=True)
class RefusedGrouping:
    """A row of `refused_groupings`."""

    source: str
    since: date
    until: date
    grouped_by: tuple[str, ...]
    refused_at: datetime


def keep_bill(store: Store, bill: Bill) -> Kept:
    """Write what `bill` brought; return what that changed.

    Raises:
        Unavailable: the store did not take it; reading and keeping again is safe.
    """
    fetch_id = uuid4()
    keep_pages(store, fetch_id, bill.pages)
    since, until = bill.days[0], bill.days[-1] + timedelta(days=1)
    store.insert(
        "refused_groupings",
        [
            RefusedGrouping(source, since, until, grouped_by, bill.fetched_at)
            for source, grouped_by in bill.refused
        ],
    )
    good = _good(store, bill)
    costs, lines = _costs(bill, fetch_id, good, billed_lines(store, since, until))
    usage, counts = _usage(bill, fetch_id, good)
    store.insert("billed_lines", lines)
    store.insert("provider_usage", counts)
    store.insert("billing_days", [*costs, *usage])
    return _kept_of(bill, fetch_id, costs)


def compare_bill(store: Store, bill: Bill) -> Kept:
    """Return what `keep_bill` would change. Writes nothing."""
    fetch_id = uuid4()
    costs, _ = _costs(bill, fetch_id, _good(store, bill), ())
    return _kept_of(bill, fetch_id, costs)


def _good(store: Store, bill: Bill) -> Mapping[tuple[str, date], Reading]:
    """Return the newest good reading of each source and day before this one."""
    since, until = bill.days[0], bill.days[-1] + timedelta(days=1)
    sql = load_sql(_PACKAGE, "good_readings")
    return {
        (reading.source, reading.day): reading
        for reading in store.select(sql, Reading, since=since, until=until)
    }


def _kept_of(bill: Bill, fetch_id: UUID, costs: Sequence[Reading]) -> Kept:
    read = [reading for reading in costs if reading.status == "ok"]
    return Kept(
        pages=len(bill.pages),
        days_read=len(read),
        days_changed=sum(reading.revision_fetch_id == fetch_id for reading in read),
        blocked=tuple(
            f"{reading.day}: {reading.reason}" for reading in costs if reading.status == "blocked"
        ),
    )


def keep_api_keys(store: Store, keys: Iterable[ApiKey], seen_at: datetime) -> None:
    """Write the keys that OpenAI lists; the ones it no longer lists stay."""
    store.insert(
        "api_keys",
        [
            ListedKey(key.project, key.project_name, key.api_key_id, key.name, key.hint, seen_at)
            for key in keys
        ],
    )


def refused_groupings(
    store: Store, since: date, until: date, after: datetime
) -> frozenset[tuple[str, Grouping]]:
    """Return source and grouping of what was refused since `after` for days that are all asked for."""
    found = store.select(
        load_sql(_PACKAGE, "refused_groupings"),
        RefusedGrouping,
        since=since,
        until=until,
        after=after,
    )
    return frozenset((row.source, row.grouped_by) for row in found)


def readings(store: Store, since: date, until: date) -> list[Reading]:
    """Return every try to read the days in `since <= day < until`, by source and day, oldest first."""
    return store.select(load_sql(_PACKAGE, "day_readings"), Reading, since=since, until=until)


def billed_lines(store: Store, since: date, until: date) -> list[BilledLine]:
    """Return the newest revision of the bill of each day."""
    return store.select(load_sql(_PACKAGE, "billed_lines"), BilledLine, since=since, until=until)


def provider_usage(store: Store, since: date, until: date) -> list[ProviderUsage]:
    """Return the newest revision of what the provider counted on each day."""
    return store.select(load_sql(_PACKAGE, "usage_rows"), ProviderUsage, since=since, until=until)


def api_keys(store: Store) -> list[ApiKey]:
    """Return every project key ever listed."""
    return store.select(load_sql(_PACKAGE, "api_keys"), ApiKey)


def _costs(
    bill: Bill,
    fetch_id: UUID,
    good: Mapping[tuple[str, date], Reading],
    before: Sequence[BilledLine],
) -> tuple[list[Reading], list[BilledLine]]:
    if bill.costs_failure is not None:
        return _failed(COSTS, fetch_id, bill, bill.costs_failure), []
    made: list[Reading] = []
    lines: list[BilledLine] = []
    for day, cost in bill.costs.items():
        read = _reading(COSTS, day, fetch_id, bill, cost.rows, good.get((COSTS, day)))
        reading = replace(
            read,
            status="blocked" if cost.blocked else "ok",
            reason=cost.blocked,
            billed_usd=_kept(cost.billed),
            control_usd=_kept(cost.control),
        )
        made.append(reading)
        if not cost.blocked and reading.revision_fetch_id == fetch_id:
            lines += _billed_lines(cost.rows, reading)
            lines += _vanished([line for line in before if line.day == day], cost.rows, reading)
    return made, lines


def _billed_lines(rows: Sequence[CostRow], reading: Reading) -> list[BilledLine]:
    return [
        BilledLine(
            row.day,
            row.project,
            row.api_key_id,
            row.line_item,
            row.currency,
            row.organization,
            row.amount,
            kept(row.usd),
            _kept(row.quantity),
            row.quantity_unit,
            vanished=False,
            revision=reading.revision,
            fetch_id=reading.fetch_id,
        )
        for row in rows
    ]


def _vanished(
    before: Sequence[BilledLine], rows: Sequence[CostRow], reading: Reading
) -> list[BilledLine]:
    """Return an explicit zero for each line of the revision before that is gone."""
    now = {(row.project, row.api_key_id, row.line_item, row.quantity_unit) for row in rows}
    return [
        replace(
            line,
            amount="0",
            amount_usd=kept(Fraction(0)),
            quantity=None,
            vanished=True,
            revision=reading.revision,
            fetch_id=reading.fetch_id,
        )
        for line in before
        if not line.vanished
        and (line.project, line.api_key_id, line.line_item, line.quantity_unit) not in now
    ]


def _usage(
    bill: Bill, fetch_id: UUID, good: Mapping[tuple[str, date], Reading]
) -> tuple[list[Reading], list[ProviderUsage]]:
    made: list[Reading] = []
    counts: list[ProviderUsage] = []
    for source, by_day in bill.usage.items():
        for day, rows in by_day.items():
            reading = _reading(source, day, fetch_id, bill, rows, good.get((source, day)))
            made.append(reading)
            if reading.revision_fetch_id == fetch_id:
                counts += [
                    ProviderUsage(
                        source,
                        day,
                        row.project,
                        row.api_key_id,
                        row.model,
                        row.batch,
                        row.service_tier,
                        row.modality,
                        row.kind,
                        row.quantity,
                        reading.revision,
                        fetch_id,
                        row.api_source,
                    )
                    for row in rows
                ]
    for source, error in bill.usage_failures.items():
        made += _failed(source, fetch_id, bill, error)
    return made, counts


def _reading(
    source: str,
    day: date,
    fetch_id: UUID,
    bill: Bill,
    rows: Sequence[CostRow | UsageRow],
    before: Reading | None,
) -> Reading:
    """Return the row of a day that was read: of a new revision only where the content changed."""
    content = content_sha256(rows)
    new = Reading(
        source=source,
        day=day,
        fetch_id=fetch_id,
        fetched_at=bill.fetched_at,
        status="ok",
        reason="",
        grouped_by=bill.grouped_by[source],
        content_sha256=content,
        revision=before.revision + 1 if before else 1,
        revision_fetch_id=fetch_id,
        billed_usd=None,
        control_usd=None,
    )
    if before is None or before.content_sha256 != content:
        return new
    return replace(new, revision=before.revision, revision_fetch_id=before.revision_fetch_id)


def _failed(source: str, fetch_id: UUID, bill: Bill, error: CostspanError) -> list[Reading]:
    # A refused key says nothing of the bill: what was read before still stands.
    status, gate = (
        ("blocked", f"{error.gate}: ") if isinstance(error, Blocked) else ("unavailable", "")
    )
    return [
        Reading(
            source=source,
            day=day,
            fetch_id=fetch_id,
            fetched_at=bill.fetched_at,
            status=status,
            reason=f"{gate}{error}",
            grouped_by=(),
            content_sha256="",
            revision=0,
            revision_fetch_id=fetch_id,
            billed_usd=None,
            control_usd=None,
        )
        for day in bill.days
    ]


def _kept(value: Fraction | None) -> Decimal | None:
    return None if value is None else kept(value)
