"""`costspan reconcile close` and `verify`."""

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from costspan.errors import Rejected
from costspan_reconcile import arguments
from costspan_reconcile.columns import as_text
from costspan_reconcile.period.month import Month

if TYPE_CHECKING:
    from costspan_collector.store import Store
    from costspan_reconcile.period.bridge import BridgeLine, Entry, Invoice
    from costspan_reconcile.period.states import MonthRow
    from costspan_reconcile.period.verify import Verified

_EXAMPLE = """\
An invoice:          close 2026-10 --invoice-total 523.18 --tax 83.53 --invoice invoice.pdf
A prepaid balance:   close 2026-10 --opening 100 --purchase 400 --expired 0 --closing 60.35
Then, by whoever signs: close 2026-10 --sign --by NAME --pack 2026-10.zip

An amount may have a name: --fee "Scale Tier=1200". State all amounts without a sign."""


def add_close(actions: Any) -> None:  # noqa: ANN401 - argparse keeps the type of its subparsers private
    """Add `costspan reconcile close`."""
    parser: argparse.ArgumentParser = actions.add_parser(
        "close",
        help="tie a month to its invoice and lock it",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("month", type=arguments.month, metavar="MONTH", help="such as 2026-10")
    parser.add_argument("--invoice-total", metavar="USD", help="what the invoice ends at")
    parser.add_argument("--invoice-id", default="", metavar="ID", help="the number printed on it")
    parser.add_argument(
        "--invoice", type=Path, metavar="FILE", help="its file: the hash is kept, not the content"
    )
    for kind, text in (
        ("tax", "a tax on the invoice"),
        ("fee", "a fee on the invoice that is not in Costs"),
        ("credit", "a credit that the invoice takes off"),
        ("opening", "prepaid: the balance at the start of the month"),
        ("purchase", "prepaid: credits bought in the month"),
        ("expired", "prepaid: credits that expired"),
        ("closing", "prepaid: the balance at the end"),
    ):
        parser.add_argument(f"--{kind}", action="append", default=[], metavar="USD", help=text)
    parser.add_argument("--sign", action="store_true", help="lock the month, for good")
    parser.add_argument("--by", default="", metavar="NAME", help="who signs (COSTSPAN_ACTOR)")
    parser.add_argument("--pack", type=Path, metavar="FILE", help="write the evidence pack")
    parser.add_argument("--dry-run", action="store_true", help="only show the bridge")
    parser.add_argument("--json", action="store_true", help="print for a machine")
    parser.set_defaults(run=_close)


def add_verify(actions: Any) -> None:  # noqa: ANN401 - as above
    """Add `costspan reconcile verify`."""
    parser: argparse.ArgumentParser = actions.add_parser(
        "verify", help="check an evidence pack; needs no store and no network"
    )
    parser.add_argument("pack", type=Path, metavar="PACK")
    parser.add_argument("--invoice", type=Path, metavar="FILE", help="check that it is this file")
    parser.add_argument("--json", action="store_true", help="print for a machine")
    parser.set_defaults(run=_verify)


def _close(args: argparse.Namespace) -> int:
    from costspan_collector.settings import Audit, Pricing, read_settings
    from costspan_reconcile.allocate.settings import Allocation
    from costspan_reconcile.command_store import command_store
    from costspan_reconcile.period.close import bridge, close_month, evidence_pack

    month: Month = args.month
    invoice = _invoice(args)
    if args.dry_run:
        with command_store(change=False) as store:
            return _preview(args, store, invoice)
    actor = args.by.strip() or read_settings(Audit).name()
    book, policy = read_settings(Pricing).book(), read_settings(Allocation).read()
    with command_store(change=True) as store:
        row = close_month(
            store,
            month,
            datetime.now(UTC),
            actor,
            invoice=invoice,
            sign=args.sign,
            book=book,
            policy=policy,
        )
        lines = bridge(store, row.close_id)
        if args.pack:
            _write(args.pack, evidence_pack(store, month))
    if args.json:
        shown = {
            **asdict(row),
            "month": str(month),
            "bridge": [asdict(line) for line in lines],
            "pack": args.pack,
        }
        print(json.dumps(shown, default=as_text))
    else:
        print("\n".join(_closed(month, row, lines, args.pack)))
    return 0


def _invoice(args: argparse.Namespace) -> "Invoice | None":
    from costspan_reconcile.amounts import read_amount
    from costspan_reconcile.period.bridge import STATED, Invoice, read_entry
    from costspan_reconcile.period.verify import file_sha256

    digest = file_sha256(args.invoice) if args.invoice else ""
    entries = tuple(
        read_entry(kind, text, digest) for kind in STATED for text in getattr(args, kind)
    )
    if args.invoice_total is None and not entries:
        if args.invoice or args.invoice_id:
            msg = "say what the invoice ends at, with --invoice-total"
            raise Rejected(msg)
        return None
    total = None if args.invoice_total is None else read_amount(args.invoice_total)
    return Invoice(
        args.invoice_id, total, entries, args.invoice.name if args.invoice else "", digest
    )


def _preview(args: argparse.Namespace, store: "Store", invoice: "Invoice | None") -> int:
    """Print what closing would come to; exit 1 where it would not work."""
    from costspan_reconcile.period.close import preview

    found = preview(store, args.month, invoice, datetime.now(UTC))
    if args.json:
        shown = {
            "dry_run": True,
            "month": str(args.month),
            "state": found.state,
            "missing": found.missing,
            "bridge": [
                {"kind": entry.kind, "description": entry.description, "amount_usd": entry.usd}
                for entry in found.entries
            ],
        }
        print(json.dumps(shown, default=as_text))
    else:
        stated = invoice is not None or found.state in {"INVOICE_MATCHED", "LOCKED"}
        table = _bridge(found.entries, "invoice" if stated else "charged so far")
        lines = [f"{args.month} is {found.state}", *found.missing, *table]
        print("\n".join([*lines, "a preview: nothing was kept"]))
    return 1 if found.missing else 0


def _closed(
    month: Month, row: "MonthRow", lines: "Sequence[BridgeLine]", pack: Path | None
) -> Iterator[str]:
    from costspan_reconcile.period.bridge import entries_of

    yield f"{month} is {row.state}, by {row.actor} at {row.at:%Y-%m-%d %H:%M} UTC"
    yield from _bridge(entries_of(lines))
    if row.state == "LOCKED":
        yield f"the hash that stands for everything: {row.lock_sha256}"
        if pack:
            yield f"evidence pack: {pack}; check it with `costspan reconcile verify {pack}`"
    elif row.state == "INVOICE_MATCHED":
        yield f"next: `costspan reconcile close {month} --sign --by NAME --pack {month}.zip`"
    else:
        yield (
            f"every day is final; next: `costspan reconcile close {month} --invoice-total USD` "
            "with --tax, --fee and --credit as on the invoice"
        )


def _bridge(entries: "Sequence[Entry]", ends: str = "invoice") -> list[str]:
    from costspan_reconcile.columns import aligned, every_digit
    from costspan_reconcile.period.bridge import BALANCE, charged

    if not entries:
        return []
    *amounts, end = every_digit([*(entry.usd for entry in entries), charged(entries)])
    rows = [
        (entry, (entry.kind, entry.description, amount))
        for entry, amount in zip(entries, amounts, strict=True)
    ]
    charges = [row for entry, row in rows if entry.kind not in BALANCE]
    balance = [row for entry, row in rows if entry.kind in BALANCE]
    total = ("drawn from the balance" if balance else ends, "", end)
    lines = aligned(("bridge", "", "USD"), [*charges, total], words=2, total=True)
    if balance:
        lines += ["", *aligned(("balance", "", "USD"), [*balance, total], words=2, total=True)]
    return lines


def _write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as target:
            target.write(content)
            target.flush()
            os.fsync(target.fileno())
        part.replace(path)
    except OSError as error:
        msg = f"cannot write {path}: {error.strerror}; the month stays as it is, --pack writes it again"
        raise Rejected(msg) from error


def _verify(args: argparse.Namespace) -> int:
    from costspan_reconcile.period.verify import verify

    found = verify(args.pack, args.invoice)
    if args.json:
        print(json.dumps({"holds": found.holds, **asdict(found)}, default=as_text))
    else:
        print("\n".join(_verified(found)))
    return 0 if found.holds else 1


def _verified(found: "Verified") -> Iterator[str]:
    yield f"{found.month}, locked by {found.locked_by} at {found.locked_at}"
    for check in found.checks:
        yield f"{'FAILED' if check.faults else 'ok':<6}  {check.name}"
        for fault in check.faults:
            yield f"        {fault}"
        if check.more_faults:
            yield f"        and {check.more_faults} more"
    if found.holds:
        yield f"billed {as_text(found.billed_usd)} USD, invoice {as_text(found.invoice_usd)} USD"
        yield f"the pack holds; compare its hash with the audit log: {found.lock_sha256}"
    else:
        yield "the pack does not hold"
