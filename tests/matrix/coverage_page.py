"""Writes `docs/coverage.md` from the table: `uv run python tests/matrix/coverage_page.py`."""

import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from table import GROUPS, ROWS, SDKS, Call, Row

from costspan import semconv

PATH = Path(__file__).parents[2] / "docs" / "coverage.md"

_HEAD = """# Coverage

<!-- Generated from tests/matrix/table.py by `uv run python tests/matrix/coverage_page.py`. -->

What `import costspan.auto` records of each use of the OpenAI SDK. Every cell is a test that runs
the real SDK of that version against a server on loopback, once without us and once with us, sync
and async. It passes only if

- the app sees the same: types, contents, exceptions, warnings, log lines, and what it sends;
- each call has one span, ended once, a child of the app's own span, attributed to whom the app
  says, with one child for each HTTP attempt;
- the span has the tokens by kind, the cost by part, the tier, the models asked for and served,
  request id, retries, errors, finish reasons and rate limits that are due, and nothing else;
- neither the key nor a word of a prompt is on it, and no fault of ours was counted.

| mark | |
|---|---|
| ● | sync and async |
| ◐ | async only: there is nothing to cancel in the sync client |
| – | this SDK has no such API, which is tested too |

**Cost** says what the span tells of it: *yes*, by part; *when it is done*, for work that has a span
of its own once its end was seen; *unknown*, with the status that says why; *none*, where OpenAI
charges nothing.
"""


def page() -> str:
    """Return the page."""
    return "\n".join([_HEAD, *_tables(), _FOOT])


def _tables() -> Iterator[str]:
    for title, rows in GROUPS.items():
        yield f"## {title}\n"
        yield f"| | tokens | cost | {' | '.join(SDKS)} |"
        yield f"|---|---|---|{':-:|' * len(SDKS)}"
        for row in rows.values():
            marks = " | ".join(_mark(row, sdk) for sdk in SDKS)
            yield f"| {row.does} | {_tokens(row)} | {_cost(row)} | {marks} |"
        yield ""


def _mark(row: Row, sdk: str) -> str:
    major, minor, _ = sdk.split(".")
    if (int(major), int(minor)) < row.since:
        return "–"
    return "●" if len(row.modes) == 2 else "◐"


_KINDS = {
    semconv.INPUT_TOKENS: "input",
    semconv.CACHED_TOKENS: "cached",
    semconv.CACHE_WRITE_TOKENS: "cache writes",
    semconv.AUDIO_INPUT_TOKENS: "audio in",
    semconv.IMAGE_INPUT_TOKENS: "image in",
    semconv.OUTPUT_TOKENS: "output",
    semconv.REASONING_TOKENS: "reasoning",
    semconv.AUDIO_OUTPUT_TOKENS: "audio out",
    semconv.IMAGE_OUTPUT_TOKENS: "image out",
    semconv.ACCEPTED_PREDICTION_TOKENS: "predictions",
    semconv.REJECTED_PREDICTION_TOKENS: "",
}


def _tokens(row: Row) -> str:
    calls = row.settled or row.calls
    return ", ".join(filter(None, (_KINDS[name] for call in calls[:1] for name in call.tokens)))


def _cost(row: Row) -> str:
    return ", ".join(dict.fromkeys(_cost_of(call) for call in row.settled or row.calls))


def _cost_of(call: Call) -> str:
    match call.status:
        case None | "not_billed":
            return "none"
        case "priced":
            return "yes"
        case "deferred":
            return "when it is done"
        case status:
            return f"unknown: {status.replace('_', ' ')}"


_FOOT = f"""{len(ROWS)} behaviours. Beside them, 100 async streams at once of which a third are
cancelled at random leave one span each, with every SDK; and many calls leave no memory behind.
"""

if __name__ == "__main__":
    PATH.write_text(page(), encoding="utf-8")
