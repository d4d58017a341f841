"""Share the bill of each reconciled day out, and keep who got what.

A day's lines, routes and shares are written before the row of `allocation_runs` that makes them
count, so a crash leaves the allocation before. The shares are computed in the engine, a day at a
time; here it is only decided which line goes how.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import ROUND_DOWN, Context, Decimal
from uuid import UUID, uuid4

from costspan.errors import Rejected
from costspan_collector.store import Store, load_sql
from costspan_reconcile import ledger
from costspan_reconcile.allocate.policy import NO_RULES, Policy
from costspan_reconcile.allocate.routes import BilledLine, KindOfCall, routes
from costspan_reconcile.facts import Keys
from costspan_reconcile.line_items import Form

_PACKAGE = "costspan_reconcile.allocate"
_PLACES = Decimal(1).scaleb(-20)
_EXACT = Context(prec=76)


@dataclass(frozen=True, slots=True)
class AllocationRun:
    """A row of `allocation_runs`."""

    allocation_id: UUID
    day: date
    run_id: UUID
    run_at: datetime
    frozen: bool
    policy_sha256: str
    billed_usd: Decimal
    direct_usd: Decimal
    shared_usd: Decimal
    unattributed_usd: Decimal


@dataclass(frozen=True, slots=True)
class AllocationLine:
    """A row of `allocation_lines`."""

    allocation_id: UUID
    day: date
    project: str
    api_key_id: str
    line_item: str
    billed_usd: Decimal
    billed_quantity: Decimal | None
    call_quantity: Decimal | None
    rule: str
    policy: str
    teams: tuple[str, ...]
    shares: tuple[int, ...]
    weights_of: UUID

    @property
    def key(self) -> tuple[str, str, str]:
        """Return what it is known by on its day."""
        return self.project, self.api_key_id, self.line_item


@dataclass(frozen=True, slots=True)
class _DueDay:
    day: date
    run_id: UUID
    day_state: str
    billed_usd: Decimal
    before: UUID
    frozen: bool


@dataclass(frozen=True, slots=True)
class _Totals:
    billed_usd: Decimal
    direct_usd: Decimal
    shared_usd: Decimal
    unattributed_usd: Decimal
    untied_lines: int


@dataclass(frozen=True, slots=True)
class _Outlived:
    allocation_id: UUID


def allocate_days(
    store: Store, since: date, until: date, now: datetime, policy: Policy = NO_RULES
) -> int:
    """Share out the days in `since <= day < until` whose bill or rules are new; return how many.

    The weights of a day are frozen when it is first shared out as final: a bill that changes
    afterwards, and rules that do, move nobody's part of what was there before.

    Raises:
        Unavailable: the store did not answer; the same may work later.
        Rejected: the shares of a day are not its bill, and do not count.
    """
    due = store.select(
        load_sql(_PACKAGE, "due_days"),
        _DueDay,
        since=since,
        until=until,
        policy_sha256=policy.sha256,
    )
    keys = Keys(ledger.api_keys(store) if due else (), ())
    for day in due:
        _allocate(store, day, now, policy, keys)
    return len(due)


def _allocate(store: Store, day: _DueDay, now: datetime, policy: Policy, keys: Keys) -> None:
    _forget(store, day.day)
    allocation_id = uuid4()
    billed = store.select(load_sql(_PACKAGE, "lines"), BilledLine, day=day.day, run_id=day.run_id)
    before = _before(store, day)
    lines = [
        row
        for line in billed
        if (row := _line(allocation_id, day.day, line, before, policy, keys)) is not None
    ]
    if lines:
        kinds = store.select(load_sql(_PACKAGE, "kinds_of_calls"), KindOfCall, day=day.day)
        store.insert("allocation_lines", lines)
        store.insert("allocation_routes", routes(allocation_id, day.day, billed, kinds, keys))
        for rest in (False, True) if any(line.policy for line in lines) else (False,):
            store.command(
                load_sql(_PACKAGE, "share_out"),
                allocation_id=allocation_id,
                run_id=day.run_id,
                day=day.day,
                rest=rest,
            )
    (totals,) = store.select(
        load_sql(_PACKAGE, "totals"), _Totals, allocation_id=allocation_id, day=day.day
    )
    if totals.untied_lines or totals.billed_usd != day.billed_usd:
        msg = (
            f"the shares of {day.day} do not add up to its bill ({totals.untied_lines} lines do "
            "not), so the allocation before is kept; this is a fault of costspan, please report it"
        )
        raise Rejected(msg)
    run = AllocationRun(
        allocation_id=allocation_id,
        day=day.day,
        run_id=day.run_id,
        run_at=now,
        frozen=day.frozen or day.day_state == "FINAL",
        policy_sha256=policy.sha256,
        billed_usd=totals.billed_usd,
        direct_usd=totals.direct_usd,
        shared_usd=totals.shared_usd,
        unattributed_usd=totals.unattributed_usd,
    )
    store.insert("allocation_runs", [run])  # last: it makes the others count


def _forget(store: Store, day: date) -> None:
    """Remove what no reader needs: a day that may change is shared out every hour."""
    for row in store.select(load_sql(_PACKAGE, "outlived"), _Outlived, day=day):
        for table in ("allocations", "allocation_routes", "allocation_lines"):
            store.command(f"ALTER TABLE {table} DROP PARTITION '{row.allocation_id}'")


def _before(store: Store, day: _DueDay) -> Mapping[tuple[str, str, str], AllocationLine]:
    """Return the lines whose weights are frozen."""
    if not day.frozen:
        return {}
    rows = store.select(
        load_sql(_PACKAGE, "lines_before"), AllocationLine, allocation_id=day.before, day=day.day
    )
    return {row.key: row for row in rows}


def _line(
    allocation_id: UUID,
    day: date,
    line: BilledLine,
    before: Mapping[tuple[str, str, str], AllocationLine],
    policy: Policy,
    keys: Keys,
) -> AllocationLine | None:
    """Return how a line is to be shared, as it was before if it was; None if there is nothing to."""
    key = (line.project, line.api_key_id, line.line_item)
    held = before.get(key)
    if held is not None:
        return replace(held, allocation_id=allocation_id, billed_usd=line.billed_usd)
    if not line.billed_usd:
        return None
    rule = policy.rule(
        {
            "project": {line.project},
            "key": {line.api_key_id, keys.names.get(line.api_key_id, "")},
            "line_item": {line.line_item},
            "class": {line.cause},
        }
    )
    billed, seen = line.billed_quantity or line.usage_quantity, line.estimated_quantity
    if not seen and line.item.form is not Form.TOKENS:
        billed = None  # in a unit of its own: calls are only set beside each other
    return AllocationLine(
        allocation_id,
        day,
        *key,
        line.billed_usd,
        _units(billed),
        _units(seen),
        rule.name if rule else "",
        rule.policy if rule else "",
        tuple(rule.shares) if rule else (),
        tuple(rule.shares.values()) if rule else (),
        allocation_id,
    )


def _units(quantity: Decimal | None) -> Decimal | None:
    return None if quantity is None else quantity.quantize(_PLACES, ROUND_DOWN, _EXACT)
