"""Reconciliation: what OpenAI billed against what the spans say, and where the difference is."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, fields
from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal
from fractions import Fraction

import altair as alt
import streamlit as st

from costspan.errors import Rejected
from costspan_collector.settings import Pricing, read_settings
from costspan_collector.store import Store
from costspan_dashboards.breakdown import csv_text
from costspan_dashboards.charts import PALETTE
from costspan_dashboards.figures import (
    UNKNOWN,
    age_text,
    count_text,
    escaped,
    percent_text,
    time_text,
    usd_text,
)
from costspan_dashboards.filters import TimeRange
from costspan_reconcile.amounts import dollars
from costspan_reconcile.bottom_line import bottom_line
from costspan_reconcile.explain import MEANING, Class
from costspan_reconcile.price_truth import UnitPrice, price_truth
from costspan_reconcile.queries import (
    ClassRow,
    DayRow,
    LineRow,
    UninstrumentedKey,
    recon_classes,
    recon_days,
    recon_line_items,
    recon_lines,
    recon_projects,
    uninstrumented_keys,
)
from costspan_reconcile.settings import Reconcile
from costspan_reconcile.standing import Standing, bill_standing
from costspan_reconcile.tolerances import Tolerances

_EXACT = Context(prec=76)
_MOST_LINES = 2000
_DAYS_AT_ONCE = 31


def draw(store: Store, range: TimeRange) -> None:
    """Draw the page."""
    since, until = _days(range)
    now = datetime.now(UTC)
    days = recon_days(store, since, until)
    if not days:
        _nothing_yet(store, since, until, now)
        return
    closed = [day for day in days if day.day_state != "OPEN"]
    classes = recon_classes(store, since, until)
    _as_of(days, now)
    _standing(bill_standing(store, read_settings(Reconcile), now))
    _figures(closed)
    _verdict(store, since, until)
    _troubles(days)
    _uninstrumented(uninstrumented_keys(store, since, until))
    billed = {day.day for day in closed if day.billed_usd is not None}
    if billed:
        _classes(classes, billed)
    _by_day(days)
    _by_project(store, since, until)
    _by_line_item(store, since, until)
    _prices(store, since, until)
    _lines(recon_lines(store, since, until, _MOST_LINES), since, until)


def _days(range: TimeRange) -> tuple[date, date]:
    """Return the UTC days that the range touches: the bill knows no smaller unit."""
    last = (range.until - timedelta(microseconds=1)).astimezone(UTC).date()
    return range.since.astimezone(UTC).date(), last + timedelta(days=1)


def _nothing_yet(store: Store, since: date, until: date, now: datetime) -> None:
    ever = recon_days(store, date(2020, 1, 1), date(2100, 1, 1))
    if ever:
        first, last = ever[-1].day, ever[0].day
        st.info(
            f"Nothing is reconciled from {since} to {until - timedelta(days=1)} (UTC days); there "
            f"are days from {first} to {last}. Choose another range above."
        )
        return
    st.header("Nothing is reconciled yet")
    st.markdown(
        "All costs on the other pages are estimates. To hold them against the bill, give the "
        "server an **organization admin key** with read-only permission and start it again:"
    )
    st.code("export OPENAI_ADMIN_KEY=sk-admin-...\ncostspan serve", language="bash")
    st.markdown(
        "An owner of the organization makes one under *Settings, Admin keys*. It is read from the "
        "environment, used for the Costs, Usage and Projects endpoints, and never stored or shown."
    )
    settings = read_settings(Reconcile)
    try:
        settings.key()
    except Rejected as error:
        st.caption(escaped(str(error)))
        return
    st.caption("A key is set: the first reading runs when the server starts and may take a minute.")
    for line in bill_standing(store, settings, now).lines():
        st.caption(escaped(line))


def _as_of(days: Sequence[DayRow], now: datetime) -> None:
    states = {
        state: sum(day.day_state == state for day in days)
        for state in ("FINAL", "PROVISIONAL", "RESTATED", "OPEN")
    }
    read = [day.read_at for day in days if day.read_at is not None]
    as_of = (
        f"Bill read {age_text(max(read), now)} ({time_text(max(read))}), "
        f"for the oldest reading of a day {age_text(min(read), now)}"
        if read
        else "Bill never read"
    )
    st.caption(
        f"{as_of}. Days are UTC: {states['FINAL']} final, {states['PROVISIONAL']} provisional, "
        + (f"{states['RESTATED']} restated after they were final, " if states["RESTATED"] else "")
        + f"{states['OPEN']} open (only in the table by day and among the single lines). "
        "Final means more than 72 hours old and unchanged for 24."
    )


def _standing(standing: Standing) -> None:
    """Say why nothing newer is there, and how far back the bill is read."""
    if standing.stale:
        st.warning(escaped(f"The bill is old: {standing.stale}"))
    if standing.backfill.due:
        st.caption(escaped(f"Still going back: {standing.backfill}."))


def _figures(closed: Sequence[DayRow]) -> None:
    known = [day for day in closed if day.billed_usd is not None]
    if not known:
        st.info("No closed day (UTC) in this range has a bill yet, so there is no total.")
        return
    if len(known) < len(closed):
        st.warning(
            f"{len(closed) - len(known)} of {len(closed)} closed days have no bill and are in no total."
        )
    billed = _sum(day.billed_usd for day in known)
    estimated = _sum(day.estimated_usd for day in known)
    captured = _sum(day.captured_usd for day in known)
    unpriced = sum(day.unpriced_calls for day in closed)
    first, second, third, fourth = st.columns(4)
    first.metric("Billed, USD", usd_text(billed))
    second.metric("Estimated, USD", usd_text(estimated))
    third.metric("Difference, USD", usd_text(_EXACT.subtract(billed, estimated)))
    fourth.metric(
        "Capture rate",
        percent_text(captured, billed),
        help="Of the billed dollars, those that spans account for, line by line.",
    )
    if unpriced:
        st.caption(f"+ {count_text(unpriced)} calls without a price, in no estimate.")


def _verdict(store: Store, since: date, until: date) -> None:
    """Draw the verdict of the range, with both directions of error."""
    found, tolerances = bottom_line(store, since, until), read_settings(Tolerances)
    if not found.closed_days:
        return
    st.caption(
        f"As a whole: **{found.verdict(tolerances).lower()}**. Billed beyond the estimate "
        f"{escaped(usd_text(found.above_usd))}, below it {escaped(usd_text(-found.below_usd))}; "
        f"not explained {escaped(usd_text(found.to_review_usd))}. Someone is asked from "
        f"{escaped(usd_text(tolerances.period_usd))} and {percent_text(tolerances.period_share, Decimal(1))} on."
    )


def _troubles(days: Sequence[DayRow]) -> None:
    reasons: dict[str, list[date]] = {}
    for day in days:
        if day.reason:
            reasons.setdefault(day.reason, []).append(day.day)
    for reason, of in reasons.items():
        which = f"{min(of)}" if len(of) == 1 else f"{len(of)} days from {min(of)} to {max(of)}"
        st.error(f"{which}: {escaped(reason)}.", icon=":material/block:")


def _uninstrumented(keys: Sequence[UninstrumentedKey]) -> None:
    for key in keys:
        name = (
            f"**{escaped(key.key_name)}** ({escaped(key.api_key_id)})"
            if key.key_name
            else escaped(key.api_key_id)
        )
        project = escaped(key.project_name or key.project)
        st.warning(
            f"Key {name} in project {project} was billed **{escaped(usd_text(key.amount_usd))}** "
            f"from {key.first_day} to {key.last_day}, and no span carries it. "
            "Add `import costspan.auto` to the program that uses it.",
            icon=":material/key_off:",
        )


def _classes(classes: Sequence[ClassRow], billed: set[date]) -> None:
    totals: dict[str, Decimal] = {}
    for row in classes:
        if row.day in billed:
            totals[row.cause] = _EXACT.add(totals.get(row.cause, Decimal(0)), row.amount_usd)
    st.subheader("Where the difference is, closed days, USD")
    if not totals:
        st.success(
            "Billed and estimated are equal to the last digit.", icon=":material/check_circle:"
        )
        return
    order = sorted(totals, key=lambda cause: -abs(totals[cause]))
    chart, table = st.columns([2, 3])
    chart.altair_chart(_class_chart(totals, order))
    table.dataframe(
        [
            {
                "class": cause,
                "billed - estimated": usd_text(totals[cause]),
                "what it is": MEANING[Class(cause)],
            }
            for cause in order
        ],
        hide_index=True,
    )
    table.caption("Every dollar of billed less estimated is in exactly one class.")


def _class_chart(totals: Mapping[str, Decimal], order: Sequence[str]) -> alt.Chart:
    rows: list[Mapping[str, object]] = [
        {"class": cause, "usd": float(totals[cause]), "label": usd_text(totals[cause])}
        for cause in order
    ]
    return (
        alt.Chart(alt.Data(values=rows))
        .mark_bar(color=PALETTE[0])
        .encode(
            x=alt.X("usd:Q").title("billed - estimated, USD").axis(format="$,~f"),
            y=alt.Y("class:N").sort(list(order)).title(None).axis(labelLimit=200),
            tooltip=[alt.Tooltip("class:N"), alt.Tooltip("label:N", title="USD")],
        )
        .properties(height=36 * len(rows) + 60)
    )


def _by_day(days: Sequence[DayRow]) -> None:
    st.subheader("By day (UTC), USD")
    st.dataframe(
        [
            {
                "day": day.day.isoformat(),
                "state": day.day_state.lower(),
                "verdict": day.verdict.lower(),
                "billed": usd_text(day.billed_usd),
                "estimated": usd_text(day.estimated_usd),
                "difference": _difference(day.billed_usd, day.estimated_usd),
                "coverage": usd_text(day.coverage_usd),
                "metering": usd_text(day.metering_usd),
                "rate": usd_text(day.rate_usd),
                "unsplit": usd_text(day.unsplit_usd),
                "calls": count_text(day.calls),
                "unpriced calls": count_text(day.unpriced_calls),
                "bill read": time_text(day.read_at) if day.read_at else "never",
            }
            for day in days
        ],
        hide_index=True,
        height="content" if len(days) <= _DAYS_AT_ONCE else "auto",
    )
    st.caption(
        "Difference = coverage (tokens without a span) + metering (the bill counts other than "
        "Usage) + rate (another price) + unsplit (not by tokens, or a quantity or price is missing; see the class), to the last digit."
    )


def _by_project(store: Store, since: date, until: date) -> None:
    st.subheader("By project, closed days, USD")
    st.dataframe(
        [
            {
                "project": f"{row.name} ({row.project})" if row.name else row.project or "(none)",
                "billed": usd_text(row.billed_usd),
                "estimated": usd_text(row.estimated_usd),
                "difference": _difference(row.billed_usd, row.estimated_usd),
                "capture rate": percent_text(row.captured_usd, row.billed_usd),
                "coverage": usd_text(row.coverage_usd),
                "metering": usd_text(row.metering_usd),
                "rate": usd_text(row.rate_usd),
                "unsplit": usd_text(row.unsplit_usd),
            }
            for row in recon_projects(store, since, until)
        ],
        hide_index=True,
    )


def _by_line_item(store: Store, since: date, until: date) -> None:
    st.subheader("By line item, closed days, USD")
    st.dataframe(
        [
            {
                "line item": row.line_item,
                "billed": usd_text(row.billed_usd),
                "estimated": usd_text(row.estimated_usd),
                "difference": _difference(row.billed_usd, row.estimated_usd),
                "coverage": usd_text(row.coverage_usd),
                "metering": usd_text(row.metering_usd),
                "rate": usd_text(row.rate_usd),
                "unsplit": usd_text(row.unsplit_usd),
                "class": ", ".join(sorted({*row.causes} - {"MATCHED"}) or ["MATCHED"]),
            }
            for row in recon_line_items(store, since, until)
        ],
        hide_index=True,
    )


def _prices(store: Store, since: date, until: date) -> None:
    """Draw what a unit really costs, and what no single line can show."""
    truth = price_truth(store, since, until, read_settings(Pricing).book())
    if not truth.prices:
        return
    st.subheader("What a unit costs, by the bill")
    for discount in truth.discounts:
        st.info(
            f"{escaped(discount.off)} below the price book for {len(discount.models)} models "
            f"({escaped(', '.join(discount.models))}), from {discount.since} to {discount.last}.",
            icon=":material/percent:",
        )
    for change in truth.changes:
        st.warning(
            f"{escaped(change.line_item)}: since {change.since} billed at "
            f"{escaped(_per_million(change.after_usd))} a million, before at "
            f"{escaped(_per_million(change.before_usd))} as in the price book.",
            icon=":material/trending_flat:",
        )
    for free in truth.free:
        pool = "all of the day's pool" if free.is_whole_pool else "within the day's pool"
        st.info(
            f"{free.day}: {count_text(round(free.tokens))} tokens of the {free.pool} models were "
            f"free, {pool}.",
            icon=":material/redeem:",
        )
    newest = {(one.line_item, one.paid_usd): one for one in truth.prices}
    with st.expander(
        "Paid price of a unit beside the price book, USD a million, newest day of each"
    ):
        st.dataframe(
            [
                {
                    "line item": one.line_item,
                    "last day": one.day.isoformat(),
                    "paid": _per_million(one.paid_usd),
                    "price book": _per_million(one.book_usd),
                    "paid / book": UNKNOWN if one.ratio is None else f"{float(one.ratio):.6g}",
                    "which is": one.same_as,
                }
                for one in sorted(newest.values(), key=_line_item)
            ],
            hide_index=True,
        )


def _per_million(price: Fraction | None) -> str:
    return UNKNOWN if price is None else dollars(price * 1_000_000)


def _line_item(one: UnitPrice) -> tuple[str, Fraction]:
    return one.line_item, one.paid_usd


def _lines(lines: Sequence[LineRow], since: date, until: date) -> None:
    with st.expander("Every day, project, key and line item, largest difference first"):
        st.dataframe(
            [
                {
                    "day": line.day.isoformat(),
                    "state": line.day_state.lower(),
                    "project": line.project or "(none)",
                    "key": line.key_name or line.api_key_id or "(not known)",
                    "line item": line.line_item,
                    "billed": usd_text(line.billed_usd),
                    "estimated": usd_text(line.estimated_usd),
                    "billed quantity": _quantity(line.billed_quantity),
                    "usage": _quantity(line.usage_quantity),
                    "spans": _quantity(line.estimated_quantity),
                    "class": line.cause,
                    "verdict": line.verdict.lower(),
                    "match": line.match_level,
                    "why": line.explanation,
                }
                for line in lines
            ],
            hide_index=True,
        )
        if len(lines) == _MOST_LINES:
            st.caption(f"The {_MOST_LINES:,} largest; choose fewer days for the rest.")
    st.download_button(
        "Lines as CSV, every digit",
        csv_text([field.name for field in fields(LineRow)], [astuple(line) for line in lines]),
        file_name=f"costspan-reconciliation-{since}-{until - timedelta(days=1)}.csv",
        mime="text/csv",
        on_click="ignore",
        disabled=not lines,
    )


def _difference(billed: Decimal | None, estimated: Decimal | None) -> str:
    if billed is None or estimated is None:
        return UNKNOWN
    return usd_text(_EXACT.subtract(billed, estimated))


def _quantity(quantity: Decimal | None) -> str:
    return UNKNOWN if quantity is None else f"{quantity.normalize(_EXACT):,f}"


def _sum(amounts: Iterable[Decimal | None]) -> Decimal:
    total = Decimal(0)
    for amount in amounts:
        total = _EXACT.add(total, amount or Decimal(0))
    return total
