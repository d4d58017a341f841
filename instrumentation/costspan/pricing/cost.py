"""What a call costs, or why nobody can say."""

from enum import StrEnum
from fractions import Fraction
from typing import NamedTuple

from costspan.money import Usd, from_pico
from costspan.usage import Quantity


class Status(StrEnum):
    """Whether a call has a price, and if not, why."""

    PRICED = "priced"
    UNKNOWN_MODEL = "unknown_model"
    UNKNOWN_TIER = "unknown_tier"
    UNPRICED_COMPONENT = "unpriced_component"
    PREPAID_TIER = "prepaid_tier"
    MISSING_USAGE = "missing_usage"
    INVALID_USAGE = "invalid_usage"
    ESTIMATED = "estimated"
    """As `missing_usage`, but the shim counted bounds; they are no part of the cost."""
    NOT_BILLED = "not_billed"
    """An operation that OpenAI does not charge, such as listing models."""
    DEFERRED = "deferred"
    """Work that is billed when it is done, by a span of its own."""


class Part(NamedTuple):
    """One term of the sum: `quantity` units of `meter`, in whole pico-dollars."""

    meter: str
    quantity: Quantity
    pico_per_unit: int | Fraction
    pico: int


class Price(NamedTuple):
    """What one call costs. `pico` is None unless `status` is priced."""

    status: Status
    parts: tuple[Part, ...]
    book: str
    path: str
    """model/tier/context[/region], as far as it was resolved."""
    reason: str = ""
    """Why there is no price, or what to know about the one there is."""
    contracted: tuple[Part, ...] | None = None
    """The same parts at negotiated rates, None where no override holds."""
    overrides: tuple[str, ...] = ()
    """The overrides that were used, by name."""

    @property
    def pico(self) -> int | None:
        """Return the list price in pico-dollars, None if unknown."""
        return sum(part.pico for part in self.parts) if self.status is Status.PRICED else None

    @property
    def usd(self) -> Usd | None:
        """Return the list price in dollars, None if unknown."""
        pico = self.pico
        return None if pico is None else from_pico(pico)

    @property
    def contracted_pico(self) -> int | None:
        """Return the negotiated price in pico-dollars, the list price where none was negotiated."""
        if self.contracted is None or self.status is not Status.PRICED:
            return self.pico
        return sum(part.pico for part in self.contracted)

    @property
    def contracted_usd(self) -> Usd | None:
        """Return the negotiated price in dollars, the list price where none was negotiated."""
        pico = self.contracted_pico
        return None if pico is None else from_pico(pico)
