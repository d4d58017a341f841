"""The price book: dated rows of exact rates, and the rules that OpenAI states as rules.

`book.json` is built by instrumentation/book/build.py; the version of a book is the hash of its
text, so `sha256sum book.json` tells it too.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from costspan.errors import Rejected
from costspan.money import PICO_PER_USD

if TYPE_CHECKING:
    from costspan.pricing.overrides import Override, Overrides

_SINCE_EVER = datetime.min.replace(tzinfo=UTC)
_FOR_EVER = datetime.max.replace(tzinfo=UTC)
_DATED = re.compile(r"(.+)-(\d{4}-\d\d-\d\d)")
RowKey = tuple[str, str, str]
"""Model, tier and context; a fee that is the same in all of them has "any"."""
ANY_MODEL = "*"
"""The model of the fees that a tool has whichever model calls it."""
RESOURCE = "resource"
"""The model of the fees that belong to a thing and not to a call: containers, storage."""


@dataclass(frozen=True, slots=True)
class Row:
    """Some rates of one model, tier and context, all from one source."""

    valid_from: datetime
    valid_to: datetime
    usd: Mapping[str, str]
    per: int
    review_by: date | None
    source: str


@dataclass(frozen=True, slots=True)
class Rates:
    """What holds at one moment: pico-dollars a unit, by meter."""

    pico: Mapping[str, Fraction]
    review_by: date | None
    """A promotion is promised until the end of this day; later calls need another look."""


@dataclass(frozen=True, slots=True)
class Minimum:
    """The least that is billed of some meters, and the step it goes up by, in a span of time."""

    meters: tuple[str, ...]
    valid_from: datetime
    valid_to: datetime
    least: int
    step: int


@dataclass(frozen=True, slots=True)
class Book:
    """A price book ready for look-ups. `version` covers every row, rule, alias and override."""

    name: str
    version: str
    rows: Mapping[RowKey, tuple[Row, ...]]
    names: frozenset[str]
    aliases: Mapping[str, str]
    snapshots: Mapping[str, str]
    """Names that OpenAI appends a date to, and their model."""
    long_context_above: Mapping[str, int]
    region_hosts: re.Pattern[str]
    region_models: frozenset[str]
    region_factor: Fraction
    free: frozenset[str]
    free_cache_writes: frozenset[str]
    """Models on which a written token costs what any input token costs."""
    search_block: Mapping[str, int]
    """Input tokens that a search bills as a block, by model."""
    minimums: tuple["Minimum", ...]
    overrides: tuple["Override", ...] = ()

    def canonical(self, model: str, at: datetime | None = None) -> str | None:
        """Return the book's own name of `model`, or None where it knows none.

        Only listed names count: a date that is not listed is never stripped, since
        gpt-4o-2024-05-13 costs twice gpt-4o. Families that are listed as dated accept any date
        that is not after `at`.
        """
        name = model.lower()
        if name.startswith("ft:"):
            name = ":".join(name.split(":", 2)[:2])
        elif ".ft-" in name:
            name = f"ft:{name.partition('.ft-')[0]}"
        name = self.aliases.get(name, name)
        if dated := _DATED.fullmatch(name):
            family = self.snapshots.get(dated[1])
            if family and (at is None or dated[2] <= at.date().isoformat()):
                return family
        return name if name in self.names else None

    def rates(self, model: str, tier: str, context: str, at: datetime) -> Rates | None:
        """Return what holds for a canonical model at `at`, from all rows that are valid then."""
        rows = self.rows.get((model, tier, context), ())
        valid = [row for row in rows if row.valid_from <= at < row.valid_to]
        if not valid:
            return None
        reviews = [row.review_by for row in valid if row.review_by]
        return Rates(
            pico={
                meter: Fraction(Decimal(amount)) * PICO_PER_USD / row.per
                for row in valid
                for meter, amount in row.usd.items()
            },
            review_by=min(reviews, default=None),
        )

    def contracted(self, overrides: "Overrides") -> "Book":
        """Return this book with negotiated prices beside the list prices, under a version of its own."""
        both = hashlib.sha256(f"{self.version}\n{overrides.text}".encode())
        return replace(self, version=both.hexdigest()[:16], overrides=overrides.rules)


def read_book(text: str) -> Book:
    """Return the book written in `text` (JSON, as `book/build.py` writes it).

    Raises:
        Rejected: a row lacks a field, or an amount is not a decimal in quotes.
    """
    try:
        document = json.loads(text)
        rows: dict[RowKey, list[Row]] = {}
        for number, entry in enumerate(document["rows"], start=1):
            rows.setdefault(_key(entry), []).append(_row(entry, number))
        rules = document["rules"]
        long_context, search_block = rules["long_context"], rules["search_block"]
        free = frozenset[str](rules["free"]["models"])
        return Book(
            name=document["book"]["name"],
            version=hashlib.sha256(text.encode()).hexdigest()[:16],
            rows={key: tuple(found) for key, found in rows.items()},
            names=free | {model for model, _, _ in rows} - {ANY_MODEL, RESOURCE},
            aliases=document["aliases"],
            snapshots=document["snapshots"],
            long_context_above=dict.fromkeys(
                long_context["models"], int(long_context["above_input_tokens"])
            ),
            region_hosts=re.compile(rules["region"]["hosts"]),
            region_models=frozenset(rules["region"]["models"]),
            region_factor=Fraction(rules["region"]["factor"]),
            free=free,
            free_cache_writes=frozenset(rules.get("cache_writes", {"free": ()})["free"]),
            search_block=dict.fromkeys(search_block["models"], int(search_block["tokens"])),
            minimums=tuple(
                Minimum(tuple(entry["meters"]), *_span(entry), entry["least"], entry["step"])
                for entry in document["minimums"]
            ),
        )
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        msg = f"price book: {error!r}; build it with instrumentation/book/build.py"
        raise Rejected(msg) from error


@cache
def default_book() -> Book:
    """Return the book that ships with the package; read once, unchanged while the process runs."""
    return read_book(files("costspan.pricing").joinpath("book.json").read_text(encoding="utf-8"))


def _key(entry: Mapping[str, Any]) -> RowKey:
    return entry["model"], entry["tier"], entry["context"]


def _row(entry: Mapping[str, Any], number: int) -> Row:
    usd: Mapping[str, Any] = entry["usd"]
    for meter, amount in usd.items():
        if not isinstance(amount, str):
            msg = (
                f"row {number} ({entry['model']}): {meter} = {amount!r} must be a decimal in quotes"
            )
            raise TypeError(msg)
    valid_from, valid_to = _span(entry)
    return Row(
        valid_from=valid_from,
        valid_to=valid_to,
        usd=usd,
        per=entry["per"],
        review_by=date.fromisoformat(entry["review_by"]) if "review_by" in entry else None,
        source=entry["source"],
    )


def _span(entry: Mapping[str, Any]) -> tuple[datetime, datetime]:
    start, end = entry.get("from"), entry.get("to")
    return (
        datetime.fromisoformat(start) if start else _SINCE_EVER,
        datetime.fromisoformat(end) if end else _FOR_EVER,
    )
