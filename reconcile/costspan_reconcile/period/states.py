"""The state of each month, kept as the steps that led to it.

OPEN, CLOSING when every day is final, INVOICE_MATCHED when the invoice ties, LOCKED when finance
signed. A step back is a step too, with its reason; after LOCKED there is none.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from uuid import UUID, uuid4

from costspan.money import plain
from costspan_collector.store import Store, load_sql
from costspan_reconcile.amounts import kept
from costspan_reconcile.period.month import Month, month_of

_PACKAGE = "costspan_reconcile.period"
SCHEDULER = "costspan"
"""Who moves a month when its days are final."""


class State(StrEnum):
    """How far a month is."""

    OPEN = "OPEN"
    CLOSING = "CLOSING"
    INVOICE_MATCHED = "INVOICE_MATCHED"
    LOCKED = "LOCKED"


@dataclass(frozen=True, slots=True)
class Step:
    """A row of `periods`, without the days that a lock names."""

    month: date
    state: str
    at: datetime
    actor: str
    close_id: UUID
    reason: str
    billed_usd: Decimal
    bill_sha256: str
    invoice_id: str
    invoice_usd: Decimal | None
    invoice_file: str
    invoice_sha256: str
    lock_sha256: str


@dataclass(frozen=True, slots=True)
class MonthRow:
    """A month as it stands. Without a step, who, when and what is billed in it are not known."""

    month: date
    state: str
    at: datetime | None
    actor: str
    close_id: UUID
    reason: str
    billed_usd: Decimal | None
    bill_sha256: str
    invoice_id: str
    invoice_usd: Decimal | None
    invoice_file: str
    invoice_sha256: str
    lock_sha256: str
    final_days: int
    ledger_usd: Decimal | None
    """What the days that are reconciled so far were billed."""


@dataclass(frozen=True, slots=True)
class MonthDay:
    """A reconciled day of a month."""

    day: date
    run_id: UUID
    day_state: str
    verdict: str
    reason: str
    costs_revision: int
    billed_usd: Decimal | None
    estimated_usd: Decimal
    revision: int
    costs_fetch_id: UUID
    content_sha256: str
    allocation_id: UUID
    """Zero where the dollars of this run are not allocated."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the ledger holds of a month, and what keeps it from being closed."""

    month: Month
    days: Sequence[MonthDay]
    blockers: tuple[str, ...]

    @property
    def billed(self) -> Fraction:
        """Return what the reconciled days were billed."""
        return sum((Fraction(day.billed_usd or 0) for day in self.days), Fraction(0))

    @property
    def bill_sha256(self) -> str:
        """Return the hash of what the days are billed."""
        content = "\n".join(f"{day.day} {day.content_sha256}" for day in self.days)
        return hashlib.sha256(content.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class _Audit:
    at: datetime
    actor: str
    action: str
    subject: str
    detail: str


def months(store: Store) -> list[MonthRow]:
    """Return every month that has a reconciled day, newest first."""
    return store.select(load_sql(_PACKAGE, "months"), MonthRow)


def month_row(store: Store, month: Month) -> MonthRow | None:
    """Return one month; None where nothing of it is reconciled."""
    return next((row for row in months(store) if row.month == month.first), None)


def steps(store: Store, month: Month) -> list[Step]:
    """Return the steps that a month took, oldest first."""
    return store.select(load_sql(_PACKAGE, "steps"), Step, month=month.first)


def facts(store: Store, month: Month, now: datetime) -> Facts:
    """Return what is known of a month at `now`."""
    return _facts(month, _days(store, month, month), now)


def _days(store: Store, first: Month, last: Month) -> list[MonthDay]:
    sql = load_sql(_PACKAGE, "month_days")
    return store.select(sql, MonthDay, since=first.first, until=last.until)


def _facts(month: Month, days: Sequence[MonthDay], now: datetime) -> Facts:
    return Facts(month, days, _blockers(month, days, now.date()))


def advance(store: Store, found: Facts, row: MonthRow | None, now: datetime, actor: str) -> str:
    """Move a month to CLOSING, or back, where its days ask for it; return its state."""
    state = row.state if row else State.OPEN
    if state == State.LOCKED:
        return state
    same_bill = row is not None and row.bill_sha256 == found.bill_sha256
    if state == State.INVOICE_MATCHED and same_bill:
        return state
    wanted = State.OPEN if found.blockers else State.CLOSING
    if state == wanted:
        return state
    reason = ""
    if state == State.INVOICE_MATCHED:
        reason = "the bill changed after the invoice was matched"
    elif found.blockers:
        reason = found.blockers[0]
    write(store, [_step(found, wanted, now, actor, reason)])
    return wanted


def advance_all(store: Store, now: datetime) -> list[str]:
    """Move every month that is due; return a line for each that moved."""
    moved: list[str] = []
    due = [row for row in months(store) if row.state != State.LOCKED]
    found = _days(store, Month(due[-1].month), Month(due[0].month)) if due else []
    days = _by_month(found)
    for row in due:
        month = Month(row.month)
        state = advance(store, _facts(month, days.get(month, ()), now), row, now, SCHEDULER)
        if state != row.state:
            moved.append(f"month {month} is {state}")
    audit(store)
    return moved


def _by_month(days: Iterable[MonthDay]) -> Mapping[Month, Sequence[MonthDay]]:
    found: defaultdict[Month, list[MonthDay]] = defaultdict(list)
    for day in days:
        found[month_of(day.day)].append(day)
    return found


def write(store: Store, rows: Sequence[Step]) -> None:
    """Keep steps, and their lines in the audit log."""
    store.insert("periods", rows)
    audit(store)


def audit(store: Store) -> None:
    """Put every step into the audit log that is not there yet."""
    rows = store.select(load_sql(_PACKAGE, "unaudited"), Step)
    store.insert(
        "audit_log",
        [
            _Audit(
                row.at,
                row.actor,
                f"period.{row.state.lower()}",
                f"{Month(row.month)}",
                json.dumps(
                    {
                        "close_id": str(row.close_id),
                        "reason": row.reason,
                        "billed_usd": plain(row.billed_usd),
                        "invoice_id": row.invoice_id,
                        "invoice_usd": None if row.invoice_usd is None else plain(row.invoice_usd),
                        "invoice_sha256": row.invoice_sha256,
                        "lock_sha256": row.lock_sha256,
                    }
                ),
            )
            for row in rows
        ],
    )


def _step(found: Facts, state: State, now: datetime, actor: str, reason: str) -> Step:
    return Step(
        month=found.month.first,
        state=state,
        at=now,
        actor=actor,
        close_id=uuid4(),
        reason=reason,
        billed_usd=kept(found.billed),
        bill_sha256=found.bill_sha256,
        invoice_id="",
        invoice_usd=None,
        invoice_file="",
        invoice_sha256="",
        lock_sha256="",
    )


def _blockers(month: Month, days: Sequence[MonthDay], today: date) -> tuple[str, ...]:
    known = {day.day for day in days}
    missing = [day for day in month.days if day not in known]
    found = [
        ([day for day in missing if day <= today], "never reconciled"),
        ([day.day for day in days if day.verdict == "BLOCKED"], "blocked: the bill of it failed"),
        ([day.day for day in days if day.billed_usd is None], "without a bill"),
        (
            [day.day for day in days if day.revision != day.costs_revision],
            "read again since it was reconciled",
        ),
        ([day.day for day in days if day.day_state != "FINAL"], "not final yet"),
        ([day for day in missing if day > today], "still to come"),
    ]
    return tuple(f"{_named(of)} {what}" for of, what in found if of)


def _named(days: Sequence[date]) -> str:
    if len(days) == 1:
        return f"{days[0]} is"
    return f"{len(days)} days ({days[0]} to {days[-1]}) are"
