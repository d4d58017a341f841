"""OpenAI's organization endpoints: Costs, Usage, projects and their keys.

They have the habits of the live service rather than of its documentation: `group_by` comes in
three spellings, a cursor is bound to its query, two times on the same date are refused, and the
rest is in `wire`.
"""

import base64
import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from costspan_demo.bill import charges, total
from costspan_demo.ledger import Charge, Entry, Ledger
from costspan_demo.organization import Key
from costspan_demo.refusal import Refusal, refuse
from costspan_demo.wire import Wire

Json = dict[str, Any]

_DAY = 86_400
_WIDTHS = {"1m": 60, "1h": 3600, "1d": _DAY}
_USAGE_LIMITS = {"1m": (60, 1440), "1h": (24, 168), "1d": (7, 31)}
_COST_LIMITS = (7, 180)
_COST_GROUPS = ("project_id", "user_id", "line_item", "api_key_id", "api_source")


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """A usage endpoint: what it is called in a result, groups by, and counts."""

    result: str
    groups: tuple[str, ...]
    counts: tuple[str, ...]


_BY_KEY = ("project_id", "user_id", "api_key_id", "model")
_BY_TIER = (*_BY_KEY, "batch", "service_tier", "api_source")
_TOKENS = ("tokens", "num_model_requests")
_ENDPOINTS = {
    "completions": _Endpoint("completions", _BY_TIER, _TOKENS),
    "decisions": _Endpoint("decisions", _BY_TIER, _TOKENS),
    "embeddings": _Endpoint("embeddings", _BY_KEY, ("input_tokens", "num_model_requests")),
    "moderations": _Endpoint("moderations", _BY_KEY, ("input_tokens", "num_model_requests")),
    "images": _Endpoint("images", (*_BY_KEY, "size", "source"), ("images", "num_model_requests")),
    "audio_speeches": _Endpoint("audio_speeches", _BY_KEY, ("characters", "num_model_requests")),
    "audio_transcriptions": _Endpoint(
        "audio_transcriptions", _BY_KEY, ("seconds", "num_model_requests")
    ),
    "code_interpreter_sessions": _Endpoint(
        "code_interpreter_sessions", ("project_id",), ("num_sessions",)
    ),
    "file_search_calls": _Endpoint(
        "file_searches",
        ("project_id", "user_id", "api_key_id", "vector_store_id"),
        ("num_requests",),
    ),
    "web_search_calls": _Endpoint(
        "web_searches",
        (*_BY_KEY, "context_level", "api_source"),
        ("num_requests", "num_model_requests"),
    ),
}


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


class _Faults:
    """Refuses what the wire is told to refuse; counts how often."""

    def __init__(self) -> None:
        self._refused = 0

    def check(self, wire: Wire, request: Request) -> None:
        if wire.refusal is None or self._refused >= wire.refused_requests:
            return
        self._refused += 1
        if wire.refusal == 401:
            raise Refusal.wrong_key(_secret(request))
        if wire.refusal == 403:
            raise Refusal.missing_scope()
        headers = {"retry-after": "0"} if wire.refusal == 429 else {}
        raise Refusal(wire.refusal, "Try again later.", kind="server_error", headers=headers)


def routes(
    ledger: Ledger, now: Callable[[], datetime], wire: Callable[[], Wire] = Wire
) -> list[Route]:
    """Return the routes under `/v1/organization`."""
    faults = _Faults()

    def enter(request: Request) -> Wire:
        _authorize(request, ledger)
        habits = wire()
        faults.check(habits, request)
        return habits

    async def costs(request: Request) -> JSONResponse:
        habits = enter(request)
        query = _query(request, now(), habits, _COST_GROUPS, widths=("1d",), limits=_COST_LIMITS)
        by_day: defaultdict[date, list[Charge]] = defaultdict(list)
        for charge in [] if habits.empty else charges(ledger, habits, now()):
            by_day[charge.day].append(charge)
        return _page(
            query,
            now(),
            habits,
            lambda start, _: _costs(
                request,
                query,
                habits,
                ledger,
                by_day[_date(start)],
                habits.currency if _date(start) == habits.foreign_day else "usd",
            ),
        )

    async def vector_stores(request: Request) -> JSONResponse:
        habits = enter(request)
        query = _usage_query(request, now(), habits, ("project_id",))
        stored: defaultdict[date, list[tuple[str, int]]] = defaultdict(list)
        for day, project, count in ledger.stored_bytes(now()):
            if not habits.empty and _wanted(request, "project_ids", project):
                stored[day].append((project, count))

        def results(start: int, _end: int) -> Iterator[Json]:
            found: defaultdict[str | None, int] = defaultdict(int)
            for project, count in stored[_date(start)]:
                found[project if "project_id" in query.group_by else None] += count
            for project, count in found.items():
                yield {
                    "object": "organization.usage.vector_stores.result",
                    "project_id": project,
                    "usage_bytes": count,
                }

        return _page(query, now(), habits, results)

    async def usage(request: Request) -> JSONResponse:
        habits = enter(request)
        name = request.path_params["name"]
        endpoint = _ENDPOINTS.get(name)
        if endpoint is None:
            raise Refusal.not_found(request.url.path)
        query = _usage_query(request, now(), habits, endpoint.groups)
        until = now() - habits.usage_lag
        buckets: defaultdict[int, list[Entry]] = defaultdict(list)
        for entry, _ in [] if habits.empty else ledger.used:
            if entry.endpoint == name and entry.at <= until and _kept(request, entry):
                buckets[int(ledger.counted_at(entry).timestamp()) // query.width].append(entry)

        def results(start: int, end: int) -> Iterable[Json]:
            inside = [
                entry
                for entry in buckets[start // query.width]
                if start <= ledger.counted_at(entry).timestamp() < end
            ]
            return _usage(inside, query.group_by, endpoint)

        return _page(query, now(), habits, results)

    async def projects(request: Request) -> JSONResponse:
        enter(request)
        names = {key.project: key.project_name for key in ledger.organization.keys}
        return _list(request, [_project(ledger, each, name) for each, name in names.items()])

    async def api_keys(request: Request) -> JSONResponse:
        enter(request)
        project = request.path_params["project"]
        keys = [key for key in ledger.organization.keys if key.project == project]
        if not keys:
            raise Refusal.not_found(request.url.path)
        return _list(request, [_api_key(ledger, key) for key in keys])

    return [
        Route("/v1/organization/costs", costs),
        Route("/v1/organization/usage/vector_stores", vector_stores),
        Route("/v1/organization/usage/{name}", usage),
        Route("/v1/organization/projects", projects),
        Route("/v1/organization/projects/{project}/api_keys", api_keys),
    ]


# What is asked.


def _authorize(request: Request, ledger: Ledger) -> None:
    secret = _secret(request)
    if secret == ledger.organization.admin_secret:
        return
    if any(secret == key.secret for key in ledger.organization.keys):
        raise Refusal.missing_scope()
    raise Refusal.wrong_key(secret)


def _secret(request: Request) -> str:
    return request.headers.get("authorization", "").removeprefix("Bearer ")


def _query(
    request: Request,
    now: datetime,
    wire: Wire,
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
    if limits is not None and "user_id" in group_by and by_project and not wire.splits_by_user:
        refuse("user_id cannot be combined with projects", "group_by")
    if limits is not None and "api_key_id" in group_by and not wire.splits_by_key:
        refuse("api_key_id is not supported for this organization", "group_by")
    bound = sorted((name, text) for name, text in asked.multi_items() if name != "page")
    digest = hashlib.sha256(json.dumps([request.url.path, bound]).encode()).hexdigest()[:16]
    offset = _offset(asked["page"], digest) if "page" in asked else 0
    return _Query(start, end, _WIDTHS[width], limit, offset, group_by, digest, limits is None)


def _usage_query(request: Request, now: datetime, wire: Wire, groups: Sequence[str]) -> _Query:
    return _query(request, now, wire, groups, widths=tuple(_WIDTHS), limits=None)


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
    query: _Query, now: datetime, wire: Wire, results: Callable[[int, int], Iterable[Json]]
) -> JSONResponse:
    end = min(query.end, int(now.timestamp()) + 1)
    edges = range(query.start // query.width * query.width, end, query.width)
    buckets = [(edge, edge + query.width) for edge in edges]
    if query.clips:
        buckets = [(max(since, query.start), min(until, end)) for since, until in buckets]
    shown = buckets[query.offset : query.offset + query.limit]
    following = 0 if wire.cursor == "repeats" else query.offset + query.limit
    if following // query.limit + 1 == wire.lost_page:
        following += query.limit
    more = following < len(buckets)
    cursor = base64.urlsafe_b64encode(json.dumps([query.digest, following]).encode()).decode()
    page = f"page_{cursor}" if more and wire.cursor != "missing" else None
    return JSONResponse(
        {
            "object": "page",
            "data": [
                _bucket(wire, since, until, wire.ordered(list(results(since, until))))
                for since, until in shown
                if _date(since) != wire.missing_day
            ],
            "has_more": more or wire.cursor == "missing",
            "next_page": page,
        }
    )


def _bucket(wire: Wire, since: int, until: int, results: list[Json]) -> Json:
    times = {"start_time": since, "end_time": until}
    iso = {f"{name}_iso": _iso(at) for name, at in times.items()} if wire.extra_fields else {}
    return {"object": "bucket", **times, **iso, "results": results}


def _costs(
    request: Request,
    query: _Query,
    wire: Wire,
    ledger: Ledger,
    found: Iterable[Charge],
    currency: str,
) -> Iterator[Json]:
    owners = {key.id: key.owner for key in ledger.organization.keys}
    names = {key.project: key.project_name for key in ledger.organization.keys}
    by_line = "line_item" in query.group_by
    sums: defaultdict[tuple[str | None, ...], list[Charge]] = defaultdict(list)
    for charge in found:
        if (
            _wanted(request, "project_ids", charge.project)
            and _wanted(request, "api_key_ids", charge.key_id)
            and _wanted(request, "line_items", charge.line_item)
        ):
            dimensions = {
                "project_id": charge.project,
                "user_id": owners.get(charge.key_id or ""),
                "line_item": charge.line_item,
                "api_key_id": charge.key_id,
                "api_source": "unlabeled",
            }
            sums[_grouped(dimensions, query.group_by)].append(charge)
    for values, alike in sums.items():
        row = dict(zip(_COST_GROUPS, values, strict=True))
        counts = [charge.quantity for charge in alike if charge.quantity is not None]
        result: Json = {
            "object": "organization.costs.result",
            "amount": {"value": wire.amount(total(alike)), "currency": currency},
            "quantity": float(sum(counts)) if by_line and counts else None,
            "quantity_unit": alike[0].unit if by_line else None,
            **row,
        }
        currency = "usd"
        if wire.extra_fields:
            result |= {
                "project_name": names.get(row["project_id"] or ""),
                "organization_id": wire.organization_id or ledger.organization.id,
                "organization_name": ledger.organization.slug,
            }
        yield result


def _usage(
    entries: Iterable[Entry], group_by: Sequence[str], endpoint: _Endpoint
) -> Iterator[Json]:
    sums: defaultdict[tuple[Any, ...], list[Entry]] = defaultdict(list)
    for entry in entries:
        dimensions = {
            "project_id": entry.key.project,
            "user_id": entry.key.owner,
            "api_key_id": entry.key.id,
            "model": entry.model,
            "batch": entry.batch,
            "service_tier": entry.tier,
            "api_source": "unlabeled",
        }
        sums[
            tuple(dimensions.get(each) if each in group_by else None for each in endpoint.groups)
        ].append(entry)
    for values, alike in sums.items():
        counts: Json = {"object": f"organization.usage.{endpoint.result}.result"}
        for name in endpoint.counts:
            if name == "tokens":
                counts |= _tokens(alike)
            elif name == "input_tokens":
                counts[name] = sum(entry.input_tokens for entry in alike)
            elif name == "num_model_requests":
                counts[name] = len(alike)
            else:
                counts[name] = sum(entry.units for entry in alike)
        yield counts | dict(zip(endpoint.groups, values, strict=True))


def _tokens(entries: Iterable[Entry]) -> Json:
    names = (
        "input_tokens",
        "cached_tokens",
        "image_input_tokens",
        "output_tokens",
        "image_output_tokens",
    )
    found = [sum(getattr(entry, name) for entry in entries) for name in names]
    read, cached, image_read, written, image_written = found
    return {
        "input_tokens": read,
        "input_cached_tokens": cached,
        "input_cache_write_tokens": 0,
        "input_uncached_tokens": read - cached,
        "input_text_tokens": read - cached - image_read,
        "input_cached_text_tokens": cached,
        "input_audio_tokens": 0,
        "input_cached_audio_tokens": 0,
        "input_image_tokens": image_read,
        "input_cached_image_tokens": 0,
        "output_tokens": written,
        "output_text_tokens": written - image_written,
        "output_audio_tokens": 0,
        "output_image_tokens": image_written,
    }


def _kept(request: Request, entry: Entry) -> bool:
    batch = request.query_params.get("batch")
    return (
        _wanted(request, "project_ids", entry.key.project)
        and _wanted(request, "user_ids", entry.key.owner)
        and _wanted(request, "api_key_ids", entry.key.id)
        and _wanted(request, "models", entry.model)
        and (batch is None or (batch.lower() == "true") == entry.batch)
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
