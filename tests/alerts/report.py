"""The table of section 8: every scenario on some seeds.

    uv run python tests/alerts/report.py --seeds 1-5 [--rows E01,C02] [--every 5] [--told]

`--every` takes rows that last longer than two days that many minutes apart, for a quick look;
`--told` prints the messages.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from rows import BUDGET_A_WEEK, BY_NAME, MARKED_Q04, ROWS, Row
from simulation import Log
from verdict import Verdict, judge_row

LONG_MINUTES = 2 * 1440
BUDGET_SEEDS = (1, 2, 3)


def verdicts(
    rows: Sequence[Row], seeds: Sequence[int], every: int = 0
) -> Iterator[tuple[Verdict, Log]]:
    """Act out rows on seeds."""
    for seed in seeds:
        for row in rows:
            if row.name == "Q01" and seed not in BUDGET_SEEDS:
                continue
            world, log = row.run(seed, every if row.lasts > LONG_MINUTES else 0)
            yield judge_row(row, world, log), log


def line(one: Verdict) -> str:
    """Return a line of the table."""
    minutes = "" if one.minutes is None else f"{one.minutes:.0f}"
    outcome = "pass" if one.passes else "FAIL: " + "; ".join(one.faults)
    return (
        f"{one.row:<11}{one.seed:>4}  {one.fired:<24}{minutes:>5}  {one.cause:<44}"
        f"{one.notifications:>3}  {outcome}"
    )


def summary(found: Sequence[Verdict]) -> Iterator[str]:
    """Give what stands below the table."""
    asked = [one for one in found if BY_NAME.get(one.row, MARKED_Q04).must]
    fired = [one for one in asked if one.minutes is not None]
    caused = [one for one in found if one.exact_cause is not None]
    delays = [one.minutes for one in fired if one.minutes is not None]
    yield f"{sum(one.passes for one in found)} of {len(found)} (row, seed) pairs pass"
    if asked:
        yield f"recall over rows that must fire: {len(fired)} of {len(asked)}"
    if delays:
        yield f"delay: mean {statistics.mean(delays):.1f}, median {statistics.median(delays):.1f} min"
    if fired:
        sent = [one.notifications for one in fired]
        yield f"messages an incident: median {statistics.median(sent):.0f}, most {max(sent)}"
    if caused:
        yield f"exact cause: {sum(bool(one.exact_cause) for one in caused)} of {len(caused)}"
    clean = [one for one in found if one.row == "Q01"]
    for severity, most in BUDGET_A_WEEK.items() if clean else ():
        weeks = len(clean) * BY_NAME["Q01"].lasts / (7 * 1440)
        count = sum(one.episodes[severity] for one in clean)
        yield f"false {severity}s a week: {count / weeks:.2f} (budget {most}), {count} in {weeks:.0f} weeks"
    days = sum(one.evaluations for one in found) / 1440
    if days:
        cpu = sum(one.cpu_seconds for one in found)
        yield f"{cpu / days:.1f} s of compute a simulated day of {days:.1f} evaluated days"


def seeds_of(text: str) -> list[int]:
    """Return the seeds of `1-5` or `1,3`."""
    parts = [part.split("-") for part in text.split(",")]
    return [seed for part in parts for seed in range(int(part[0]), int(part[-1]) + 1)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=seeds_of, default=[1, 2, 3, 4, 5])
    parser.add_argument("--rows", default="")
    parser.add_argument("--every", type=int, default=0)
    parser.add_argument("--told", action="store_true")
    args = parser.parse_args()
    rows = [*ROWS, MARKED_Q04]
    if args.rows:
        rows = [row for row in rows if row.name in args.rows.split(",")]
    found: list[Verdict] = []
    print("scenario  seed  fired                   min    cause                        messages")
    for one, log in verdicts(rows, args.seeds, args.every):
        found.append(one)
        print(line(one), flush=True)
        for told in log.told if args.told else ():
            alert = told.alert
            print(
                f"    {told.at:%m-%d %H:%M} {alert.state:<9}{alert.finding.severity:<7}"
                f"{alert.finding.rule}: {alert.finding.title} ({told.reason}) "
                f"{[one.where for one in alert.finding.contributors]}"
            )
    for text in summary(found):
        print(text)


if __name__ == "__main__":
    main()
