"""Say what the store holds, then reconcile: a step for `dies.py`."""

import json
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from openai import OpenAI
from pydantic import SecretStr

from costspan_collector.jobs import run_job
from costspan_collector.store import Store, connect, migrate
from costspan_reconcile import ledger
from costspan_reconcile.chain import check_chain
from costspan_reconcile.schedule import JOB, Work
from costspan_reconcile.settings import Reconcile

DAY = date(2026, 11, 19)

with OpenAI(admin_api_key="sk-nobody") as client:
    _ = client.admin.organization.usage.with_raw_response  # imported late, by each fork otherwise

_RECONCILED = """
SELECT
    billed_usd,
    billed_usd - estimated_usd AS difference_usd,
    (SELECT sum(billed_usd) FROM current_recon_lines WHERE day = {day:Date}) AS lines_usd,
    (SELECT sum(amount_usd) FROM current_recon_components WHERE day = {day:Date}) AS classes_usd,
    (SELECT sum(amount_usd) FROM current_allocations WHERE day = {day:Date}) AS shared_usd
FROM current_recon_days
WHERE day = {day:Date}
"""


@dataclass(frozen=True)
class _Reconciled:
    billed_usd: Decimal | None
    difference_usd: Decimal | None
    lines_usd: Decimal
    classes_usd: Decimal
    shared_usd: Decimal


def _state(store: Store) -> dict[str, Any]:
    until = DAY + timedelta(days=1)
    reconciled = store.select(_RECONCILED, _Reconciled, day=DAY)
    return {
        "lines": {
            line.line_item: line.amount
            for line in ledger.billed_lines(store, DAY, until)
            if not line.vanished
        },
        "tokens": [row.quantity for row in ledger.provider_usage(store, DAY, until)],
        "reconciled": [asdict(row) for row in reconciled],
        "chain": check_chain(store),
    }


def main(url: str, base_url: str, key: str, now: str) -> None:
    store = connect(url)
    migrate(store)
    print("state", json.dumps(_state(store), default=str), flush=True)
    settings = Reconcile(admin_key=SecretStr(key), base_url=base_url, lookback_days=2)
    work = Work(store, settings)
    run_job(store, JOB, lambda: work.recent(datetime.fromisoformat(now)))
    print("state", json.dumps(_state(store), default=str), flush=True)
