"""The rules on frames whose calls are made by hand: what fires, and what does not."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, cast

import numpy as np
import pytest

from costspan_dashboards.alerts.chance import beta_binomial_tail, scatter_of
from costspan_dashboards.alerts.evaluate import judged
from costspan_dashboards.alerts.finding import Finding
from costspan_dashboards.alerts.forecast import month_end
from costspan_dashboards.alerts.frame import (
    Archive,
    Cells,
    Drift,
    Frame,
    JobHealth,
    Mark,
    Names,
    Plumbing,
    minute_of,
    slot_of,
    time_of,
)
from costspan_dashboards.alerts.limits import Budget, LatencyObjective, Limits
from costspan_dashboards.alerts.rules import RULES, judge
from costspan_dashboards.alerts.rules.budget import daily_pico
from costspan_dashboards.alerts.scopes import Scope, View, usual
from costspan_dashboards.alerts.state import Timing, advance

NOW = datetime(2026, 11, 18, 14, 0, tzinfo=UTC)  # a Wednesday
UNTIL = minute_of(NOW)
DAY = 1440
LIMITS = Limits()


@dataclass
class World:
    """Calls by the minute; ten a minute of chat on `small`, and two of review on `large`."""

    days: int = 29
    names: Names = field(default_factory=Names)
    rows: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def __post_init__(self) -> None:
        self.past: Cells | None = None

    def calls(self, since: int, until: int, step: int = 1, **more: Any) -> "World":
        """Add cells of calls, by the minute: figures are those of one cell."""
        kind = {"environment": "production", "service": "shop", "user": "u1", "error_kind": ""}
        for minute in range(since, until, step):
            self.rows.append({"minute": minute, **kind, **more})
        return self

    def usual(self, since: int, until: int, step: int = 1, **more: Any) -> "World":
        """Add what is usual; one call in 50 fails, in two calls of a hundred minutes each."""
        self.calls(since, until, step, **(chat(10 * step) | more))
        self.calls(since, until, step, **(review(2 * step) | more))
        return self.calls(since + since % 50, until, 50, **failed("chat", "small", 10))

    def cells(self) -> Cells:
        """Return everything that was added."""
        minute = np.array([row["minute"] for row in self.rows], np.int64)
        kinds = {
            name: self.names.encode(name, [row.get(name, "") for row in self.rows])
            for name in (
                "environment",
                "service",
                "feature",
                "model",
                "prompt",
                "user",
                "error_kind",
            )
        }
        figures = {
            name: np.array([row.get(name, 0) for row in self.rows])
            for name in {key for row in self.rows for key in row} - {"minute", *kinds, *_NONE}
        }
        return Cells.of(self.names, minute, kinds, figures)

    def frame(
        self, *, marks: tuple[Mark, ...] = (), latest: timedelta | None = None, **more: Any
    ) -> Frame:
        """Return the frame of NOW, to which nothing comes late."""
        cells = self.cells()
        archive = Archive(
            cells.coarser(5, without=("user",)), cells.coarser(60, without=("error_kind",))
        )
        return Frame(
            now=NOW + timedelta(seconds=90),
            until=UNTIL,
            present=cells.between(UNTIL - 60, 2**40),
            latest_arrival=NOW + timedelta(seconds=85) - (latest or timedelta()),
            history=archive.history(slot_of(UNTIL), marks=marks),
            **more,
        )


_NONE: set[str] = set()


def made(calls: int, each_usd: float, seconds: float, tokens: int = 1000) -> dict[str, Any]:
    """Return the figures of calls that worked."""
    cost, log = round(calls * each_usd * 1e12), float(np.log(seconds * 1e6))
    return {
        "calls": calls,
        "attempts": calls,
        "input_tokens": calls * tokens,
        "cost_pico": cost,
        "input_cost_pico": cost,
        "priced_calls": calls,
        "timed_calls": calls,
        "log_duration": calls * log,
        "log_duration_squared": calls * (log * log + 0.16),
        "cost_usd_squared": calls * each_usd**2 * 1.4,
    }


def chat(calls: int, seconds: float = 3.0, **more: Any) -> dict[str, Any]:
    """Return calls of chat."""
    return {"feature": "chat", "model": "small", **made(calls, 0.0004, seconds), **more}


def review(calls: int, each_usd: float = 0.016, tokens: int = 6000, **more: Any) -> dict[str, Any]:
    """Return calls of review: two a minute cost 1.92 dollars an hour."""
    return {
        "feature": "review",
        "model": "large",
        **made(calls, each_usd, 4.0, tokens=tokens),
        **more,
    }


def failed(feature: str, model: str, calls: int, kind: str = "server_error") -> dict[str, Any]:
    """Return calls that failed at the first attempt."""
    return {
        "feature": feature,
        "model": model,
        "error_kind": kind,
        "calls": calls,
        "attempts": calls,
    }


def past(world: World | None = None, *, days: int = 29, present: bool = True) -> World:
    """Return a world with a history, by five minutes, and with a present unless told otherwise."""
    world = world or World()
    world.usual(UNTIL - days * DAY, UNTIL - 60, 5)
    return world.usual(UNTIL - 60, UNTIL) if present else world


def found(frame: Frame, limits: Limits = LIMITS) -> dict[str, Finding]:
    """Return the findings by rule."""
    return {one.rule: one for one in judge(frame, limits)}


def test_what_is_usual_raises_nothing() -> None:
    assert found(past().frame()) == {}


def test_a_rule_that_fails_is_told_of_and_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(view: View, limits: Limits) -> list[Finding]:
        del view, limits
        raise IndexError

    world = past()
    world.calls(UNTIL - 4, UNTIL, **failed("chat", "small", 12))
    monkeypatch.setitem(cast("dict[str, Any]", RULES), "no_data", broken)
    told = found(world.frame())
    assert set(told) == {"errors", "rule_fails"}
    assert (told["rule_fails"].severity, told["rule_fails"].episode) == ("ticket", "no_data")
    assert "IndexError" in told["rule_fails"].title


def test_an_outage_is_a_page_that_names_the_kind_of_error() -> None:
    world = past()
    world.calls(UNTIL - 4, UNTIL, **failed("chat", "small", 12))
    world.calls(UNTIL - 4, UNTIL, **failed("review", "large", 3))
    one = found(world.frame())["errors"]
    assert (one.severity, one.scope.dimension) == ("page", "")
    assert one.cause == (("error_kind", "server_error"),)
    assert one.waiting.startswith("That is ")


def test_one_features_own_errors_name_the_feature() -> None:
    world = past()
    world.calls(UNTIL - 15, UNTIL, **failed("review", "large", 2, "timeout"))
    one = found(world.frame())["errors"]
    assert one.cause == (("feature", "review"), ("error_kind", "timeout"))
    assert one.severity == "page"


def test_one_users_bad_requests_wake_nobody() -> None:
    world = past()
    bad = failed("chat", "small", 10, "invalid_request")
    world.calls(UNTIL - 4, UNTIL, **bad, user="u9")
    world.calls(UNTIL - 4, UNTIL, **chat(20), user="u2")
    one = found(world.frame())["errors"]
    assert one.severity == "ticket"
    assert ("user", "u9") in one.cause


def test_rate_limits_are_a_rule_of_their_own_and_a_ticket_while_retries_mend_them() -> None:
    world = past()
    world.calls(
        UNTIL - 10, UNTIL, feature="chat", model="small", error_kind="rate_limit", attempts=8
    )
    rules = found(world.frame())
    assert set(rules) == {"rate_limited", "retries"}
    assert rules["rate_limited"].severity == "ticket"
    assert (
        rules["rate_limited"].cause == (("model", "small"), ("error_kind", "rate_limit"))
        or (
            "feature",
            "chat",
        )
        in rules["rate_limited"].cause
    )
    world.calls(UNTIL - 10, UNTIL, **failed("chat", "small", 4, "rate_limit"))
    assert found(world.frame())["rate_limited"].severity == "page"


def test_two_failures_in_a_quiet_night_are_nothing() -> None:
    world = World()
    world.usual(UNTIL - 29 * DAY, UNTIL - 60, 5)
    world.calls(UNTIL - 10, UNTIL - 9, **failed("chat", "small", 2))
    world.calls(UNTIL - 10, UNTIL - 9, **chat(1))
    assert "errors" not in found(world.frame())


def test_two_calls_that_were_tried_again_wake_nobody_as_six_do() -> None:
    world = World()
    world.usual(UNTIL - 29 * DAY, UNTIL - 60, 5)
    world.calls(UNTIL - 4, UNTIL - 3, **failed("chat", "small", 2) | {"attempts": 6})
    assert found(world.frame())["errors"].severity == "ticket"
    world.calls(UNTIL - 4, UNTIL - 3, **failed("chat", "small", 4) | {"attempts": 12})
    assert found(world.frame())["errors"].severity == "page"


def test_without_a_day_of_history_only_the_objective_counts() -> None:
    world = past(days=0, present=False)
    world.rows.clear()
    world.usual(UNTIL - 6 * 60, UNTIL, 1)
    world.calls(UNTIL - 5, UNTIL, **failed("chat", "small", 10))
    world.calls(UNTIL - 15, UNTIL, **review(200))
    rules = found(world.frame())
    assert set(rules) == {"errors"}
    assert rules["errors"].severity == "page"
    assert "objective 98%" in " ".join(rules["errors"].facts)


def test_slower_calls_are_a_ticket_and_longer_answers_are_not() -> None:
    world = past(present=False)
    world.calls(UNTIL - 60, UNTIL, **chat(10, seconds=4.5), output_tokens=1000)
    world.calls(UNTIL - 60, UNTIL, **review(2))
    one = found(world.frame())["latency"]
    assert (one.severity, one.cause, one.kind) == ("ticket", (("feature", "chat"),), "duration")
    assert 1.45 < one.observed < 1.55


def test_an_objective_for_latency_that_is_missed_is_a_page_from_the_first_hour_on() -> None:
    world = World()
    world.usual(UNTIL - 3 * 60, UNTIL)  # chat takes three seconds, with a spread of 0.4
    met = LatencyObjective(seconds=6.5, feature="chat")
    assert found(world.frame(), replace(LIMITS, latency_objectives=(met,))) == {}
    missed = replace(LIMITS, latency_objectives=(replace(met, seconds=5.0),))
    one = found(world.frame(), missed)["latency"]
    assert (one.severity, one.cause) == ("page", (("feature", "chat"),))
    assert one.title.startswith("About 10.1 % of the calls of feature=chat take longer than 5 s")
    slow = past(present=False)
    slow.calls(UNTIL - 60, UNTIL, **chat(10, seconds=4.5), output_tokens=1000)
    slow.calls(UNTIL - 60, UNTIL, **review(2))
    both = found(slow.frame(), missed)["latency"]
    assert (both.severity, both.title[:22]) == ("page", "Calls of feature=chat ")
    assert "the objective allows 5.0 %" in " ".join(both.facts)


def test_more_spend_names_the_feature_and_that_it_is_volume() -> None:
    world = past()
    world.calls(UNTIL - 20, UNTIL, **review(6))
    rules = found(world.frame(), replace(LIMITS, disabled=("entity_spend",)))
    assert set(rules) == {"spend"}
    one = rules["spend"]
    assert (one.severity, one.kind) == ("ticket", "volume")
    assert one.cause == (("feature", "review"),)


def test_a_second_excess_that_is_an_alert_by_itself_is_one_to_tell_of() -> None:
    world = past(present=False)
    world.calls(UNTIL - 60, UNTIL, **chat(10))
    world.calls(UNTIL - 60, UNTIL, **review(18))
    world.calls(UNTIL - 29 * DAY, UNTIL, 5, **review(50) | {"feature": "search", "model": "base"})
    calm = replace(LIMITS, disabled=("entity_spend", "unit_cost"))
    first = found(world.frame(), calm)["spend"]
    assert first.causes == ((("feature", "review"),),)
    world.calls(UNTIL - 60, UNTIL, feature="chat", model="small", **made(10, 0.006, 3.0))
    both = found(world.frame(), calm)["spend"]
    assert both.severity == "ticket"
    assert set(both.causes) == {(("feature", "review"),), (("feature", "chat"),)}
    assert both.contributors[1].share < 0.25


def test_a_level_that_operators_marked_as_new_is_no_anomaly() -> None:
    world = past()
    world.calls(UNTIL - 20, UNTIL, **review(6))
    mark = Mark("new_level", UNTIL - 30, None, "feature", "review")
    calm = replace(LIMITS, disabled=("entity_spend",))
    assert "spend" in found(world.frame(), calm)
    assert "spend" not in found(world.frame(marks=(mark,)), calm)


def test_what_stays_high_must_be_higher_than_what_jumps() -> None:
    past = World()
    past.calls(UNTIL - 29 * DAY, UNTIL - 60, 5, **chat(50))
    past.calls(UNTIL - 29 * DAY, UNTIL - 60, 5, **review(50))
    calm = replace(LIMITS, disabled=("entity_spend",))

    def spends(first_half: int, second_half: int) -> bool:
        world = World(names=past.names, rows=list(past.rows))
        world.calls(UNTIL - 60, UNTIL, **chat(10))
        world.calls(UNTIL - 60, UNTIL - 30, **review(first_half))
        world.calls(UNTIL - 30, UNTIL, **review(second_half))
        return "spend" in found(world.frame(), calm)

    assert spends(10, 18)
    assert not spends(18, 18)
    assert spends(21, 21)


def test_a_day_is_compared_with_days_of_the_week_that_run_alike_and_no_others() -> None:
    world = World()
    for day in range(28, 0, -1):
        since = UNTIL - day * DAY
        world.calls(since - 180, since + 120, 5, **chat(20 if day % 7 in {3, 4} else 50))
        if day % 7 == 0:
            world.calls(since - 180, since + 120, 5, **review(10))
    known = usual(View.of(world.frame(), ()).past, "calls", "feature")
    assert known.days[world.names.code("feature", "chat")] == 20
    assert known.level[-1, world.names.code("feature", "chat")] == 600
    assert known.level[-1, world.names.code("feature", "review")] == 120


def test_what_fires_goes_on_by_milder_limits_in_the_scopes_it_was_told_of() -> None:
    world = past(present=False)
    world.calls(UNTIL - 60, UNTIL, **chat(10))
    world.calls(UNTIL - 60, UNTIL, **review(5, 0.01))
    frame = world.frame()
    seen = found(frame, LIMITS.eased)["spend"]
    alert = advance(
        None, seen, fresh=True, now=frame.now - timedelta(days=1), timing=Timing(*[timedelta()] * 2)
    )[0]
    assert alert
    assert alert.state == "firing"
    chats = (("feature", "chat"),)
    cause = replace(seen.contributors[0], where=chats)
    about_chat = replace(seen, scope=Scope(*chats[0]), contributors=(cause,))
    other = replace(alert, finding=about_chat, told_causes=(chats,))
    old = replace(alert, firing_since=frame.now - timedelta(days=6))
    for one, goes_on in ((alert, True), (other, False), (old, False)):
        told = judged(frame, LIMITS, {("spend", ""): one})
        assert ("spend" in {found.rule for found in told}) == goes_on


def test_a_feature_is_not_dearer_where_one_user_spends_too_much() -> None:
    world = past()
    dear = review(2, 0.08, 30_000)
    everyone = World(names=world.names, rows=list(world.rows))
    world.calls(UNTIL - 30, UNTIL, **dear, user="loop")
    assert "unit_cost" not in (rules := found(world.frame()))
    assert rules["entity_spend"].cause[-1] == ("user", "loop")
    for place in range(30):
        everyone.calls(UNTIL - 30 + place, UNTIL - 29 + place, **dear, user=f"u{place}")
    assert "unit_cost" in found(everyone.frame())


def test_what_always_failed_as_often_wakes_nobody_though_the_objective_is_missed() -> None:
    world = past()
    bad = failed("review", "large", 1, "invalid_request")
    world.calls(UNTIL - 29 * DAY, UNTIL - 60, 5, **bad | {"calls": 5, "attempts": 5})
    world.calls(UNTIL - 60, UNTIL, **bad)
    one = found(world.frame())["errors"]
    assert one.severity == "ticket"
    assert Decimal("0.28") < one.usual < Decimal("0.34")
    limited = World(rows=[row | {} for row in world.rows])
    for row in limited.rows:
        if row["error_kind"] == "invalid_request":
            row["error_kind"] = "rate_limit"
    assert found(limited.frame())["errors"].severity == "ticket"
    world.calls(UNTIL - 15, UNTIL, **failed("review", "large", 6))
    assert found(world.frame())["errors"].severity == "page"


def test_a_job_that_spends_in_minutes_of_an_hour_is_no_runaway_night_after_night() -> None:
    for ends in (0, 20):
        world = past()
        for day in range(29):
            end = UNTIL - day * DAY - ends
            world.calls(end - 15, end, **review(40), user="robot")
        assert found(world.frame()) == {}
    world.calls(UNTIL - 30, UNTIL, **review(120), user="robot")
    assert found(world.frame())["entity_spend"].severity == "page"


def test_a_new_nightly_job_is_what_is_usual_after_four_nights() -> None:
    fired: list[bool] = []
    for nights in (3, 4):
        world = past()
        for day in range(nights + 1):
            end = UNTIL - day * DAY
            world.calls(end - 30, end, **review(20, feature="batch"), user="robot")
        fired.append(bool(found(world.frame())))
    assert fired == [True, False]


def test_what_was_planned_is_expected_of_users_too_and_more_than_that_is_not() -> None:
    for about in (("feature", "review"), ("user", "u9")):
        for nights in (0, 2):
            world = past()
            for day in range(nights + 1):
                end = UNTIL - day * DAY
                world.calls(end - 60, end, **review(40), user="u9")
            mark = Mark("new_level", UNTIL - nights * DAY - 70, None, *about)
            assert "entity_spend" in found(world.frame())
            assert "entity_spend" not in found(world.frame(marks=(mark,)))
        world.calls(UNTIL - 30, UNTIL, **review(200), user="u9")
        assert found(world.frame(marks=(mark,)))["entity_spend"].severity == "page"


def test_a_slow_down_at_the_edge_goes_on_as_one_ticket() -> None:
    world = past(present=False)
    world.calls(UNTIL - 60, UNTIL, **chat(1, seconds=4.5), output_tokens=100)
    world.calls(UNTIL - 60, UNTIL, **review(2))
    frame = world.frame()
    seen = found(frame, LIMITS.eased)["latency"]
    few = replace(LIMITS, latency=replace(LIMITS.latency, min_calls=100))
    alert, _ = advance(
        None, seen, fresh=True, now=frame.now - timedelta(days=1), timing=Timing(*[timedelta()] * 2)
    )
    assert alert
    closed = replace(alert, state="closed", dismissed=True)  # by a person: it lasts as long
    assert "latency" not in found(frame, few)
    for one in (alert, closed):
        assert "latency" in {told.rule for told in judged(frame, few, {("latency", ""): one})}


def test_what_was_told_is_not_kept_up_by_what_was_not() -> None:
    world = World()
    world.calls(UNTIL - 29 * DAY, UNTIL - 60, 5, **chat(50), cached_tokens=40_000)
    world.calls(UNTIL - 29 * DAY, UNTIL - 60, 5, **review(10))
    world.calls(UNTIL - 60, UNTIL, **chat(10, 6.0) | {"attempts": 20})
    world.calls(UNTIL - 60, UNTIL, **review(2, 0.032, 12_000))
    world.calls(UNTIL - 60, UNTIL, feature="chat", model="new", calls=1, unpriced_calls=1)
    frame = world.frame()
    for rule in ("latency", "retries", "unit_cost", "cache", "unpriced"):
        (one,) = judge(frame, LIMITS.eased, only=rule)
        assert judge(frame, LIMITS.eased, only=rule, about=frozenset({one.scope}))
        other = frozenset({Scope("feature", "search")})
        assert judge(frame, LIMITS.eased, only=rule, about=other) == ()


def test_who_spends_at_an_hour_at_which_nobody_ever_called_is_a_page() -> None:
    world = World()  # of office hours: NOW is as the middle of the night
    for day in range(1, 29):
        if day % 7 not in {0, 6}:
            end = UNTIL - day * DAY + 900
            world.usual(end - 300, end, 5)
    world.calls(UNTIL - 15, UNTIL, **review(60), user="stranger")
    rules = found(world.frame())
    assert {rules[name].severity for name in ("entity_spend", "spend")} == {"page"}
    assert "never seen before" in rules["entity_spend"].title


def test_a_user_never_seen_before_who_spends_much_is_a_page() -> None:
    world = past()
    world.calls(UNTIL - 15, UNTIL, **review(40), user="stranger")
    one = found(world.frame())["entity_spend"]
    assert one.severity == "page"
    assert ("user", "stranger") in one.cause
    assert "never seen before" in one.title


def test_a_longer_prompt_is_a_dearer_call_of_the_new_prompt() -> None:
    world = World()
    world.usual(UNTIL - 29 * DAY, UNTIL - 60, 5, prompt="v1")
    world.calls(UNTIL - 60, UNTIL, **chat(10), prompt="v1")
    world.calls(UNTIL - 60, UNTIL, **review(2, 0.032, 12_000), prompt="v2")
    one = found(world.frame())["unit_cost"]
    assert one.cause == (("feature", "review"), ("prompt", "v2"))
    assert one.kind == "input tokens per call"
    assert any("2.00 times as many" in fact for fact in one.facts)


def test_a_price_that_changed_is_told_as_that_and_not_as_a_dearer_call() -> None:
    world = past(present=False)
    world.calls(UNTIL - 60, UNTIL, **chat(10))
    world.calls(UNTIL - 60, UNTIL, **review(2, 0.024))
    rules = found(world.frame())
    assert set(rules) == {"price_change"}
    assert rules["price_change"].severity == "info"
    assert rules["price_change"].cause == (("model", "large"),)


def test_a_user_may_grow_as_the_others_of_each_of_its_features_do() -> None:
    world = World()
    world.calls(UNTIL - 28 * DAY, UNTIL - 60, 5, **review(6), user="u2")
    world.calls(UNTIL - 60, UNTIL, **review(1), user="u2")
    dear = {"feature": "chat", "model": "small"}
    for user in ("u1", "u2"):
        world.calls(UNTIL - 28 * DAY, UNTIL - 60, 5, **chat(125), user=user)
        world.calls(UNTIL - 60, UNTIL, **dear, **made(25, 0.0032, 3.0), user=user)
    assert "entity_spend" not in found(world.frame())
    world.calls(UNTIL - 60, UNTIL, **dear, **made(75, 0.0032, 3.0), user="u2")
    assert found(world.frame())["entity_spend"].scope.value == "u2"


def test_what_a_new_price_makes_of_it_is_no_rise_of_spend() -> None:
    world = past(present=False)
    world.calls(UNTIL - 60, UNTIL, **chat(10))
    world.calls(UNTIL - 60, UNTIL, **review(2, 0.064))
    assert set(found(world.frame(), replace(LIMITS, disabled=("entity_spend",)))) == {
        "price_change"
    }


def test_a_model_without_a_price_is_named() -> None:
    world = past()
    world.calls(
        UNTIL - 10, UNTIL, feature="chat", model="new", calls=1, attempts=1, unpriced_calls=1
    )
    one = found(world.frame())["unpriced"]
    assert one.cause == (("model", "new"),)


def test_each_model_without_a_price_and_each_feature_that_is_gone_is_one_to_tell_of() -> None:
    world = World()
    for name, calls in (("chat", 50), ("search", 40), ("draw", 30)):
        here = UNTIL - 60 if name != "chat" else UNTIL
        world.calls(UNTIL - 29 * DAY, here, 5, **chat(calls) | {"feature": name})
    for name, calls in (("new", 8), ("newer", 1)):
        world.calls(
            UNTIL - 10,
            UNTIL,
            feature="chat",
            model=name,
            calls=calls,
            attempts=calls,
            unpriced_calls=calls,
        )
    rules = found(world.frame())
    assert rules["unpriced"].causes == ((("model", "new"),), (("model", "newer"),))
    assert rules["traffic_drop"].causes == ((("feature", "search"),), (("feature", "draw"),))


def test_calls_without_a_price_of_models_each_of_which_has_few_are_told_by_what_they_share() -> (
    None
):
    world = past()
    lacking = {"calls": 1, "attempts": 1, "unpriced_calls": 1}
    for model in ("new", "newer"):
        world.calls(UNTIL - 4, UNTIL, feature="chat", model=model, **lacking)
    one = found(world.frame())["unpriced"]
    assert one.title.startswith("8 calls of feature=chat have no price")
    assert dict(one.cause)["model"] in {"new", "newer"}


def test_no_call_at_all_is_a_page_and_not_a_drop_of_every_feature() -> None:
    world = past(present=False)
    world.usual(UNTIL - 60, UNTIL - 20)
    rules = found(world.frame(latest=timedelta(minutes=20)))
    assert set(rules) == {"no_data"}
    assert found(world.frame(latest=timedelta(minutes=2))) == {}


def nightly(days: int, ends: int, *, today: bool = True) -> World:
    """Return a world of one job that runs for two hours and ends so many minutes before NOW."""
    world = World()
    for day in range(0 if today else 1, days + 1):
        end = UNTIL - day * DAY - ends
        world.calls(end - 120, end, **chat(20))
    return world


def silent(world: World, minutes: float) -> set[str]:
    """Return the rules that fire where the last call arrived so many minutes ago."""
    return set(found(world.frame(latest=timedelta(minutes=minutes))))


def test_the_end_of_a_nightly_job_is_no_outage_however_long_the_silence() -> None:
    for days in (2, 7, 13, 28):
        for ends in (5, 10, 30, 100, 600):
            assert silent(nightly(days, ends), ends) == set()


def test_a_job_that_breaks_off_before_its_usual_end_is_an_outage() -> None:
    for days in (2, 7, 13, 28):
        world = nightly(days, -60)
        assert silent(world, 3) == set()
        broken = World(
            names=world.names, rows=[row for row in world.rows if row["minute"] < UNTIL - 12]
        )
        assert silent(broken, 12) == {"no_data"}


def test_a_job_that_does_not_begin_is_an_outage_from_the_second_week_on() -> None:
    assert silent(nightly(28, -100, today=False), 22 * 60) == {"no_data"}
    assert silent(nightly(8, -100, today=False), 22 * 60) == {"no_data"}
    assert silent(nightly(28, -118, today=False), 22 * 60) == set()  # two minutes are none


def test_a_weekend_without_calls_is_no_outage() -> None:
    world = World()  # NOW is as a Saturday: there was no call seven and eight days ago either
    for day in range(1, 10):
        if day not in {6, 7, 8}:
            world.calls(UNTIL - day * DAY - 300, UNTIL - day * DAY + 120, 5, **chat(50))
    assert silent(world, 22 * 60) == set()


def test_an_outage_is_one_though_there_was_a_holiday_and_a_weekend() -> None:
    for days, off in ((28, {14}), (9, {3, 4})):
        world = World()
        for day in {*range(1, days + 1)} - off:
            world.calls(UNTIL - day * DAY - 300, UNTIL - day * DAY + 120, 5, **chat(50))
        world.calls(UNTIL - 300, UNTIL - 12, 5, **chat(50))
        assert silent(world, 12) == {"no_data"}


def test_few_calls_are_missed_after_hours() -> None:
    world = World()
    world.calls(UNTIL - 29 * DAY, UNTIL - 300, 5, **chat(2))
    assert silent(world, 100) == set()
    assert silent(world, 300) == {"no_data"}


def test_a_first_evening_that_fades_is_no_outage_and_a_sudden_end_is() -> None:
    world = World()
    for hour, calls in enumerate((10, 10, 5, 1)):
        world.calls(UNTIL - 540 + 60 * hour, UNTIL - 480 + 60 * hour, **chat(calls))
    assert silent(world, 300) == set()
    sudden = World()
    sudden.calls(UNTIL - 200, UNTIL - 20, **chat(10))
    assert silent(sudden, 20) == {"no_data"}


def test_a_first_weekend_that_fades_is_no_outage_and_a_sudden_end_is() -> None:
    for calls, rules in ((1, set[str]()), (50, {"no_data"})):
        world = World()
        world.calls(UNTIL - 5 * DAY, UNTIL - 300, 5, **chat(50))
        world.calls(UNTIL - 300, UNTIL - 60, 5, **chat(calls))
        assert silent(world, 60) == rules


def test_what_staging_does_hides_no_outage_and_its_end_is_none() -> None:
    world = past(present=False)
    world.usual(UNTIL - 60, UNTIL - 20)
    world.calls(UNTIL - 60, UNTIL, **chat(5), environment="staging")
    assert silent(world, 0) == {"no_data"}
    only = World()
    only.calls(UNTIL - 29 * DAY, UNTIL - 20, 5, **chat(50), environment="staging")
    assert silent(only, 20) == set()


def test_an_outage_that_staging_hides_goes_on_for_days() -> None:
    calls = past(present=False).rows
    for days in (1, 4):
        world = World(rows=[row for row in calls if row["minute"] < UNTIL - days * DAY])
        world.calls(UNTIL - days * DAY, UNTIL, 5, **chat(5), environment="staging")
        frame = world.frame()
        assert "no_data" in found(frame, LIMITS.eased)
        assert ("no_data" in found(frame)) == (days == 1)  # what began days ago was told then


def test_an_outage_goes_on_when_no_calls_would_come_any_more() -> None:
    world = nightly(8, 30)
    world.rows = [row for row in world.rows if row["minute"] < UNTIL - 125]
    frame = world.frame(latest=timedelta(minutes=125))
    began = nightly(8, -60)
    began.rows = [row for row in began.rows if row["minute"] < UNTIL - 8]
    seen = found(began.frame(latest=timedelta(minutes=8)))["no_data"]
    alert, _ = advance(
        None,
        seen,
        fresh=True,
        now=frame.now - timedelta(hours=2),
        timing=Timing(*[timedelta()] * 2),
    )
    assert alert
    assert [one.rule for one in judged(frame, LIMITS, {("no_data", ""): alert})] == ["no_data"]
    back = world.frame(latest=timedelta(minutes=2))
    assert judged(back, LIMITS, {("no_data", ""): alert}) == ()


def test_a_feature_that_nobody_calls_is_a_ticket_for_a_day() -> None:
    world = World()
    world.calls(UNTIL - 29 * DAY, UNTIL - 60, 5, **chat(50))
    world.calls(UNTIL - 29 * DAY, UNTIL - 60, 5, **review(40))
    world.calls(UNTIL - 60, UNTIL, **chat(10))
    one = found(world.frame())["traffic_drop"]
    assert (one.severity, one.cause) == ("ticket", (("feature", "review"),))
    assert "0 calls of feature=review in 60 minutes" in one.title
    gone = World()
    gone.calls(UNTIL - 29 * DAY, UNTIL, 5, **chat(50))
    gone.calls(UNTIL - 29 * DAY, UNTIL - 25 * 60, 5, **review(40))
    assert "traffic_drop" not in found(gone.frame())


def test_next_to_no_calls_of_anything_are_a_ticket() -> None:
    world = past(present=False)
    world.calls(UNTIL - 60, UNTIL - 20, **chat(10))
    assert "traffic_drop" not in found(world.frame())
    world.calls(UNTIL - 20, UNTIL, 5, **chat(1))
    one = found(world.frame())["traffic_drop"]
    assert (one.severity, one.cause, one.title) == (
        "ticket",
        (),
        "Traffic drop: 3 calls in 15 minutes, usually 180",
    )
    back = World(names=world.names, rows=list(world.rows))
    back.calls(UNTIL - 1, UNTIL, **chat(10))
    assert "traffic_drop" not in found(back.frame())


def test_a_feature_of_working_days_is_not_missed_on_weekends() -> None:
    for days in (4, 10, 17, 28):  # NOW is as a Saturday
        world = World()
        world.calls(UNTIL - days * DAY, UNTIL, 5, **chat(50))
        for day in range(1, days):
            if day % 7 not in {0, 6}:
                world.calls(UNTIL - day * DAY - 120, UNTIL - day * DAY + 120, 5, **review(50))
        assert found(world.frame()) == {}


def test_a_batch_of_a_feature_may_be_late_and_is_missed_after_an_hour() -> None:
    def dropped(minutes: int) -> bool:
        world = World()
        world.calls(UNTIL - 29 * DAY, UNTIL, 5, **chat(50))
        for day in range(1, 29):
            begin = UNTIL - day * DAY - minutes
            world.calls(begin, begin + 30, **review(4))
        return "traffic_drop" in found(world.frame())

    assert [dropped(minutes) for minutes in (5, 16, 31, 45, 55)] == [False] * 3 + [True] * 2


def test_staging_may_fail_as_it_likes() -> None:
    world = past()
    world.calls(UNTIL - 15, UNTIL, **failed("chat", "small", 50), environment="staging")
    assert found(world.frame()) == {}


def test_late_spans_and_wrong_clocks_are_infos_that_name_the_service() -> None:
    world = past()
    world.calls(UNTIL - 15, UNTIL, **chat(5, late_calls=5), service="slow")
    world.calls(UNTIL + 5, UNTIL + 10, **chat(5, ahead_calls=5), service="ahead")
    rules = found(world.frame())
    assert {name: one.severity for name, one in rules.items()} == {"late": "info", "clock": "info"}
    assert rules["late"].cause == (("service", "slow"),)
    assert rules["clock"].cause == (("service", "ahead"),)


def test_a_budget_is_a_ticket_at_four_fifths_and_a_page_when_it_is_spent() -> None:
    frame = past().frame()
    month = judge(
        frame,
        replace(
            LIMITS,
            budgets=(
                Budget(
                    Decimal(1),
                ),
            ),
        ),
    )
    assert [(one.rule, one.severity) for one in month] == [("budget", "page")]
    assert month[0].episode == "all calls, 2026-11"  # the next month's is another
    spent = month[0].observed
    tight = Budget(spent / Decimal("0.9"))
    assert [one.severity for one in judge(frame, replace(LIMITS, budgets=(tight,)))] == ["ticket"]
    wide = Budget(spent * 100)
    assert judge(frame, replace(LIMITS, budgets=(wide,))) == ()


def test_a_budget_that_is_told_to_be_overrun_is_not_taken_back_by_the_noise_of_a_day() -> None:
    world = past(days=45)
    for day in range(0, 45, 3):
        world.calls(UNTIL - day * DAY - 30, UNTIL - day * DAY - 20, **review(20 + day))
    frame = world.frame()
    forecast = month_end(*daily_pico(View.of(frame, ()), Scope()), frame.at)
    assert forecast.interval
    assert forecast.expected_pico
    between = (forecast.interval.low_pico + forecast.expected_pico) // 2
    limits = replace(LIMITS, budgets=(Budget(Decimal(between) / 10**12),))
    assert judge(frame, limits, only="budget") == ()
    (again,) = judge(frame, limits, only="budget", about=frozenset())
    assert "heading for more" in again.title


def test_the_pipelines_own_troubles_are_told() -> None:
    day = timedelta(days=1)
    plumbing = Plumbing(
        refused_spans=50,
        accepted_spans=1000,
        store_failing_since=NOW - timedelta(minutes=5),
        jobs=(
            JobHealth("reconcile", NOW, NOW - day, timedelta(hours=1), 5, "no answer"),
            JobHealth("rollups", NOW, NOW, timedelta(minutes=1), 0, ""),
        ),
        drifts=(
            Drift(NOW - 3 * day, final=True, billed_usd=Decimal(100), estimated_usd=Decimal(80), explained=False),
            Drift(NOW - 4 * day, final=True, billed_usd=Decimal(60), estimated_usd=Decimal(90), explained=False),
            Drift(NOW - 5 * day, final=True, billed_usd=Decimal(60), estimated_usd=Decimal(90), explained=True),
        ),
        billing_failing_since=NOW - day,
        billing_reason="401",
        price_book="openai-2026.09",
        price_book_review_at=NOW - day,
    )  # fmt: skip
    findings = judge(past().frame(plumbing=plumbing), LIMITS)
    assert sorted((one.rule, one.episode) for one in findings) == [
        ("billing_key_failing", ""),
        ("collector_loss", ""),
        ("job_late", "reconcile"),
        ("price_book_old", ""),
        ("reconciliation_drift", "billed less"),
        ("reconciliation_drift", "billed more"),
        ("store_unhealthy", ""),
    ]


def test_a_rule_that_is_disabled_is_not_asked() -> None:
    world = past()
    world.calls(UNTIL - 15, UNTIL, **failed("chat", "small", 50))
    every: Sequence[str] = tuple(RULES)
    assert judge(world.frame(), replace(LIMITS, disabled=tuple(every))) == ()


def test_coarser_cells_hold_the_same_sums() -> None:
    cells = past().cells()
    coarse = cells.coarser(60, without=("user",))
    assert len(coarse) < len(cells)
    assert (coarse.counts.sum(axis=1) == cells.counts.sum(axis=1)).all()
    assert np.allclose(coarse.sums.sum(axis=1), cells.sums.sum(axis=1))
    assert time_of(int(coarse.minute[0])).minute == 0


def test_the_tail_of_a_burst_is_wider_than_that_of_coin_flips() -> None:
    assert beta_binomial_tail(0, 10, 0.01, 0.01) == 1
    assert beta_binomial_tail(11, 10, 0.01, 0.01) == 0
    assert beta_binomial_tail(5, 100, 0.01, 0.03) > 3 * beta_binomial_tail(5, 100, 0.01, 0.0005)


def test_scatter_is_found_again_from_slots() -> None:
    rng = np.random.default_rng(1)
    calls = np.full(4000, 100.0)
    errors = rng.binomial(100, rng.beta(0.66, 59.3, 4000)).astype(np.float64)
    known = scatter_of(calls, errors)
    assert known is not None
    assert 0.013 < known < 0.02
    assert scatter_of(calls[:10], errors[:10]) is None
