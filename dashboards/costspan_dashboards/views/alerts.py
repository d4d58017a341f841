"""Alerts: what is wrong now and why, what happened lately, and who was told."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import streamlit as st

from costspan_collector.store import Store
from costspan_dashboards.alerts.queries import (
    Delivery,
    Event,
    LastEvaluation,
    last_evaluation,
    live_alerts,
    open_alerts,
    recent_deliveries,
    recent_events,
)
from costspan_dashboards.alerts.state import Alert
from costspan_dashboards.figures import (
    age_text,
    cost_text,
    escaped,
    range_text,
    seconds_text,
    time_text,
)
from costspan_dashboards.filters import TimeRange

_SILENT = timedelta(minutes=10)
_RULES = (
    "Three rules look at all calls and at every feature, model, team and project: **errors** "
    "(share of failed calls), **latency** (like for like, and the slow tail) and **spend** (USD an "
    "hour). Each is compared with the same hours of past days; in the first 24 hours only errors "
    "are judged, by the objective."
)


def draw(store: Store, range: TimeRange) -> None:
    """Draw the page."""
    now = datetime.now(UTC)
    alerts = open_alerts(store)
    _evaluated(last_evaluation(store), now)
    if alerts:
        for alert in alerts:
            _card(alert, now)
    else:
        st.success("No open alert.", icon=":material/check_circle:")
        st.markdown(_RULES)
    waiting = [alert for alert in live_alerts(store) if alert.state == "pending"]
    for alert in waiting:
        st.caption(
            f"Seen, not told yet: {escaped(alert.finding.title)} "
            f"(first seen {time_text(alert.pending_since)})"
        )
    st.subheader("What happened")
    _events(recent_events(store, range), range)
    st.subheader("Who was told")
    _deliveries(recent_deliveries(store, range), range)


def _evaluated(last: LastEvaluation | None, now: datetime) -> None:
    if last is None:
        st.warning(
            "Alerts were never evaluated: `costspan serve` does it every minute.",
            icon=":material/schedule:",
        )
    elif now - last.ended_at > _SILENT:
        st.error(
            f"Alerts were last evaluated {age_text(last.ended_at, now)}: what is below is old. "
            "Check that `costspan serve` runs.",
            icon=":material/error:",
        )
    elif last.status == "ok":
        st.caption(f"Last evaluated {age_text(last.ended_at, now)}: {escaped(last.detail)}.")
    else:
        st.error(
            f"The last evaluation, {age_text(last.ended_at, now)}, failed: {escaped(last.detail)}",
            icon=":material/error:",
        )


def _card(alert: Alert, now: datetime) -> None:
    found = alert.finding
    with st.container(border=True):
        badges, since = st.columns([3, 2], vertical_alignment="center")
        with badges, st.container(horizontal=True):
            st.badge(found.severity, color="red" if found.severity == "page" else "orange")
            st.badge(found.rule, color="blue")
            st.badge(alert.state, color="gray")
        since.markdown(f"first seen {time_text(found.since)} ({age_text(found.since, now)})")
        st.markdown(f"#### {escaped(found.title)}")
        if alert.state == "stale":
            st.warning("No calls arrive, so it is not known whether it goes on.")
        elif alert.well_since:
            st.info(f"Back to usual since {time_text(alert.well_since)}; resolved if it stays so.")
        st.markdown("\n".join(f"- {escaped(fact)}" for fact in found.facts))
        if found.examples:
            st.markdown("Calls to look at")
            st.dataframe(
                [
                    {
                        "call": example.link,
                        "started (UTC)": time_text(example.started_at),
                        "took": seconds_text(example.duration_us),
                        "USD, estimated": cost_text(example.cost_usd, unpriced=example.unpriced),
                        "error": example.error_type,
                    }
                    for example in found.examples
                ],
                hide_index=True,
                column_config={
                    "call": st.column_config.LinkColumn(display_text=r"trace=([0-9a-f]{12})")
                },
            )
        st.link_button("Open these calls", found.link, icon=":material/list:")
        st.caption(f"Alert {alert.alert_id}, last evaluated {time_text(alert.evaluated_at)}")


def _events(events: Sequence[Event], time: TimeRange) -> None:
    if not events:
        st.caption(f"Nothing in {range_text(time)}.")
        return
    st.dataframe(
        [
            {
                "at": time_text(event.at),
                "rule": event.rule,
                "severity": event.severity,
                "step": f"{event.from_state} → {event.to_state}",
                "why": event.reason,
                "told": "yes" if event.tells else "no",
                "what": event.title,
                "alert": event.alert_id,
            }
            for event in events
        ],
        hide_index=True,
    )


def _deliveries(deliveries: Sequence[Delivery], time: TimeRange) -> None:
    if not deliveries:
        st.caption(f"No message in {range_text(time)}.")
        return
    st.dataframe(
        [
            {
                "at": time_text(delivery.last_at),
                "channel": delivery.channel,
                "outcome": delivery.outcome,
                "tries": delivery.tries,
                "detail": delivery.detail,
                "alert": delivery.alert_id,
                "step": delivery.sequence,
            }
            for delivery in deliveries
        ],
        hide_index=True,
    )
