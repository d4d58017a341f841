"""Read the bill of some days and keep it, whole or not at all."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from threading import RLock

from openai import OpenAI

from costspan.errors import CostspanError, Rejected, Unavailable
from costspan_collector.store import Store, load_sql
from costspan_reconcile import ledger
from costspan_reconcile.amounts import dollars
from costspan_reconcile.ledger import Kept
from costspan_reconcile.openai_costs import (
    COSTS,
    WITHOUT_KEY,
    Bill,
    admin_client,
    read_api_keys,
    read_bill,
)
from costspan_reconcile.settings import Reconcile
from costspan_reconcile.wire_json import Blocked

ONE_AT_A_TIME = RLock()
"""The pages are one chain, so one reading at a time may add to it."""
_PACKAGE = "costspan_reconcile"
_DAYS_AT_ONCE = 62
"""Held in memory together."""
_RECENT_DAYS = 2
_REFUSED_FOR = timedelta(days=7)
_LATE_AT_MOST = timedelta(days=1)
"""Usage and Costs of a day are there by then, if the day had any."""
_WORTH_AN_ALARM_USD = Decimal("0.01")


class WrongOrganization(Blocked):
    """The bill is another organization's."""

    gate = "BLOCKED_WRONG_ORG"


@dataclass(frozen=True, slots=True)
class Fetched:
    """What one reading of the bill brought."""

    kept: Kept
    failure: CostspanError | None
    notes: tuple[str, ...]
    """What is missing beside the bill itself, and why."""

    def check(self) -> None:
        """Do nothing if the bill was read.

        Raises:
            Unavailable: OpenAI did not answer; the same may work later.
            Rejected: what it answered cannot be used.
        """
        if self.failure is not None:
            msg = f"{self.failure}; what was read before is kept"
            raise (Unavailable if isinstance(self.failure, Unavailable) else Rejected)(msg)


def fetch(
    store: Store,
    settings: Reconcile,
    since: date,
    until: date,
    now: datetime,
    *,
    dry_run: bool = False,
) -> Fetched:
    """Read the bill of the days in `since <= day < until` that have begun, and keep it.

    A long stretch is read in pieces, the newest first, and ends with the first that fails. With
    `dry_run` nothing is kept, and the result says what would be.

    Raises:
        Rejected: there is no admin key, or no such day; the message says what to set.
        Unavailable: the store did not answer.
    """
    until = min(until, now.date() + timedelta(days=1))
    if since >= until:
        msg = f"no day from {since} on has begun before {until}; name an earlier one"
        raise Rejected(msg)
    done: list[Fetched] = []
    with ONE_AT_A_TIME, admin_client(settings) as client:
        for days in _pieces(since, until):
            done.append(_fetch(store, settings, client, days, now, dry_run=dry_run))
            if done[-1].failure is not None:
                break
    return _together(done)


def _pieces(since: date, until: date) -> Iterator[list[date]]:
    while since < until:
        first = max(since, until - timedelta(days=_DAYS_AT_ONCE))
        yield [first + timedelta(days=day) for day in range((until - first).days)]
        until = first


def _together(pieces: Sequence[Fetched]) -> Fetched:
    return Fetched(
        Kept(
            pages=sum(piece.kept.pages for piece in pieces),
            days_read=sum(piece.kept.days_read for piece in pieces),
            days_changed=sum(piece.kept.days_changed for piece in pieces),
            blocked=tuple(reason for piece in pieces for reason in piece.kept.blocked),
        ),
        pieces[-1].failure,
        tuple(dict.fromkeys(note for piece in pieces for note in piece.notes)),
    )


def _fetch(
    store: Store,
    settings: Reconcile,
    client: OpenAI,
    days: Sequence[date],
    now: datetime,
    *,
    dry_run: bool,
) -> Fetched:
    since, until = days[0], days[-1] + timedelta(days=1)
    refused = ledger.refused_groupings(store, since, until, now - _REFUSED_FOR)
    bill = read_bill(client, days, now, refused)
    if bill.costs_failure is None:
        _see_whose(store, settings, bill)
    kept = (ledger.compare_bill if dry_run else ledger.keep_bill)(store, bill)
    notes: list[str] = []
    if bill.costs_failure is None:
        notes += _no_usage(bill)
        if bill.grouped_by[COSTS] == WITHOUT_KEY:
            notes.append("the bill is not split by key: this organization's Costs refuse it")
        if not dry_run:
            notes += _refresh_keys(store, client, bill)
    return Fetched(kept, bill.costs_failure, tuple(notes))


def _no_usage(bill: Bill) -> list[str]:
    missing: defaultdict[str, list[str]] = defaultdict(list)
    for source, error in bill.usage_failures.items():
        missing[str(error).removeprefix(f"{source}: ")].append(source)
    return [f"no usage of {', '.join(sources)}: {why}" for why, sources in missing.items()]


def _refresh_keys(store: Store, client: OpenAI, bill: Bill) -> list[str]:
    """Read the names of the keys where the bill has one that is not known, or on a long look back."""
    known = {key.api_key_id for key in ledger.api_keys(store)}
    billed = {row.api_key_id for day in bill.costs.values() for row in day.rows} - {""}
    if known and billed <= known and len(bill.days) <= _RECENT_DAYS:
        return []
    try:
        keys = read_api_keys(client)
    except CostspanError as error:
        return [f"no names of keys: {error}"]
    ledger.keep_api_keys(store, keys, bill.fetched_at)
    return []


@dataclass(frozen=True, slots=True)
class _Organization:
    organization: str


@dataclass(frozen=True, slots=True)
class _Spent:
    known_from: str
    first_day: date
    last_day: date
    spent_usd: Decimal


def _see_whose(store: Store, settings: Reconcile, bill: Bill) -> None:
    """Refuse the bill of another organization: none of it is ours, its zeros least of all."""
    named = {row.organization for day in bill.costs.values() for row in day.rows} - {""}
    ours = settings.organization or next(
        (
            row.organization
            for row in store.select(load_sql(_PACKAGE, "organization"), _Organization)
        ),
        "",
    )
    if ours and named - {ours}:
        bill.costs_failure = WrongOrganization(
            f"the bill is of {', '.join(sorted(named - {ours}))}, and ours is {ours}; put in an "
            "admin key of ours, or set COSTSPAN_RECONCILE_ORGANIZATION to the one that is meant"
        )
    elif _is_empty(bill):
        spent = store.select(
            load_sql(_PACKAGE, "spent"),
            _Spent,
            since=bill.days[0],
            until=bill.days[-1] + timedelta(days=1),
            there_before=(bill.fetched_at - _LATE_AT_MOST).date(),
            least_usd=_WORTH_AN_ALARM_USD,
        )
        if spent:
            bill.costs_failure = WrongOrganization(
                f"OpenAI bills and counts nothing from {bill.days[0]} to {bill.days[-1]}, but "
                f"{spent[0].known_from} has {dollars(Fraction(spent[0].spent_usd))} from "
                f"{spent[0].first_day} to {spent[0].last_day}; the admin key is of another "
                "organization: put in one of the organization that the calls are made with"
            )


def _is_empty(bill: Bill) -> bool:
    """Return whether OpenAI knows of nothing at all; a day that is only late has usage."""
    return not (
        bill.usage_failures
        or any(day.rows or day.control for day in bill.costs.values())
        or any(rows for usage in bill.usage.values() for rows in usage.values())
    )
