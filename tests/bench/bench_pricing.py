"""What it costs to read the usage of a call and to price it, beside genai-prices in the same run.

    uv run python tests/bench/bench_pricing.py
    uv run pytest -m bench tests/bench/bench_pricing.py

The best of several rounds: what a busy machine adds is not ours.
"""

import sys
import timeit
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from genai_prices import Usage as TheirUsage
from genai_prices import calc_price

from costspan.pricing import price
from costspan.usage import Usage, read_usage

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
MODEL = "gpt-4o-mini-2024-07-18"
BODY: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": MODEL,
    "service_tier": "default",
    "choices": [],
    "usage": {
        "prompt_tokens": 1117,
        "completion_tokens": 211,
        "total_tokens": 1328,
        "prompt_tokens_details": {"cached_tokens": 1023, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    },
}
MOST_US = 10.0
LEAST_RATIO = 5.0
"""A guard against a blunder: measured are 2 us each and a ratio near 50."""


def microseconds(task: Callable[[], object], calls: int = 2_000, rounds: int = 9) -> float:
    """Return the time of one call in the best of some rounds."""
    return min(timeit.repeat(task, number=calls, repeat=rounds)) / calls * 1e6


def measure() -> dict[str, float]:
    """Return the time of each step in microseconds, by name."""
    ours = Usage(1117, 211, cached_tokens=1023)
    theirs = TheirUsage(input_tokens=1117, output_tokens=211, cache_read_tokens=1023)
    context = {"service_tier": "default"}

    def read_and_price() -> object:
        return price(read_usage(BODY), model=MODEL, at=AT, tier="default").usd

    def their_price() -> object:
        return calc_price(
            theirs, MODEL, provider_id="openai", genai_request_timestamp=AT, price_context=context
        )

    expected = price(ours, model=MODEL, at=AT, tier="default").usd
    assert (
        read_and_price() == expected == calc_price(theirs, MODEL, provider_id="openai").total_price
    )
    return {
        "read usage": microseconds(lambda: read_usage(BODY)),
        "look up and price": microseconds(lambda: price(ours, model=MODEL, at=AT, tier="default")),
        "read, price, dollars": microseconds(read_and_price),
        "genai-prices, price only": microseconds(their_price, calls=200),
    }


@pytest.mark.bench
def test_a_call_is_priced_in_microseconds_and_far_ahead_of_a_library() -> None:
    found = measure()
    assert found["look up and price"] < MOST_US
    assert found["genai-prices, price only"] > LEAST_RATIO * found["look up and price"]


def main() -> None:
    """Print the measured times."""
    found = measure()
    for name, time_us in found.items():
        print(f"{name:<26}{time_us:9.2f} us")
    ratio = found["genai-prices, price only"] / found["look up and price"]
    print(f"genai-prices takes {ratio:.0f} times as long to price")


if __name__ == "__main__":
    sys.exit(main())
