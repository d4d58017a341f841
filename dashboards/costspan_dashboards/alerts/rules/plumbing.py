"""The pipeline's own rules: what is lost, stuck, late, out of date, or does not agree with the bill."""

from collections.abc import Iterator
from decimal import Decimal

from costspan_dashboards.alerts.finding import Finding, Severity, Unit
from costspan_dashboards.alerts.frame import Drift, JobHealth
from costspan_dashboards.alerts.limits import Limits
from costspan_dashboards.alerts.scopes import Scope, View
from costspan_dashboards.figures import usd_text

RULE_FAILS = "rule_fails"

_HOUR_SECONDS = 3600
_PAGES = {
    "reconciliation_drift": "/reconciliation",
    "billing_key_failing": "/reconciliation",
}


def collector_loss(view: View, limits: Limits) -> list[Finding]:
    """Find spans that came and were not kept."""
    plumbing, gates = view.frame.plumbing, limits.plumbing
    lost = plumbing.refused_spans + plumbing.lost_spans
    came, files = lost + plumbing.accepted_spans, plumbing.quarantined_files
    if lost >= gates.min_lost_spans and lost >= gates.max_lost_share * came:
        title = f"{lost} of {came} spans of the last hour were not kept"
    elif files:
        title = f"The store cannot take {files} files of spans, which are set aside"
    else:
        return []
    return [
        _finding(
            view,
            "collector_loss",
            "ticket",
            title,
            Decimal(lost),
            "spans",
            [
                f"{plumbing.refused_spans} were refused for good.",
                f"Apps gave up {plumbing.lost_spans}; {files} files of spans are in quarantine.",
                "Every total is too small by what they cost.",
            ],
        )
    ]


def store_unhealthy(view: View, limits: Limits) -> list[Finding]:
    """Find that the store takes no rows."""
    since = view.frame.plumbing.store_failing_since
    if since is None:
        return []
    minutes = (view.frame.now - since).total_seconds() / 60
    if minutes < limits.plumbing.store_failing_minutes:
        return []
    return [
        _finding(
            view,
            "store_unhealthy",
            "page",
            f"The store has taken no rows for {minutes:.0f} minutes",
            Decimal(round(minutes)),
            "minutes",
            [
                "Spans wait on the collector's disk; when that is full, senders must try again.",
            ],
        )
    ]


def price_book_old(view: View, limits: Limits) -> list[Finding]:
    """Find a price book past the day on which somebody should look at it again."""
    plumbing, now = view.frame.plumbing, view.frame.now
    due = plumbing.price_book_review_at
    if due is None or now < due:
        return []
    days = (now - due).days
    severity: Severity = "ticket" if days >= limits.plumbing.price_book_ticket_days else "info"
    return [
        _finding(
            view,
            "price_book_old",
            severity,
            f"The price book {plumbing.price_book} was to be reviewed before {due:%Y-%m-%d}",
            Decimal(days),
            "days",
            [
                f"Until then the prices of {', '.join(plumbing.price_book_models)} were promised.",
                "If they changed since, every estimate of these models is wrong.",
            ],
        )
    ]


def reconciliation_drift(view: View, limits: Limits) -> list[Finding]:
    """Find days whose bill and estimate differ for no cause that explains it, either way."""
    gates = limits.plumbing
    found: list[Finding] = []
    for up in (True, False):
        days = [
            drift
            for drift in view.frame.plumbing.drifts
            if not drift.explained
            and (_difference(drift) > 0) is up
            and abs(_difference(drift)) >= gates.drift_min_usd
            and abs(_difference(drift)) >= gates.drift_share * drift.billed_usd
        ]
        if not days:
            continue
        amount = sum((_difference(drift) for drift in days), Decimal(0))
        way = "more than" if up else "less than"
        named = ", ".join(f"{drift.day:%Y-%m-%d}" for drift in days[:5])
        found.append(
            _finding(
                view,
                "reconciliation_drift",
                "ticket",
                f"OpenAI bills {usd_text(abs(amount))} {way} we estimate, on {len(days)} days",
                amount,
                "usd",
                [
                    f"The days: {named}{' and more' if len(days) > 5 else ''}.",
                    "Look for a key or a service without the import, or a price that rose."
                    if up
                    else "Look for credits, a price that fell, or spans of another provider.",
                ],
                episode="billed more" if up else "billed less",
            )
        )
    return found


def billing_key_failing(view: View, limits: Limits) -> list[Finding]:
    """Find that the bill cannot be read."""
    plumbing, now = view.frame.plumbing, view.frame.now
    since = plumbing.billing_failing_since
    hours = (now - since).total_seconds() / _HOUR_SECONDS if since else 0.0
    if since is None or hours < limits.plumbing.billing_failing_hours:
        return []
    return [
        _finding(
            view,
            "billing_key_failing",
            "ticket",
            f"The bill could not be read for {hours:.0f} hours",
            Decimal(round(hours * 60)),
            "minutes",
            [
                f"OpenAI's answer: {plumbing.billing_reason}.",
                "The last good bill stays until then.",
            ],
        )
    ]


def job_late(view: View, limits: Limits) -> list[Finding]:
    """Find scheduled jobs that do not run, or fail again and again."""
    return [found for job in view.frame.plumbing.jobs for found in _job(view, limits, job)]


def _job(view: View, limits: Limits, job: JobHealth) -> Iterator[Finding]:
    gates, now = limits.plumbing, view.frame.now
    last = job.last_ok_at
    overdue = last is not None and now - last > gates.job_late_factor * job.expected_every
    if not overdue and job.failures < gates.job_failures:
        return
    minutes = (now - last).total_seconds() / 60 if last else 0.0
    since = f"for {minutes:.0f} minutes" if last else "ever"
    yield _finding(
        view,
        "job_late",
        "ticket",
        f"The job {job.job} has not succeeded {since}",
        Decimal(round(minutes)),
        "minutes",
        [
            f"It should run every {job.expected_every.total_seconds() / 60:.0f} minutes.",
            f"It failed {job.failures} times in a row; the last time: {job.detail}."
            if job.failures
            else f"When it ran last, it said: {job.detail}.",
        ],
        episode=job.job,
    )


def rule_fails(view: View, rule: str, error: Exception) -> Finding:
    """Tell that a rule cannot be evaluated: what it would find, nobody knows."""
    return _finding(
        view,
        RULE_FAILS,
        "ticket",
        f"The rule {rule} cannot be evaluated: {type(error).__name__}",
        Decimal(1),
        "calls",
        [
            "Its alerts stay as they are, and it raises none. The server's log has the whole error.",
            "Until it is mended, the rule can be named under `disabled` in alerts.toml.",
        ],
        episode=rule,
    )


def _difference(drift: Drift) -> Decimal:
    return drift.billed_usd - drift.estimated_usd


def _finding(
    view: View,
    rule: str,
    severity: Severity,
    title: str,
    observed: Decimal,
    unit: Unit,
    facts: list[str],
    *,
    episode: str = "",
) -> Finding:
    return Finding(
        rule=rule,
        severity=severity,
        scope=Scope(),
        since=view.frame.at,
        until=view.frame.at,
        observed=observed,
        usual=Decimal(0),
        unit=unit,
        title=title,
        facts=tuple(facts),
        contributors=(),
        shared=(),
        examples=(),
        link=_PAGES.get(rule, "/alerts"),
        episode=episode,
    )
