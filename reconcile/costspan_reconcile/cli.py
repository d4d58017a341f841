"""`costspan reconcile fetch`, `run` and `show`."""

import argparse
import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from costspan.money import plain

if TYPE_CHECKING:
    from costspan_collector.store import Store


def add_reconcile(commands: Any) -> None:  # noqa: ANN401 - argparse keeps the type of its subparsers private
    """Add `costspan reconcile`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "reconcile", help="hold what OpenAI billed against what the spans say"
    )
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    for name, run, text in (
        ("fetch", _fetch, "read the bill of the last days and keep it"),
        ("run", _run, "read the bill and compare it with the spans"),
        ("show", _show, "print the comparison as it stands"),
    ):
        action = actions.add_parser(name, help=text)
        action.add_argument(
            "--days", type=_days, default=None, help="how many UTC days, today included"
        )
        action.add_argument("--json", action="store_true", help="print for a machine")
        action.set_defaults(run=run)


def _days(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 400:
        msg = f"{text!r} is not a number of days from 1 to 400"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def _fetch(args: argparse.Namespace) -> int:
    from costspan_collector.settings import read_settings
    from costspan_reconcile.schedule import fetch_now
    from costspan_reconcile.settings import Reconcile

    settings = read_settings(Reconcile)
    settings.key()
    fetched = fetch_now(
        _open(), settings, datetime.now(UTC), days=args.days or settings.lookback_days
    )
    fetched.check()
    if args.json:
        print(json.dumps({**asdict(fetched.kept), "notes": fetched.notes}))
        return 0
    kept = fetched.kept
    print(f"{kept.days_read} days read, {kept.days_changed} changed, {kept.pages} pages kept")
    for line in (*kept.blocked, *fetched.notes):
        print(line)
    return 0


def _run(args: argparse.Namespace) -> int:
    from costspan_collector.settings import Pricing, read_settings
    from costspan_reconcile.schedule import reconcile_now
    from costspan_reconcile.settings import Reconcile

    settings = read_settings(Reconcile)
    settings.key()
    book = read_settings(Pricing).book()
    summary = reconcile_now(_open(), settings, datetime.now(UTC), days=args.days, book=book)
    summary.fetched.check()
    if args.json:
        fetched = {**asdict(summary.fetched.kept), "notes": summary.fetched.notes}
        print(json.dumps({"fetched": fetched, "reconciled": asdict(summary.reconciled)}))
    else:
        print(summary.line())
    return 0


def _show(args: argparse.Namespace) -> int:
    from costspan_collector.settings import read_settings
    from costspan_reconcile import queries
    from costspan_reconcile.settings import Reconcile

    store = _open()
    until = datetime.now(UTC).date() + timedelta(days=1)
    since = until - timedelta(days=args.days or read_settings(Reconcile).lookback_days)
    days = queries.recon_days(store, since, until)
    keys = queries.uninstrumented_keys(store, since, until)
    if args.json:
        lines = queries.recon_lines(store, since, until)
        shown = {
            "days": [asdict(row) for row in days],
            "uninstrumented_keys": [asdict(row) for row in keys],
            "lines": [asdict(row) for row in lines],
        }
        print(json.dumps(shown, default=_machine))
        return 0
    if not days:
        print("nothing is reconciled yet; run `costspan reconcile run`")
    for row in days:
        billed = "unknown" if row.billed_usd is None else f"${plain(row.billed_usd)}"
        gap = "" if row.billed_usd is None else f"${plain(row.billed_usd - row.estimated_usd)}"
        print(
            f"{row.day}  {row.day_state:<11}  {row.verdict:<9}  billed {billed}"
            f"  estimated ${plain(row.estimated_usd)}  difference {gap or 'unknown'}  {row.reason}"
        )
    for key in keys:
        name = f'"{key.key_name}" ({key.api_key_id})' if key.key_name else key.api_key_id
        print(f"key {name} is not instrumented: ${plain(key.amount_usd)} billed")
    return 0


def _open() -> "Store":
    from costspan_collector.settings import ClickHouse, read_settings
    from costspan_collector.store import connect, migrate

    store = connect(read_settings(ClickHouse).url)
    migrate(store)
    return store


def _machine(value: object) -> str:
    return plain(value) if isinstance(value, Decimal) else str(value)
