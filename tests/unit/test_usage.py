from fractions import Fraction
from typing import Any

import pytest

from costspan.errors import InvalidUsage
from costspan.usage import OtherModel, Usage, read_usage


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
    assert usage.metered == (("web_search", 1),)


def test_the_billable_count_of_searches_wins_over_the_output() -> None:
    body = {
        "usage": {"input_tokens": 1, "output_tokens": 1},
        "output": [{"type": "web_search_call"}],
        "tool_usage": {"web_search": {"num_requests": 3}},
    }
    usage = read_usage(body)
    assert usage is not None
    assert usage.metered == (("web_search", 3),)


def counted(body: dict[str, Any], request: dict[str, Any] | None = None) -> dict[str, Any]:
    """The disjoint quantities of a body by meter."""
    usage = read_usage(body, request)
    assert usage is not None
    return dict(usage.quantities())


REALTIME = {
    "input_tokens": 1742,
    "output_tokens": 354,
    "input_token_details": {
        "text_tokens": 432,
        "audio_tokens": 1210,
        "image_tokens": 100,
        "cached_tokens": 1330,
        "cached_tokens_details": {"text_tokens": 412, "audio_tokens": 868, "image_tokens": 50},
    },
    "output_token_details": {"text_tokens": 44, "audio_tokens": 310},
}
IMAGES = {
    "input_tokens": 373,
    "input_tokens_details": {"text_tokens": 50, "image_tokens": 323},
    "output_tokens": 4160,
}


@pytest.mark.parametrize(
    ("body", "meters"),
    [
        (  # a chat with audio; what it sees is ordinary input
            {"usage": {"prompt_tokens": 90, "completion_tokens": 40, "prompt_tokens_details": {"audio_tokens": 60, "text_tokens": 10, "image_tokens": 20}, "completion_tokens_details": {"audio_tokens": 30, "text_tokens": 10}}},
            {"input": 30, "audio_input": 60, "output": 10, "audio_output": 30},
        ),
        (  # predictions are inside the output
            {"usage": {"prompt_tokens": 9, "completion_tokens": 80, "completion_tokens_details": {"accepted_prediction_tokens": 40, "rejected_prediction_tokens": 20}}},
            {"input": 9, "output": 80},
        ),
        ({"usage": {"prompt_tokens": 8, "completion_tokens": 2, "prompt_token_details": {"cached_tokens": 8}}}, {"cached_input": 8, "output": 2}),
        ({"usage": {"prompt_tokens": 8, "completion_tokens": 2, "prompt_tokens_details": None}}, {"input": 8, "output": 2}),
        ({"type": "response.done", "response": {"usage": REALTIME}}, {"input": 20, "cached_input": 412, "audio_input": 342, "cached_audio_input": 868, "image_input": 50, "cached_image_input": 50, "output": 44, "audio_output": 310}),
        ({"usage": IMAGES}, {"input": 50, "image_input": 323, "image_output": 4160}),
        ({"usage": IMAGES | {"output_tokens_details": {"image_tokens": 4000, "text_tokens": 160}}}, {"input": 50, "image_input": 323, "output": 160, "image_output": 4000}),
        ({"usage": {"type": "tokens", "input_tokens": 14, "output_tokens": 45, "input_token_details": {"audio_tokens": 10, "text_tokens": 4}}}, {"input": 4, "audio_input": 10, "output": 45}),
        ({"usage": {"type": "duration", "seconds": 7.5}}, {"audio_seconds": Fraction(15, 2)}),
        ({"type": "session.closed", "usage": {"seconds": 33}}, {"audio_seconds": 33}),
        ({"usage": {"type": "duration", "seconds": 0}}, {}),
        ({"type": "speech.audio.done", "usage": {"input_tokens": 35, "output_tokens": 275}}, {"input": 35, "audio_output": 275}),
        ({"answers": [], "usage": {"input_tokens": 35, "input_tokens_details": {"cached_tokens": 30}, "output_tokens": 2}}, {"decision_input": 35}),
        ({"object": "video", "status": "completed", "seconds": "8", "size": "1024x1792"}, {"video_seconds_1024": 8}),
        ({"object": "video", "status": "failed", "seconds": "8", "size": "1280x720"}, {}),
        ({"object": "fine_tuning.job", "trained_tokens": 5}, {"trained_tokens": 5}),
        ({"sample": {"usage": {"prompt_tokens": 9, "completion_tokens": 1, "cached_tokens": 4}}}, {"input": 5, "cached_input": 4, "output": 1}),
        ({"usage": {"input_tokens": 5, "output_tokens": 1}, "output": [{"type": "file_search_call"}], "tools": [{"type": "web_search_preview_2025_03_11"}], "tool_usage": {"web_search": {"num_requests": 2}}}, {"input": 5, "output": 1, "web_search_preview": 2, "file_search": 1}),
    ],
)  # fmt: skip
def test_every_shape_is_taken_apart_into_what_is_billed(
    body: dict[str, Any], meters: dict[str, Any]
) -> None:
    assert counted(body) == meters


@pytest.mark.parametrize(
    "body",
    [
        {"object": "video", "status": "in_progress", "seconds": "8", "size": "1280x720"},
        {"object": "fine_tuning.job", "trained_tokens": None},
        {"type": "response.done", "response": {"usage": None}},
        {"usage": {"prompt_tokens": None, "completion_tokens": None}},
    ],
)
def test_what_is_not_over_has_no_usage_yet(body: dict[str, Any]) -> None:
    assert read_usage(body) is None


def test_only_tts_1_is_billed_by_what_it_was_sent() -> None:
    assert counted({}, {"model": "tts-1-hd", "input": "ä b\n"}) == {"characters": 4}
    assert read_usage({}, {"model": "gpt-4o-mini-tts", "input": "a b"}) is None
    assert read_usage({"usage": None}, {"model": "gpt-5", "input": "a b"}) is None


def test_tokens_of_another_model_stand_apart_under_its_name() -> None:
    body = {
        "usage": {"input_tokens": 5, "output_tokens": 1},
        "output": [{"type": "image_generation_call", "svg_usage": {"model": "gpt-5.4", "input_tokens": 7, "output_tokens": 9, "reasoning_tokens": 2}}],
        "tools": [{"type": "image_generation", "model": "gpt-image-2"}],
        "tool_usage": {"image_gen": {"input_tokens": 60, "input_tokens_details": {"text_tokens": 20, "image_tokens": 40}, "cached_tokens": 30, "cached_tokens_details": {"cached_text_tokens": 10, "cached_image_tokens": 20}, "output_tokens": 8}},
    }  # fmt: skip
    usage = read_usage(body)
    assert usage is not None
    image, svg = usage.others
    assert (image.label, image.model) == ("image_tool", "gpt-image-2")
    assert dict(image.usage.quantities()) == {
        "input": 10,
        "cached_input": 10,
        "image_input": 20,
        "cached_image_input": 20,
        "image_output": 8,
    }
    assert svg == OtherModel("svg", "gpt-5.4", Usage(7, 9))


def test_a_picture_whose_tokens_are_told_nowhere_is_not_taken_for_free() -> None:
    body: dict[str, Any] = {
        "usage": {"input_tokens": 5, "output_tokens": 1},
        "output": [{"type": "image_generation_call"}],
    }
    assert counted(body)["image_tool_call"] == 1
    body["tool_usage"] = {"image_gen": {"input_tokens": 0, "output_tokens": 0}}
    assert counted(body) == {"input": 5, "output": 1}


def test_the_models_of_an_evaluation_are_billed_each_at_its_own_rates() -> None:
    runs = [
        {
            "model_name": "gpt-4.1",
            "prompt_tokens": 9,
            "completion_tokens": 1,
            "cached_tokens": 4,
        }
    ]
    usage = read_usage({"object": "eval.run", "per_model_usage": runs})
    assert usage is not None
    assert usage.others == (OtherModel("gpt-4.1", "gpt-4.1", Usage(9, 1, cached_tokens=4)),)


def test_cached_tokens_that_may_be_audio_or_text_have_no_price() -> None:
    details = {"text_tokens": 10, "audio_tokens": 90, "cached_tokens": 50}
    body = {"usage": {"input_tokens": 100, "output_tokens": 1, "input_token_details": details}}
    assert counted(body)["unsplit_cached_input"] == 50


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
        ({"prompt_tokens": 5, "prompt_tokens_details": {"audio_tokens": 3, "text_tokens": 3}}, "input"),
        ({"prompt_tokens": 5, "completion_tokens": 1, "completion_tokens_details": {"rejected_prediction_tokens": 2}}, "predicted"),
        ({"input_tokens": 5, "input_tokens_details": {"cache_write_tokens": 2, "cache_write_tokens_details": {"ttl_12h_tokens": 3}}}, "12-hour"),
        ({"input_tokens": 5, "input_token_details": {"audio_tokens": 3, "cached_tokens": 4, "cached_tokens_details": {"audio_tokens": 4}}}, "cached audio"),
        ({"input_tokens": 9, "input_token_details": {"audio_tokens": 6, "cached_tokens": 4, "cached_tokens_details": {"text_tokens": 4}}}, "cached or cache-written text"),
        ({"input_tokens": 5.5, "output_tokens": 1}, "5.5"),
        ({"type": "duration", "seconds": -1}, "-1"),
        ({"type": "duration", "seconds": "nan"}, "nan"),
        ({"type": "duration", "seconds": True}, "True"),
        ("many", "str"),
    ],
)  # fmt: skip
def test_counts_that_cannot_be_true_are_refused_by_name(usage: Any, says: str) -> None:
    with pytest.raises(InvalidUsage, match=says):
        read_usage({"usage": usage})
