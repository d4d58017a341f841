"""`costspan reconcile`."""

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from costspan.errors import Rejected
from costspan_reconcile import arguments
from costspan_reconcile.columns import as_text
from costspan_reconcile.period.cli import add_close, add_verify

if TYPE_CHECKING:
    from costspan_reconcile.settings import Reconcile

_DAY = timedelta(days=1)


def add_reconcile(commands: Any) -> None:  # noqa: ANN401 - argparse keeps the type of its subparsers private
    """Add `costspan reconcile`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "reconcile", help="hold what OpenAI billed against what the spans say"
    )
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    fetch = _ranged(actions, "fetch", _fetch, "read the bill of some days and keep it")
    fetch.add_argument("--dry-run", action="store_true", help="read it, and keep nothing")
    run = _ranged(actions, "run", _run, "read the bill and compare it with the spans")
    run.add_argument(
        "--dry-run", action="store_true", help="compare what is kept already, and keep nothing"
    )
    _ranged(actions, "show", _show, "print the comparison as it stands")
    explain = actions.add_parser("explain", help="print how the verdict of a day came about")
    explain.add_argument(
        "day", type=arguments.day, metavar="DAY", help="a UTC day such as 2026-10-05"
    )
    explain.add_argument("--line", default="", metavar="TEXT", help="only line items with this")
    explain.add_argument("--json", action="store_true", help="print for a machine")
    explain.set_defaults(run=_explain)
    add_close(actions)
    add_verify(actions)


def _ranged(
    actions: Any,  # noqa: ANN401 - as above
    name: str,
    run: Callable[[argparse.Namespace], int],
    text: str,
) -> argparse.ArgumentParser:
    action: argparse.ArgumentParser = actions.add_parser(name, help=text)
    action.add_argument("--days", type=arguments.days, help="how many UTC days, today included")
    action.add_argument("--since", type=arguments.day, metavar="DAY", help="the first UTC day")
    action.add_argument(
        "--until", type=arguments.day, metavar="DAY", help="the first day after; tomorrow"
    )
    action.add_argument("--json", action="store_true", help="print for a machine")
    action.set_defaults(run=run)
    return action


def _range(args: argparse.Namespace, settings: "Reconcile", now: datetime) -> tuple[date, date]:
    """Return the days that are meant: `since <= day < until`."""
    tomorrow = now.date() + _DAY
    if args.since is None:
        if args.until is not None:
            msg = "--until needs --since"
            raise Rejected(msg)
        return tomorrow - (args.days or settings.lookback_days) * _DAY, tomorrow
    if args.days is not None:
        msg = "say --days, or --since and --until, not both"
        raise Rejected(msg)
    until = args.until or tomorrow
    if args.since >= until:
        msg = f"there is no day from {args.since} up to {until}"
        raise Rejected(msg)
    return args.since, until


def _fetch(args: argparse.Namespace) -> int:
    from costspan_collector.settings import read_settings
    from costspan_reconcile.command_store import command_store
    from costspan_reconcile.fetch import fetch
    from costspan_reconcile.settings import Reconcile

    settings, now = read_settings(Reconcile), datetime.now(UTC)
    settings.key()
    since, until = _range(args, settings, now)
    with command_store(change=not args.dry_run) as store:
        fetched = fetch(store, settings, since, until, now, dry_run=args.dry_run)
    fetched.check()
    kept = fetched.kept
    if args.json:
        print(json.dumps({"dry_run": args.dry_run, **asdict(kept), "notes": fetched.notes}))
        return 0
    verb = "would be kept, and nothing was" if args.dry_run else "kept"
    print(f"{kept.days_read} days read, {kept.days_changed} changed, {kept.pages} pages {verb}")
    for line in (*kept.blocked, *fetched.notes):
        print(line)
    return 0


def _run(args: argparse.Namespace) -> int:
    from costspan_collector.settings import Pricing, read_settings
    from costspan_reconcile.allocate.settings import Allocation
    from costspan_reconcile.command_store import Rehearsal, command_store
    from costspan_reconcile.reconcile import reconcile_days
    from costspan_reconcile.schedule import reconcile_range
    from costspan_reconcile.settings import Reconcile

    settings, now = read_settings(Reconcile), datetime.now(UTC)
    since, until = _range(args, settings, now)
    book = read_settings(Pricing).book()
    if args.dry_run:
        with command_store(change=False) as store:
            found = reconcile_days(Rehearsal(store), since, until, now, book)
        print(
            json.dumps({"dry_run": True, **asdict(found)})
            if args.json
            else f"{found.changed} of {found.days} days would be reconciled anew; nothing was kept"
        )
        return 0
    settings.key()
    policy = read_settings(Allocation).read()
    with command_store(change=True) as store:
        summary = reconcile_range(store, settings, since, until, now, book=book, policy=policy)
    summary.fetched.check()
    if args.json:
        fetched = {**asdict(summary.fetched.kept), "notes": summary.fetched.notes}
        rest = {"allocated": summary.allocated, "settled": summary.settled}
        print(json.dumps({"fetched": fetched, "reconciled": asdict(summary.reconciled), **rest}))
    else:
        print(summary.line())
    return 0


def _show(args: argparse.Namespace) -> int:
    from costspan_collector.settings import Pricing, read_settings
    from costspan_reconcile import queries
    from costspan_reconcile.command_store import command_store
    from costspan_reconcile.settings import Reconcile
    from costspan_reconcile.statement import statement, statement_lines
    from costspan_reconcile.tolerances import Tolerances

    settings, now = read_settings(Reconcile), datetime.now(UTC)
    since, until = _range(args, settings, now)
    tolerances, book = read_settings(Tolerances), read_settings(Pricing).book()
    with command_store(change=False) as store:
        found = statement(store, settings, tolerances, book, since, until, now)
        lines = queries.recon_lines(store, since, until, queries.ALL) if args.json else []
    if args.json:
        shown = {**asdict(found), "lines": [asdict(row) for row in lines]}
        print(json.dumps(shown, default=as_text))
    else:
        print("\n".join(statement_lines(found)))
    return 0


def _explain(args: argparse.Namespace) -> int:
    from costspan_reconcile.command_store import command_store
    from costspan_reconcile.derivation import derivation_lines, derive

    with command_store(change=False) as store:
        found = derive(store, args.day, args.line)
    if args.json:
        print(json.dumps(asdict(found), default=as_text))
    else:
        print("\n".join(derivation_lines(found)))
    return 0
