"""Calls: the list, and one call with its trace. Which of the two is in the URL."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from costspan.money import plain
from costspan_collector.store import Store
from costspan_dashboards.charts import Lane, timeline
from costspan_dashboards.figures import (
    UNKNOWN,
    cost_text,
    count_text,
    escaped,
    range_text,
    seconds_text,
    time_text,
    unpriced_text,
    usd_text,
)
from costspan_dashboards.filters import Filters, shown
from costspan_dashboards.queries import (
    ListedCall,
    TracedAttempt,
    TracedCall,
    calls,
    overview,
    trace_attempts,
    trace_calls,
)
from costspan_reconcile.allocate.cents import sum_exact
from costspan_reconcile.allocate.queries import billed_call

_MOST = 200
_FIRST_FAILURE = 400
_ONLY = {"all": "", "failed": "errors", "without a price": "unpriced"}
_ORDERS = {"newest first": "newest", "most expensive first": "cost"}
_TRACE = re.compile(r"[0-9a-f]{32}")


def draw(store: Store, filters: Filters, now: datetime) -> None:
    """Draw the page."""
    trace_id = st.query_params.get("trace", "").strip().lower()
    if trace_id:
        st.button("Back to the list", icon=":material/arrow_back:", on_click=_close)
        _trace(store, trace_id, st.query_params.get("span", "").strip().lower())
    else:
        _list(store, filters, now)


def _open(trace_id: str, span_id: str) -> None:
    st.query_params.update({"trace": trace_id, "span": span_id})


def _close() -> None:
    for name in ("trace", "span"):
        st.query_params.pop(name, None)


def _choice(label: str, name: str, options: Sequence[str]) -> str:
    """Draw a choice that is in the URL, also while a call is open and the choice is not drawn."""
    wanted = st.query_params.get(name, "")

    def keep() -> None:
        st.query_params[name] = st.session_state[name]

    return st.segmented_control(
        label,
        options,
        default=wanted if wanted in options else options[0],
        required=True,
        key=name,
        on_change=keep,
    )


def _list(store: Store, filters: Filters, now: datetime) -> None:
    which, sorting = st.columns(2)
    with which:
        only = _choice("Show", "show", list(_ONLY))
    with sorting:
        order = _choice("Order", "order", list(_ORDERS))
    rows = calls(store, filters, only=_ONLY[only], order=_ORDERS[order], most=_MOST)
    seen = overview(store, filters)
    matching = {"all": seen.calls, "failed": seen.errors, "without a price": seen.unpriced}[only]
    if not rows:
        st.info(f"No call in {range_text(filters.time)} matches. Choose a longer time.")
        return
    st.markdown(
        f"**{min(len(rows), matching):,} of {matching:,} calls** · {range_text(filters.time)} · "
        f"all calls {escaped(usd_text(seen.spend_usd))} estimated, "
        f"{unpriced_text(seen.unpriced)} · as of {time_text(now)}"
    )
    st.caption("Tick the box of a call to open it.")
    st.dataframe(
        [_row(call) for call in rows],
        hide_index=True,
        height=640,
        placeholder="unknown",
        key="list",
        selection_mode=("single-row", "single-cell"),
        on_select=lambda: _picked(rows),
        column_config={
            "started (UTC)": st.column_config.DatetimeColumn(
                format="YYYY-MM-DD HH:mm:ss.SSS", timezone="UTC"
            ),
            "input tokens": st.column_config.NumberColumn(format="localized"),
            "output tokens": st.column_config.NumberColumn(format="localized"),
            "ms": st.column_config.NumberColumn(format="localized"),
            "outcome": st.column_config.TextColumn(width="medium"),
        },
    )


def _picked(rows: Sequence[ListedCall]) -> None:
    chosen = st.session_state["list"].selection
    places: list[int] = [*chosen.rows, *(row for row, _ in chosen.cells)]
    if places:
        call = rows[places[0]]
        _open(call.trace_id, call.span_id)


def _row(call: ListedCall) -> dict[str, object]:
    return {
        "started (UTC)": call.started_at,
        "model": call.model,
        "team": call.team,
        "feature": call.feature,
        "outcome": _outcome(call),
        "ms": round(call.duration_us / 1000),
        "retries": call.retries,
        "input tokens": call.input_tokens,
        "output tokens": call.output_tokens,
        "USD, estimated": cost_text(call.cost_usd, unpriced=call.unpriced),
        "price": call.price_status,
        "service": call.service_name,
        "api": call.api_type,
        "project": call.project,
    }


def _bounds(estimate: Mapping[str, str]) -> str:
    """Return between what a cost lies that nobody measured; empty where it was measured."""
    if not estimate:
        return ""
    low, high = estimate.get("low_usd", "?"), estimate.get("high_usd", "unknown")
    return f"{low} to {high} USD; not counted: {estimate.get('missing') or 'nothing'}"


def _outcome(call: ListedCall | TracedCall) -> str:
    if call.status == "ok":
        return "ok"
    return " ".join(filter(None, ("failed", call.error_type, call.error_code)))


def _trace(store: Store, trace_id: str, span_id: str) -> None:
    if not _TRACE.fullmatch(trace_id):
        st.error("A trace id is 32 hex digits; the one in the URL is not.")
        return
    found = trace_calls(store, trace_id)
    if not found:
        st.info(
            f"No call of trace `{trace_id}` is kept. It may not have come in yet; "
            "reload in a moment."
        )
        return
    call = next((call for call in found if call.span_id == span_id), found[0])
    attempts = trace_attempts(store, trace_id)
    billed = _summary(call)
    parts = _meters(call)
    st.subheader("Timeline of the trace")
    st.altair_chart(timeline(_lanes(found, attempts, call)))
    _attempts([attempt for attempt in attempts if attempt.parent_span_id == call.span_id])
    _siblings([other for other in found if other is not call])
    with st.expander("Everything kept of this call"):
        st.dataframe(
            [{"name": name, "value": value} for name, value in _facts(call)], hide_index=True
        )
    _billed(store, call, billed, parts)  # last: it takes all calls of the day to share a bill out


def _summary(call: TracedCall) -> DeltaGenerator:
    """Draw what matters most, and return the place of what the call was billed."""
    st.subheader(f"{escaped(shown(call.model))}, {time_text(call.started_at)}")
    if call.status == "error":
        said = f", code {escaped(call.error_code)}" if call.error_code else ""
        st.error(f"Failed: {escaped(call.error_type or 'no reason given')}{said}")
    figures = st.columns([4, 4, 3, 5, 4, 3])
    figures[0].metric(
        "Cost, USD, estimated", cost_text(call.cost_usd, unpriced=call.unpriced), border=True
    )
    figures[2].metric("Duration", seconds_text(call.duration_us), border=True)
    figures[3].metric(
        "Time to first chunk",
        seconds_text(call.time_to_first_chunk_us) if call.streamed else "not streamed",
        border=True,
    )
    figures[4].metric(
        "Tokens in / out",
        UNKNOWN
        if call.input_tokens is None and call.output_tokens is None
        else f"{count_text(call.input_tokens)} / {count_text(call.output_tokens)}",
        border=True,
    )
    figures[5].metric("Retries", count_text(call.retries), border=True)
    return figures[1].empty()


def _meters(call: TracedCall) -> DeltaGenerator:
    """Draw tokens and estimated cost, and return the place of what was billed by line item."""
    tokens, cost = st.columns(2)
    with tokens:
        st.markdown("**Tokens**, as the response reports them")
        st.dataframe(
            [
                {"kind": kind, "tokens": UNKNOWN if count is None else f"{count:,}"}
                for kind, count in (
                    ("input", call.input_tokens),
                    ("of it read from cache", call.cached_tokens),
                    ("of it written to cache", call.cache_write_tokens),
                    ("output", call.output_tokens),
                    ("of it reasoning", call.reasoning_tokens),
                )
            ],
            hide_index=True,
        )
    with cost:
        at = "negotiated" if call.price_overrides else "list"
        st.markdown(f"**Cost**, USD, estimated at {at} price, to the last digit")
        if call.unpriced:
            reason = call.price_status or "no reason came with the call"
            st.warning(f"No price: {escaped(reason)}")
        elif call.price_status == "superseded":
            st.info("Not counted: this span and one inside it tell of the same call")
        elif call.cost_usd is None:
            st.info("Not billed: the call failed with an answer that OpenAI does not charge")
        parts = [
            {"part": part, "USD": plain(amount)} for part, amount in call.cost_parts_usd.items()
        ]
        if call.cost_usd is not None:
            parts.append({"part": "total", "USD": plain(call.cost_usd)})
        if call.list_cost_usd is not None and call.list_cost_usd != call.cost_usd:
            parts.append({"part": "at list price", "USD": plain(call.list_cost_usd)})
        if parts:
            st.dataframe(parts, hide_index=True)
        if call.price_book:
            st.caption(
                f"Price row {escaped(call.price_path)} of price book {escaped(call.price_book)}"
            )
        if call.price_overrides:
            st.caption(f"Negotiated: {escaped(', '.join(call.price_overrides))}")
        return st.container()


def _billed(store: Store, call: TracedCall, figure: DeltaGenerator, parts: DeltaGenerator) -> None:
    """Draw the share of the call in the bill of the day (UTC) on which it ended."""
    ended = call.started_at.astimezone(UTC) + timedelta(microseconds=call.duration_us)
    found = billed_call(store, ended.date(), call.trace_id, call.span_id)
    if found is None:
        figure.metric("Cost, USD, billed", "not yet", border=True, help="The day has no bill yet.")
        return
    total = sum_exact([*found.parts_usd.values()])
    figure.metric(
        "Cost, USD, billed",
        usd_text(total) if found.parts_usd else "in no line",
        border=True,
        help="Its share, by quantity, of what its team, feature, user and customer were billed "
        f"in each line item. The day is {'final' if found.frozen else 'not final yet'}.",
    )
    if found.parts_usd:
        parts.markdown("**Cost**, USD, billed")
        rows = [{"line item": item, "USD": plain(usd)} for item, usd in found.parts_usd.items()]
        parts.dataframe([*rows, {"line item": "total", "USD": plain(total)}], hide_index=True)


def _lanes(
    found: Sequence[TracedCall], attempts: Sequence[TracedAttempt], chosen: TracedCall
) -> list[Lane]:
    began = min(span.started_at for span in (*found, *attempts))
    lanes: list[Lane] = []
    for call in found:
        mark = " (this call)" if call is chosen and len(found) > 1 else ""
        said = ", failed" if call.status == "error" else ""
        name = f"{len(lanes) + 1}. {shown(call.model)}{said}{mark}"
        lanes.append(_lane(name, "call", began, call, failed=call.status == "error"))
        for attempt in attempts:
            if attempt.parent_span_id != call.span_id:
                continue
            name = f"{len(lanes) + 1}. attempt {attempt.attempt + 1}: {_answer(attempt)}"
            lanes.append(_lane(name, "HTTP", began, attempt, failed=bool(_error(attempt))))
    return lanes


def _lane(
    name: str, kind: str, began: datetime, span: TracedCall | TracedAttempt, *, failed: bool
) -> Lane:
    start_ms = (span.started_at - began).total_seconds() * 1000
    return Lane(
        name=name,
        kind=f"{kind}, failed" if failed else kind,
        start_ms=start_ms,
        end_ms=start_ms + span.duration_us / 1000,
        label=f"{time_text(span.started_at)}, {seconds_text(span.duration_us)}",
    )


def _answer(attempt: TracedAttempt) -> str:
    return f"HTTP {attempt.http_status}" if attempt.http_status else attempt.error_type or UNKNOWN


def _error(attempt: TracedAttempt) -> str:
    return attempt.error_type or (
        f"HTTP {attempt.http_status}" if attempt.http_status >= _FIRST_FAILURE else ""
    )


def _attempts(attempts: Sequence[TracedAttempt]) -> None:
    st.subheader("HTTP attempts of this call")
    if not attempts:
        st.caption("None kept: the app may have HTTP spans switched off.")
        return
    st.dataframe(
        [
            {
                "attempt": attempt.attempt + 1,
                "started": time_text(attempt.started_at),
                "took": seconds_text(attempt.duration_us),
                "answer": _answer(attempt),
                "error": _error(attempt),
                "request": f"{attempt.method} {attempt.server_address}".strip(),
            }
            for attempt in attempts
        ],
        hide_index=True,
    )


def _siblings(others: Sequence[TracedCall]) -> None:
    if not others:
        return
    st.subheader("Other calls in the same trace")
    for other in others:
        text, button = st.columns([8, 2], vertical_alignment="center")
        text.markdown(
            escaped(
                f"{time_text(other.started_at)} · {shown(other.model)} · {_outcome(other)} · "
                f"{seconds_text(other.duration_us)} · {cost_text(other.cost_usd, unpriced=other.unpriced)}"
            )
        )
        button.button(
            "Open",
            key=f"open-{other.span_id}",
            on_click=_open,
            args=(other.trace_id, other.span_id),
        )


def _facts(call: TracedCall) -> list[tuple[str, str]]:
    return [
        ("trace id", call.trace_id),
        ("span id", call.span_id),
        ("parent span id", call.parent_span_id),
        ("request id", call.request_id),
        ("response id", call.response_id),
        ("model asked for", call.request_model),
        ("model that answered", call.response_model),
        ("tier asked for", call.request_tier),
        ("tier that served", call.response_tier),
        ("api", call.api_type),
        ("operation", call.operation),
        ("provider", call.provider),
        ("server", call.server_address),
        ("service", call.service_name),
        ("environment", call.environment),
        ("organization", call.organization),
        ("project", call.project),
        ("key ends in", call.key_hint),
        ("key fingerprint", call.key_fingerprint),
        ("team", call.team),
        ("feature", call.feature),
        ("user", call.user),
        ("customer", call.customer),
        ("prompt name", call.prompt),
        ("stream outcome", call.stream_outcome),
        ("finish reasons", ", ".join(call.finish_reasons)),
        ("price status", call.price_status),
        ("estimated", _bounds(call.estimate)),
        ("received", time_text(call.received_at)),
    ]
