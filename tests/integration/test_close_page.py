"""The Close page, run by Streamlit's own test runner on months in every state."""

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from streamlit.testing.v1 import AppTest

from costspan_collector.store import Store
from costspan_reconcile.period import pack
from costspan_reconcile.period.adjustments import Adjustment
from costspan_reconcile.period.bridge import Entry, Kind, bridge_lines
from costspan_reconcile.period.close import Lock, evidence_pack
from costspan_reconcile.period.month import Month
from costspan_reconcile.period.states import Step

AT = datetime(2026, 11, 5, 10, tzinfo=UTC)
MONTH, BEFORE = Month(date(2026, 10, 1)), Month(date(2026, 9, 1))
HASH = "ab" * 32


@dataclass(frozen=True)
class Run:
    """A row of `recon_runs`, as far as this page reads it."""

    run_id: UUID
    day: date
    run_at: datetime
    day_state: str
    verdict: str
    inputs_sha256: str
    billed_usd: Decimal


def step(month: Month, state: str, close_id: int, **more: Any) -> Step:
    stated: dict[str, Any] = {
        "reason": "",
        "billed_usd": Decimal(40),
        "bill_sha256": "",
        "invoice_id": "",
        "invoice_usd": None,
        "invoice_file": "",
        "invoice_sha256": "",
        "lock_sha256": "",
        **more,
    }
    return Step(month.first, state, AT, "fin", UUID(int=close_id), **stated)


@pytest.fixture
def page(open_page: Callable[..., AppTest]) -> Callable[..., AppTest]:
    return partial(open_page, "close")


def texts(app: Any) -> str:
    kinds = ("header", "subheader", "markdown", "caption", "warning", "error", "info", "code")
    return "\n".join(str(element.value) for kind in kinds for element in app.get(kind))


def days(store: Store, month: Month, state: str) -> None:
    rows = [
        Run(UUID(int=n + 1), day, AT, state, "MATCHED", HASH, Decimal("1.25"))
        for n, day in enumerate(month.days)
    ]
    store.insert("recon_runs", rows)


def test_without_a_reconciled_day_it_says_where_to_begin(page: Callable[..., AppTest]) -> None:
    assert "No month has a reconciled day yet" in texts(page())


def test_an_open_month_says_what_it_waits_for(store: Store, page: Callable[..., AppTest]) -> None:
    days(store, MONTH, "PROVISIONAL")
    shown = page()
    (table,) = [frame.value for frame in shown.dataframe]
    assert [*table.iloc[0]] == ["2026-10", "open", "0 of 31", "$38.75", "", "", ""]
    assert any("are not final yet" in warning.value for warning in shown.warning)
    assert "72 hours old" in texts(shown)


def test_a_closing_month_says_which_command_is_next(
    store: Store, page: Callable[..., AppTest]
) -> None:
    days(store, MONTH, "FINAL")
    store.insert("periods", [step(MONTH, "CLOSING", 1)])
    assert "costspan reconcile close 2026-10 --invoice-total USD" in texts(page())


def test_a_matched_month_shows_its_bridge_and_the_corrections_in_it(
    store: Store, page: Callable[..., AppTest]
) -> None:
    days(store, MONTH, "FINAL")
    entries = [
        Entry(Kind.BILLED, "billed by Costs", Fraction("38.75")),
        Entry(Kind.CORRECTION, "correction of 2026-09, 1 line", Fraction("0.5")),
        Entry(Kind.CREDIT, "promotional", Fraction("-1")),
        Entry(Kind.ROUNDING, "the invoice is in cents", Fraction(1, 1000)),
    ]
    store.insert("bridge_lines", bridge_lines(UUID(int=2), MONTH, entries))
    matched = step(
        MONTH,
        "INVOICE_MATCHED",
        2,
        invoice_id="INV-7",
        invoice_usd=Decimal("38.251"),
        invoice_file="a_b.pdf",
        invoice_sha256=HASH,
    )
    store.insert("periods", [matched])
    correction = Adjustment(
        month=MONTH.first,
        booked_at=AT,
        original_month=BEFORE.first,
        day=BEFORE.first,
        project="proj_a",
        api_key_id="",
        line_item="gpt-4o, input",
        quantity_unit="tokens",
        locked_run_id=UUID(int=9),
        old_usd=Decimal("1.25"),
        new_usd=Decimal("1.75"),
        amount_usd=Decimal("0.5"),
        old_content_sha256=HASH,
        new_content_sha256=HASH,
        costs_fetch_id=UUID(int=9),
    )
    store.insert("adjustments", [correction])

    shown = page()

    tables: list[Any] = [frame.value for frame in shown.dataframe]
    assert [*tables[1]["line"]] == ["billed", "correction", "credit", "rounding", "invoice INV-7"]
    assert [*tables[1]["USD"]] == ["38.75", "0.5", "-1", "0.001", "38.251"]
    assert tables[1]["FOCUS category"][1] == "Adjustment Correction"
    assert [*tables[2].iloc[0]][:8] == [
        "2026-09",
        "2026-09-01",
        "proj_a",
        "(not known)",
        "gpt-4o, input",
        "1.25",
        "1.75",
        "0.5",
    ]
    assert "--sign --by NAME --pack 2026-10.zip" in texts(shown)
    assert r"a\_b\.pdf" in texts(shown)


def test_a_locked_month_says_by_whom_and_gives_its_evidence(
    store: Store, page: Callable[..., AppTest]
) -> None:
    days(store, MONTH, "FINAL")
    days(store, BEFORE, "FINAL")
    locked = step(BEFORE, "LOCKED", 3, lock_sha256=HASH, invoice_usd=Decimal(40))
    named = {field: getattr(locked, field) for field in Step.__slots__}
    store.insert("periods", [Lock(**named, days=())])
    store.insert("periods", [step(BEFORE, "CLOSING", 4)])  # which a lock takes no more
    store.insert("evidence", pack.rows(UUID(int=3), {"README.txt": "all of it\n"}))

    shown = page(month="2026-09")

    assert "2026-09 is locked" in texts(shown)
    assert "Locked by **fin** at 2026-11-05 10:00:00 UTC" in texts(shown)
    assert HASH in texts(shown)
    (button,) = shown.get("download_button")
    assert button.proto.label == "Evidence pack"
    with zipfile.ZipFile(io.BytesIO(evidence_pack(store, BEFORE))) as content:
        assert content.read("README.txt") == b"all of it\n"
