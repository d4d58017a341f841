"""OpenAI's organization endpoints: Costs, Usage, projects and their keys.

They have the habits of the live service rather than of its documentation: amounts are padded
decimal texts, an exact zero is `0E-6176`, `group_by` comes in three spellings, a cursor is bound
to its query, and two times on the same date are refused.
"""

import base64
import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, localcontext
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from costspan_demo.ledger import Charge, Entry, Ledger
from costspan_demo.organization import Key
from costspan_demo.refusal import Refusal, refuse

Json = dict[str, Any]

_DAY = 86_400
_WIDTHS = {"1m": 60, "1h": 3600, "1d": _DAY}
_USAGE_LIMITS = {"1m": (60, 1440), "1h": (24, 168), "1d": (7, 31)}
_COST_LIMITS = (7, 180)
_COST_GROUPS = ("project_id", "user_id", "line_item", "api_key_id", "api_source")
_DIGITS = 34
"""Of a decimal128, which is what the live service prints."""
_ZERO = "0E-6176"

_UNUSED = frozenset(
    {
        "moderations",
        "decisions",
        "images",
        "audio_speeches",
        "audio_transcriptions",
        "code_interpreter_sessions",
        "file_search_calls",
        "web_search_calls",
    }
)
"""Usage endpoints that this organization never used."""


@dataclass(frozen=True, slots=True)
class _Query:
    start: int
    end: int
    width: int
    limit: int
    offset: int
    group_by: tuple[str, ...]
    digest: str
    clips: bool
    """Usage clips its first and last bucket to what was asked and to now; Costs has whole days."""


def routes(ledger: Ledger, now: Callable[[], datetime]) -> list[Route]:
    """Return the routes under `/v1/organization`."""

    async def costs(request: Request) -> JSONResponse:
        _authorize(request, ledger)
        query = _query(request, now(), _COST_GROUPS, widths=("1d",), limits=_COST_LIMITS)
        return _page(query, now(), lambda start, _: _costs(request, query, ledger, start, now()))

    async def completions(request: Request) -> JSONResponse:
        return usage(request, "completions", embeds=False)

    async def embeddings(request: Request) -> JSONResponse:
        return usage(request, "embeddings", embeds=True)

    def usage(request: Request, name: str, *, embeds: bool) -> JSONResponse:
        _authorize(request, ledger)
        groups = ("project_id", "user_id", "api_key_id", "model")
        more = () if embeds else ("batch", "service_tier", "api_source")
        query = _usage_query(request, now(), groups + more)
        buckets: defaultdict[int, list[Entry]] = defaultdict(list)
        for entry in ledger.entries:
            if entry.status == 200 and entry.embeds == embeds and _kept(request, entry):
                buckets[int(entry.at.timestamp()) // query.width].append(entry)

        def results(start: int, end: int) -> Iterable[Json]:
            bucket = buckets[start // query.width]
            inside = [entry for entry in bucket if start <= entry.at.timestamp() < end]
            return _usage(inside, query.group_by, name)

        return _page(query, now(), results)

    async def vector_stores(request: Request) -> JSONResponse:
        _authorize(request, ledger)
        query = _usage_query(request, now(), ("project_id",))
        stored = dict(ledger.stored_bytes(now()))

        def results(start: int, _end: int) -> Iterator[Json]:
            count = stored.get(_date(start))
            if count is not None and _wanted(request, "project_ids", ledger.storage_project):
                grouped = "project_id" in query.group_by
                yield {
                    "object": "organization.usage.vector_stores.result",
                    "project_id": ledger.storage_project if grouped else None,
                    "usage_bytes": count,
                }

        return _page(query, now(), results)

    async def unused(request: Request) -> JSONResponse:
        _authorize(request, ledger)
        if request.path_params["name"] not in _UNUSED:
            raise Refusal.not_found(request.url.path)
        query = _usage_query(request, now(), ("project_id", "user_id", "api_key_id", "model"))
        return _page(query, now(), lambda _start, _end: [])

    async def projects(request: Request) -> JSONResponse:
        _authorize(request, ledger)
        names = {key.project: key.project_name for key in ledger.organization.keys}
        return _list(request, [_project(ledger, each, name) for each, name in names.items()])

    async def api_keys(request: Request) -> JSONResponse:
        _authorize(request, ledger)
        project = request.path_params["project"]
        keys = [key for key in ledger.organization.keys if key.project == project]
        if not keys:
            raise Refusal.not_found(request.url.path)
        return _list(request, [_api_key(ledger, key) for key in keys])

    return [
        Route("/v1/organization/costs", costs),
        Route("/v1/organization/usage/completions", completions),
        Route("/v1/organization/usage/embeddings", embeddings),
        Route("/v1/organization/usage/vector_stores", vector_stores),
        Route("/v1/organization/usage/{name}", unused),
        Route("/v1/organization/projects", projects),
        Route("/v1/organization/projects/{project}/api_keys", api_keys),
    ]


def decimal128(amount: Decimal) -> str:
    """Return an amount as the Costs endpoint prints it, padded to 34 significant digits."""
    if not amount:
        return _ZERO
    with localcontext() as context:
        context.prec = 2 * _DIGITS
        return str(amount.quantize(Decimal((0, (1,), amount.adjusted() - _DIGITS + 1))))


# What is asked.


def _authorize(request: Request, ledger: Ledger) -> None:
    secret = request.headers.get("authorization", "").removeprefix("Bearer ")
    if secret == ledger.organization.admin_secret:
        return
    if any(secret == key.secret for key in ledger.organization.keys):
        raise Refusal(
            403,
            "You have insufficient permissions for this operation. Missing scopes: api.usage.read.",
            kind="invalid_request_error",
            code="missing_scope",
        )
    raise Refusal.wrong_key(secret)


def _query(
    request: Request,
    now: datetime,
    groups: Sequence[str],
    *,
    widths: Sequence[str],
    limits: tuple[int, int] | None,
) -> _Query:
    asked = request.query_params
    width = asked.get("bucket_width", "1d")
    if width not in widths:
        refuse(f"bucket_width must be one of {', '.join(widths)}", "bucket_width")
    usual, most = limits or _USAGE_LIMITS[width]
    start = _whole(request, "start_time", None)
    end = _whole(request, "end_time", int(now.timestamp()) + 1)
    limit = _whole(request, "limit", usual)
    if not 1 <= limit <= most:
        refuse(f"limit must be between 1 and {most}", "limit")
    if limits is not None and "end_time" in asked and _date(start) == _date(end):
        refuse("start_date must come before end_date", "start_time")
    if start >= end:
        refuse("start_time must be before end_time", "start_time")
    group_by = tuple(_several(request, "group_by"))
    for name in group_by:
        if name not in groups:
            refuse(f"cannot group by {name}", "group_by")
    by_project = "project_id" in group_by or bool(_several(request, "project_ids"))
    if limits is not None and "user_id" in group_by and by_project:
        refuse("user_id cannot be combined with projects", "group_by")
    bound = sorted((name, text) for name, text in asked.multi_items() if name != "page")
    digest = hashlib.sha256(json.dumps([request.url.path, bound]).encode()).hexdigest()[:16]
    offset = _offset(asked["page"], digest) if "page" in asked else 0
    return _Query(start, end, _WIDTHS[width], limit, offset, group_by, digest, limits is None)


def _usage_query(request: Request, now: datetime, groups: Sequence[str]) -> _Query:
    return _query(request, now, groups, widths=tuple(_WIDTHS), limits=None)


def _whole(request: Request, name: str, default: int | None) -> int:
    text = request.query_params.get(name)
    if text is None and default is not None:
        return default
    if text is None:
        refuse(f"Missing required parameter: '{name}'.", name)
    try:
        return int(text)
    except ValueError:
        refuse(f"{name} must be an integer", name)


def _several(request: Request, name: str) -> list[str]:
    """Return a list parameter: bracketed, repeated or joined by commas; clients use all three."""
    asked = request.query_params
    return [
        word
        for text in asked.getlist(f"{name}[]") + asked.getlist(name)
        for word in text.split(",")
        if word
    ]


def _wanted(request: Request, name: str, value: str | None) -> bool:
    asked = request.query_params.getlist(f"{name}[]") + request.query_params.getlist(name)
    # A line item has a comma in it, so it is compared whole as well.
    return not asked or value in asked or value in _several(request, name)


def _offset(page: str, digest: str) -> int:
    try:
        bound, offset = json.loads(base64.urlsafe_b64decode(page.removeprefix("page_")))
    except ValueError:
        refuse("The page cursor is invalid.", "page")
    if bound != digest:
        refuse("The page cursor belongs to a query with other parameters.", "page")
    return int(offset)


# What is answered.


def _page(
    query: _Query, now: datetime, results: Callable[[int, int], Iterable[Json]]
) -> JSONResponse:
    end = min(query.end, int(now.timestamp()) + 1)
    edges = range(query.start // query.width * query.width, end, query.width)
    buckets = [(edge, edge + query.width) for edge in edges]
    if query.clips:
        buckets = [(max(since, query.start), min(until, end)) for since, until in buckets]
    shown = buckets[query.offset : query.offset + query.limit]
    following = query.offset + query.limit
    more = following < len(buckets)
    cursor = base64.urlsafe_b64encode(json.dumps([query.digest, following]).encode()).decode()
    return JSONResponse(
        {
            "object": "page",
            "data": [
                {
                    "object": "bucket",
                    "start_time": since,
                    "start_time_iso": _iso(since),
                    "end_time": until,
                    "end_time_iso": _iso(until),
                    "results": list(results(since, until)),
                }
                for since, until in shown
            ],
            "has_more": more,
            "next_page": f"page_{cursor}" if more else None,
        }
    )


def _costs(
    request: Request, query: _Query, ledger: Ledger, start: int, now: datetime
) -> Iterator[Json]:
    owners = {key.id: key.owner for key in ledger.organization.keys}
    names = {key.project: key.project_name for key in ledger.organization.keys}
    sums: defaultdict[tuple[str | None, ...], list[Charge]] = defaultdict(list)
    for charge in ledger.charges(now):
        if charge.day != _date(start) or not (
            _wanted(request, "project_ids", charge.project)
            and _wanted(request, "api_key_ids", charge.key_id)
            and _wanted(request, "line_items", charge.line_item)
        ):
            continue
        dimensions = {
            "project_id": charge.project,
            "user_id": owners.get(charge.key_id or ""),
            "line_item": charge.line_item,
            "api_key_id": charge.key_id,
            "api_source": "unlabeled",
        }
        sums[_grouped(dimensions, query.group_by)].append(charge)
    for values, charges in sums.items():
        row = dict(zip(_COST_GROUPS, values, strict=True))
        by_line = "line_item" in query.group_by
        counts = [charge.quantity for charge in charges if charge.quantity is not None]
        with localcontext() as context:
            context.prec = 2 * _DIGITS
            amount = sum((charge.usd for charge in charges), Decimal(0))
        yield {
            "object": "organization.costs.result",
            "amount": {"value": decimal128(amount), "currency": "usd"},
            "quantity": float(sum(counts)) if by_line and counts else None,
            "quantity_unit": charges[0].unit if by_line else None,
            **row,
            "project_name": names.get(row["project_id"] or ""),
            "organization_id": ledger.organization.id,
            "organization_name": ledger.organization.slug,
        }


def _usage(entries: Iterable[Entry], group_by: Sequence[str], name: str) -> Iterator[Json]:
    groups = ("project_id", "user_id", "api_key_id", "model", "batch", "service_tier", "api_source")
    sums: defaultdict[tuple[Any, ...], list[Entry]] = defaultdict(list)
    for entry in entries:
        dimensions = {
            "project_id": entry.key.project,
            "user_id": entry.key.owner,
            "api_key_id": entry.key.id,
            "model": entry.model,
            "batch": False,
            "service_tier": "default",
            "api_source": "unlabeled",
        }
        sums[tuple(dimensions[each] if each in group_by else None for each in groups)].append(entry)
    for values, found in sums.items():
        row = dict(zip(groups, values, strict=True))
        read = sum(entry.input_tokens for entry in found)
        head = {
            "object": f"organization.usage.{name}.result",
            "input_tokens": read,
            "num_model_requests": len(found),
        }
        if name == "embeddings":
            yield head | {each: row[each] for each in groups[:4]}
            continue
        cached = sum(entry.cached_tokens for entry in found)
        written = sum(entry.output_tokens for entry in found)
        yield (
            head
            | row
            | {
                "input_cached_tokens": cached,
                "input_cache_write_tokens": 0,
                "input_uncached_tokens": read - cached,
                "input_text_tokens": read - cached,
                "input_cached_text_tokens": cached,
                "input_audio_tokens": 0,
                "input_cached_audio_tokens": 0,
                "input_image_tokens": 0,
                "input_cached_image_tokens": 0,
                "output_tokens": written,
                "output_text_tokens": written,
                "output_audio_tokens": 0,
                "output_image_tokens": 0,
            }
        )


def _kept(request: Request, entry: Entry) -> bool:
    return (
        _wanted(request, "project_ids", entry.key.project)
        and _wanted(request, "user_ids", entry.key.owner)
        and _wanted(request, "api_key_ids", entry.key.id)
        and _wanted(request, "models", entry.model)
        and request.query_params.get("batch", "false").lower() == "false"
    )


def _grouped(dimensions: dict[str, str | None], group_by: Sequence[str]) -> tuple[str | None, ...]:
    return tuple(dimensions[name] if name in group_by else None for name in _COST_GROUPS)


def _list(request: Request, items: list[Json]) -> JSONResponse:
    limit = _whole(request, "limit", 20)
    after = request.query_params.get("after")
    ids = [item["id"] for item in items]
    if after is not None and after not in ids:
        refuse(f"No such object: {after}", "after")
    first = ids.index(after) + 1 if after is not None else 0
    shown = items[first : first + limit]
    return JSONResponse(
        {
            "object": "list",
            "data": shown,
            "first_id": shown[0]["id"] if shown else None,
            "last_id": shown[-1]["id"] if shown else None,
            "has_more": first + limit < len(items),
        }
    )


def _project(ledger: Ledger, project: str, name: str) -> Json:
    return {
        "id": project,
        "object": "organization.project",
        "name": name,
        "created_at": _created(ledger),
        "archived_at": None,
        "status": "active",
    }


def _api_key(ledger: Ledger, key: Key) -> Json:
    return {
        "object": "organization.project.api_key",
        "redacted_value": f"sk-proj-{'*' * 20}{key.hint}",
        "name": key.name,
        "created_at": _created(ledger),
        "last_used_at": _last_used(ledger, key),
        "id": key.id,
        "owner": {
            "type": "service_account",
            "service_account": {
                "id": key.owner,
                "object": "organization.project.service_account",
                "name": key.team,
                "created_at": _created(ledger),
                "role": "member",
            },
        },
        "owner_project_access": "active",
    }


def _created(ledger: Ledger) -> int:
    return int((ledger.since - timedelta(days=200)).timestamp())


def _last_used(ledger: Ledger, key: Key) -> int | None:
    used = (int(entry.at.timestamp()) for entry in reversed(ledger.entries) if entry.key == key)
    return next(used, None)


def _date(timestamp: int) -> date:
    return datetime.fromtimestamp(timestamp, UTC).date()


def _iso(timestamp: int) -> str:
    return datetime.fromtimestamp(timestamp, UTC).isoformat()
