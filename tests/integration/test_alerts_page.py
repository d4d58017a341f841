"""The Alerts page, run by Streamlit's own test runner: people act, and the next evaluation obeys."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial

import pytest
from streamlit.testing.v1 import AppTest

from costspan_collector.store import Store
from costspan_dashboards.alerts.cause import Contributor
from costspan_dashboards.alerts.evaluate import keep, key_of, step
from costspan_dashboards.alerts.finding import Finding
from costspan_dashboards.alerts.queries import notices, open_incidents
from costspan_dashboards.alerts.scopes import Scope
from costspan_dashboards.alerts.silences import actions, marks, silences
from costspan_dashboards.alerts.state import Alert, Timing

NOW = datetime.now(UTC)


@pytest.fixture
def alert(store: Store) -> Alert:
    """An alert that fires."""
    found = Finding(
        rule="errors",
        severity="page",
        scope=Scope("feature", "review"),
        since=NOW - timedelta(minutes=5),
        until=NOW,
        observed=Decimal("0.5"),
        usual=Decimal("0.01"),
        unit="share",
        title="50.0 % of calls failed",
        facts=("100 % of it is feature=review.",),
        contributors=(Contributor((("feature", "review"),), (), Decimal(9), Decimal(1), 1.0),),
        shared=(),
        examples=(),
        link="/calls?feature=review",
        window_minutes=5,
    )
    timing = Timing(timedelta(0), timedelta(minutes=5))
    alerts, steps = step([found], {}, fresh=True, now=NOW, timing=timing)
    keep(store, alerts.values(), steps)
    (one,) = alerts.values()
    return one


@pytest.fixture
def page(open_page: Callable[..., AppTest]) -> Callable[..., AppTest]:
    return partial(open_page, "alerts")


def fill(app: AppTest, what: str, alert: Alert, button: str) -> AppTest:
    """Say who and why, and press."""
    app.text_input(key=f"author {what} {alert.alert_id}").input("ada")
    app.text_input(key=f"comment {what} {alert.alert_id}").input("rollout")
    (found,) = [one for one in app.button if one.label == button]
    found.click().run()
    assert not app.exception, app.exception
    return app


def test_a_person_takes_an_alert(page: Callable[..., AppTest], alert: Alert, store: Store) -> None:
    assert "next evaluation" in fill(page(), "ack", alert, "Acknowledge").success[0].value
    (done,) = actions(store, [alert.alert_id])
    assert (done.kind, done.author, done.comment) == ("acknowledge", "ada", "rollout")


def test_a_silence_is_of_the_rule_and_its_cause_is_shown_and_can_be_ended(
    page: Callable[..., AppTest], alert: Alert, store: Store
) -> None:
    fill(page(silence=alert.alert_id), "silence", alert, "Silence")
    (made,) = silences(store, datetime.now(UTC))
    assert made.matchers == {"rule": "errors", "feature": "review"}
    app = page()
    assert "Silences" in [one.value for one in app.subheader]
    app.button(key=f"end {made.silence_id}").click().run()
    assert silences(store, datetime.now(UTC)) == []


def test_what_is_planned_is_the_new_usual_until_it_is_undone(
    page: Callable[..., AppTest], alert: Alert, store: Store
) -> None:
    fill(page(), "mark", alert, "Planned: the new usual")
    (made,) = marks(store)
    assert (made.kind, made.dimension, made.value) == ("new_level", "feature", "review")
    app = page()
    app.button(key=f"undo {made.mark_id}").click().run()
    assert marks(store) == []


def test_a_link_to_an_alert_that_is_over_says_what_became_of_it(
    page: Callable[..., AppTest], alert: Alert, store: Store
) -> None:
    assert not page(alert=alert.alert_id).info
    timing, known = Timing(timedelta(0), timedelta(0)), {key_of(alert.finding): alert}
    for minute in (1, 3):
        later = NOW + timedelta(minutes=minute)
        known, steps = step([], known, fresh=True, now=later, timing=timing)
        keep(store, known.values(), steps)
    said = page(alert=alert.alert_id).info[0].value
    assert said.startswith("**50\\.0 % of calls failed** is resolved since")
    assert "Alert older is over" in page(alert="older").info[0].value


@pytest.mark.usefixtures("alert")
def test_nobody_acts_without_a_name(page: Callable[..., AppTest]) -> None:
    app = page(runbook="errors")
    assert app.info[0].value.startswith("**What to do about errors.**")
    (button,) = [one for one in app.button if one.label == "Acknowledge"]
    button.click().run()
    assert "say who you are" in app.error[0].value


def test_an_incident_is_one_card_and_what_is_only_good_to_know_is_no_open_alert(
    page: Callable[..., AppTest], alert: Alert, store: Store
) -> None:
    cause = alert.finding
    beside = replace(cause, rule="latency", severity="ticket", title="Calls are slow")
    late = replace(cause, rule="late", severity="info", contributors=(), title="Spans are late")
    timing = Timing(timedelta(0), timedelta(minutes=5))
    known = {key_of(cause): alert}
    now = NOW + timedelta(seconds=1)
    alerts, steps = step([cause, beside, late], known, fresh=True, now=now, timing=timing)
    keep(store, alerts.values(), steps)
    (incident,) = open_incidents(store)
    assert [one.finding.rule for one in incident] == ["errors", "latency"]
    assert [one.finding.rule for one in notices(store)] == ["late"]
    app = page()
    labels = [one.label for one in app.expander]
    assert "Also found of it: latency" in labels
    assert "Good to know: 1, nothing to do" in labels
    assert len([one for one in app.button if one.label == "Acknowledge"]) == 1
    fill(app, "ack", alert, "Acknowledge")  # of the card, so of all that is on it
    taken = actions(store, [one.alert_id for one in incident])
    assert {one.alert_id for one in taken} == {one.alert_id for one in incident}
    fill(page(), "silence", alert, "Silence")
    quiet = [one.matchers["rule"] for one in silences(store, datetime.now(UTC))]
    assert sorted(quiet) == ["errors", "latency"]
