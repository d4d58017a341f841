"""`costspan collector` and `costspan migrate`."""

import argparse
import json
import logging
import os
import signal
import threading
from typing import Any


def add_collector(commands: Any) -> None:  # noqa: ANN401 - argparse keeps the type private
    """Add `costspan collector`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "collector", help="receive spans and keep them, without scheduler and pages"
    )
    parser.add_argument("--host", help="address to listen on (COSTSPAN_RECEIVER_HOST)")
    parser.add_argument("--port", type=int, help="port to listen on (COSTSPAN_RECEIVER_PORT)")
    parser.add_argument("--json", action="store_true", help="print the addresses as JSON")
    parser.set_defaults(run=_collector)


def add_migrate(commands: Any) -> None:  # noqa: ANN401 - argparse keeps the type private
    """Add `costspan migrate`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "migrate", help="bring the ClickHouse schema up to date"
    )
    parser.add_argument("--dry-run", action="store_true", help="only name what would be applied")
    parser.add_argument("--json", action="store_true", help="print the names as JSON")
    parser.set_defaults(run=_migrate)


def _collector(args: argparse.Namespace) -> int:
    from starlette.applications import Starlette  # noqa: PLC0415

    from costspan_collector.listening import listen, running  # noqa: PLC0415
    from costspan_collector.pipeline import Pipeline  # noqa: PLC0415
    from costspan_collector.receiver import routes  # noqa: PLC0415
    from costspan_collector.settings import (  # noqa: PLC0415
        ClickHouse,
        Receiver,
        unknown_variables,
    )
    from costspan_collector.store import connect, migrate  # noqa: PLC0415

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    given = {"host": args.host, "port": args.port}
    receiver = Receiver(**{name: value for name, value in given.items() if value is not None})
    for line in unknown_variables(os.environ, (ClickHouse, Receiver)):
        logging.getLogger("costspan.collector").warning(line)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with listen(receiver) as listener:
        store = connect(ClickHouse().url)
        try:
            migrate(store)
            pipeline = Pipeline(store, receiver)
            try:
                with running(Starlette(routes=[*routes(pipeline, receiver)]), listener) as url:
                    _tell(f"{url}/v1/traces", store.url, as_json=args.json)
                    stop.wait()
            finally:
                pipeline.close()
        finally:
            store.close()
    return 0


def _tell(traces: str, kept: str, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"traces": traces, "store": kept}), flush=True)
    else:
        print(f"spans go to    {traces}\nrows are kept  {kept}", flush=True)


def _migrate(args: argparse.Namespace) -> int:
    from costspan_collector.settings import ClickHouse  # noqa: PLC0415
    from costspan_collector.store import connect, migrate, pending  # noqa: PLC0415

    store = connect(ClickHouse().url)
    try:
        names = [file.name for file in pending(store)] if args.dry_run else migrate(store)
    finally:
        store.close()
    if args.json:
        print(json.dumps({"dry_run": args.dry_run, "migrations": names}))
    else:
        verb = "would apply" if args.dry_run else "applied"
        print("\n".join(f"{verb} {name}" for name in names) or "the schema is up to date")
    return 0
