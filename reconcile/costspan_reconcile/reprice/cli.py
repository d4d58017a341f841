"""`costspan reprice`."""

import argparse
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from decimal import Decimal
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from costspan.errors import Rejected
from costspan.money import plain
from costspan_reconcile import arguments

if TYPE_CHECKING:
    from costspan.pricing import Book
    from costspan_reconcile.reprice.runs import Difference, Outcome

_MOST_LINES = 40
"""Of one breakdown; --json has all."""


def add_reprice(commands: Any) -> None:  # noqa: ANN401 - argparse keeps the type of its subparsers private
    """Add `costspan reprice`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "reprice", help="price stored calls again: preview, apply, undo"
    )
    parser.add_argument(
        "--from", dest="since", type=arguments.day, metavar="DATE", help="first UTC day"
    )
    parser.add_argument(
        "--to", dest="until", type=arguments.day, metavar="DATE", help="first day after"
    )
    parser.add_argument("--book", type=Path, metavar="FILE", help="a price book, as JSON")
    parser.add_argument(
        "--overrides",
        type=Path,
        metavar="FILE",
        help="negotiated prices, as TOML (COSTSPAN_PRICING_OVERRIDES)",
    )
    parser.add_argument(
        "--model", dest="models", action="append", default=[], metavar="GLOB", help="only these"
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--dry-run", action="store_true", help="only show what would change")
    what.add_argument("--apply", action="store_true", help="give the calls their new prices")
    what.add_argument("--undo", type=UUID, metavar="RUN", help="take a run back")
    parser.add_argument("--json", action="store_true", help="print for a machine")
    parser.set_defaults(run=_reprice)


def _reprice(args: argparse.Namespace) -> int:
    from costspan_collector.settings import Audit, ClickHouse, read_settings
    from costspan_collector.store import connect, migrate
    from costspan_reconcile.reprice.runs import Repricing, Scope

    undone: UUID | None = args.undo
    if undone:
        if args.since or args.until or args.models or args.book or args.overrides:
            msg = "--undo takes a whole run back: without --from, --to, --model and files"
            raise Rejected(msg)
        verb, work = "undone", partial(Repricing.undo, run_id=undone)
    else:
        if not (args.since and args.until and args.since < args.until):
            msg = "say which days: --from DATE --to DATE, the second being the first day after"
            raise Rejected(msg)
        verb, how = ("applied", Repricing.apply) if args.apply else ("previewed", Repricing.preview)
        scope = Scope(args.since, args.until, tuple(args.models))
        work = partial(how, scope=scope, book=_book(args))
    store = connect(read_settings(ClickHouse).url)
    try:
        migrate(store)
        outcome = work(Repricing(store, read_settings(Audit).name()))
    finally:
        store.close()
    if args.json:
        print(json.dumps(_document(outcome, verb), default=_machine))
    else:
        print("\n".join(_lines(outcome, verb)))
    return 0


def _book(args: argparse.Namespace) -> "Book":
    from costspan.pricing import read_book
    from costspan.pricing.overrides import load_overrides
    from costspan_collector.settings import Pricing, read_settings

    pricing = read_settings(Pricing, **({"overrides": args.overrides} if args.overrides else {}))
    if args.book is None:
        return pricing.book()
    try:
        book = read_book(args.book.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        msg = f"cannot read the price book {args.book}: {error}"
        raise Rejected(msg) from error
    return book.contracted(load_overrides(pricing.overrides)) if pricing.overrides else book


def _document(outcome: "Outcome", verb: str) -> dict[str, Any]:
    from costspan_reconcile.reprice.runs import totals

    return {
        "outcome": verb,
        "run": outcome.run.run_id if outcome.run else None,
        "price_book": outcome.book,
        "total": _row(totals(outcome.differences)),
        "rows": [
            {"day": row.day, "model": row.model, "team": row.team, **_row(row)}
            for row in outcome.differences
        ],
    }


def _row(row: "Difference") -> dict[str, Any]:
    named = asdict(row)
    for name in ("day", "model", "team"):
        del named[name]
    return {**named, "difference_usd": row.difference_usd}


def _machine(value: object) -> str:
    return plain(value) if isinstance(value, Decimal) else str(value)


def _lines(outcome: "Outcome", verb: str) -> list[str]:
    from costspan_reconcile.reprice.runs import totals

    rows = outcome.differences
    lines: list[str] = []
    for title, name in (("day", _by_day), ("model", _by_model), ("team", _by_team)):
        lines += [*_table(title, _grouped(rows, name)), ""]
    total = totals(rows)
    lines += _table("", [("total", total)])
    lines.append(
        f"{total.newly_priced_calls:,} calls newly priced, {total.no_longer_priced_calls:,} no "
        f"longer priced, {total.untouched_calls:,} keep a cost that no price book can give"
    )
    if outcome.run:
        lines.append(f"run {outcome.run.run_id} {verb}, price book {outcome.book}")
        lines.append("to hold the bill against it: costspan reconcile run --days N, as far back")
    elif verb == "applied":
        lines.append("every call has this price already, so nothing was written")
    else:
        lines.append("a preview: nothing was written")
    return lines


def _by_day(row: "Difference") -> str:
    return str(row.day)


def _by_model(row: "Difference") -> str:
    return row.model or "(no model)"


def _by_team(row: "Difference") -> str:
    return row.team or "(no team)"


def _grouped(
    rows: Iterable["Difference"], name: "Callable[[Difference], str]"
) -> list[tuple[str, "Difference"]]:
    """Return the sums of the groups in which anything changes."""
    from costspan_reconcile.reprice.runs import totals

    summed = [
        (key, totals(list(group))) for key, group in groupby(sorted(rows, key=name), key=name)
    ]
    return [(key, total) for key, total in summed if total.changed_calls]


def _table(title: str, rows: list[tuple[str, "Difference"]]) -> list[str]:
    cells = [
        (title, "calls", "changed", "before, USD", "after, USD", "difference, USD"),
        *(
            (
                name,
                f"{row.calls:,}",
                f"{row.changed_calls:,}",
                _amount(row.old_usd),
                _amount(row.new_usd),
                _amount(row.difference_usd),
            )
            for name, row in rows[:_MOST_LINES]
        ),
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]
    more = len(rows) - _MOST_LINES
    return [*lines, f"and {more} more, see --json"] if more > 0 else lines


def _amount(amount: Decimal | None) -> str:
    return "unknown" if amount is None else plain(amount)
