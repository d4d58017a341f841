"""By how much did what change? The difference of two costs, taken apart so that the parts add up.

The factors are the number of calls, the mix of models, input tokens a call, the cached share of
them, output tokens a call, prices, and the rest (other meters).
Fractions of whole pico-dollars, so the sum of the parts is the difference to the last digit.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from fractions import Fraction

PARTS: tuple[str, ...] = (
    "volume",
    "model mix",
    "input tokens per call",
    "cached share",
    "output tokens per call",
    "price",
    "other",
)

_FIELDS: Mapping[str, tuple[str, ...]] = {
    "input tokens per call": ("input_tokens",),
    "cached share": ("cached_share",),
    "output tokens per call": ("output_tokens",),
    "price": ("input_price", "cached_price", "output_price"),
    "other": ("rest",),
}
NO_CALLS = Fraction(1, 2)
"""Fewer than that are as good as none."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What calls of one model used and cost, in pico-dollars."""

    calls: Fraction
    input_tokens: Fraction
    cached_tokens: Fraction
    output_tokens: Fraction
    input_cost: Fraction
    """Of uncached input."""
    cached_cost: Fraction
    output_cost: Fraction
    cost: Fraction

    def times(self, factor: Fraction) -> "Usage":
        """Return so many times the same."""
        return Usage(*(getattr(self, field.name) * factor for field in fields(self)))


@dataclass(frozen=True, slots=True)
class _Rates:
    """A call of one model: tokens, and pico-dollars a token."""

    input_tokens: Fraction
    cached_share: Fraction
    output_tokens: Fraction
    input_price: Fraction
    cached_price: Fraction
    output_price: Fraction
    rest: Fraction

    def cost(self) -> Fraction:
        """Return what a call costs."""
        cached = self.input_tokens * self.cached_share
        uncached = self.input_tokens - cached
        return (
            uncached * self.input_price
            + cached * self.cached_price
            + self.output_tokens * self.output_price
            + self.rest
        )


def decompose(
    past: Mapping[str, Usage],
    present: Mapping[str, Usage],
    like: Mapping[str, Usage] | None = None,
) -> dict[str, Fraction]:
    """Return what each of PARTS adds to the cost, from what was to be expected to what is.

    One factor after the other takes its present value, in the order of PARTS and against it, and
    each part is the mean of both: which comes first decides nothing. A model without a past has
    its present rates for a past: all it costs is mix. Where next to no call was to be expected,
    their number is no measure: they are held against those that they are `like`, and what as
    many of these cost is volume.
    """
    parts = dict.fromkeys(PARTS, Fraction(0))
    before = _total(usage.calls for usage in past.values())
    after = _total(usage.calls for usage in present.values())
    expected = _total(usage.cost for usage in past.values())
    orders = [PARTS, PARTS[::-1]]
    if like and before < NO_CALLS and _total(usage.calls for usage in like.values()):
        past, orders = like, [PARTS]
        parts["volume"] -= expected
    of = _total(usage.calls for usage in past.values())
    if not of or not after:
        cost = _total(usage.cost for usage in present.values())
        parts["volume"] = cost - expected
        return parts
    if past is like:
        before = Fraction(0)
    for model in {*past, *present}:
        old, new = past.get(model), present.get(model)
        now = _rates(new) if new and new.calls else None
        was = _rates(old) if old and old.calls else now
        if was is None:
            continue
        was, now = _with_prices(was, now or was), _with_prices(now or was, was)
        shares = (old.calls / of if old else Fraction(0), new.calls / after if new else Fraction(0))
        for order in orders:
            for name, amount in _walk(order, (before, after), shares, (was, now)):
                parts[name] += amount / len(orders)
    return parts


def _walk(
    order: Iterable[str],
    calls: tuple[Fraction, Fraction],
    shares: tuple[Fraction, Fraction],
    rates: tuple[_Rates, _Rates],
) -> Iterator[tuple[str, Fraction]]:
    """Yield what each part adds while one after the other goes from its past to its present."""
    number, share, unit = calls[0], shares[0], rates[0]
    each = unit.cost()
    cost = number * share * each
    for name in order:
        if name == "volume":
            number = calls[1]
        elif name == "model mix":
            share = shares[1]
        else:
            unit = replace(unit, **{field: getattr(rates[1], field) for field in _FIELDS[name]})
            each = unit.cost()
        then = number * share * each
        yield name, then - cost
        cost = then


def leading(parts: Mapping[str, Fraction]) -> str:
    """Return the part that is most of the whole, in its direction."""
    sign = 1 if sum(parts.values()) >= 0 else -1
    return max(PARTS, key=lambda name: sign * parts[name])


def _total(values: Iterable[Fraction]) -> Fraction:
    return sum(values, Fraction(0))


def _rates(usage: Usage) -> _Rates:
    uncached = usage.input_tokens - usage.cached_tokens
    rest = usage.cost - usage.input_cost - usage.cached_cost - usage.output_cost
    # A price of no tokens is not known; what it cost goes to the rest, so that nothing is lost.
    input_price = usage.input_cost / uncached if uncached else Fraction(0)
    cached_price = usage.cached_cost / usage.cached_tokens if usage.cached_tokens else Fraction(0)
    output_price = usage.output_cost / usage.output_tokens if usage.output_tokens else Fraction(0)
    rest += usage.input_cost - uncached * input_price
    rest += usage.cached_cost - usage.cached_tokens * cached_price
    rest += usage.output_cost - usage.output_tokens * output_price
    return _Rates(
        input_tokens=usage.input_tokens / usage.calls,
        cached_share=usage.cached_tokens / usage.input_tokens
        if usage.input_tokens
        else Fraction(0),
        output_tokens=usage.output_tokens / usage.calls,
        input_price=input_price,
        cached_price=cached_price,
        output_price=output_price,
        rest=rest / usage.calls,
    )


def _with_prices(own: _Rates, other: _Rates) -> _Rates:
    """Return the rates with the other's price where there were no tokens to know one from."""
    values: dict[str, Fraction] = {}
    if not own.input_tokens * (1 - own.cached_share):
        values["input_price"] = other.input_price
    if not own.input_tokens * own.cached_share:
        values["cached_price"] = other.cached_price
    if not own.output_tokens:
        values["output_price"] = other.output_price
    return replace(own, **values)
