"""Which part of the attempts fails, usually: shares, how much they scatter, and by which cause."""

from dataclasses import dataclass

import numpy as np

from costspan_dashboards.alerts.cause import Table
from costspan_dashboards.alerts.chance import USUAL_SCATTER, scatter_of
from costspan_dashboards.alerts.frame import (
    DIMENSIONS,
    Cells,
    Floats,
    Ints,
    groups,
    tally,
)
from costspan_dashboards.alerts.scopes import (
    BAND_FIGURES,
    WINDOWS_MINUTES,
    Past,
    View,
    figure,
    watched,
)

_KIND = DIMENSIONS.index("error_kind")
_PRIOR = 50
"""A share seen on few calls is pulled to its parent's with the weight of that many."""
_PRIOR_SHARE = 0.01
_PRIOR_ERRORS = 30
_TRIMMED_DAYS = 2
"""Of the days with the highest shares, as many are left out: a past outage is no habit."""
_OUTAGE = 3.0
"""Times the mean share: from there on a day may have been one."""
_RARE_KIND = 0.05
_LEAST_SHARE = 1e-4
"""What never failed may fail: where it does, says how much of it there is."""
"""Of all errors, for a kind hardly ever seen: else its newness would outshine where it happens."""


@dataclass(frozen=True, eq=False)
class Failures:
    """Failed attempts of one sort, beside what is usual."""

    view: View
    attempts: str
    """The figure that counts them."""
    allowed: float
    """The share that is taken for usual where there is no past."""

    @property
    def past(self) -> Past:
        """The past that they are held against."""
        return self.view.past

    def habit(self, dimension: str) -> tuple[Floats, Floats]:
        """Return failures and attempts by past day, slot of the band and value, outages left out."""
        return self.past.kept(
            ("habit", self.attempts, dimension, self.past.size(dimension)),
            lambda: self._habit(dimension),
        )

    def _habit(self, dimension: str) -> tuple[Floats, Floats]:
        band = self.past.by(dimension, band=True)
        failed = band[BAND_FIGURES.index(self.attempts)]
        attempts = band[BAND_FIGURES.index("attempts")]
        keep = self.past.usable(dimension).copy()
        of_day = attempts.sum(axis=1)
        share = np.where(keep & (of_day > 0), failed.sum(axis=1) / np.maximum(of_day, 1), -1.0)
        if keep.any(axis=1).sum() >= 5 * _TRIMMED_DAYS:
            worst = np.argsort(share, axis=0)[-_TRIMMED_DAYS:]
            pooled = (failed.sum(axis=1) * keep).sum(axis=0) / np.maximum(
                (of_day * keep).sum(axis=0), 1
            )
            high = np.take_along_axis(share, worst, axis=0) > _OUTAGE * pooled
            kept = np.take_along_axis(keep, worst, axis=0)
            np.put_along_axis(keep, worst, kept & ~high, axis=0)
        return failed * keep[:, None, :], attempts * keep[:, None, :]

    def share(self, dimension: str) -> Floats:
        """Return the usual share by value; what is known from few is pulled to the whole's."""
        size = self.past.size(dimension)
        if not self.past.basis.seasonal:
            return np.full(size, self.allowed)
        return self.past.kept(
            ("share", self.attempts, dimension, size), lambda: self._share(dimension)
        )

    def _share(self, dimension: str) -> Floats:
        all_failed, all_attempts = (float(part.sum()) for part in self.habit(""))
        overall = (all_failed + _PRIOR * _PRIOR_SHARE) / (all_attempts + _PRIOR)
        failed, attempts = (part.sum(axis=(0, 1)) for part in self.habit(dimension))
        return (failed + _PRIOR * overall) / (attempts + _PRIOR)

    def scatter(self, dimension: str, code: int, window: int) -> float:
        """Return how much a scope's failures go together in stretches as long as a window.

        Estimated from past days; where few failures are known it is what it usually is.
        """
        if not self.past.basis.seasonal:
            return USUAL_SCATTER
        return self.past.kept(
            ("scatter", self.attempts, dimension, code, window),
            lambda: self._scatter(dimension, code, window),
        )

    def _scatter(self, dimension: str, code: int, window: int) -> float:
        failed, attempts = self.habit(dimension)
        slots = WINDOWS_MINUTES[window] // WINDOWS_MINUTES[0]
        k = failed[:, :, code].reshape(-1, slots).sum(axis=1)
        known = scatter_of(attempts[:, :, code].reshape(-1, slots).sum(axis=1), k)
        if known is None:
            return USUAL_SCATTER
        weight = float(k.sum())
        return (weight * known + _PRIOR_ERRORS * USUAL_SCATTER) / (weight + _PRIOR_ERRORS)

    def table(self, minutes: int) -> Table:
        """Return failed attempts by kind of call and of error, and what the usual shares give."""
        cells = watched(self.view.frame.window(minutes), self.past.quiet)
        limited = cells.names.code("error_kind", "rate_limit")
        kind = cells.code("error_kind")
        sort = kind == limited if self.attempts == "limited_attempts" else kind != limited
        counted = (kind > 0) & sort
        base, index = bases(cells)
        of = tally(index, cells.count("attempts"), len(base))
        share, mix = self._expected(base)
        kinds = sorted({*mix, *np.unique(kind[counted]).tolist()})
        codes: list[Ints] = []
        actual: list[Floats] = []
        expected: list[Floats] = []
        for one in kinds:
            mine = counted & (kind == one)
            rows = base.codes.copy()
            rows[_KIND] = one
            codes.append(rows)
            actual.append(tally(index[mine], cells.count("attempts")[mine], len(base)))
            usual = np.maximum(share * max(mix.get(one, 0.0), _RARE_KIND), _LEAST_SHARE)
            expected.append(of * usual)
        return Table.of(
            cells.names,
            np.concatenate(codes, axis=1),
            np.concatenate(actual),
            np.concatenate(expected),
        )

    def _expected(self, base: Cells) -> tuple[Floats, dict[int, float]]:
        """Return the usual share of each kind of call, and of each kind of error in the errors."""
        overall = float(self.share("")[0])
        if not self.past.basis.seasonal:
            return np.full(len(base), overall), {}
        leaves, models = self.past.leaves, base.names.size("model")
        before = (leaves.figures[:, :, -1] * self.past.usable("")).sum(axis=1)
        failed, attempts = before[figure(self.attempts)], before[figure("attempts")]
        by_kind = tally(leaves.codes[_KIND], failed)
        mix = {code: float(n / by_kind.sum()) for code, n in enumerate(by_kind.tolist()) if n}
        key0, key = _joint(leaves.codes, models), _joint(base.codes, models)
        size = int(max(key0.max(initial=0), key.max(initial=0))) + 1
        of, bad = tally(key0, attempts, size), tally(key0, failed, size)
        return ((bad + _PRIOR * overall) / (of + _PRIOR))[key], mix


def bases(cells: Cells) -> tuple[Cells, Ints]:
    """Return one cell of each kind of call, whatever became of it, and the place of each cell's."""
    rows = list(cells.codes.copy())
    rows[_KIND] = np.zeros(len(cells), np.int64)
    member, index = groups(rows)
    return cells.where(member), index


def _joint(codes: Ints, models: int) -> Ints:
    return codes[DIMENSIONS.index("feature")] * models + codes[DIMENSIONS.index("model")]
