"""What calls used and cost, now and usually, by their finest kinds: the stuff of causes in dollars."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from costspan_dashboards.alerts.cause import Pairs, Table
from costspan_dashboards.alerts.change import NO_CALLS, Usage, decompose, leading
from costspan_dashboards.alerts.frame import (
    COUNTS,
    DAY_MINUTES,
    DIMENSIONS,
    PRESENT_MINUTES,
    Cells,
    Floats,
    Ints,
    Names,
    Users,
    hours_of,
    tally,
)
from costspan_dashboards.alerts.scopes import View
from costspan_dashboards.figures import usd_text

PICO = 10**12
_USER, _KIND = DIMENSIONS.index("user"), DIMENSIONS.index("error_kind")
_COSTLY_USERS = 20
_USAGE = (
    "priced_calls",
    "input_tokens",
    "cached_tokens",
    "output_tokens",
    "input_cost_pico",
    "cached_cost_pico",
    "output_cost_pico",
    "cost_pico",
)


def compared(names: Names, now: Ints, actual: Floats, before: Ints, expected: Floats) -> Table:
    """Return dollars of the present beside those to be expected, each by codes of its own.

    Whatever became of the calls: the kind of error is left out.
    """
    codes = np.concatenate([now, before], axis=1)
    codes[_KIND] = 0
    return Table.of(
        names, codes, np.pad(actual, (0, len(expected))), np.pad(expected, (len(actual), 0))
    )


@dataclass(frozen=True, eq=False)
class Rows:
    """Figures by kind of call: now, and in the mean of the days that are compared with."""

    cells: Cells
    """Of the window; only the costliest users are told apart."""
    past_codes: Ints
    """A row for each of DIMENSIONS."""
    past: Floats
    """A row for each of COUNTS: sums over all compared days."""
    scale: Fraction
    """Of the past, to compare with the window."""

    def table(self) -> Table:
        """Return dollars spent, and what was to be expected."""
        actual = self.cells.count("cost_pico") / PICO
        usual = self.past[COUNTS.index("cost_pico")] / PICO * float(self.scale)
        table = compared(self.cells.names, self.cells.codes, actual, self.past_codes, usual)
        return Table(table.names, table.codes, table.actual, np.maximum(table.expected, 0.0))

    def like(self, where: Pairs) -> dict[str, Usage]:
        """Return what calls of the same features usually use, by model, whoever makes them."""
        feature = DIMENSIONS.index("feature")
        mine = np.unique(
            self.cells.codes[feature, _chosen(self.cells.names, self.cells.codes, where)]
        )
        theirs = np.isin(self.past_codes[feature], mine)
        codes, past = self.past_codes[:, theirs], self.past[:, theirs]
        return _usage(self.cells.names, codes, past, (), self.scale)

    def usage(self, where: Pairs) -> tuple[dict[str, Usage], dict[str, Usage]]:
        """Return what the calls with these values use, by model: usually, and now."""
        names = self.cells.names
        return (
            _usage(names, self.past_codes, self.past, where, self.scale),
            _usage(names, self.cells.codes, self.cells.counts, where, Fraction(1)),
        )


def rows(view: View, minutes: int, *, everywhere: bool = False) -> Rows:
    """Return what calls of the last minutes cost, and what the compared days say of them."""
    past, names = view.past, view.frame.names
    window = view.frame.window(minutes) if everywhere else view.window(minutes)
    costs = tally(window.code("user"), window.count("cost_pico"), names.size("user"))
    costs[0] = 0
    users = np.sort(np.argsort(costs)[-_COSTLY_USERS:])
    users = users[costs[users] > 0]
    codes = window.codes.copy()
    codes[_USER] = np.where(np.isin(codes[_USER], users), codes[_USER], 0)
    cells = Cells(names, window.minute, codes, window.counts, window.sums)
    days = [day - 1 for day in past.basis.days]
    leaves = past.leaves
    base = leaves.figures[: len(COUNTS)][:, days][:, :, -1].sum(axis=1)
    mine, hours = alike(view, view.frame.history.read_users(users))
    counts = mine.counts / hours
    rest = mine.codes.copy()
    rest[_USER] = 0
    return Rows(
        cells,
        np.concatenate([leaves.codes, mine.codes, rest], axis=1),
        np.concatenate([base, counts, -counts], axis=1),
        Fraction(minutes, 60) / max(len(days), 1),
    )


def alike(view: View, users: Users) -> tuple[Cells, int]:
    """Return the past of users on the days that are compared with, and how many hours of each."""
    until = view.past.history.until
    first, last = hours_of(until)
    day = (until - users.cells.minute + PRESENT_MINUTES) // DAY_MINUTES
    return users.cells.where(np.isin(day, view.past.basis.days)), (last - first) // 60


@dataclass(frozen=True, slots=True)
class Change:
    """What a change of cost is made of."""

    kind: str
    """The part that leads."""
    text: tuple[str, ...]


def told_change(
    past: Mapping[str, Usage],
    present: Mapping[str, Usage],
    minutes: int,
    like: Mapping[str, Usage] | None = None,
) -> Change:
    """Return what a change of cost is made of; calls without a past stand beside those `like` it."""
    parts = decompose(past, present, like)
    kind = leading(parts)
    per_hour = Fraction(60, minutes) / PICO
    amounts = [f"{name} {_signed(amount * per_hour)}" for name, amount in parts.items() if amount]
    typical = like if like and total(past, "calls") < NO_CALLS else past
    text = [_in_words(kind, past, present, typical)]
    if len(amounts) > 1:
        text.append(f"By the hour: {', '.join(amounts)}.")
    return Change(kind, tuple(text))


def lasting(where: Pairs) -> Pairs:
    """Return the values that calls keep when their model or prompt is changed."""
    return tuple(pair for pair in where if pair[0] not in {"model", "prompt"}) or where


def of_as_many_calls(past: Mapping[str, Usage], calls: Fraction) -> dict[str, Usage]:
    """Return what so many calls would usually have cost."""
    total = sum((usage.calls for usage in past.values()), Fraction(0))
    factor = calls / total if total else Fraction(0)
    return {model: usage.times(factor) for model, usage in past.items()}


def total(usages: Mapping[str, Usage], name: str) -> Fraction:
    """Return the sum of one figure over all models."""
    return sum((getattr(usage, name) for usage in usages.values()), Fraction(0))


def _usage(
    names: Names, codes: Ints, counts: Floats | Ints, where: Pairs, scale: Fraction
) -> dict[str, Usage]:
    mine = _chosen(names, codes, where)
    model = codes[DIMENSIONS.index("model")]
    found: dict[str, Usage] = {}
    for code in np.unique(model[mine]).tolist():
        chosen = mine & (model == code)
        sums = [counts[COUNTS.index(name)][chosen].sum().item() for name in _USAGE]
        found[names.name("model", code)] = Usage(*(Fraction(value) * scale for value in sums))
    return found


def _chosen(names: Names, codes: Ints, where: Pairs) -> NDArray[np.bool_]:
    mine = np.ones(codes.shape[1], np.bool_)
    for dimension, value in where:
        mine &= codes[DIMENSIONS.index(dimension)] == names.code(dimension, value)
    return mine


def _in_words(
    kind: str,
    past: Mapping[str, Usage],
    present: Mapping[str, Usage],
    typical: Mapping[str, Usage],
) -> str:
    before, now = total(past, "calls"), total(present, "calls")
    if kind != "volume":
        past, before = typical, total(typical, "calls")
    if kind == "volume" or not before or not now:
        return f"It is volume: {float(now):,.0f} calls, usually {float(before):,.0f}."
    if kind == "model mix":
        shares = {
            model: (
                _share(present.get(model), now),
                _share(past.get(model), before),
            )
            for model in {*past, *present}
        }
        model, (is_now, was) = max(shares.items(), key=lambda item: item[1][0] - item[1][1])
        return (
            f"It is the model mix, not the volume: model={model} answers {is_now:.0%} of the "
            f"calls, usually {was:.0%}."
        )
    if kind == "cached share":
        return (
            f"It is the cached share of input tokens: "
            f"{_ratio(total(present, 'cached_tokens'), total(present, 'input_tokens')):.0%}, "
            f"usually {_ratio(total(past, 'cached_tokens'), total(past, 'input_tokens')):.0%}."
        )
    if kind in {"input tokens per call", "output tokens per call"}:
        name = kind.split(" ", maxsplit=1)[0] + "_tokens"
        is_now, was = _ratio(total(present, name), now), _ratio(total(past, name), before)
        times = f", {is_now / was:.2f} times as many" if was else ""
        return f"It is {kind}: {is_now:,.0f}, usually {was:,.0f}{times}."
    if kind == "price":
        return "It is the price of a token, not what was used."
    return "It is what is not counted in tokens, such as tools and searches."


def _share(usage: Usage | None, calls: Fraction) -> float:
    return float(usage.calls / calls) if usage else 0.0


def _ratio(part: Fraction, whole: Fraction) -> float:
    return float(part / whole) if whole else 0.0


def _signed(amount: Fraction) -> str:
    text = usd_text(abs(decimal_of(amount)))
    return f"{'+' if amount >= 0 else '-'}{text}"


def decimal_of(amount: Fraction) -> Decimal:
    """Return an amount to twelve places, half-even."""
    return Decimal(round(amount * PICO)) / PICO
