"""How the organization's endpoints behave: each habit and each fault of the wire is a field.

Source: answers of the live service and of others' recordings of it, collected 2026-11.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Context, Decimal
from typing import Literal, TypeVar

from costspan_demo.prices import Product

_DIGITS = 34
"""Of a decimal128, which is what the live service prints."""
_ZERO = "0E-6176"
_KINDS = {"cached_input": "cached input"}

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """The habits of the service, those of the live one unless told otherwise; and its faults."""

    amounts: Literal["padded", "text", "exponent", "number"] = "padded"
    """34 digits; as few as it takes; 1.5E-7; or a JSON number, as in January 2025."""
    extra_fields: bool = True
    """ISO times and the names of organization and project."""
    zero_rows: bool = True
    """A row for what was not used, or was free: the amount is 0, the quantity may not be."""
    counts_services: bool = False
    """Tool calls have a quantity; on the live service it is null."""
    labelled_tiers: frozenset[str] = frozenset({"priority", "flex"})
    """Tiers that go before the model on a line item; no label of a batch was ever seen."""
    billed_names: Mapping[str, str] = field(default_factory=dict[str, str])
    """What the bill calls a model that Usage calls otherwise. Fine-tuned ones need no entry."""
    splits_by_key: bool = True
    """Some organizations' Costs answer 400 to a grouping by key."""
    splits_by_user: bool = False
    """Most answer 400 to users and projects together."""
    costs_lag: timedelta = timedelta(0)
    usage_lag: timedelta = timedelta(0)
    shuffled: int | None = None
    """Rows come in the order that this seed gives."""

    # Faults
    refusal: int | None = None
    """This HTTP status, with a Retry-After where it is a 429."""
    refused_requests: int = 1_000_000
    """So many are refused; later ones are answered."""
    lost_page: int | None = None
    """This page, counted from 1, is left out: the cursor leads past it."""
    missing_day: date | None = None
    """The bucket of this day is left out."""
    cursor: Literal["good", "repeats", "missing"] = "good"
    currency: str = "usd"
    """Of the first row of `foreign_day`."""
    foreign_day: date | None = None
    organization_id: str | None = None
    """In place of the organization's own: the admin key belongs to another one."""
    empty: bool = False
    """Costs and Usage know of nothing."""

    def amount(self, usd: Decimal) -> str | float:
        """Return an amount as it goes into JSON."""
        if self.amounts == "number":
            return float(usd)
        if not usd:
            return _ZERO
        if self.amounts == "padded":
            last = Decimal((0, (1,), usd.adjusted() - _DIGITS + 1))
            return str(usd.quantize(last, context=_EXACT))
        short = usd.normalize(_EXACT)
        if self.amounts == "text":
            return format(short, "f")
        sign, digits, exponent = short.as_tuple()
        return f"{'-' * sign}{''.join(map(str, digits))}E{exponent}"

    def line_item(self, product: Product) -> str:
        """Return the line item of a product."""
        model = self.billed_names.get(product.model, product.model)
        if model.startswith("ft:"):
            model = f"ft-{model.split(':')[1]}"
        image = product.meter.startswith("image_")
        has_images = "image" in product.model
        modality = " image" if image else " text" if has_images else ""
        kind = product.meter.removeprefix("image_")
        tier = f"{product.tier} | " if product.tier in self.labelled_tiers else ""
        context = ", long context" if product.context == "long" else ""
        return f"{tier}{model}{modality}, {_KINDS.get(kind, kind)}{context}"

    def ordered(self, rows: Sequence[Item]) -> list[Item]:
        """Return rows in the order they are sent in."""
        if self.shuffled is None:
            return list(rows)
        return random.Random(self.shuffled).sample(rows, len(rows))  # noqa: S311


_EXACT = Context(prec=2 * _DIGITS)
