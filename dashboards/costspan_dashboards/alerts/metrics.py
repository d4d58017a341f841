"""What Prometheus reads of alerts and spend. By feature and model only: users would be too many."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from costspan_collector.store import Store, load_sql
from costspan_dashboards.alerts.queries import last_evaluation, live_alerts
from costspan_dashboards.alerts.settings import Alerts
from costspan_dashboards.alerts.state import Alert

_PACKAGE = "costspan_dashboards.alerts"
_HOUR = timedelta(hours=1)

_GAUGES: Mapping[str, str] = {
    "costspan_alerts": "Alerts that go on, by rule, severity and state.",
    "costspan_alerts_evaluation_age_seconds": "Since alerts were evaluated at last.",
    "costspan_alerts_evaluation_seconds": "What the last evaluation took.",
    "costspan_alerts_watermark_lag_seconds": "How far behind now the calls are that it looked at.",
    "costspan_spend_usd": "Estimated dollars of the last hour, by feature and model.",
    "costspan_unpriced_calls": "Calls of the last hour whose cost is not known.",
    "costspan_failed_calls": "Failed calls of the last hour, by feature and model.",
    "costspan_calls": "Calls of the last hour, by feature and model.",
    "costspan_notifications": "Messages of the last day, by channel and outcome.",
}


@dataclass(frozen=True, slots=True)
class _Usage:
    feature: str
    model: str
    calls: int
    failed_calls: int
    unpriced_calls: int
    spend_usd: float


@dataclass(frozen=True, slots=True)
class _Told:
    channel: str
    outcome: str
    messages: int


Sample = tuple[str, Mapping[str, str], float]


def exposition(store: Store, settings: Alerts, now: datetime) -> str:
    """Return all of it in Prometheus' text form.

    Raises:
        Unavailable: the store does not answer.
    """
    return _text(_samples(store, settings, now))


def states(alerts: Iterable[Alert]) -> str:
    """Return the part of it that tells of these alerts."""
    return _text(_states(alerts))


def _text(found: Iterable[Sample]) -> str:
    samples = list(found)
    lines: list[str] = []
    for name, explained in _GAUGES.items():
        if name not in {mine for mine, _, _ in samples}:
            continue
        lines += [f"# HELP {name} {explained}", f"# TYPE {name} gauge"]
        lines += [
            f"{name}{_labels(labels)} {value:.12g}"
            for mine, labels, value in samples
            if mine == name
        ]
    return "\n".join(lines) + "\n"


def _states(alerts: Iterable[Alert]) -> Iterable[Sample]:
    counted: dict[tuple[str, str, str], int] = {}
    for alert in alerts:
        key = (alert.finding.rule, alert.finding.severity, alert.shown_state)
        counted[key] = counted.get(key, 0) + 1
    for (rule, severity, state), count in sorted(counted.items()):
        yield "costspan_alerts", {"rule": rule, "severity": severity, "state": state}, count


def _samples(store: Store, settings: Alerts, now: datetime) -> Iterable[Sample]:
    yield from _states(live_alerts(store))
    last = last_evaluation(store)
    if last:
        age = (now - last.ended_at).total_seconds()
        took = (last.ended_at - last.started_at).total_seconds()
        yield "costspan_alerts_evaluation_age_seconds", {}, age
        yield "costspan_alerts_evaluation_seconds", {}, took
        lag = age + took + settings.watermark_seconds
        yield "costspan_alerts_watermark_lag_seconds", {}, lag
    usage = store.select(load_sql(_PACKAGE, "usage"), _Usage, since=now - _HOUR, until=now)
    for one in usage:
        labels = {"feature": one.feature, "model": one.model}
        yield "costspan_spend_usd", labels, one.spend_usd
        yield "costspan_unpriced_calls", labels, one.unpriced_calls
        yield "costspan_failed_calls", labels, one.failed_calls
        yield "costspan_calls", labels, one.calls
    day = timedelta(days=1)
    for told in store.select(load_sql(_PACKAGE, "told"), _Told, since=now - day, until=now):
        labels = {"channel": told.channel, "outcome": told.outcome}
        yield "costspan_notifications", labels, told.messages


def _labels(labels: Mapping[str, str]) -> str:
    quoted = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{quoted}}}" if quoted else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
