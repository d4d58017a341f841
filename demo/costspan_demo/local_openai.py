"""A local OpenAI: it answers, it fails now and then, and it bills from its own ledger.

`python -m costspan_demo.local_openai --port 0 --seed 7 --now 2026-11-21T12:00:00Z --days 14`
prints one JSON line with its URL when it is ready, and ends when its standard input does.
"""

import argparse
import asyncio
import json
import socket
import sys
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from costspan_demo import organization_api
from costspan_demo.bill import charges
from costspan_demo.children import when_stdin_ends
from costspan_demo.inference_api import Inference
from costspan_demo.ledger import Entry, Ledger, VectorStore
from costspan_demo.organization import organization
from costspan_demo.refusal import Refusal, answer
from costspan_demo.traffic import history
from costspan_demo.wire import Wire

_STORAGE_PROJECT = "Support"


def create_app(ledger: Ledger, *, seed: int, now: Callable[[], datetime]) -> Starlette:
    """Return the whole service. `/_demo/ledger` is the truth that a check compares with."""

    async def truth(_request: Request) -> JSONResponse:
        return JSONResponse(_truth(ledger, now()))

    async def requests(_request: Request) -> JSONResponse:
        return JSONResponse([_entry(entry) for entry in ledger.entries])

    async def unknown(request: Request, _error: Exception) -> JSONResponse:
        refusal = Refusal.not_found(request.url.path)
        return JSONResponse(refusal.body, refusal.status)

    return Starlette(
        routes=[
            *Inference(ledger, now, seed).routes(),
            *organization_api.routes(ledger, now),
            Route("/_demo/ledger", truth),
            Route("/_demo/ledger/requests", requests),
        ],
        exception_handlers={Refusal: answer, HTTPException: unknown},
    )


def _truth(ledger: Ledger, now: datetime) -> dict[str, Any]:
    """Return the bill line by line and the totals of each key, amounts as exact text."""
    found: defaultdict[str, list[Entry]] = defaultdict(list)
    for entry in ledger.entries:
        found[entry.key.id].append(entry)
    return {
        "lines": [
            {
                "day": charge.day.isoformat(),
                "project": charge.project,
                "key_id": charge.key_id,
                "line_item": charge.line_item,
                "quantity": charge.quantity,
                "usd": str(charge.usd),
            }
            for charge in charges(ledger, Wire(), now)
        ],
        "keys": [
            {
                "key_id": key.id,
                "name": key.name,
                "traced": key.traced,
                "answered": sum(1 for entry in found[key.id] if entry.status == 200),
                "refused": sum(1 for entry in found[key.id] if entry.status != 200),
                "input_tokens": sum(entry.input_tokens for entry in found[key.id]),
                "cached_tokens": sum(entry.cached_tokens for entry in found[key.id]),
                "output_tokens": sum(entry.output_tokens for entry in found[key.id]),
                "reasoning_tokens": sum(entry.reasoning_tokens for entry in found[key.id]),
                "usd": str(sum(entry.usd for entry in found[key.id])),
            }
            for key in ledger.organization.keys
        ],
    }


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "request_id": entry.request_id,
        "key": entry.key.name,
        "traced": entry.key.traced,
        "model": entry.model,
        "at": entry.at.isoformat(),
        "status": entry.status,
        "input_tokens": entry.input_tokens,
        "cached_tokens": entry.cached_tokens,
        "output_tokens": entry.output_tokens,
        "reasoning_tokens": entry.reasoning_tokens,
        "usd": str(entry.usd),
    }


def billed_history(*, seed: int, now: datetime, days: int) -> Ledger:
    """Return the ledger with every call of the history charged."""
    who = organization(seed)
    calls = history(who, seed=seed, now=now, days=days)
    project = next(key.project for key in who.keys if key.project_name == _STORAGE_PROJECT)
    stores = (VectorStore(project, 3 * 2**30, 48_611_807),)
    ledger = Ledger(who, calls[0].started_at if calls else now, stores=stores)
    for call in calls:
        ledger.add_call(call)
    return ledger


async def _serve(args: argparse.Namespace) -> None:
    ledger = billed_history(seed=args.seed, now=args.now, days=args.days)
    app = create_app(ledger, seed=args.seed, now=lambda: datetime.now(UTC))
    with socket.create_server(("127.0.0.1", args.port)) as listener:
        # What is accepted inherits it; asyncio does it only for sockets that it made itself, and
        # without it the second packet of each answer waits 40 ms for the first to be confirmed.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))

        def stop() -> None:
            server.should_exit = True

        when_stdin_ends(stop)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        sys.stdout.write(json.dumps({"url": url}) + "\n")
        sys.stdout.flush()
        await server.serve(sockets=[listener])


def _main() -> None:
    parser = argparse.ArgumentParser(description="A local OpenAI that bills.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--now", type=datetime.fromisoformat, default=datetime.now(UTC))
    parser.add_argument("--days", type=int, default=14)
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    _main()
