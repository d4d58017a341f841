"""`errors` and `rate_limited`: does more fail than chance and habit explain?

The number of failures follows a beta-binomial law: failures come in bursts, so they scatter more
than coin flips do. Attempts are counted, not calls: an attempt that fails and is tried again is the
same trouble, seen earlier. Rate limits are a rule of their own, since their remedy is another.
"""

from dataclasses import replace
from typing import Literal

import numpy as np

from costspan_dashboards.alerts.cause import DIMENSIONS as CAUSES
from costspan_dashboards.alerts.cause import Contributor, Explanation, Table, explain
from costspan_dashboards.alerts.chance import USUAL_SCATTER, beta_binomial_tail, surprise
from costspan_dashboards.alerts.finding import (
    Finding,
    Seen,
    Severity,
    against_text,
    exact,
    find,
    leader,
    matching,
    percent,
)
from costspan_dashboards.alerts.frame import (
    DAY_MINUTES,
    Cells,
    Floats,
    tally,
)
from costspan_dashboards.alerts.limits import Limits
from costspan_dashboards.alerts.rules.failures import Failures
from costspan_dashboards.alerts.rules.naming import changes, named_as, newest
from costspan_dashboards.alerts.scopes import (
    WINDOWS_MINUTES,
    Scope,
    View,
    figure,
    figures_of,
    watched,
)

_PAGE_TAIL = 0.01
"""A page needs more than the share that pages: chance must not be what lifts it over."""
_OBJECTIVE_DAYS = 28
_AS_LIKELY = 4.0
"""Of log-likelihood: two causes that are no farther apart cannot be told from each other."""
_PROVIDERS_KINDS = ("server_error", "rate_limit")
"""What a model's provider answers; the rest is more often a feature's own."""


def errors(view: View, limits: Limits) -> list[Finding]:
    """Find failures of any kind but rate limits, and an objective that is used up too fast."""
    failures = Failures(view, "failed_attempts", limits.allowed_share)
    seen = [one for name in view.scopes for one in _over(failures, limits, name, "failed_calls")]
    seen = [one for one in (*seen, *_burning(failures, limits)) if view.asks(one.scope)]
    return _found(failures, limits, "errors", seen or _one_user(failures, limits))


def rate_limited(view: View, limits: Limits) -> list[Finding]:
    """Find refusals for too many requests or tokens, also where a retry mended them."""
    failures = Failures(view, "limited_attempts", limits.allowed_share)
    seen = [one for name in view.scopes for one in _over(failures, limits, name, "limited_calls")]
    return _found(failures, limits, "rate_limited", [one for one in seen if view.asks(one.scope)])


def _over(failures: Failures, limits: Limits, dimension: str, calls: str) -> list[Seen]:
    view, gates = failures.view, limits.errors
    now = view.by(dimension)
    failed, attempts = now[figure(failures.attempts)], now[figure("attempts")]
    lost, made = now[figure(calls)], now[figure("calls")]
    if not (failed[-1] >= gates.min_errors).any():
        return []
    usual = failures.share(dimension)
    found: list[Seen] = []
    for code in np.flatnonzero(failed[-1] >= gates.min_errors).tolist():
        # A share that is high already cannot double: half of the way to all failing is as bad.
        best: Seen | None = None
        limit = min(gates.min_ratio * usual[code], (1 + usual[code]) / 2)
        for place, minutes in enumerate(WINDOWS_MINUTES):
            k, n = int(failed[place, code]), int(attempts[place, code])
            well_again = (
                place > 0
                and failed[place - 1, code]
                <= max(limit, k / max(n, 1) / 2) * attempts[place - 1, code]
            )
            if k < gates.min_errors or k < limit * n or well_again or (dimension and not code):
                continue
            scatter = failures.scatter(dimension, code, place)
            if beta_binomial_tail(k, n, float(usual[code]), scatter) >= gates.tail:
                continue
            # A refusal for its rate that a retry mended wakes nobody; nor do the retries of a few.
            bad, calls_hit = (k, n), k * made[place, code] / n
            if failures.attempts == "limited_attempts":
                bad = int(lost[place, code]), int(made[place, code])
                calls_hit = lost[place, code]
            share = gates.page_burn * limits.allowed_share
            unlikely = beta_binomial_tail(*bad, share, scatter) < _PAGE_TAIL
            pages = unlikely and calls_hit >= gates.min_errors
            one = Seen(
                scope=view.scope(dimension, code),
                window_minutes=minutes,
                observed=k / n,
                usual=float(usual[code]),
                score=surprise(k, float(usual[code]) * n) / minutes,
                severity="page" if pages else "ticket",
                calls=n,
                affected=k,
            )
            if best is None or (pages and best.severity == "ticket"):
                best = one
        if best:
            found.append(best)
    return found


def _burning(failures: Failures, limits: Limits) -> list[Seen]:
    """Find where the errors that the objective allows go too fast, over a long and a short window.

    What always failed as often wakes nobody.
    """
    view, gates, allowed = failures.view, limits.slo_burn, limits.allowed_share
    limited = replace(failures, attempts="limited_attempts")
    pairs: tuple[tuple[int, int, float, Severity], ...] = (
        (60, 5, gates.page_fast, "page"),
        (360, 30, gates.page_slow, "page"),
        (4320, 360, gates.ticket, "ticket"),
    )
    found: list[Seen] = []
    for dimension in ("", "feature"):
        for long, short, burn, severity in pairs:
            if dimension and severity == "ticket":  # the objective is one of all calls
                continue
            lost, calls = _lost_within(view, long, dimension)
            over = (lost >= gates.min_errors) & (lost > burn * allowed * calls)
            if not over.any():
                continue
            lost_now, calls_now = _lost_within(view, short, dimension)
            over &= lost_now > burn * allowed * calls_now
            usual = failures.share(dimension)
            if view.past.basis.seasonal:
                usual = np.minimum(usual + limited.share(dimension), 1.0)
            worse = lost > np.minimum(limits.errors.min_ratio * usual, (1 + usual) / 2) * calls
            found += [
                Seen(
                    scope=view.scope(dimension, code),
                    window_minutes=long,
                    observed=float(lost[code] / calls[code]),
                    usual=float(usual[code]),
                    score=surprise(float(lost[code]), float(allowed * calls[code])) / long,
                    severity=severity if worse[code] else "ticket",
                    calls=int(calls[code]),
                    affected=int(lost[code]),
                )
                for code in np.flatnonzero(over).tolist()
                if code or not dimension
            ]
    return found


def _one_user(failures: Failures, limits: Limits) -> list[Seen]:
    """Find a user most of whose calls fail, where that is too few calls to be seen in any scope."""
    view, usual = failures.view, float(failures.share("")[0])
    for minutes in WINDOWS_MINUTES[:2]:
        cells = view.window(minutes)
        figures = figures_of(cells)
        failed, attempts = (
            tally(cells.code("user"), figures[figure(name)], cells.names.size("user"))
            for name in (failures.attempts, "attempts")
        )
        for code in np.flatnonzero(failed >= limits.errors.min_user_errors).tolist():
            k, n = int(failed[code]), int(attempts[code])
            rare = beta_binomial_tail(k, n, usual, USUAL_SCATTER) < limits.errors.tail
            if code and 2 * k > n and rare:
                one = Seen(
                    scope=Scope("user", view.frame.names.name("user", code)),
                    window_minutes=minutes,
                    observed=k / n,
                    usual=usual,
                    score=surprise(k, usual * n) / minutes,
                    severity="ticket",
                    calls=n,
                    affected=k,
                )
                return [one]
    return []


def _lost_within(view: View, minutes: int, dimension: str) -> tuple[Floats, Floats]:
    """Return calls that failed for good, and calls, of the last minutes by value."""
    if minutes in WINDOWS_MINUTES:
        now = view.by(dimension)[:, WINDOWS_MINUTES.index(minutes)]
        return now[figure("failed_calls")] + now[figure("limited_calls")], now[figure("calls")]
    if minutes < WINDOWS_MINUTES[-1]:
        return _lost(view.window(minutes), dimension)
    past = view.past

    def lost() -> tuple[Floats, Floats]:
        recent = past.history.recent.between(past.history.until - minutes, past.history.until)
        return _lost(watched(recent, past.quiet), dimension)

    return past.kept(("lost", minutes, dimension, past.size(dimension)), lost)


def _found(failures: Failures, limits: Limits, rule: str, seen: list[Seen]) -> list[Finding]:
    if not seen:
        return []
    view, basis = failures.view, failures.past.basis
    first = leader(view, seen, "attempts")
    table = failures.table(min(first.window_minutes, WINDOWS_MINUTES[-1]))
    blames = _blames(table)
    explanation = newest(view, explain(table, prefer=blames, slack=_AS_LIKELY, choice=1.0))
    explanation = _with_kind(table, explanation)
    first = matching(seen, first, explanation)
    severity: Severity = "page" if any(one.severity == "page" for one in seen) else "ticket"
    if "user" in dict(explanation.where):
        severity = "ticket"  # one user's own requests fail: nobody is woken for that
    kind = dict((*explanation.where, *explanation.shared)).get("error_kind", "")
    objective = f"objective {limits.success_objective:.0%}, {basis.history_hours} h of history"
    return [
        find(
            view,
            rule,
            severity,
            first,
            title=(
                f"{percent(first.observed)} of attempts of "
                f"{first.scope} failed"
                f"{f' with {kind}' if kind else ''} ({first.affected} of {first.calls}), "
                f"usually {percent(first.usual)}"
            ),
            unit="share",
            against=against_text("share", basis) if basis.seasonal else objective,
            explanation=explanation,
            others=seen,
            noun="excess failures",
            kind="error kind",
            waiting=_waiting(failures, limits, first),
            changes=changes(view, explanation),
        )
    ]


def _with_kind(table: Table, explanation: Explanation) -> Explanation:
    """Name the kind of error, whatever else is the cause: it is half of the remedy."""
    kind = dict(explanation.shared).get("error_kind")
    if kind is None or "error_kind" in dict(explanation.where):
        return explanation
    if explanation.where:
        return named_as(explanation, {**dict(explanation.where), "error_kind": kind})
    actual, expected = exact(float(table.actual.sum())), exact(float(table.expected.sum()))
    one = Contributor((("error_kind", kind),), (), actual, expected, share=1.0)
    return replace(explanation, contributors=(one,))


def _blames(table: Table) -> Literal["feature", "model"]:
    """Return whose fault such failures more often are."""
    kind = table.codes[CAUSES.index("error_kind")]
    providers = table.names.known("error_kind", _PROVIDERS_KINDS)
    theirs = float(table.actual[np.isin(kind, list(providers))].sum())
    return "model" if theirs > table.actual.sum() / 2 else "feature"


def _waiting(failures: Failures, limits: Limits, seen: Seen) -> str:
    view = failures.view
    lost, _ = _lost(view.frame.window(min(seen.window_minutes, 60)), "")
    a_minute = float(lost[0]) / min(seen.window_minutes, 60)
    text = (
        f"That is {seen.affected / seen.window_minutes:.1f} such attempts a minute; "
        f"{a_minute:.1f} calls a minute fail for good."
    )
    until = view.frame.until
    days = watched(view.past.history.days, view.past.quiet)
    lost, calls = _lost(days.between(until - _OBJECTIVE_DAYS * DAY_MINUTES, until), "")
    left = float(limits.allowed_share * calls[0] - lost[0])
    if not calls[0] or not a_minute:
        return text
    if left <= 0:
        return f"{text} The errors that the objective allows in {_OBJECTIVE_DAYS} days are used up."
    return (
        f"{text} At this rate the errors that the objective allows in {_OBJECTIVE_DAYS} days last "
        f"{left / a_minute / 60:.1f} h more."
    )


def _lost(cells: Cells, dimension: str) -> tuple[Floats, Floats]:
    size = cells.names.size(dimension) if dimension else 1
    code = cells.code(dimension) if dimension else np.zeros(len(cells), np.int64)
    calls = cells.count("calls")
    failed = np.where(cells.code("error_kind") > 0, calls, 0)
    return tally(code, failed, size), tally(code, calls, size)
