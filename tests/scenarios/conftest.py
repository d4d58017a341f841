"""Drives the product over simulated organizations: real HTTP, real engine, and a truth to compare.

A scenario adds calls to the ledger of a local OpenAI, says how a shim saw them, and lets the
product fetch and reconcile as a user would. What it expects is computed from the ledger and from
the price list of the simulator, never from what the product says.

`COSTSPAN_SEEDS=5` runs seeds 1 to 5 of every scenario; `COSTSPAN_SEEDS=12,99` runs those.
"""

import os
import socket
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Context, Decimal
from random import Random
from typing import Any

import pytest
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send

from costspan_collector.listening import running
from costspan_collector.normalise import normalise
from costspan_collector.store import Store
from costspan_demo import organization_api, refusal
from costspan_demo.bill import charges, total, used_usd
from costspan_demo.ledger import Charge, Entry, Ledger, Terms, VectorStore
from costspan_demo.organization import Key, organization
from costspan_demo.spans import Sight, request_of
from costspan_demo.wire import Wire
from costspan_reconcile.allocate.runs import allocate_days
from costspan_reconcile.fetch import fetch
from costspan_reconcile.period.month import Month
from costspan_reconcile.period.settle import settle
from costspan_reconcile.reconcile import reconcile_days
from costspan_reconcile.settings import Reconcile

EXACT = Context(prec=120)
SAME = Decimal("1e-12")
ROUNDING_USD = Decimal("1e-6")

MINI, GPT_41 = "gpt-4o-mini-2024-07-18", "gpt-4.1-2025-04-14"
SMALL_54, GPT_55 = "gpt-5.4-mini-2026-03-17", "gpt-5.5-2026-04-23"
ASKED_FOR = {
    MINI: "gpt-4o-mini",
    GPT_41: "gpt-4.1",
    SMALL_54: "gpt-5.4-mini",
    GPT_55: "gpt-5.5",
}
"""What apps ask for, by what answers."""
EMBEDDING = "text-embedding-3-small"


@dataclass(frozen=True, slots=True)
class DayRow:
    """What the product says of a day."""

    day: date
    day_state: str
    verdict: str
    reason: str
    billed_usd: Decimal | None
    estimated_usd: Decimal


@dataclass(frozen=True, slots=True)
class LineRow:
    """What the product says of a line."""

    day: date
    project: str
    api_key_id: str
    line_item: str
    match_level: str
    billed_usd: Decimal
    cause: str
    verdict: str
    explanation: str


@dataclass(frozen=True, slots=True)
class PartRow:
    """A class of a line and its dollars."""

    day: date
    project: str
    api_key_id: str
    line_item: str
    component: str
    cause: str
    amount_usd: Decimal


@dataclass(frozen=True, slots=True)
class ShareRow:
    """What a party was billed of a line."""

    day: date
    project: str
    api_key_id: str
    line_item: str
    kind: str
    team: str
    feature: str
    user: str
    amount_usd: Decimal


@dataclass(frozen=True, slots=True)
class Adjustment:
    """What the open month owes for a locked one."""

    month: date
    original_month: date
    day: date
    line_item: str
    amount_usd: Decimal


@dataclass(frozen=True, slots=True)
class Text:
    """An amount as it was sent."""

    amount: str


@dataclass(frozen=True, slots=True)
class Revision:
    """A revision of a day's bill."""

    day: date
    revision: int
    content_sha256: str


@dataclass(frozen=True, slots=True)
class Said:
    """All that the product says at one moment."""

    days: dict[date, DayRow]
    lines: list[LineRow]
    parts: list[PartRow]
    shares: list[ShareRow]
    revisions: dict[date, Revision]


_DAYS = """
SELECT day, toString(day_state) AS day_state, verdict, reason, billed_usd, estimated_usd
FROM current_recon_days ORDER BY day
"""
_LINES = """
SELECT day, project, api_key_id, line_item, match_level, billed_usd, cause, verdict, explanation
FROM current_recon_lines ORDER BY ALL
"""
_PARTS = """
SELECT day, project, api_key_id, line_item, component, cause, amount_usd
FROM current_recon_components ORDER BY ALL
"""
_SHARES = """
SELECT
    day, project, api_key_id, line_item, toString(kind) AS kind, team, feature, user, amount_usd
FROM current_allocations ORDER BY ALL
"""
_REVISIONS = """
SELECT day, max(revision) AS revision, argMax(content_sha256, fetched_at) AS content_sha256
FROM billing_days WHERE source = 'costs' AND status = 'ok' GROUP BY day ORDER BY day
"""
_ADJUSTMENTS = """
SELECT month, original_month, day, line_item, amount_usd FROM adjustments ORDER BY ALL
"""
_CLOSED = {"MATCHED", "EXPLAINED", "REVIEW"}


class Stage:
    """One HTTP server for all scenarios; each puts its own organization behind it."""

    def __init__(self) -> None:
        self.app = Starlette()
        self.url = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    made = Stage()
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        running(Starlette(routes=[Mount("/", app=made)]), listener) as url,
    ):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else 40 ms an answer
        made.url = url
        yield made


class World:
    """An organization, what it did, what was seen of it, and the product beside it."""

    Text = Text

    def __init__(self, seed: int, store: Store, stage: Stage) -> None:
        self.seed, self.store = seed, store
        self.random = Random(seed)  # noqa: S311
        self.now = datetime(2026, 11, 20, 12, tzinfo=UTC)
        self.organization = organization(seed)
        self.ledger = Ledger(self.organization, self.now)
        self.wire = Wire(
            amounts=self.random.choice(["padded", "text", "exponent"]),
            extra_fields=self.random.random() < 0.7,
            zero_rows=self.random.random() < 0.5,
            counts_services=self.random.random() < 0.3,
            shuffled=seed,
        )
        self.sights: list[Sight] = []
        self.days_read = 6
        self._stored = 0
        self._requests = 0
        self.settings = Reconcile(
            admin_key=SecretStr(self.organization.admin_secret), base_url=f"{stage.url}/v1"
        )
        routes = organization_api.routes(self.ledger, lambda: self.now, lambda: self.wire)
        stage.app = Starlette(routes=routes, exception_handlers={refusal.Refusal: refusal.answer})

    # What happened.

    @property
    def today(self) -> date:
        """The day that is still open."""
        return self.now.date()

    def ago(self, days: int) -> date:
        """Return a closed day."""
        return self.today - timedelta(days=days)

    @staticmethod
    def midnight(day: date) -> datetime:
        """Return the moment a day begins."""
        return datetime.combine(day, time(), UTC)

    def key(self, name: str) -> Key:
        """Return a key of the organization."""
        return self.organization.key(name)

    def agree(self, **terms: Any) -> None:
        """Give the organization other terms."""
        self.ledger.terms = Terms(**terms)

    def keep_files(self, project: str, size: int) -> None:
        """Have a project store files from the first day on."""
        self.ledger.stores = (VectorStore(project, size),)

    def call(
        self, key: str, model: str, day: date, *, seen: bool = True, see: Any = None, **truth: Any
    ) -> Entry:
        """Make one call. `see` has the fields of the sight that are not as usual."""
        entry = self.entry(key, model, day, **truth)
        if seen:
            self.see(entry, **(see or {}))
        return entry

    def entry(self, key: str, model: str, day: date, **truth: Any) -> Entry:
        """Put one call into the ledger that no span tells of."""
        self._requests += 1
        embeds = model == EMBEDDING
        read = self.random.randint(60_000, 200_000)
        can_cache = not embeds and self.random.random() < 0.5
        fields: dict[str, Any] = {
            "request_id": f"req_{self.seed}_{self._requests}",
            "key": self.key(key),
            "model": model,
            # Not in the last hours, so that the open day can have calls at noon.
            "at": datetime.combine(day, time(), UTC)
            + timedelta(seconds=self.random.randint(3600, 40_000)),
            "duration": timedelta(milliseconds=self.random.randint(300, 20_000)),
            "endpoint": "embeddings" if embeds else "completions",
            "input_tokens": read,
            "cached_tokens": read // 2 // 128 * 128 if can_cache else 0,
            "output_tokens": 0 if embeds else self.random.randint(2_000, 16_000),
        }
        entry = Entry(**{**fields, **truth})
        self.ledger.add(entry)
        return entry

    def see(self, entry: Entry, **fields: Any) -> None:
        """Have a shim write a span of `entry`."""
        usual: dict[str, Any] = {
            "entry": entry,
            "model": ASKED_FOR.get(entry.model, entry.model),
            "feature": self.random.choice(["search", "chat", "agent"]),
            "user": f"user-{self.random.randint(1, 9)}",
            "tier": "" if entry.endpoint == "embeddings" else "default",
        }
        self.sights.append(Sight(**{**usual, **fields}))

    def traffic(self, *days: date, calls: int = 4) -> list[Entry]:
        """Make ordinary calls, seen and priced right; on the open day too."""
        return [
            self.call(key, model, day)
            for day in (*days, self.today)
            for key, model in (
                ("shop-backend", MINI),
                ("shop-backend", EMBEDDING),
                ("support-desk", GPT_41),
                ("agent-runner", SMALL_54),
                ("agent-runner", GPT_55),
            )
            for _ in range(calls)
        ]

    def charge(
        self,
        line_item: str,
        day: date,
        usd: str | Decimal,
        *,
        project: str | None,
        key: str | None = None,
        since: datetime | None = None,
        quantity: int | None = None,
    ) -> Decimal:
        """Put something on the bill that no call made; return its dollars."""
        fee = Charge(
            day, project, key, line_item, quantity, "tokens" if quantity else None, Decimal(usd)
        )
        self.ledger.charge(fee, since or datetime.min.replace(tzinfo=UTC))
        return fee.usd

    def usd(self, entries: Iterable[Entry]) -> Decimal:
        """Return what the organization really pays for `entries`."""
        return used_usd(self.ledger, entries)

    def billed(self, day: date) -> Decimal:
        """Return the bill of a day as it is published now."""
        bill = charges(self.ledger, self.wire, self.now)
        return total(charge for charge in bill if charge.day == day)

    def month_billed(self, month: Month) -> Decimal:
        """Return the bill of a month."""
        bill = charges(self.ledger, self.wire, self.now)
        return total(charge for charge in bill if charge.day in month.days)

    def cents(self, month: Month) -> Decimal:
        """Return what an invoice asks for the bill of a month."""
        return self.month_billed(month).quantize(Decimal("0.01"))

    def project(self, key: str) -> str:
        """Return the project of a key."""
        return self.key(key).project

    # What the product makes of it.

    def store_spans(self) -> None:
        """Have the collector's own reader turn the spans into rows."""
        new = self.sights[self._stored :]
        self._stored = len(self.sights)
        if new:
            read = normalise(request_of(new), received_at=self.now, ingest_id=self._stored)
            assert not read.refused, read.refused
            self.store.insert("calls", read.calls)

    def reconcile(self) -> None:
        """Fetch, compare and share out at `now`; months are settled where a test is about them."""
        self.store_spans()
        until = self.today + timedelta(days=1)
        since = until - timedelta(days=self.days_read)
        fetch(self.store, self.settings, since, until, self.now)
        reconcile_days(self.store, since, until, self.now)
        allocate_days(self.store, since, until, self.now)

    def days(self) -> dict[date, DayRow]:
        """Return what it says of each day."""
        return {row.day: row for row in self.store.select(_DAYS, DayRow)}

    def lines(self, day: date) -> list[LineRow]:
        """Return its lines of a day."""
        return [row for row in self.store.select(_LINES, LineRow) if row.day == day]

    def parts(self) -> list[PartRow]:
        """Return every class of every line."""
        return self.store.select(_PARTS, PartRow)

    def classes(self, day: date) -> dict[str, Decimal]:
        """Return the dollars of a day by class, `TIER_MISMATCH(flex)` under TIER_MISMATCH."""
        return _by_class(self.parts()).get(day, {})

    def said(self, day: date, cause: str) -> str:
        """Return everything that is said of the lines of a class."""
        named = [row for row in self.parts() if row.day == day and row.cause.startswith(cause)]
        places = {(row.project, row.api_key_id, row.line_item) for row in named}
        said = [row.cause for row in named] + [
            row.explanation
            for row in self.lines(day)
            if (row.project, row.api_key_id, row.line_item) in places
        ]
        return " ".join(said)

    def everything_of(self, month: Month) -> tuple[Any, ...]:
        """Return all that is said of the days of a month, and who was billed what."""
        said = self.everything()
        days = {day: row for day, row in said.days.items() if day in month.days}
        rows = (said.lines, said.parts, said.shares)
        return days, *([row for row in some if row.day in days] for some in rows)

    def adjustments(self) -> list[Adjustment]:
        """Return what is booked for locked months."""
        return self.store.select(_ADJUSTMENTS, Adjustment)

    def settle_months(self) -> None:
        """Do what is due for the months after a run."""
        settle(self.store, self.now)

    def revisions(self) -> dict[date, Revision]:
        """Return the newest good revision of each day's bill."""
        return {row.day: row for row in self.store.select(_REVISIONS, Revision)}

    # What it should be.

    def expect(
        self,
        verdicts: Mapping[date, str],
        classes: Mapping[date, Mapping[str, Decimal]] | None = None,
    ) -> None:
        """Compare every day: one that is not named has to be MATCHED, with nothing in any class.

        A class may be `ONE|OTHER` where the study leaves open which of them holds the dollars.
        """
        said = self.everything()
        of_classes = _by_class(said.parts)
        lines = Counter(line.day for line in said.lines)
        for day, row in said.days.items():
            wanted = verdicts.get(day, "OPEN" if day == self.today else "MATCHED")
            assert row.verdict in wanted.split("|"), (day, row, of_classes.get(day))
            if day == self.today:
                continue
            self._expect_classes(
                day, of_classes.get(day, {}), (classes or {}).get(day, {}), lines[day]
            )
        assert set(verdicts) <= set(said.days)
        self.check_properties(said)

    @staticmethod
    def _expect_classes(
        day: date, found: Mapping[str, Decimal], wanted: Mapping[str, Decimal], lines: int
    ) -> None:
        """Compare the dollars of each class of a day with the truth."""
        left = dict(found)
        if abs(left.get("ROUNDING", Decimal(0))) <= ROUNDING_USD * max(1, lines):
            left.pop("ROUNDING", None)
        for names, usd in wanted.items():
            got = sum((left.pop(name, Decimal(0)) for name in names.split("|")), Decimal(0))
            assert abs(EXACT.subtract(got, usd)) <= SAME, (day, names, got, usd, found)
        assert not {name: usd for name, usd in left.items() if abs(usd) > SAME}, (day, wanted)

    def check_properties(self, said: Said | None = None) -> None:
        """Check what has to hold in every scenario, whatever was injected."""
        said = said or self.everything()
        self.check_sums(said)
        self.wire = replace(self.wire, shuffled=self.seed + 1000)
        self.reconcile()
        assert self.everything() == said, "the same rows in another order"

    def check_sums(self, said: Said | None = None) -> None:
        """Check that every dollar of the bill is there, and of every difference in one class."""
        said = said or self.everything()
        billed: defaultdict[date, list[Charge]] = defaultdict(list)
        for charge in charges(self.ledger, self.wire, self.now):
            billed[charge.day].append(charge)
        for day, row in said.days.items():
            parts = [part for part in said.parts if part.day == day]
            classed = Decimal(0)
            for part in parts:
                classed = EXACT.add(classed, part.amount_usd)
            if row.billed_usd is not None:
                assert classed == EXACT.subtract(row.billed_usd, row.estimated_usd), (day, row)
            if day >= self.today:
                assert (row.day_state, row.verdict) in {("OPEN", "OPEN"), ("OPEN", "BLOCKED")}
                assert {part.cause for part in parts} <= {"OPEN"}
            elif row.verdict in _CLOSED:
                assert row.billed_usd == total(billed[day]), (day, row)
        self._check_shares(said)

    @staticmethod
    def _check_shares(said: Said) -> None:
        """Check that each line's dollars were shared out, all of them and no more."""
        shared: defaultdict[tuple[date, str, str, str], Decimal] = defaultdict(Decimal)
        for share in said.shares:
            place = (share.day, share.project, share.api_key_id, share.line_item)
            shared[place] = EXACT.add(shared[place], share.amount_usd)
        days = {day for day, row in said.days.items() if row.verdict in _CLOSED}
        billed = {
            (line.day, line.project, line.api_key_id, line.line_item): line.billed_usd
            for line in said.lines
            if line.day in days and line.billed_usd
        }
        found = {place: usd for place, usd in shared.items() if place[0] in days and usd}
        assert found == billed

    def everything(self) -> Said:
        """Return all that is said now."""
        return Said(
            self.days(),
            self.store.select(_LINES, LineRow),
            self.parts(),
            self.store.select(_SHARES, ShareRow),
            self.revisions(),
        )


def _by_class(parts: Iterable[PartRow]) -> dict[date, dict[str, Decimal]]:
    found: defaultdict[date, defaultdict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    for row in parts:
        name = row.cause.partition("(")[0]
        found[row.day][name] = EXACT.add(found[row.day][name], row.amount_usd)
    return {
        day: {name: usd for name, usd in classes.items() if usd} for day, classes in found.items()
    }


def _seeds() -> list[int]:
    asked = os.environ.get("COSTSPAN_SEEDS", "1")
    if "," in asked:
        return [int(seed) for seed in asked.split(",") if seed]
    return list(range(1, int(asked) + 1))


@pytest.fixture(params=_seeds(), ids=lambda seed: f"seed{seed}")
def world(request: pytest.FixtureRequest, store: Store, stage: Stage) -> World:
    """An organization that has done nothing yet."""
    return World(request.param, store, stage)
