"""`costspan demo`: everything at work on one machine, to look at or to prove."""

import argparse
import json
import logging
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from costspan.errors import CostspanError

if TYPE_CHECKING:
    from costspan_demo.world import World

_FEWEST_DAYS, _MOST_DAYS = 2, 60
"""A spike needs a day before to stand out from, and a bill a day that is closed."""


def add_demo(commands: Any) -> None:  # noqa: ANN401 - argparse keeps the type of its subparsers private
    """Add `costspan demo`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "demo", help="a local OpenAI, an app, two weeks of history and the dashboard"
    )
    parser.add_argument(
        "--port", type=int, default=4318, help="port of the dashboard (4318; 0 takes a free one)"
    )
    parser.add_argument("--days", type=_days, default=14, help="days of history (14)")
    parser.add_argument("--seed", type=int, default=7, help="another seed, another history (7)")
    parser.add_argument("--data", type=Path, help="keep the rows in this empty directory")
    parser.add_argument("--check", action="store_true", help="prove instead of waiting; then stop")
    parser.add_argument("--json", action="store_true", help="print for a machine")
    parser.set_defaults(run=_demo)


def _days(text: str) -> int:
    if not text.isdecimal() or not _FEWEST_DAYS <= int(text) <= _MOST_DAYS:
        msg = f"{text!r} is no number of days from {_FEWEST_DAYS} to {_MOST_DAYS}"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def _demo(args: argparse.Namespace) -> int:
    logging.basicConfig(level=logging.ERROR, format="%(levelname)s %(name)s: %(message)s")
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, _stop)
    started = time.monotonic()
    try:
        from costspan_demo.world import running

        with running(port=args.port, days=args.days, seed=args.seed, data=args.data) as world:
            if args.check:
                return _check(world, started, as_json=args.json)
            world.settle()
            with world.app(None), world.untraced(None):
                _tell(world.serving.url, as_json=args.json)
                threading.Event().wait()
    except KeyboardInterrupt:
        if not args.check:
            return 0
        msg = "stopped before the proof was complete"
        raise CostspanError(msg) from None
    return 0


def _stop(*_: object) -> None:
    """End by the way an error takes, so that everything is closed; a second signal is not heard."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)
    raise KeyboardInterrupt


def _check(world: "World", started: float, *, as_json: bool) -> int:
    from costspan_demo.proof import prove

    checks = prove(world)
    ok = all(check.ok for check in checks)
    seconds = round(time.monotonic() - started, 1)
    if as_json:
        document = {
            "ok": ok,
            "seconds": seconds,
            "checks": [check.document() for check in checks],
        }
        print(json.dumps(document, indent=2))
        return 0 if ok else 1
    for check in checks:
        print(f"{'ok    ' if check.ok else 'FAILED'} {check.claim}")
        for name, value in check.expected.items():
            print(f"         {name}: expected {value}, found {check.found.get(name)}")
    print(f"{'all hold' if ok else 'not all hold'}, after {seconds} s")
    return 0 if ok else 1


def _tell(url: str, *, as_json: bool) -> None:
    pages = {
        "overview": f"{url}/",
        "spend_spike": f"{url}/spend?{urlencode({'range': 'last 24 hours', 'by': 'feature'})}",
        "error_burst": f"{url}/calls?{urlencode({'range': 'last hour', 'show': 'failed'})}",
        "alerts": f"{url}/alerts",
        "uninstrumented_key": f"{url}/reconciliation?{urlencode({'range': 'last 14 days'})}",
    }
    if as_json:
        print(json.dumps({"url": url, "pages": pages}), flush=True)
        return
    print(
        f"""
costspan is at {url}

  the spend spike         {pages["spend_spike"]}
                          feature "agent": one user's very long prompts, for the last hour
  the error burst         {pages["error_burst"]}
                          feature "recommendations": 500 after 500 for twenty minutes
  both as alerts          {pages["alerts"]}
                          each names its cause
  the uninstrumented key  {pages["uninstrumented_key"]}
                          "nightly-export": billed every night, never seen in a span

An app calls the local OpenAI all the time; its calls arrive on the Calls page.
Ctrl-C stops everything.""",
        flush=True,
    )
