"""From the JSON of a call, or of a golden case, to its price."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from fractions import Fraction
from typing import Any, cast

from costspan.errors import InvalidUsage, Rejected
from costspan.money import plain
from costspan.pricing.book import Book, default_book
from costspan.pricing.cost import Price, Status
from costspan.pricing.engine import price, price_meter
from costspan.usage import read_usage

_HOUR_PARTS = {"hours": 1, "minutes": 60, "seconds": 3_600}


def price_body(
    body: Mapping[str, Any],
    *,
    at: datetime,
    request: Mapping[str, Any] | None = None,
    tier: str | None = None,
    host: str = "api.openai.com",
    batch: bool = False,
    book: Book | None = None,
    project: str | None = None,
) -> Price:
    """Return the price of a response body or of the last event of a stream.

    `request` is asked for what the body does not tell. `tier` is put in place of the body's own.
    """
    book = book or default_book()
    call, model = _call(body), model_of(body, request)
    try:
        usage = read_usage(body, request)
    except InvalidUsage as error:
        return Price(Status.INVALID_USAGE, (), book.version, model, str(error))
    return price(
        usage,
        model=model,
        at=at,
        tier=tier or _text(call, "service_tier"),
        host=host,
        batch=batch,
        book=book,
        project=project,
    )


def model_of(body: Mapping[str, Any], request: Mapping[str, Any] | None = None) -> str:
    """Return the model that answered, the one that was asked for where the body tells none."""
    return _text(_call(body), "model") or _text(body, "model") or _text(request or {}, "model")


def price_cases(document: object, book: Book | None = None) -> Iterable[Mapping[str, str | None]]:
    """Yield id, cost and status of each case of a golden file, in order.

    Raises:
        Rejected: `document` is no such file.
    """
    try:
        cases = cast("Mapping[str, Any]", document)["cases"]
        for case in cases:
            found = _case(case, book or default_book())
            usd = found.usd
            yield {
                "id": case["id"],
                "usd": None if usd is None else plain(usd),
                "status": found.status.value,
            }
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        msg = f"not a file of cases: {error!r}; see tests/data/pricing/README.md"
        raise Rejected(msg) from error


def _case(case: Mapping[str, Any], book: Book) -> Price:
    """Return the price of the call, if it used anything, together with the fees beside it."""
    at = datetime.fromisoformat(case["timestamp"])
    body: Mapping[str, Any] = case["response"] or {}
    fees = [_fee(record, at, book) for record in case.get("meters", ())]
    if fees and "usage" not in body:
        return _together(fees)
    call = price_body(
        body,
        at=at,
        request=case.get("request"),
        host=case.get("host", "api.openai.com"),
        batch=case.get("batch", False),
        book=book,
    )
    return _together([call, *fees])


def _together(prices: list[Price]) -> Price:
    first = next((found for found in prices if found.status is not Status.PRICED), prices[0])
    return first._replace(parts=tuple(part for found in prices for part in found.parts))


def _fee(record: Mapping[str, Any], at: datetime, book: Book) -> Price:
    """Return the fee of a quantity that no response carries."""
    meter = str(record["meter"])
    if meter == "container_minutes":
        size = record.get("memory_limit") or "1g"
        return price_meter(f"{meter}_{size}", _exact(record["minutes"]), at=at, book=book)
    if meter == "vector_store_gib_days":
        over = max(_exact(record["gib"]) - _exact(record.get("org_free_gib", 1)), Fraction(0))
        return price_meter(meter, over * _exact(record["days"]), at=at, book=book)
    for unit, parts in _HOUR_PARTS.items():
        if unit in record:  # of reinforcement training, the one thing sold by time
            hours = _exact(record[unit]) / parts
            return price_meter("training_hours", hours, at=at, book=book)
    if "quantity" in record:
        return price_meter(meter, _exact(record["quantity"]), at=at, book=book)
    why = f"no quantity of {meter} is told"
    return Price(Status.UNPRICED_COMPONENT, (), book.version, meter, why)


def _exact(value: object) -> Fraction:
    return Fraction(str(value))


def _call(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the response that an event carries, or the body itself."""
    inner = body.get("response")
    return cast("Mapping[str, Any]", inner) if isinstance(inner, Mapping) else body


def _text(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name)
    return value if isinstance(value, str) else ""
