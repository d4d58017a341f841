"""Whether a scenario went as its row asks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from rows import May, Must, Row, told_episodes
from simulation import Log, text_of
from world import World

from costspan_dashboards.alerts.finding import Severity
from costspan_dashboards.alerts.state import Alert

_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A line of the report."""

    row: str
    seed: int
    fired: str
    minutes: float | None
    """From `t0` to the first message that tells of what must fire."""
    cause: str
    exact_cause: bool | None
    """None where the row asks for none."""
    notifications: int
    faults: tuple[str, ...]
    """Why it fails; none where it passes."""
    episodes: Mapping[Severity, int]
    """That people were told of."""
    evaluations: int
    cpu_seconds: float

    @property
    def passes(self) -> bool:
        """Say whether all its cells hold."""
        return not self.faults


@dataclass(frozen=True, slots=True)
class _Firing:
    at: datetime
    alert: Alert


def judge_row(row: Row, world: World, log: Log) -> Verdict:
    """Hold what was told against the row."""
    asked = [(one, *_met(row, one, log)) for one in row.must]
    firings = [firing for _, firing, _ in asked if firing]
    first = min(firings, key=lambda one: one.at, default=None)
    faults: list[str] = []
    if row.one_of:  # one without fault is enough; where there is none, each says why
        asked = [one for one in asked if not one[2]] or asked
    faults += [fault for _, _, found in asked for fault in found]
    faults += dict.fromkeys(_others(row, log))
    sent = sum(one.at >= row.t0 for one in log.told)
    if sent > row.notifications:
        faults.append(f"{sent} notifications, at most {row.notifications}")
    faults += row.check(row, world, log)
    exact = None
    if any(one.causes for one in row.must):
        exact = not any("names" in fault for fault in faults) and first is not None
    return Verdict(
        row=row.name,
        seed=world.seed,
        fired=" ".join(dict.fromkeys(one.alert.finding.rule for one in firings)),
        minutes=(first.at - row.t0) / _MINUTE if first else None,
        cause=_cause_text(first.alert) if first else "",
        exact_cause=exact,
        notifications=sent,
        faults=tuple(faults),
        episodes={name: len(some) for name, some in told_episodes(log, row.t0).items()},
        evaluations=log.evaluations,
        cpu_seconds=log.cpu_seconds,
    )


def _met(row: Row, must: Must, log: Log) -> tuple[_Firing | None, list[str]]:
    """Return when a rule that must fire was told of first, and what is wrong with that."""
    told = [one for one in _up(row, log, row.t0) if one.alert.finding.rule == must.rule]
    firing = next((one for one in told if one.alert.finding.severity in must.severities), None)
    if firing is None:
        seen = ", ".join(dict.fromkeys(one.alert.finding.severity for one in told))
        return None, [f"{must.rule} does not fire as {'/'.join(must.severities)}"
                      + (f" but as {seen}" if seen else "")]  # fmt: skip
    faults: list[str] = []
    minutes = (firing.at - row.t0) / _MINUTE
    if minutes > must.deadline:
        faults.append(f"{must.rule} after {minutes:.0f} min, not {must.deadline:.0f}")
    worst = {one.alert.finding.severity for one in told}
    if "page" in worst and "page" not in must.severities:
        faults.append(f"{must.rule} becomes a page")
    found = firing.alert.finding
    if must.causes and dict(found.cause) not in [dict(cause) for cause in must.causes]:
        faults.append(f"{must.rule} names {_cause_text(firing.alert)}")
    elif must.causes and found.contributors[0].share < row.least_share:
        faults.append(f"{must.rule}: its cause has {found.contributors[0].share:.0%} of the excess")
    text = text_of(found).lower()
    faults += [f"{must.rule} does not say {word!r}" for word in must.says if word not in text]
    return firing, faults


def _others(row: Row, log: Log) -> Iterator[str]:
    """Give what fires although nothing says that it may."""
    asked = {one.rule for one in row.must}
    quiet_from = row.t0 - timedelta(minutes=row.lead if not row.must else 0)
    for one in _up(row, log, quiet_from):
        found = one.alert.finding
        if found.severity == "info" or found.rule in asked:
            continue
        if any(_allows(may, one.alert) for may in row.may):
            continue
        minute = (one.at - row.t0) / _MINUTE
        yield f"{found.rule} {found.severity} at minute {minute:.0f}: {_cause_text(one.alert)}"


def _allows(may: May, alert: Alert) -> bool:
    found = alert.finding
    pairs = {*found.cause, (found.scope.dimension, found.scope.value)}
    about = may.about is None or pairs >= set(may.about.items())
    text = text_of(found).lower()
    return found.rule == may.rule and about and all(word in text for word in may.says)


def _up(row: Row, log: Log, since: datetime) -> Iterator[_Firing]:
    """Give each alert that people were told of, in each evaluation; of others, when it is new."""
    known: set[tuple[str, str]] = set()
    for at, alerts in log.seen:
        for alert in alerts.values():
            if not alert.is_up or alert.told_at is None or alert.hushed:
                continue
            key = alert.alert_id, alert.finding.severity
            new = key not in known
            known.add(key)
            if new and at >= since and alert.told_at >= row.t0 - timedelta(minutes=row.lead):
                yield _Firing(at, alert)


def _cause_text(alert: Alert) -> str:
    named = " & ".join(f"{name}={value}" for name, value in alert.finding.cause)
    return named or "no single cause"
