from typing import Any

import pytest

from costspan.errors import InvalidUsage
from costspan.usage import Usage, read_usage


def test_chat_and_responses_report_the_same_call_in_the_same_shape() -> None:
    chat = {
        "prompt_tokens": 1117,
        "completion_tokens": 211,
        "prompt_tokens_details": {"cached_tokens": 1023},
        "completion_tokens_details": {"reasoning_tokens": 64},
    }
    responses = {
        "input_tokens": 1117,
        "output_tokens": 211,
        "input_tokens_details": {"cached_tokens": 1023},
        "output_tokens_details": {"reasoning_tokens": 64},
    }
    expected = Usage(input_tokens=1117, output_tokens=211, cached_tokens=1023, reasoning_tokens=64)
    assert read_usage({"usage": chat}) == expected
    assert read_usage({"usage": responses}) == expected


@pytest.mark.parametrize("body", [{}, {"usage": None}, {"usage": {}}])
def test_usage_that_is_not_reported_is_unknown_and_not_zero(body: dict[str, Any]) -> None:
    assert read_usage(body) is None


def test_an_embedding_has_input_only() -> None:
    assert read_usage({"usage": {"prompt_tokens": 8, "total_tokens": 8}}) == Usage(8, 0)


def test_cache_writes_are_split_by_how_long_they_are_kept() -> None:
    details = {
        "cached_tokens": 100,
        "cache_write_tokens": 500,
        "cache_write_tokens_details": {"ttl_30m_tokens": 300, "ttl_12h_tokens": 200},
    }
    body = {"usage": {"input_tokens": 1000, "output_tokens": 1, "input_tokens_details": details}}
    usage = read_usage(body)
    assert usage is not None
    assert (usage.cache_write_30m_tokens, usage.cache_write_12h_tokens) == (300, 200)
    assert usage.cache_write_tokens == 500


def test_opening_a_page_is_no_search() -> None:
    body = {
        "usage": {"input_tokens": 1, "output_tokens": 1},
        "output": [
            {"type": "web_search_call", "action": {"type": "search"}},
            {"type": "web_search_call", "action": {"type": "open_page"}},
            {"type": "message"},
        ],
    }
    usage = read_usage(body)
    assert usage is not None
    assert usage.web_searches == 1


def test_the_billable_count_of_searches_wins_over_the_output() -> None:
    body = {
        "usage": {"input_tokens": 1, "output_tokens": 1},
        "output": [{"type": "web_search_call"}],
        "tool_usage": {"web_search": {"num_requests": 3}},
    }
    usage = read_usage(body)
    assert usage is not None
    assert usage.web_searches == 3


@pytest.mark.parametrize(
    ("usage", "says"),
    [
        ({"prompt_tokens": "12", "completion_tokens": 1}, "prompt_tokens"),
        ({"prompt_tokens": -1, "completion_tokens": 1}, "-1"),
        ({"prompt_tokens": True, "completion_tokens": 1}, "True"),
        ({"prompt_tokens": 2**60, "completion_tokens": 1}, "count"),
        ({"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 6}}, "6 cached"),
        ({"prompt_tokens": 5, "completion_tokens": 1, "completion_tokens_details": {"reasoning_tokens": 2}}, "output"),
        ({"prompt_tokens": 5, "prompt_tokens_details": "none"}, "str"),
        ("many", "str"),
    ],
)  # fmt: skip
def test_counts_that_cannot_be_true_are_refused_by_name(usage: Any, says: str) -> None:
    with pytest.raises(InvalidUsage, match=says):
        read_usage({"usage": usage})
