"""Home: is anything wrong, and what does it cost, in ten seconds."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from urllib.parse import urlsplit

import streamlit as st

from costspan_collector.store import Store
from costspan_dashboards.alerts.queries import open_incidents
from costspan_dashboards.breakdown import OTHER, Total, breakdown
from costspan_dashboards.charts import stacked_bars, step_seconds
from costspan_dashboards.figures import (
    age_text,
    change_text,
    count_text,
    escaped,
    percent_text,
    range_text,
    seconds_text,
    time_text,
    unpriced_text,
    usd_text,
)
from costspan_dashboards.filters import Filters, TimeRange
from costspan_dashboards.queries import Extent, Overview, extent, last_runs, overview
from costspan_reconcile.queries import recon_days, uninstrumented_keys

_STALE = timedelta(minutes=15)
_MOVERS = 5
_ALERTS = 3
_RECONCILED_DAYS = 30


def draw(store: Store, filters: Filters, now: datetime, alerts: st.Page) -> None:
    """Draw the page; what is wrong leads to the page `alerts`."""
    reach = extent(store)
    if reach is None:
        _welcome()
        return
    _freshness(reach, now)
    _figures(store, filters, reach, now, alerts)
    seconds = step_seconds(filters.time.length)
    by_feature = breakdown(store, filters, by="feature", measure="usd", seconds=seconds)
    st.subheader("Spend over time by feature, USD, estimated")
    if by_feature.steps:
        st.altair_chart(
            stacked_bars(
                by_feature.bars("usd"),
                time=filters.time,
                order=by_feature.order,
                other=OTHER,
                seconds=seconds,
                unit="USD",
            )
        )
        st.caption(f"{range_text(filters.time)}; the first and last bar may be part of a step.")
    else:
        st.info(f"No call in {range_text(filters.time)} matches the filters.")
    if reach.covers(filters.time.previous):
        by_model = breakdown(store, filters, by="model", measure="usd", seconds=0)
        st.subheader("What moved, against the period before")
        left, right = st.columns(2)
        with left:
            _movers("feature", by_feature.totals)
        with right:
            _movers("model", by_model.totals)


def _welcome() -> None:
    page = urlsplit(st.context.url or "http://localhost:4318")
    st.header("No call has come in yet")
    st.markdown("In the app whose OpenAI calls you want to see, install one package:")
    st.code("pip install costspan", language="bash")
    st.markdown("and add one import, anywhere before the first call:")
    st.code("import costspan.auto", language="python")
    st.markdown("Tell it where to send, unless that is `http://localhost:4318`:")
    st.code(f"export OTEL_EXPORTER_OTLP_ENDPOINT={page.scheme}://{page.netloc}", language="bash")
    st.caption("Then make a call and reload this page. Prompts and answers are never sent.")


def _freshness(reach: Extent, now: datetime) -> None:
    line = f"As of {time_text(now)}. The newest call came in {age_text(reach.received_at, now)}."
    if now - reach.received_at > _STALE:
        st.warning(
            f"{line} What follows may be incomplete: check that apps run and can reach the collector.",
            icon=":material/schedule:",
        )
    else:
        st.caption(line)


def _figures(store: Store, filters: Filters, reach: Extent, now: datetime, alerts: st.Page) -> None:
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    today_range = TimeRange(midnight, now)
    yesterday_range = today_range.back(timedelta(days=1))
    today = overview(store, replace(filters, time=today_range))
    current = overview(store, filters)
    yesterday = before = None
    if reach.covers(yesterday_range):
        yesterday = overview(store, replace(filters, time=yesterday_range))
    if reach.covers(filters.time.previous):
        before = overview(store, replace(filters, time=filters.time.previous))
    first, second, third = st.columns(3)
    with first:
        _spend("Spend today (UTC)", today, yesterday, "against yesterday until the same time")
    with second:
        _spend("Spend in this range", current, before, "against the period before")
    with third, st.container(border=True, height="stretch"):
        _alerts(store, now, alerts)
        _reconciled(store, now)
    calls, errors, latency = st.columns(3)
    more_calls = change_text(current.calls, before and before.calls)
    calls.metric(
        "Calls in this range",
        count_text(current.calls),
        more_calls,
        delta_color="off",
        delta_description=_described(before, more_calls, "against the period before"),
        border=True,
    )
    errors.metric(
        "Share of calls that failed",
        percent_text(current.errors, current.calls),
        _points(current, before),
        delta_color="inverse",
        delta_description=(
            f"against the period before; {current.errors:,} failed"
            if before and before.calls
            else f"{current.errors:,} failed"
        ),
        border=True,
    )
    slower = change_text(current.p95_us, before and before.p95_us)
    latency.metric(
        "p95 latency of calls that worked",
        seconds_text(current.p95_us),
        slower,
        delta_color="inverse",
        delta_description=_described(before, slower, "against the period before"),
        border=True,
    )


def _spend(title: str, now: Overview, before: Overview | None, against: str) -> None:
    change = change_text(now.spend_usd, before and before.spend_usd)
    with st.container(border=True, height="stretch"):
        st.metric(
            title,
            usd_text(now.spend_usd),
            change,
            delta_color="inverse",
            delta_description=_described(before, change, against),
        )
        st.caption(f"USD, estimated; {escaped(unpriced_text(now.unpriced))}")


def _described(before: Overview | None, change: str | None, words: str) -> str:
    if before is None:
        return "no complete period before to compare with"
    return words if change else "nothing before to compare with"


def _points(now: Overview, before: Overview | None) -> str | None:
    if before is None or not now.calls or not before.calls:
        return None
    share = Decimal(now.errors) / now.calls - Decimal(before.errors) / before.calls
    return f"{share * 100:+.1f} points"


def _alerts(store: Store, now: datetime, page: st.Page) -> None:
    firing = [incident[0] for incident in open_incidents(store)]
    if not firing:
        st.markdown(":material/check_circle: **No open alert**")
        return
    st.markdown(
        f":red[:material/notifications_active:] **{len(firing)} open "
        f"alert{'' if len(firing) == 1 else 's'}**"
    )
    for alert in firing[:_ALERTS]:
        found = alert.finding
        st.markdown(escaped(found.title))
        st.page_link(
            page,
            label=f"{found.severity}, first seen {age_text(found.since, now)}: see why",
            icon=":material/arrow_forward:",
            query_params={"alert": alert.alert_id},
        )
    if len(firing) > _ALERTS:
        st.caption(f"and {len(firing) - _ALERTS} more")


def _reconciled(store: Store, now: datetime) -> None:
    run = last_runs(store).get("reconcile")
    if run is None:
        st.markdown(":material/help: **Not reconciled yet**: all costs are estimates")
    elif run.status == "ok":
        troubles = _unreconciled(store, now)
        icon = ":orange[:material/warning:]" if troubles else ":material/check_circle:"
        st.markdown(f"{icon} **Reconciled** {age_text(run.ended_at, now)}")
        if troubles:
            st.caption(
                f"Last {_RECONCILED_DAYS} days: {', '.join(troubles)}; see the page Reconciliation"
            )
        st.caption(escaped(run.detail))
    else:
        worked = f"last worked {age_text(run.worked_at, now)}" if run.worked_at else "never worked"
        st.markdown(f":orange[:material/warning:] **Reconciliation {run.status}**, {worked}")
        st.caption(escaped(run.detail))


def _unreconciled(store: Store, now: datetime) -> list[str]:
    """Return what a person should look at, in words; nothing where all is explained."""
    until = now.astimezone(UTC).date() + timedelta(days=1)
    since = until - timedelta(days=_RECONCILED_DAYS)
    verdicts = [day.verdict for day in recon_days(store, since, until)]
    found = {
        "days blocked": verdicts.count("BLOCKED"),
        "days to review": verdicts.count("REVIEW"),
        "billed keys that no span carries": len(uninstrumented_keys(store, since, until)),
    }
    return [f"{name}: {count}" for name, count in found.items() if count]


def _movers(title: str, totals: Sequence[Total]) -> None:
    def moved(total: Total) -> Decimal:
        return (total.cost_usd or Decimal(0)) - (total.previous_usd or Decimal(0))

    largest = sorted(totals, key=lambda total: -abs(moved(total)))[:_MOVERS]
    st.dataframe(
        [
            {
                title: total.value,
                "now": usd_text(total.cost_usd or Decimal(0)),
                "before": usd_text(total.previous_usd or Decimal(0)),
                "change": f"{'+' if moved(total) > 0 else ''}{usd_text(moved(total))}",
            }
            for total in largest
            if moved(total)
        ],
        hide_index=True,
    )
