"""Who is told what, once: silences, inhibition, and one message for the alerts of an incident. Pure.

An incident is alerts whose episodes overlap and that share an element of their causes, or what
they are about. Of one that joins later, people are told again only where it is worse, or pages for
a cause that nobody was told of.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from costspan_dashboards.alerts.cause import is_news
from costspan_dashboards.alerts.finding import SEVERITIES
from costspan_dashboards.alerts.silences import Silence
from costspan_dashboards.alerts.state import Alert, Timing, Transition, step, worse

Key = TypeVar("Key")

ABOUT_ARRIVAL = frozenset(
    {
        "no_data",
        "collector_loss",
        "store_unhealthy",
        "price_book_old",
        "reconciliation_drift",
        "billing_key_failing",
        "job_late",
        "budget",
        "channel_down",
    }
)
"""Rules that know how things are while no calls arrive; `no_data` inhibits all others."""

_FAMILIES: Mapping[str, frozenset[str]] = {
    "failures": frozenset({"errors", "slo_burn", "rate_limited", "retries", "latency"}),
    "money": frozenset({"spend", "entity_spend", "unit_cost", "cache", "price_change"}),
    "arrival": frozenset({"no_data", "collector_loss", "store_unhealthy", "late"}),
}
_SHARE_CAUSES = _FAMILIES["failures"] | _FAMILIES["money"]


def tell(
    alerts: Mapping[Key, Alert],
    transitions: Sequence[Transition],
    silences: Iterable[Silence],
    now: datetime,
    timing: Timing,
) -> tuple[dict[Key, Alert], list[Transition]]:
    """Return alerts and steps with whom to tell decided; a step here only asks for it."""
    after = dict(alerts)
    steps = list(transitions)
    known = list(silences)
    outage = next(
        (one for one in alerts.values() if one.finding.rule == "no_data" and one.is_up), None
    )

    def put(key: Key, alert: Alert, *, tells: bool = False, reason: str = "") -> None:
        """Keep the alert, and its last step with it; with a reason, a step of its own."""
        place = next(
            (place for place, one in enumerate(steps) if one.alert.alert_id == alert.alert_id),
            None,
        )
        if reason or (tells and place is None):
            alert, (made,) = step(alert, alert.state, reason, tells=tells)
            steps.append(made)
        elif place is not None:
            mine = [n for n, one in enumerate(steps) if one.alert.alert_id == alert.alert_id]
            steps[mine[-1]] = replace(steps[mine[-1]], alert=alert, tells=tells)
        after[key] = alert

    wanted = {one.alert.alert_id: one.reason for one in transitions if one.tells}
    steps[:] = [replace(one, tells=False) for one in steps]
    # The worst first: it is what an incident that begins now is told as.
    for key in sorted(after, key=lambda key: -SEVERITIES.index(after[key].finding.severity)):
        alert = after[key]
        why = wanted.get(alert.alert_id, "")
        if alert.is_up:
            hushed = _hushed(alert, known, outage, now)
            reason = "" if hushed == alert.hushed else hushed or f"no longer: {alert.hushed}"
            if hushed:
                put(key, replace(alert, hushed=hushed, owed=why or alert.owed), reason=reason)
                continue
            if reason:
                put(key, replace(alert, hushed=""), reason=reason)
                alert = after[key]
            why = why or alert.owed or _again(alert, now, timing)
            if why:
                _tell_of(key, after, why, now, put)
        elif why and alert.told_at and not alert.hushed and _over(alert, after.values()):
            put(key, alert, tells=alert.told_severity != "info")
    return after, steps


def members(alert: Alert, alerts: Iterable[Alert]) -> list[Alert]:
    """Return the other alerts of its incident that go on."""
    return [
        one
        for one in alerts
        if one.is_up and one.incident == alert.incident and one.alert_id != alert.alert_id
    ]


def _tell_of(key, after, why, now, put) -> None:  # noqa: ANN001
    ...
