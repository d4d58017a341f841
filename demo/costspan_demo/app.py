"""A support desk that uses OpenAI, as an app team would write it.

`import costspan.auto` is the one line that costspan asks for; the rest is the official SDK.
It runs until `--calls` are made or its standard input ends, then prints what it saw.
"""

import argparse
import asyncio
import json
import logging
import sys
import threading
from random import Random

from openai import APIError, AsyncOpenAI, OpenAI

import costspan.auto  # noqa: F401  # pyright: ignore[reportUnusedImport]
from costspan import attribute
from costspan_demo.children import when_stdin_ends

_log = logging.getLogger("support-desk")

_POLICY = " ".join(
    f"Rule {number}: answer kindly, name the order, promise no date that the carrier has not given."
    for number in range(1, 61)
)
"""Long enough for OpenAI to cache."""
_QUESTIONS = (
    "Where is my order?",
    "The parcel came without the cable.",
    "How do I send the lamp back?",
    "I was charged twice for one order.",
    "Can the address still be changed?",
)
_MEAN_PAUSE_SECONDS = 4.0


class Desk:
    """The app's features. Each method makes one call, in another of the SDK's ways."""

    def __init__(self) -> None:
        self._client = OpenAI()
        self._later = AsyncOpenAI()
        self.ways = (
            self.chat,
            self.chat_streamed,
            self.chat_streamed_with_usage,
            self.chat_streamed_async,
            self.triage,
            self.triage_streamed,
            self.triage_async,
            self.search,
        )

    async def close(self) -> None:
        """Let go of the connections."""
        self._client.close()
        await self._later.close()

    @attribute(feature="support-chat")
    async def chat(self, question: str) -> None:
        """Answer a customer."""
        await self._later.chat.completions.create(
            model="gpt-4.1",
            messages=[
                {"role": "system", "content": _POLICY},
                {"role": "user", "content": question},
            ],
        )

    @attribute(feature="support-chat")
    async def chat_streamed(self, question: str) -> None:
        """Answer a customer while the answer is being written."""
        stream = self._client.chat.completions.create(
            model="gpt-4.1",
            messages=[
                {"role": "system", "content": _POLICY},
                {"role": "user", "content": question},
            ],
            stream=True,
        )
        _ = "".join(chunk.choices[0].delta.content or "" for chunk in stream)

    @attribute(feature="support-chat")
    async def chat_streamed_with_usage(self, question: str) -> None:
        """Answer a customer and read the usage that was asked for."""
        stream = self._client.chat.completions.create(
            model="gpt-4.1",
            messages=[
                {"role": "system", "content": _POLICY},
                {"role": "user", "content": question},
            ],
            stream=True,
            stream_options={"include_usage": True},
        )
        used = [chunk.usage.total_tokens for chunk in stream if chunk.usage]
        _log.debug("%s tokens", used)

    @attribute(feature="support-chat")
    async def chat_streamed_async(self, question: str) -> None:
        """Answer a customer from the event loop."""
        stream = await self._later.chat.completions.create(
            model="gpt-4.1",
            messages=[
                {"role": "system", "content": _POLICY},
                {"role": "user", "content": question},
            ],
            stream=True,
        )
        _ = [chunk async for chunk in stream]

    @attribute(feature="ticket-triage")
    async def triage(self, question: str) -> None:
        """Sort a ticket."""
        self._client.responses.create(
            model="gpt-4o-mini", instructions="Name the department.", input=question
        )

    @attribute(feature="ticket-triage")
    async def triage_streamed(self, question: str) -> None:
        """Sort a ticket with the SDK's stream helper."""
        with self._client.responses.stream(model="gpt-4o-mini", input=question) as stream:
            _ = stream.get_final_response()

    @attribute(feature="ticket-triage")
    async def triage_async(self, question: str) -> None:
        """Sort a ticket from the event loop."""
        stream = await self._later.responses.create(
            model="gpt-4o-mini", input=question, stream=True
        )
        _ = [event async for event in stream]

    @attribute(feature="knowledge-search")
    async def search(self, question: str) -> None:
        """Find articles about a question."""
        self._client.embeddings.create(model="text-embedding-3-small", input=[question, _POLICY])


async def work(calls: int | None, stop: threading.Event, seed: int) -> dict[str, int]:
    """Make calls one after the other; return how many there were and how they ended."""
    desk = Desk()
    random = Random(seed)  # noqa: S311
    seen = {"calls": 0, "succeeded": 0, "failed": 0}
    while not stop.is_set() and seen["calls"] != calls:
        number = seen["calls"]
        way = desk.ways[number % len(desk.ways)]
        question = f"{random.choice(_QUESTIONS)} Order {number + 1}."
        seen["calls"] += 1
        with attribute(team="support", user=f"user-{random.randint(1, 40):03}"):
            try:
                await way(question)
                seen["succeeded"] += 1
            except APIError as error:
                seen["failed"] += 1
                _log.info("call %s failed: %s", number, type(error).__name__)
        if calls is None:
            stop.wait(random.expovariate(1 / _MEAN_PAUSE_SECONDS))
    await desk.close()
    return seen


def _main() -> None:
    parser = argparse.ArgumentParser(description="The demo's app.")
    parser.add_argument("--calls", type=int, help="stop after so many; otherwise go on, gently")
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    stop = threading.Event()
    when_stdin_ends(stop.set)
    seen = asyncio.run(work(args.calls, stop, args.seed))
    sys.stdout.write(json.dumps(seen) + "\n")


if __name__ == "__main__":
    _main()
