"""A month of the ledger as FOCUS, from the real engine to the file and back."""

import argparse
import csv
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from costspan.errors import Rejected
from costspan.pricing import default_book
from costspan_collector.record import Call
from costspan_collector.store import Store
from costspan_reconcile.fetch import fetch
from costspan_reconcile.focus.calls import export_calls
from costspan_reconcile.focus.charges import line_rows
from costspan_reconcile.focus.cli import add_export
from costspan_reconcile.focus.columns import COLUMNS
from costspan_reconcile.focus.export import export_focus
from costspan_reconcile.focus.files import Format, read
from costspan_reconcile.period.month import Month
from costspan_reconcile.reconcile import reconcile_days
from costspan_reconcile.settings import Reconcile

MONTH = Month(date(2026, 10, 1))
BOOK = default_book()
RUN = "00000000-0000-0000-0000-0000000000"
CLOSE = f"{RUN}99"
STORAGE = "0.0003219574471554904712345678901234"
LEDGER = (
    f"""
    INSERT INTO recon_runs (run_id, day, run_at, day_state, verdict, costs_revision, billed_usd) VALUES
        ('{RUN}01', '2026-10-01', '2026-10-05', 'FINAL', 'MATCHED', 1, '4.0003219574471554904712345678901234'),
        ('{RUN}02', '2026-10-02', '2026-10-05', 'FINAL', 'EXPLAINED', 1, '-1.25'),
        ('{RUN}03', '2026-10-03', '2026-10-05', 'FINAL', 'BLOCKED', 1, NULL)
    """,
    f"""
    INSERT INTO recon_lines (run_id, day, project, api_key_id, line_item, billed_usd, billed_quantity,
        quantity_unit, estimated_usd, cause, verdict, day_state) VALUES
        ('{RUN}01', '2026-10-01', 'proj_a', 'key_1', 'gpt-4o-mini-2024-07-18, input', '3', '20000000',
            'tokens', '2.9', 'UNINSTRUMENTED_KEY', 'EXPLAINED', 'FINAL'),
        ('{RUN}01', '2026-10-01', 'proj_a', '', 'Vector storage', '{STORAGE}', NULL, '', NULL,
            'STORAGE', 'EXPLAINED', 'FINAL'),
        ('{RUN}01', '2026-10-01', '', '', 'web search tool calls', '1', '100', '', NULL,
            'UNCLASSIFIED', 'REVIEW', 'FINAL'),
        ('{RUN}01', '2026-10-01', 'proj_a', 'key_1', 'gpt-4o-mini-2024-07-18, cached input', '0', '500',
            'tokens', '0.0000375', 'FREE_TOKENS', 'EXPLAINED', 'FINAL'),
        ('{RUN}01', '2026-10-01', 'proj_a', 'key_1', 'only ours', '0', NULL, '', '7', 'CUTOFF',
            'REVIEW', 'FINAL'),
        ('{RUN}02', '2026-10-02', 'proj_a', '', 'Promotional credit', '-1.25', NULL, '', NULL,
            'CREDIT', 'EXPLAINED', 'FINAL')
    """,
    f"""
    INSERT INTO allocation_runs (allocation_id, day, run_id, run_at, billed_usd) VALUES
        ('{RUN}11', '2026-10-01', '{RUN}01', '2026-10-05', '4')
    """,
    f"""
    INSERT INTO allocations (allocation_id, run_id, day, project, api_key_id, line_item, kind, rule,
        team, feature, user, customer, amount_usd) VALUES
        ('{RUN}11', '{RUN}01', '2026-10-01', 'proj_a', 'key_1', 'gpt-4o-mini-2024-07-18, input',
            'direct', '', 'search', 'rank', 'u1', 'Acme, Inc', '1'),
        ('{RUN}11', '{RUN}01', '2026-10-01', 'proj_a', 'key_1', 'gpt-4o-mini-2024-07-18, input',
            'direct', '', 'search', 'rank', 'u2', 'Acme, Inc', '1'),
        ('{RUN}11', '{RUN}01', '2026-10-01', 'proj_a', 'key_1', 'gpt-4o-mini-2024-07-18, input',
            'unattributed', '', '', '', '', '', '1'),
        ('{RUN}11', '{RUN}01', '2026-10-01', 'proj_a', '', 'Vector storage',
            'shared', 'storage', 'search', '', '', '', '{STORAGE}')
    """,
    """
    INSERT INTO billed_lines (day, project, line_item, currency, organization, fetch_id) VALUES
        ('2026-10-01', 'proj_a', 'Vector storage', 'usd', 'org-1', generateUUIDv4())
    """,
    """
    INSERT INTO api_keys (project, project_name, api_key_id, name, seen_at) VALUES
        ('proj_a', 'Shop', 'key_1', 'web', '2026-10-05')
    """,
)
BILLED = Decimal("2.7503219574471554904712345678901234")
ROUNDING = "-0.0003219574471554904712345678901234"
CLOSED = (
    f"""
    INSERT INTO periods (month, state, at, close_id, billed_usd, invoice_id, invoice_usd) VALUES
        ('2026-10-01', 'INVOICE_MATCHED', '2026-11-05', '{CLOSE}', '{BILLED}', 'INV-7', '1206.35')
    """,
    f"""
    INSERT INTO bridge_lines (close_id, month, position, kind, charge_category, charge_class,
        description, amount_usd) VALUES
        ('{CLOSE}', '2026-10-01', 0, 'billed', 'Usage', '', 'billed by Costs', '{BILLED}'),
        ('{CLOSE}', '2026-10-01', 1, 'correction', 'Adjustment', 'Correction', 'of 2026-09', '0.5'),
        ('{CLOSE}', '2026-10-01', 2, 'fee', 'Purchase', '', 'Scale Tier', '1200'),
        ('{CLOSE}', '2026-10-01', 3, 'tax', 'Tax', '', 'VAT 19 %', '8.1'),
        ('{CLOSE}', '2026-10-01', 4, 'credit', 'Credit', '', 'credit applied', '-5'),
        ('{CLOSE}', '2026-10-01', 5, 'rounding', 'Adjustment', '', 'the invoice is in cents',
            '{ROUNDING}'),
        ('{CLOSE}', '2026-10-01', 6, 'opening', '', '', 'balance at the start', '2000'),
        ('{CLOSE}', '2026-10-01', 7, 'closing', '', '', 'balance at the end', '-793.65')
    """,
    f"""
    INSERT INTO adjustments (month, booked_at, original_month, day, project, api_key_id, line_item,
        quantity_unit, locked_run_id, old_usd, new_usd, amount_usd) VALUES
        ('2026-10-01', '2026-10-20', '2026-09-01', '2026-09-30', 'proj_a', 'key_1',
            'gpt-4o-mini-2024-07-18, input', 'tokens', '{RUN}77', '1', '1.5', '0.5')
    """,
)


@pytest.fixture
def ledger(store: Store) -> Store:
    for statement in LEDGER:
        store.command(statement)
    return store


@pytest.fixture
def closed(ledger: Store) -> Store:
    for statement in CLOSED:
        ledger.command(statement)
    return ledger


Rows = list[dict[str, Any]]


def rows_of(path: Path) -> Rows:
    with read(path, COLUMNS) as file:
        return [dict(row) for row in file.rows]


def schema_of(path: Path) -> Any:
    return import_module("pyarrow.parquet").read_schema(path)


def export(store: Store, path: Path, form: Format = "csv") -> Rows:
    export_focus(store, MONTH, path, form, book=BOOK)
    return rows_of(path)


def test_a_month_is_exported_as_it_always_was(ledger: Store, tmp_path: Path, data: Path) -> None:
    path = tmp_path / "focus.csv"
    found = export_focus(ledger, MONTH, path, "csv", book=BOOK)
    assert (found.rows, found.billed_usd, found.state) == (6, BILLED, "OPEN")
    assert found.days_without_bill == (date(2026, 10, 3), *MONTH.days[3:])
    assert path.read_text() == (data / "focus" / "2026-10.csv").read_text()
    assert [file.name for file in tmp_path.iterdir()] == ["focus.csv"]


def test_both_formats_hold_the_same_and_parquet_has_decimals(closed: Store, tmp_path: Path) -> None:
    text = export(closed, tmp_path / "a.csv")
    assert export(closed, tmp_path / "a.parquet", "parquet") == text
    schema = schema_of(tmp_path / "a.parquet")
    assert str(schema.field("BilledCost").type) == "decimal256(76, 40)"  # the storage has 34 digits
    assert str(schema.field("BillingPeriodStart").type) == "timestamp[us, tz=UTC]"


def test_numbers_that_fit_are_as_wide_as_every_reader_knows(store: Store, tmp_path: Path) -> None:
    for statement in LEDGER:
        store.command(
            statement.replace(STORAGE, "0.00032195744715549047").replace(
                "4.0003219574471554904712345678901234", "4.00032195744715549047"
            )
        )
    export(store, tmp_path / "a.parquet", "parquet")
    schema = schema_of(tmp_path / "a.parquet")
    assert str(schema.field("BilledCost").type) == "decimal128(38, 24)"


def test_a_line_is_shared_out_with_its_quantity(ledger: Store, tmp_path: Path) -> None:
    rows = [
        row
        for row in export(ledger, tmp_path / "a.csv")
        if row["x_LineItem"] == "gpt-4o-mini-2024-07-18, input"
    ]
    assert [
        (row["x_Team"], row["x_Customer"], row["x_AttributionMethod"], row["BilledCost"])
        for row in rows
    ] == [(None, None, "unattributed", 1), ("search", "Acme, Inc", "direct", 2)]
    assert sum(row["ConsumedQuantity"] for row in rows) == 20_000_000
    assert sum(row["x_EstimatedCost"] for row in rows) == Decimal("2.9")
    assert sum(row["ListCost"] for row in rows) == 3
    assert {row["ListUnitPrice"] for row in rows} == {Decimal("0.15")}
    assert [json.loads(row["Tags"] or "{}") for row in rows] == [
        {},
        {"customer": "Acme, Inc", "feature": "rank", "team": "search"},
    ]


def test_shares_of_an_older_run_are_not_taken_for_this_one(ledger: Store, tmp_path: Path) -> None:
    ledger.command(f"""
        INSERT INTO recon_runs (run_id, day, run_at, day_state, billed_usd) VALUES
            ('{RUN}05', '2026-10-01', '2026-10-06', 'FINAL', '9')""")
    ledger.command(f"""
        INSERT INTO recon_lines (run_id, day, project, api_key_id, line_item, billed_usd, day_state)
        VALUES ('{RUN}05', '2026-10-01', 'proj_a', '', 'Vector storage', '9', 'FINAL')""")
    (row,) = (
        row for row in export(ledger, tmp_path / "a.csv") if row["x_LineItem"] == "Vector storage"
    )
    assert (row["BilledCost"], row["x_Team"], row["x_AttributionMethod"]) == (9, None, None)


def test_what_the_invoice_states_is_charged_and_the_balance_is_not(
    closed: Store, tmp_path: Path
) -> None:
    rows = export(closed, tmp_path / "a.csv")
    assert sum(row["BilledCost"] for row in rows) == Decimal("1206.35")
    assert {row["InvoiceId"] for row in rows} == {"INV-7"}
    stated = [
        (row["ChargeCategory"], row["ChargeClass"], row["BilledCost"], row["ChargeDescription"])
        for row in rows[6:]
    ]
    assert stated[:-1] == [
        (
            "Adjustment",
            "Correction",
            Decimal("0.5"),
            "correction of gpt-4o-mini-2024-07-18, input on 2026-09-30",
        ),
        ("Purchase", None, 1200, "Scale Tier"),
        ("Tax", None, Decimal("8.1"), "VAT 19 %"),
        ("Credit", None, -5, "credit applied"),
    ]
    assert (rows[6]["ChargePeriodStart"], rows[6]["x_CorrectedMonth"]) == (
        datetime(2026, 9, 30, tzinfo=UTC),
        "2026-09",
    )
    assert stated[-1][0] == "Adjustment"


def test_a_locked_month_gives_what_was_locked(ledger: Store, tmp_path: Path) -> None:
    ledger.command(f"""
        INSERT INTO periods (month, state, at, close_id, billed_usd, invoice_usd, days) VALUES
            ('2026-10-01', 'LOCKED', '2026-11-05', '{CLOSE}', '{BILLED}', '{BILLED}', [
                ('2026-10-01', '{RUN}01', '{RUN}31', '', '{RUN}11'),
                ('2026-10-02', '{RUN}02', '{RUN}32', '', '{RUN}00')])""")
    before = export(ledger, tmp_path / "a.csv")
    ledger.command(f"""
        INSERT INTO recon_runs (run_id, day, run_at, day_state, billed_usd) VALUES
            ('{RUN}05', '2026-10-01', '2026-12-06', 'RESTATED', '9')""")
    assert export(ledger, tmp_path / "b.csv") == before
    assert {row["x_SettlementState"] for row in before} == {"LOCKED"}


def test_a_correction_is_borne_by_who_bore_the_line_as_it_was_locked(
    ledger: Store, tmp_path: Path
) -> None:
    ledger.command(f"""
        INSERT INTO periods (month, state, at, days) VALUES
            ('2026-10-01', 'LOCKED', '2026-11-05', [
                ('2026-10-01', '{RUN}01', '{RUN}31', '', '{RUN}11')])""")
    ledger.command(f"""
        INSERT INTO recon_runs (run_id, day, run_at, day_state, billed_usd) VALUES
            ('{RUN}41', '2026-11-01', '2026-11-20', 'FINAL', '0')""")
    ledger.command("""
        INSERT INTO adjustments (month, booked_at, original_month, day, project, api_key_id,
            line_item, old_usd, new_usd, amount_usd) VALUES
            ('2026-11-01', '2026-11-20', '2026-10-01', '2026-10-01', 'proj_a', 'key_1',
                'gpt-4o-mini-2024-07-18, input', '3', '2.9', '-0.1'),
            ('2026-11-01', '2026-11-20', '2026-10-01', '2026-10-01', 'proj_a', '', 'new', '0', '2', '2')
    """)
    path = tmp_path / "a.csv"
    export_focus(ledger, Month(date(2026, 11, 1)), path, "csv", book=BOOK)
    assert [
        (row["BilledCost"], row["x_Team"], row["x_Customer"], row["x_AttributionMethod"])
        for row in rows_of(path)
    ] == [
        (2, None, None, "unattributed"),
        (Decimal("-0.033333333333"), None, None, "unattributed"),
        (Decimal("-0.066666666667"), "search", "Acme, Inc", "direct"),
    ]


def test_a_file_that_would_be_wrong_is_not_left(ledger: Store, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    export(ledger, path)
    before = path.read_bytes()
    ledger.command(f"""
        INSERT INTO allocations (allocation_id, run_id, day, project, line_item, kind, amount_usd)
        VALUES ('{RUN}11', '{RUN}01', '2026-10-01', 'proj_a', 'Vector storage', 'shared', '0.1')""")
    with pytest.raises(
        Rejected, match=r"BilledCost: the rows add up to 2\.85.*, the ledger to 2\.75"
    ):
        export(ledger, path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.csv"]


def test_a_row_that_breaks_a_rule_is_named(
    ledger: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*of: Any) -> Any:
        return ({**row, "ServiceName": None} for row in line_rows(*of))

    monkeypatch.setattr("costspan_reconcile.focus.export.line_rows", wrong)
    with pytest.raises(Rejected, match="row 1, ServiceName: must not be null"):
        export(ledger, tmp_path / "a.csv")
    assert not [*tmp_path.iterdir()]


def test_a_month_of_which_nothing_is_known_says_what_to_do(store: Store, tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="nothing of 2026-10 is reconciled: run `costspan reconcile"):
        export(store, tmp_path / "a.csv")


def test_a_bill_that_names_no_organization_asks_for_it(ledger: Store, tmp_path: Path) -> None:
    ledger.command("TRUNCATE TABLE billed_lines")
    with pytest.raises(Rejected, match="say --account ID"):
        export(ledger, tmp_path / "a.csv")
    export_focus(ledger, MONTH, tmp_path / "a.csv", "csv", book=BOOK, account="org-9")
    assert {row["BillingAccountId"] for row in rows_of(tmp_path / "a.csv")} == {"org-9"}


def test_a_month_that_was_read_and_compared_is_exported(
    store: Store, provider: Any, tmp_path: Path
) -> None:
    day, now = date(2026, 10, 1), datetime(2026, 10, 3, 9, tzinfo=UTC)
    amounts = ["0.15", "0.0001050000000000000000000000000000001", "0E-6176", "-3.25"]
    items = [f"gpt-4o-mini-2024-07-18, {kind}" for kind in ("input", "output", "cached input")]
    for item, amount in zip([*items, "Promotional credit"], amounts, strict=True):
        provider.charge(day, item, amount, quantity=1_000_000, quantity_unit="tokens")
    settings = Reconcile(admin_key=SecretStr(provider.ADMIN_KEY), base_url=provider.url)
    fetch(store, settings, day, day + timedelta(days=1), now).check()
    reconcile_days(store, day, day + timedelta(days=1), now)
    path = tmp_path / "a.csv"
    found = export_focus(store, MONTH, path, "csv", book=BOOK, account="org-1")
    assert {row["BilledCost"] for row in rows_of(path)} == set(map(Decimal, amounts))
    assert found.billed_usd == Decimal("-3.0998949999999999999999999999999999999")


Run = Callable[..., int]


@pytest.fixture
def run(ledger: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.setenv("COSTSPAN_CLICKHOUSE_URL", ledger.url)
    monkeypatch.chdir(tmp_path)
    parser = argparse.ArgumentParser()
    add_export(parser.add_subparsers())

    def run(*arguments: str) -> int:
        parsed = parser.parse_args(["export", *arguments])
        return parsed.run(parsed)

    return run


def test_the_command_writes_a_file_and_checks_it(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("focus", "--month", "2026-10") == 0
    said = capsys.readouterr().out
    assert (
        "focus-2026-10.csv: 2026-10 is OPEN, 6 rows, 2.7503219574471554904712345678901234" in said
    )
    assert "29 days between 2026-10-03 and 2026-10-31 have no bill yet" in said
    written = (tmp_path / "focus-2026-10.csv").read_bytes()
    assert f"sha256 of the file: {hashlib.sha256(written).hexdigest()}" in said
    assert run("focus", "--month", "2026-10", "--out", "b.parquet", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["rows"], told["billed_usd"], told["path"]) == (6, str(BILLED), "b.parquet")
    assert run("check", "b.parquet") == 0
    assert "FOCUS 1.2 holds: 6 rows" in capsys.readouterr().out

    path = tmp_path / "focus-2026-10.csv"
    path.write_text(path.read_text().replace(",USD,", ",usd,", 1))
    assert run("check", path.name) == 1
    assert "row 1, BillingCurrency: must be a code of ISO 4217" in capsys.readouterr().out
    assert run("check", path.name, "--json") == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["holds"], told["faults"][0]["column"]) == (False, "BillingCurrency")


@pytest.mark.parametrize("month", ["2026-13", "October", "2026-10-01"])
def test_a_month_that_is_none_is_wrong_use(run: Run, month: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        run("focus", "--month", month)
    assert stopped.value.code == 2


CALL = Call(
    started_at=datetime(2026, 10, 1, 12, tzinfo=UTC),
    trace_id=b"t" * 16,
    span_id=b"s" * 8,
    team="search",
    input_tokens=10,
    cost_usd=Decimal("0.0000015"),
    received_at=datetime(2026, 10, 1, 12, tzinfo=UTC),
    ingest_id=1,
)


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_calls_are_exported_once_and_without_content(
    store: Store, tmp_path: Path, form: Format
) -> None:
    late = replace(CALL, started_at=CALL.started_at + timedelta(days=1), span_id=b"l" * 8)
    other = replace(CALL, span_id=b"u" * 8, input_tokens=None, cost_usd=None)
    store.insert("calls", [CALL, other, late])
    store.insert("calls", [replace(CALL, ingest_id=2)])
    path = tmp_path / f"calls.{form}"
    assert export_calls(store, date(2026, 10, 1), date(2026, 10, 2), path, form) == 2
    if form == "csv":
        with path.open(newline="") as file:
            known, unknown = csv.DictReader(file)
        assert known["started_at"] == "2026-10-01T12:00:00Z"
        assert (known["trace_id"], known["team"]) == ("74" * 16, "search")
        assert (known["input_tokens"], known["cost_usd"]) == ("10", "0.0000015")
        assert (unknown["input_tokens"], unknown["cost_usd"]) == ("", "")
    else:
        known, unknown = rows_of(path)
        assert (known["input_tokens"], known["cost_usd"]) == (10, Decimal("0.0000015"))
        assert (unknown["input_tokens"], unknown["cost_usd"]) == (None, None)


def test_the_calls_command_says_how_many(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("calls", "--since", "2026-10-01", "--until", "2026-10-02") == 0
    assert "0 calls from 2026-10-01 up to 2026-10-02" in capsys.readouterr().out
    with pytest.raises(Rejected, match="there is no day from 2026-10-02 up to 2026-10-02"):
        run("calls", "--since", "2026-10-02", "--until", "2026-10-02")


def test_a_place_that_cannot_be_written_to_is_told(ledger: Store, tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="cannot write"):
        export(ledger, tmp_path / "no" / "a.csv")
