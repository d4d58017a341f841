"""What every notification must hold (section 7), on the rendered text of seven scenarios."""

from __future__ import annotations

import json
import re

from simulation import Told

from costspan_dashboards.alerts.message import Message, compose

DASHBOARD = "https://costs.example.test"
NUMBER = r"\$?\d[\d,.]*"
WAITING = {  # per minute or hour, by what is wrong
    "errors": r"calls a minute fail|failed calls a minute",
    "latency": r"slow calls a minute",
    **dict.fromkeys(
        ("spend", "entity_spend", "unit_cost"),
        rf"({NUMBER} an hour|{NUMBER}/h|each hour costs {NUMBER}) more",
    ),
}
KIND = {
    "E01": "error kind",
    "E04": "error kind",
    "L02": "time to first token",
    "C01": "input tokens per call",
    "C02": "volume",
    "C03": "model mix",
    "C09": "volume",
}
CHANGED = {"C01": "prompt=v2", "C03": "model=large"}


def message_of(told: Told) -> Message:
    """Return the message as channels get it."""
    return compose(told.alert, told.reason, "m1", DASHBOARD, told.fellows)


def holds_all(name: str, told: Told, message: Message) -> None:
    """Ask for items 1 to 6; examples are of the store, see `test_end_to_end.py`."""
    found = told.alert.finding
    text = f"{message.title}\n{message.body}"  # what Slack, e-mail and the like show
    sent = json.dumps(message.payload)  # what the webhook gets
    # 1: what is wrong, in one line with numbers: observed, expected, since when, on what scope
    assert len(re.findall(NUMBER, message.title)) >= 2, message.title
    assert "usual" in message.title
    assert str(found.scope) in message.title or str(found.cause[0][1]) in message.title
    assert f"{found.since:%Y-%m-%d %H:%M}" in text
    assert message.payload["since"] == found.since.isoformat()
    # 2: the cost of waiting
    waiting = message.payload["cost_of_waiting"]
    assert re.search(WAITING[found.rule], waiting, re.IGNORECASE), waiting
    assert waiting in text
    if found.rule == "errors":
        assert re.search(rf"objective allows .* last {NUMBER} h|are used up", text), text
    # 3: up to three contributors with their share, and the kind of change
    assert 1 <= len(message.payload["causes"]) <= 3
    for pairs, share in ((one["where"], one["share"]) for one in message.payload["causes"]):
        named = " & ".join(f"{dimension}={value}" for dimension, value in pairs.items())
        assert named in text
        assert f"{share * 100:.0f}" in text
    assert KIND[name] in text
    assert message.payload["kind"] == KIND[name]
    # 4: what changed
    if name in CHANGED:
        assert f"New: {CHANGED[name]}" in text
        assert any(CHANGED[name] in change for change in message.payload["changes"])
    # 5: where to look
    link = message.payload["links"]["calls"]
    assert link.startswith(f"{DASHBOARD}/calls?range=")
    assert link in text
    for dimension, value in found.cause:
        if dimension in {"feature", "model"}:
            assert f"{dimension}={value}" in link
    # 6: runbook, silence, severity, rule, fingerprint
    assert f"{DASHBOARD}/alerts?runbook={found.rule}" in text
    assert f"{DASHBOARD}/alerts?silence={told.alert.alert_id}" in text
    for words in (found.rule, found.severity, told.alert.fingerprint):
        assert words in text
        assert words in sent
    assert message.title.startswith(f"[{found.severity.upper()}]")
