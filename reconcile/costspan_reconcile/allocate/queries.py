"""The allocation as it stands: what the pages read."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from costspan_collector.store import Store, load_sql

_PACKAGE = "costspan_reconcile.allocate"

DIMENSIONS = ("team and feature", "team", "feature", "user", "customer", "project")
"""What the shares can be added up by."""


@dataclass(frozen=True, slots=True)
class AllocatedDay:
    """A closed day with a bill, and what became of it."""

    day: date
    billed_usd: Decimal
    """By the reconciliation."""
    allocated_usd: Decimal | None
    """What was shared out; None where the day is not yet, or its bill is newer."""
    direct_usd: Decimal
    shared_usd: Decimal
    unattributed_usd: Decimal
    frozen: bool


@dataclass(frozen=True, slots=True)
class AllocatedTo:
    """What one team, user or the like was billed over the days."""

    value: str
    feature: str
    is_nobody: bool
    """No call and no rule gives it to anyone."""
    is_other: bool
    """All that are not among the largest."""
    direct_usd: Decimal
    shared_usd: Decimal
    unattributed_usd: Decimal
    billed_usd: Decimal


@dataclass(frozen=True, slots=True)
class Rest:
    """What no call accounts for in one product of one project, and the rule that it went by."""

    project: str
    api_key_id: str
    key_name: str
    line_item: str
    rule: str
    shared_usd: Decimal
    unattributed_usd: Decimal


@dataclass(frozen=True, slots=True)
class BilledCall:
    """What a call was billed, by line item."""

    frozen: bool
    """Whether the day is final."""
    parts_usd: Mapping[str, Decimal]


@dataclass(frozen=True, slots=True)
class _Frozen:
    frozen: bool


@dataclass(frozen=True, slots=True)
class _Part:
    line_item: str
    billed_usd: Decimal


def allocated_days(store: Store, since: date, until: date) -> list[AllocatedDay]:
    """Return the closed days in `since <= day < until` that have a bill, newest first."""
    sql = load_sql(_PACKAGE, "allocated_days")
    return store.select(sql, AllocatedDay, since=since, until=until)


def allocated_to(
    store: Store, since: date, until: date, *, by: str, most: int
) -> list[AllocatedTo]:
    """Return who was billed what, most first: `most` of them, all others as one, nobody last.

    The rows sum to the bill of the days that are shared out.
    """
    sql = load_sql(_PACKAGE, "allocated_to")
    return store.select(sql, AllocatedTo, since=since, until=until, by=by, most=most)


def rest(store: Store, since: date, until: date, *, most: int) -> list[Rest]:
    """Return at most `most` lines with dollars that no call accounts for, most dollars first."""
    return store.select(load_sql(_PACKAGE, "rest"), Rest, since=since, until=until, most=most)


def billed_call(store: Store, day: date, trace_id: str, span_id: str) -> BilledCall | None:
    """Return what a call that ended on `day` was billed, None where the day is not shared out."""
    found = store.select(load_sql(_PACKAGE, "frozen"), _Frozen, day=day)
    if not found:
        return None
    parts = store.select(
        load_sql(_PACKAGE, "billed_call"), _Part, day=day, trace_id=trace_id, span_id=span_id
    )
    return BilledCall(found[0].frozen, {part.line_item: part.billed_usd for part in parts})
