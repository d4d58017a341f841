"""How well `detect` finds what people marked in series of others, and how long it takes.

    uv run python tests/bench/anomaly/bench_detect.py DIRECTORY

The directory holds `<corpus>/labels.json` and `<corpus>/<group>/<name>.csv` of `timestamp,value`
rows. `nab` is scored as the Numenta benchmark scores its standard profile, any other corpus by
pages against incidents. One threshold serves all of a corpus; *across* is the honest figure: half
of the sources scored at the threshold that the other half chose, and the other way round.
"""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scoring import Floats, Scored, nab_total, page_total

from costspan_dashboards.alerts.baseline import detect


def main(directory: Path) -> None:
    """Print a line for each corpus."""
    for labels in sorted(directory.glob("*/labels.json")):
        files, took_ms = _scored(labels)
        shown = _nab(files) if labels.parent.name == "nab" else _pages(files)
        print(f"{labels.parent.name:8} {len(files)} series  {shown}  {took_ms:.1f} ms / 1000 rows")


def _scored(labels: Path) -> tuple[list[Scored], float]:
    """Return the scored series, and the milliseconds that a thousand rows took."""
    files: list[Scored] = []
    took = 0.0
    for name, ranges in sorted(json.loads(labels.read_text()).items()):
        table: Floats = np.loadtxt(labels.parent / name, delimiter=",", skiprows=1)
        times, values = table[:, 0], table[:, 1]
        began = time.process_time()
        scores = detect(times, values)
        took += time.process_time() - began
        files.append(Scored(name, times, scores, ranges))
    return files, took * 1e6 / sum(len(one.times) for one in files)


def _halves(files: Sequence[Scored]) -> tuple[list[Scored], list[Scored]]:
    """Every other source to either side: what one source has in common is on one side."""
    halves: tuple[list[Scored], list[Scored]] = [], []
    sources = sorted({one.name.split("/")[0] for one in files})
    for one in files:
        halves[sources.index(one.name.split("/")[0]) % 2].append(one)
    return halves


def _nab(files: Sequence[Scored]) -> str:
    whole = nab_total(files)
    one, other = _halves(files)
    across = (
        nab_total(other, nab_total(one).threshold).total,
        nab_total(one, nab_total(other).threshold).total,
    )
    return (
        f"standard {whole.total:.1f} at {whole.threshold:.2f}, "
        f"across {across[0]:.1f} and {across[1]:.1f}"
    )


def _pages(files: Sequence[Scored]) -> str:
    whole = page_total(files)
    one, other = _halves(files)
    across = (
        page_total(other, page_total(one).threshold).f1,
        page_total(one, page_total(other).threshold).f1,
    )
    return (
        f"F1 {whole.f1:.2f} (precision {whole.precision:.2f}, recall {whole.recall:.2f}) at "
        f"{whole.threshold:.2f}, {whole.false_a_week:.2f} false pages a week and series, "
        f"across {across[0]:.2f} and {across[1]:.2f}"
    )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
