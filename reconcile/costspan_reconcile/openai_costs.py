"""Read OpenAI's bill: Costs grouped and as a whole, Usage beside it, the names of the keys.

Everything goes through the `openai` SDK's admin client and is read from the raw body, since the
SDK's typed answers make floats of the amounts.
"""

import json
import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice
from typing import Any, Literal, Protocol

import openai
from openai import OpenAI, omit

from costspan.errors import CostspanError, Rejected, Unavailable
from costspan_reconcile.bill_pages import (
    Buckets,
    CostDay,
    Incomplete,
    UsageRow,
    cost_days,
    usage_rows,
)
from costspan_reconcile.settings import Reconcile

Dimension = Literal["project_id", "api_key_id", "line_item"]
BY_KEY: tuple[Dimension, ...] = ("project_id", "api_key_id", "line_item")
WITHOUT_KEY: tuple[Dimension, ...] = ("project_id", "line_item")
"""For organizations whose Costs endpoint answers 400 to a grouping by key."""
_BUCKETS_A_PAGE = 31
_MOST_KEYS = 10_000


@dataclass(frozen=True, slots=True)
class Page:
    """One answer, as received."""

    endpoint: str
    parameters: str
    number: int
    request_id: str
    fetched_at: datetime
    body: str


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A project key as OpenAI lists it. `hint` is the visible end of the key."""

    project: str
    project_name: str
    api_key_id: str
    name: str
    hint: str


@dataclass(slots=True)
class Bill:
    """What one reading gave. Pages are kept whatever became of the rest."""

    days: Sequence[date]
    fetched_at: datetime
    grouped_by: tuple[Dimension, ...]
    pages: list[Page] = field(default_factory=list[Page])
    costs: Mapping[date, CostDay] = field(default_factory=dict[date, CostDay])
    costs_failure: CostspanError | None = None
    usage: dict[str, Mapping[date, list[UsageRow]]] = field(
        default_factory=dict[str, Mapping[date, list[UsageRow]]]
    )
    usage_failures: dict[str, CostspanError] = field(default_factory=dict[str, CostspanError])


class _Answer(Protocol):
    @property
    def text(self) -> str: ...
    @property
    def request_id(self) -> str | None: ...


@contextmanager
def admin_client(settings: Reconcile) -> Generator[OpenAI]:
    """Give a client that may read the organization's bill.

    Raises:
        Rejected: there is no admin key; the message says what to set.
    """
    with OpenAI(
        admin_api_key=settings.key(),
        base_url=settings.base_url,
        timeout=settings.timeout_seconds,
    ) as client:
        yield client


def read_bill(
    client: OpenAI, days: Sequence[date], now: datetime, grouped_by: tuple[Dimension, ...] = BY_KEY
) -> Bill:
    """Return the bill of `days`, which follow one another, as it stands at `now`.

    A part that fails keeps its error in the result: the bill is worth having without the usage,
    and the pages received are evidence either way.
    """
    bill = Bill(days, now, grouped_by)
    try:
        grouped = _grouped_costs(client, bill)
        control = _walk(bill, "costs", _costs(client, bill, ()), {"group_by": []})
        bill.costs = cost_days(grouped, control, today=now.date())
    except CostspanError as error:
        bill.costs_failure = error
        return bill
    for source, ask, parameters in _usage(client, bill):
        try:
            found = _walk(bill, source, ask, parameters)
            bill.usage[source] = {
                day: usage_rows(source, day, results) for day, results in found.items()
            }
        except CostspanError as error:
            bill.usage_failures[source] = error
    return bill


def read_api_keys(client: OpenAI) -> list[ApiKey]:
    """Return the keys of every project.

    Raises:
        Rejected: the admin key may not list them.
        Unavailable: OpenAI did not answer.
    """
    try:
        with _plain_errors("projects"):
            return list(_api_keys(client))
    except (AttributeError, TypeError, ValueError) as error:  # the SDK trusts what it is sent
        msg = "projects: the list is not what the SDK expects"
        raise Incomplete(msg) from error


def _api_keys(client: OpenAI) -> Iterator[ApiKey]:
    projects = client.admin.organization.projects
    for project in islice(projects.list(limit=100, include_archived=True), _MOST_KEYS):
        listed = projects.api_keys.list(project.id, limit=100, owner_project_access="any")
        for key in islice(listed, _MOST_KEYS):
            yield ApiKey(
                project.id, project.name or "", key.id, key.name or "", hint(key.redacted_value)
            )


def hint(redacted: str) -> str:
    """Return the last four visible characters of a redacted key: `sk-...********abcd`."""
    end = re.search(r"[A-Za-z0-9_-]*$", redacted or "")
    return end.group()[-4:] if end and end.group() != redacted else ""


def _grouped_costs(client: OpenAI, bill: Bill) -> Mapping[date, list[Mapping[str, Any]]]:
    try:
        return _walk(
            bill, "costs", _costs(client, bill, bill.grouped_by), {"group_by": bill.grouped_by}
        )
    except _BadRequest:
        if bill.grouped_by == WITHOUT_KEY:
            raise
        bill.grouped_by = WITHOUT_KEY
        return _walk(
            bill, "costs", _costs(client, bill, WITHOUT_KEY), {"group_by": bill.grouped_by}
        )


def _costs(
    client: OpenAI, bill: Bill, group_by: tuple[Dimension, ...]
) -> Callable[[str | None], _Answer]:
    since, until = _span(bill.days)

    def ask(page: str | None) -> _Answer:
        return client.admin.organization.usage.with_raw_response.costs(
            start_time=since,
            end_time=until,
            bucket_width="1d",
            limit=_BUCKETS_A_PAGE,
            group_by=[*group_by] if group_by else omit,
            page=page or omit,
        )

    return ask


def _usage(
    client: OpenAI, bill: Bill
) -> list[tuple[str, Callable[[str | None], _Answer], Mapping[str, object]]]:
    usage = client.admin.organization.usage.with_raw_response
    since, until = _span(bill.days)

    def completions(page: str | None) -> _Answer:
        return usage.completions(
            start_time=since,
            end_time=until,
            bucket_width="1d",
            limit=_BUCKETS_A_PAGE,
            group_by=["project_id", "api_key_id", "model", "batch", "service_tier"],
            page=page or omit,
        )

    def embeddings(page: str | None) -> _Answer:
        return usage.embeddings(
            start_time=since,
            end_time=until,
            bucket_width="1d",
            limit=_BUCKETS_A_PAGE,
            group_by=["project_id", "api_key_id", "model"],
            page=page or omit,
        )

    return [
        (
            "completions",
            completions,
            {"group_by": ["project_id", "api_key_id", "model", "batch", "service_tier"]},
        ),
        ("embeddings", embeddings, {"group_by": ["project_id", "api_key_id", "model"]}),
    ]


def _walk(
    bill: Bill,
    endpoint: str,
    ask: Callable[[str | None], _Answer],
    parameters: Mapping[str, object],
) -> Mapping[date, list[Mapping[str, Any]]]:
    """Return the results of each day, asking for page after page until the last.

    Raises:
        Incomplete: the pages do not end, or not every day is there exactly once.
        Unavailable: OpenAI did not answer.
        Rejected: it refused.
    """
    since, until = _span(bill.days)
    asked = json.dumps({**parameters, "start_time": since, "end_time": until}, sort_keys=True)
    buckets = Buckets(bill.days)
    cursor: str | None = None
    seen: set[str] = set()
    for number in range(len(bill.days) + 1):
        with _plain_errors(endpoint):
            answer = ask(cursor)
        page = Page(endpoint, asked, number, answer.request_id or "", bill.fetched_at, answer.text)
        bill.pages.append(page)
        try:
            cursor = buckets.take(page.body)
        except Incomplete as error:
            msg = f"{endpoint}, page {number + 1}: {error}"
            raise Incomplete(msg) from error
        if cursor is None:
            return buckets.complete()
        if cursor in seen:
            msg = f"{endpoint}, page {number + 1}: the cursor repeats, so the pages never end"
            raise Incomplete(msg)
        seen.add(cursor)
    msg = f"{endpoint}: more pages than the {len(bill.days)} days asked for"
    raise Incomplete(msg)


def _span(days: Sequence[date]) -> tuple[int, int]:
    """Return the Unix times of the first midnight and of the one after the last day."""
    first = datetime.combine(days[0], time.min, UTC)
    last = datetime.combine(days[-1], time.min, UTC) + timedelta(days=1)
    return int(first.timestamp()), int(last.timestamp())


class _BadRequest(Rejected):
    """HTTP 400."""


@contextmanager
def _plain_errors(endpoint: str) -> Generator[None]:
    """Turn the SDK's errors into ours, without what OpenAI may say about the key."""
    try:
        yield
    except openai.AuthenticationError as error:
        msg = (
            f"{endpoint}: OpenAI does not accept the admin key (HTTP 401); "
            "put an organization admin key in OPENAI_ADMIN_KEY, a project key does not do"
        )
        raise Rejected(msg) from error
    except openai.PermissionDeniedError as error:
        msg = (
            f"{endpoint}: the admin key in OPENAI_ADMIN_KEY may not read this (HTTP 403); "
            "give it read permission for usage (api.usage.read) and projects"
        )
        raise Rejected(msg) from error
    except openai.BadRequestError as error:
        msg = f"{endpoint}: OpenAI refused the request (HTTP 400)"
        raise _BadRequest(msg) from error
    except openai.APIStatusError as error:
        later = error.status_code in {408, 409, 429} or error.status_code >= 500
        kind = Unavailable if later else Rejected
        msg = f"{endpoint}: OpenAI answered HTTP {error.status_code}"
        raise kind(msg) from error
    except openai.APIConnectionError as error:
        msg = f"{endpoint}: {error.request.url.host} does not answer ({type(error).__name__})"
        raise Unavailable(msg) from error
    except openai.APIError as error:
        msg = f"{endpoint}: the answer cannot be read ({type(error).__name__})"
        raise Incomplete(msg) from error
