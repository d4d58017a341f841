"""From what the Costs endpoint billed to what the invoice says, line by line and to the last digit.

    billed + corrections + fees + tax - credits ± rounding = invoice

A prepaid organization gets receipts for what it puts in, not for what it uses. There the same sum
is what was drawn from the balance: opening + purchases - expired - closing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from uuid import UUID

from costspan.errors import Rejected
from costspan_reconcile.amounts import dollars, kept, read_amount
from costspan_reconcile.period.month import Month

TOLERANCE_USD = Fraction(1, 100)
"""An invoice is in cents."""


class Kind(StrEnum):
    """What a line of the bridge is."""

    BILLED = "billed"
    CORRECTION = "correction"
    FEE = "fee"
    TAX = "tax"
    CREDIT = "credit"
    ROUNDING = "rounding"
    OPENING = "opening"
    PURCHASE = "purchase"
    EXPIRED = "expired"
    CLOSING = "closing"


BALANCE = frozenset({Kind.OPENING, Kind.PURCHASE, Kind.EXPIRED, Kind.CLOSING})
"""The roll-forward of a prepaid balance; the other lines are charges."""
STATED = (Kind.FEE, Kind.TAX, Kind.CREDIT, Kind.OPENING, Kind.PURCHASE, Kind.EXPIRED, Kind.CLOSING)
"""What is not in the ledger, so that a person has to state it."""
_TAKEN_AWAY = frozenset({Kind.CREDIT, Kind.EXPIRED, Kind.CLOSING})
"""Stated without a sign, and negative in the sum."""
_FOCUS = {
    Kind.BILLED: ("Usage", ""),
    Kind.CORRECTION: ("Adjustment", "Correction"),
    Kind.FEE: ("Purchase", ""),
    Kind.TAX: ("Tax", ""),
    Kind.CREDIT: ("Credit", ""),
    Kind.ROUNDING: ("Adjustment", ""),
    Kind.PURCHASE: ("Purchase", ""),
}
_SAID = {
    Kind.FEE: "fee that is not in Costs",
    Kind.TAX: "tax",
    Kind.CREDIT: "credit applied",
    Kind.OPENING: "balance at the start",
    Kind.PURCHASE: "credits bought",
    Kind.EXPIRED: "credits expired",
    Kind.CLOSING: "balance at the end",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One amount that is to be added up. Its sign is that of the sum."""

    kind: Kind
    description: str
    usd: Fraction
    evidence_sha256: str = ""


@dataclass(frozen=True, slots=True)
class Invoice:
    """What finance states. `total_usd` is None where a balance is rolled forward.

    Raises:
        Rejected: it states a total and a balance, or neither, or half of one.
    """

    number: str
    total_usd: Fraction | None
    entries: tuple[Entry, ...]
    file: str = ""
    file_sha256: str = ""

    def __post_init__(self) -> None:
        kinds = [entry.kind for entry in self.entries if entry.kind in BALANCE]
        if self.total_usd is not None and kinds:
            msg = (
                "state the invoice's total, or roll a prepaid balance forward with --opening, "
                "--purchase, --expired and --closing, not both"
            )
            raise Rejected(msg)
        if self.total_usd is None and any(
            kinds.count(end) != 1 for end in (Kind.OPENING, Kind.CLOSING)
        ):
            msg = "state --invoice-total; or --opening and --closing, once each, if it is prepaid"
            raise Rejected(msg)

    @property
    def owed(self) -> Fraction:
        """Return what the charges must add up to."""
        if self.total_usd is not None:
            return self.total_usd
        return sum((entry.usd for entry in self.entries if entry.kind in BALANCE), Fraction(0))


@dataclass(frozen=True, slots=True)
class BridgeLine:
    """A row of `bridge_lines`."""

    close_id: UUID
    month: date
    position: int
    kind: str
    charge_category: str
    charge_class: str
    description: str
    amount_usd: Decimal
    evidence_sha256: str


def read_entry(kind: Kind, text: str, evidence_sha256: str = "") -> Entry:
    """Return what `text` states: `8.10`, or with a name `VAT 19 %=8.10`.

    Raises:
        Rejected: it is not an amount, or has a sign where the kind says it.
    """
    name, _, amount = text.rpartition("=")
    usd = read_amount(amount.strip())
    if usd < 0 and kind is not Kind.TAX:
        msg = f"{kind} {text!r}: state the amount without a sign"
        raise Rejected(msg)
    signed = -usd if kind in _TAKEN_AWAY else usd
    return Entry(kind, " ".join(name.split()) or _SAID[kind], signed, evidence_sha256)


def tie(
    month: Month, ledger: Sequence[Entry], invoice: Invoice
) -> tuple[tuple[Entry, ...], Fraction]:
    """Return the lines of the bridge, rounding included, and where they end.

    `ledger` is what is known without the invoice: what was billed, and corrections.

    Raises:
        Rejected: more than a cent is missing; the message says how much, and what was counted.
    """
    balance = tuple(entry for entry in invoice.entries if entry.kind in BALANCE)
    stated = tuple(entry for entry in invoice.entries if entry.kind not in BALANCE)
    charges = (*ledger, *stated)
    owed = invoice.owed
    gap = owed - charged(charges)
    if abs(gap) > TOLERANCE_USD:
        raise Rejected(_missing(month, charges, invoice, gap))
    if gap:
        rounding = Entry(Kind.ROUNDING, "the invoice is in cents", gap, invoice.file_sha256)
        charges = (*charges, rounding)
    return (*charges, *balance), owed


def bridge_lines(close_id: UUID, month: Month, entries: Sequence[Entry]) -> list[BridgeLine]:
    """Return the rows to keep."""
    return [
        BridgeLine(
            close_id,
            month.first,
            position,
            entry.kind,
            *_FOCUS.get(entry.kind, ("", "")),
            entry.description,
            kept(entry.usd),
            entry.evidence_sha256,
        )
        for position, entry in enumerate(entries)
    ]


def entries_of(lines: Sequence[BridgeLine]) -> list[Entry]:
    """Return what the rows of a bridge state."""
    return [
        Entry(Kind(line.kind), line.description, Fraction(line.amount_usd), line.evidence_sha256)
        for line in lines
    ]


def charged(entries: Sequence[Entry]) -> Fraction:
    """Return what the charges add up to."""
    return sum((entry.usd for entry in entries if entry.kind not in BALANCE), Fraction(0))


def _missing(month: Month, charges: Sequence[Entry], invoice: Invoice, gap: Fraction) -> str:
    counted = ", ".join(f"{entry.kind} {_exact(entry.usd)}" for entry in charges)
    what = "the invoice" if invoice.total_usd is not None else "what was drawn from the balance"
    if gap > 0:
        why = "a tax, or a fee that is not in Costs, is not stated (--tax, --fee)"
    else:
        why = "a credit that was applied is not stated (--credit), or a fee is in Costs already"
    same = [entry.description for entry in charges if abs(entry.usd) == abs(gap) and entry.usd != 0]
    known = f"; it is exactly the amount of: {', '.join(same)}" if same else ""
    return (
        f"{what} of {month} is {_exact(invoice.owed)} USD and the ledger gives "
        f"{_exact(invoice.owed - gap)} ({counted}): {dollars(abs(gap))} too "
        f"{'little' if gap > 0 else 'much'} in the ledger. Perhaps {why}{known}"
    )


def _exact(usd: Fraction) -> str:
    return dollars(usd).replace("$", "")
