"""Rows out of the pages of the Costs and Usage endpoints, exactly as stated and nothing assumed.

Source: openai-python 3.52.0, types/admin/organization/usage_*, and live answers, read 2026-11:
an amount is a JSON number or a text of up to 34 digits, and `0E-6176` is an exact zero.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import Any, NoReturn, cast

from costspan.errors import Rejected
from costspan_reconcile.amounts import read_amount

CURRENCY = "usd"
CONTROL_TOLERANCE_USD = Fraction(1, 10**9)
"""Amounts that come as floats are printed with 17 digits, so two groupings of one day can differ
by as much; a missing row differs by more."""


class Incomplete(Rejected):
    """An answer is cut short or contradicts itself; none of it is used."""


@dataclass(frozen=True, slots=True)
class CostRow:
    """What was billed on a day for one project, key and line item. A null id is ''."""

    day: date
    project: str
    api_key_id: str
    line_item: str
    currency: str
    organization: str
    amount: str
    """As sent."""
    usd: Fraction
    quantity: Fraction | None
    quantity_unit: str


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What the provider counted on a day. A null id is ''."""

    day: date
    project: str
    api_key_id: str
    model: str
    batch: bool
    service_tier: str
    modality: str
    kind: str
    quantity: int


@dataclass(frozen=True, slots=True)
class CostDay:
    """The bill of one day, or the reason why it cannot be used."""

    rows: tuple[CostRow, ...]
    control: Fraction
    blocked: str = ""

    @property
    def billed(self) -> Fraction:
        """Return the sum of the grouped rows."""
        return sum((row.usd for row in self.rows), Fraction(0))


@dataclass(slots=True)
class Buckets:
    """Daily buckets, taken in page by page, each wanted day exactly once."""

    wanted: Sequence[date]
    by_day: dict[date, list[Mapping[str, Any]]] = field(
        default_factory=dict[date, list[Mapping[str, Any]]]
    )

    def take(self, body: str) -> str | None:
        """Take in one page; return the cursor of the next, None after the last.

        Raises:
            Incomplete: the page is not what the endpoint promises.
        """
        page = _object(_decode(body), "the page")
        for entry in _list(page.get("data"), "data"):
            bucket = _object(entry, "a bucket")
            day = _day(bucket.get("start_time"))
            if day not in self.wanted:
                _fail(f"bucket {day} was not asked for")
            if day in self.by_day:
                _fail(f"bucket {day} came twice")
            self.by_day[day] = [
                _object(result, "a result")
                for result in _list(bucket.get("results"), f"results of {day}")
            ]
        more = page.get("has_more")
        if not isinstance(more, bool):
            _fail(f"has_more is {more!r}, so the end cannot be known")
        if not more:
            return None
        cursor = page.get("next_page")
        if not isinstance(cursor, str) or not cursor:
            _fail("has_more is true, but there is no next_page")
        return cursor

    def complete(self) -> Mapping[date, list[Mapping[str, Any]]]:
        """Return the results of each wanted day.

        Raises:
            Incomplete: a day is missing; an empty day comes as an empty bucket.
        """
        missing = [day for day in self.wanted if day not in self.by_day]
        if missing:
            _fail(f"no bucket for {', '.join(map(str, missing[:5]))}")
        return self.by_day


def cost_days(
    grouped: Mapping[date, list[Mapping[str, Any]]],
    control: Mapping[date, list[Mapping[str, Any]]],
    *,
    today: date,
) -> dict[date, CostDay]:
    """Return the bill of each day; rows with equal dimensions are added up.

    Raises:
        Incomplete: a row lacks its amount or is of another kind.
    """
    days: dict[date, CostDay] = {}
    for day, results in grouped.items():
        rows = [_cost_row(day, result) for result in results]
        check = [_cost_row(day, result) for result in control[day]]
        bill = CostDay(_added_up(rows), sum((row.usd for row in check), Fraction(0)))
        currencies = sorted({row.currency for row in [*rows, *check]} - {CURRENCY})
        reason = ""
        if currencies:
            reason = f"a row is in {currencies[0]!r}, and only {CURRENCY!r} can be compared"
        elif day < today and abs(bill.control - bill.billed) > CONTROL_TOLERANCE_USD:
            # The open day grows between two requests.
            reason = (
                f"the rows add up to {float(bill.billed)!r} USD, "
                f"the day asked for as a whole to {float(bill.control)!r}"
            )
        days[day] = CostDay(bill.rows, bill.control, reason)
    return days


def usage_rows(source: str, day: date, results: Iterable[Mapping[str, Any]]) -> list[UsageRow]:
    """Return what was counted on a day, one row a kind of token.

    Raises:
        Incomplete: a count is not a whole number, or the row is of another kind.
    """
    counted: dict[tuple[str, str, str, bool, str, str, str], int] = {}
    for result in results:
        if result.get("object") != f"organization.usage.{source}.result":
            _fail(f"a {source} row calls itself {result.get('object')!r}")
        batch = result.get("batch")
        if batch is not None and not isinstance(batch, bool):
            _fail(f"batch is {batch!r}")
        dimensions = (
            _id(result, "project_id"),
            _id(result, "api_key_id"),
            _id(result, "model"),
            bool(batch),
            _id(result, "service_tier"),
        )
        for modality, kind, quantity in _counts(result):
            key = (*dimensions, modality, kind)
            counted[key] = counted.get(key, 0) + quantity
    return [UsageRow(day, *key, quantity) for key, quantity in sorted(counted.items())]


def content_sha256(rows: Iterable[CostRow | UsageRow]) -> str:
    """Return the hash of what the rows say, whatever their order and way of writing a number."""
    lines = sorted(
        json.dumps([str(getattr(row, name)) for name in row.__slots__ if name != "amount"])
        for row in rows
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _cost_row(day: date, result: Mapping[str, Any]) -> CostRow:
    if result.get("object") != "organization.costs.result":
        _fail(f"a costs row of {day} calls itself {result.get('object')!r}")
    amount = _object(result.get("amount"), f"amount of {day}")
    value, currency = amount.get("value"), amount.get("currency")
    if not isinstance(currency, str):
        _fail(f"a row of {day} has no currency")
    quantity = result.get("quantity")
    return CostRow(
        day,
        _id(result, "project_id"),
        _id(result, "api_key_id"),
        _id(result, "line_item"),
        currency.lower(),
        _id(result, "organization_id"),
        str(value),
        _number(value, f"amount.value of {day}"),
        None if quantity is None else _number(quantity, f"quantity of {day}"),
        _id(result, "quantity_unit"),
    )


def _added_up(rows: Iterable[CostRow]) -> tuple[CostRow, ...]:
    found: dict[tuple[str, str, str, str, str], CostRow] = {}
    for row in rows:
        key = (row.project, row.api_key_id, row.line_item, row.currency, row.quantity_unit)
        old = found.get(key)
        if old is None:
            found[key] = row
            continue
        known = old.quantity is not None and row.quantity is not None
        found[key] = CostRow(
            row.day,
            *key[:4],
            old.organization or row.organization,
            f"{old.amount} + {row.amount}",
            old.usd + row.usd,
            (old.quantity or Fraction(0)) + (row.quantity or Fraction(0)) if known else None,
            row.quantity_unit,
        )
    return tuple(found[key] for key in sorted(found))


def _counts(result: Mapping[str, Any]) -> Iterator[tuple[str, str, int]]:
    """Yield (modality, kind, quantity); zeros are left out.

    Answers from before the split by modality name only the totals and the audio parts; what is
    not named there is text.
    """

    def count(name: str) -> int:
        value = result.get(name)
        if value is None:
            return 0
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            _fail(f"{name} is {value!r}, not a count")
        return value

    def text(name: str, rest: int) -> int:
        return rest if result.get(name) is None else count(name)

    cached = count("input_cached_tokens")
    writes = count("input_cache_write_tokens")
    audio, image = count("input_audio_tokens"), count("input_image_tokens")
    cached_audio = count("input_cached_audio_tokens")
    cached_image = count("input_cached_image_tokens")
    audio_out, image_out = count("output_audio_tokens"), count("output_image_tokens")
    fresh = count("input_tokens") - cached - writes - audio - image
    for modality, kind, quantity in (
        ("text", "input", text("input_text_tokens", fresh)),
        (
            "text",
            "cached_input",
            text("input_cached_text_tokens", cached - cached_audio - cached_image),
        ),
        ("text", "cache_write", writes),
        (
            "text",
            "output",
            text("output_text_tokens", count("output_tokens") - audio_out - image_out),
        ),
        ("audio", "input", audio),
        ("audio", "cached_input", cached_audio),
        ("audio", "output", audio_out),
        ("image", "input", image),
        ("image", "cached_input", cached_image),
        ("image", "output", image_out),
        ("", "requests", count("num_model_requests")),
    ):
        if quantity < 0:
            _fail(f"{modality} {kind} is negative: the parts are larger than their whole")
        if quantity:
            yield modality, kind, quantity


def _decode(body: str) -> object:
    try:
        # Numbers with a point stay the text they were sent as; a float would lose digits.
        return json.loads(body, parse_float=str, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        msg = f"the answer is not JSON ({error})"
        raise Incomplete(msg) from error


def _no_number(name: str) -> NoReturn:
    msg = f"{name} is not a number"
    raise ValueError(msg)


def _number(value: object, what: str) -> Fraction:
    if isinstance(value, bool) or not isinstance(value, str | int):
        _fail(f"{what} is {value!r}, not a number")
    try:
        return read_amount(str(value))
    except Rejected as error:
        _fail(f"{what}: {error}")


def _day(value: object) -> date:
    if isinstance(value, bool) or not isinstance(value, int) or value % 86_400:
        _fail(f"a bucket starts at {value!r}, not at midnight UTC")
    try:
        return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=value)).date()
    except OverflowError:
        _fail(f"a bucket starts at {value!r}")


def _id(result: Mapping[str, Any], name: str) -> str:
    value = result.get(name)
    if value is not None and not isinstance(value, str):
        _fail(f"{name} is {value!r}, not a text")
    return value or ""


def _object(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        _fail(f"{what} is not an object")
    return cast("Mapping[str, Any]", value)


def _list(value: object, what: str) -> list[object]:
    if not isinstance(value, list):
        _fail(f"{what} is not a list")
    return cast("list[object]", value)


def _fail(msg: str) -> NoReturn:
    raise Incomplete(msg)
