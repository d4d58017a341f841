"""The scenarios of section 4 as rows: what is injected, and what must then be told.

Frozen: a row is changed only where the document is. What the document leaves open is decided here,
in the row's `note`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from injections import (
    FOREVER,
    Added,
    Fault,
    Held,
    Lost,
    Ramp,
    Replayed,
    Stretch,
    Volume,
    all_of,
    arriving,
    failing,
    given,
    gone,
    having,
    times,
)
from simulation import Log, Simulation, text_of
from world import ACCOUNTS, DAY_SECONDS, World

from costspan_dashboards.alerts.finding import SEVERITIES, Severity
from costspan_dashboards.alerts.frame import DAY_MINUTES, Mark, Plumbing, minute_of
from costspan_dashboards.alerts.limits import Budget, Limits
from costspan_dashboards.alerts.rules import RULES
from costspan_dashboards.alerts.state import Alert

Cause = Mapping[str, str]

WEDNESDAY = datetime(2026, 10, 21, 14, tzinfo=UTC)
"""Default `t0`, after 28 days of clean history."""
SUNDAY = datetime(2026, 10, 25, 3, tzinfo=UTC)
TICKET: tuple[Severity, ...] = ("ticket",)
PAGE: tuple[Severity, ...] = ("page",)
EITHER: tuple[Severity, ...] = ("ticket", "page")
INFO: tuple[Severity, ...] = ("info",)
BUDGET_A_WEEK: Mapping[Severity, float] = {"page": 0.25, "ticket": 1, "info": 5}
"""False alerts over the whole installation (section 5)."""
SERVER: Cause = {"error_kind": "server_error"}


@dataclass(frozen=True)
class Must:
    """A rule that must fire."""

    rule: str
    severities: tuple[Severity, ...]
    deadline: float
    """Minutes from `t0` to the first message that tells of it."""
    causes: tuple[Cause, ...] = ()
    """One of them is the first contributor, exactly; not asked where there is none."""
    says: tuple[str, ...] = ()
    """Words that its text has."""


@dataclass(frozen=True)
class May:
    """A rule that may fire as well."""

    rule: str
    about: Cause | None = None
    says: tuple[str, ...] = ()


Check = Callable[["Row", World, Log], list[str]]


@dataclass(frozen=True)
class Row:
    """A scenario."""

    name: str
    injection: str
    faults: tuple[Stretch, ...]
    lasts: float
    """Minutes from `t0` to the end of the fault."""
    notifications: float
    must: tuple[Must, ...] = ()
    one_of: bool = False
    """Whether one of `must` is enough."""
    may: tuple[May, ...] = ()
    t0: datetime = WEDNESDAY
    history_days: float = 28
    needs: int = 5
    """On so many of five seeds it must pass."""
    lead: float = 10
    """Minutes before `t0` from which it is watched."""
    watch: float = 60
    """Minutes after the end of the fault up to which it is watched."""
    check: Check = lambda _, __, ___: []
    least_share: float = 0.6
    """Of the excess, in the first contributor."""
    limits: Callable[[World], Limits] = lambda _: Limits()
    setting: Mapping[str, Any] | None = None
    """Of the simulation."""
    every: int = 1
    """Minutes between evaluations."""
    note: str = ""

    def world(self, seed: int) -> World:
        """Return the world that the scenario is set in."""
        return World(seed, self.t0, self.history_days, self.faults)

    def run(self, seed: int, every: int = 0) -> tuple[World, Log]:
        """Act it out."""
        world = self.world(seed)
        simulation = Simulation(world, self.limits(world), **(self.setting or {}))
        since = self.t0 - timedelta(minutes=self.lead)
        until = self.t0 + timedelta(minutes=self.lasts + self.watch)
        return world, simulation.run(since, until, every=timedelta(minutes=every or self.every))


def _quiet(
    name: str,
    situation: str,
    faults: tuple[Stretch, ...],
    lasts: float,
    *,
    notifications: float = 0,
    **more: Any,
) -> Row:
    return Row(name, situation, faults, lasts, notifications, lead=60, **more)


def _errors(deadline: float, *causes: Cause, severities: tuple[Severity, ...] = PAGE) -> Must:
    return Must("errors", severities, deadline, causes)


# ---- what a row asks besides


def _episodes(rule: str, most: int) -> Check:
    def check(row: Row, _: World, log: Log) -> list[str]:
        ids = {
            alert.alert_id for alert in log.episodes(row.t0).values() if alert.finding.rule == rule
        }
        return [f"{len(ids)} episodes of {rule}, not {most}"] if len(ids) > most else []

    return check


def _goes_stale(row: Row, _: World, log: Log) -> list[str]:
    end = row.t0 + timedelta(minutes=20)
    states = [
        alert.state
        for at, alerts in log.seen
        for alert in alerts.values()
        if alert.finding.rule == "errors" and row.t0 <= at < end
    ]
    if not states or states[-1] != "stale" or "resolved" in states:
        return [f"errors is not kept as stale: {list(dict.fromkeys(states))}"]
    return []


def _not_before(rule: str, minutes: float) -> Check:
    def check(row: Row, _: World, log: Log) -> list[str]:
        soon = row.t0 + timedelta(minutes=minutes)
        early = [one for one in log.told if row.t0 <= one.at < soon]
        return [f"{rule} is told before minute {minutes:.0f}"] if early else []

    return check


def _totals_are_whole(since: int, until: int) -> Check:
    """Ask that a stretch, in minutes from `t0`, sums up as in the same world without the fault."""

    def check(row: Row, world: World, log: Log) -> list[str]:
        if not log.frames:
            return ["nothing was evaluated"]
        first, last = minute_of(row.t0) + since, minute_of(row.t0) + until
        clean = World(world.seed, world.start, 28)
        expected = [
            clean.archived(day)[0].between(first, last)
            for day in range(first // DAY_MINUTES, last // DAY_MINUTES + 1)
        ]
        ours = log.frames[-1].history.recent.between(first, last)
        differ = [
            name
            for name in ("calls", "attempts", "cost_pico", "input_tokens", "output_tokens")
            if ours.count(name).sum() != sum(cells.count(name).sum() for cells in expected)
        ]
        return [f"totals differ: {', '.join(differ)}"] if differ else []

    return check


def _same_episode_after_restart(row: Row, _: World, log: Log) -> list[str]:
    back = row.t0 + timedelta(minutes=_DEAD[1])
    before = {(a.alert_id, a.firing_since) for at, some in log.seen if at < back
              for a in some.values() if a.finding.rule == "errors" and a.is_up}  # fmt: skip
    after = {(a.alert_id, a.firing_since) for at, some in log.seen if at >= back
             for a in some.values() if a.finding.rule == "errors" and a.is_up}  # fmt: skip
    found = [] if before and before == after else ["not the same episode after the restart"]
    told = [one for one in log.told if one.alert.finding.rule == "errors" and one.alert.is_up]
    return [*found, *(["the episode is told twice as firing"] if len(told) > 1 else [])]


def _no_seasonal_rule(row: Row, _: World, log: Log) -> list[str]:
    seasonal = {"spend", "entity_spend", "latency", "traffic_drop", "retries", "cache", "unit_cost"}
    fired = {alert.finding.rule for alert in log.episodes(row.t0).values()} & seasonal
    return [f"{', '.join(sorted(fired))} in the first 24 h"] if fired else []


def _within_budget(row: Row, _: World, log: Log) -> list[str]:
    weeks = row.lasts / (7 * 1440)
    found = told_episodes(log, row.t0)
    faults = [
        f"{len(found[severity]) / weeks:.2f} {severity}s a week, at most {most}"
        for severity, most in BUDGET_A_WEEK.items()
        if len(found[severity]) > most * weeks
    ]
    pages = found["page"]
    again = [
        one
        for one in pages
        for other in pages
        if one.fingerprint == other.fingerprint
        and other.ended_at
        and one.firing_since
        and timedelta(0) <= one.firing_since - other.ended_at < timedelta(hours=6)
    ]
    return [*faults, *(["a page is repeated within 6 h of its end"] if again else [])]


def told_episodes(log: Log, since: datetime) -> dict[Severity, list[Alert]]:
    """Return by severity the episodes that people were told of."""
    found: dict[Severity, list[Alert]] = {severity: [] for severity in SEVERITIES}
    for alert in log.episodes(since).values():
        if alert.told_at and not alert.hushed:
            found[alert.finding.severity].append(alert)
    return found


def _unknown_never_zero(_row: Row, _world: World, log: Log) -> list[str]:
    texts = [text_of(one.alert.finding) for one in log.told if one.alert.finding.rule == "unpriced"]
    zero = [text for text in texts if "$0" in text]
    return ["the cost is shown as 0"] if zero else []


def _both_named(row: Row, _: World, log: Log) -> list[str]:
    wanted = ({"feature": "review"}, {"user": ACCOUNTS[1], "feature": "agent"})
    deadline = row.t0 + timedelta(minutes=30)
    named = [
        dict(one.where)
        for told in log.told
        if row.t0 <= told.at <= deadline
        for alert in told.names
        for one in alert.finding.contributors
    ]
    return [
        f"no message names {cause}; named are {named}" for cause in wanted if cause not in named
    ]


def _closes(rule: str, after_minutes: float) -> Check:
    def check(row: Row, _: World, log: Log) -> list[str]:
        end = row.t0 + timedelta(minutes=after_minutes)
        still = [at for at, some in log.seen if at > end
                 for alert in some.values() if alert.finding.rule == rule and alert.is_up]  # fmt: skip
        return [f"{rule} is still up after {after_minutes / 1440:.0f} days"] if still else []

    return check


def _interval_holds(_: Row, world: World, log: Log) -> list[str]:
    told = [one.alert.finding for one in log.told if one.alert.finding.rule == "budget"]
    if not told:
        return []
    text = text_of(told[0])
    found: list[str] = []
    if not told[0].contributors and "no single cause" not in text.lower():
        found.append("names neither a contributor nor that there is no single cause")
    between = text.partition(" between ")[2].split()
    if len(between) < 3:
        return [*found, "no interval of the forecast"]
    low, high = (Decimal(between[place].strip("$,.").replace(",", "")) for place in (0, 2))
    true = _month_usd(world)
    if not low <= true <= high:
        found.append(f"the interval {low} to {high} does not hold the true {true:.2f}")
    return found


def _month_usd(world: World) -> Decimal:
    first = int(world.start.timestamp() // DAY_SECONDS)
    pico = sum(
        int(world.archived(day)[0].count("cost_pico").sum()) for day in range(first, first + 30)
    )
    return Decimal(pico) / 10**12


# ---- settings of single rows

_DEAD = (5, 35)
_MONTH = datetime(2026, 11, 1, tzinfo=UTC)
_HEARTBEAT_MINUTES = 3
"""Grace of whoever answers at the heartbeat's URL: three intervals."""


def _dead(now: datetime) -> bool:
    return not _DEAD[0] < (now - WEDNESDAY).total_seconds() / 60 <= _DEAD[1]


def _store_fails(now: datetime) -> Plumbing:
    fails = WEDNESDAY <= now < WEDNESDAY + timedelta(minutes=5)
    return Plumbing(store_failing_since=WEDNESDAY if fails else None)


def _month_budget(world: World) -> Limits:
    return Limits(budgets=(Budget(round(_month_usd(world) * Decimal("0.8"), 2)),))


def _planned(now: datetime) -> tuple[Mark, ...]:
    when = WEDNESDAY + timedelta(minutes=70)
    return (Mark("new_level", minute_of(WEDNESDAY)),) if now >= when else ()


def _flapping() -> tuple[Stretch, ...]:
    return tuple(Fault(6 * n, 6 * n + 2, failing(1, "server_error")) for n in range(10))


def _growth() -> tuple[Stretch, ...]:
    week = 7 * 1440
    return tuple(Volume(n * week, (n + 1) * week, factor=1.05**n) for n in range(1, 9))


def _loop(until: float = FOREVER) -> Added:
    return Added(
        0, until, a_minute=20, like="agent", input_tokens=30_000,
        change=having(user=ACCOUNTS[1]),
    )  # fmt: skip


_LOOP_CAUSE: Cause = {"user": ACCOUNTS[1], "feature": "agent"}
_OUTAGE = Fault(0, 15, failing(1, "server_error"))

ROWS: tuple[Row, ...] = (
    # ---- 4.1 errors
    Row(
        "E01",
        "provider outage: 100 % of calls 5xx, all models, 15 min",
        (_OUTAGE,),
        15,
        3,
        must=(_errors(5, SERVER),),
        may=(May("retries"),),
    ),
    Row(
        "E02",
        "as E01 at 03:00 on a Sunday (a few calls a minute)",
        (_OUTAGE,),
        15,
        3,
        t0=SUNDAY,
        must=(_errors(15, SERVER),),
        may=(May("retries"),),
    ),
    Row(
        "E03",
        "model `large` fails 60 % with 5xx, 30 min",
        (Fault(0, 30, failing(0.6, "server_error"), {"model": "large"}),),
        30,
        3,
        must=(_errors(8, {"model": "large", **SERVER}),),
        may=(May("retries"),),
    ),
    Row(
        "E04",
        "review only: 20 % timeouts, 60 min",
        (Fault(0, 60, failing(0.2, "timeout"), {"feature": "review"}),),
        60,
        3,
        must=(_errors(20, {"feature": "review", "error_kind": "timeout"}),),
        may=(May("latency", {"feature": "review"}),),
    ),
    Row(
        "E05",
        "all features: errors rise to 8 %, 60 min (objective burns 4x; no single window is dramatic)",
        (Fault(0, 60, failing(0.07, "server_error")),),
        60,
        3,
        must=(_errors(35, SERVER),),
        may=(May("retries"),),
        note="8 % of attempts, each for itself, the usual ones among them",
    ),
    Row(
        "E06",
        "429 storm: tokens-per-minute limit hit, 35 % of attempts 429, two thirds succeed on retry",
        (Fault(0, 60, failing(0.26, "rate_limit", again=3**-0.5), {"model": "small"}),),
        60,
        4,
        must=(
            Must("rate_limited", EITHER, 10, ({"error_kind": "rate_limit", "model": "small"},)),
            Must("rate_limited", PAGE, 60),
        ),
        may=(May("retries"), May("latency")),
        note="a call limited at first fails for good with 1/3, which makes 35 % of attempts",
    ),
    Row(
        "E07",
        "retry storm: a deploy raises retries to 8 without wait while 5xx is at 10 %; attempts per "
        "call 1.02 -> 1.9",
        (
            Fault(0, 60, failing(0.1, "server_error")),
            Fault(
                0,
                60,
                all_of(
                    failing(0.11, "server_error", again=1.0),
                    given(retries=8, waits=False),
                    having(prompt="v2"),
                ),
                {"feature": "chat"},
            ),
        ),
        60,
        4,
        must=(
            Must("retries", TICKET, 15, ({"prompt": "v2"}, {"feature": "chat", "prompt": "v2"})),
            Must("errors", PAGE, 15),
        ),
        may=(May("spend"), May("rate_limited")),
        note="the deploy is of chat; without a wait, a retry meets the failure that the first met, "
        "which is what makes 1.9 attempts of 10 % failing",
    ),
    Row(
        "E08",
        "invalid_request 400 from one feature after a deploy: 100 % of translate calls (2 a minute)",
        (Fault(0, 60, failing(1, "invalid_request"), {"feature": "translate"}),),
        60,
        3,
        must=(_errors(12, {"feature": "translate", "error_kind": "invalid_request"}),),
    ),
    _quiet(
        "E09",
        "two calls at night, one fails; nothing else that hour",
        (
            Volume(-FOREVER, FOREVER, 1 / 150),
            Fault(0, 60, gone),
            Added(0, 60, count=1, change=given(fails=0)),
            Added(0, 60, count=1, change=failing(1, "server_error")),
        ),
        60,
        t0=SUNDAY,
        note="an installation so small that there are two calls in that hour of any Sunday",
    ),
    Row(
        "E10",
        "one user sends 40 invalid requests in 5 min, all 400; other users fine",
        (
            Added(
                0,
                5,
                count=40,
                change=all_of(having(user="u150"), failing(1, "invalid_request")),
            ),
        ),
        5,
        2,
        must=(_errors(10, {"user": "u150", "error_kind": "invalid_request"}, severities=TICKET),),
    ),
    Row(
        "E11",
        "flapping: 100 % errors for 2 min, fine for 4 min, ten times",
        _flapping(),
        60,
        4,
        must=(_errors(6, SERVER),),
        check=_episodes("errors", 1),
    ),
    Row(
        "E12",
        "slow burn: 3.5 % errors for 24 h (objective 98 %)",
        (Fault(0, 1440, failing(0.024, "server_error")),),
        1440,
        3,
        must=(_errors(360, SERVER, severities=TICKET),),
        note="3.5 % of attempts, each for itself, as in E05",
    ),
    # ---- 4.2 latency
    Row(
        "L01",
        "chat p95 +30 %, growing linearly over an hour, then flat for 2 h",
        (Ramp(0, 180, where={"feature": "chat"}, minutes=60, times=1.3),),
        180,
        3,
        must=(Must("latency", TICKET, 75, ({"feature": "chat"},)),),
        needs=4,
    ),
    Row(
        "L02",
        "time to first token x 2.5 on model `small`, all features, durations up only a little",
        (Fault(0, 60, times(first_token=2.5), {"model": "small"}),),
        60,
        3,
        must=(Must("latency", PAGE, 15, ({"model": "small"},), ("time to first token",)),),
    ),
    Row(
        "L03",
        "tokens a second halve on `large`",
        (Fault(0, 60, times(pace=2), {"model": "large"}),),
        60,
        3,
        must=(Must("latency", EITHER, 30, ({"model": "large"},), ("generation speed",)),),
    ),
    _quiet(
        "L04",
        "one call of 180 s in an otherwise normal minute",
        (Added(0, 1, count=1, change=given(fails=0, pace=0.7, output_tokens=256)),),
        1,
    ),
    Row(
        "L05",
        "output length of summarize x 3 (a prompt change): durations up, speed normal",
        (
            Fault(
                0,
                60,
                all_of(times(output_tokens=3), having(prompt="v2")),
                {"feature": "summarize"},
            ),
        ),
        60,
        3,
        must=(
            Must(
                "unit_cost",
                TICKET,
                45,
                ({"feature": "summarize", "prompt": "v2"},),
                ("output tokens",),
            ),
        ),
        may=(May("latency", says=("output tokens",)), May("spend")),
    ),
    Row(
        "L06",
        "translate (2 a minute) x 2 for two hours",
        (Fault(0, 120, times(first_token=2, pace=2), {"feature": "translate"}),),
        120,
        2,
        must=(Must("latency", TICKET, 75, ({"feature": "translate"},)),),
        needs=4,
    ),
    # ---- 4.3 spend
    Row(
        "C01",
        "prompt of review doubles (prompt_version v1 -> v2): +7 $/h",
        (
            Fault(
                0,
                120,
                all_of(times(input_tokens=2), having(prompt="v2")),
                {"feature": "review"},
            ),
        ),
        120,
        3,
        must=(
            Must(
                "unit_cost",
                TICKET,
                60,
                ({"feature": "review", "prompt": "v2"},),
                ("input tokens per call",),
            ),
            Must(
                "spend",
                TICKET,
                60,
                ({"feature": "review", "prompt": "v2"},),
                ("input tokens per call",),
            ),
        ),
        one_of=True,
        may=(May("unit_cost"), May("spend")),
    ),
    Row(
        "C02",
        "runaway agent loop: one service account makes 20 calls a minute with 30,000 input tokens "
        "(median) on `large`: about 90 $/h",
        (_loop(60),),
        60,
        3,
        must=(Must("entity_spend", PAGE, 15, (_LOOP_CAUSE,)),),
        may=(May("spend"),),
    ),
    Row(
        "C03",
        "chat is switched from `small` to `large`; calls unchanged: 0.9 -> 13.4 $/h",
        (Fault(0, 120, having(model="large"), {"feature": "chat"}),),
        120,
        3,
        must=(
            Must("unit_cost", TICKET, 30, ({"feature": "chat", "model": "large"},), ("model mix",)),
            Must("spend", TICKET, 30, ({"feature": "chat", "model": "large"},), ("model mix",)),
        ),
        one_of=True,
        may=(May("unit_cost"), May("spend")),
    ),
    Row(
        "C04",
        "cached share of review falls from 0.6 to 0.05: 9.4 -> 14.7 $/h",
        (Fault(0, 120, given(cached_share=0.05), {"feature": "review"}),),
        120,
        3,
        must=(Must("cache", TICKET, 45, ({"feature": "review"},), ("cached share",)),),
        may=(May("unit_cost"), May("spend")),
    ),
    Row(
        "C05",
        "price of `large` changes x 1.5 in the price table with a valid-from date",
        (Fault(0, 240, given(price=1.5), {"model": "large"}),),
        240,
        2,
        must=(Must("price_change", INFO, 60, ({"model": "large"},), ("price",)),),
        may=(May("budget"),),
    ),
    Row(
        "C06",
        "new model name without a price: 10 % of chat calls",
        (Fault(0, 60, having(model="unheard-of"), {"feature": "chat"}, share=0.1),),
        60,
        2,
        must=(Must("unpriced", TICKET, 10, ({"model": "unheard-of"},)),),
        check=_unknown_never_zero,
    ),
    Row(
        "C07",
        "leaked key: unknown user, new region, 60 $/h on `reason`, about 53 calls a minute, starts "
        "at 04:00 Sunday",
        (
            Added(
                0,
                60,
                a_minute=53,
                like="classify",
                input_tokens=510,
                change=having(user="stranger", model="reason", feature="", prompt=""),
            ),
        ),
        60,
        3,
        t0=SUNDAY.replace(hour=4),
        must=(
            Must(
                "entity_spend",
                PAGE,
                15,
                ({"user": "stranger"}, {"user": "stranger", "model": "reason"}),
                ("never seen before",),
            ),
        ),
        may=(May("spend"),),
        note="a region is no dimension of the product's cells",
    ),
    Row(
        "C08",
        "budget set to 80 % of the clean month's spend, no fault",
        (),
        12 * 1440 - 60,
        2,
        t0=_MONTH,
        must=(Must("budget", TICKET, 12 * 1440),),
        limits=_month_budget,
        check=_interval_holds,
        every=15,
    ),
    Row(
        "C09",
        "two causes at once: review calls x 3 (+19 $/h) and one agent account x 60 (+19 $/h)",
        (
            Volume(0, 60, 3, "review"),
            Added(0, 60, a_minute=59 / 6, like="agent", change=having(user=ACCOUNTS[1])),
        ),
        60,
        5,
        must=(
            Must("spend", PAGE, 30),
            Must("entity_spend", PAGE, 30),
        ),
        one_of=True,
        may=(May("spend"), May("entity_spend")),
        check=_both_named,
        least_share=0,
    ),
    Row(
        "C10",
        "spend collapses: chat stops being called (client bug), other features fine",
        (Volume(0, 90, 0, "chat"),),
        90,
        2,
        must=(Must("traffic_drop", TICKET, 30, ({"feature": "chat"},)),),
    ),
    # ---- 4.4 quiet
    _quiet(
        "Q01",
        "8 clean weeks with day and week seasons",
        (),
        8 * 7 * 1440,
        watch=0,
        notifications=FOREVER,
        may=tuple(May(rule) for rule in RULES),
        check=_within_budget,
    ),
    _quiet(
        "Q02",
        "Monday 08:00 ramp after a quiet weekend",
        (),
        240,
        t0=datetime(2026, 10, 26, 8, tzinfo=UTC),
    ),
    _quiet(
        "Q03",
        "holiday: a Thursday with weekend traffic (x 0.35)",
        (Volume(0, 1440, 0.35),),
        1440,
        t0=datetime(2026, 10, 22, tzinfo=UTC),
        notifications=1,
    ),
    _quiet(
        "Q04",
        "launch: from `t0` on, review traffic x 2.2, same mix, for good (+11 $/h)",
        (Volume(0, FOREVER, 2.2, "review"),),
        8 * 1440,
        must=(Must("spend", TICKET, 60, ({"feature": "review"},), ("volume",)),),
        notifications=3,
        watch=0,
        check=_closes("spend", 7 * 1440),
    ),
    _quiet("Q05", "growth: +5 % calls a week for 8 weeks", _growth(), 8 * 7 * 1440, watch=0),
    _quiet(
        "Q06",
        "nightly batch runs 40 min later than usual",
        (Volume(0, 180, feature="nightly_report", later_minutes=40),),
        180,
        t0=WEDNESDAY.replace(hour=2),
        notifications=1,
    ),
    _quiet(
        "Q07",
        "feature `classify` is removed (calls fall to zero for good)",
        (Volume(0, FOREVER, 0, "classify"),),
        1440,
        must=(Must("traffic_drop", TICKET, FOREVER, ({"feature": "classify"},)),),
        notifications=2,
        watch=180,
        check=_closes("traffic_drop", 1440 + 120),
    ),
    _quiet(
        "Q08",
        "staging environment: 100 % errors in load tests",
        (
            Added(
                0,
                60,
                a_minute=60,
                change=all_of(having(environment="staging"), failing(1, "server_error")),
            ),
        ),
        60,
    ),
    _quiet(
        "Q09",
        "daylight-saving change: traffic follows local time, data are UTC",
        (Volume(0, FOREVER, later_minutes=60),),
        9 * 1440,
        t0=datetime(2026, 10, 25, 1, tzinfo=UTC),
        watch=0,
    ),
    # ---- 4.5 data trouble
    Row(
        "D01",
        "collector down: no spans at all for 20 min at the peak",
        (
            Fault(-25, 45, failing(0.6, "server_error"), {"model": "large"}),
            Lost(0, 20),
        ),
        45,
        3,
        must=(Must("no_data", PAGE, 6),),
        may=(May("errors"), May("retries")),
        lead=40,
        check=_goes_stale,
        note="E03 goes on meanwhile: it is the alert that was firing",
    ),
    Row(
        "D02",
        "same, Sunday 03:00, when gaps of 3 min are usual",
        (Lost(0, 20),),
        20,
        2,
        t0=SUNDAY,
        must=(Must("no_data", PAGE, 30),),
        check=_not_before("no_data", 10),
    ),
    Row(
        "D03",
        "late data: 40 % of spans arrive 8 min late for an hour",
        (Fault(0, 60, arriving(480), share=0.4),),
        60,
        1,
        must=(Must("late", INFO, 15),),
        setting={"odd_arrivals": True},
        check=_totals_are_whole(0, 60),
    ),
    Row(
        "D04",
        "a batch of yesterday's spans (3 h worth) is replayed and partly duplicated",
        (Replayed(-1440 - 180, -1440, at=0),),
        10,
        1,
        check=_totals_are_whole(-1620, -1440),
    ),
    Row(
        "D05",
        "one host's clock is 10 min ahead",
        (
            Fault(-FOREVER, FOREVER, having(service="edge"), share=0.25),
            Fault(0, 60, given(ahead=600), {"service": "edge"}),
        ),
        60,
        1,
        must=(Must("clock", INFO, 15, ({"service": "edge"},)),),
        note="the host is a service that a quarter of all calls come from, now and before",
    ),
    Row(
        "D06",
        "ClickHouse not writable for 5 min, then catches up",
        (_OUTAGE, Held(-1, 5)),
        15,
        4,
        must=(
            Must("store_unhealthy", PAGE, 5),
            _errors(10, SERVER),
        ),
        may=(May("retries"),),
        setting={"plumbing": _store_fails, "odd_arrivals": True},
    ),
    Row(
        "D07",
        "the alerting process is killed for 30 min during E01",
        (replace(_OUTAGE, until=50),),
        50,
        3 - 1,  # the third is the heartbeat's, from outside
        must=(_errors(5, SERVER),),
        may=(May("retries"),),
        setting={"alive": _dead},
        check=_same_episode_after_restart,
        note="E01 lasts 50 min, so that it goes on after the restart; who answers at the heartbeat's "
        f"URL misses it {_HEARTBEAT_MINUTES} min after the kill, at minute 8",
    ),
    Row(
        "D08",
        "history of 6 hours only (fresh install), then E01",
        (_OUTAGE,),
        15,
        3,
        history_days=0.25,
        must=(_errors(5, SERVER),),
        may=(May("retries"),),
        watch=18 * 60,
        check=_no_seasonal_rule,
    ),
    Row(
        "D09",
        "history of 5 days, then C02",
        (_loop(60),),
        60,
        3,
        history_days=5,
        must=(Must("entity_spend", PAGE, 20, (_LOOP_CAUSE,)),),
        may=(May("spend"),),
    ),
)

BY_NAME: Mapping[str, Row] = {row.name: row for row in ROWS}
MARKED_Q04 = replace(
    BY_NAME["Q04"],
    name="Q04 marked",
    lasts=240,
    setting={"marks": _planned},
    check=_closes("spend", 120),
)
"""The operator marks the launch as planned."""
