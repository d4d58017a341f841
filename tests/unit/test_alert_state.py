"""The life of an alert, step by step, with a clock that the test moves."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from pydantic import TypeAdapter

from costspan_dashboards.alerts.cause import Contributor, Pairs
from costspan_dashboards.alerts.finding import Finding, Severity
from costspan_dashboards.alerts.scopes import Scope
from costspan_dashboards.alerts.state import Alert, Timing, Transition, advance, fingerprint

T0 = datetime(2026, 11, 18, 14, 0, tzinfo=UTC)
TIMING = Timing(pending_for=timedelta(minutes=2), keep_firing_for=timedelta(minutes=5))


def finding(
    minute: int = 0, *, severity: Severity = "page", cause: Pairs = (("feature", "chat"),)
) -> Finding:
    contributors = (Contributor(cause, (), Decimal(9), Decimal(1), 1.0),) if cause else ()
    return Finding(
        rule="errors",
        severity=severity,
        scope=Scope("feature", "chat"),
        since=T0 + timedelta(minutes=minute - 5),
        until=T0 + timedelta(minutes=minute),
        observed=Decimal("0.5"),
        usual=Decimal("0.01"),
        unit="share",
        title="50 % failed",
        facts=(),
        contributors=contributors,
        shared=cause,
        examples=(),
        link="",
    )


def one_and_both() -> tuple[Finding, Finding]:
    """Return a ticket, and the same with a further cause that would be one by itself."""
    chat = replace(finding(severity="ticket"), alone_from=0.3)
    other = Contributor((("team", "beta"),), (), Decimal(9), Decimal(1), 0.4)
    return chat, replace(chat, contributors=(*chat.contributors, other))


class Life:
    """One alert and the steps it took, fed minute by minute."""

    def __init__(self) -> None:
        self.alert: Alert | None = None
        self.steps: list[Transition] = []

    def at(self, minute: float, seen: Finding | None, *, fresh: bool = True) -> str:
        now = T0 + timedelta(minutes=minute)
        self.alert, steps = advance(self.alert, seen, fresh=fresh, now=now, timing=TIMING)
        self.steps += steps
        return self.alert.state if self.alert else "none"

    @property
    def told(self) -> list[str]:
        return [f"{step.alert.state}: {step.reason}" for step in self.steps if step.tells]


def firing() -> Life:
    life = Life()
    for minute in range(3):
        life.at(minute, finding(minute))
    assert life.told == ["firing: lasts"]
    return life


def test_a_blip_is_pending_and_goes_without_a_word() -> None:
    life = Life()
    assert [life.at(0, finding()), life.at(1, None)] == ["pending", "inactive"]
    assert life.told == []


def test_what_lasts_is_told_once_and_keeps_its_start() -> None:
    life = Life()
    states = [life.at(minute, finding(minute)) for minute in range(10)]
    assert states == ["pending"] * 2 + ["firing"] * 8
    assert life.told == ["firing: lasts"]
    assert life.alert is not None
    assert life.alert.finding.since == T0 - timedelta(minutes=5)
    assert life.alert.firing_since == T0 + timedelta(minutes=2)


def test_a_minute_of_rest_does_not_end_an_episode() -> None:
    life = firing()
    first = life.alert
    assert life.at(3, None) == "firing"
    assert life.at(4, finding(4)) == "firing"
    assert life.at(8, None) == "firing"
    assert life.at(12, None) == "firing"
    assert life.at(13, None) == "resolved"
    assert life.told == ["firing: lasts", "resolved: back to usual"]
    assert first is not None
    assert life.alert is not None
    assert life.alert.alert_id == first.alert_id


def test_what_is_over_is_told_as_it_was_told_and_not_by_what_is_left_of_it() -> None:
    life = Life()
    for minute in range(3):
        life.at(minute, finding(minute, severity="ticket"))
    life.at(3, finding(3))
    life.at(4, replace(finding(4), title="3 % failed"))
    assert life.alert is not None
    assert life.alert.finding.title == "3 % failed"
    assert [life.at(minute, None) for minute in (5, 15)] == ["firing", "resolved"]
    assert life.alert.finding.title == "50 % failed"
    assert life.alert.finding.severity == "page"
    assert life.alert.finding.until == T0 + timedelta(minutes=3)
    assert life.alert.finding.since == T0 - timedelta(minutes=5)


def test_what_lasted_for_long_must_be_well_for_long() -> None:
    life = firing()
    life.at(202, finding(202))
    states = [life.at(minute, None) for minute in range(203, 254)]
    assert states == ["firing"] * 50 + ["resolved"]


def test_trouble_after_the_end_is_a_new_episode_of_the_same_fingerprint() -> None:
    life = firing()
    life.at(3, None)
    life.at(8, None)
    old = life.alert
    life.at(20, finding(20))
    assert old is not None
    assert life.alert is not None
    assert life.alert.alert_id != old.alert_id
    assert life.alert.fingerprint == old.fingerprint == fingerprint(finding())


def test_no_data_is_stale_and_never_resolves() -> None:
    life = firing()
    assert [life.at(minute, None, fresh=False) for minute in (3, 60, 600)] == ["stale"] * 3
    assert life.told == ["firing: lasts"]
    assert life.at(601, None) == "firing"  # data again, and all is well: wait as always
    assert life.at(605, None) == "firing"
    assert life.at(606, None) == "resolved"


def test_a_rest_before_a_gap_in_the_data_does_not_count() -> None:
    life = firing()
    life.at(3, None)
    life.at(4, None, fresh=False)
    assert life.at(9, None) == "firing"


def test_pending_waits_while_there_is_no_data() -> None:
    life = Life()
    life.at(0, finding())
    assert life.at(1, None, fresh=False) == "pending"
    assert life.told == []


def test_a_ticket_that_becomes_a_page_is_told_again_and_stays_a_page() -> None:
    life = Life()
    for minute in range(3):
        life.at(minute, finding(minute, severity="ticket"))
    life.at(3, finding(3, severity="page"))
    life.at(4, finding(4, severity="ticket"))
    assert life.told == ["firing: lasts", "firing: is now a page"]
    assert life.alert is not None
    assert life.alert.finding.severity == "page"


def test_a_further_cause_is_told_once() -> None:
    life = firing()
    other = (("feature", "review"),)
    for minute in range(3, 9):
        life.at(minute, finding(minute, cause=other if minute % 2 else (("feature", "chat"),)))
    assert life.told == ["firing: lasts", "firing: has a further cause"]


def test_a_flickering_cause_cannot_flood() -> None:
    life = firing()
    for minute in range(3, 60):
        life.at(minute, finding(minute, cause=(("feature", f"f{minute}"),)))
    assert len(life.told) == 1 + 5


def test_a_further_cause_behind_the_first_is_told_where_it_is_a_large_part() -> None:
    life, both = firing(), finding(4)
    small = Contributor((("feature", "small"),), (), Decimal(2), Decimal(1), 0.1)
    large = replace(small, where=(("feature", "large"),), share=0.4)
    life.at(3, replace(both, contributors=(*both.contributors, small)))
    assert life.told == ["firing: lasts"]
    for minute in (4, 5):
        life.at(minute, replace(both, contributors=(*both.contributors, small, large)))
    assert life.told == ["firing: lasts", "firing: has a further cause"]


def test_a_further_cause_of_a_ticket_is_told_once_and_only_where_it_lasts() -> None:
    life = Life()
    chat, both = one_and_both()
    for minute in range(3):
        life.at(minute, chat)
    for minute in range(3, 41):  # now and then is chance
        life.at(minute, both if minute % 4 else chat)
    assert life.told == ["firing: lasts"]
    for minute in range(41, 47):
        life.at(minute, replace(both, alone_from=None))
    assert life.told == ["firing: lasts"]
    for minute in range(47, 53):
        life.at(minute, both)
        assert (len(life.told) == 2) == (minute == 52)
    for minute in range(53, 120):
        life.at(minute, both if minute % 30 < 15 else chat)
    assert life.told == ["firing: lasts", "firing: has a further cause"]


def test_a_further_cause_that_shares_a_told_one_is_no_news() -> None:
    life = Life()
    team, feature = (("team", "beta"),), (("feature", "review"),)
    chat = replace(finding(severity="ticket"), alone_from=0.3)
    further = Contributor(team, (), Decimal(9), Decimal(1), 0.4)
    for minute in range(3):
        life.at(minute, replace(chat, contributors=(*chat.contributors, further)))
    same = replace(further, where=feature, also=team)
    for minute in range(3, 20):
        life.at(minute, replace(chat, contributors=(*chat.contributors, same)))
    assert life.told == ["firing: lasts"]


def test_an_outage_of_hours_is_over_when_calls_came_for_minutes() -> None:
    life, outage = Life(), replace(finding(), rule="no_data")
    for minute in (0, 2, 600):
        life.at(minute, outage)
    assert [life.at(minute, None) for minute in (601, 606)] == ["firing", "resolved"]


def test_a_rest_of_the_breach_is_a_rest_of_its_further_cause() -> None:
    life = Life()
    chat, both = one_and_both()
    for minute in range(3):
        life.at(minute, chat)
    for minute in (3, 9, 15):
        life.at(minute, both)
        life.at(minute + 3, None)
    assert life.told == ["firing: lasts"]


def test_an_episode_that_an_earlier_version_kept_goes_on_and_ends() -> None:
    life, kept = firing(), TypeAdapter(Alert)
    assert life.alert
    snapshot = kept.dump_python(life.alert, mode="json")
    for name in ("told", "news_since"):
        del snapshot[name]
    del snapshot["finding"]["alone_from"]
    life.alert = kept.validate_python(snapshot)
    life.at(3, replace(finding(3), title="3 % failed"))
    assert [life.at(minute, None) for minute in (4, 14)] == ["firing", "resolved"]
    assert life.alert
    assert (life.alert.finding.title, life.alert.told) == ("3 % failed", life.alert.finding)


def test_what_goes_on_by_milder_limits_has_no_further_cause() -> None:
    life = firing()
    for minute in range(3, 60):
        milder = finding(minute, severity="info", cause=(("feature", "review"),))
        life.at(minute, replace(milder, alone_from=0.0))
    assert life.told == ["firing: lasts"]


def test_the_same_or_an_earlier_moment_changes_nothing() -> None:
    life = firing()
    before: Any = life.alert
    assert life.at(2, None) == "firing"
    assert life.at(1, None, fresh=False) == "firing"
    assert life.alert == before
    assert len(life.steps) == 2
