"""Calls to a file: what they used, cost and took, and nothing that was said in them."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

from costspan.errors import Rejected
from costspan_collector.store import Store, load_sql
from costspan_reconcile.focus.columns import Column, Kind, Row
from costspan_reconcile.focus.files import Format, write

_HOUR = timedelta(hours=1)
_INSTANT, _COUNT, _DECIMAL = Kind.INSTANT, Kind.COUNT, Kind.DECIMAL
COLUMNS = (
    Column("started_at", _INSTANT),
    *map(Column, ("trace_id", "span_id", "service_name", "environment", "operation", "provider")),
    *map(Column, ("request_model", "response_model", "service_tier")),
    *map(Column, ("project", "team", "feature", "user", "customer", "status", "error_type")),
    *(Column(name, _COUNT) for name in ("retries", "duration_us", "time_to_first_chunk_us")),
    *(Column(name, _COUNT) for name in ("input_tokens", "cached_tokens", "cache_write_tokens")),
    *(Column(name, _COUNT) for name in ("output_tokens", "reasoning_tokens")),
    *(Column(name, _DECIMAL) for name in ("cost_usd", "list_cost_usd")),
    *map(Column, ("price_status", "price_book")),
)


def export_calls(store: Store, since: date, until: date, path: Path, form: Format) -> int:
    """Write the calls that began in `since <= day < until`; return how many. A whole file or none.

    Raises:
        Rejected: the file cannot be written.
    """
    count = 0

    def rows() -> Iterator[Row]:
        nonlocal count
        count = 0
        for row in _rows(store, since, until):
            count += 1
            yield row

    part = path.with_name(f"{path.name}.part")
    try:
        write(part, form, COLUMNS, rows)
        part.replace(path)
    except OSError as error:
        msg = f"cannot write {path}: {error.strerror or error}"
        raise Rejected(msg) from error
    finally:
        part.unlink(missing_ok=True)
    return count


def _rows(store: Store, since: date, until: date) -> Iterator[Row]:
    """Return the rows, an hour in memory at a time."""
    sql = load_sql("costspan_reconcile.focus", "calls")
    hour, end = (datetime.combine(day, time.min, UTC) for day in (since, until))
    while hour < end:
        columns = store.select_columns(sql, since=hour, until=hour + _HOUR)
        for values in zip(*columns.values(), strict=True):
            yield dict(zip(columns, values, strict=True))
        hour += _HOUR
