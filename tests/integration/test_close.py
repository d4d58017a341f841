"""A month from its first reading to the lock, and what comes after it, in the real engine."""

import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from costspan.cli import main
from costspan.errors import Rejected
from costspan_collector.store import Store
from costspan_reconcile import queries
from costspan_reconcile.fetch import fetch
from costspan_reconcile.period import pack
from costspan_reconcile.period.adjustments import adjustments, book_adjustments
from costspan_reconcile.period.bridge import Invoice, Kind, read_entry
from costspan_reconcile.period.close import bridge, close_month, evidence_pack, preview
from costspan_reconcile.period.month import Month, month_of
from costspan_reconcile.period.states import advance_all, month_row, steps
from costspan_reconcile.period.verify import Verified, verify
from costspan_reconcile.reconcile import reconcile_days
from costspan_reconcile.settings import Reconcile

MONTH = Month(date(2026, 10, 1))
FIRST_READ = datetime(2026, 11, 4, 9, tzinfo=UTC)
CLOSED_AT = FIRST_READ + timedelta(hours=25)
LATER = datetime(2026, 11, 20, 12, tzinfo=UTC)
ITEM = "gpt-4o-mini-2024-07-18, input"
STORAGE = "0.00032195744715549047"
BILLED = 31 * (Decimal("1.25") + Decimal(STORAGE))


@dataclass(frozen=True)
class Audited:
    at: datetime
    actor: str
    action: str
    subject: str


FINAL = pytest.mark.usefixtures("final")
Read = Callable[[datetime], None]


@pytest.fixture
def settings(provider: Any) -> Reconcile:
    for day in MONTH.days:
        provider.charge(day, ITEM, "1.25", quantity=1, quantity_unit="tokens")
        provider.charge(day, "Vector storage", STORAGE)
    provider.count(MONTH.first, "gpt-4o", input_tokens=5, num_model_requests=1)
    return Reconcile(admin_key=SecretStr(provider.ADMIN_KEY), base_url=provider.url)


@pytest.fixture
def read(store: Store, settings: Reconcile) -> Read:
    """Read the whole month and compare it."""

    def read(now: datetime) -> None:
        fetch(store, settings, MONTH.first, MONTH.until, now).check()
        reconcile_days(store, MONTH.first, MONTH.until, now)

    return read


@pytest.fixture
def final(
    store: Store,
    settings: Reconcile,
    read: Read,
    remembered: Callable[[str, Callable[[], None]], None],
) -> None:
    """A month whose days were read twice, a day apart, and did not change."""

    def fill() -> None:
        fetch(store, settings, MONTH.first, MONTH.until, FIRST_READ).check()
        read(CLOSED_AT)

    remembered("october", fill)


def invoice(total: str, *entries: tuple[Kind, str], number: str = "INV-7") -> Invoice:
    stated = tuple(read_entry(kind, text) for kind, text in entries)
    return Invoice(number, Fraction(total), stated)


def close(store: Store, **more: Any) -> str:
    return close_month(store, MONTH, CLOSED_AT, "fin", **more).state


_SHARED_OUT = (
    """
    INSERT INTO allocations
        (allocation_id, run_id, day, project, api_key_id, line_item, kind, amount_usd)
    SELECT run_id, run_id, day, project, api_key_id, line_item, 'unattributed', billed_usd
    FROM current_recon_lines
    """,
    """
    INSERT INTO allocation_runs (allocation_id, day, run_id, run_at, frozen, billed_usd)
    SELECT run_id, day, run_id, run_at, true, billed_usd FROM current_recon_days
    """,
)


def share_out(store: Store) -> None:
    """Share every day out, to nobody: quicker than the shares of 31 days."""
    for statement in _SHARED_OUT:
        store.command(statement)


def lock(store: Store) -> None:
    share_out(store)
    close(store, invoice=invoice("38.76"), sign=True)


def faults(found: Verified) -> dict[str, tuple[str, ...]]:
    return {check.name: check.faults for check in found.checks if check.faults}


@FINAL
def test_a_month_goes_from_open_to_locked_step_by_step(store: Store) -> None:
    assert advance_all(store, CLOSED_AT) == ["month 2026-10 is CLOSING"]
    assert close(store, invoice=invoice("38.76")) == "INVOICE_MATCHED"
    share_out(store)
    assert close(store, sign=True) == "LOCKED"
    assert [(step.state, step.actor) for step in steps(store, MONTH)] == [
        ("CLOSING", "costspan"),
        ("INVOICE_MATCHED", "fin"),
        ("LOCKED", "fin"),
    ]
    row = month_row(store, MONTH)
    assert row is not None
    assert (row.billed_usd, row.invoice_usd, row.final_days) == (BILLED, Decimal("38.76"), 31)
    audit = store.select(
        "SELECT at, actor, action, subject FROM audit_log ORDER BY action", Audited
    )
    assert {row.action for row in audit} == {
        "period.closing",
        "period.invoice_matched",
        "period.locked",
    }
    assert {row.subject for row in audit} == {"2026-10"}

    assert close(store, invoice=invoice("38.76"), sign=True) == "LOCKED"
    with pytest.raises(Rejected, match="was locked by fin on 2026-11-05 10:00 UTC and stays"):
        close(store, invoice=invoice("39.00", (Kind.TAX, "0.24")))
    assert len(steps(store, MONTH)) == 3
    assert evidence_pack(store, MONTH) == evidence_pack(store, MONTH)


def test_a_month_with_a_day_that_is_not_final_is_not_closed(store: Store, read: Read) -> None:
    read(FIRST_READ)
    with pytest.raises(Rejected, match="31 days .* are not final yet"):
        close_month(store, MONTH, FIRST_READ, "fin")
    row = month_row(store, MONTH)
    assert row is not None
    assert row.state == "OPEN"


def test_days_to_come_are_not_days_that_were_missed(store: Store) -> None:
    now = datetime(2026, 10, 20, 12, tzinfo=UTC)
    missed, to_come = preview(store, MONTH, None, now).missing
    assert missed == "20 days (2026-10-01 to 2026-10-20) are never reconciled"
    assert to_come == "11 days (2026-10-21 to 2026-10-31) are still to come"


def test_a_month_of_which_nothing_is_known_says_so(store: Store) -> None:
    with pytest.raises(Rejected, match="31 days .* are never reconciled"):
        close(store)


@FINAL
def test_an_invoice_that_does_not_tie_says_what_is_missing_and_by_how_much(
    store: Store,
) -> None:
    with pytest.raises(
        Rejected,
        match=r"is 46\.12 USD and the ledger gives 38\.759980.* \$7\.36.* too little .*--tax",
    ):
        close(store, invoice=invoice("46.12"))
    assert [step.state for step in steps(store, MONTH)] == ["CLOSING"]


@FINAL
def test_tax_fees_credits_and_rounding_are_lines_of_the_bridge_to_the_last_digit(
    store: Store,
) -> None:
    close(
        store,
        invoice=invoice(
            "1041.12",
            (Kind.TAX, "VAT 19 %=7.36"),
            (Kind.FEE, "Scale Tier=1000"),
            (Kind.CREDIT, "5"),
        ),
    )
    row = month_row(store, MONTH)
    assert row is not None
    lines = bridge(store, row.close_id)
    assert [(line.kind, line.charge_category, line.amount_usd) for line in lines] == [
        ("billed", "Usage", BILLED),
        ("tax", "Tax", Decimal("7.36")),
        ("fee", "Purchase", 1000),
        ("credit", "Credit", -5),
        ("rounding", "Adjustment", Decimal("38.76") - BILLED),
    ]
    assert sum(Fraction(line.amount_usd) for line in lines) == Fraction("1041.12")


@FINAL
def test_a_prepaid_balance_is_rolled_forward(store: Store) -> None:
    prepaid = Invoice(
        "",
        None,
        (
            read_entry(Kind.OPENING, "20"),
            read_entry(Kind.PURCHASE, "receipt 1=50.00"),
            read_entry(Kind.EXPIRED, "1.24"),
            read_entry(Kind.CLOSING, "30"),
        ),
    )
    with pytest.raises(Rejected, match="--opening and --closing, once each"):
        replace(prepaid, entries=prepaid.entries[:-1])
    close(store, invoice=prepaid)
    row = month_row(store, MONTH)
    assert row is not None
    assert row.invoice_usd == Decimal("38.76")
    assert [(line.kind, line.amount_usd) for line in bridge(store, row.close_id)] == [
        ("billed", BILLED),
        ("rounding", Decimal("38.76") - BILLED),
        ("opening", 20),
        ("purchase", 50),
        ("expired", Decimal("-1.24")),
        ("closing", -30),
    ]


@FINAL
def test_a_bill_that_changes_after_the_match_takes_the_month_back(
    store: Store, provider: Any, read: Read
) -> None:
    close(store, invoice=invoice("38.76"))
    provider.bill[MONTH.first][0]["amount"] = "2.25"
    read(CLOSED_AT + timedelta(hours=1))
    assert advance_all(store, CLOSED_AT) == ["month 2026-10 is OPEN"]
    *_, last = steps(store, MONTH)
    assert last.reason == "the bill changed after the invoice was matched"
    read(CLOSED_AT + timedelta(hours=26))
    assert advance_all(store, CLOSED_AT) == ["month 2026-10 is CLOSING"]
    with pytest.raises(Rejected, match="state its invoice first"):
        close_month(store, MONTH, CLOSED_AT + timedelta(hours=26), "fin", sign=True)


@FINAL
def test_a_change_after_the_lock_is_owed_by_the_open_month_and_the_locked_lines_stay(
    store: Store, provider: Any, read: Read
) -> None:
    lock(store)
    before = queries.recon_lines(store, MONTH.first, MONTH.until)
    shares = evidence_pack(store, MONTH)
    provider.bill[MONTH.first][0]["amount"] = "1.75"
    provider.charge(MONTH.days[4], "Promotional credit", "-0.25")
    del provider.bill[MONTH.days[9]][1]

    read(LATER)
    booked = book_adjustments(store, LATER)

    assert [(row.day.day, row.line_item, row.amount_usd) for row in booked] == [
        (1, ITEM, Decimal("0.5")),
        (5, "Promotional credit", Decimal("-0.25")),
        (10, "Vector storage", -Decimal(STORAGE)),
    ]
    assert {row.month for row in booked} == {date(2026, 11, 1)}
    assert {row.original_month for row in booked} == {MONTH.first}
    assert book_adjustments(store, LATER) == []
    assert adjustments(store, month_of(LATER.date())) == booked
    assert queries.recon_lines(store, MONTH.first, MONTH.until) == before
    assert evidence_pack(store, MONTH) == shares

    provider.bill[MONTH.first][0]["amount"] = "1.25"
    read(LATER + timedelta(hours=1))
    (back,) = book_adjustments(store, LATER + timedelta(hours=1))
    assert (back.old_usd, back.new_usd, back.amount_usd) == (
        Decimal("1.75"),
        Decimal("1.25"),
        Decimal("-0.5"),
    )


@FINAL
def test_a_month_without_an_invoice_is_not_signed_and_has_no_pack(
    store: Store,
) -> None:
    with pytest.raises(Rejected, match="state its invoice first"):
        close(store, sign=True)
    with pytest.raises(Rejected, match="is not locked"):
        evidence_pack(store, MONTH)


@FINAL
def test_the_commands_close_a_month_and_prove_it(
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COSTSPAN_CLICKHOUSE_URL", store.url)
    monkeypatch.setenv("COSTSPAN_ACTOR", "the controller")
    (tmp_path / "invoice.pdf").write_bytes(b"%PDF of the invoice")
    (tmp_path / "other.pdf").write_bytes(b"%PDF of another")
    zipped = str(tmp_path / "2026-10.zip")

    def run(*arguments: str) -> tuple[int, str]:
        status = main(["reconcile", *arguments])
        told = capsys.readouterr()
        return status, told.out + told.err

    def told(*arguments: str) -> Any:
        status, text = run(*arguments, "--json")
        assert status == 0, text
        return json.loads(text)

    stated = ["close", "2026-10", "--invoice-total", "46.12", "--tax", "VAT=7.36"]
    status, text = run("close", "2026-10", "--dry-run")
    assert (status, text.splitlines()[-2].split()) == (0, ["charged", "so", "far", f"{BILLED:f}"])
    assert run("close", "2026-10")[1].startswith("2026-10 is CLOSING, by the controller at ")
    status, text = run(*stated, "--credit", "7", "--dry-run")
    assert (status, "$7.000019319138 too little in the ledger" in text) == (1, True)
    assert "a preview: nothing was kept" in text
    assert run(*stated, "--dry-run")[0] == 0
    assert [step.state for step in steps(store, MONTH)] == ["CLOSING"]

    matched = told(*stated, "--invoice", str(tmp_path / "invoice.pdf"), "--invoice-id", "INV-7")
    assert (matched["state"], matched["invoice_usd"]) == ("INVOICE_MATCHED", "46.12")
    assert [line["amount_usd"] for line in matched["bridge"]] == [
        f"{BILLED:f}",
        "7.36",
        f"{Decimal('38.76') - BILLED:f}",
    ]
    status, text = run("close", "2026-10", "--dry-run")  # with what was stated
    assert (status, text.splitlines()[-2].split()[0]) == (0, "invoice")
    assert f"{Decimal('38.76') - BILLED:f}" in text
    status, text = run("close", "2026-10", "--sign", "--by", "fin", "--pack", zipped)
    assert status == 0, text
    assert text.startswith("2026-10 is LOCKED, by fin at ")
    assert f"check it with `costspan reconcile verify {zipped}`" in text

    monkeypatch.setenv("COSTSPAN_CLICKHOUSE_URL", "chdb:///dev/null/no/store")
    proven = told("verify", zipped, "--invoice", str(tmp_path / "invoice.pdf"))
    assert (proven["holds"], proven["invoice_usd"]) == (True, "46.12")
    assert b"%PDF" not in Path(zipped).read_bytes()
    status, text = run("verify", zipped, "--invoice", str(tmp_path / "other.pdf"))
    assert status == 1
    assert "FAILED  the invoice is the file it was closed with" in text
    assert text.endswith("the pack does not hold\n")


Tamper = Callable[[dict[str, str]], None]
_PACKS: list[bytes] = []


@pytest.fixture
def packed(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The pack of a locked month, made once: what is done to it needs no store."""
    if not _PACKS:
        store: Store = request.getfixturevalue("store")
        request.getfixturevalue("final")
        lock(store)
        _PACKS.append(evidence_pack(store, MONTH))
    path = tmp_path / "pack.zip"
    path.write_bytes(_PACKS[0])
    return path


def unpacked(path: Path) -> dict[str, str]:
    with zipfile.ZipFile(path) as source:
        return {name: source.read(name).decode() for name in source.namelist()}


def repacked(path: Path, texts: dict[str, str]) -> None:
    with zipfile.ZipFile(path, "w") as target:
        for name, text in texts.items():
            target.writestr(name, text)


def edit(name: str, change: Callable[[dict[str, Any]], None], row: int = 0) -> Tamper:
    """Change one row of the first document whose name begins so."""

    def tamper(texts: dict[str, str]) -> None:
        document = min(each for each in texts if each.startswith(name))
        lines = texts[document].splitlines()
        content = json.loads(lines[row])
        change(content)
        lines[row] = json.dumps(content)
        texts[document] = "\n".join([*lines, ""])

    return tamper


def drop(name: str) -> Tamper:
    """Take the last row of the first document away whose name begins so."""

    def tamper(texts: dict[str, str]) -> None:
        document = min(each for each in texts if each.startswith(name))
        texts[document] = "\n".join([*texts[document].splitlines()[:-1], ""])

    return tamper


def read_once(texts: dict[str, str]) -> None:
    """Take the second reading of every day away."""
    rows = [json.loads(line) for line in texts["bill/readings.jsonl"].splitlines()]
    first = min(row["fetched_at"] for row in rows)
    texts["bill/readings.jsonl"] = "".join(
        json.dumps(row) + "\n" for row in rows if row["fetched_at"] == first
    )


def another_total(texts: dict[str, str]) -> None:
    stated = json.loads(texts["close/invoice.json"])
    texts["close/invoice.json"] = json.dumps({**stated, "usd": "9"})


def not_drawn(texts: dict[str, str]) -> None:
    stated = json.loads(texts["close/invoice.json"])
    texts["close/invoice.json"] = json.dumps({**stated, "prepaid": True})


def lose_the_runs(texts: dict[str, str]) -> None:
    del texts["reconciliation/runs.jsonl"]


@pytest.mark.parametrize(
    ("tamper", "check", "says"),
    [
        (edit("fetches/chain", lambda row: row.update(page=7)), "chain", "hash is not that of"),
        (edit("fetches/bodies", lambda row: row.update(x=1)), "raw answer is", "was changed"),
        (
            edit("bill/lines", lambda row: row.update(amount_usd="9")),
            "raw answers say",
            f"'{STORAGE}' was sent, 9 is in the books",
        ),
        (
            edit("bill/lines", lambda row: row.update(amount="9", amount_usd="9")),
            "raw answers say",
            f"Vector storage: the raw answers say {STORAGE}, the bill says 9",
        ),
        (drop("bill/lines"), "raw answers say", "the bill says nothing"),
        (
            edit("usage/rows", lambda row: row.update(quantity=7)),
            "what was counted",
            "requests: the raw answers count 1, the books 7",
        ),
        (drop("usage/rows"), "what was counted", "the books nothing"),
        (
            edit("reconciliation/lines", lambda row: row.update(billed_usd="2")),
            "are its bill",
            "2026-10-01: the bill is 1.25032195744715549047, the run says",
        ),
        (
            edit("reconciliation/components", lambda row: row.update(amount_usd="2")),
            "classes",
            "its classes add up to 2",
        ),
        (edit("allocation", lambda row: row.update(amount_usd="2")), "shares", "add up to 2"),
        (drop("allocation"), "shares", "its shares add up to 0"),
        (edit("close/bridge", lambda row: row.update(amount_usd="2")), "bridge", "starts at 2"),
        (drop("close/bridge"), "bridge", "must end at 38.76"),
        (another_total, "bridge", "must end at 9"),
        (not_drawn, "bridge", "0 was drawn from the balance, 38.76 was charged"),
        (read_once, "was final", "2026-10-01 has no two equal readings a day apart"),
        (lose_the_runs, "are its bill", "reconciliation/runs.jsonl is not in the pack"),
        (drop("reconciliation/runs"), "are its bill", "2026-10-31 was never reconciled"),
        (edit("bill/lines", lambda row: row.pop("day")), "are its bill", "KeyError 'day'"),
    ],
)
def test_a_forger_who_signs_anew_is_found_by_what_does_not_add_up(
    packed: Path, tamper: Tamper, check: str, says: str
) -> None:
    texts = unpacked(packed)
    sign_off = json.loads(texts.pop("sign_off.json"))
    del texts["manifest.json"]
    tamper(texts)
    manifest = pack.manifest(MONTH, texts)
    sign_off["manifest_sha256"] = pack.digest(manifest)
    repacked(packed, {**texts, "manifest.json": manifest, "sign_off.json": json.dumps(sign_off)})

    found = faults(verify(packed))

    (named,) = (name for name in found if check in name)
    assert any(says in fault for fault in found[named]), found


def test_the_evidence_pack_holds_and_needs_no_store(packed: Path) -> None:
    found = verify(packed)
    assert faults(found) == {}
    assert found.holds
    assert (found.month, found.locked_by) == ("2026-10", "fin")
    assert (found.billed_usd, found.invoice_usd) == (BILLED, Decimal("38.76"))
    assert found.lock_sha256 == pack.digest(unpacked(packed)["manifest.json"])


def test_any_changed_added_or_missing_document_is_named(packed: Path) -> None:
    texts = unpacked(packed)
    texts["README.txt"] += "and more"
    texts["notes.txt"] = "mine"
    del texts["versions.json"]
    repacked(packed, texts)
    assert faults(verify(packed)) == {
        "every document is the one that was signed": (
            "versions.json is missing",
            "notes.txt was added: the manifest does not name it",
            "README.txt was changed: its hash is not the one in the manifest",
        )
    }


def test_a_pack_of_another_make_is_not_judged(packed: Path) -> None:
    texts = unpacked(packed)
    repacked(packed, {**texts, "manifest.json": '{"format": "costspan-evidence/9"}'})
    with pytest.raises(Rejected, match="of format 'costspan-evidence/9'"):
        verify(packed)
    del texts["sign_off.json"]
    repacked(packed, texts)
    with pytest.raises(Rejected, match=r"has no sign_off\.json"):
        verify(packed)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"{}"])
def test_what_is_no_pack_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "pack.zip"
    path.write_bytes(content)
    with pytest.raises(Rejected, match="is not a whole zip"):
        verify(path)
    with pytest.raises(Rejected, match="cannot read"):
        verify(tmp_path / "nothing.zip")
