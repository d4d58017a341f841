"""Where a number of the bill was read: the answer, its page, and the row on it."""

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

from costspan_collector.store import Store, load_sql

LineKey = tuple[str, str, str]
"""Project, key and line item; a null id is ''."""


@dataclass(frozen=True, slots=True)
class SentRow:
    """A row of an answer, as it was sent."""

    fetch_id: UUID
    fetched_at: datetime
    request_id: str
    page: int
    """1 for the first."""
    row: int
    """Of the bucket of the day, 1 for the first."""
    amount: str
    quantity: str


@dataclass(frozen=True, slots=True)
class _Page:
    fetch_id: UUID
    page: int
    parameters: str
    request_id: str
    fetched_at: datetime
    body: str
    grouped_by: tuple[str, ...]


def sent_rows(store: Store, day: date) -> Mapping[LineKey, list[SentRow]]:
    """Return the rows that the bill of a day was read from, by line."""
    found: defaultdict[LineKey, list[SentRow]] = defaultdict(list)
    for page in store.select(load_sql("costspan_reconcile", "day_pages"), _Page, day=day):
        if tuple(json.loads(page.parameters)["group_by"]) != page.grouped_by:
            continue  # the control total, or a way of grouping that was refused half way
        content: Any = json.loads(page.body, parse_float=str)
        for bucket in content["data"]:
            if datetime.fromtimestamp(bucket["start_time"], UTC).date() != day:
                continue
            for number, result in enumerate(bucket["results"], 1):
                project, key, item = (
                    result.get(name) or "" for name in ("project_id", "api_key_id", "line_item")
                )
                found[project, key, item].append(
                    SentRow(
                        page.fetch_id,
                        page.fetched_at,
                        page.request_id,
                        page.page + 1,
                        number,
                        str(result["amount"]["value"]),
                        str(result.get("quantity")),
                    )
                )
    return found
