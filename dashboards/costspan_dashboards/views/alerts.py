"""Alerts: what is wrong now and why, what people said of it, what happened, and who was told."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

import streamlit as st

from costspan.errors import Rejected
from costspan_collector.settings import ClickHouse
from costspan_collector.store import Store, connect
from costspan_dashboards.alerts.finding import Severity
from costspan_dashboards.alerts.queries import (
    Delivery,
    Event,
    LastEvaluation,
    last_evaluation,
    latest_alerts,
    live_alerts,
    notices,
    open_incidents,
    recent_deliveries,
    recent_events,
)
from costspan_dashboards.alerts.runbooks import RUNBOOKS
from costspan_dashboards.alerts.silences import (
    OperatorMark,
    Silence,
    act_on,
    end_silence,
    mark,
    marks,
    silence,
    silences,
    undo,
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
    "Rules look at all calls and at each feature, model, team, project, key and user, and at the "
    "pipeline itself. Each is compared with the same hours of past days; in the first 24 hours "
    "only failures are judged, by the objective. Defaults need no set-up; `alerts.toml` changes "
    "them."
)
_SILENCE_FOR = {
    "1 hour": timedelta(hours=1),
    "4 hours": timedelta(hours=4),
    "1 day": timedelta(days=1),
    "1 week": timedelta(days=7),
}
_COLOURS: Mapping[Severity, Literal["red", "orange", "gray"]] = {
    "page": "red",
    "ticket": "orange",
    "info": "gray",
}
_LEVEL_DIMENSIONS = ("feature", "model", "team", "project", "key", "service", "user")


def draw(store: Store, range: TimeRange) -> None:
    """Draw the page."""
    now = datetime.now(UTC)
    incidents = open_incidents(store)
    _evaluated(last_evaluation(store), now)
    _runbook(st.query_params.get("runbook", ""))
    wanted = st.query_params.get("alert", "") or st.query_params.get("silence", "")
    if wanted and wanted not in {one.alert_id for incident in incidents for one in incident}:
        _not_open(store, wanted)
    if incidents:
        for lead, *others in sorted(
            incidents, key=lambda one: all(alert.alert_id != wanted for alert in one)
        ):
            _card(lead, others, now)
    else:
        st.success("No open alert.", icon=":material/check_circle:")
        st.markdown(_RULES)
    infos = notices(store)
    if infos:
        with st.expander(f"Good to know: {len(infos)}, nothing to do"):
            for alert in infos:
                st.markdown(
                    f"**{escaped(alert.finding.title)}**, since {time_text(alert.finding.since)}. "
                    f"{escaped(' '.join(alert.finding.facts))}"
                )
    waiting = [alert for alert in live_alerts(store) if alert.state == "pending"]
    for alert in waiting:
        st.caption(
            f"Seen, not told yet: {escaped(alert.finding.title)} "
            f"(first seen {time_text(alert.pending_since)})"
        )
    _silences(silences(store, now), now)
    _marks(marks(store), now)
    deliveries = recent_deliveries(store, range)
    _dead_letters(deliveries)
    st.subheader("What happened")
    _events(recent_events(store, range), range)
    st.subheader("Who was told")
    _deliveries(deliveries, range)


def _runbook(rule: str) -> None:
    if rule in RUNBOOKS:
        st.info(f"**What to do about {rule}.** {RUNBOOKS[rule]}", icon=":material/menu_book:")


def _not_open(store: Store, alert_id: str) -> None:
    """Say what became of an alert that a message led to."""
    known = {one.alert_id: one for one in latest_alerts(store)}
    alert = known.get(alert_id)
    if alert is None:
        st.info(
            f"Alert {escaped(alert_id)} is over. Its steps are below, where the time goes back "
            "to it."
        )
        return
    ended = f" since {time_text(alert.ended_at)}" if alert.ended_at else ""
    st.info(
        f"**{escaped(alert.finding.title)}** is {alert.shown_state}{ended}. "
        f"It was first seen {time_text(alert.finding.since)}."
    )
    with st.expander("What was known of it"):
        st.markdown("\n".join(f"- {escaped(fact)}" for fact in alert.finding.facts))


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


def _card(alert: Alert, others: Sequence[Alert], now: datetime) -> None:
    """Draw one incident: the alert that leads it, and what else was found of it."""
    found = alert.finding
    with st.container(border=True):
        badges, since = st.columns([3, 2], vertical_alignment="center")
        with badges, st.container(horizontal=True):
            st.badge(found.severity, color=_COLOURS[found.severity])
            st.badge(found.rule, color="blue")
            st.badge(alert.shown_state, color="gray")
        since.markdown(f"first seen {time_text(found.since)} ({age_text(found.since, now)})")
        st.markdown(f"#### {escaped(found.title)}")
        if alert.hushed:
            st.info(f"Nobody is told: {escaped(alert.hushed)}.")
        if alert.state == "stale":
            st.warning("No calls arrive, so it is not known whether it goes on.")
        elif alert.well_since:
            st.info(f"Back to usual since {time_text(alert.well_since)}; resolved if it stays so.")
        if alert.taken_by:
            st.info(f"{escaped(alert.taken_by)} has it.")
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
        with st.container(horizontal=True):
            if found.link != "/alerts":
                what = "these calls" if found.link.startswith("/calls") else "the page"
                st.link_button(f"Open {what}", found.link, icon=":material/list:")
            _actions(alert, others, now)
        if found.rule in RUNBOOKS:
            with st.expander("What to do"):
                st.markdown(RUNBOOKS[found.rule])
        if others:
            with st.expander(f"Also found of it: {', '.join(one.finding.rule for one in others)}"):
                for one in others:
                    st.markdown(
                        f"**{one.finding.severity} {one.finding.rule}**, {one.shown_state}: "
                        f"{escaped(one.finding.title)}"
                    )
                    st.markdown("\n".join(f"- {escaped(fact)}" for fact in one.finding.facts))
        st.caption(
            f"Alert {alert.alert_id}, fingerprint {alert.fingerprint}, "
            f"last evaluated {time_text(alert.evaluated_at)}"
        )


def _actions(alert: Alert, others: Sequence[Alert], now: datetime) -> None:
    incident = [alert, *others]
    with st.popover("I have it", icon=":material/front_hand:"), st.form(f"ack {alert.alert_id}"):
        st.caption("It is not told again, unless it gets worse.")
        author, comment = _who(alert.alert_id, "ack")
        if st.form_submit_button("Acknowledge"):
            _write(
                lambda store: act_on(store, incident, "acknowledge", author, comment, now),
                "The next evaluation takes it up.",
            )
        if st.form_submit_button("Close, though it goes on"):
            _write(
                lambda store: act_on(store, incident, "close", author, comment, now),
                "The next evaluation closes it.",
            )
    with (
        st.popover("Silence", icon=":material/notifications_off:"),
        st.form(f"silence {alert.alert_id}"),
    ):
        abouts = [{"rule": one.finding.rule, **dict(one.finding.where)} for one in incident]
        named = "; ".join(
            ", ".join(f"{name}={value}" for name, value in about.items()) for about in abouts
        )
        st.caption(f"Nobody is told of alerts with {escaped(named)}.")
        author, comment = _who(alert.alert_id, "silence")
        length = st.selectbox("For", list(_SILENCE_FOR), key=f"for {alert.alert_id}")
        if st.form_submit_button("Silence"):
            ends_at = now + _SILENCE_FOR[length]
            _write(
                lambda store: [
                    silence(store, about, author, comment, ends_at, now) for about in abouts
                ],
                "Silenced from the next evaluation on.",
            )
    if not alert.finding.window_minutes:  # it is not about calls, which alone have a usual
        return
    with st.popover("Expected", icon=":material/flag:"), st.form(f"mark {alert.alert_id}"):
        where = next(
            (pair for pair in alert.finding.where if pair[0] in _LEVEL_DIMENSIONS), ("", "")
        )
        st.caption(
            f"What is planned for {escaped('='.join(where)) if where[0] else 'all calls'} is the "
            "usual from the first time it was seen. An incident is no past to compare with."
        )
        author, comment = _who(alert.alert_id, "mark")
        since = alert.finding.since
        if st.form_submit_button("Planned: the new usual"):
            _write(
                lambda store: mark(store, "new_level", since, None, where, author, comment, now),
                "The usual is new from the next evaluation on.",
            )
        if st.form_submit_button("Incident: leave it out of the past"):
            _write(
                lambda store: mark(store, "left_out", since, now, where, author, comment, now),
                "Left out from the next evaluation on.",
            )


def _who(alert_id: str, what: str) -> tuple[str, str]:
    author = st.text_input("You are", key=f"author {what} {alert_id}")
    comment = st.text_input("Because", key=f"comment {what} {alert_id}")
    return author, comment


def _write(change: Callable[[Store], object], said: str) -> None:
    """Make a change; the page itself reads through a handle that cannot."""
    try:
        change(_writable(ClickHouse().url))
    except Rejected as error:
        st.error(escaped(str(error)))
    else:
        st.success(said)


@st.cache_resource(show_spinner=False)
def _writable(url: str) -> Store:
    return connect(url)


def _silences(known: Sequence[Silence], now: datetime) -> None:
    if not known:
        return
    st.subheader("Silences")
    for one in known:
        about = ", ".join(f"{name}={value}" for name, value in one.matchers.items())
        said, button = st.columns([5, 1], vertical_alignment="center")
        said.markdown(
            f"**{escaped(about)}** until {time_text(one.ends_at)}, by {escaped(one.author)}: "
            f"{escaped(one.comment)}"
        )
        if button.button("End it", key=f"end {one.silence_id}"):
            _write(lambda store, one=one: end_silence(store, one, now), "Ended.")


def _marks(known: Sequence[OperatorMark], now: datetime) -> None:
    if not known:
        return
    st.subheader("Marks")
    for one in known:
        where = f"{one.dimension}={one.value}" if one.dimension else "all calls"
        until = f" to {time_text(one.until)}" if one.until else " on"
        kind = "the new usual" if one.kind == "new_level" else "left out of the past"
        said, button = st.columns([5, 1], vertical_alignment="center")
        said.markdown(
            f"**{escaped(where)}** from {time_text(one.since)}{until} is {kind}, by "
            f"{escaped(one.author)}: {escaped(one.comment)}"
        )
        if button.button("Undo", key=f"undo {one.mark_id}"):
            _write(lambda store, one=one: undo(store, one, now), "Undone.")


def _dead_letters(deliveries: Sequence[Delivery]) -> None:
    failed = [one for one in deliveries if one.outcome in {"failed", "unknown"}]
    if not failed:
        return
    names = ", ".join(sorted({one.channel for one in failed}))
    st.error(
        f"Did not arrive through {escaped(names)}: {len(failed)} of {len(deliveries)} messages; "
        f"{escaped(failed[0].detail)}. What is still true is sent when the channel works.",
        icon=":material/mail_off:",
    )


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
