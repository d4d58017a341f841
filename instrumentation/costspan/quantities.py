"""A call's usage as one flat map of exact quantities, by meter, from which it can be priced again.

A meter of the model that was called has its own name, `cached_input`. One of another model that
worked for the call is written `image_tool/gpt-image-2/image_output`.
"""

from collections.abc import Mapping
from decimal import Context, Decimal
from fractions import Fraction

from costspan.usage import OtherModel, Quantity, Usage

_SEPARATOR = "/"
_DIGITS = Context(prec=80)


def flat(usage: Usage) -> dict[str, Quantity]:
    """Return every quantity by meter, zeros left out; what has the same meter is added up."""
    found: dict[str, Quantity] = {}
    for meter, quantity in usage.quantities():
        found[meter] = found.get(meter, 0) + quantity
    for other in usage.others:
        for meter, quantity in flat(other.usage).items():
            name = _SEPARATOR.join((other.label, other.model, meter))
            found[name] = found.get(name, 0) + quantity
    return found


def unspoken(usage: Usage) -> dict[str, Quantity]:
    """Return the quantities for which OpenTelemetry has no name."""
    found = {
        meter: quantity
        for meter, quantity in (
            ("cache_write_12h", usage.cache_write_12h_tokens),
            ("cached_audio_input", usage.cached_audio_tokens),
            ("cached_image_input", usage.cached_image_tokens),
            ("decision_input", usage.input_tokens if usage.is_decision else 0),
        )
        if quantity
    }
    return found | flat(Usage(0, 0, metered=usage.metered, others=usage.others))


def whole(quantities: Mapping[str, Quantity]) -> Usage:
    """Return the usage that is `flat` like this."""
    own: dict[str, Quantity] = {}
    others: dict[str, dict[str, Quantity]] = {}
    for name, quantity in quantities.items():
        worker, _, meter = name.rpartition(_SEPARATOR)
        (others.setdefault(worker, {}) if worker else own)[meter] = quantity
    counts = {meter: int(own.pop(meter, 0)) for meter in _TOKENS}
    cached_audio, cached_image = counts["cached_audio_input"], counts["cached_image_input"]
    return Usage(
        input_tokens=sum(counts[meter] for meter in INPUT),
        output_tokens=counts["output"] + counts["audio_output"] + counts["image_output"],
        cached_tokens=counts["cached_input"] + cached_audio + cached_image,
        cache_write_30m_tokens=counts["cache_write_30m"],
        cache_write_12h_tokens=counts["cache_write_12h"],
        audio_input_tokens=counts["audio_input"] + cached_audio,
        audio_output_tokens=counts["audio_output"],
        image_input_tokens=counts["image_input"] + cached_image,
        image_output_tokens=counts["image_output"],
        cached_audio_tokens=cached_audio,
        cached_image_tokens=cached_image,
        is_decision=bool(counts["decision_input"]),
        metered=tuple(own.items()),
        others=tuple(_other(worker, used) for worker, used in others.items()),
    )


def _other(worker: str, used: Mapping[str, Quantity]) -> OtherModel:
    label, _, model = worker.partition(_SEPARATOR)
    return OtherModel(label, model, whole(used))


def part_of(name: str) -> str:
    """Return the part of a cost that a quantity makes."""
    worker, _, meter = name.rpartition(_SEPARATOR)
    return f"{worker.partition(_SEPARATOR)[0]}_{meter}" if worker else meter


def exact(quantity: Quantity) -> int | str:
    """Return a quantity as a whole number or as decimal text: durations are written in decimals."""
    if isinstance(quantity, int):
        return quantity
    return format(_DIGITS.divide(Decimal(quantity.numerator), Decimal(quantity.denominator)), "f")


def quantity(text: str) -> Quantity:
    """Return what `exact` wrote."""
    value = Fraction(text)
    return value.numerator if value.denominator == 1 else value


INPUT = (
    "input", "cached_input", "cache_write_30m", "cache_write_12h", "decision_input",
    "audio_input", "cached_audio_input", "image_input", "cached_image_input",
)  # fmt: skip
"""The meters that a call's input tokens are made of."""
_TOKENS = (*INPUT, "output", "audio_output", "image_output")
