"""Proves that every call and every digit arrived: each check shows both numbers it compares."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from decimal import Decimal, localcontext
from typing import Any

from costspan.money import plain
from costspan_collector.store import load_sql
from costspan_dashboards.alerts.queries import open_alerts
from costspan_demo.organization import BURST_FEATURE, NIGHTLY_FEATURE, SPIKE_FEATURE
from costspan_demo.world import World
from costspan_reconcile.queries import recon_classes, recon_days, uninstrumented_keys

_APP_CALLS = 80
_UNTRACED_CALLS = 12
_TOKENS = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")

Values = Mapping[str, str | int | bool | None]


@dataclass(frozen=True, slots=True)
class Check:
    """One claim: it holds if what was expected is what was found."""

    claim: str
    expected: Values
    found: Values

    @property
    def ok(self) -> bool:
        """Say whether the claim holds."""
        return dict(self.expected) == dict(self.found)

    def document(self) -> dict[str, Any]:
        """Return it for a machine."""
        return {"claim": self.claim, "ok": self.ok, **asdict(self)}


@dataclass(frozen=True, slots=True)
class _StoredCall:
    request_id: str
    started_at: datetime
    failed: bool
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cost_usd: Decimal | None


def prove(world: World) -> list[Check]:
    """Let the apps work, then compare what was captured with what was charged."""
    loaded = _accepted(world)
    with world.app(_APP_CALLS) as app, world.untraced(_UNTRACED_CALLS) as untraced:
        made: dict[str, int] = json.loads(app.line())
        untraced.line()
    today = world.settle().date()
    stored = world.serving.store.select(load_sql("costspan_demo", "stored_calls"), _StoredCall)
    charged: list[dict[str, Any]] = world.truth("/_demo/ledger/requests")
    return [
        _history_arrived(world, loaded, stored),
        _app_arrived(world, loaded, made, stored),
        _nothing_refused(world),
        _tokens_agree(charged, stored),
        _cost_agrees(charged, stored),
        _every_call_agrees(charged, stored),
        _bill_explained(world, today),
        _uninstrumented_key_named(world, today),
        _alert_fired(world, "errors", BURST_FEATURE),
        _alert_fired(world, "spend", SPIKE_FEATURE),
    ]


def _accepted(world: World) -> int:
    counters = world.serving.pipeline.counters
    return int(counters.total("costspan_spans_accepted_total", table="calls"))


def _history_arrived(world: World, loaded: int, stored: Sequence[_StoredCall]) -> Check:
    sent = world.history_calls
    rows = sum(call.started_at < world.since for call in stored)
    return Check(
        "calls of the history sent = spans accepted = rows stored",
        {"sent": sent, "accepted": sent, "stored": sent},
        {"sent": sent, "accepted": loaded, "stored": rows},
    )


def _app_arrived(
    world: World, loaded: int, made: Mapping[str, int], stored: Sequence[_StoredCall]
) -> Check:
    live = [call for call in stored if call.started_at >= world.since]
    return Check(
        "calls the SDK made = spans accepted = rows stored",
        {
            "calls": _APP_CALLS,
            "accepted": made["calls"],
            "stored": made["calls"],
            "failed": made["failed"],
        },
        {
            "calls": made["calls"],
            "accepted": _accepted(world) - loaded,
            "stored": len(live),
            "failed": sum(call.failed for call in live),
        },
    )


def _nothing_refused(world: World) -> Check:
    counters = world.serving.pipeline.counters
    names = ("refused", "passed_by", "postponed")
    return Check(
        "no span was refused, passed by or put off",
        dict.fromkeys(names, 0),
        {name: int(counters.total(f"costspan_spans_{name}_total")) for name in names},
    )


def _captured(charged: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [entry for entry in charged if entry["traced"]]


def _tokens_agree(charged: Sequence[Mapping[str, Any]], stored: Sequence[_StoredCall]) -> Check:
    captured = _captured(charged)
    return Check(
        "tokens of what was captured = the ledger's",
        {name: sum(entry[name] for entry in captured) for name in _TOKENS},
        {name: sum(getattr(call, name) for call in stored) for name in _TOKENS},
    )


def _cost_agrees(charged: Sequence[Mapping[str, Any]], stored: Sequence[_StoredCall]) -> Check:
    billed = sum((Decimal(entry["usd"]) for entry in _captured(charged)), Decimal(0))
    estimated = sum((call.cost_usd for call in stored if call.cost_usd is not None), Decimal(0))
    unpriced = sum(call.cost_usd is None and not call.failed for call in stored)
    return Check(
        "dollars of what was captured = the ledger's, to the last digit",
        {"usd": plain(billed), "unpriced_calls": 0},
        {"usd": plain(estimated), "unpriced_calls": unpriced},
    )


def _every_call_agrees(
    charged: Sequence[Mapping[str, Any]], stored: Sequence[_StoredCall]
) -> Check:
    ledger = {
        entry["request_id"]: (*(entry[name] for name in _TOKENS), Decimal(entry["usd"]))
        for entry in _captured(charged)
        if entry["status"] == 200
    }
    kept = {
        call.request_id: (*(getattr(call, name) for name in _TOKENS), call.cost_usd)
        for call in stored
        if not call.failed
    }
    return Check(
        "each charged request is kept once, with the ledger's tokens and dollars",
        {"requests": len(ledger), "alike": len(ledger), "kept": len(ledger)},
        {
            "requests": len(ledger),
            "alike": sum(kept.get(request_id) == entry for request_id, entry in ledger.items()),
            "kept": sum(not call.failed for call in stored),
        },
    )


def _bill_explained(world: World, today: date) -> Check:
    """Compare the whole bill: what no span accounts for is the untraced key and the storage."""
    lines = _closed_lines(world, today)
    untraced = world.organization.key(NIGHTLY_FEATURE).id
    classes = recon_classes(world.serving.store, date.min, today)
    days = recon_days(world.serving.store, date.min, today)
    names = {each.cause for each in classes}
    found = {
        name: plain(sum((each.amount_usd for each in classes if each.cause == name), Decimal(0)))
        for name in sorted(names)
    }
    return Check(
        "the bill of all closed days is the ledger's, and each dollar of it is in its class",
        {
            "billed_usd": _sum(lines),
            "UNINSTRUMENTED_KEY": _sum(line for line in lines if line["key_id"] == untraced),
            "STORAGE": _sum(line for line in lines if line["key_id"] is None),
        },
        {
            "billed_usd": plain(sum((day.billed_usd or Decimal(0) for day in days), Decimal(0))),
            **{name: usd for name, usd in found.items() if usd != "0"},
        },
    )


def _uninstrumented_key_named(world: World, today: date) -> Check:
    key = world.organization.key(NIGHTLY_FEATURE)
    lines = _closed_lines(world, today)
    found = uninstrumented_keys(world.serving.store, date.min, today)
    return Check(
        "the reconciliation names the uninstrumented key, with its dollars of all closed days",
        {
            "keys": 1,
            "name": key.name,
            "usd": _sum(line for line in lines if line["key_id"] == key.id),
        },
        {
            "keys": len(found),
            "name": found[0].key_name if found else None,
            "usd": plain(found[0].amount_usd) if found else None,
        },
    )


def _closed_lines(world: World, today: date) -> list[Mapping[str, Any]]:
    lines: list[Mapping[str, Any]] = world.truth()["lines"]
    return [line for line in lines if line["day"] < today.isoformat()]


def _sum(lines: Iterable[Mapping[str, Any]]) -> str:
    with localcontext() as context:
        context.prec = 80
        return plain(sum((Decimal(line["usd"]) for line in lines), Decimal(0)))


def _alert_fired(world: World, rule: str, feature: str) -> Check:
    alerts = [a for a in open_alerts(world.serving.store) if a.finding.rule == rule]
    causes = [pair for alert in alerts for one in alert.finding.contributors for pair in one.where]
    causes += [pair for alert in alerts for pair in alert.finding.shared]
    features = {value for name, value in causes if name == "feature"}
    return Check(
        f"the planted {'error burst' if rule == 'errors' else 'spend spike'} fired, with its cause",
        {"alerts": 1, "feature": feature},
        {"alerts": len(alerts), "feature": ", ".join(sorted(features))},
    )
