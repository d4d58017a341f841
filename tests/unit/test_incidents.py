"""Who is told what, once: overlapping rules, groups, inhibition, silences, acks, changed rules."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from costspan.errors import Rejected
from costspan_dashboards.alerts.cause import Contributor, Pairs
from costspan_dashboards.alerts.evaluate import Key, People, step
from costspan_dashboards.alerts.finding import Finding, Severity
from costspan_dashboards.alerts.limits import ErrorLimits, Limits
from costspan_dashboards.alerts.scopes import Scope
from costspan_dashboards.alerts.silences import OperatorMark, Silence, matchers
from costspan_dashboards.alerts.state import Action, Alert, Timing, Transition

T0 = datetime(2026, 11, 18, 14, 0, tzinfo=UTC)
TIMING = Timing(pending_for=timedelta(0), keep_firing_for=timedelta(minutes=5))
CHAT: Pairs = (("feature", "chat"),)


def found(
    rule: str = "errors",
    severity: Severity = "page",
    cause: Pairs = CHAT,
    *,
    episode: str = "",
) -> Finding:
    contributors = (Contributor(cause, (), Decimal(9), Decimal(1), 1.0),) if cause else ()
    return Finding(
        rule=rule,
        severity=severity,
        scope=Scope(),
        since=T0,
        until=T0,
        observed=Decimal("0.5"),
        usual=Decimal("0.01"),
        unit="share",
        title=f"{rule} of {dict(cause)}",
        facts=(),
        contributors=contributors,
        shared=cause,
        examples=(),
        link="",
        episode=episode,
        window_minutes=5,
    )


class Room:
    """All alerts of an installation, fed minute by minute."""

    def __init__(self) -> None:
        self.alerts: dict[Key, Alert] = {}
        self.steps: list[Transition] = []
        self.silences: tuple[Silence, ...] = ()
        self.actions: tuple[Action, ...] = ()
        self.limits = Limits()

    def at(self, minute: float, *findings: Finding, fresh: bool = True) -> Sequence[str]:
        """Evaluate, and return what was told."""
        after, steps = step(
            findings,
            {key: alert for key, alert in self.alerts.items() if alert.is_kept},
            fresh=fresh,
            now=T0 + timedelta(minutes=minute),
            timing=TIMING,
            limits=self.limits,
            people=People(self.silences, self.actions),
        )
        self.alerts, self.steps = after, [*self.steps, *steps]
        return [f"{one.alert.finding.rule} {one.alert.state}" for one in steps if one.tells]

    def one(self, rule: str = "errors") -> Alert:
        (alert,) = [one for key, one in self.alerts.items() if key[0] == rule]
        return alert

    def act(self, rule: str, kind: str, minute: float) -> None:
        action = Action(
            self.one(rule).alert_id,
            "close" if kind == "close" else "acknowledge",
            "ada",
            "on it",
            T0 + timedelta(minutes=minute),
        )
        self.actions = (*self.actions, action)


@pytest.fixture
def room() -> Room:
    return Room()


def silenced(ends_after: float, **about: str) -> Silence:
    return Silence("s1", about, "ada", "deploy", T0, T0 + timedelta(minutes=ends_after), T0)


def test_two_rules_that_see_one_thing_have_one_fingerprint_and_one_message(room: Room) -> None:
    both = found("spend", "ticket"), found("entity_spend", "page")
    assert room.at(0, *both) == ["entity_spend firing"]
    assert room.one("spend").fingerprint == room.one("entity_spend").fingerprint
    assert room.one("spend").incident == room.one("entity_spend").alert_id
    assert [room.at(1), room.at(7)] == [[], ["entity_spend resolved"]]


def test_while_its_rule_fails_an_alert_is_neither_resolved_nor_told_again(room: Room) -> None:
    assert room.at(0, found()) == ["errors firing"]
    fails = found("rule_fails", "ticket", (), episode="errors")
    assert room.at(1, fails) == ["rule_fails firing"]
    assert [room.at(minute, fails) for minute in range(2, 20)] == [[]] * 18
    assert room.one().state == "stale"
    assert room.at(20, found()) == []
    assert room.one().state == "firing"
    assert [room.at(minute) for minute in (25, 26)] == [["rule_fails resolved"], []]
    assert room.at(31) == ["errors resolved"]


def test_a_second_rule_tells_only_what_is_worse(room: Room) -> None:
    assert room.at(0, found("spend", "ticket")) == ["spend firing"]
    assert room.at(1, found("spend", "ticket"), found("unit_cost", "ticket")) == []
    three = found("spend", "ticket"), found("unit_cost", "ticket"), found("entity_spend", "page")
    assert room.at(2, *three) == ["entity_spend firing"]
    assert room.at(3, *three) == []


def test_another_teams_excess_in_a_lasting_ticket_is_told_once(room: Room) -> None:
    mine, theirs = (("team", "alpha"),), (("team", "beta"),)
    first = replace(found("spend", "ticket", mine), alone_from=0.3)
    second = replace(
        first,
        contributors=(*first.contributors, replace(first.contributors[0], where=theirs, share=0.4)),
    )
    dearer = found("unit_cost", "ticket", mine)
    assert room.at(0, first, dearer) == ["spend firing"]
    assert [told for minute in range(1, 60) for told in room.at(minute, first, dearer)] == []
    told = [(minute, *room.at(minute, second, dearer)) for minute in range(60, 2000, 5)]
    assert [one for one in told if one[1:]] == [(65, "spend firing")]
    alone = room.at(2010, found("spend", "ticket", theirs))
    assert alone == []  # it goes on, as was told


def test_eight_features_that_fail_are_one_group_and_what_joins_later_is_quiet(room: Room) -> None:
    def failing(count: int, kind: str = "server_error") -> list[Finding]:
        return [
            found(cause=(("feature", f"f{n}"), ("error_kind", kind)), episode=f"f{n}")
            for n in range(count)
        ]

    assert room.at(0, *failing(6)) == ["errors firing"]
    assert room.at(1, *failing(8)) == []
    assert len({alert.incident for alert in room.alerts.values()}) == 1
    room.at(2)
    assert room.at(8) == ["errors resolved"]


def test_no_data_inhibits_what_it_hides_and_says_so(room: Room) -> None:
    room.at(0, found("spend"))
    assert room.at(1, found("no_data", cause=()), fresh=False) == ["no_data firing"]
    spend = room.one("spend")
    assert (spend.state, spend.shown_state) == ("stale", "inhibited")
    assert "no_data" in spend.hushed
    room.at(2, found("spend"))
    assert room.one("spend").shown_state == "inhibited"  # no_data must be gone for a while
    assert room.at(7, found("spend")) == ["no_data resolved"]  # and spend was told before
    assert room.one("spend").shown_state == "firing"


def test_what_fires_stays_where_no_calls_come_but_those_that_nobody_looks_at(room: Room) -> None:
    room.at(0, found())
    for minute in range(1, 30):
        room.at(minute, found("no_data", cause=()))  # staging goes on: calls do arrive
        assert room.one().state == "stale"
    assert not [one for one in room.steps if one.alert.state == "resolved"]


def test_an_outage_that_a_person_closed_hides_nothing(room: Room) -> None:
    outage = found("no_data", cause=())
    room.at(0, outage)
    room.act("no_data", "close", 1)
    room.at(1, outage, found("entity_spend"))
    assert room.at(2, outage, found("entity_spend")) == ["entity_spend firing"]


def test_a_silence_is_quiet_until_it_ends_and_then_what_still_fires_is_told(room: Room) -> None:
    room.silences = (silenced(10, rule="err*", feature="chat"),)
    assert room.at(0, found()) == []
    assert room.one().shown_state == "silenced"
    assert [room.at(minute, found()) for minute in (5, 9.9)] == [[], []]
    assert room.at(10, found()) == ["errors firing"]
    assert room.one().hushed == ""


def test_what_begins_and_ends_in_a_silence_is_never_told(room: Room) -> None:
    room.silences = (silenced(60, rule="errors"),)
    assert [room.at(minute) for minute in (1, 2, 8)] == [[], [], []]
    room.at(10, found())
    room.at(11)
    assert room.at(17) == []
    assert room.steps[-1].alert.state == "resolved"


def test_a_silence_of_another_value_silences_nothing(room: Room) -> None:
    room.silences = (silenced(60, rule="errors", feature="search"),)
    assert room.at(0, found()) == ["errors firing"]


def test_a_page_is_told_again_after_four_hours_and_not_once_it_is_acknowledged(room: Room) -> None:
    assert room.at(0, found()) == ["errors firing"]
    assert [room.at(minute, found()) for minute in (239, 240, 241)] == [[], ["errors firing"], []]
    room.act("errors", "acknowledge", 242)
    assert room.at(242, found()) == []
    assert (room.one().state, room.one().taken_by) == ("acknowledged", "ada")
    assert room.at(600, found()) == []
    assert room.at(601, found(cause=(("feature", "search"),))) == ["errors firing"]


def test_a_ticket_is_told_once(room: Room) -> None:
    assert room.at(0, found("latency", "ticket")) == ["latency firing"]
    assert room.at(2000, found("latency", "ticket")) == []


def test_an_acknowledged_alert_survives_a_gap_in_the_data_and_ends_by_itself(room: Room) -> None:
    room.at(0, found())
    room.act("errors", "acknowledge", 1)
    room.at(1, found())
    room.at(2, fresh=False)
    assert room.one().state == "stale"
    room.at(3)
    assert room.one().state == "acknowledged"
    assert room.at(8) == ["errors resolved"]


def test_what_a_person_closes_stays_closed_while_it_lasts(room: Room) -> None:
    room.at(0, found("traffic_drop", "ticket"))
    room.act("traffic_drop", "close", 1)
    assert room.at(1, found("traffic_drop", "ticket")) == ["traffic_drop closed"]
    assert room.at(500, found("traffic_drop", "ticket")) == []
    room.at(501)
    room.at(507)
    assert room.at(600, found("traffic_drop", "ticket")) == ["traffic_drop firing"]


def test_a_rule_that_is_edited_closes_its_episode_and_begins_another(room: Room) -> None:
    room.at(0, found(), found("latency", cause=(("feature", "search"),)))
    before = room.one()
    room.limits = replace(Limits(), errors=ErrorLimits(min_errors=6))
    assert room.at(1, found(), found("latency", cause=(("feature", "search"),))) == [
        "errors closed",
        "errors firing",
    ]
    ended = [one for one in room.steps if one.alert.alert_id == before.alert_id][-1]
    assert (ended.alert.state, ended.reason) == ("closed", "rule changed")
    assert room.one().alert_id != before.alert_id


def test_info_is_told_once_and_its_end_to_nobody(room: Room) -> None:
    assert room.at(0, found("clock", "info")) == ["clock firing"]
    room.at(1)
    assert room.at(7) == []


def test_two_that_have_nothing_in_common_are_two_messages(room: Room) -> None:
    two = found("budget", "ticket", (), episode="a"), found("budget", "ticket", (), episode="b")
    assert room.at(0, *two) == ["budget firing", "budget firing"]


def test_the_same_minute_twice_and_in_two_processes_is_the_same(room: Room) -> None:
    other = Room()
    assert room.at(0.1, found()) == other.at(0.2, found())
    assert room.one().alert_id == other.one().alert_id
    before = dict(room.alerts)
    assert room.at(0.1, found()) == []
    assert room.alerts == before


def test_a_silence_of_everything_or_of_no_name_is_refused() -> None:
    assert matchers(["rule=latency", "feature=a b"]) == {"rule": "latency", "feature": "a b"}
    for wrong in ([], ["latency"], ["colour=red"], ["rule="]):
        with pytest.raises(Rejected, match=r"silence of everything|not name=value"):
            matchers(wrong)


def test_a_mark_is_what_the_baselines_read() -> None:
    made = OperatorMark(
        "m", "new_level", T0, None, "feature", "review", "ada", "launch", T0, undone=False
    )
    assert (made.as_mark.kind, made.as_mark.until, made.as_mark.value) == (
        "new_level",
        None,
        "review",
    )
