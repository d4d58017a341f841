"""The build of the price book, offline on the pinned wheel and the witness in the tree."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from genai_prices.data import providers

from costspan.pricing import default_book

FOLDER = Path(__file__).parents[2] / "instrumentation" / "book"


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The build, working in a copy of its folder."""
    spec = importlib.util.spec_from_file_location("build_book", FOLDER / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "build_book", module)
    spec.loader.exec_module(module)
    shutil.copytree(FOLDER, tmp_path / "book")
    monkeypatch.setattr(module, "HERE", tmp_path / "book")
    return module


def change(build: ModuleType, name: str, old: str, new: str) -> None:
    path: Path = build.HERE / name
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_the_book_in_the_package_is_what_the_build_writes(
    build: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["build.py", "--check"])
    assert build.main() == 0
    assert "0 differences to the last book; 0 faults" in capsys.readouterr().out


def test_two_sources_that_differ_fail_the_build_until_somebody_rules(build: ModuleType) -> None:
    change(
        build,
        "witness/litellm-1.109.1.json",
        '"input_cost_per_token": "2.5e-06", "input_cost_per_token_batches": "1.25e-06", "input_cost',
        '"input_cost_per_token": "2.6e-06", "input_cost_per_token_batches": "1.25e-06", "input_cost',
    )
    _, faults = build.build()
    assert len(faults) == 1
    assert faults[0].startswith("gpt-4o/standard/short input: 2.5 per 1,000,000 (genai-prices)")
    with (build.HERE / "rulings.toml").open("a", encoding="utf-8") as rulings:
        rulings.write(
            '\n[[ruling]]\nmodels = ["gpt-4o"]\ntiers = ["standard"]\nmeters = ["input"]\n'
            'keep = "genai-prices"\nwhy = "a typing error"\n'
        )
    _, faults = build.build()
    assert faults == []


def test_a_ruling_that_no_difference_needs_fails_the_build(build: ModuleType) -> None:
    with (build.HERE / "rulings.toml").open("a", encoding="utf-8") as rulings:
        rulings.write(
            '\n[[ruling]]\nmodels = ["o1"]\nmeters = ["input"]\nkeep = "neither"\nwhy=""\n'
        )
        rulings.write(
            '\n[[ruling]]\nmodels = ["gpt-9"]\nmeters = ["input"]\nkeep = "rule"\nwhy=""\n'
        )
    _, faults = build.build()
    assert faults == ["rulings.toml: nothing differs for ['gpt-9'] ['input']"]


def test_a_rule_is_checked_where_the_rate_is_known(build: ModuleType) -> None:
    change(
        build,
        "supplement.toml",
        'to_tier = "ultrafast"\ntimes = "6"',
        'to_tier = "ultrafast"\ntimes = "5"',
    )
    _, faults = build.build()
    assert faults
    assert all("/ultrafast/" in fault and "(rule)" in fault for fault in faults)


def test_another_wheel_than_the_pinned_one_fails_the_build(build: ModuleType) -> None:
    change(build, "supplement.toml", 'genai_prices = "0.2.3"', 'genai_prices = "0.2.2"')
    _, faults = build.build()
    assert "genai-prices is 0.2.3, the book is built on 0.2.2" in faults


def test_an_alias_of_a_model_without_rows_fails_the_build(build: ModuleType) -> None:
    change(build, "supplement.toml", '"sora-2-pro" = [', '"sora-9" = [')
    _, faults = build.build()
    assert faults == ["sora-2-pro-2025-10-06 is called another name of sora-9, which has no row"]


def test_what_changed_since_the_last_book_is_printed_line_by_line(build: ModuleType) -> None:
    new, _ = build.build()
    old = json.loads(build.render(new))
    assert build.differences(old, json.loads(build.render(new))) == []
    row = next(row for row in old["rows"] if row["model"] == "o1" and row["tier"] == "standard")
    row["usd"]["input"] = "14"
    old["aliases"].pop("o1-2024-12-17")
    old["aliases"]["o1-old"] = "o1"
    assert build.differences(old, new) == [
        "- alias o1-old: o1",
        "+ alias o1-2024-12-17: o1",
        "! o1/standard/short input: 14 per 1,000,000 -> 15 per 1,000,000",
    ]


def names_of(clause: Any) -> list[str]:
    parts = getattr(clause, "or_", [clause])
    return [part.equals for part in parts if hasattr(part, "equals")]


def test_the_book_knows_every_name_that_its_sources_know() -> None:
    witness = json.loads((FOLDER / "witness/litellm-1.109.1.json").read_text(encoding="utf-8"))
    openai = next(provider for provider in providers if provider.id == "openai")
    genai = [name for model in openai.models for name in names_of(model.match)]
    other = {"openai/container", "sora-2-pro-high-res"}  # a fee, and a size of a video
    unknown = [name for name in [*genai, *witness] if not default_book().canonical(name)]
    assert set(unknown) == other


def test_every_row_says_who_read_it_where() -> None:
    text = (FOLDER.parent / "costspan/pricing/book.json").read_text(encoding="utf-8")
    for row in json.loads(text)["rows"]:
        assert row["source"], row
        assert row["confidence"] == ("A" if row.get("seen_in") else "B"), row
