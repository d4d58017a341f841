"""`costspan export`."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from costspan.errors import Rejected
from costspan_reconcile import arguments
from costspan_reconcile.columns import as_text
from costspan_reconcile.period.month import Month

if TYPE_CHECKING:
    from costspan_reconcile.focus.files import Format


def add_export(commands: Any) -> None:  # noqa: ANN401 - argparse keeps the type of its subparsers private
    """Add `costspan export`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "export", help="write the bill of a month as FOCUS 1.2, or calls, to a file"
    )
    actions = parser.add_subparsers(required=True, metavar="WHAT")
    focus = actions.add_parser("focus", help="write the bill of a month as FOCUS 1.2")
    focus.add_argument(
        "--month", type=arguments.month, required=True, metavar="MONTH", help="such as 2026-10"
    )
    focus.add_argument(
        "--account", default="", metavar="ID", help="the organization, if the bill names none"
    )
    _to_file(focus)
    focus.set_defaults(run=_focus)
    check = actions.add_parser("check", help="check a file of FOCUS 1.2, rule by rule")
    check.add_argument("file", type=Path, metavar="FILE", help="CSV or Parquet")
    check.add_argument("--json", action="store_true", help="print for a machine")
    check.set_defaults(run=_check)
    calls = actions.add_parser("calls", help="write calls, without what was said in them")
    calls.add_argument(
        "--since", type=arguments.day, required=True, metavar="DAY", help="first UTC day"
    )
    calls.add_argument(
        "--until", type=arguments.day, required=True, metavar="DAY", help="first day after"
    )
    _to_file(calls)
    calls.set_defaults(run=_calls)


def _to_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--format", choices=("csv", "parquet"), help="csv, or as --out ends", dest="form"
    )
    parser.add_argument("--out", type=Path, metavar="PATH", help="the file; named by what it holds")
    parser.add_argument("--json", action="store_true", help="print for a machine")


def _target(args: argparse.Namespace, name: str) -> "tuple[Path, Format]":
    out: Path | None = args.out
    form: Format = args.form or ("parquet" if out and out.suffix == ".parquet" else "csv")
    return out or Path(f"{name}.{form}"), form


def _focus(args: argparse.Namespace) -> int:
    from costspan_collector.settings import Pricing, read_settings
    from costspan_reconcile.command_store import command_store
    from costspan_reconcile.focus.export import export_focus
    from costspan_reconcile.settings import Reconcile

    month: Month = args.month
    path, form = _target(args, f"focus-{month}")
    book = read_settings(Pricing).book()
    account = args.account or read_settings(Reconcile).organization
    with command_store(change=False) as store:
        found = export_focus(store, month, path, form, book=book, account=account)
    if args.json:
        print(json.dumps(asdict(found), default=as_text))
        return 0
    print(
        f"{found.path}: {month} is {found.state}, {found.rows:,} rows, "
        f"{as_text(found.billed_usd)} USD, as in the ledger; checked against FOCUS 1.2"
    )
    print(f"sha256 of the file: {found.sha256}")
    if found.days_without_bill:
        first, *_, last = (*found.days_without_bill, found.days_without_bill[-1])
        print(
            f"{len(found.days_without_bill)} days between {first} and {last} have no bill yet: "
            "what they cost is unknown and not in the file"
        )
    return 0


def _check(args: argparse.Namespace) -> int:
    from costspan_reconcile.focus.export import check_file

    found = check_file(args.file)
    if args.json:
        print(json.dumps({"holds": not found.faults, **asdict(found)}, default=as_text))
    else:
        for fault in found.faults:
            print(fault)
        if found.more_faults:
            print(f"and {found.more_faults} more")
        verdict = "does not hold" if found.faults else "holds"
        print(f"FOCUS 1.2 {verdict}: {found.rows:,} rows, {as_text(found.billed_usd)} USD")
    return 1 if found.faults else 0


def _calls(args: argparse.Namespace) -> int:
    from costspan_reconcile.command_store import command_store
    from costspan_reconcile.focus.calls import export_calls

    if args.since >= args.until:
        msg = f"there is no day from {args.since} up to {args.until}"
        raise Rejected(msg)
    path, form = _target(args, f"calls-{args.since}-{args.until}")
    with command_store(change=False) as store:
        count = export_calls(store, args.since, args.until, path, form)
    if args.json:
        print(json.dumps({"path": path, "rows": count}, default=as_text))
    else:
        print(f"{path}: {count:,} calls from {args.since} up to {args.until}")
    return 0
