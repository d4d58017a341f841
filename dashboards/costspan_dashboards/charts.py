"""Charts: colours that colour-blind people can tell apart, units, and UTC."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import altair as alt

from costspan_dashboards.filters import TimeRange

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#999933")
"""Okabe and Ito's, without the yellow and black that one of the two themes swallows."""
OTHER_COLOUR = "#8C8C8C"
ROOM = len(PALETTE)
"""How many values a chart tells apart; the rest are one, in grey."""

_STEPS = (
    (timedelta(hours=2), 300),
    (timedelta(hours=6), 900),
    (timedelta(days=2), 3600),
    (timedelta(days=8), 6 * 3600),
    (timedelta.max, 86400),
)
_BAR_SHARE = 0.94
_DAY_OR_HOUR = (
    "utcFormat(datum.value, utchours(datum.value) + utcminutes(datum.value) ? '%H:%M' : '%a %d %b')"
)


@dataclass(frozen=True, slots=True)
class Bar:
    """One piece of a stacked bar. `size` places it; `label` is what a person reads."""

    step: datetime
    value: str
    size: float
    label: str


def step_seconds(length: timedelta) -> int:
    """Return how long one bar is, so that a chart has some thirty to fifty of them."""
    return next(seconds for longest, seconds in _STEPS if length <= longest)


def step_text(seconds: int) -> str:
    """Return the length of a bar in words."""
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds % size == 0:
            count = seconds // size
            return unit if count == 1 else f"{count} {unit}s"
    return f"{seconds} s"


def stacked_bars(
    bars: Sequence[Bar],
    *,
    time: TimeRange,
    order: Sequence[str],
    other: str,
    seconds: int,
    unit: str,
) -> alt.Chart:
    """Return bars over time, stacked by value in `order`; the value `other` is grey.

    The axis spans all of `time`, so that silence at its edges is seen.
    """
    colours = [
        OTHER_COLOUR if value == other else PALETTE[place % ROOM]
        for place, value in enumerate(order)
    ]
    return (
        alt.Chart(alt.Data(values=_stacked(bars, order, seconds)))
        .mark_rect()
        .encode(
            x=alt.X("from:T")
            .scale(type="utc", domain=_domain(bars, time, seconds), nice=False)
            .axis(labelExpr=_DAY_OR_HOUR)
            .title(f"time (UTC), one bar = {step_text(seconds)}"),
            x2="to:T",
            y=alt.Y("low:Q").title(unit).axis(format="~s" if unit == "tokens" else "$,~f"),
            y2="high:Q",
            color=alt.Color("value:N")
            .scale(domain=list(order), range=colours)
            .legend(title=None, orient="bottom", columns=4, labelLimit=260),
            tooltip=[
                alt.Tooltip("when:N", title="from"),
                alt.Tooltip("value:N", title="value"),
                alt.Tooltip("label:N", title=unit),
            ],
        )
        .properties(height=400)
    )


def _domain(bars: Sequence[Bar], time: TimeRange, seconds: int) -> list[int]:
    """Return the ends of the time axis, in milliseconds. No bar is cut off by the end."""
    first = int(time.since.timestamp()) // seconds * seconds
    last = max(
        [time.until.timestamp(), *(bar.step.timestamp() + seconds * _BAR_SHARE for bar in bars)]
    )
    return [first * 1000, math.ceil(last * 1000)]


def _stacked(bars: Sequence[Bar], order: Sequence[str], seconds: int) -> list[Mapping[str, object]]:
    """Return the bars with a low and a high end: Vega stacks no bar that has two ends in time."""
    rank = {value: place for place, value in enumerate(order)}
    tops: dict[datetime, float] = {}
    rows: list[Mapping[str, object]] = []
    for bar in sorted(bars, key=lambda bar: (bar.step, rank[bar.value])):
        low = tops.get(bar.step, 0.0)
        tops[bar.step] = low + bar.size
        rows.append(
            {
                "from": bar.step.isoformat(),
                "to": (bar.step + timedelta(seconds=seconds * _BAR_SHARE)).isoformat(),
                "when": f"{bar.step:%a %Y-%m-%d %H:%M} UTC",
                "value": bar.value,
                "low": low,
                "high": tops[bar.step],
                "label": bar.label,
            }
        )
    return rows


@dataclass(frozen=True, slots=True)
class Lane:
    """One row of a timeline."""

    name: str
    kind: str
    start_ms: float
    end_ms: float
    label: str


def timeline(lanes: Sequence[Lane]) -> alt.Chart:
    """Return what ran when, one row each, in the order given."""
    kinds = {
        "call": PALETTE[0],
        "call, failed": PALETTE[5],
        "HTTP": PALETTE[4],
        "HTTP, failed": PALETTE[1],
    }
    rows: list[Mapping[str, object]] = [
        {
            "name": lane.name,
            "kind": lane.kind,
            "start": lane.start_ms,
            "end": lane.end_ms,
            "label": lane.label,
        }
        for lane in lanes
    ]
    present = [kind for kind in kinds if any(lane.kind == kind for lane in lanes)]
    return (
        alt.Chart(alt.Data(values=rows))
        .mark_bar(height=14, minBandSize=2)
        .encode(
            x=alt.X("start:Q").title("milliseconds since the trace began"),
            x2="end:Q",
            y=alt.Y("name:N").sort([lane.name for lane in lanes]).title(None).axis(labelLimit=320),
            color=alt.Color("kind:N")
            .scale(domain=present, range=[kinds[kind] for kind in present])
            .legend(None),
            tooltip=[
                alt.Tooltip("name:N", title="what"),
                alt.Tooltip("kind:N", title="kind"),
                alt.Tooltip("label:N", title="when"),
            ],
        )
        .properties(height=30 * len(lanes) + 70)
    )
