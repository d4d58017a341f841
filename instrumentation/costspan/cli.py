"""The `costspan` command. Its subcommands are entry points, so a part brings its own."""

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from costspan.errors import CostspanError, InvalidUsage, Rejected
from costspan.money import PICO_PER_USD, from_pico, plain
from costspan.pricing import Part, Price, Status, default_book, price
from costspan.usage import read_usage

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]

GROUP = "costspan.commands"
_COUNTED_IN_CALLS = frozenset({"web_search", "web_search_preview", "file_search"})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 done, 1 failed, 2 wrong use."""
    parser = argparse.ArgumentParser(prog="costspan", description="What your OpenAI calls cost.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        try:
            point.load()(commands)
        except Exception as error:  # noqa: BLE001  the other commands must still work
            print(f"costspan: command {point.name} is broken: {error!r}", file=sys.stderr)
    parsed = parser.parse_args(arguments)
    try:
        return int(parsed.run(parsed) or 0)
    except CostspanError as error:
        print(f"costspan: {' '.join(str(error).split())}", file=sys.stderr)
        return 1


def add_price(commands: "Commands") -> None:
    """Add `costspan price`."""
    parser = commands.add_parser("price", help="price one response, with the arithmetic")
    parser.add_argument("file", help="a response body as JSON, - for standard input")
    parser.add_argument("--at", type=_instant, metavar="TIME", help="when the call began; now")
    parser.add_argument("--tier", help="the tier that served, in place of the response's own")
    parser.add_argument("--host", default="api.openai.com", help="the host that was called")
    parser.add_argument("--batch", action="store_true", help="the call was part of a batch")
    parser.add_argument("--json", action="store_true", help="print for a machine")
    parser.set_defaults(run=_price)


def _price(arguments: argparse.Namespace) -> int:
    body = _read(arguments.file)
    model = body.get("model")
    if not isinstance(model, str):
        msg = f"{arguments.file} names no model; give a response body as the API returned it"
        raise Rejected(msg)
    tier = arguments.tier or body.get("service_tier")
    try:
        priced = price(
            read_usage(body),
            model=model,
            at=arguments.at or datetime.now(UTC),
            tier=tier if isinstance(tier, str) else None,
            host=arguments.host,
            batch=arguments.batch,
        )
    except InvalidUsage as error:
        priced = Price(Status.INVALID_USAGE, (), default_book().version, model, str(error))
    print(json.dumps(_document(priced), indent=2) if arguments.json else _text(priced))
    return 0


def _read(name: str) -> dict[str, Any]:
    try:
        content = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
        document: object = json.loads(content)
    except OSError as error:
        msg = f"cannot read {name}: {error.strerror}"
        raise Rejected(msg) from error
    except (ValueError, RecursionError) as error:
        msg = f"{name} is not JSON: {error}"
        raise Rejected(msg) from error
    if not isinstance(document, dict):
        msg = f"{name} holds a {type(document).__name__}, not a response object"
        raise Rejected(msg)
    return cast("dict[str, Any]", document)


def _instant(value: str) -> datetime:
    instant = datetime.fromisoformat(value)
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


def _document(priced: Price) -> dict[str, Any]:
    return {
        "status": priced.status.value,
        "usd": None if priced.usd is None else plain(priced.usd),
        "reason": priced.reason or None,
        "path": priced.path,
        "book": priced.book,
        "parts": [
            {
                "meter": part.meter,
                "quantity": part.quantity,
                "rate_usd": _rate(part),
                "per": _per(part),
                "usd": plain(from_pico(part.pico)),
            }
            for part in priced.parts
        ],
    }


def _text(priced: Price) -> str:
    lines = [f"{priced.path}, price book {default_book().name} ({priced.book})"]
    lines += [
        f"  {part.meter:<20} {part.quantity:>12,} x {_rate(part)} / {_per(part):,}"
        f" = {plain(from_pico(part.pico))} USD"
        for part in priced.parts
    ]
    if priced.usd is None:
        lines.append(f"cost unknown: {priced.status.value}: {priced.reason}")
    else:
        lines.append(f"total {plain(priced.usd)} USD")
    return "\n".join(lines)


def _per(part: Part) -> int:
    """Return the unit OpenAI quotes: a thousand calls of a tool, a million tokens."""
    return 1_000 if part.meter in _COUNTED_IN_CALLS else 1_000_000


def _rate(part: Part) -> str:
    amount = part.pico_per_unit * _per(part) / PICO_PER_USD
    return plain(Decimal(amount.numerator) / Decimal(amount.denominator))
