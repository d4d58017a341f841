"""A batch script that nobody traced: the official SDK, a key of its own, and no import of ours."""

import argparse
import json
import sys
import threading

from openai import APIError, OpenAI

from costspan_demo.children import when_stdin_ends

_PAUSE_SECONDS = 20.0


def export(calls: int | None, stop: threading.Event) -> dict[str, int]:
    """Summarise one document a call; return how many there were and how they ended."""
    seen = {"calls": 0, "succeeded": 0, "failed": 0}
    with OpenAI() as client:
        while not stop.is_set() and seen["calls"] != calls:
            seen["calls"] += 1
            try:
                client.chat.completions.create(
                    model="gpt-4.1",
                    messages=[{"role": "user", "content": f"Summarise document {seen['calls']}."}],
                )
                seen["succeeded"] += 1
            except APIError:
                seen["failed"] += 1
            if calls is None:
                stop.wait(_PAUSE_SECONDS)
    return seen


def _main() -> None:
    parser = argparse.ArgumentParser(description="The demo's untraced script.")
    parser.add_argument("--calls", type=int, help="stop after so many; otherwise go on")
    args = parser.parse_args()
    stop = threading.Event()
    when_stdin_ends(stop.set)
    sys.stdout.write(json.dumps(export(args.calls, stop)) + "\n")


if __name__ == "__main__":
    _main()
