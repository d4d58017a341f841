"""Every rule there is: pure functions of a view on a frame and of limits, findings out."""

import logging
from collections.abc import Callable, Mapping

from costspan_dashboards.alerts.finding import Finding
from costspan_dashboards.alerts.frame import Frame
from costspan_dashboards.alerts.limits import Limits
from costspan_dashboards.alerts.rules.arrival import clock, late, no_data, traffic_drop
from costspan_dashboards.alerts.rules.budget import budget
from costspan_dashboards.alerts.rules.errors import errors, rate_limited
from costspan_dashboards.alerts.rules.latency import latency
from costspan_dashboards.alerts.rules.plumbing import (
    billing_key_failing,
    collector_loss,
    job_late,
    price_book_old,
    reconciliation_drift,
    rule_fails,
    store_unhealthy,
)
from costspan_dashboards.alerts.rules.retries import retries
from costspan_dashboards.alerts.rules.spend import entity_spend, spend
from costspan_dashboards.alerts.rules.unit_cost import cache, price_change, unit_cost, unpriced
from costspan_dashboards.alerts.scopes import Scope, View

Rule = Callable[[View, Limits], list[Finding]]

_log = logging.getLogger("costspan.alerts")

RULES: Mapping[str, Rule] = {
    rule.__name__: rule
    for rule in (
        no_data,
        errors,
        rate_limited,
        latency,
        entity_spend,
        spend,
        traffic_drop,
        unit_cost,
        cache,
        price_change,
        retries,
        unpriced,
        budget,
        late,
        clock,
        collector_loss,
        store_unhealthy,
        price_book_old,
        reconciliation_drift,
        billing_key_failing,
        job_late,
    )
}


def judge(
    frame: Frame, limits: Limits, *, only: str = "", about: frozenset[Scope] | None = None
) -> tuple[Finding, ...]:
    """Return what the rules find wrong in a frame; of EASED rules, `about` these scopes.

    A rule that fails is a finding of its own: the others go on.
    """
    view = View.of(frame, limits.quiet_environments, about)
    found: list[Finding] = []
    for name, rule in RULES.items():
        if name not in limits.disabled and (not only or name == only):
            try:
                found += rule(view, limits)
            except Exception as error:  # noqa: BLE001 - the other rules must go on
                _log.exception("the rule %s fails", name)
                found.append(rule_fails(view, name, error))
    return tuple(found)
