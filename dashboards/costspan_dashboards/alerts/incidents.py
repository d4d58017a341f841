"""Who is told what, once: silences, inhibition, and one message for the alerts of an incident. Pure.

An incident is alerts whose episodes overlap and that share an element of their causes, or what
they are about. Of one that joins later, people are told again only where it is worse, or pages for
a cause that nobody was told of. A further cause of a ticket is told where it lasts.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from costspan_dashboards.alerts.finding import SEVERITIES
from costspan_dashboards.alerts.rules.plumbing import RULE_FAILS
from costspan_dashboards.alerts.silences import Silence
from costspan_dashboards.alerts.state import (
    FURTHER_CAUSE,
    Alert,
    Timing,
    Transition,
    step,
    worse,
)

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
        RULE_FAILS,
    }
)
"""Rules that know how things are while no calls arrive; `no_data` inhibits all others."""
_ARRIVAL_OF_CALLS = frozenset({"no_data", "traffic_drop", "late", "clock"})
_INHIBITS = frozenset({"no_data", "store_unhealthy"})

_FAMILIES: Mapping[str, frozenset[str]] = {
    "failures": frozenset({"errors", "slo_burn", "rate_limited", "retries", "latency"}),
    "money": frozenset({"spend", "entity_spend", "unit_cost", "cache", "price_change"}),
    "arrival": frozenset({"no_data", "collector_loss", "store_unhealthy", "late"}),
}
_CALM = timedelta(minutes=1)
"""After calls came for that long again, what `no_data` hid is believed."""
_AGAIN = "goes on, and nobody has acknowledged it"
_SHARE_CAUSES = _FAMILIES["failures"] | _FAMILIES["money"]


def tell(
    alerts: Mapping[Key, Alert],
    transitions: Sequence[Transition],
    silences: Sequence[Silence],
    now: datetime,
    timing: Timing,
) -> tuple[dict[Key, Alert], list[Transition]]:
    """Return alerts and steps with whom to tell decided; a step given here only asks for it."""
    asked = {one.alert.alert_id: one.reason for one in transitions if one.tells}
    outages = [one for one in alerts.values() if one.is_up and one.finding.rule in _INHIBITS]
    told = _Round(alerts, transitions)
    # The worst first: it is what an incident that begins now is told as.
    for key in sorted(alerts, key=lambda key: -SEVERITIES.index(alerts[key].finding.severity)):
        alert, why = told.alerts[key], asked.get(alerts[key].alert_id, "")
        hushed = _hushed(alert, silences, outages, now)
        if not alert.is_up:
            if why and not hushed:
                told.ends(key, why)
            continue
        if hushed != alert.hushed:
            told.takes_step(
                key, replace(alert, hushed=hushed), hushed or f"no longer: {alert.hushed}"
            )
        # What is over, or was only good to know, is not told afterwards.
        owed = "" if alert.well_since or alert.finding.severity == "info" else alert.owed
        why = why or owed or _again(alert, now, timing)
        if hushed:
            told.put(key, replace(told.alerts[key], owed=why))
        elif why:
            told.joins(key, why, now)
    return told.alerts, told.steps(asked)


def members(alert: Alert, alerts: Iterable[Alert]) -> list[Alert]:
    """Return the other alerts of its incident that go on."""
    return [
        one
        for one in alerts
        if one.is_up and one.incident == alert.incident and one.alert_id != alert.alert_id
    ]


class _Round(Generic[Key]):
    """The alerts of one evaluation while it is decided who is told."""

    def __init__(self, alerts: Mapping[Key, Alert], transitions: Sequence[Transition]) -> None:
        self.alerts = dict(alerts)
        self._steps = [replace(one, tells=False) for one in transitions]
        self._told: dict[str, str] = {}

    def put(self, key: Key, alert: Alert) -> None:
        """Keep an alert as it is now."""
        self.alerts[key] = alert

    def takes_step(self, key: Key, alert: Alert, reason: str) -> None:
        """Keep an alert, and that something became of it."""
        self.alerts[key], made = step(alert, alert.state, reason)
        self._steps += made

    def tells(self, key: Key, reason: str) -> None:
        """Tell people of an alert."""
        self._told[self.alerts[key].alert_id] = reason

    def ends(self, key: Key, reason: str) -> None:
        """Tell of the end of an incident once, and if its beginning was told."""
        alert = self.alerts[key]
        known = alert.told_at is not None and alert.told_severity != "info"
        said = any(
            one.incident == alert.incident and not one.is_live and one.alert_id in self._told
            for one in self.alerts.values()
        )
        if known and not said and not members(alert, self.alerts.values()):
            self.tells(key, reason)

    def joins(self, key: Key, reason: str, now: datetime) -> None:
        """Put an alert into its incident, and tell of it what that was not told as."""
        alert = self.alerts[key]
        others = [
            one
            for one in self.alerts.values()
            if one.alert_id != alert.alert_id and one.is_up and one.told_at and not one.hushed
        ]
        begun = next((one for one in others if _belong(alert, one)), None)
        if not alert.incident:
            alert = replace(
                alert,
                incident=begun.incident if begun else alert.alert_id,
                fingerprint=begun.fingerprint if begun else alert.fingerprint,
            )
        alert = replace(alert, owed="")
        fellows = [one for one in others if one.incident == alert.incident]
        severity = max(
            (alert.finding.severity, *(one.told_severity for one in fellows)), key=SEVERITIES.index
        )
        self.alerts[key] = replace(alert, told_at=now, told_severity=severity)
        ids = {one.alert_id for one in fellows}
        if ids & self._told.keys():
            return  # the message of this moment names it too
        if not fellows or _is_more(alert, fellows, reason):
            self.tells(key, reason)
            for other, one in self.alerts.items():
                if one.alert_id in ids:
                    self.alerts[other] = replace(one, told_at=now, told_severity=severity)

    def steps(self, asked: Mapping[str, str]) -> list[Transition]:
        """Return all steps, the last one of each alert with the alert as it is in the end."""
        keys = {alert.alert_id: key for key, alert in self.alerts.items()}
        last = {one.alert.alert_id: place for place, one in enumerate(self._steps)}
        for name, place in last.items():
            one, tells = self._steps[place], name in self._told
            alert = one.alert
            if name in keys:
                alert = self.alerts[keys[name]]
            else:  # its rule was changed, and a new episode took its place
                tells = name in asked and alert.told_at is not None and not alert.hushed
            self._steps[place] = replace(one, alert=alert, tells=tells)
        for name, reason in self._told.items():
            if name not in last:
                alert = self.alerts[keys[name]]
                self.alerts[keys[name]], made = step(alert, alert.state, reason, tells=True)
                self._steps += made
        return self._steps


def _hushed(
    alert: Alert, silences: Iterable[Silence], outages: Iterable[Alert], now: datetime
) -> str:
    for outage in outages:
        if _inhibits(outage, alert, now):
            return f"inhibited by {outage.finding.rule}, alert {outage.alert_id}"
    return next((str(one) for one in silences if one.holds(alert.finding, now)), "")


def _inhibits(outage: Alert, alert: Alert, now: datetime) -> bool:
    if outage.finding.rule == "store_unhealthy":  # what waits for the store comes late, by itself
        return alert.finding.rule in _ARRIVAL_OF_CALLS
    over = outage.well_since is not None and now - outage.well_since >= _CALM
    return alert.finding.rule not in ABOUT_ARRIVAL and not over


def _again(alert: Alert, now: datetime, timing: Timing) -> str:
    """Return why people are told again of a page that nobody has taken."""
    waits = alert.state == "firing" and alert.finding.severity == "page"
    waits &= alert.severe_at == alert.evaluated_at
    due = alert.told_at is not None and now - alert.told_at >= timing.renotify_after
    return _AGAIN if waits and due else ""


def _belong(one: Alert, other: Alert) -> bool:
    mine, theirs = one.finding, other.finding
    if mine.cause and theirs.cause:
        told = {pair for cause in other.told_causes for pair in cause}
        common = {*mine.cause} & {*theirs.cause, *theirs.shared, *told}
        common |= {*theirs.cause} & {*mine.shared}
        return bool(common) and {mine.rule, theirs.rule} <= _SHARE_CAUSES
    return mine.rule != theirs.rule and any(
        {mine.rule, theirs.rule} <= family for family in _FAMILIES.values()
    )


def _is_more(alert: Alert, fellows: Sequence[Alert], reason: str) -> bool:
    """Say whether the incident was not told as that."""
    if reason == _AGAIN or all(worse(alert.finding.severity, one.told_severity) for one in fellows):
        return True
    told = {pair for one in fellows for cause in one.told_causes for pair in cause}
    return (
        (alert.finding.severity == "page" or reason == FURTHER_CAUSE)
        and bool(told)
        and any(cause and not {*cause} & told for cause in alert.finding.causes)
    )
