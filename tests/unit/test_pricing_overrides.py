from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from costspan.errors import Rejected
from costspan.pricing import default_book, price
from costspan.pricing.overrides import load_overrides, read_overrides
from costspan.usage import OtherModel, Usage

NOW = datetime(2026, 11, 10, tzinfo=UTC)
ACME = """
# what we agreed on
[[override]]
name = "acme-2026"
match = { model = "gpt-6*", tier = ["standard", "batch"] }
percent_off = "12.5"
from = 2026-10-01
to = 2027-10-01

[[override]]
name = "acme-cached"
match = { model = "gpt-6-sol", meter = "cached_input", project = "proj_1" }
amount = "0.05"
per = 1_000_000
"""
BOOK = default_book().contracted(read_overrides(ACME))
CALL = Usage(1_000, 100, cached_tokens=500)


def test_list_and_contracted_cost_stand_side_by_side() -> None:
    found = price(CALL, model="gpt-6-sol", at=NOW, book=BOOK)
    assert found.usd == price(CALL, model="gpt-6-sol", at=NOW).usd == Decimal("0.0021")
    assert found.contracted_usd == Decimal("0.0018375")  # 12.5 % less
    assert found.overrides == ("acme-2026",)


def test_the_last_override_that_fits_holds_and_a_project_has_its_own() -> None:
    found = price(CALL, model="gpt-6-sol", at=NOW, book=BOOK, project="proj_1")
    assert found.contracted is not None
    assert {part.meter: part.pico for part in found.contracted} == {
        "input": 875_000_000,
        "cached_input": 25_000_000,
        "output": 875_000_000,
    }
    assert found.overrides == ("acme-2026", "acme-cached")


@pytest.mark.parametrize(
    ("model", "at", "tier"),
    [
        ("gpt-5.4", NOW, None),
        ("gpt-6-sol", datetime(2026, 9, 30, 23, 59, 59, tzinfo=UTC), None),
        ("gpt-6-sol", datetime(2027, 10, 1, tzinfo=UTC), None),
        ("gpt-6-sol", NOW, "flex"),
    ],
)
def test_what_no_override_covers_costs_the_list_price(
    model: str, at: datetime, tier: str | None
) -> None:
    found = price(CALL, model=model, at=at, tier=tier, book=BOOK)
    assert found.contracted is None
    assert found.contracted_usd == found.usd is not None


def test_a_name_in_the_file_may_be_the_dated_one_of_the_answer() -> None:
    dated = '[[override]]\nname = "x"\nmatch = { model = "gpt-4o-2024-08-06" }\npercent_off = "50"'
    book = default_book().contracted(read_overrides(dated))
    halved = price(CALL, model="gpt-4o-2024-08-06", at=NOW, book=book)
    assert halved.contracted_usd == halved.usd / 2 if halved.usd else False
    assert price(CALL, model="gpt-4o-2024-11-20", at=NOW, book=book).contracted is None


def test_an_amount_replaces_the_regional_rate() -> None:
    fixed = '[[override]]\nname = "x"\nmatch = { meter = "input" }\namount = "1"\nper = 1_000_000'
    book = default_book().contracted(read_overrides(fixed))
    found = price(Usage(1_000, 0), model="gpt-6-sol", at=NOW, book=book, host="eu.api.openai.com")
    assert (found.usd, found.contracted_usd) == (Decimal("0.0022"), Decimal("0.001"))


def test_a_contract_holds_for_the_models_that_work_for_a_call_too() -> None:
    fixed = '[[override]]\nname = "x"\nmatch = { model = "gpt-image-*" }\npercent_off = "50"'
    book = default_book().contracted(read_overrides(fixed))
    usage = Usage(100, 0, others=(OtherModel("image_tool", "gpt-image-2", Usage(100, 0)),))
    found = price(usage, model="gpt-5.4", at=NOW, book=book)
    assert (found.usd, found.contracted_usd) == (Decimal("0.00075"), Decimal("0.0005"))
    assert found.overrides == ("x",)


def test_an_unpriced_call_has_no_contracted_cost_either() -> None:
    found = price(Usage(10, 0, audio_input_tokens=4), model="gpt-6-sol", at=NOW, book=BOOK)
    assert (found.usd, found.contracted_usd) == (None, None)


def test_the_version_covers_the_overrides() -> None:
    other = default_book().contracted(read_overrides(ACME.replace("12.5", "12.6")))
    assert len({default_book().version, BOOK.version, other.version}) == 3
    assert price(CALL, model="gpt-6-sol", at=NOW, book=BOOK).book == BOOK.version


NAME, MATCH, OFF = 'name = "x"', 'match = { model = "gpt-6*" }', 'percent_off = "5"'


@pytest.mark.parametrize(
    ("lines", "line", "says"),
    [
        ([MATCH, OFF], 2, "name"),
        ([NAME, OFF], 2, "match"),
        ([NAME, "match = {}", OFF], 4, "match"),
        ([NAME, MATCH], 4, "either"),
        ([NAME, MATCH, OFF, 'amount = "1"'], 6, "either"),
        ([NAME, MATCH, "percent_off = 5"], 5, "quotes"),
        ([NAME, MATCH, 'percent_off = "many"'], 5, "decimal"),
        ([NAME, MATCH, 'percent_off = "nan"'], 5, "decimal"),
        ([NAME, MATCH, 'percent_off = "101"'], 5, "between 0 and 100"),
        ([NAME, MATCH, 'amount = "1"'], 5, "per"),
        ([NAME, MATCH, 'amount = "1"', "per = 0"], 6, "per"),
        ([NAME, MATCH, 'amount = "-1"', "per = 1"], 5, "below zero"),
        ([NAME, 'match = { tier = "hyper" }', OFF], 4, "hyper"),
        ([NAME, 'match = { meter = ["input", "inputs"] }', OFF], 4, "inputs"),
        ([NAME, 'match = { models = "gpt-6" }', OFF], 4, "models"),
        ([NAME, "match = { model = 6 }", OFF], 4, "6"),
        ([NAME, "match = { project = [1] }", OFF], 4, "project"),
        ([NAME, MATCH, OFF, "form = 2026-01-01"], 6, "form"),
        ([NAME, MATCH, OFF, "from = 2026-01-01", "to = 2026-01-01"], 7, "after"),
        ([NAME, MATCH, OFF, "from = 2026-01-01T00:00:00"], 6, "time zone"),
        ([NAME, MATCH, OFF, 'from = "2026-01-01"'], 6, "day"),
        ([NAME, MATCH, OFF, "from ="], 6, "Invalid value"),
    ],
)
def test_a_wrong_file_is_refused_with_line_and_reason(
    lines: list[str], line: int, says: str, tmp_path: Path
) -> None:
    path = tmp_path / "prices.toml"
    path.write_text("\n".join(["", "[[override]]", *lines]), encoding="utf-8")
    with pytest.raises(Rejected, match=says) as refused:
        load_overrides(path)
    assert f"line {line}" in str(refused.value)
    assert str(path) in str(refused.value)


def test_the_second_override_is_refused_at_its_own_line() -> None:
    with pytest.raises(Rejected, match="line 13: amount"):
        read_overrides(ACME.replace('"0.05"', '"five"'))


def test_anything_but_overrides_is_refused() -> None:
    with pytest.raises(Rejected, match="line 2.*overide"):
        read_overrides("\n[[overide]]\n")
    with pytest.raises(Rejected, match="double brackets"):
        read_overrides('[override]\nname = "x"\n')


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="cannot read"):
        load_overrides(tmp_path / "none.toml")


def test_no_overrides_change_no_price() -> None:
    book = default_book().contracted(read_overrides(""))
    assert price(CALL, model="gpt-6-sol", at=NOW, book=book).contracted is None
