"""What calls of the last weeks cost, a token and a call; and what the present would cost at that."""

import numpy as np

from costspan_dashboards.alerts.frame import (
    DAY_MINUTES,
    DIMENSIONS,
    HISTORY_DAYS,
    Cells,
    Floats,
    tally,
)
from costspan_dashboards.alerts.scopes import (
    Leaves,
    View,
    figure,
    figures_of,
    watched,
)

METERS = ("input", "cached", "output")


def daily(view: View, dimension: str) -> Floats:
    """Return all figures of the last four weeks before today, by value."""
    past = view.past
    today = view.frame.until - view.frame.until % DAY_MINUTES

    def four_weeks() -> Floats:
        days = past.history.days.between(today - HISTORY_DAYS * DAY_MINUTES, today)
        return sums(watched(days, past.quiet), dimension)

    return past.kept(("daily", dimension, past.size(dimension)), four_weeks)


def sums(cells: Cells, dimension: str) -> Floats:
    """Return all figures, by value."""
    size = cells.names.size(dimension) if dimension else 1
    code = cells.code(dimension) if dimension else np.zeros(len(cells), np.int64)
    return np.stack([tally(code, row, size) for row in figures_of(cells)])


def price(figures: Floats, meter: str) -> Floats:
    """Return pico-dollars a token; 0 where no token tells."""
    tokens = {
        "input": figures[figure("input_tokens")] - figures[figure("cached_tokens")],
        "cached": figures[figure("cached_tokens")],
        "output": figures[figure("output_tokens")],
    }[meter]
    cost = figures[figure(f"{meter}_cost_pico")]
    return np.where(tokens > 0, cost / np.maximum(tokens, 1), 0.0)


def at_past_prices(view: View) -> Leaves:
    """Return what the present would cost at the prices of the last four weeks, and what it does.

    In pico-dollars, by window. What new prices make of it is `price_change`'s and the budgets' business.
    """
    leaves = view.leaves
    model = leaves.codes[DIMENSIONS.index("model")]
    before, now = daily(view, "model"), view.by("model")
    cost = leaves.figures[figure("cost_pico")].copy()
    for meter in METERS:
        was, is_now = price(before, meter), price(now, meter)
        known = (was > 0) & (is_now > 0)
        factor = np.where(known, was / np.where(known, is_now, 1.0), 1.0)
        cost += leaves.figures[figure(f"{meter}_cost_pico")] * (factor[:, model] - 1)
    return Leaves(leaves.names, leaves.codes, np.stack([cost, leaves.figures[figure("cost_pico")]]))
