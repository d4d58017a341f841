"""`costspan store verify`, `rebuild` and `retention`."""

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from costspan_collector.store import Store

_SHOWN = 20


def add_store(commands: Any) -> None:  # noqa: ANN401 - argparse keeps the type private
    """Add `costspan store`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "store", help="prove, rebuild and trim what is kept"
    )
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    verify = actions.add_parser("verify", help="hold the rollups against the calls, exactly")
    verify.add_argument("--repair", action="store_true", help="recompute the hours that differ")
    verify.set_defaults(run=_verify)
    rebuild = actions.add_parser("rebuild", help="recompute all rollups from the calls")
    rebuild.set_defaults(run=_rebuild)
    retention = actions.add_parser(
        "retention", help="let go of what is older than COSTSPAN_STORE_KEEP_… says"
    )
    retention.add_argument("--dry-run", action="store_true", help="only say what would go")
    retention.set_defaults(run=_retention)
    for action in (verify, rebuild, retention):
        action.add_argument("--json", action="store_true", help="print for a machine")


def _verify(args: argparse.Namespace) -> int:
    from costspan_collector.store.rollups import rebuild, verify

    store = _open(change=args.repair)
    proof = verify(store)
    if args.json:
        print(json.dumps({**asdict(proof), "repaired": args.repair}, default=str))
    else:
        for row in proof.differences[:_SHOWN]:
            print(row)
        if len(proof.differences) > _SHOWN:
            print(f"and {len(proof.differences) - _SHOWN} more")
        print(proof)
    if proof.differences and args.repair:
        rebuild(store, proof.hours)
        proof = verify(store)
        if not args.json:
            print(f"after the repair: {proof}")
    return 1 if proof.differences else 0


def _rebuild(args: argparse.Namespace) -> int:
    from costspan_collector.store.rollups import known_hours, rebuild

    store = _open(change=True)
    hours = rebuild(store, known_hours(store))
    print(json.dumps({"hours": hours}) if args.json else f"{hours} hours recomputed")
    return 0


def _retention(args: argparse.Namespace) -> int:
    from datetime import UTC, datetime

    from costspan_collector.settings import Upkeep, read_settings
    from costspan_collector.store.retention import Keep, let_go, outdated

    keep, now = read_settings(Upkeep).keep(), datetime.now(UTC)
    found = outdated(_open(change=False), keep, now.date()) if args.dry_run else None
    if found is None:
        store = _open(change=True)
        found = outdated(store, keep, now.date())
        let_go(store, found, now)
    if args.json:
        print(json.dumps({"dry_run": args.dry_run, **asdict(found)}, default=str))
    elif keep == Keep():
        print("everything is kept: no COSTSPAN_STORE_KEEP_… is set")
    else:
        print(f"would do: {found}" if args.dry_run else found)
    return 0


def _open(*, change: bool) -> "Store":
    from costspan.errors import Rejected
    from costspan_collector.settings import ClickHouse, read_settings
    from costspan_collector.store import connect, migrate, pending

    store = connect(read_settings(ClickHouse).url)
    if change:
        migrate(store)
    elif pending(store):
        msg = "the schema is not up to date; run `costspan migrate` first"
        raise Rejected(msg)
    return store
