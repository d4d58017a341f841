"""Verdicts of lines, days and periods. Both tolerances must be exceeded before someone is asked."""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Protocol

from costspan_reconcile.explain.classes import UNKNOWN, Class, Component, Verdict
from costspan_reconcile.explain.states import DayState
from costspan_reconcile.match import Line
from costspan_reconcile.tolerances import Tolerances

_RATES = frozenset({"rate", "unsplit"})
_NOTHING = Fraction(0)


def line_verdict(line: Line, components: Sequence[Component], tolerances: Tolerances) -> Verdict:
    """Return the verdict of a line."""
    causes = {part.cause for part in components}
    if Class.OPEN in causes:
        return Verdict.OPEN
    if Class.AWAITING_PROVIDER in causes:
        return Verdict.AWAITING
    if not components:
        return Verdict.MATCHED
    difference = sum((part.usd for part in components), _NOTHING)
    both = line.bill is not None and line.spans is not None
    within = not _beyond(difference, line.billed, tolerances.line_usd, tolerances.line_share)
    if both and within and not is_reported(line, components, tolerances):
        return Verdict.MATCHED
    return Verdict.REVIEW if causes & UNKNOWN else Verdict.EXPLAINED


def is_reported(line: Line, components: Iterable[Component], tolerances: Tolerances) -> bool:
    """Return whether the price is off by so much that it is told whatever the line comes to."""
    off = sum((part.usd for part in components if part.component in _RATES), _NOTHING)
    share = Fraction(tolerances.rate_share)
    return line.billed >= Fraction(tolerances.rate_usd) and abs(off) > share * line.billed


def day_verdict(
    state: DayState, lines: Iterable["Judged"], tolerances: Tolerances, *, awaited: bool = False
) -> Verdict:
    """Return the verdict of a day; `awaited` says that there is use and no bill of it yet."""
    if state is DayState.OPEN:
        return Verdict.OPEN
    lines = [*lines]
    billed = sum((line.billed for line in lines), _NOTHING)
    parts = [part for line in lines for part in line.components]
    all_awaited = parts and all(part.cause is Class.AWAITING_PROVIDER for part in parts)
    if not billed and (awaited or all_awaited):
        return Verdict.AWAITING
    if _beyond(_to_review(lines), billed, tolerances.day_usd, tolerances.day_share):
        return Verdict.REVIEW
    if any(line.verdict is Verdict.AWAITING for line in lines):
        return Verdict.AWAITING
    known = any(line.verdict in {Verdict.EXPLAINED, Verdict.REVIEW} for line in lines)
    return Verdict.EXPLAINED if known else Verdict.MATCHED


def period_verdict(
    verdicts: Iterable[str],
    billed: Decimal,
    to_review: Decimal,
    tolerances: Tolerances,
    *,
    missing_days: int = 0,
) -> Verdict:
    """Return the verdict of a period from those of its days and what nobody can explain of it.

    One with days that were never reconciled is not known either, and without a closed day there is
    none.
    """
    found = {*verdicts, *([Verdict.AWAITING] if missing_days else [])} or {Verdict.OPEN}
    for verdict in (Verdict.BLOCKED, Verdict.OPEN, Verdict.AWAITING):
        if verdict in found:
            return verdict
    beyond = _beyond(
        Fraction(to_review), Fraction(billed), tolerances.period_usd, tolerances.period_share
    )
    if beyond:
        return Verdict.REVIEW
    return Verdict.MATCHED if found <= {Verdict.MATCHED} else Verdict.EXPLAINED


class Judged(Protocol):
    """What the verdict of a day needs of a line."""

    @property
    def billed(self) -> Fraction:
        """Return the billed dollars."""
        ...

    @property
    def components(self) -> tuple[Component, ...]:
        """Return the classes of its difference."""
        ...

    @property
    def verdict(self) -> Verdict:
        """Return its own verdict."""
        ...


def _to_review(lines: Iterable[Judged]) -> Fraction:
    """Return what nobody can explain; what each line may keep for itself can be much in all."""
    return sum(
        (abs(part.usd) for line in lines for part in line.components if part.cause in UNKNOWN),
        _NOTHING,
    )


def _beyond(amount: Fraction, whole: Fraction, least: Decimal, share: Decimal) -> bool:
    """Return whether `amount` is more than both tolerances allow."""
    return abs(amount) > Fraction(least) and abs(amount) > Fraction(share) * abs(whole)
