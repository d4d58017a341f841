"""The `costspan` command. Its subcommands are entry points, so a part brings its own."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from costspan.errors import CostspanError, Rejected
from costspan.pricing import default_book
from costspan.pricing.body import model_of, price_body, price_cases
from costspan.pricing.overrides import load_overrides
from costspan.pricing.report import as_document, as_text

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]

GROUP = "costspan.commands"


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
        status = int(parsed.run(parsed) or 0)
        sys.stdout.flush()
    except CostspanError as error:
        print(f"costspan: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # who reads this, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


def add_price(commands: "Commands") -> None:
    """Add `costspan price`."""
    parser = commands.add_parser("price", help="price one response, with the arithmetic")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("file", nargs="?", help="a response body as JSON, - for standard input")
    what.add_argument("--cases", metavar="FILE", help="price the cases of a golden file instead")
    parser.add_argument("--at", type=_instant, metavar="TIME", help="when the call began; now")
    parser.add_argument("--model", help="the model that was asked for, if the body names none")
    parser.add_argument("--tier", help="the tier that served, in place of the response's own")
    parser.add_argument("--host", default="api.openai.com", help="the host that was called")
    parser.add_argument("--batch", action="store_true", help="the call was part of a batch")
    parser.add_argument("--project", help="the project that called, for overrides")
    parser.add_argument("--overrides", type=Path, metavar="FILE", help="negotiated prices, as TOML")
    parser.add_argument("--json", action="store_true", help="print for a machine")
    parser.set_defaults(run=_price)


def _price(arguments: argparse.Namespace) -> int:
    book = default_book()
    if arguments.overrides:
        book = book.contracted(load_overrides(arguments.overrides))
    if arguments.cases:
        for case in price_cases(_read(arguments.cases), book):
            print(json.dumps(case) if arguments.json else " ".join(map(str, case.values())))
        return 0
    body, request = _read(arguments.file), {"model": arguments.model}
    if not model_of(body, request):
        msg = f"{arguments.file} names no model; give a whole response body, or --model"
        raise Rejected(msg)
    priced = price_body(
        body,
        request=request,
        at=arguments.at or datetime.now(UTC),
        tier=arguments.tier,
        host=arguments.host,
        batch=arguments.batch,
        book=book,
        project=arguments.project,
    )
    print(json.dumps(as_document(priced), indent=2) if arguments.json else as_text(priced, book))
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
