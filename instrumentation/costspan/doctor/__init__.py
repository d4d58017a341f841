"""`costspan doctor`: make one call and show what would be sent, where, and at which price."""

import argparse
import json
import os
import platform
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from costspan.counters import counters
from costspan.doctor.call import make_call
from costspan.doctor.examination import Examination, heard, installed
from costspan.doctor.page import page
from costspan.doctor.surroundings import look_at_destination, look_for_others
from costspan.settings import from_environment

if TYPE_CHECKING:
    from costspan.cli import Commands

_PACKAGES: Final = (
    "costspan",
    "openai",
    "httpx2",
    "httpx",
    "opentelemetry-sdk",
    "opentelemetry-exporter-otlp-proto-http",
    "opentelemetry-instrumentation-httpx",
)


def add_doctor(commands: "Commands") -> None:
    """Add `costspan doctor`."""
    parser = commands.add_parser("doctor", help="make one call, show what is sent and what it cost")
    parser.add_argument(
        "--base-url", metavar="URL", help="where to call; OPENAI_BASE_URL or OpenAI"
    )
    parser.add_argument("--model", default="gpt-5.4-nano", metavar="NAME", help="%(default)s")
    parser.add_argument("--endpoint", metavar="URL", help="an OTLP endpoint in place of OTEL_'s")
    parser.add_argument("--yes", action="store_true", help="do not ask before a call that costs")
    parser.add_argument("--json", action="store_true", help="print for a machine")
    parser.set_defaults(run=_doctor)


def _doctor(arguments: argparse.Namespace) -> int:
    found = Examination()
    with heard(found.findings):
        settings = from_environment(os.environ)
    found.settings = asdict(settings)
    found.settings.pop("redact")
    found.versions = {"python": platform.python_version()} | {
        name: installed(name) for name in _PACKAGES
    }
    look_for_others(found)
    look_at_destination(found, arguments.endpoint)
    make_call(found, settings, arguments)
    found.counters = counters()
    for reason, times in found.counters.items():
        found.findings.append(f"costspan swallowed a fault of its own: {reason} ({times} times)")
    text = json.dumps(asdict(found), indent=2, default=str) if arguments.json else page(found)
    sys.stdout.write(f"{text}\n")
    return 1 if found.findings else 0
