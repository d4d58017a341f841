"""Say how a month stands, then close it: a step for `dies.py`."""

import json
import tempfile
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from costspan_collector.store import Store, connect, migrate
from costspan_reconcile.fetch import fetch
from costspan_reconcile.period.bridge import Invoice, Kind, charged, entries_of, read_entry
from costspan_reconcile.period.close import bridge, close_month, evidence_pack
from costspan_reconcile.period.month import Month
from costspan_reconcile.period.states import month_row
from costspan_reconcile.period.verify import verify
from costspan_reconcile.reconcile import reconcile_days
from costspan_reconcile.settings import Reconcile

MONTH = Month(date(2026, 2, 1))
READ_AT = datetime(2026, 3, 4, 9, tzinfo=UTC)

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


def _state(store: Store) -> dict[str, Any]:
    row = month_row(store, MONTH)
    if row is None or not row.actor:
        return {"state": "OPEN"}
    lines = bridge(store, row.close_id)
    found: dict[str, Any] = {"state": row.state, "bridge": len(lines)}
    if lines:
        found["ties"] = charged(entries_of(lines)) == Fraction(row.invoice_usd or 0)
    if row.state == "LOCKED":
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "pack.zip")
            path.write_bytes(evidence_pack(store, MONTH))
            verified = verify(path)
        found |= {"holds": verified.holds, "hash": verified.lock_sha256 == row.lock_sha256}
    return found


def _prepare(store: Store, base_url: str, key: str) -> None:
    """Make every day final, compared and shared out."""
    settings = Reconcile(admin_key=SecretStr(key), base_url=base_url)
    for now in (READ_AT, READ_AT + timedelta(hours=25)):
        fetch(store, settings, MONTH.first, MONTH.until, now).check()
    reconcile_days(store, MONTH.first, MONTH.until, now)
    for statement in _SHARED_OUT:  # for nobody, which is quicker than to compute it
        store.command(statement)


def main(url: str, base_url: str = "", key: str = "") -> None:
    store = connect(url)
    migrate(store)
    if base_url:
        _prepare(store, base_url, key)
        return
    print("state", json.dumps(_state(store)), flush=True)
    invoice = Invoice("INV-7", Fraction("36.00"), (read_entry(Kind.TAX, "1"),))
    now = READ_AT + timedelta(hours=25)
    close_month(store, MONTH, now, "fin", invoice=invoice, sign=True)
    print("state", json.dumps(_state(store)), flush=True)
