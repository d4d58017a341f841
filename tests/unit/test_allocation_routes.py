"""Which line a call's quantities are billed in, by how the line was matched."""

from dataclasses import replace
from datetime import date
from decimal import Decimal
from uuid import UUID

import pytest

from costspan_reconcile.allocate.routes import CallKind, MatchedLine, routes
from costspan_reconcile.facts import Keys
from costspan_reconcile.openai_costs import ApiKey

DAY = date(2026, 11, 18)
KEYS = Keys([ApiKey("p", "", "key_1", "", "aaaa"), ApiKey("p", "", "key_2", "", "bbbb")], ())
CALL = CallKind(DAY, "p", "aaaa", "gpt-4o-2024-08-06", "default", "short", ("input",))
LINE = MatchedLine(
    day=DAY,
    project="p",
    api_key_id="key_1",
    line_item="gpt-4o-2024-08-06, input",
    match_level="M1",
    billed_usd=Decimal(1),
    billed_quantity=Decimal(1),
    quantity_unit="tokens",
    usage_quantity=None,
    estimated_quantity=Decimal(1),
    cause="MATCHED",
)


def found(call: CallKind, *lines: MatchedLine) -> list[str]:
    made = routes(UUID(int=1), lines, [call], KEYS)
    return [f"{route.meter} > {route.api_key_id} {route.line_item}" for route in made]


def test_a_call_is_in_the_line_of_its_own_key_and_product() -> None:
    other = replace(LINE, api_key_id="key_2")
    assert found(CALL, other, LINE) == ["input > key_1 gpt-4o-2024-08-06, input"]
    assert found(CALL, other) == []
    assert found(replace(CALL, project="q"), LINE) == []


def test_every_meter_of_a_call_has_its_own_line() -> None:
    call = replace(
        CALL, meters=("cache_write_12h", "image_tool/gpt-image-2/image_output", "web_search")
    )
    lines = [
        replace(LINE, line_item=item, match_level=level)
        for item, level in (
            ("gpt-4o-2024-08-06, cache writes", "M1"),
            ("gpt-image-2 image, output", "M1"),
            ("web search tool calls", "M5"),
        )
    ]
    assert found(call, *lines) == [
        "cache_write_12h > key_1 gpt-4o-2024-08-06, cache writes",
        "image_tool/gpt-image-2/image_output > key_1 gpt-image-2 image, output",
        "web_search > key_1 web search tool calls",
    ]


@pytest.mark.parametrize(
    ("level", "key", "item", "call"),
    [
        ("M2", "key_1", "gpt-4o, input", CALL),
        ("M3", "", "gpt-4o-2024-08-06, input", CALL),
        ("M3", "", "gpt-4o, input", CALL),
        ("M3", "key_1", "gpt-4o-2024-08-06, input", replace(CALL, key_hint="")),
        ("M4", "key_1", "batch | gpt-4o-2024-08-06, input, long context", CALL),
    ],
)
def test_a_call_is_found_as_its_line_was_matched(
    level: str, key: str, item: str, call: CallKind
) -> None:
    line = replace(LINE, match_level=level, api_key_id=key, line_item=item)
    assert found(call, line) == [f"input > {key} {item}"]
    assert found(call, replace(line, match_level="M6")) == []


def test_a_call_is_in_every_line_of_a_product_whose_tiers_are_not_told_apart() -> None:
    lines = [
        replace(LINE, match_level="M4", line_item=f"{tier}gpt-4o-2024-08-06, input")
        for tier in ("", "batch | ", "flex | ")
    ]
    assert len(found(CALL, *lines)) == 3
    exact = replace(LINE, line_item="gpt-4o-2024-08-06, input")
    assert found(CALL, *lines[1:], exact) == ["input > key_1 gpt-4o-2024-08-06, input"]


def test_a_line_without_dollars_is_nobodys() -> None:
    assert found(CALL, replace(LINE, billed_usd=Decimal(0))) == []
