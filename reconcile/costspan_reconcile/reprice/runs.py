"""One run: what it would change, the change itself, and the way back.

The prices before and after are written down first, then the audit log says that the run started,
then the calls follow day by day. So a run that was killed is finished by starting it again, and
every run can be taken back.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Any
from uuid import UUID, uuid4

from costspan.errors import CostspanError, Rejected
from costspan.money import plain
from costspan.pricing import Book
from costspan_collector.store import Store, load_sql
from costspan_reconcile.reprice.rates import Kind, rates, thresholds

_PACKAGE = "costspan_reconcile.reprice"
_ACTIONS = "reprice."
STARTED, APPLIED, UNDONE = "started", "applied", "undone"


@dataclass(frozen=True, slots=True)
class Scope:
    """Which calls: those that began on the UTC days in `since <= day < until`, of some models."""

    since: date
    until: date
    models: tuple[str, ...] = ()
    """Globs, of which one must fit; none means all."""

    def covers(self, model: str, book: Book) -> bool:
        """Return whether calls of `model` are meant."""
        names = {model, book.canonical(model) or model}
        return not self.models or any(
            fnmatchcase(name, glob) for name in names for glob in self.models
        )


@dataclass(frozen=True, slots=True)
class Difference:
    """What the calls of one day, model and team cost before and after. None: none has a price."""

    day: date
    model: str
    team: str
    calls: int
    changed_calls: int
    newly_priced_calls: int
    no_longer_priced_calls: int
    untouched_calls: int
    """Calls whose cost came without a price book, or without all that it is made of."""
    old_usd: Decimal | None
    new_usd: Decimal | None
    old_list_usd: Decimal | None
    new_list_usd: Decimal | None

    @property
    def difference_usd(self) -> Decimal:
        """Return what the sum of the known prices changes by."""
        return (self.new_usd or Decimal(0)) - (self.old_usd or Decimal(0))


@dataclass(frozen=True, slots=True)
class Run:
    """A run as the audit log tells it."""

    run_id: UUID
    scope: Scope
    book: str
    """The version of the price book, negotiated prices included."""
    overrides: tuple[str, ...]
    state: str
    started_at: datetime
    actor: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run changes, or changed. `run` is None where nothing was kept."""

    run: Run | None
    book: str
    """The version of the price book."""
    differences: tuple[Difference, ...]

    @property
    def changed_calls(self) -> int:
        """Return how many calls get another price."""
        return sum(row.changed_calls for row in self.differences)


@dataclass(frozen=True, slots=True)
class _Step:
    """A row of `audit_log`."""

    at: datetime
    actor: str
    action: str
    subject: str
    detail: str


@dataclass(frozen=True, slots=True)
class _Shared:
    run_id: UUID
    calls: int


@dataclass(frozen=True, slots=True)
class _Day:
    day: date


@dataclass(frozen=True)
class Repricing:
    """Prices the calls of a store again, in the name of `actor`."""

    store: Store
    actor: str
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))

    def preview(self, scope: Scope, book: Book) -> Outcome:
        """Return what `apply` would change. Nothing of it stays.

        Raises:
            Unavailable: the store did not answer.
            Rejected: a price has too many digits to be exact.
        """
        run_id = uuid4()
        try:
            self._prepare(run_id, scope, book)
            return Outcome(None, book.version, self._differences(run_id, scope))
        finally:
            self._forget(run_id)

    def apply(self, scope: Scope, book: Book) -> Outcome:
        """Give the calls their price by `book`; go on with the same run where one was cut off.

        Raises:
            Unavailable: the store did not answer; doing it again finishes the run.
            Rejected: another run was cut off, or a price has too many digits to be exact.
        """
        run = self._cut_off(scope, book)
        if run is None:
            run_id = uuid4()
            overrides = tuple(sorted({override.name for override in book.overrides}))
            run = Run(run_id, scope, book.version, overrides, STARTED, self.now(), self.actor)
            try:
                self._prepare(run_id, scope, book)
                outcome = Outcome(run, run.book, self._differences(run_id, scope))
            except CostspanError:
                self._forget(run_id)
                raise
            if not outcome.changed_calls:
                self._forget(run_id)
                return replace(outcome, run=None)
            self._note(STARTED, outcome)
        else:
            outcome = Outcome(run, run.book, self._differences(run.run_id, run.scope))
        self._write(run.run_id, undo=False)
        self._note(APPLIED, outcome)
        return outcome

    def undo(self, run_id: UUID) -> Outcome:
        """Give every call of a run the price back that it had before.

        Raises:
            Unavailable: the store did not answer; doing it again finishes it.
            Rejected: there is no such run, it is undone, or a later one builds on it.
        """
        known = self.runs()
        run = known.get(run_id)
        if run is None:
            msg = f"there is no run {run_id}; its id is in the output of --apply and in audit_log"
            raise Rejected(msg)
        if run.state == UNDONE:
            msg = f"run {run_id} is undone already"
            raise Rejected(msg)
        ids = list(known)
        later = [other for other in ids[ids.index(run_id) + 1 :] if known[other].state != UNDONE]
        shared = self.store.select(
            load_sql(_PACKAGE, "shared_calls"), _Shared, run_id=run_id, others=later
        )
        if shared:
            last = max(shared, key=lambda row: later.index(row.run_id))
            msg = (
                f"run {last.run_id} came later and priced {last.calls} of the same calls again; "
                f"undo that one first"
            )
            raise Rejected(msg)
        outcome = Outcome(
            run, run.book, tuple(map(_reversed, self._differences(run_id, run.scope)))
        )
        self._write(run_id, undo=True)
        self._note(UNDONE, outcome)
        return outcome

    def runs(self) -> dict[UUID, Run]:
        """Return every run that was started, oldest first."""
        found: dict[UUID, Run] = {}
        for step in self.store.select(load_sql(_PACKAGE, "steps"), _Step):
            told = json.loads(step.detail)
            run_id = UUID(step.subject)
            started = found.get(run_id)
            found[run_id] = Run(
                run_id,
                Scope(
                    date.fromisoformat(told["since"]),
                    date.fromisoformat(told["until"]),
                    tuple(told["models"]),
                ),
                told["book"],
                tuple(told["overrides"]),
                step.action.removeprefix(_ACTIONS),
                started.started_at if started else step.at,
                started.actor if started else step.actor,
            )
        return found

    def _cut_off(self, scope: Scope, book: Book) -> Run | None:
        """Return the run that has started and not ended, which must be the one that is asked for."""
        for run in self.runs().values():
            if run.state != STARTED:
                continue
            if (run.scope, run.book) == (scope, book.version):
                return run
            msg = (
                f"run {run.run_id} of {run.scope.since} to {run.scope.until} was cut off; repeat "
                f"its command, or take it back with --undo {run.run_id}"
            )
            raise Rejected(msg)
        return None

    def _prepare(self, run_id: UUID, scope: Scope, book: Book) -> None:
        """Write down the prices before and after of each call that gets another one."""
        lengths, (since, until) = thresholds(book), _instants(scope.since, scope.until)
        kinds = self.store.select(
            load_sql(_PACKAGE, "kinds"), Kind, since=since, until=until, thresholds=lengths
        )
        found = [
            row
            for kind in kinds
            if scope.covers(kind.model, book)
            for row in rates(kind, book, run_id)
        ]
        self.store.insert("reprice_rates", found)
        self.store.command(
            load_sql(_PACKAGE, "price_calls"),
            run_id=run_id,
            since=since,
            until=until,
            thresholds=lengths,
        )

    def _forget(self, run_id: UUID) -> None:
        for table in ("reprice_calls", "reprice_rates"):
            self.store.command(f"ALTER TABLE {table} DROP PARTITION '{run_id}'")

    def _differences(self, run_id: UUID, scope: Scope) -> tuple[Difference, ...]:
        since, until = _instants(scope.since, scope.until)
        sql = load_sql(_PACKAGE, "differences")
        return tuple(self.store.select(sql, Difference, run_id=run_id, since=since, until=until))

    def _write(self, run_id: UUID, *, undo: bool) -> None:
        for row in self.store.select(load_sql(_PACKAGE, "days"), _Day, run_id=run_id):
            since, until = _instants(row.day, row.day + timedelta(days=1))
            self.store.command(
                load_sql(_PACKAGE, "write_calls"),
                run_id=run_id,
                undo=undo,
                since=since,
                until=until,
            )

    def _note(self, state: str, outcome: Outcome) -> None:
        run, rows = outcome.run, outcome.differences
        if run is None:
            return
        total = totals(rows)
        detail = {
            "since": str(run.scope.since),
            "until": str(run.scope.until),
            "models": run.scope.models,
            "book": run.book,
            "overrides": run.overrides,
            "changed_calls": total.changed_calls,
            "before_usd": _text(total.old_usd),
            "after_usd": _text(total.new_usd),
        }
        action = f"{_ACTIONS}{state}"
        step = _Step(self.now(), self.actor, action, str(run.run_id), json.dumps(detail))
        self.store.insert("audit_log", [step])


def totals(rows: tuple[Difference, ...] | list[Difference]) -> Difference:
    """Return the sum of some rows, under the names of the first."""
    first = rows[0] if rows else Difference(date.min, "", "", 0, 0, 0, 0, 0, *[None] * 4)
    sums: dict[str, Any] = {}
    for name in list(asdict(first))[3:]:
        known = [value for row in rows if (value := getattr(row, name)) is not None]
        sums[name] = sum(known) if known else getattr(first, name)
    return replace(first, **sums)


def _reversed(row: Difference) -> Difference:
    """Return what taking a run back changes."""
    return replace(
        row,
        newly_priced_calls=row.no_longer_priced_calls,
        no_longer_priced_calls=row.newly_priced_calls,
        old_usd=row.new_usd,
        new_usd=row.old_usd,
        old_list_usd=row.new_list_usd,
        new_list_usd=row.old_list_usd,
    )


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else plain(amount)


def _instants(since: date, until: date) -> tuple[datetime, datetime]:
    return datetime.combine(since, time(), UTC), datetime.combine(until, time(), UTC)
