"""Close: which months are in the books, how the bill became the invoice, and the proof of it."""

from collections.abc import Sequence
from datetime import UTC, datetime

import streamlit as st

from costspan.money import plain
from costspan_collector.store import Store
from costspan_dashboards.figures import escaped, time_text, usd_text
from costspan_reconcile.period.adjustments import Adjustment, adjustments
from costspan_reconcile.period.bridge import BALANCE, BridgeLine
from costspan_reconcile.period.close import bridge, evidence_pack
from costspan_reconcile.period.month import Month
from costspan_reconcile.period.states import Facts, MonthRow, State, facts, months, steps

_NEXT = {
    State.OPEN: "It closes when every day is final: 72 hours old, and read twice, a day apart, the same.",
    State.CLOSING: "Every day is final. Next, state its invoice:",
    State.INVOICE_MATCHED: "The invoice ties. Next, sign it:",
}


def draw(store: Store) -> None:
    """Draw the page."""
    rows = months(store)
    if not rows:
        st.info(
            "No month has a reconciled day yet. The page Reconciliation says what to set; a month "
            "can be closed when OpenAI has stopped changing its bill."
        )
        return
    _months(rows)
    options = [str(Month(row.month)) for row in rows]
    chosen = st.selectbox("Month (UTC)", options, key="month", bind="query-params")
    row = rows[options.index(chosen)]
    month = Month(row.month)
    st.subheader(f"{month} is {_words(row.state)}")
    if row.state == State.LOCKED:
        _locked(store, month, row)
    else:
        _next(month, row, facts(store, month, datetime.now(UTC)))
    _bridge(bridge(store, row.close_id), row)
    _corrections(adjustments(store, month))
    _steps(store, month)


def _months(rows: Sequence[MonthRow]) -> None:
    st.dataframe(
        [
            {
                "month": str(Month(row.month)),
                "state": _words(row.state),
                "final days": f"{row.final_days} of {len(Month(row.month).days)}",
                "billed, USD": usd_text(
                    row.billed_usd if row.state == State.LOCKED else row.ledger_usd
                ),
                "invoice, USD": "" if row.invoice_usd is None else usd_text(row.invoice_usd),
                "by": row.actor,
                "since": time_text(row.at) if row.at else "",
            }
            for row in rows
        ],
        hide_index=True,
    )


def _words(state: str) -> str:
    return state.lower().replace("_", " ")


def _next(month: Month, row: MonthRow, found: Facts) -> None:
    for blocker in found.blockers:
        st.warning(f"{escaped(blocker)}.", icon=":material/schedule:")
    st.markdown(_NEXT[State(row.state)])
    command = f"costspan reconcile close {month}"
    if row.state == State.CLOSING:
        st.code(f"{command} --invoice-total USD --tax USD --invoice FILE", language="bash")
    elif row.state == State.INVOICE_MATCHED:
        st.code(f"{command} --sign --by NAME --pack {month}.zip", language="bash")


def _locked(store: Store, month: Month, row: MonthRow) -> None:
    when = time_text(row.at) if row.at else ""
    st.markdown(
        f"Locked by **{escaped(row.actor)}** at {when}. The hash that stands for everything in the "
        f"evidence pack is `{row.lock_sha256}`."
    )
    st.download_button(
        "Evidence pack",
        lambda: evidence_pack(store, month),
        file_name=f"costspan-evidence-{month}.zip",
        mime="application/zip",
        icon=":material/download:",
        on_click="ignore",
    )
    st.caption(
        f"`costspan reconcile verify costspan-evidence-{month}.zip` checks it, without the store "
        "and without a network."
    )


def _bridge(lines: Sequence[BridgeLine], row: MonthRow) -> None:
    if not lines or row.invoice_usd is None:
        return
    charges = [line for line in lines if line.kind not in BALANCE]
    balance = [line for line in lines if line.kind in BALANCE]
    ends = "drawn from the balance" if balance else f"invoice {row.invoice_id}".strip()
    st.subheader("From the bill to the invoice, USD")
    total = {"line": ends, "what": "", "FOCUS category": "", "USD": plain(row.invoice_usd)}
    st.dataframe([*map(_line, charges), total], hide_index=True)
    if balance:
        st.subheader("The prepaid balance, USD")
        st.dataframe([*map(_line, balance), total], hide_index=True)
    if row.invoice_sha256:
        st.caption(
            f"The invoice's file is {escaped(row.invoice_file)}, SHA-256 `{row.invoice_sha256}`; "
            "its content is not kept."
        )


def _line(line: BridgeLine) -> dict[str, str]:
    return {
        "line": line.kind,
        "what": line.description,
        "FOCUS category": " ".join(filter(None, (line.charge_category, line.charge_class))),
        "USD": plain(line.amount_usd),
    }


def _corrections(rows: Sequence[Adjustment]) -> None:
    if not rows:
        return
    st.subheader("Corrections of locked months, booked here, USD")
    st.dataframe(
        [
            {
                "locked month": str(Month(row.original_month)),
                "day": row.day.isoformat(),
                "project": row.project or "(none)",
                "key": row.api_key_id or "(not known)",
                "line item": row.line_item,
                "was": plain(row.old_usd),
                "is": plain(row.new_usd),
                "correction": plain(row.amount_usd),
                "seen": time_text(row.booked_at),
            }
            for row in rows
        ],
        hide_index=True,
    )


def _steps(store: Store, month: Month) -> None:
    rows = steps(store, month)
    if not rows:
        return
    with st.expander("Steps"):
        st.dataframe(
            [
                {
                    "at": time_text(row.at),
                    "state": _words(row.state),
                    "by": row.actor,
                    "why": row.reason,
                    "billed, USD": plain(row.billed_usd),
                }
                for row in rows
            ],
            hide_index=True,
        )
