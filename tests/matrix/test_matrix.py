"""Every behaviour, sync and async, with every SDK: each cell says what is due and is checked.

The table is `table.py`, what an app does is in `behaviours.py`, and `docs/coverage.md` is the
table to read; `uv run python tests/matrix/coverage_page.py` writes it again.
"""

import hashlib
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import coverage_page
from behaviours import BEHAVIOURS, KEY
from table import ROWS, SDKS, Call

from costspan import semconv

GOVERNED = frozenset(
    value
    for name, value in vars(semconv).items()
    if name.isupper() and isinstance(value, str) and name not in {"PRICE_BOOK", "PRICE_PATH"}
)
"""The attributes that the table speaks of; one that is not due must not be there."""
pytestmark = pytest.mark.timeout(300)  # the first cell of an SDK waits for all of them
SECONDS = (semconv.TIME_TO_FIRST_CHUNK, semconv.TIME_PER_CHUNK)
SECRETS = (KEY, KEY[8:24], "A secret.", "Bearer")


def _cells() -> Iterator[Any]:
    for sdk in SDKS:
        for name, row in ROWS.items():
            for mode in row.modes:
                major = "floor" if sdk == SDKS[0] else f"openai{sdk.split('.')[0]}"
                yield pytest.param(name, mode, sdk, id=f"{name}-{mode}-{major}")


@pytest.mark.parametrize(("name", "mode", "sdk"), list(_cells()))
def test_the_app_sees_no_difference_and_the_span_says_what_is_due(
    name: str, mode: str, sdk: str, driven: Any
) -> None:
    row, cell = ROWS[name], driven(sdk).cells[name, mode]
    if _version(sdk) < row.since:
        assert cell["lacking"] == BEHAVIOURS[name].needs
        return
    assert "lacking" not in cell

    # The app: nothing is different.
    assert cell["seen"] == cell["bare"]
    assert "BROKE OFF" not in str(cell["bare"])
    _sent_the_same(cell, name)
    assert cell["restored"], "the app's context is as it was"
    assert cell["counted"] == {}, "nothing was dropped"

    # The spans: one for each call, ended once, a child of the app's, with its attempts inside.
    spans = cell["spans"]
    assert len({span["id"] for span in spans}) == len(spans)
    ours = [span for span in spans if span["scope"] == "costspan"]
    calls = [span for span in ours if not span["links"]]
    calls.sort(key=lambda span: span["attributes"][semconv.FEATURE])
    all_due = row.due(_version(sdk))
    assert [span["name"] for span in calls] == [_name(due) for due in all_due]
    for span, due in zip(calls, all_due, strict=True):
        _is_due(span, due, cell, sdk)
        _has_its_parent(span, due.feature or name, spans)
        _has_its_attempts(span, due, spans, sdk)
    attempts = [span for span in spans if span["scope"] not in {"costspan", "app"}]
    assert len(attempts) == sum(due.attempts for due in all_due)
    if name not in _NOT_AT_THE_SERVER:
        assert len(cell["sent"]) == len(attempts)
    _are_settled([span for span in ours if span["links"]], row.settled, cell, calls)
    _quotes_nothing(spans)


def _version(sdk: str) -> tuple[int, int]:
    major, minor, _ = sdk.split(".")
    return int(major), int(minor)


_NOT_AT_THE_SERVER = {"connection_refused", "chat_suppressed"}
"""Nothing was sent, or nothing was traced."""
_ASKED_BY_US = {
    "stream_no_usage",
    "stream_no_usage_raw",
    "stream_no_usage_lines",
    "stream_other_options",
}


def _sent_the_same(cell: dict[str, Any], name: str) -> None:
    """What goes to OpenAI is what would go without us, but for the usage that we ask for."""
    sent, bare = cell["sent"], cell["bare_sent"]
    if name in _ASKED_BY_US:
        (request,) = bare
        options = {**request["body"].get("stream_options", {}), "include_usage": True}
        bare = [{**request, "body": {**request["body"], "stream_options": options}}]
    assert sent == bare


def _name(due: Call) -> str:
    return f"{due.operation} {due.asked or ''}".rstrip()


def _is_due(span: dict[str, Any], due: Call, cell: dict[str, Any], sdk: str) -> None:
    assert span["kind"] == "CLIENT"
    assert span["status"] == (["ERROR", due.error] if due.error else ["UNSET", None])
    assert span["seconds"] > 0
    assert span["events"] == [], "an exception's words may quote a prompt"
    found = _governed(span)
    request_id = found.pop(semconv.REQUEST_ID, None)
    if due.answered:
        assert str(request_id).startswith(f"req_{cell['behaviour']}_")
    else:
        assert request_id is None
    expected: dict[str, Any] = {
        **_of_any(due, cell),
        semconv.REQUEST_MODEL: due.asked,
        semconv.ERROR_TYPE: due.error,
        **(_ANSWERED if due.answered else {}),
        **due.more,
    }
    if due.error and _version(sdk) < _COUNTS_RETRIES:
        expected.pop(semconv.RETRIES, None)  # this SDK does not say on the request
    assert found == _told(expected, cell)
    _adds_up(span["attributes"], due)


def _are_settled(
    spans: list[Any], all_due: tuple[Call, ...], cell: dict[str, Any], calls: list[Any]
) -> None:
    """Finished work has a span of its own, linked to the call in which its end was seen."""
    assert len(spans) == len(all_due)
    for span, due in zip(spans, all_due, strict=True):
        assert span["name"] == f"{due.operation} {due.served}"
        assert span["parent"] is None
        assert set(span["links"]) <= {call["id"] for call in calls}
        expected = {**_of_any(due, cell), **_ORIGIN, **due.more}
        assert _governed(span) == _told(expected, cell)
        _adds_up(span["attributes"], due)


def _governed(span: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes that the table speaks of, times as the word that they are."""
    found = {name: value for name, value in span["attributes"].items() if name in GOVERNED}
    for name in SECONDS:
        if name in found:
            assert 0 < found[name] <= span["seconds"]
            found[name] = "seconds"
    return found


def _of_any(due: Call, cell: dict[str, Any]) -> dict[str, Any]:
    """Return what is due on every span of ours."""
    name = cell["behaviour"]
    return {
        semconv.OPERATION: due.operation,
        semconv.API_TYPE: due.api,
        semconv.PROVIDER: "openai",
        semconv.SERVER_ADDRESS: "127.0.0.1",
        semconv.SERVER_PORT: 1 if name == "connection_refused" else cell["port"],
        semconv.KEY_FINGERPRINT: hashlib.sha256(KEY.encode()).hexdigest()[:16],
        semconv.KEY_HINT: "WXYZ",
        semconv.TEAM: "search",
        semconv.FEATURE: due.feature or name,
        semconv.RESPONSE_MODEL: due.served,
        semconv.PRICE_STATUS: due.status,
        semconv.COST_USD: due.cost,
        **due.tokens,
    }


def _told(expected: dict[str, Any], cell: dict[str, Any]) -> dict[str, Any]:
    """Return what is not None; an id of the server's may have the run in it."""
    work = f"{cell['behaviour']}_{cell['mode']}"
    return {
        name: value.replace("WORK", work) if isinstance(value, str) else value
        for name, value in expected.items()
        if value is not None
    }


_ORIGIN = {semconv.ORGANIZATION: "acme", semconv.PROJECT: "proj_1"}
_ANSWERED = {
    **_ORIGIN,
    semconv.RATE_LIMIT_REMAINING_REQUESTS: 4999,
    semconv.RATE_LIMIT_REMAINING_TOKENS: 199000,
}
_COUNTS_RETRIES = (1, 66)


def _adds_up(attributes: dict[str, Any], due: Call) -> None:
    parts = {
        key.removeprefix(semconv.COST_PART): value
        for key, value in attributes.items()
        if key.startswith(semconv.COST_PART)
    }
    if semconv.COST_USD in attributes:
        assert Decimal(attributes[semconv.COST_USD]) == Decimal(sum(parts.values())).scaleb(-12)
        assert len(attributes[semconv.PRICE_BOOK]) == 16
    else:
        assert not parts
    if due.parts is not None:
        assert parts == due.parts


def _has_its_parent(span: dict[str, Any], feature: str, spans: list[Any]) -> None:
    """The app's current span is the parent, and what it says the call is for is on the span."""
    parents = [each for each in spans if each["scope"] == "app" and each["name"] == feature]
    assert [(each["id"], each["trace"]) for each in parents] == [(span["parent"], span["trace"])]


def _has_its_attempts(span: dict[str, Any], due: Call, spans: list[Any], sdk: str) -> None:
    inside = [each for each in spans if each["parent"] == span["id"]]
    assert len(inside) == due.attempts
    assert all(each["trace"] == span["trace"] for each in inside)
    statuses = [each["attributes"].get(semconv.HTTP_STATUS) for each in inside]
    assert all(status in {429, 500} for status in statuses[:-1])
    assert statuses[-1] == (due.more.get(semconv.HTTP_STATUS, 200) if due.answered else None)
    numbers = [each["attributes"].get(semconv.ATTEMPT) for each in inside]
    counted = _version(sdk) >= _COUNTS_RETRIES
    assert numbers == (list(range(due.attempts)) if counted else [None] * due.attempts)


def _quotes_nothing(spans: list[Any]) -> None:
    """Neither the key nor a word of a prompt is on any span."""
    written = str([span for span in spans if span["scope"] != "app"])
    assert [secret for secret in SECRETS if secret in written] == []


@pytest.mark.parametrize("sdk", SDKS)
def test_of_100_streams_a_third_is_cancelled_and_each_has_one_span(
    sdk: str, driven: Callable[[str], Any]
) -> None:
    line = driven(sdk).storm
    assert line["sdk"] == sdk
    storm = line["storm"]
    assert storm["broken"] == storm["heard"] == []
    assert storm["cancelled"] == storm["due"] == 33
    calls = [span for span in storm["spans"] if span["scope"] == "costspan"]
    assert len({span["id"] for span in calls}) == len(calls) == storm["started"]
    app = {span["name"]: span["id"] for span in storm["spans"] if span["scope"] == "app"}
    assert len(app) == storm["started"]
    for span in calls:
        assert span["parent"] == app[span["attributes"][semconv.FEATURE]]
    outcomes = [span["attributes"].get(semconv.STREAM_OUTCOME) for span in calls]
    assert outcomes.count("completed") == 67


def test_the_table_has_every_behaviour_and_every_mode() -> None:
    acted = {name: behaviour.modes for name, behaviour in BEHAVIOURS.items()}
    assert acted == {name: row.modes for name, row in ROWS.items()}


def test_the_page_is_the_table() -> None:
    assert coverage_page.PATH.read_text(encoding="utf-8") == coverage_page.page()
