"""Share the bill of each reconciled day out, and keep who got what.

A day's lines, routes and shares are written before the row of `allocation_runs` that makes them
count, so a crash leaves the allocation before. The shares are computed in the engine, some days at
once; here it is only decided which line goes how.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import ROUND_DOWN, Context, Decimal
from uuid import UUID, uuid4

from costspan.errors import Rejected
from costspan_collector.store import Store, load_sql
from costspan_reconcile import ledger
from costspan_reconcile.allocate.policy import NO_RULES, Policy
from costspan_reconcile.allocate.routes import CallKind, MatchedLine, routes
from costspan_reconcile.facts import Keys, by_day
from costspan_reconcile.line_items import Form

_PACKAGE = "costspan_reconcile.allocate"
_PLACES = Decimal(1).scaleb(-20)
_EXACT = Context(prec=76)
_SPAN = timedelta(days=14)
_CALLS_AT_ONCE = 2_000_000
"""The shares of so many calls are computed in one statement; of a single day, of however many."""


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
    def key(self) -> tuple[date, str, str, str]:
        """Return what it is known by."""
        return self.day, self.project, self.api_key_id, self.line_item


@dataclass(frozen=True, slots=True)
class _DueDay:
    day: date
    run_id: UUID
    day_state: str
    billed_usd: Decimal
    calls: int
    before: UUID
    frozen: bool


@dataclass(frozen=True, slots=True)
class _Totals:
    allocation_id: UUID
    billed_usd: Decimal = Decimal(0)
    direct_usd: Decimal = Decimal(0)
    shared_usd: Decimal = Decimal(0)
    unattributed_usd: Decimal = Decimal(0)
    untied_lines: int = 0


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
    for days in _at_once(due):
        _allocate(store, days, now, policy, keys)
    return len(due)


def _at_once(due: Iterable[_DueDay]) -> Iterator[list[_DueDay]]:
    """Yield the days in pieces, each of which can be held in memory."""
    piece: list[_DueDay] = []
    for day in due:
        calls = sum(earlier.calls for earlier in piece) + day.calls
        if piece and (calls > _CALLS_AT_ONCE or day.day - piece[0].day >= _SPAN):
            yield piece
            piece = []
        piece.append(day)
    if piece:
        yield piece


def _allocate(
    store: Store, days: Sequence[_DueDay], now: datetime, policy: Policy, keys: Keys
) -> None:
    _forget(store, [day.day for day in days])
    ids = {day.day: uuid4() for day in days}
    matched = by_day(
        store.select(
            load_sql(_PACKAGE, "lines"),
            MatchedLine,
            days=[day.day for day in days],
            run_ids=[day.run_id for day in days],
        )
    )
    before = _before(store, days)
    lines = [
        row
        for day, found in matched.items()
        for line in found
        if (row := _line(ids[day], line, before, policy, keys)) is not None
    ]
    if lines:
        _share_out(store, days, lines, matched, keys)
    totals = {
        row.allocation_id: row
        for row in store.select(
            load_sql(_PACKAGE, "totals"), _Totals, allocation_ids=[*ids.values()]
        )
    }
    tied = [
        _run(day, total, now, policy)
        for day in days
        if not (total := totals.get(ids[day.day], _Totals(ids[day.day]))).untied_lines
        if total.billed_usd == day.billed_usd
    ]
    store.insert("allocation_runs", tied)  # last: it makes the others count
    untied = {day.day for day in days} - {run.day for run in tied}
    if untied:
        msg = (
            f"the shares of {', '.join(map(str, sorted(untied)))} do not add up to the bill, so the "
            "allocation before is kept; this is a fault of costspan, please report it"
        )
        raise Rejected(msg)


def _run(day: _DueDay, total: _Totals, now: datetime, policy: Policy) -> AllocationRun:
    return AllocationRun(
        allocation_id=total.allocation_id,
        day=day.day,
        run_id=day.run_id,
        run_at=now,
        frozen=day.frozen or day.day_state == "FINAL",
        policy_sha256=policy.sha256,
        billed_usd=total.billed_usd,
        direct_usd=total.direct_usd,
        shared_usd=total.shared_usd,
        unattributed_usd=total.unattributed_usd,
    )


def _share_out(
    store: Store,
    days: Sequence[_DueDay],
    lines: Sequence[AllocationLine],
    matched: Mapping[date, Sequence[MatchedLine]],
    keys: Keys,
) -> None:
    """Have the engine compute who gets what of `lines`, and keep it."""
    ids = {line.day: line.allocation_id for line in lines}
    since, until = min(ids), max(ids) + timedelta(days=1)
    kinds = by_day(
        store.select(
            load_sql(_PACKAGE, "kinds_of_calls"), CallKind, days=[*ids], since=since, until=until
        )
    )
    store.insert("allocation_lines", lines)
    store.insert(
        "allocation_routes",
        [
            route
            for day, allocation_id in ids.items()
            for route in routes(allocation_id, matched[day], kinds.get(day, ()), keys)
        ],
    )
    for rest in (False, True) if any(line.policy for line in lines) else (False,):
        store.command(
            load_sql(_PACKAGE, "share_out"),
            allocation_ids=[*ids.values()],
            run_ids=[day.run_id for day in days if day.day in ids],
            since=since,
            until=until,
            rest=rest,
        )


def _forget(store: Store, days: Sequence[date]) -> None:
    """Remove what no reader needs: a day that may change is shared out every hour."""
    outlived = store.select(load_sql(_PACKAGE, "outlived"), _Outlived, days=days)
    if outlived:
        drops = ", ".join(f"DROP PARTITION '{row.allocation_id}'" for row in outlived)
        for table in ("allocations", "allocation_routes", "allocation_lines"):
            store.command(f"ALTER TABLE {table} {drops}")


def _before(
    store: Store, days: Iterable[_DueDay]
) -> Mapping[tuple[date, str, str, str], AllocationLine]:
    """Return the lines whose weights are frozen."""
    frozen = [day.before for day in days if day.frozen]
    if not frozen:
        return {}
    rows = store.select(load_sql(_PACKAGE, "lines_before"), AllocationLine, allocation_ids=frozen)
    return {row.key: row for row in rows}


def _line(
    allocation_id: UUID,
    line: MatchedLine,
    before: Mapping[tuple[date, str, str, str], AllocationLine],
    policy: Policy,
    keys: Keys,
) -> AllocationLine | None:
    """Return how a line is to be shared, as it was before if it was; None if there is nothing to."""
    key = (line.day, line.project, line.api_key_id, line.line_item)
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
