"""Read OpenAI's bill: Costs grouped and as a whole, all of Usage beside it, the names of the keys.

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
from typing import Any, Protocol

from openai import OpenAI, omit

from costspan.errors import CostspanError
from costspan_reconcile.bill_pages import Buckets, CostDay, cost_days
from costspan_reconcile.openai_errors import BadRequest, asked
from costspan_reconcile.settings import Reconcile
from costspan_reconcile.usage_pages import ENDPOINTS, UsageRow
from costspan_reconcile.wire_json import Incomplete

COSTS = "costs"
Grouping = tuple[str, ...]
BY_KEY: Grouping = ("project_id", "api_key_id", "line_item")
WITHOUT_KEY: Grouping = ("project_id", "line_item")
"""For organizations whose Costs endpoint answers 400 to a grouping by key."""
_BUCKETS_A_PAGE = 31
_MOST_KEYS = 10_000
_RETRIES = 4
"""Of one request, by the SDK: with jitter, and after as long as Retry-After says."""


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
    pages: list[Page] = field(default_factory=list[Page])
    grouped_by: dict[str, Grouping] = field(default_factory=dict[str, Grouping])
    """Of each source that was read."""
    refused: list[tuple[str, Grouping]] = field(default_factory=list[tuple[str, Grouping]])
    """Source and grouping, where a poorer one was taken."""
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
        max_retries=_RETRIES,
    ) as client:
        yield client


def read_bill(
    client: OpenAI,
    days: Sequence[date],
    now: datetime,
    skip: frozenset[tuple[str, Grouping]] = frozenset(),
) -> Bill:
    """Return the bill of `days`, which follow one another, as it stands at `now`.

    A part that fails keeps its error in the result: the bill is worth having without the usage,
    and the pages received are evidence either way. `skip` are groupings known to be refused.
    """
    bill = Bill(days, now)
    usage = client.admin.organization.usage.with_raw_response
    try:
        grouped = _finest(bill, COSTS, usage.costs, (BY_KEY, WITHOUT_KEY), skip)
        control = _walk(bill, COSTS, usage.costs, ())
        bill.costs = cost_days(grouped, control, today=now.date())
    except CostspanError as error:
        bill.costs_failure = error
        return bill
    for endpoint in ENDPOINTS:
        ask = getattr(usage, endpoint.name)
        try:
            found = _finest(bill, endpoint.name, ask, endpoint.groupings, skip)
            bill.usage[endpoint.name] = {
                day: endpoint.rows(day, results) for day, results in found.items()
            }
        except CostspanError as error:
            bill.usage_failures[endpoint.name] = error
    return bill


def read_api_keys(client: OpenAI) -> list[ApiKey]:
    """Return the keys of every project.

    Raises:
        Rejected: the admin key may not list them.
        Unavailable: OpenAI did not answer.
    """
    try:
        return asked("projects", lambda: list(_api_keys(client)))
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


def _finest(
    bill: Bill,
    source: str,
    ask: Callable[..., _Answer],
    groupings: Sequence[Grouping],
    skip: frozenset[tuple[str, Grouping]],
) -> Mapping[date, list[Mapping[str, Any]]]:
    """Return the results of each day by the finest grouping that OpenAI takes."""
    *finer, coarsest = groupings
    for grouped_by in finer:
        if (source, grouped_by) in skip:
            continue
        before = len(bill.pages)
        try:
            found = _walk(bill, source, ask, grouped_by)
        except BadRequest:
            if len(bill.pages) > before:  # it took the grouping, and refused the cursor
                raise
            continue
        bill.grouped_by[source] = grouped_by
        return found
    found = _walk(bill, source, ask, coarsest)
    bill.grouped_by[source] = coarsest
    bill.refused += [
        (source, grouped_by) for grouped_by in finer if (source, grouped_by) not in skip
    ]
    return found


def _walk(
    bill: Bill, source: str, ask: Callable[..., _Answer], grouped_by: Grouping
) -> Mapping[date, list[Mapping[str, Any]]]:
    """Return the results of each day, asking for page after page until the last.

    Raises:
        Incomplete: the pages do not end, or not every day is there exactly once.
        Unavailable: OpenAI did not answer.
        Rejected: it refused.
    """
    since, until = _span(bill.days)
    parameters = json.dumps(
        {"group_by": grouped_by, "start_time": since, "end_time": until}, sort_keys=True
    )
    buckets = Buckets(bill.days)
    cursor: str | None = None
    seen: set[str] = set()
    for number in range(len(bill.days) + 1):
        answer = asked(
            source,
            lambda page=cursor: ask(
                start_time=since,
                end_time=until,
                bucket_width="1d",
                limit=_BUCKETS_A_PAGE,
                group_by=[*grouped_by] or omit,
                page=page or omit,
            ),
        )
        page = Page(
            source, parameters, number, answer.request_id or "", bill.fetched_at, answer.text
        )
        bill.pages.append(page)
        try:
            cursor = buckets.take(page.body)
            if cursor is None:
                return buckets.complete()
        except Incomplete as error:
            msg = f"{source}, page {number + 1}: {error}"
            raise Incomplete(msg) from error
        if cursor in seen:
            msg = f"{source}, page {number + 1}: the cursor repeats, so the pages never end"
            raise Incomplete(msg)
        seen.add(cursor)
    msg = f"{source}: more pages than the {len(bill.days)} days asked for"
    raise Incomplete(msg)


def _span(days: Sequence[date]) -> tuple[int, int]:
    """Return the Unix times of the first midnight and of the one after the last day."""
    first = datetime.combine(days[0], time.min, UTC)
    last = datetime.combine(days[-1], time.min, UTC) + timedelta(days=1)
    return int(first.timestamp()), int(last.timestamp())
