"""What the local OpenAI charges, from a price table and a ledger of its own.

Nothing here is shared with the estimator: the two agree only if both are right.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, localcontext

from costspan_demo.organization import Key, Organization
from costspan_demo.traffic import Call

DOLLARS_PER_MILLION = {
    "gpt-4o-mini-2024-07-18": {"input": "0.15", "cached input": "0.075", "output": "0.60"},
    "gpt-4.1-2025-04-14": {"input": "2.00", "cached input": "0.50", "output": "8.00"},
    "gpt-5.4-mini-2026-03-17": {"input": "0.75", "cached input": "0.075", "output": "4.50"},
    "gpt-5.5-2026-04-23": {"input": "5.00", "cached input": "0.50", "output": "30.00"},
    "text-embedding-3-small": {"input": "0.02"},
}
STORAGE = "Vector storage"
_STORAGE_PROJECT = "Support"
_DOLLARS_PER_GIB_DAY = Decimal("0.10")
_GIB = 2**30
_FREE_BYTES = _GIB
_EVERY_DIGIT = 80


@dataclass(frozen=True, slots=True)
class Entry:
    """One HTTP request that the service answered; only a 200 is charged."""

    request_id: str
    key: Key
    model: str
    at: datetime
    """When the answer was complete: the day it is charged to."""
    status: int
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def embeds(self) -> bool:
        """Whether it counts as an embeddings request rather than as a completion."""
        return self.model.startswith("text-embedding")

    def quantities(self) -> dict[str, int]:
        """Return what is charged, by kind; every kind of the model has a count, if only 0."""
        if self.status != 200:
            return {}
        counts = {
            "input": self.input_tokens - self.cached_tokens,
            "cached input": self.cached_tokens,
            "output": self.output_tokens,
        }
        return {kind: counts[kind] for kind in DOLLARS_PER_MILLION[self.model]}

    @property
    def usd(self) -> Decimal:
        """Return what it is charged, exactly."""
        return sum(
            (charge(self.model, kind, count) for kind, count in self.quantities().items()),
            Decimal(0),
        )


@dataclass(frozen=True, slots=True)
class Charge:
    """One line of one day's bill."""

    day: date
    project: str
    key_id: str | None
    line_item: str
    quantity: int | None
    unit: str | None
    usd: Decimal


def charge(model: str, kind: str, tokens: int) -> Decimal:
    """Return the dollars for `tokens` of a kind, exactly."""
    with localcontext() as context:
        context.prec = _EVERY_DIGIT
        return Decimal(DOLLARS_PER_MILLION[model][kind]) * tokens / 1_000_000


class Ledger:
    """Everything the organization is charged for."""

    def __init__(self, organization: Organization, since: datetime) -> None:
        self.organization = organization
        self.entries: list[Entry] = []
        self.since = since
        self._sums: defaultdict[tuple[date, Key, str, str], int] = defaultdict(int)

    def add(self, entry: Entry) -> None:
        """Charge for one request."""
        self.entries.append(entry)
        for kind, count in entry.quantities().items():
            self._sums[entry.at.astimezone(UTC).date(), entry.key, entry.model, kind] += count

    def add_call(self, call: Call) -> None:
        """Charge for one call of the history."""
        self.add(
            Entry(
                request_id=call.request_id,
                key=call.key,
                model=call.served,
                at=call.ended_at,
                status=call.failure.status if call.failure else 200,
                input_tokens=call.input_tokens,
                cached_tokens=call.cached_tokens,
                output_tokens=call.output_tokens,
                reasoning_tokens=call.reasoning_tokens,
            )
        )

    def charges(self, now: datetime) -> Iterator[Charge]:
        """Return the bill as it stands at `now`: tokens by day, key, model and kind, and fees."""
        for (day, key, model, kind), count in self._sums.items():
            usd = charge(model, kind, count)
            yield Charge(day, key.project, key.id, f"{model}, {kind}", count, "tokens", usd)
        for day, stored in self.stored_bytes(now):
            yield Charge(
                day, self.storage_project, None, STORAGE, None, None, _fee(day, stored, now)
            )

    @property
    def storage_project(self) -> str:
        """The id of the project that has the vector stores."""
        keys = self.organization.keys
        return next(key.project for key in keys if key.project_name == _STORAGE_PROJECT)

    def stored_bytes(self, now: datetime) -> Iterator[tuple[date, int]]:
        """Return the bytes in vector stores on each day; they grow a little every day."""
        first = self.since.astimezone(UTC).date()
        for number in range((now.astimezone(UTC).date() - first).days + 1):
            yield first + timedelta(days=number), 3 * _GIB + number * 48_611_807


def _fee(day: date, stored: int, now: datetime) -> Decimal:
    """Return the storage fee of a day, by whole hours while it lasts."""
    midnight = datetime.combine(day, time(), UTC)
    hours = min(24, int((now - midnight) / timedelta(hours=1)))
    with localcontext() as context:
        context.prec = _EVERY_DIGIT
        fee = _DOLLARS_PER_GIB_DAY * (stored - _FREE_BYTES) / _GIB * hours / 24
        # Twenty-four places leave room for a sum of days in the 34 digits that are published.
        return fee.quantize(Decimal("1e-24"))
