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

_SECONDS = {"seconds": 1, "minutes": 60, "hours": 3_600}


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
    holders = (_object(body.get(name)) for name in ("session", "sample"))
    tellers = (_call(body), body, *holders, request or {})
    return next(filter(None, (_text(teller, "model") for teller in tellers)), "")


def price_cases(document: object, book: Book | None = None) -> Iterable[Mapping[str, str | None]]:
    """Yield id, cost and status of each case of a golden file, in order.

    A case that is none is answered with the status `invalid_case` and the reason.

    Raises:
        Rejected: `document` is no such file.
    """
    cases = _object(document).get("cases")
    if not isinstance(cases, list):
        msg = 'not a file of cases: no list "cases" in it; see tests/data/pricing/README.md'
        raise Rejected(msg)
    for number, case in enumerate(cast("list[Any]", cases), start=1):
        try:
            found = _case(case, book or default_book())
            usd = found.usd
            yield {
                "id": case["id"],
                "usd": None if usd is None else plain(usd),
                "status": found.status.value,
            }
        except (KeyError, TypeError, ValueError, ArithmeticError) as error:
            yield {
                "id": _object(case).get("id", f"case {number}"),
                "usd": None,
                "status": "invalid_case",
                "reason": f"{error!r}; see tests/data/pricing/README.md",
            }


def _case(case: Mapping[str, Any], book: Book) -> Price:
    """Return the price of the call, if it used anything, together with the fees beside it."""
    at = datetime.fromisoformat(case["timestamp"])
    body = _object(case["response"])
    size: Mapping[str, Any] = {"memory_limit": body.get("memory_limit")}
    fees = [_fee({**size, **_object(record)}, at, book) for record in case.get("meters") or ()]
    if fees and "usage" not in body:
        return _together(fees)
    call = price_body(
        body,
        at=at,
        request=_object(case.get("request")),
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
    meter = str(record.get("meter"))
    try:
        if meter.startswith("container"):
            size = record.get("memory_limit") or "1g"
            meter, quantity = f"container_minutes_{size}", _time(record) / 60
        elif meter.startswith("vector_store"):
            over = max(_exact(record["gib"]) - _exact(record.get("org_free_gib", 1)), 0)
            meter, quantity = "vector_store_gib_days", over * _exact(record["days"])
        elif "quantity" in record:
            quantity = _exact(record["quantity"])
        else:  # reinforcement training, the one other thing sold by time
            meter, quantity = "training_hours", _time(record) / 3_600
    except KeyError:
        why = f"no quantity of {meter} is told"
        return Price(Status.UNPRICED_COMPONENT, (), book.version, meter, why)
    except InvalidUsage as error:
        return Price(Status.INVALID_USAGE, (), book.version, meter, str(error))
    return price_meter(meter, quantity, at=at, book=book)


def _time(record: Mapping[str, Any]) -> Fraction:
    """Return the seconds that a record tells, in whichever unit its field is named for."""
    for name, value in record.items():
        if unit := next(filter(None, map(_SECONDS.get, name.split("_"))), None):
            return _exact(value) * unit
    raise KeyError


def _exact(value: object) -> Fraction:
    try:
        found = Fraction(str(value))
    except ValueError:
        found = Fraction(-1)
    if found < 0:
        msg = f"{value!r} is not a quantity"
        raise InvalidUsage(msg)
    return found


def _object(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def _call(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the response that an event carries, or the body itself."""
    return _object(body.get("response")) or body


def _text(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name)
    return value if isinstance(value, str) else ""
