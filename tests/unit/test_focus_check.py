"""Every rule of the checker finds the fault that it is there for, and says where."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from costspan.errors import Rejected
from costspan.pricing import default_book
from costspan_reconcile.book_prices import Prices
from costspan_reconcile.focus.charges import Bill, Books, Line, bridge_row, line_rows
from costspan_reconcile.focus.check import _RULES, Fault, check
from costspan_reconcile.focus.columns import COLUMNS
from costspan_reconcile.focus.export import check_file
from costspan_reconcile.focus.files import write
from costspan_reconcile.period.bridge import BridgeLine
from costspan_reconcile.period.month import Month

NAMES = [column.name for column in COLUMNS]
BILL = Bill(Month(date(2026, 10, 1)), "CLOSING", "org-1", "2026-10-provisional")
PRICES = Prices(default_book())
DAY = datetime(2026, 10, 5, tzinfo=UTC)


def usage() -> dict[str, Any]:
    line = Line(
        day=date(2026, 10, 5),
        project="proj_a",
        project_name="Shop",
        api_key_id="key_1",
        key_name="web",
        line_item="gpt-4o-mini-2024-07-18, input",
        quantity_unit="tokens",
        billed_usd=Decimal("0.15"),
        billed_quantity=Decimal(1_000_000),
        estimated_usd=Decimal("0.149"),
        cause="MATCHED",
        verdict="MATCHED",
        day_state="FINAL",
        shares=(("search", "rank", "", "direct", "", Decimal("0.15")),),
    )
    (row,) = line_rows(BILL, line, Books(PRICES, PRICES))
    return dict(row)


def stated(kind: str, category: str, usd: str) -> dict[str, Any]:
    line = BridgeLine(
        UUID(int=1), BILL.month.first, 1, kind, category, "", f"a {kind}", Decimal(usd), ""
    )
    return dict(bridge_row(BILL, line))


TAX = stated("tax", "Tax", "8.10")
FEE = stated("fee", "Purchase", "1200")
CREDIT = stated("credit", "Credit", "-5")


def test_right_rows_have_no_fault() -> None:
    checked = check(NAMES, [usage(), TAX, FEE, CREDIT])
    assert checked.faults == ()
    assert (checked.rows, checked.billed_usd) == (4, Decimal("1203.25"))


MANDATORY = """
    BilledCost BillingAccountId BillingAccountName BillingCurrency BillingPeriodEnd
    BillingPeriodStart ChargeCategory ChargeClass ChargeDescription ChargePeriodEnd
    ChargePeriodStart ContractedCost EffectiveCost InvoiceIssuerName ListCost PricingQuantity
    PricingUnit ProviderName PublisherName ServiceCategory ServiceName
    """
EMPTY = {"BillingAccountName", "ChargeClass", "ChargeDescription", "PricingQuantity", "PricingUnit"}


def test_every_mandatory_column_is_there_and_filled_where_it_must_be() -> None:
    columns = {column.name: column for column in COLUMNS}
    mandatory = {columns[name] for name in MANDATORY.split()}
    assert {column.name for column in mandatory if column.nullable} == EMPTY


NOT_OF_A_KIND: list[tuple[str, Any, str]] = [
    ("BilledCost", None, "must not be null"),
    ("BilledCost", "1,000.00", "'1,000.00' is not a decimal number"),
    ("BilledCost", 0.1, "'0.1' is not a decimal number"),
    ("BilledCost", 1, "'1' is not a decimal number"),
    ("BilledCost", Decimal("NaN"), "'NaN' is not a decimal number"),
    ("ChargePeriodStart", "2026-10-05", "'2026-10-05' is not a time"),
    ("ChargePeriodStart", datetime(2026, 10, 5), "is not a time"),  # noqa: DTZ001 - the fault
    ("Tags", "{'team': 'search'}", "is not a JSON object"),
    ("Tags", '["search"]', "is not a JSON object"),
    ("Tags", '{"team": ["search"]}', "is not a JSON object"),
    ("x_Team", "", "'' is not a text"),
    ("ChargeCategory", "usage", "'usage' is none of Adjustment, Credit"),
    ("ChargeClass", "correction", "'correction' is none of Correction"),
    ("ChargeFrequency", "Daily", "'Daily' is none of One-Time"),
    ("PricingCategory", "On-Demand", "'On-Demand' is none of Committed"),
    ("ServiceCategory", "AI", "'AI' is none of AI and Machine Learning"),
    ("ServiceSubcategory", "LLM", "'LLM' is none of Bots"),
    ("CommitmentDiscountStatus", "used", "'used' is none of Unused, Used"),
    *(
        (column.name, None, "must not be null")
        for column in COLUMNS
        if not column.nullable and column.name != "BilledCost"
    ),
]


@pytest.mark.parametrize(("column", "value", "says"), NOT_OF_A_KIND)
def test_a_value_that_its_column_may_not_have_is_found(column: str, value: Any, says: str) -> None:
    wrong = {**usage(), column: value}
    (fault,) = check(NAMES, [usage(), wrong]).faults
    assert (fault.row, fault.column) == (2, column)
    assert says in fault.rule


BROKEN: list[tuple[dict[str, Any], dict[str, Any], str, str]] = [
    (usage(), {"BillingCurrency": "usd"}, "BillingCurrency", "ISO 4217"),
    (usage(), {"PricingCurrency": "usd"}, "PricingCurrency", "ISO 4217"),
    (usage(), {"BillingPeriodStart": DAY}, "BillingPeriodStart", "begin a calendar month"),
    (usage(), {"ChargePeriodEnd": DAY}, "ChargePeriodEnd", "must be after"),
    (
        usage(),
        {"ChargePeriodStart": datetime(2026, 9, 30, tzinfo=UTC)},
        "ChargePeriodStart",
        "must be in the billing period",
    ),
    (FEE, {"ChargeFrequency": "Usage-Based"}, "ChargeFrequency", "not be Usage-Based"),
    (usage(), {"CommitmentDiscountStatus": "Used"}, "CommitmentDiscountStatus", "must be null"),
    (
        usage(),
        {"ConsumedQuantity": None, "ConsumedUnit": None},
        "ConsumedQuantity",
        "must not be null where ChargeCategory is Usage",
    ),
    (
        FEE,
        {"ConsumedQuantity": Decimal(1), "ConsumedUnit": "Fees"},
        "ConsumedQuantity",
        "must be null where ChargeCategory is not Usage",
    ),
    (usage(), {"ConsumedQuantity": Decimal(-1)}, "ConsumedQuantity", "not be negative"),
    (usage(), {"ConsumedUnit": None}, "ConsumedUnit", "must be null where ConsumedQuantity is"),
    (
        usage(),
        {"PricingQuantity": None, "PricingUnit": None},
        "PricingQuantity",
        "must not be null where",
    ),
    (
        TAX,
        {"PricingQuantity": Decimal(1), "PricingUnit": "Taxes"},
        "PricingQuantity",
        "must be null where",
    ),
    (usage(), {"PricingUnit": None}, "PricingUnit", "must be null where PricingQuantity is"),
    (usage(), {"PricingCategory": None}, "PricingCategory", "must not be null where"),
    (TAX, {"PricingCategory": "Standard"}, "PricingCategory", "must be null where"),
    (
        FEE,
        {"ListUnitPrice": None, "PricingCurrencyListUnitPrice": None},
        "ListUnitPrice",
        "must not be null where",
    ),
    (
        TAX,
        {"ListUnitPrice": Decimal(1), "PricingCurrencyListUnitPrice": Decimal(1)},
        "ListUnitPrice",
        "must be null where",
    ),
    (
        FEE,
        {"ContractedUnitPrice": None, "PricingCurrencyContractedUnitPrice": None},
        "ContractedUnitPrice",
        "must not be null where",
    ),
    (
        TAX,
        {"ContractedUnitPrice": Decimal(1), "PricingCurrencyContractedUnitPrice": Decimal(1)},
        "ContractedUnitPrice",
        "must be null where",
    ),
    (
        FEE,
        {
            "ListUnitPrice": Decimal(-1),
            "PricingCurrencyListUnitPrice": Decimal(-1),
            "ListCost": Decimal(-1),
        },
        "ListUnitPrice",
        "not be negative",
    ),
    (
        FEE,
        {
            "ContractedUnitPrice": Decimal(-1),
            "PricingCurrencyContractedUnitPrice": Decimal(-1),
            "ContractedCost": Decimal(-1),
        },
        "ContractedUnitPrice",
        "not be negative",
    ),
    (usage(), {"ListCost": Decimal("0.2")}, "ListCost", "ListUnitPrice times PricingQuantity"),
    (
        usage(),
        {"ContractedCost": Decimal("0.2")},
        "ContractedCost",
        "ContractedUnitPrice times PricingQuantity",
    ),
    (CREDIT, {"ListCost": Decimal(-4)}, "ListCost", "must be BilledCost"),
    (CREDIT, {"ContractedCost": Decimal(-4)}, "ContractedCost", "must be BilledCost"),
    (
        usage(),
        {"SkuId": None, "SkuMeter": None, "SkuPriceId": None, "SkuPriceDetails": None},
        "SkuId",
        "must not be null where",
    ),
    (TAX, {"SkuId": "tax", "SkuMeter": "Tax"}, "SkuId", "must be null where"),
    (
        usage(),
        {"SkuPriceId": None, "SkuPriceDetails": None},
        "SkuPriceId",
        "must not be null where",
    ),
    (
        TAX,
        {"SkuId": "t", "SkuMeter": "t", "SkuPriceId": "t"},
        "SkuPriceId",
        "must be null where ChargeCategory is Tax",
    ),
    (CREDIT, {"SkuPriceId": "t"}, "SkuPriceId", "must be null where SkuId is"),
    (usage(), {"SkuMeter": None}, "SkuMeter", "must be null where SkuId is"),
    (CREDIT, {"SkuPriceDetails": "{}"}, "SkuPriceDetails", "must be null where SkuPriceId is"),
    (TAX, {"SubAccountName": "Shop"}, "SubAccountName", "must be null where SubAccountId is"),
    (usage(), {"SubAccountType": None}, "SubAccountType", "must be null where SubAccountId is"),
    (
        usage(),
        {"PricingCurrencyListUnitPrice": Decimal(1)},
        "PricingCurrencyListUnitPrice",
        "must be ListUnitPrice",
    ),
    (
        usage(),
        {"PricingCurrencyContractedUnitPrice": None},
        "PricingCurrencyContractedUnitPrice",
        "must be ContractedUnitPrice",
    ),
    (
        usage(),
        {"PricingCurrencyEffectiveCost": Decimal(1)},
        "PricingCurrencyEffectiveCost",
        "must be EffectiveCost",
    ),
]


@pytest.mark.parametrize(("row", "change", "column", "says"), BROKEN)
def test_a_row_that_breaks_a_rule_is_found(
    row: dict[str, Any], change: dict[str, Any], column: str, says: str
) -> None:
    faults = check(NAMES, [usage(), {**row, **change}]).faults
    assert any(
        fault.row == 2 and fault.column == column and says in fault.rule for fault in faults
    ), faults


def test_every_rule_has_a_row_that_breaks_it() -> None:
    broken = {
        (rule.column, rule.says)
        for row, change, *_ in BROKEN
        for rule in _RULES
        if not rule.holds({**row, **change})
    }
    assert {(rule.column, rule.says) for rule in _RULES} == broken


def test_a_correction_may_be_of_another_month_and_without_a_quantity() -> None:
    row = {
        **usage(),
        "ChargeClass": "Correction",
        "ChargePeriodStart": datetime(2026, 9, 5, tzinfo=UTC),
        "ChargePeriodEnd": datetime(2026, 9, 6, tzinfo=UTC),
        "PricingQuantity": None,
        "PricingUnit": None,
    }
    assert check(NAMES, [row]).faults == ()


def test_a_column_that_is_not_there_is_told_of_the_header() -> None:
    names = [name for name in NAMES if name != "ServiceName"]
    row = {name: value for name, value in usage().items() if name != "ServiceName"}
    assert check(names, [row]).faults == (
        Fault(0, "ServiceName", "is not in the file and must be"),
    )


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Team", "is no column of FOCUS 1.2"),
        ("x_team", "is no column of FOCUS 1.2"),
        ("SkuId", "is in the file twice"),
    ],
)
def test_a_column_too_many_is_told_of_the_header(name: str, says: str) -> None:
    (fault,) = check([*NAMES, name], [{**usage(), name: usage().get(name, "a")}]).faults
    assert (fault.row, fault.column) == (0, name)
    assert says in fault.rule


def test_a_hundred_faults_are_counted_and_twenty_told() -> None:
    checked = check(NAMES, [{**usage(), "BillingCurrency": "usd"}] * 100)
    assert (len(checked.faults), checked.more_faults) == (20, 80)


def in_file(path: Path, rows: Sequence[Any]) -> Path:
    form = "parquet" if path.suffix == ".parquet" else "csv"
    write(path, form, COLUMNS, lambda: rows)
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_a_file_is_checked_as_its_rows_are(tmp_path: Path, name: str) -> None:
    path = in_file(tmp_path / name, [usage(), TAX, FEE, CREDIT])
    checked = check_file(path, Decimal("1203.25"))
    assert (checked.rows, checked.billed_usd, checked.faults) == (4, Decimal("1203.25"), ())

    (fault,) = check_file(path, Decimal("1203.250000000000000001")).faults
    assert str(fault) == (
        "BilledCost: the rows add up to 1203.25, the ledger to 1203.250000000000000001"
    )
    wrong = in_file(tmp_path / name, [usage(), {**TAX, "BillingCurrency": "usd"}])
    (fault,) = check_file(wrong).faults
    assert str(fault) == "row 2, BillingCurrency: must be a code of ISO 4217 such as USD"


def test_a_float_in_a_parquet_file_is_a_fault(tmp_path: Path) -> None:
    arrow, parquet = (import_module(name) for name in ("pyarrow", "pyarrow.parquet"))
    table = arrow.Table.from_pylist([{**usage(), "BilledCost": 0.15}])
    parquet.write_table(table, tmp_path / "a.parquet")
    (fault,) = check_file(tmp_path / "a.parquet").faults
    assert (fault.column, fault.rule[:5]) == ("BilledCost", "'0.15")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\xff\xfe", "neither CSV in UTF-8 nor Parquet"),
        (b"PAR1 and then nothing", "no whole Parquet file"),
        (b"A,B\r\n1\r\n", "row 1: 1 cells under 2 columns"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    with pytest.raises(Rejected, match=says):
        check_file(path)


def test_an_empty_file_lacks_every_column(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"")
    checked = check_file(path)
    assert (checked.rows, len(checked.faults) + checked.more_faults) == (0, 44)
