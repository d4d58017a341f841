"""Whatever the ledger holds, an export of it adds up to it and passes the checker."""

import tempfile
from datetime import date
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from costspan.pricing import default_book
from costspan_reconcile.amounts import kept
from costspan_reconcile.book_prices import Prices
from costspan_reconcile.focus.charges import Bill, Books, Line, line_rows, split
from costspan_reconcile.focus.check import check
from costspan_reconcile.focus.columns import COLUMNS, Row
from costspan_reconcile.focus.export import check_file
from costspan_reconcile.focus.files import FORMATS, write
from costspan_reconcile.period.month import Month

BILL = Bill(Month(date(2026, 10, 1)), "OPEN", "org-1", "2026-10-provisional")
PRICES = Prices(default_book())
BOOKS = Books(PRICES, PRICES)
NAMES = [column.name for column in COLUMNS]
ITEMS = (
    "gpt-4o-mini-2024-07-18, input",
    "priority | gpt-5.6-sol, output, long context",
    "ft-gpt-4o-2024-08-06, cached input",
    "evals | gpt-4o-mini-2024-07-18, input",
    "web search tool calls",
    "whisper",
    "Vector storage",
    "something new",
    "",
)
UNITS = ("", "tokens", "1000_tokens", "duration_seconds", "gibibyte_hours", "new_things")
PICO = 10**12

texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=5)
fractions = st.decimals(-(10**9), 10**9, places=34, allow_nan=False)


@st.composite
def lines(draw: Any) -> Line:
    billed = kept(Fraction(draw(fractions)))
    count = draw(st.integers(0, 4)) if billed else 0
    weights = draw(st.lists(st.integers(1, 10**6), min_size=count, max_size=count))
    parts = [part for part in split(billed, list(map(Decimal, weights)), 12) if part]
    shares = tuple(
        (
            draw(texts),
            draw(texts),
            draw(texts),
            draw(st.sampled_from(["direct", "shared"])),
            "",
            part,
        )
        for part in (parts if weights else [])
    )
    return Line(
        day=date(2026, 10, draw(st.integers(1, 31))),
        project=draw(texts),
        project_name=draw(texts),
        api_key_id=draw(texts),
        key_name=draw(texts),
        line_item=draw(st.sampled_from(ITEMS)),
        quantity_unit=draw(st.sampled_from(UNITS)),
        billed_usd=billed,
        billed_quantity=draw(
            st.none() | st.just(Decimal(0)) | st.decimals(0, 10**15, places=6, allow_nan=False)
        ),
        estimated_usd=draw(st.none() | st.decimals(0, 10**6, places=12, allow_nan=False)),
        cause=draw(st.sampled_from(["MATCHED", "UNEXPLAINED"])),
        verdict="MATCHED",
        day_state="FINAL",
        shares=shares,
    )


def total(rows: list[Row], name: str) -> Fraction:
    return sum((Fraction(str(row[name])) for row in rows if row[name] is not None), Fraction(0))


@settings(max_examples=60, deadline=None)
@given(st.lists(lines(), max_size=4))
def test_rows_add_up_to_the_ledger_and_keep_every_rule(ledger: list[Line]) -> None:
    rows = [row for line in ledger for row in line_rows(BILL, line, BOOKS)]
    checked = check(NAMES, rows)
    assert checked.faults == ()
    assert Fraction(checked.billed_usd) == sum(Fraction(line.billed_usd) for line in ledger)
    assert total(rows, "x_EstimatedCost") == sum(
        Fraction(line.estimated_usd or 0) for line in ledger
    )


@settings(max_examples=60, deadline=None)
@given(lines())
def test_the_quantity_of_a_line_is_split_without_a_rest(line: Line) -> None:
    rows = list(line_rows(BILL, line, BOOKS))
    if line.billed_usd >= 0 and line.billed_quantity and line.quantity_unit == "tokens":
        assert total(rows, "ConsumedQuantity") == Fraction(line.billed_quantity)
        assert total(rows, "PricingQuantity") == Fraction(line.billed_quantity) / 10**6


@settings(max_examples=15, deadline=None)
@given(st.lists(lines(), min_size=1, max_size=3))
def test_a_file_holds_what_the_rows_do_to_the_last_digit(ledger: list[Line]) -> None:
    rows = [row for line in ledger for row in line_rows(BILL, line, BOOKS)]
    said = check(NAMES, rows)
    with tempfile.TemporaryDirectory() as directory:
        for form in FORMATS:
            path = Path(directory) / f"a.{form}"
            write(path, form, COLUMNS, lambda: rows)
            assert check_file(path) == said


@given(
    st.decimals(-(10**9), 10**9, places=20, allow_nan=False),
    st.lists(st.integers(0, 10**9), min_size=1, max_size=6),
    st.integers(0, 15),
)
def test_parts_sum_to_the_whole(whole: Decimal, weights: list[int], places: int) -> None:
    parts = split(whole, list(map(Decimal, weights)), places)
    assert len(parts) == len(weights)
    assert sum(map(Fraction, parts)) == Fraction(whole)
    assert all(Fraction(part) * 10**places % 1 == 0 for part in parts[:-1]) or not any(weights)
