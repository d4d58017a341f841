"""How the verdict of each line of a day came about: its numbers, the arithmetic, and where they were read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction

from costspan.errors import Rejected
from costspan.money import plain
from costspan_collector.store import Store
from costspan_reconcile import queries
from costspan_reconcile.amounts import kept
from costspan_reconcile.columns import sentence
from costspan_reconcile.evidence import LineKey, SentRow, sent_rows
from costspan_reconcile.queries import DayRow, LineClass, LineRow


@dataclass(frozen=True, slots=True)
class Derived:
    """A line, its classes, and the rows of OpenAI's answers that it was read from."""

    line: LineRow
    classes: Sequence[LineClass]
    sent: Sequence[SentRow]


@dataclass(frozen=True, slots=True)
class DerivedDay:
    """A day, and its lines, the largest difference first."""

    day: DayRow
    lines: Sequence[Derived]


def derive(store: Store, day: date, line_item: str = "") -> DerivedDay:
    """Return how the verdict of a day came about; of the lines whose item has `line_item` in it.

    Raises:
        Rejected: the day is not reconciled.
    """
    until = day + timedelta(days=1)
    days = queries.recon_days(store, day, until)
    if not days:
        msg = f"{day} is not reconciled; run `costspan reconcile run`"
        raise Rejected(msg)
    classes: dict[LineKey, list[LineClass]] = {}
    for row in queries.line_classes(store, day):
        classes.setdefault((row.project, row.api_key_id, row.line_item), []).append(row)
    sent: Mapping[LineKey, list[SentRow]] = sent_rows(store, day)
    found: list[Derived] = []
    for line in queries.recon_lines(store, day, until, queries.ALL):
        key = (line.project, line.api_key_id, line.line_item)
        if line_item.lower() in line.line_item.lower():
            found.append(Derived(line, classes.get(key, []), sent.get(key, [])))
    return DerivedDay(days[0], found)


def derivation_lines(found: DerivedDay) -> list[str]:
    """Return it for a person, every digit."""
    day = found.day
    head = f"{day.day}  {day.day_state}  {day.verdict}"
    lines = [
        f"{head}: billed {_usd(day.billed_usd)}, estimated {_usd(day.estimated_usd)}",
        f"{len(found.lines)} line{'s' * (len(found.lines) != 1)}, {day.calls:,} calls, {day.unpriced_calls:,} without a price",
    ]
    lines += sentence(day.reason)
    for each in found.lines:
        lines += ["", *_line(each)]
    return lines


def _line(each: Derived) -> list[str]:
    line = each.line
    who = [line.project or "no project", _key(line), line.line_item or "no line item"]
    lines = sentence(f"{' / '.join(who)}  {line.verdict}, matched by {line.match_level}")
    unit = f" {line.quantity_unit}" if line.quantity_unit else ""
    priced = f", {line.unpriced_calls:,} without a price" if line.unpriced_calls else ""
    facts = [
        ("B", "billed", f"{_usd(line.billed_usd)} for Qb = {_count(line.billed_quantity)}{unit}"),
        ("U", "OpenAI's Usage", _count(line.usage_quantity)),
        (
            "E",
            "estimated",
            f"{_usd(line.estimated_usd)} for Qe = {_count(line.estimated_quantity)}",
        ),
        ("Pe", "our price of one", _usd(line.unit_price_usd)),
        ("", "calls", f"{line.calls:,}{priced}"),
    ]
    lines += [f"  {name:<2} {what:<17} {value}" for name, what, value in facts]
    texts = [
        *_formula(line),
        *(f"{_usd(row.amount_usd)} is {row.cause} ({row.component})" for row in each.classes),
        line.explanation,
        *(
            f"read at {row.fetched_at:%Y-%m-%d %H:%M} UTC: fetch {row.fetch_id}, page {row.page}, "
            f"row {row.row} of the day, sent as {row.amount}"
            for row in each.sent
        ),
    ]
    return [*lines, *(part for text in texts for part in sentence(text, "  "))]


def _formula(line: LineRow) -> list[str]:
    """Return the identity with its numbers; a part that is inside another is not named."""
    seen = "Qb" if line.usage_quantity is None else "U"
    held = "Qe with a price" if line.unpriced_calls else "Qe"
    parts = (
        ("coverage", f"({seen} - {held}) Pe", line.coverage_usd),
        ("metering", "(Qb - U) Pe", line.metering_usd),
        ("rate", "B - Pe Qb", line.rate_usd),
        ("unsplit", "B - E" if line.coverage_usd is None else "B - Pe U", line.unsplit_usd),
    )
    known = [(name, how, amount) for name, how, amount in parts if amount is not None]
    difference = Fraction(line.billed_usd) - Fraction(line.estimated_usd or 0)
    if not known:
        return [f"B - E = {_exact(difference)}"]
    named = " + ".join(f"{name} {plain(amount)}" for name, _, amount in known)
    how = ", ".join(f"{name} = {how}" for name, how, _ in known)
    return [f"B - E = {_exact(difference)} = {named}", f"where {how}"]


def _key(line: LineRow) -> str:
    if line.key_name:
        return f'"{line.key_name}" ({line.api_key_id})'
    return line.api_key_id or "no key"


def _usd(amount: Decimal | None) -> str:
    return "unknown" if amount is None else f"{plain(amount)} USD"


def _count(quantity: Decimal | None) -> str:
    return "unknown" if quantity is None else plain(quantity)


def _exact(amount: Fraction) -> str:
    return plain(kept(amount))
