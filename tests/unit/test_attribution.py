"""Who a call was for, from a block or a decorator to the span."""

import asyncio
import contextvars
import hashlib
import inspect
from typing import Any

import pytest
from opentelemetry import baggage

from costspan import attribute, semconv
from costspan.counters import counters


def carried() -> dict[str, Any]:
    return dict(baggage.get_all())


def test_a_block_attributes_what_is_inside_and_nothing_after() -> None:
    with attribute(team="search", feature="rerank", customer="c1", prompt="p-v2"):
        assert carried() == {
            semconv.TEAM: "search",
            semconv.FEATURE: "rerank",
            semconv.CUSTOMER: "c1",
            semconv.PROMPT: "p-v2",
        }
    assert carried() == {}


def test_an_inner_value_replaces_the_outer_one_and_none_leaves_it() -> None:
    with attribute(team="search", feature="rerank"), attribute(team=None, feature="answer"):
        assert carried() == {semconv.TEAM: "search", semconv.FEATURE: "answer"}


def test_a_user_is_hashed_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    with attribute(user="alice"):
        assert carried()[semconv.USER] == hashlib.sha256(b"alice").hexdigest()[:16]
    monkeypatch.setenv("COSTSPAN_CAPTURE_USER_HASH", "false")
    with attribute(user="alice"):
        assert carried()[semconv.USER] == "alice"


def test_a_long_value_is_cut() -> None:
    with attribute(feature="x" * 5000):
        assert len(carried()[semconv.FEATURE]) == 256


def test_a_decorated_function_is_attributed_and_keeps_its_name() -> None:
    @attribute(team="search")
    def work(depth: int) -> int:
        assert carried()[semconv.TEAM] == "search"
        return work(depth - 1) if depth else 7

    assert work(3) == 7
    assert work.__name__ == "work"
    assert carried() == {}


def test_decorated_coroutines_overlap_without_mixing() -> None:
    both_inside = asyncio.Barrier(2)

    @attribute(team="a")
    async def first() -> str:
        await both_inside.wait()
        return carried()[semconv.TEAM]

    @attribute(team="b")
    async def second() -> str:
        await both_inside.wait()
        return carried()[semconv.TEAM]

    async def both() -> list[str]:
        return [*await asyncio.gather(first(), second())]

    assert inspect.iscoroutinefunction(first)
    assert asyncio.run(both()) == ["a", "b"]


def test_the_block_ends_when_it_raises() -> None:
    with pytest.raises(KeyError), attribute(team="search"):
        raise KeyError
    assert carried() == {}


def test_one_block_may_be_used_by_several_tasks_at_once() -> None:
    shared = attribute(team="a")
    first_in, second_in, first_out = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def first() -> dict[str, Any]:
        with shared:
            first_in.set()
            await second_in.wait()
        first_out.set()
        return carried()

    async def second() -> dict[str, Any]:
        await first_in.wait()
        with shared:
            second_in.set()
            await first_out.wait()
            assert carried() == {semconv.TEAM: "a"}
        return carried()

    async def both() -> list[dict[str, Any]]:
        return [*await asyncio.gather(first(), second())]

    assert asyncio.run(both()) == [{}, {}]


def test_a_block_that_is_left_elsewhere_than_entered_does_no_harm() -> None:
    block = attribute(team="a")
    contextvars.copy_context().run(block.__enter__)
    with attribute(team="b"):
        block.__exit__(None, None, None)
        assert carried() == {semconv.TEAM: "b"}
    assert counters()["attribution_left_elsewhere"] == 1
