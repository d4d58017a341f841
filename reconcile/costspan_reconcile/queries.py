"""The reconciliation as it stands: what the page and `costspan reconcile show` read."""

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from costspan_collector.store import Store, load_sql

_PACKAGE = "costspan_reconcile"
ALL = 2**32 - 1
"""Lines, where none is to be left out."""


@dataclass(frozen=True, slots=True)
class DayRow:
    """A reconciled day. `billed_usd` is None where no bill of it can be trusted."""

    day: date
    day_state: str
    verdict: str
    reason: str
    billed_usd: Decimal | None
    estimated_usd: Decimal
    coverage_usd: Decimal | None
    metering_usd: Decimal | None
    rate_usd: Decimal | None
    unsplit_usd: Decimal | None
    captured_usd: Decimal | None
    """Of the billed dollars, those that spans account for."""
    calls: int
    unpriced_calls: int
    read_at: datetime | None


@dataclass(frozen=True, slots=True)
class ProjectRow:
    """A project over the closed days."""

    project: str
    name: str
    billed_usd: Decimal
    estimated_usd: Decimal
    coverage_usd: Decimal
    metering_usd: Decimal
    rate_usd: Decimal
    unsplit_usd: Decimal
    captured_usd: Decimal


@dataclass(frozen=True, slots=True)
class LineItemRow:
    """A line item over the closed days."""

    line_item: str
    billed_usd: Decimal
    estimated_usd: Decimal
    coverage_usd: Decimal
    metering_usd: Decimal
    rate_usd: Decimal
    unsplit_usd: Decimal
    causes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LineRow:
    """One product of one project and key on one day."""

    day: date
    project: str
    api_key_id: str
    key_name: str
    line_item: str
    match_level: str
    billed_usd: Decimal
    billed_quantity: Decimal | None
    quantity_unit: str
    usage_quantity: Decimal | None
    estimated_quantity: Decimal | None
    unit_price_usd: Decimal | None
    estimated_usd: Decimal | None
    calls: int
    unpriced_calls: int
    coverage_usd: Decimal | None
    metering_usd: Decimal | None
    rate_usd: Decimal | None
    unsplit_usd: Decimal | None
    cause: str
    verdict: str
    day_state: str
    explanation: str


@dataclass(frozen=True, slots=True)
class ClassRow:
    """The dollars of one class on one day."""

    day: date
    cause: str
    amount_usd: Decimal


@dataclass(frozen=True, slots=True)
class LineClass:
    """The dollars of one class in one line of a day."""

    project: str
    api_key_id: str
    line_item: str
    component: str
    cause: str
    amount_usd: Decimal


@dataclass(frozen=True, slots=True)
class UninstrumentedKey:
    """A key that is billed and that no span carries."""

    project: str
    api_key_id: str
    key_name: str
    project_name: str
    amount_usd: Decimal
    first_day: date
    last_day: date


def recon_days(store: Store, since: date, until: date) -> list[DayRow]:
    """Return the reconciled days in `since <= day < until`, newest first."""
    return store.select(load_sql(_PACKAGE, "recon_days"), DayRow, since=since, until=until)


def recon_projects(store: Store, since: date, until: date) -> list[ProjectRow]:
    """Return the projects, most billed first."""
    return store.select(load_sql(_PACKAGE, "recon_projects"), ProjectRow, since=since, until=until)


def recon_line_items(store: Store, since: date, until: date) -> list[LineItemRow]:
    """Return the line items, most billed first."""
    sql = load_sql(_PACKAGE, "recon_line_items")
    return store.select(sql, LineItemRow, since=since, until=until)


def recon_lines(store: Store, since: date, until: date, most: int = 1000) -> list[LineRow]:
    """Return at most `most` lines, the largest difference first."""
    sql = load_sql(_PACKAGE, "recon_lines")
    return store.select(sql, LineRow, since=since, until=until, most=most)


def recon_classes(store: Store, since: date, until: date) -> list[ClassRow]:
    """Return the dollars of each class by day."""
    return store.select(load_sql(_PACKAGE, "recon_classes"), ClassRow, since=since, until=until)


def line_classes(store: Store, day: date) -> list[LineClass]:
    """Return the classes of every line of a day."""
    return store.select(load_sql(_PACKAGE, "line_classes"), LineClass, day=day)


def uninstrumented_keys(store: Store, since: date, until: date) -> list[UninstrumentedKey]:
    """Return the keys that are billed and that no span carries, most dollars first."""
    sql = load_sql(_PACKAGE, "uninstrumented_keys")
    return store.select(sql, UninstrumentedKey, since=since, until=until)
