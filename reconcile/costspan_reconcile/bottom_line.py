"""How a range of days stands as a whole."""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from costspan_collector.store import Store, load_sql
from costspan_reconcile.explain import UNKNOWN, Verdict, period_verdict
from costspan_reconcile.tolerances import Tolerances


@dataclass(frozen=True, slots=True)
class BottomLine:
    """The closed days of a range, added up. Amounts of days without a bill are in none of them."""

    verdicts: tuple[str, ...]
    """Those of its days, each once."""
    closed_days: int
    missing_days: int
    """Days in between that were never reconciled."""
    billed_usd: Decimal
    estimated_usd: Decimal
    captured_usd: Decimal
    """Of the billed dollars, those that spans account for, line by line."""
    above_usd: Decimal
    """What was billed beyond the estimate. It does not hide what was billed below it, which is next."""
    below_usd: Decimal
    to_review_usd: Decimal
    """Of both, what nobody can explain yet."""

    def verdict(self, tolerances: Tolerances) -> Verdict:
        """Return the verdict of the range."""
        return period_verdict(
            self.verdicts,
            self.billed_usd,
            self.to_review_usd,
            tolerances,
            missing_days=self.missing_days,
        )


def bottom_line(store: Store, since: date, until: date) -> BottomLine:
    """Return how the closed days in `since <= day < until` stand as a whole."""
    sql = load_sql("costspan_reconcile", "recon_bottom_line")
    unknown = [str(cause) for cause in sorted(UNKNOWN)]
    (found,) = store.select(sql, BottomLine, since=since, until=until, unknown=unknown)
    return found
