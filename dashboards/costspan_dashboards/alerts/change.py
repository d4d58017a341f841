"""By how much did what change? The difference of two costs, taken apart so that the parts add up.

One factor after the other takes its present value: the number of calls, the mix of models, input
tokens a call, the cached share of them, output tokens a call, prices, and the rest (other meters).
Fractions of whole pico-dollars, so the sum of the parts is the difference to the last digit.
"""

import math
from collections.abc import Iterable, Mapping
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


def decompose(past: Mapping[str, Usage], present: Mapping[str, Usage]) -> dict[str, Fraction]:
    """Return what each of PARTS adds to the cost, from what was to be expected to what is.

    A model without a past has its present rates for a past: all it costs is mix.
    """
    parts = dict.fromkeys(PARTS, Fraction(0))
    before = _total(usage.calls for usage in past.values())
    after = _total(usage.calls for usage in present.values())
    if not before or not after:
        cost = _total(usage.cost for usage in present.values())
        parts["volume"] = cost - _total(usage.cost for usage in past.values())
        return parts
    for model in {*past, *present}:
        old, new = past.get(model), present.get(model)
        old_share = old.calls / before if old else Fraction(0)
        new_share = new.calls / after if new else Fraction(0)
        now = _rates(new) if new and new.calls else None
        was = _rates(old) if old and old.calls else now
        if was is None:
            continue
        now = now or was
        unit = was.cost()
        parts["volume"] += (after - before) * old_share * unit
        parts["model mix"] += after * (new_share - old_share) * unit
        calls = after * new_share
        if not calls:
            continue
        was, now = _with_prices(was, now), _with_prices(now, was)
        steps = (
            ("input tokens per call", {"input_tokens": now.input_tokens}),
            ("cached share", {"cached_share": now.cached_share}),
            ("output tokens per call", {"output_tokens": now.output_tokens}),
            (
                "price",
                {
                    "input_price": now.input_price,
                    "cached_price": now.cached_price,
                    "output_price": now.output_price,
                },
            ),
            ("other", {"rest": now.rest}),
        )
        step = was
        for name, values in steps:
            then = replace(step, **values)
            parts[name] += calls * (then.cost() - step.cost())
            step = then
    return parts


def leading(parts: Mapping[str, Fraction], before: Fraction) -> str:
    """Return the part by which the cost is multiplied the most, in the direction of the whole."""
    if before <= 0:
        return "volume"
    sign = 1 if sum(parts.values()) >= 0 else -1
    logs: dict[str, float] = {}
    cost = before
    for name in PARTS:
        after = cost + parts[name]
        logs[name] = sign * math.log(after / cost) if after > 0 and cost > 0 else 0.0
        cost = after
    return max(PARTS, key=logs.__getitem__)


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
