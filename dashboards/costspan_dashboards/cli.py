"""`costspan serve`."""

import argparse
import logging
import signal
import threading
from typing import Any


def add_serve(commands: Any) -> None:  # noqa: ANN401 - argparse keeps the type of its subparsers private
    """Add `costspan serve`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "serve", help="receive spans, reconcile, alert and show, in one process"
    )
    parser.add_argument("--host", help="address to listen on (COSTSPAN_RECEIVER_HOST)")
    parser.add_argument("--port", type=int, help="port to listen on (COSTSPAN_RECEIVER_PORT)")
    parser.set_defaults(run=_serve)


def _serve(args: argparse.Namespace) -> int:
    from costspan_collector.settings import Receiver, read_settings
    from costspan_dashboards.serve import Settings, serving

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("apscheduler").setLevel(logging.WARNING)
    chosen = {
        name: getattr(args, name) for name in ("host", "port") if getattr(args, name) is not None
    }
    stop = threading.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda _number, _frame: stop.set())
    with serving(Settings(receiver=read_settings(Receiver, **chosen))) as server:
        print(f"dashboard      {server.url}")
        by_grpc = f" and {server.grpc} (gRPC)" if server.grpc else ""
        read = f", and read at {server.door}" if server.door else ""
        print(f"spans go to    {server.url}/v1/traces{by_grpc}")
        print(f"rows are kept  {server.store.url}{read}", flush=True)
        stop.wait()
    return 0
