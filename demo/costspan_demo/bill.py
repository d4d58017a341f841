"""The bill: what was used, by the day, at the price list and the organization's terms."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction

from costspan_demo.ledger import Charge, Entry, Ledger, decimal
from costspan_demo.prices import STORAGE_USD, UNITS, Product, rate
from costspan_demo.wire import Wire

STORAGE = "Vector storage"
_GIB = 2**30


@dataclass(slots=True)
class _Line:
    usd: Fraction = Fraction(0)
    quantity: int | None = None
    unit: str | None = None

    def add(self, usd: Fraction, quantity: int | None, unit: str | None) -> None:
        self.usd += usd
        if quantity is not None:
            self.quantity, self.unit = (self.quantity or 0) + quantity, unit


Place = tuple[date, str | None, str | None, str]


def charges(ledger: Ledger, wire: Wire, now: datetime) -> list[Charge]:
    """Return the bill as it is published at `now`."""
    until = now - wire.costs_lag
    lines: defaultdict[Place, _Line] = defaultdict(_Line)
    used = [(entry, counts) for entry, counts in ledger.used if entry.at <= until]
    tokens: defaultdict[tuple[date, str, str, Product], int] = defaultdict(int)
    free = _free(ledger, used)
    for entry, counts in used:
        day = ledger.counted_at(entry).astimezone(UTC).date()
        if entry.endpoint in UNITS:
            one = UNITS[entry.endpoint]
            line = lines[day, entry.key.project, entry.key.id, one.line_item]
            counted = entry.units if one.unit or wire.counts_services else None
            line.add(entry.units * one.usd, counted, one.unit)
        if entry.tier != "scale":  # those are paid for by the fee
            for product, count in counts.items():
                tokens[day, entry.key.project, entry.key.id, product] += count
    for (day, project, key, product), count in tokens.items():
        if count or wire.zero_rows:
            line = lines[day, project, key, wire.line_item(product)]
            given = free.get((day, project, key, product), 0)
            line.add((count - given) * token_usd(ledger, product, day, project), count, "tokens")
    for day, project, stored in ledger.stored_bytes(now):
        lines[day, project, None, STORAGE].add(_storage(day, stored, now), None, None)
    for since, fee in ledger.fees:
        if since <= now:
            place = fee.day, fee.project, fee.key_id, fee.line_item
            lines[place].add(Fraction(fee.usd), fee.quantity, fee.unit)
    return [
        Charge(*place, line.quantity, line.unit, decimal(line.usd))
        for place, line in lines.items()
        if line.usd or wire.zero_rows
    ]


def total(found: Iterable[Charge]) -> Decimal:
    """Return the sum of some charges, exactly."""
    return decimal(sum((Fraction(charge.usd) for charge in found), Fraction(0)))


def token_usd(ledger: Ledger, product: Product, day: date, project: str) -> Fraction:
    """Return what the organization pays for one token of a product."""
    terms = ledger.terms
    listed = rate(product, day, resident=project in terms.resident_projects)
    return listed * (1 - terms.discount)


def used_usd(ledger: Ledger, entries: Iterable[Entry]) -> Decimal:
    """Return what the organization pays for some entries, free tokens not taken off."""
    total = Fraction(0)
    for entry in entries:
        day = ledger.counted_at(entry).astimezone(UTC).date()
        if entry.endpoint in UNITS:
            total += entry.units * UNITS[entry.endpoint].usd
        for product, count in entry.quantities().items():
            total += count * token_usd(ledger, product, day, entry.key.project)
    return decimal(total)


def free_usd(ledger: Ledger, day: date) -> Decimal:
    """Return what the tokens would cost that the organization was given on a day."""
    return decimal(
        sum(
            (
                count * token_usd(ledger, product, day, project)
                for (of, project, _, product), count in _free(ledger, ledger.used).items()
                if of == day
            ),
            Fraction(0),
        )
    )


def _free(
    ledger: Ledger, used: Iterable[tuple[Entry, dict[Product, int]]]
) -> dict[tuple[date, str, str, Product], int]:
    """Return the tokens that cost nothing: of each day the first ones, as they were used."""
    found: defaultdict[tuple[date, str, str, Product], int] = defaultdict(int)
    terms = ledger.terms
    if not terms.free_tokens_a_day:
        return found
    left: defaultdict[date, int] = defaultdict(lambda: terms.free_tokens_a_day)
    for entry, counts in sorted(used, key=lambda pair: ledger.counted_at(pair[0])):
        if entry.model not in terms.free_models:
            continue
        day = ledger.counted_at(entry).astimezone(UTC).date()
        for product, count in counts.items():
            given = min(count, left[day])
            left[day] -= given
            found[day, entry.key.project, entry.key.id, product] += given
    return found


def _storage(day: date, stored: int, now: datetime) -> Fraction:
    """Return the storage fee of a day, by whole hours while it lasts."""
    midnight = datetime.combine(day, time(), UTC)
    hours = min(24, int((now - midnight) / timedelta(hours=1)))
    fee = STORAGE_USD * max(0, stored - _GIB) / _GIB * hours / 24
    # Twenty-four places leave room for a sum of days in the 34 digits that are published.
    return Fraction(round(fee * 10**24), 10**24)
