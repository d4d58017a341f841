"""Close a month: all days final, then the invoice ties, then finance signs.

Every step ends with one row of `periods`, which makes what was written before it count. A step that
was cut off left nothing that counts, and doing it again completes it.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from fractions import Fraction
from uuid import UUID, uuid4

from costspan.errors import Rejected, Unavailable
from costspan.pricing import Book
from costspan_collector.store import Store, load_sql
from costspan_reconcile.allocate.policy import NO_RULES, Policy
from costspan_reconcile.allocate.runs import allocate_days
from costspan_reconcile.amounts import kept
from costspan_reconcile.period import pack
from costspan_reconcile.period.adjustments import adjustments
from costspan_reconcile.period.bridge import (
    BALANCE,
    STATED,
    BridgeLine,
    Entry,
    Invoice,
    Kind,
    bridge_lines,
    entries_of,
    tie,
)
from costspan_reconcile.period.month import Month
from costspan_reconcile.period.states import (
    Facts,
    MonthRow,
    State,
    Step,
    advance,
    audit,
    facts,
    month_row,
    steps,
    write,
)
from costspan_reconcile.reconcile import reconcile_days

_PACKAGE = "costspan_reconcile.period"


@dataclass(frozen=True, slots=True)
class Lock(Step):
    """The step to LOCKED. `days`: day, run, fetch and hash of the bill, allocation."""

    days: tuple[tuple[date, UUID, UUID, str, UUID], ...]


def close_month(
    store: Store,
    month: Month,
    now: datetime,
    actor: str,
    *,
    invoice: Invoice | None = None,
    sign: bool = False,
    book: Book | None = None,
    policy: Policy = NO_RULES,
) -> MonthRow:
    """Take a month as far as it can go: tie it to `invoice` if one is given, lock it if `sign`.

    Raises:
        Rejected: a day is not final, more than a cent is missing, or the month is locked; the
            message says which, and how much.
        Unavailable: the store did not answer, or the bill changed meanwhile; do it again.
    """
    row = month_row(store, month)
    if row is not None and row.state == State.LOCKED:
        audit(store)
        _only_the_same(month, row, invoice)
        return row
    if sign and invoice is None and (row is None or row.state != State.INVOICE_MATCHED):
        msg = f"{month} is {row.state if row else State.OPEN}: state its invoice first"
        raise Rejected(msg)
    reconcile_days(store, month.first, month.until, now, book)
    if sign:
        allocate_days(store, month.first, month.until, now, policy)
    found = facts(store, month, now)
    advance(store, found, month_row(store, month), now, actor)
    if found.blockers:
        msg = f"{month} cannot be closed yet: {'; '.join(found.blockers)}"
        raise Rejected(msg)
    if invoice is not None:
        _match(store, found, invoice, now, actor)
    if sign:
        _lock(store, found, now, actor)
    audit(store)
    return _row(store, month)


@dataclass(frozen=True, slots=True)
class Preview:
    """What closing a month would come to."""

    state: str
    missing: tuple[str, ...]
    entries: tuple[Entry, ...]


def preview(store: Store, month: Month, invoice: Invoice | None, now: datetime) -> Preview:
    """Return how far a month could go with `invoice`. Changes nothing."""
    row, found = month_row(store, month), facts(store, month, now)
    if row is not None and row.state == State.LOCKED:
        return Preview(row.state, (), tuple(entries_of(bridge(store, row.close_id))))
    entries, missing = tuple(_ledger_entries(store, found)), found.blockers
    if invoice is None and row is not None and row.state == State.INVOICE_MATCHED:
        invoice = _stated(row, bridge(store, row.close_id))
    if invoice is not None:
        try:
            entries, _ = tie(month, entries, invoice)
        except Rejected as error:
            missing = (*missing, str(error))
    return Preview(row.state if row else State.OPEN, missing, entries)


def bridge(store: Store, close_id: UUID) -> list[BridgeLine]:
    """Return the bridge of a step, in order; nothing where no invoice was stated."""
    return store.select(load_sql(_PACKAGE, "bridge"), BridgeLine, close_id=close_id)


def evidence_pack(store: Store, month: Month) -> bytes:
    """Return the evidence pack of a locked month.

    Raises:
        Rejected: the month is not locked.
    """
    row = month_row(store, month)
    if row is None or row.state != State.LOCKED:
        msg = f"{month} is not locked, so there is no evidence pack of it; sign it with --sign"
        raise Rejected(msg)
    return pack.pack(pack.evidence(store, row.close_id))


def _row(store: Store, month: Month) -> MonthRow:
    row = month_row(store, month)
    if row is None:
        msg = f"{month} is gone from the store"
        raise Unavailable(msg)
    return row


def _only_the_same(month: Month, row: MonthRow, invoice: Invoice | None) -> None:
    if invoice is None or (invoice.number, kept(invoice.owed)) == (row.invoice_id, row.invoice_usd):
        return
    msg = (
        f"{month} was locked by {row.actor} on {row.at:%Y-%m-%d %H:%M} UTC and stays as it is; what "
        "OpenAI changes later is booked as a correction in the month that is open then"
    )
    raise Rejected(msg)


def _ledger_entries(store: Store, found: Facts) -> list[Entry]:
    """Return what the ledger itself says is owed: the bill, and corrections of locked months."""
    entries = [Entry(Kind.BILLED, "billed by Costs", found.billed, found.bill_sha256)]
    booked = adjustments(store, found.month)
    for original in sorted({row.original_month for row in booked}):
        of = [row for row in booked if row.original_month == original]
        entries.append(
            Entry(
                Kind.CORRECTION,
                f"correction of {Month(original)}, {len(of)} line{'s' * (len(of) > 1)}",
                sum((Fraction(row.amount_usd) for row in of), Fraction(0)),
                hashlib.sha256(pack.listed(of).encode()).hexdigest(),
            )
        )
    return entries


def _match(store: Store, found: Facts, invoice: Invoice, now: datetime, actor: str) -> None:
    entries, owed = tie(found.month, _ledger_entries(store, found), invoice)
    row = _row(store, found.month)
    close_id = uuid4()
    lines = bridge_lines(close_id, found.month, entries)
    step = Step(
        month=found.month.first,
        state=State.INVOICE_MATCHED,
        at=now,
        actor=actor,
        close_id=close_id,
        reason="",
        billed_usd=kept(found.billed),
        bill_sha256=found.bill_sha256,
        invoice_id=invoice.number,
        invoice_usd=kept(owed),
        invoice_file=invoice.file,
        invoice_sha256=invoice.file_sha256,
        lock_sha256="",
    )
    before = [replace(line, close_id=close_id) for line in bridge(store, row.close_id)]
    same_invoice = (row.invoice_id, row.invoice_file) == (step.invoice_id, step.invoice_file)
    if row.state == State.INVOICE_MATCHED and before == lines and same_invoice:
        return
    store.insert("bridge_lines", lines)
    write(store, [step])


def _lock(store: Store, found: Facts, now: datetime, actor: str) -> None:
    month, row = found.month, _row(store, found.month)
    if row.state != State.INVOICE_MATCHED:
        msg = f"{month} is {row.state} again, its bill changed: state its invoice once more"
        raise Rejected(msg)
    stated = _stated(row, bridge(store, row.close_id))
    entries, owed = tie(month, _ledger_entries(store, found), stated)
    close_id = uuid4()
    lines = bridge_lines(close_id, month, entries)
    documents = pack.documents(store, month) | {
        pack.BRIDGE: pack.listed(lines, without="close_id"),
        pack.ADJUSTMENTS: pack.listed(adjustments(store, month)),
        pack.INVOICE: pack.document(
            {
                "number": row.invoice_id,
                "usd": kept(owed),
                "prepaid": stated.total_usd is None,
                "file": row.invoice_file,
                "sha256": row.invoice_sha256,
            }
        ),
        pack.STEPS: pack.listed(steps(store, month)),
    }
    signed = pack.signed(month, documents, actor, now)
    store.insert("bridge_lines", lines)
    store.insert("evidence", pack.rows(close_id, signed))
    if facts(store, month, now) != found:
        msg = f"{month} changed while it was being locked; do it again"
        raise Unavailable(msg)
    lock = Lock(
        month=month.first,
        state=State.LOCKED,
        at=now,
        actor=actor,
        close_id=close_id,
        reason="",
        billed_usd=kept(found.billed),
        bill_sha256=found.bill_sha256,
        invoice_id=row.invoice_id,
        invoice_usd=kept(owed),
        invoice_file=row.invoice_file,
        invoice_sha256=row.invoice_sha256,
        lock_sha256=pack.digest(signed[pack.MANIFEST]),
        days=tuple(
            (day.day, day.run_id, day.costs_fetch_id, day.content_sha256, day.allocation_id)
            for day in found.days
        ),
    )
    write(store, [lock])


def _stated(row: MonthRow, lines: Sequence[BridgeLine]) -> Invoice:
    """Return what a person stated, from the bridge in which it was kept."""
    entries = tuple(entry for entry in entries_of(lines) if entry.kind in STATED)
    prepaid = any(entry.kind in BALANCE for entry in entries)
    total = None if prepaid or row.invoice_usd is None else Fraction(row.invoice_usd)
    return Invoice(row.invoice_id, total, entries, row.invoice_file, row.invoice_sha256)
