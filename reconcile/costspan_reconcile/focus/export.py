"""Write a month as FOCUS, read the file back, and leave it only if it is right."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from uuid import UUID

from costspan.errors import Rejected
from costspan.pricing import Book, default_book
from costspan_collector.store import Store, load_sql
from costspan_reconcile.book_prices import Prices
from costspan_reconcile.columns import as_text
from costspan_reconcile.focus.charges import (
    Bill,
    Books,
    Correction,
    Line,
    bridge_row,
    correction_rows,
    line_rows,
)
from costspan_reconcile.focus.check import HEADER, Checked, Fault, check
from costspan_reconcile.focus.columns import COLUMNS, Row
from costspan_reconcile.focus.files import Format, read, write
from costspan_reconcile.period.bridge import BALANCE, Kind
from costspan_reconcile.period.close import bridge
from costspan_reconcile.period.month import Month
from costspan_reconcile.period.states import month_row
from costspan_reconcile.period.verify import file_sha256

_PACKAGE = "costspan_reconcile.focus"
_ITEMISED = frozenset({Kind.BILLED, Kind.CORRECTION})
"""Lines of the bridge that the ledger has in detail."""


@dataclass(frozen=True, slots=True)
class Exported:
    """A file that was written, and what is in it."""

    path: Path
    sha256: str
    """Of the file, to be kept where the file is used."""
    month: str
    state: str
    rows: int
    billed_usd: Decimal
    days_without_bill: tuple[date, ...]
    """Their charges are unknown, and so not in the file."""


@dataclass(frozen=True, slots=True)
class _Total:
    total_usd: Decimal


@dataclass(frozen=True, slots=True)
class _Organization:
    organization: str


@dataclass(frozen=True, slots=True)
class _Day:
    day: date


def export_focus(
    store: Store, month: Month, path: Path, form: Format, *, book: Book, account: str = ""
) -> Exported:
    """Write the bill of `month` to `path`, as it stands, if the file is right.

    `book` holds the negotiated prices, `account` names the organization where the bill does not.

    Raises:
        Rejected: nothing of the month is reconciled, the file cannot be written, or it would be
            wrong; what was at `path` is there still.
    """
    row = month_row(store, month)
    if row is None:
        msg = (
            f"nothing of {month} is reconciled: run `costspan reconcile run --since {month.first}`"
        )
        raise Rejected(msg)
    bill = Bill(
        month, row.state, account or _account(store), row.invoice_id or f"{month}-provisional"
    )
    books = Books(Prices(default_book()), Prices(book))
    days = _billed_days(store, month)
    part = path.with_name(f"{path.name}.part")
    try:
        write(part, form, COLUMNS, lambda: rows(store, bill, days, row.close_id, books))
        checked = check_file(part, _ledger(store, month, row.close_id))
        if checked.faults:
            msg = f"{path} is not left, it would be wrong: {faults_line(checked)}"
            raise Rejected(msg)
        part.replace(path)
    except OSError as error:
        msg = f"cannot write {path}: {error.strerror or error}"
        raise Rejected(msg) from error
    finally:
        part.unlink(missing_ok=True)
    return Exported(
        path=path,
        sha256=file_sha256(path),
        month=str(month),
        state=row.state,
        rows=checked.rows,
        billed_usd=checked.billed_usd,
        days_without_bill=tuple(day for day in month.days if day not in days),
    )


def rows(
    store: Store, bill: Bill, days: Sequence[date], close_id: UUID, books: Books
) -> Iterator[Row]:
    """Return the rows of a month with a bill for `days`, a day in memory at a time."""
    lines = load_sql(_PACKAGE, "lines")
    for day in days:
        for line in store.select(lines, Line, day=day):
            yield from line_rows(bill, line, books)
    for booked in store.select(
        load_sql(_PACKAGE, "corrections"), Correction, month=bill.month.first
    ):
        yield from correction_rows(bill, booked)
    for stated in bridge(store, close_id):
        if stated.kind not in BALANCE | _ITEMISED and stated.amount_usd:
            yield bridge_row(bill, stated)


def check_file(path: Path, ledger_usd: Decimal | None = None) -> Checked:
    """Check a file, and that it adds up to what the ledger says.

    Raises:
        Rejected: it cannot be read.
    """
    with read(path, COLUMNS) as file:
        checked = check(file.names, file.rows)
    if ledger_usd is None or checked.billed_usd == ledger_usd:
        return checked
    says = f"the rows add up to {as_text(checked.billed_usd)}, the ledger to {as_text(ledger_usd)}"
    faults = (Fault(HEADER, "BilledCost", says), *checked.faults)
    return Checked(checked.rows, checked.billed_usd, faults, checked.more_faults)


def faults_line(checked: Checked) -> str:
    """Return what is wrong, in one line."""
    more = f"; and {checked.more_faults} more" if checked.more_faults else ""
    return "; ".join(map(str, checked.faults)) + more


def _account(store: Store) -> str:
    found = store.select(load_sql("costspan_reconcile", "organization"), _Organization)
    if not found:
        msg = "the bill does not name the organization: say --account ID, it must be in the file"
        raise Rejected(msg)
    return found[0].organization


def _ledger(store: Store, month: Month, close_id: UUID) -> Decimal:
    (found,) = store.select(
        load_sql(_PACKAGE, "ledger"),
        _Total,
        since=month.first,
        until=month.until,
        close_id=close_id,
    )
    return found.total_usd


def _billed_days(store: Store, month: Month) -> list[date]:
    sql = load_sql(_PACKAGE, "billed_days")
    return [row.day for row in store.select(sql, _Day, since=month.first, until=month.until)]
