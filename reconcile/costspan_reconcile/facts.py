"""Read what a day is judged by: its bill, OpenAI's own count, and what the spans add up to.

Days come one after the other and some at a time, so a year needs no more memory than a week.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Protocol, TypeVar

from costspan.quantities import part_of
from costspan_collector.store import Store, load_sql
from costspan_reconcile import ledger
from costspan_reconcile.amounts import step
from costspan_reconcile.explain import (
    ALL_KEYS,
    WINDOW,
    DayState,
    Repeated,
    Traffic,
    day_state,
)
from costspan_reconcile.ledger import BilledLine, ProviderUsage, Reading
from costspan_reconcile.line_items import (
    Form,
    LineItem,
    plain_units,
    read_line_item,
    usage_item,
)
from costspan_reconcile.match import Billed, Counted, Estimated
from costspan_reconcile.openai_costs import COSTS, ApiKey
from costspan_reconcile.price_truth import CHANGE_WITHIN, DISCOUNT_WITHIN, Paid, paid_prices
from costspan_reconcile.usage_pages import ENDPOINTS

_PACKAGE = "costspan_reconcile"
_DAYS_AT_ONCE = 14
_SOURCES = frozenset(endpoint.name for endpoint in ENDPOINTS)
_ONE_DAY = timedelta(days=1)


class _OfDay(Protocol):
    @property
    def day(self) -> date: ...


_Dated = TypeVar("_Dated", bound=_OfDay)


@dataclass(frozen=True, slots=True)
class KindOfCall:
    """What the spans of one day, project, key hint, model, tier and context hold, by meter."""

    day: date
    project: str
    key_hint: str
    model: str
    tier: str
    context: str
    priced: bool
    calls: int
    unpriced_calls: int
    counted_calls: int
    unseen_calls: int
    bounded_calls: int
    unseen_input: int
    unseen_output: int
    retries: int
    asked_for: tuple[str, ...]
    quantities: Mapping[str, Decimal]
    calls_by_meter: Mapping[str, int]
    parts_usd: Mapping[str, Decimal]


@dataclass(frozen=True, slots=True)
class _KeySeen:
    day: date
    project: str
    key_hint: str


@dataclass(frozen=True, slots=True)
class _Repeated:
    day: date
    project: str
    key_hint: str
    model: str
    meter: str
    duplicates: Decimal
    failures: Decimal


@dataclass(frozen=True, slots=True)
class _Day:
    day: date


@dataclass(frozen=True, slots=True)
class DayFacts:
    """Everything that was read of one day."""

    day: date
    state: DayState
    settled: bool
    good: Reading | None
    """The newest reading of the bill that can be used."""
    blocked: bool
    reason: str
    """Why the bill is missing or may be old."""
    bill: Sequence[BilledLine]
    usage: Sequence[Reading]
    counts: Sequence[ProviderUsage]
    kinds: Sequence[KindOfCall]

    @property
    def keyed(self) -> bool:
        """Return whether the bill is split by key."""
        return self.good is not None and "api_key_id" in self.good.grouped_by

    @property
    def counts_all(self) -> bool:
        """Return whether OpenAI's own count is there of everything, so that no use is missing in it."""
        return _SOURCES <= {reading.source for reading in self.usage}

    @property
    def is_awaited(self) -> bool:
        """Return that there was use, and that its bill may still come."""
        return not self.settled and not self.bill and bool(self.counts or self.kinds)

    def sha256(self) -> str:
        """Return the hash of what was read, whatever the time."""
        content = (
            self.good and (self.good.content_sha256, self.good.grouped_by),
            [(reading.source, reading.content_sha256) for reading in self.usage],
            self.kinds,
        )
        return hashlib.sha256(repr(content).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Facts:
    """What was read for a stretch of days, and of the days around them."""

    store: Store
    readings: Mapping[tuple[str, date], Sequence[Reading]]
    keys: "Keys"
    paid: Sequence[Paid]
    """What was paid for a unit, in the months around the days."""
    locked: frozenset[date]
    """Days of months that are in the books."""
    dropped: frozenset[date]
    """Days whose calls are gone."""

    @property
    def days(self) -> list[date]:
        """Return the days whose bill was ever asked for."""
        return sorted(day for source, day in self.readings if source == COSTS)

    def of_days(self, since: date, until: date, now: datetime) -> Iterator[DayFacts]:
        """Yield the facts of each day in `since <= day < until`."""
        while since < until:
            end = min(since + _DAYS_AT_ONCE * _ONE_DAY, until)
            yield from self._some_days(since, end, now)
            since = end

    def _some_days(self, since: date, until: date, now: datetime) -> Iterator[DayFacts]:
        # The zero of a line that vanished would be taken for a price, and match what is gone.
        billed_lines = ledger.billed_lines(self.store, since, until)
        bill = by_day(line for line in billed_lines if not line.vanished)
        counts = by_day(ledger.provider_usage(self.store, since, until))
        kinds = by_day(
            self.store.select(load_sql(_PACKAGE, "estimates"), KindOfCall, since=since, until=until)
        )
        for number in range((until - since).days):
            day = since + number * _ONE_DAY
            yield self._day(day, now, bill.get(day, []), counts.get(day, []), kinds.get(day, []))

    def _day(
        self,
        day: date,
        now: datetime,
        bill: Sequence[BilledLine],
        counts: Sequence[ProviderUsage],
        kinds: Sequence[KindOfCall],
    ) -> DayFacts:
        costs = self.readings.get((COSTS, day), [])
        good = [reading for reading in costs if reading.status == "ok"]
        usage = [
            count
            for (source, of), readings in sorted(self.readings.items())
            if of == day and source != COSTS and (count := _count_beside(good, readings))
        ]
        sources = {reading.source for reading in usage}
        state, settled = day_state(
            day, now, [(reading.fetched_at, reading.content_sha256) for reading in good]
        )
        blocked, reason = _standing(costs, good)
        return DayFacts(
            day,
            state,
            settled,
            good[-1] if good else None,
            blocked,
            reason,
            bill if good else (),
            usage,
            [row for row in counts if row.source in sources],
            kinds,
        )

    def repeated(self, day: date) -> dict[tuple[str, str, LineItem], Repeated]:
        """Return what the spans of a day hold that was surely not billed."""
        sql = load_sql(_PACKAGE, "repeated")
        found: dict[tuple[str, str, LineItem], Repeated] = {}
        for row in self.store.select(sql, _Repeated, since=day, until=day + _ONE_DAY):
            place = (
                *self.keys.name(row.project, row.key_hint),
                metered_item(row.model, row.meter, "", "short").product.family,
            )
            before = found.get(place, Repeated(Fraction(0), Fraction(0)))
            found[place] = Repeated(
                before.duplicates + Fraction(row.duplicates),
                before.failures + Fraction(row.failures),
            )
        return found


class Keys:
    """The keys that OpenAI lists, and those that spans carry within a week of a day."""

    def __init__(self, listed: Sequence[ApiKey], seen: Iterable[_KeySeen]) -> None:
        self.listed = listed
        self.names = {key.api_key_id: key.name for key in listed}
        self._named: dict[tuple[str, str], tuple[str, str]] = {}
        self._seen: defaultdict[date, set[tuple[str, str]]] = defaultdict(set)
        for row in seen:
            self._seen[row.day].add((row.project, row.key_hint))

    def name(self, project: str, hint: str) -> tuple[str, str]:
        """Return the project and id of the one key that a span's hint can mean; id '' if not one."""
        if (project, hint) not in self._named:
            self._named[project, hint] = name_key(project, hint, self.listed)
        return self._named[project, hint]

    def around(self, day: date) -> tuple[frozenset[tuple[str, str]], Mapping[str, tuple[str, ...]]]:
        """Return the keys that spans carry around a day, and the hints that name no single one."""
        instrumented: set[tuple[str, str]] = set()
        unnamed: defaultdict[str, set[str]] = defaultdict(set)
        for away in range(-WINDOW.days, WINDOW.days + 1):
            for project_seen, hint in self._seen.get(day + away * _ONE_DAY, ()):
                project, key = self.name(project_seen, hint)
                if key:
                    instrumented.add((project, key))
                elif project:
                    unnamed[project].add(hint or "(none)")
        return (
            frozenset(instrumented),
            {project: tuple(sorted(unnamed[project])) for project in sorted(unnamed)},
        )


def read_facts(store: Store, since: date, until: date) -> Facts:
    """Return what is needed to judge the days in `since <= day < until`.

    The days before and after are not judged, but calls at midnight may be on their bill.
    """
    readings: defaultdict[tuple[str, date], list[Reading]] = defaultdict(list)
    for reading in ledger.readings(store, since - _ONE_DAY, until + _ONE_DAY):
        readings[reading.source, reading.day].append(reading)
    seen = store.select(
        load_sql(_PACKAGE, "keys_seen"), _KeySeen, since=since - WINDOW, until=until + WINDOW
    )
    return Facts(
        store,
        readings,
        Keys(ledger.api_keys(store), seen),
        paid_prices(store, since - CHANGE_WITHIN, until + DISCOUNT_WITHIN),
        _days(store, "locked_days", since, until),
        _days(store, "dropped_days", since - _ONE_DAY, until + _ONE_DAY),
    )


def _days(store: Store, name: str, since: date, until: date) -> frozenset[date]:
    rows = store.select(load_sql(_PACKAGE, name), _Day, since=since, until=until)
    return frozenset(row.day for row in rows)


def name_key(project: str, hint: str, keys: Sequence[ApiKey]) -> tuple[str, str]:
    """Return the project and id of the one key that a span's hint can mean; id '' if not one."""
    fitting = [
        key for key in keys if key.hint and hint.endswith(key.hint) and project in {"", key.project}
    ]
    if hint and len(fitting) == 1:
        return fitting[0].project, fitting[0].api_key_id
    return project, ""


def billed(line: BilledLine) -> Billed:
    """Return a line of the bill, read."""
    item = read_line_item(line.line_item, line.quantity_unit)
    quantity, unit = plain_units(item, line.quantity, line.quantity_unit)
    terms = line.amount.split(" + ") if "-" in line.amount and " + " in line.amount else ()
    negative = [Fraction(term) for term in terms if term.startswith("-")]
    return Billed(
        line.project,
        line.api_key_id,
        line.line_item,
        item,
        Fraction(line.amount_usd),
        quantity,
        unit,
        step(sum(negative, Fraction(0))),
        strange_unit=line.quantity is not None and quantity is None,
    )


def estimated(kinds: Iterable[KindOfCall], keys: Keys) -> Iterator[Estimated]:
    """Yield what the spans hold of each product. Every dollar of an estimate is in one of them."""
    for kind in kinds:
        project, key = keys.name(kind.project, kind.key_hint)
        names: defaultdict[str, list[str]] = defaultdict(list)
        for name in kind.quantities:
            names[part_of(name)].append(name)
        for part in {**names, **dict.fromkeys(kind.parts_usd)}:
            counted = names.get(part, [])
            calls = sum(kind.calls_by_meter[name] for name in counted) or kind.calls
            quantity = sum((Fraction(kind.quantities[name]) for name in counted), Fraction(0))
            known = quantity if counted else None
            worker, _, meter = (counted[0] if counted else part).rpartition("/")
            model = worker.partition("/")[2] or kind.model
            yield Estimated(
                project,
                key,
                metered_item(model, meter, kind.tier, kind.context),
                calls,
                0 if kind.priced else calls,
                known,
                known if kind.priced else (None if known is None else 0),
                Fraction(kind.parts_usd.get(part, 0)) if kind.priced else None,
            )


_METERS = {
    "input": ("text", "input"),
    "cached_input": ("text", "cached_input"),
    "cache_write_30m": ("text", "cache_write"),
    "cache_write_12h": ("text", "cache_write"),
    "decision_input": ("text", "input"),
    "output": ("text", "output"),
    "audio_input": ("audio", "input"),
    "cached_audio_input": ("audio", "cached_input"),
    "audio_output": ("audio", "output"),
    "image_input": ("image", "input"),
    "cached_image_input": ("image", "cached_input"),
    "image_output": ("image", "output"),
}
_SERVICES = {
    "web_search": "web search",
    "web_search_preview": "web search",
    "file_search": "file search",
}


def metered_item(model: str, meter: str, tier: str, context: str) -> LineItem:
    """Return the product that a meter of a call is of."""
    if meter in _METERS:
        modality, kind = _METERS[meter]
        return usage_item(model, kind, modality=modality, tier=tier, context=context)
    if meter in _SERVICES:
        return LineItem(Form.SERVICE, _SERVICES[meter])
    if meter == "audio_seconds" and model.startswith("whisper"):
        return LineItem(Form.SERVICE, "transcription")
    return LineItem(Form.UNCLASSIFIED, f"{model}, {meter}")


_DRIVERS = {
    ("web_search_calls", "requests"): "web search",
    ("file_search_calls", "requests"): "file search",
    ("audio_transcriptions", "seconds"): "transcription",
    ("vector_stores", "usage_bytes"): "vector storage",
}
"""What OpenAI counts of a service, by endpoint and kind."""
_AGENTS = "agents_api"


def counted(rows: Iterable[ProviderUsage]) -> Iterator[Counted]:
    """Yield what OpenAI counted of each product."""
    for row in rows:
        service = _DRIVERS.get((row.source, row.kind))
        if service:
            item = LineItem(Form.SERVICE, service)
        elif row.modality:
            tier = "batch" if row.batch else row.service_tier
            item = usage_item(row.model, row.kind, modality=row.modality, tier=tier)
        else:
            continue
        yield Counted(
            row.project, row.api_key_id, item, row.quantity, by_agents=row.api_source == _AGENTS
        )


def traffic(
    kinds: Sequence[KindOfCall], counts: Iterable[ProviderUsage], keys: Keys
) -> dict[tuple[str, str, str], Traffic]:
    """Return the calls and requests by project, key and family of the model.

    A call that ended early names only the model that was asked for; what answers to that name
    is known from the other calls.
    """
    answers: defaultdict[str, set[str]] = defaultdict(set)
    for kind in kinds:
        if kind.counted_calls:
            for asked in kind.asked_for:
                answers[asked].add(_family(kind.model))
    found: defaultdict[tuple[str, str, str], Traffic] = defaultdict(Traffic)

    def add(project: str, key: str, model: str, more: Traffic) -> None:
        found[project, key, model] += more
        found[project, ALL_KEYS, model] += more

    for kind in kinds:
        if not kind.counted_calls and not kind.unseen_calls:
            continue
        known = answers.get(kind.model, set()) if not kind.counted_calls else set[str]()
        model = next(iter(known)) if len(known) == 1 else _family(kind.model)
        made = Traffic(
            kind.counted_calls,
            kind.unseen_calls,
            kind.bounded_calls,
            kind.unseen_input,
            kind.unseen_output,
            kind.retries,
        )
        add(*keys.name(kind.project, kind.key_hint), model, made)
    for row in counts:
        if row.kind == "requests" and row.model and row.source not in _SERVICE_ENDPOINTS:
            requests = Traffic(requests=row.quantity)
            add(row.project, row.api_key_id, _family(row.model), requests)
    return dict(found)


_SERVICE_ENDPOINTS = frozenset(source for source, _ in _DRIVERS) - {"audio_transcriptions"}
"""Their requests are not those of a model."""


def _family(model: str) -> str:
    return usage_item(model, "input").model


def _standing(costs: Sequence[Reading], good: Sequence[Reading]) -> tuple[bool, str]:
    """Return whether there is no answer to judge by, and why the bill may be old."""
    if not costs or costs[-1].status == "ok":
        return False, ""
    last = costs[-1]
    earlier = (
        f"; the bill of {good[-1].fetched_at:%Y-%m-%d %H:%M} UTC is kept"
        if good
        else "; there is no earlier bill"
    )
    return last.status == "blocked" or not good, last.reason + earlier


def _count_beside(bill: Sequence[Reading], counts: Sequence[Reading]) -> Reading | None:
    """Return the newest good count, None where the bill changed after it: that may hold more."""
    newest = next((count for count in reversed(counts) if count.status == "ok"), None)
    if newest is None or not bill:
        return newest
    stands_since = next(
        reading.fetched_at
        for reading in bill
        if reading.revision_fetch_id == bill[-1].revision_fetch_id
    )
    return newest if newest.fetched_at >= stands_since else None


def by_day(rows: Iterable[_Dated]) -> dict[date, list[_Dated]]:
    """Return the rows of each day, in their order."""
    found: dict[date, list[_Dated]] = {}
    for row in rows:
        found.setdefault(row.day, []).append(row)
    return found
