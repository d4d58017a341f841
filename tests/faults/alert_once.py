"""Evaluate one minute of an outage, and say what is known after: a step for `dies.py`."""

import json
from datetime import datetime, timedelta

from pydantic import SecretStr

from costspan_collector.store import connect, migrate
from costspan_dashboards.alerts.evaluate import evaluate_now
from costspan_dashboards.alerts.queries import live_alerts
from costspan_dashboards.alerts.settings import Alerts

FAILING = """
INSERT INTO calls (started_at, trace_id, span_id, feature, request_model, status, error_type,
    duration_us, received_at, ingest_id)
SELECT fromUnixTimestamp64Micro(toInt64({since:Int64} + number * 3000000), 'UTC') AS started_at,
    MD5(toString(number)), toFixedString(substring(MD5(toString(number)), 1, 8), 8),
    'chat', 'gpt-4o-mini', 'error', 'server_error', 1000, started_at + INTERVAL 1 SECOND, 1
FROM numbers(600)
"""


def main(url: str, what: str, now: str, first: str = "") -> None:
    store = connect(url)
    at = datetime.fromisoformat(now)
    if what == "prepare":
        migrate(store)
        since = at - timedelta(minutes=10)
        store.command(FAILING, since=int(since.timestamp() * 1e6))
        return
    if first:
        for table in ("alert_events", "alert_states", "notifications"):
            store.command(f"TRUNCATE TABLE {table}")
    settings = Alerts(for_seconds=0, webhook_url=SecretStr(what), notify_timeout_seconds=5)
    evaluate_now(store, settings, at + timedelta(seconds=90))
    told = [(one.alert_id, one.state, str(one.firing_since)) for one in live_alerts(store)]
    print("state", json.dumps(told), flush=True)
