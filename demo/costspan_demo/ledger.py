"""Everything the organization used: the truth that its bill, its usage and its spans come from."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, localcontext
from fractions import Fraction

from costspan_demo.organization import Key, Organization
from costspan_demo.prices import UNITS, Product, context_of, meters, rate
from costspan_demo.traffic import Call

_EVERY_DIGIT = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One HTTP request that the service answered; only a 200 is charged."""

    request_id: str
    key: Key
    model: str
    """The one that answered, as the Usage API names it."""
    at: datetime
    """When the answer was complete."""
    duration: timedelta = timedelta(0)
    status: int = 200
    endpoint: str = "completions"
    """The usage endpoint that counts it."""
    tier: str = "default"
    """The one that served it: default, flex, priority or scale."""
    batch: bool = False
    input_tokens: int = 0
    """All of them: cached and image ones are inside."""
    cached_tokens: int = 0
    image_input_tokens: int = 0
    output_tokens: int = 0
    """All of them: reasoning and image ones are inside."""
    image_output_tokens: int = 0
    reasoning_tokens: int = 0
    units: int = 0
    """Searches, sessions, images, characters or seconds, where the endpoint counts those."""

    @property
    def started_at(self) -> datetime:
        """When the request came."""
        return self.at - self.duration

    def quantities(self) -> dict[Product, int]:
        """Return its tokens by product; every meter of the model has a count, if only 0."""
        if self.status != 200 or self.endpoint in UNITS:
            return {}
        counts = {
            "input": self.input_tokens - self.cached_tokens - self.image_input_tokens,
            "cached_input": self.cached_tokens,
            "output": self.output_tokens - self.image_output_tokens,
            "image_input": self.image_input_tokens,
            "image_output": self.image_output_tokens,
        }
        tier = "batch" if self.batch else self.tier
        context = context_of(self.model, self.input_tokens)
        return {
            Product(self.model, meter, tier, context): counts[meter]
            for meter in meters(self.model, tier, context)
        }

    @property
    def usd(self) -> Decimal:
        """Return what it costs at the list price, exactly."""
        if self.status == 200 and self.endpoint in UNITS:
            return decimal(self.units * UNITS[self.endpoint].usd)
        day = self.at.astimezone(UTC).date()
        return decimal(
            sum((n * rate(product, day) for product, n in self.quantities().items()), Fraction(0))
        )


@dataclass(frozen=True, slots=True)
class Charge:
    """One line of one day's bill. An organization-wide one has no project."""

    day: date
    project: str | None
    key_id: str | None
    line_item: str
    quantity: int | None
    unit: str | None
    usd: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the organization has agreed on, and what it is given."""

    discount: Fraction = Fraction(0)
    """Off every token."""
    free_tokens_a_day: int = 0
    """For sharing data: the first tokens of a day, over all the models that take part."""
    free_models: frozenset[str] = frozenset()
    resident_projects: frozenset[str] = frozenset()
    """Projects whose data stay in a region."""
    billed_when_started: bool = False
    """A call belongs to the day it began on; otherwise to the one it was complete on."""


@dataclass(frozen=True, slots=True)
class VectorStore:
    """Files that a project keeps; they grow a little every day."""

    project: str
    bytes: int
    daily_growth: int = 0


@dataclass(slots=True)
class Ledger:
    """What the organization used, and charges that are not for any use."""

    organization: Organization
    since: datetime
    """The first day that anything is stored on."""
    terms: Terms = field(default_factory=Terms)
    stores: tuple[VectorStore, ...] = ()
    entries: list[Entry] = field(default_factory=list[Entry])
    used: list[tuple[Entry, dict[Product, int]]] = field(
        default_factory=list[tuple[Entry, dict[Product, int]]]
    )
    """The charged entries with their tokens by product."""
    fees: list[tuple[datetime, Charge]] = field(default_factory=list[tuple[datetime, Charge]])
    """Each with the moment from which it is published."""

    def add(self, entry: Entry) -> None:
        """Keep one request."""
        self.entries.append(entry)
        if entry.status == 200:
            self.used.append((entry, entry.quantities()))

    def add_call(self, call: Call) -> None:
        """Keep one call of the history."""
        self.add(
            Entry(
                request_id=call.request_id,
                key=call.key,
                model=call.served,
                at=call.ended_at,
                duration=call.duration,
                endpoint="embeddings" if call.feature.api == "embeddings" else "completions",
                status=call.failure.status if call.failure else 200,
                input_tokens=call.input_tokens,
                cached_tokens=call.cached_tokens,
                output_tokens=call.output_tokens,
                reasoning_tokens=call.reasoning_tokens,
            )
        )

    def charge(self, fee: Charge, since: datetime) -> None:
        """Put something on the bill from `since` on; with a line that is there it is added up."""
        self.fees.append((since, fee))

    def counted_at(self, entry: Entry) -> datetime:
        """Return the moment that decides the day of an entry."""
        return entry.started_at if self.terms.billed_when_started else entry.at

    def stored_bytes(self, now: datetime) -> Iterator[tuple[date, str, int]]:
        """Return the day, the project and what it stores."""
        first = self.since.astimezone(UTC).date()
        for number in range((now.astimezone(UTC).date() - first).days + 1):
            for each in self.stores:
                yield (
                    first + timedelta(days=number),
                    each.project,
                    each.bytes + number * each.daily_growth,
                )


def decimal(value: Fraction) -> Decimal:
    """Return a fraction that ends in the decimal system as the decimal it is."""
    with localcontext() as context:
        context.prec = _EVERY_DIGIT
        return Decimal(value.numerator) / Decimal(value.denominator)
