"""`costspan collector` and `costspan migrate`."""

import argparse
import json
import logging
import os
import signal
import threading
from contextlib import ExitStack
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
    parser.add_argument(
        "--alone",
        action="store_true",
        help="no collector inserts meanwhile; asked for where it matters",
    )
    parser.add_argument("--json", action="store_true", help="print the names as JSON")
    parser.set_defaults(run=_migrate)


def _collector(args: argparse.Namespace) -> int:
    from starlette.applications import Starlette

    from costspan_collector.grpc_receiver import running_grpc
    from costspan_collector.listening import listen, running
    from costspan_collector.pipeline import Pipeline
    from costspan_collector.receiver import routes
    from costspan_collector.reports import reporting
    from costspan_collector.settings import (
        Audit,
        ClickHouse,
        Pricing,
        Receiver,
        Upkeep,
        read_settings,
        unknown_variables,
    )
    from costspan_collector.store import attach, migrate

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    given = {"host": args.host, "port": args.port}
    chosen = {name: value for name, value in given.items() if value is not None}
    receiver = read_settings(Receiver, **chosen)
    clickhouse = read_settings(ClickHouse)
    upkeep = read_settings(Upkeep)
    book = read_settings(Pricing).book()
    for line in unknown_variables(os.environ, (Audit, ClickHouse, Receiver, Pricing, Upkeep)):
        logging.getLogger("costspan.collector").warning(line)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: stop.set())
    with ExitStack() as stack:
        listener = stack.enter_context(listen(receiver))
        store = attach(clickhouse.url, migrate)
        stack.callback(store.close)
        pipeline = Pipeline(store, receiver)
        stack.callback(pipeline.close)
        told = store.another()
        stack.callback(told.close)
        stack.enter_context(reporting(told, pipeline))
        app = Starlette(routes=[*routes(pipeline, receiver, book=book)])
        url = stack.enter_context(running(app, listener))
        grpc = stack.enter_context(running_grpc(pipeline, receiver, book=book))
        door = ""
        if store.reads_files:  # a server has a door of its own
            from costspan_collector.store.door import open_door  # imports the engine

            door = stack.enter_context(open_door(store, upkeep))
        _tell(f"{url}/v1/traces", grpc, store.url, door, as_json=args.json)
        stop.wait()
    return 0


def _tell(traces: str, grpc: str, kept: str, door: str, *, as_json: bool) -> None:
    if as_json:
        told = {"traces": traces, "grpc": grpc, "store": kept, "door": door}
        print(json.dumps(told), flush=True)
    else:
        to = f"{traces} and {grpc} (gRPC)" if grpc else traces
        read = f", and read at {door}" if door else ""
        print(f"spans go to    {to}\nrows are kept  {kept}{read}", flush=True)


def _migrate(args: argparse.Namespace) -> int:
    from costspan_collector.settings import ClickHouse, read_settings
    from costspan_collector.store import connect, migrate, pending

    store = connect(read_settings(ClickHouse).url)
    try:
        names = (
            [file.name for file in pending(store)]
            if args.dry_run
            else migrate(store, alone=args.alone)
        )
    finally:
        store.close()
    if args.json:
        print(json.dumps({"dry_run": args.dry_run, "migrations": names}))
    else:
        verb = "would apply" if args.dry_run else "applied"
        print("\n".join(f"{verb} {name}" for name in names) or "the schema is up to date")
    return 0
