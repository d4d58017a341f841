"""The state-machine rows of section 6: each test is one row, its docstring the row's own words."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from injections import Fault, Lost, Volume, failing
from rows import BY_NAME, WEDNESDAY
from simulation import Log, Simulation
from world import World

from costspan_collector.store import Store
from costspan_dashboards.alerts.cause import Contributor, Pairs
from costspan_dashboards.alerts.channels import names
from costspan_dashboards.alerts.evaluate import Key, People, keep, step
from costspan_dashboards.alerts.finding import Finding, Severity
from costspan_dashboards.alerts.frame import Mark
from costspan_dashboards.alerts.limits import ErrorLimits, Limits
from costspan_dashboards.alerts.message import Message, compose
from costspan_dashboards.alerts.outbox import channel_findings, health, send_due
from costspan_dashboards.alerts.queries import recent_deliveries
from costspan_dashboards.alerts.scopes import Scope
from costspan_dashboards.alerts.settings import Alerts
from costspan_dashboards.alerts.silences import Silence, mark, marks, undo
from costspan_dashboards.alerts.state import Alert, Timing, Transition
from costspan_dashboards.alerts.wire import Outcome
from costspan_dashboards.filters import TimeRange

MINUTE = timedelta(minutes=1)
TIMING = Timing(pending_for=2 * MINUTE, keep_firing_for=5 * MINUTE)
CHAT: Pairs = (("feature", "chat"),)


def found(
    rule: str = "errors", severity: Severity = "page", cause: Pairs = CHAT, title: str = "wrong"
) -> Finding:
    """Return something that a rule found."""
    return Finding(
        rule=rule,
        severity=severity,
        scope=Scope(*cause[0]),
        since=WEDNESDAY,
        until=WEDNESDAY,
        observed=Decimal("0.5"),
        usual=Decimal("0.01"),
        unit="share",
        title=title,
        facts=(),
        contributors=(Contributor(cause, (), Decimal(9), Decimal(1), 1.0),),
        shared=cause,
        examples=(),
        link="/calls",
        window_minutes=5,
    )


class Desk:
    """The state machine, given findings minute by minute."""

    def __init__(self) -> None:
        self.alerts: dict[Key, Alert] = {}
        self.steps: list[Transition] = []
        self.limits = Limits()

    def at(self, minute: float, *findings: Finding) -> list[str]:
        """Evaluate, and return what was told."""
        self.alerts, steps = step(
            findings,
            {key: alert for key, alert in self.alerts.items() if alert.is_kept},
            fresh=True,
            now=WEDNESDAY + minute * MINUTE,
            timing=TIMING,
            limits=self.limits,
        )
        self.steps += steps
        return [f"{one.alert.finding.rule} {one.alert.state}" for one in steps if one.tells]

    def over(self, minutes: range, *findings: Finding) -> list[str]:
        """Evaluate each minute of a stretch."""
        return [told for minute in minutes for told in self.at(minute, *findings)]

    def states(self, rule: str = "errors") -> list[str]:
        """Return the states that alerts of a rule went through."""
        return [one.alert.state for one in self.steps if one.alert.finding.rule == rule]


def watch(
    faults: Sequence[Any], minutes: float, *, lead: float = 5, seed: int = 1, **setting: Any
) -> Log:
    """Watch a world from a few minutes before `t0` on."""
    simulation = Simulation(World(seed, WEDNESDAY, 28, tuple(faults)), **setting)
    return simulation.run(WEDNESDAY - lead * MINUTE, WEDNESDAY + minutes * MINUTE)


def test_m01_a_breach_of_one_evaluation_is_pending_and_sends_nothing() -> None:
    """condition true for one evaluation, `for` 2 min: pending, back to normal, nothing sent."""
    desk = Desk()
    assert desk.at(0, found()) + desk.at(1) + desk.at(2) == []
    assert desk.states() == ["pending", "inactive"]


def test_m02_a_minute_of_rest_is_the_same_episode() -> None:
    """true long enough, then false 1 min, true again: one episode, one firing message."""
    desk = Desk()
    told = desk.over(range(5), found()) + desk.at(5) + desk.over(range(6, 12), found())
    assert told == ["errors firing"]
    assert len({one.alert.alert_id for one in desk.steps}) == 1
    assert desk.over(range(12, 18)) == ["errors resolved"]


def test_m03_two_rules_that_find_the_same_are_one_message_of_the_higher_severity() -> None:
    """same alert found by two overlapping rules or windows: one fingerprint, one message; severity
    is the higher of both."""
    desk = Desk()
    same = found("spend", "ticket"), found("entity_spend", "page")
    assert desk.over(range(5), *same) == ["entity_spend firing"]
    one, other = desk.alerts.values()
    assert (one.fingerprint, one.incident) == (other.fingerprint, other.incident)
    assert {one.told_severity, other.told_severity} == {"page"}


def test_m04_an_outage_of_all_features_is_one_group_and_one_page() -> None:
    """E01 with 8 features failing: one group with 8 members, not 8 pages; a member that joins later
    updates the message, and a page-level new cause notifies again."""
    outage = Fault(0, 40, failing(1, "server_error"), {"model": "small"})
    log = watch([outage], 12)
    assert [told.alert.finding.rule for told in log.told] == ["errors"]
    desk = Desk()
    assert desk.over(range(4), found()) == ["errors firing"]
    joins = found("retries", "ticket", title="later")
    assert desk.over(range(4, 8), found(), joins) == []
    alert, member = desk.alerts.values()
    assert member.incident == alert.incident
    body = compose(alert, "lasts", "m1", "", [member]).body
    assert "Also: retries: later" in body
    other = found("latency", "page", (("model", "large"), *CHAT))
    assert desk.over(range(8, 12), found(), joins, other) == []
    news = found(cause=(("feature", "review"),))
    assert desk.over(range(12, 14), news, joins, other) == ["errors firing"]


def test_m05_an_outage_of_the_data_inhibits_what_is_about_calls() -> None:
    """`no_data` fires: spend and latency alerts of that source are inhibited and shown as such."""
    loop = BY_NAME["C02"].faults[0]
    slow = BY_NAME["L02"].faults[0]
    log = watch([loop, slow, Lost(20, 45)], 44)
    shown = {
        key[0]: alert.shown_state
        for at, alerts in log.seen
        if at == WEDNESDAY + 30 * MINUTE
        for key, alert in alerts.items()
    }
    assert shown["no_data"] == "firing"
    assert shown["entity_spend"] == shown["latency"] == "inhibited"
    after = [told for told in log.told if told.at > WEDNESDAY + 21 * MINUTE]
    assert {told.alert.finding.rule for told in after} == {"no_data"}


def test_m06_a_silence_is_quiet_ends_by_itself_and_what_still_holds_is_told_then() -> None:
    """silence with matchers, author, comment and end: nothing sent; visible on the dashboard; ends
    by itself; firing after the end is sent if still true."""
    end = WEDNESDAY + 30 * MINUTE
    silence = Silence(
        "s1",
        {"rule": "errors", "error_kind": "server_*"},
        "ann",
        "known",
        WEDNESDAY,
        end,
        WEDNESDAY,
    )
    outage = Fault(0, 60, failing(1, "server_error"))

    def said(_: datetime, __: dict[Key, Alert]) -> People:
        return People((silence,))

    log = watch([outage], 40, people=said)
    assert [(told.alert.finding.rule, told.at) for told in log.told] == [("errors", end)]
    shown = {alert.shown_state for at, some in log.seen if WEDNESDAY + 5 * MINUTE < at < end
             for alert in some.values() if alert.finding.rule == "errors"}  # fmt: skip
    assert shown == {"silenced"}
    hushed = [a.hushed for at, some in log.seen if at < end for a in some.values() if a.hushed]
    assert hushed[-1].startswith("silence s1 by ann until 2026-10-21 14:30")


class Line:
    """A channel that answers as it is told to."""

    def __init__(self, name: str, *answers: bool | None) -> None:
        self.name, self.keyed = name, True
        self.answers = list(answers)
        self.sent: list[Message] = []

    def send(self, message: Message) -> Outcome:
        """Take a message."""
        self.sent.append(message)
        answer = self.answers.pop(0) if self.answers else True
        if answer is None:
            raise SystemExit  # nobody knows whether it got through
        return Outcome(delivered=answer, detail="" if answer else "answered 500")


@pytest.fixture
def fire(store: Store) -> Callable[..., None]:
    """Let a finding be an alert that fires, in the store."""

    def fired(*findings: Finding, minute: float = 0) -> None:
        now, none = WEDNESDAY + minute * MINUTE, timedelta(0)
        alerts, steps = step(findings, {}, fresh=True, now=now, timing=Timing(none, none))
        keep(store, alerts.values(), steps)

    return fired


def test_m07_a_message_is_delivered_once_and_each_try_recorded(
    store: Store, fire: Callable[..., None]
) -> None:
    """notifier returns 500 three times, then 200: delivered once, within the retry budget; each try
    recorded; no second delivery after a timeout whose outcome is unknown, when the channel has a
    deduplication key."""
    line, settings = Line("line", False, False, False), Alerts()
    fire(found())
    for second in (0, 4, 5, 19, 20, 79, 80, 380):
        send_due(store, [line], settings, WEDNESDAY + timedelta(seconds=second))
    assert len({message.message_id for message in line.sent}) == 1
    assert len(line.sent) == 4
    day = TimeRange(WEDNESDAY - timedelta(days=1), WEDNESDAY + timedelta(days=1))
    (delivery,) = recent_deliveries(store, day)
    assert (delivery.outcome, delivery.tries) == ("delivered", 4)
    dies = Line("dies", None)
    fire(found("no_data"), minute=30)
    with pytest.raises(SystemExit):
        send_due(store, [dies], settings, WEDNESDAY + 31 * MINUTE)
    before = len(dies.sent)
    send_due(store, [dies], settings, WEDNESDAY + 40 * MINUTE)
    send_due(store, [dies], settings, WEDNESDAY + 50 * MINUTE)
    ids = [message.message_id for message in dies.sent if message.payload["rule"] == "no_data"]
    assert before == 1
    assert len(set(ids)) == 1  # whoever had it knows it by its key
    assert len(ids) <= 2


def test_m08_a_dead_channel_is_told_of_through_another(
    store: Store, fire: Callable[..., None]
) -> None:
    """channel down for 2 h: the other channels get it; dead letter visible; the alert about the dead
    channel goes through a different channel."""
    down, other, settings = Line("down", *[False] * 99), Line("other"), Alerts()
    channels = [down, other]
    fire(found())
    told_of = False
    for minute in range(0, 121, 4):
        now = WEDNESDAY + minute * MINUTE
        trouble = channel_findings(health(store, names(channels), now), now)
        if trouble and not told_of:
            fire(*trouble, minute=minute)
            told_of = True
        send_due(store, channels, settings, now)
    assert [message.payload["rule"] for message in other.sent] == ["errors", "channel_down"]
    assert {message.payload["rule"] for message in down.sent} == {"errors"}
    (sick,) = health(store, names(channels), WEDNESDAY + 120 * MINUTE)
    assert (sick.channel, sick.failures) == ("down", len(down.sent))
    day = TimeRange(WEDNESDAY - timedelta(days=1), WEDNESDAY + timedelta(days=1))
    shown = {(one.channel, one.outcome) for one in recent_deliveries(store, day)}
    assert ("down", "failed") in shown


def test_m09_an_alert_whose_rule_is_changed_is_closed_and_not_resolved() -> None:
    """rule edited while firing: old episode closes as "rule changed", not as "resolved"."""
    desk = Desk()
    desk.over(range(4), found())
    desk.limits = Limits(errors=ErrorLimits(min_errors=500))
    assert desk.at(4) == ["errors closed"]
    assert desk.steps[-1].reason == "rule changed"
    assert "resolved" not in desk.states()


def test_m10_a_level_that_is_marked_as_expected_raises_nothing_until_that_is_undone(
    store: Store,
) -> None:
    """operator marks "expected": the baseline takes the new level from then on; the mark is undoable
    and shown."""
    launch = [Volume(-300, 300, 4, "review")]
    assert [told.alert.finding.rule for told in watch(launch, 10).told][:1] == ["spend"]
    made = mark(store, "new_level", WEDNESDAY - timedelta(hours=5), None, ("feature", "review"),
                "ann", "the launch", WEDNESDAY)  # fmt: skip
    (shown,) = marks(store)
    assert (shown.author, shown.comment) == ("ann", "the launch")
    known = tuple(one.as_mark for one in marks(store))

    def marked(_: datetime) -> tuple[Mark, ...]:
        return known

    quiet = watch(launch, 10, marks=marked)
    assert [told.alert.finding.title for told in quiet.told] == []
    undo(store, made, WEDNESDAY + MINUTE)
    assert marks(store) == []


def test_m11_the_same_minute_evaluated_twice_is_one() -> None:
    """the same evaluation is run twice for the same minute (restart, two processes): identical
    state, nothing sent twice."""
    one, other = Desk(), Desk()
    for desk, times in ((one, 1), (other, 2)):
        for minute in range(20):
            for _ in range(times):
                desk.at(minute, *([found()] if minute < 8 else []))
    assert one.alerts == other.alerts
    assert one.steps == other.steps
    assert [step.alert.state for step in one.steps if step.tells] == ["firing", "resolved"]
    apart = Desk()  # another process, a few seconds later in the same minute
    apart.over(range(4), found())
    later = Desk()
    later.over(range(4), replace(found(), until=WEDNESDAY + MINUTE))
    assert [a.alert_id for a in apart.alerts.values()] == [
        a.alert_id for a in later.alerts.values()
    ]
