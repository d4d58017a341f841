"""The price book: dated rows of exact rates, and the rules that OpenAI states as rules."""

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from functools import cache
from importlib.resources import files
from typing import Any

from costspan.errors import Rejected
from costspan.money import PICO_PER_USD

_SINCE_EVER = datetime.min.replace(tzinfo=UTC)
_FOR_EVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Rates:
    """One row of the book, compiled: pico-dollars a unit, by meter, in `valid_from <= t < valid_to`."""

    valid_from: datetime
    valid_to: datetime
    pico: Mapping[str, Fraction]
    review_by: date | None
    source: str


@dataclass(frozen=True, slots=True)
class Book:
    """A price book ready for look-ups. `version` is a hash of every row, rule and alias."""

    name: str
    version: str
    rows: Mapping[tuple[str, str, str], tuple[Rates, ...]]
    """Keyed by (model, tier, context)."""
    aliases: Mapping[str, str]
    long_context_above: Mapping[str, int]
    region_factor: Mapping[tuple[str, str], Fraction]
    """Keyed by (model, host)."""

    def canonical(self, model: str) -> str | None:
        """Return the book's own name of `model`, or None where it knows none.

        Only listed names count. A date that is not listed is never stripped:
        gpt-4o-2024-05-13 costs twice gpt-4o.
        """
        name = model.lower()
        name = self.aliases.get(name, name)
        return name if (name, "standard", "short") in self.rows else None

    def rates(self, model: str, tier: str, context: str, at: datetime) -> Rates | None:
        """Return the row for a canonical model, valid at `at`."""
        for row in self.rows.get((model, tier, context), ()):
            if row.valid_from <= at < row.valid_to:
                return row
        return None


def read_book(text: str) -> Book:
    """Return the book written in `text` (TOML, see the head of book.toml).

    Raises:
        Rejected: a row lacks a field, or an amount is not a decimal in quotes.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        msg = f"price book: {error}"
        raise Rejected(msg) from error
    rows: dict[tuple[str, str, str], list[Rates]] = {}
    for number, entry in enumerate(document.get("price", []), start=1):
        try:
            key = (str(entry["model"]), str(entry["tier"]), str(entry["context"]))
            rows.setdefault(key, []).append(_rates(entry))
        except (KeyError, TypeError, ValueError, ArithmeticError) as error:
            msg = f"price book: [[price]] number {number} ({entry.get('model', 'no model')}): {error!r}"
            raise Rejected(msg) from error
    canonical = json.dumps(document, sort_keys=True, default=str, separators=(",", ":"))
    rules: list[dict[str, Any]] = document.get("rule", [])
    return Book(
        name=document["book"]["name"],
        version=hashlib.sha256(canonical.encode()).hexdigest()[:16],
        rows={
            key: tuple(sorted(found, key=lambda row: row.valid_from)) for key, found in rows.items()
        },
        aliases={
            name: alias["model"] for alias in document.get("alias", []) for name in alias["names"]
        },
        long_context_above={
            model: int(rule["above_input_tokens"])
            for rule in rules
            if rule["kind"] == "long_context"
            for model in rule["models"]
        },
        region_factor={
            (model, host): Fraction(rule["factor"])
            for rule in rules
            if rule["kind"] == "region"
            for model in rule["models"]
            for host in rule["hosts"]
        },
    )


@cache
def default_book() -> Book:
    """Return the book that ships with the package; read once, unchanged while the process runs."""
    return read_book(files("costspan.pricing").joinpath("book.toml").read_text(encoding="utf-8"))


def _rates(entry: Mapping[str, Any]) -> Rates:
    per = int(entry["per"])
    amounts: Mapping[str, Any] = entry["amounts"]
    for meter, amount in amounts.items():
        if not isinstance(amount, str):
            msg = f"{meter} = {amount!r} must be a decimal in quotes"
            raise TypeError(msg)
    return Rates(
        valid_from=entry.get("valid_from", _SINCE_EVER),
        valid_to=entry.get("valid_to", _FOR_EVER),
        pico={
            meter: Fraction(Decimal(amount)) * PICO_PER_USD / per
            for meter, amount in amounts.items()
        },
        review_by=entry.get("review_by"),
        source=str(entry["source"]),
    )
