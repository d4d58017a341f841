"""The line items are strings that the live service sent; origin in tests/data/billing."""

import json
from pathlib import Path

import pytest

from costspan_reconcile.line_items import (
    Form,
    LineItem,
    billed_name,
    read_line_item,
    usage_item,
)


def live(data: Path) -> list[str]:
    return json.loads((data / "billing" / "live_strings.json").read_text())["line_items"]


def test_every_live_string_is_read_as_the_study_found(data: Path) -> None:
    read = {text: read_line_item(text) for text in live(data)}
    services = {text: item.name for text, item in read.items() if item.form is Form.SERVICE}
    assert services == {
        "assistants api | file search": "file search storage",
        "whisper": "transcription",
        "web search tool calls": "web search",
        "Vector storage": "vector storage",
    }
    # A tier and a model without a kind is a blend of kinds: it has no unit price of its own.
    unclassified = [text for text, item in read.items() if item.form is Form.UNCLASSIFIED]
    assert unclassified == ["flex | gpt-5-mini", "Text tokens"]
    assert sum(item.form is Form.TOKENS for item in read.values()) == 42 - 4 - 2


def test_every_live_token_line_is_written_back_as_it_came(data: Path) -> None:
    for text in live(data):
        item = read_line_item(text)
        if item.form is Form.TOKENS and not item.surface and " text," not in text:
            assert billed_name(item) == text


@pytest.mark.parametrize(
    ("text", "item"),
    [
        (
            "priority | gpt-5.6-sol, output, long context",
            LineItem(Form.TOKENS, "gpt-5.6-sol", "output", tier="priority", context="long"),
        ),
        (
            "ft-gpt-4o-2024-08-06, input",
            LineItem(Form.TOKENS, "gpt-4o-2024-08-06", "input", fine_tuned=True),
        ),
        (
            "evals | gpt-4o-mini-2024-07-18, input",
            LineItem(Form.TOKENS, "gpt-4o-mini-2024-07-18", "input", surface="evals"),
        ),
        (
            "gpt-image-1 image, cached input",
            LineItem(Form.TOKENS, "gpt-image-1", "cached_input", modality="image"),
        ),
        ("gpt-6-astra, input_tokens", LineItem(Form.TOKENS, "gpt-6-astra", "input")),
    ],
)
def test_the_parts_of_a_line_item_are_told_apart(text: str, item: LineItem) -> None:
    assert read_line_item(text) == item


@pytest.mark.parametrize(
    "text",
    [
        "",
        " | ",
        ", input",
        "gpt-5",
        "gpt-5, training",
        "gpt-5, input, short context",
        "gpt-5, input, long context, again",
        "evals | agents | gpt-5, input",
        "flex | priority | gpt-5, input",
        "GPT-4o completions",
        "Promotional credit",
        "web search tool call",
    ],
)
def test_what_does_not_fit_stays_unclassified_under_its_own_name(text: str) -> None:
    assert read_line_item(text) == LineItem(Form.UNCLASSIFIED, text)


def test_a_duration_makes_whisper_a_transcription_and_tokens_do_not() -> None:
    assert read_line_item("whisper", "duration_seconds").name == "transcription"
    assert read_line_item("whisper", "tokens").form is Form.UNCLASSIFIED


def test_bill_and_usage_name_one_fine_tuned_model_differently_and_mean_the_same() -> None:
    billed = read_line_item("ft-gpt-4o-2024-08-06, output")
    assert usage_item("ft:gpt-4o-2024-08-06:distillation-test:wordle2", "output") == billed


def test_a_family_is_the_product_without_the_date_of_its_model() -> None:
    dated = read_line_item("gpt-image-2-2026-04-21 image, output")
    assert dated.family == read_line_item("gpt-image-2 image, output")
    assert dated.family != read_line_item("gpt-image-2 image, input").family
