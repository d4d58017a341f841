"""Stored calls priced again in the engine, held against the same arithmetic in Python."""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from costspan import semconv
from costspan.capture.answer import Answer
from costspan.capture.cost import from_answer
from costspan.errors import Rejected, Unavailable
from costspan.pricing import Book, Status, default_book, price, read_book
from costspan.pricing.body import model_of
from costspan.pricing.overrides import read_overrides
from costspan.quantities import exact, flat, quantity, whole
from costspan.usage import Usage, read_usage
from costspan_collector.normalise import normalise
from costspan_collector.record import Call
from costspan_collector.store import Store
from costspan_reconcile.reprice.cli import add_reprice
from costspan_reconcile.reprice.runs import Difference, Repricing, Scope, totals

AT = datetime(2026, 11, 10, 12, tzinfo=UTC)
MONTH = Scope(date(2026, 11, 1), date(2026, 12, 1))
EVER = Scope(date(2020, 1, 1), date(2027, 1, 1))
LIST = default_book()
ACME = '[[override]]\nname = "acme"\nmatch = { model = "*" }\npercent_off = "12.3456789"\n'
CONTRACT = LIST.contracted(read_overrides(ACME))
ALL = "SELECT * FROM calls FINAL ORDER BY started_at, trace_id, span_id"


def call(number: int, **changes: Any) -> Call:
    """Return a stored call of gpt-4o-mini, priced by a book that had half of the prices."""
    given: dict[str, Any] = {
        "started_at": AT + timedelta(hours=7 * number),
        "trace_id": number.to_bytes(16),
        "span_id": b"repriced",
        "response_model": "gpt-4o-mini-2024-07-18",
        "server_address": "api.openai.com",
        "team": f"team-{number % 2}",
        "input_tokens": 1000,
        "cached_tokens": 300,
        "output_tokens": 100,
        "quantities": {"input": 700, "cached_input": 300, "output": 100},
        "cost_usd": Decimal("0.00009375"),
        "list_cost_usd": Decimal("0.00009375"),
        "cost_parts_usd": {
            "input": Decimal("0.0000525"),
            "cached_input": Decimal("0.00001125"),
            "output": Decimal("0.00003"),
        },
        "price_status": "priced",
        "price_book": "the-old-book",
        "price_path": "gpt-4o-mini/standard/short",
        "received_at": AT,
        "ingest_id": 1_700_000_000_000_000_000 + number,
    }
    return Call(**{**given, **changes})


def stored(store: Store) -> list[Call]:
    return store.select(ALL, Call)


def prices(rows: Sequence[Call]) -> list[Call]:
    """Return the rows without the number that orders their versions."""
    return [replace(row, ingest_id=0) for row in rows]


def by_python(row: Call, book: Book) -> tuple[Any, ...]:
    """Return what the price engine makes of a row: the columns that a run writes."""
    used = {meter: quantity(str(value)) for meter, value in row.quantities.items()}
    known = bool(used) or row.input_tokens is not None or row.price_status == "priced"
    found = price(
        whole(used) if known else None,
        model=row.response_model or row.request_model,
        at=row.started_at,
        tier=row.response_tier or None,
        host=row.server_address or "api.openai.com",
        batch=row.response_tier == "batch",
        book=book,
        project=row.project or None,
    )
    if found.usd is None:
        return None, None, {}, found.status, book.version, found.path, ()
    parts: dict[str, Fraction] = {}
    for part in found.parts if found.contracted is None else found.contracted:
        parts[part.meter] = parts.get(part.meter, Fraction(0)) + Fraction(part.pico, 10**12)
    return (
        found.contracted_usd,
        found.usd,
        parts,
        found.status,
        book.version,
        found.path,
        tuple(sorted(found.overrides)),
    )


def by_engine(row: Call) -> tuple[Any, ...]:
    return (
        row.cost_usd,
        row.list_cost_usd,
        row.cost_parts_usd,
        row.price_status,
        row.price_book,
        row.price_path,
        row.price_overrides,
    )


@pytest.fixture
def repricing(store: Store) -> Repricing:
    return Repricing(store, "the-accountant")


def golden_spans(data: Path, wire: Any) -> Iterator[tuple[str, Any]]:
    """Yield the golden cases that are calls, each as the span that capture makes of it."""
    cases = json.loads((data / "pricing" / "golden_dev.json").read_text())["cases"]
    for number, case in enumerate(cases):
        body: dict[str, Any] = case["response"] or {}
        request: dict[str, Any] = case.get("request") or {}
        if case["meters"] and "usage" not in body:
            continue  # a fee beside the calls
        answer = Answer()
        answer.saw(body, request)
        if isinstance(body.get("response"), dict):
            answer.saw_head(body["response"])
        started_ns = int(datetime.fromisoformat(case["timestamp"]).timestamp()) * 10**9
        found = answer.attributes() | from_answer(
            answer,
            model=model_of(body, request),
            host=case["host"],
            priced=True,
            started_ns=started_ns,
            batch=case["batch"],
        )
        attributes = {
            semconv.OPERATION: "chat",
            semconv.REQUEST_MODEL: model_of(body, request),
            semconv.SERVER_ADDRESS: case["host"],
            **found,
            **({semconv.RESPONSE_TIER: "batch"} if case["batch"] else {}),
        }
        when = {"start_time_unix_nano": started_ns, "end_time_unix_nano": started_ns + 10**9}
        yield case["id"], wire.plain_span(number, attributes, **when)


@pytest.mark.parametrize("book", [LIST, CONTRACT], ids=["list", "contracted"])
def test_the_engine_prices_every_golden_case_as_python_does(
    book: Book, store: Store, repricing: Repricing, data: Path, wire: Any
) -> None:
    spans = dict(golden_spans(data, wire))
    made = normalise(wire.request(*spans.values()), received_at=wire.now, ingest_id=1)
    assert len(made.calls) == len(spans) > 170
    # As if no book had known a model: the quantities alone must tell the price.
    forgotten = [
        row
        if row.price_status in {"invalid_usage", "missing_usage", "not_billed"}
        else replace(
            row,
            cost_usd=None,
            list_cost_usd=None,
            cost_parts_usd={},
            price_status="unknown_model" if row.quantities else row.price_status,
            price_book="an-older-book",
        )
        for row in made.calls
    ]
    store.insert("calls", forgotten)
    repricing.apply(EVER, book)
    priced = {row.span_id: row for row in stored(store)}
    for row in made.calls:
        now = priced[row.span_id]
        if row.price_status == "invalid_usage":
            assert now.cost_usd is None
            continue
        assert by_engine(now) == by_python(now, book)
        assert now.list_cost_usd == row.cost_usd
        assert now.price_status == row.price_status


DECISION = {"decision_input"}  # a decision uses nothing else
OFFERS = [
    (model, tier, tuple(sorted(meters)))
    for model, tier, context in sorted(LIST.rows)
    if context == "short" and (found := LIST.rates(model, tier, context, AT))
    for meters in (found.pico.keys() - DECISION, found.pico.keys() & DECISION)
    if meters
]
TIERS = {"standard": "default"}
SECONDS = st.decimals(Decimal("0.0001"), 10_000, places=15).map(Fraction)
COUNTS = st.integers(1, 400_000)
OTHERS = {
    "web_search": st.integers(1, 40),
    "file_search": st.integers(1, 40),
    "image_tool/gpt-image-2/image_output": COUNTS,
    "image_tool/gpt-image-1.5/input": COUNTS,
    "svg/gpt-5.4/input": COUNTS,
}


@st.composite
def calls(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a call of some model and tier, mostly of meters that have a price there."""
    model, tier, meters = draw(st.sampled_from(OFFERS))
    measures = {meter: SECONDS if "seconds" in meter else COUNTS for meter in meters}
    used = draw(st.fixed_dictionaries({}, optional=measures))
    if draw(st.integers(0, 3)) == 0:
        used |= draw(st.fixed_dictionaries({}, optional=OTHERS))
    tokens = whole(used)
    return {
        "started_at": AT - timedelta(days=draw(st.sampled_from([0, 0, 0, 40, 400]))),
        "response_model": draw(st.sampled_from([model] * 9 + ["a-model-nobody-knows"])),
        "response_tier": draw(st.sampled_from([TIERS.get(tier, tier)] * 9 + ["scale"])),
        "server_address": draw(st.sampled_from(["api.openai.com", "eu.api.openai.com"])),
        "project": draw(st.sampled_from(["", "proj_1", "proj_2"])),
        "quantities": {meter: Decimal(exact(amount)) for meter, amount in used.items()},
        "input_tokens": tokens.input_tokens,
        "output_tokens": tokens.output_tokens,
    }


PERCENT = st.decimals(0, 100, places=9).map(lambda percent: f'percent_off = "{percent}"')
AMOUNT = st.tuples(st.decimals(0, 50, places=11), st.integers(1, 10**7)).map(
    lambda rate: f'amount = "{rate[0]}"\nper = {rate[1]}'
)
MATCH = st.sampled_from(
    ['model = "*"', 'model = "gpt-5*"', 'meter = "output"', 'project = "proj_1"']
)


@given(
    st.lists(calls(), min_size=80, max_size=120),
    st.lists(st.tuples(MATCH, PERCENT | AMOUNT), max_size=3),
)
@settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],  # to shrink takes minutes, the engine being real
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_quantities_at_any_rates_cost_the_same_in_the_engine(
    same_store: Store, drawn: list[dict[str, Any]], rules: list[tuple[str, str]]
) -> None:
    text = "\n".join(
        f'[[override]]\nname = "rule {number}"\nmatch = {{ {match} }}\n{rate}\n'
        for number, (match, rate) in enumerate(rules)
    )
    book = LIST.contracted(read_overrides(text))
    same_store.command("TRUNCATE TABLE calls")
    same_store.insert("calls", [call(n, **{**UNKNOWN, **row}) for n, row in enumerate(drawn)])
    repricing = Repricing(same_store, "test")
    previewed = repricing.preview(EVER, book)
    assert repricing.apply(EVER, book).differences == previewed.differences
    now = stored(same_store)
    assert len(now) == len(drawn)
    assert [by_engine(row) for row in now] == [by_python(row, book) for row in now]
    assert sum(row.cost_usd is not None for row in now) > len(now) / 3


@pytest.fixture
def same_store(store: Store) -> Store:
    """The store, the same for every example."""
    return store


UNKNOWN: dict[str, Any] = {
    "cost_usd": None,
    "list_cost_usd": None,
    "cost_parts_usd": {},
    "price_status": "unknown_model",
    "price_path": "",
}


def test_the_month_before_and_the_difference_make_the_month_after(
    store: Store, repricing: Repricing
) -> None:
    store.insert("calls", [call(number) for number in range(12)])
    total = totals(repricing.preview(MONTH, CONTRACT).differences)
    assert (total.calls, total.changed_calls, total.untouched_calls) == (12, 12, 0)
    assert sum(row.cost_usd or 0 for row in stored(store)) == total.old_usd
    repricing.apply(MONTH, CONTRACT)
    after = sum(row.cost_usd or 0 for row in stored(store))
    assert after == total.new_usd == (total.old_usd or 0) + total.difference_usd


def test_a_preview_changes_nothing_and_says_what_applying_does(
    store: Store, repricing: Repricing
) -> None:
    store.insert("calls", [call(number) for number in range(6)])
    before = stored(store)
    previewed = repricing.preview(MONTH, CONTRACT)
    assert stored(store) == before
    assert rows_of(store, "reprice_calls") == rows_of(store, "reprice_rates") == 0
    assert rows_of(store, "audit_log") == 0
    assert repricing.apply(MONTH, CONTRACT).differences == previewed.differences
    by_day: dict[tuple[date, str, str], Difference] = {
        (row.day, row.model, row.team): row for row in previewed.differences
    }
    assert len(by_day) == len(previewed.differences) == 4
    assert {row.team for row in previewed.differences} == {"team-0", "team-1"}


def rows_of(store: Store, table: str) -> int:
    return int(store._client.query(f"SELECT count() FROM {table}").result_rows[0][0])


def test_a_price_that_holds_already_is_not_written_again(
    store: Store, repricing: Repricing
) -> None:
    store.insert("calls", [call(number) for number in range(6)])
    assert repricing.apply(MONTH, CONTRACT).changed_calls == 6
    before = stored(store)
    again = repricing.apply(MONTH, CONTRACT)
    assert (again.run, again.changed_calls) == (None, 0)
    assert stored(store) == before
    assert len(repricing.runs()) == 1


def test_undo_restores_every_column_byte_for_byte(store: Store, repricing: Repricing) -> None:
    store.insert("calls", [call(1), call(2, **UNKNOWN), call(3, price_overrides=("old",))])
    before = stored(store)
    run = repricing.apply(MONTH, CONTRACT).run
    assert run
    assert prices(stored(store)) != prices(before)
    repricing.undo(run.run_id)
    assert repr(prices(stored(store))) == repr(prices(before))
    with pytest.raises(Rejected, match="undone already"):
        repricing.undo(run.run_id)


def test_undo_is_refused_while_a_later_run_builds_on_it(store: Store, repricing: Repricing) -> None:
    store.insert("calls", [call(number) for number in range(4)])
    before = stored(store)
    first = repricing.apply(MONTH, CONTRACT).run
    second = repricing.apply(Scope(date(2026, 11, 10), date(2026, 11, 11)), LIST).run
    assert first
    assert second
    with pytest.raises(Rejected, match=f"run {second.run_id} came later and priced 2 of the same"):
        repricing.undo(first.run_id)
    repricing.undo(second.run_id)
    repricing.undo(first.run_id)
    assert prices(stored(store)) == prices(before)
    with pytest.raises(Rejected, match="there is no run"):
        repricing.undo(uuid4())


def test_a_span_that_is_delivered_again_does_not_bring_the_old_price_back(
    store: Store, repricing: Repricing
) -> None:
    store.insert("calls", [call(1)])
    run = repricing.apply(MONTH, CONTRACT).run
    assert run
    applied = stored(store)
    store.insert("calls", [call(1, ingest_id=2**62)])
    assert stored(store) == applied
    repricing.undo(run.run_id)
    store.insert("calls", [call(1, ingest_id=2**62 + 1)])
    assert prices(stored(store)) == prices([call(1)])


class Cut(Store):
    """A store that stops answering after some days are written."""

    def __init__(self, store: Store, days: int) -> None:
        super().__init__(lambda: store._client, store.url)
        self.days = days

    def command(self, sql: str, **parameters: object) -> None:
        if "INSERT INTO calls" in sql:
            if not self.days:
                msg = "killed"
                raise Unavailable(msg)
            self.days -= 1
        super().command(sql, **parameters)


def test_a_run_that_was_cut_off_leaves_whole_days_and_goes_on_as_itself(
    store: Store, repricing: Repricing
) -> None:
    store.insert("calls", [call(number) for number in range(12)])
    before = stored(store)
    expected = repricing.preview(MONTH, CONTRACT)
    with pytest.raises(Unavailable, match="killed"):
        Repricing(Cut(store, days=2), "test").apply(MONTH, CONTRACT)
    new_by_day = {
        (row.started_at.date(), row.price_book == CONTRACT.version) for row in stored(store)
    }
    days = {day for day, _ in new_by_day}
    assert len(new_by_day) == len(days)
    assert sum(is_new for _, is_new in new_by_day) == 2 < len(days)
    with pytest.raises(Rejected, match="was cut off; repeat its command, or take it back"):
        repricing.apply(MONTH, LIST)
    (cut_off,) = repricing.runs()
    finished = repricing.apply(MONTH, CONTRACT)
    assert finished.run
    assert finished.run.run_id == cut_off
    assert finished.differences == expected.differences
    assert {row.price_book for row in stored(store)} == {CONTRACT.version}
    repricing.undo(cut_off)
    assert prices(stored(store)) == prices(before)


def test_a_run_that_was_cut_off_can_be_taken_back(store: Store, repricing: Repricing) -> None:
    store.insert("calls", [call(number) for number in range(12)])
    before = stored(store)
    with pytest.raises(Unavailable, match="killed"):
        Repricing(Cut(store, days=1), "test").apply(MONTH, CONTRACT)
    (cut_off,) = repricing.runs()
    repricing.undo(cut_off)
    assert prices(stored(store)) == prices(before)
    assert repricing.apply(MONTH, LIST).changed_calls == 12


def test_a_book_that_learns_a_model_prices_the_calls_that_had_none(
    store: Store, repricing: Repricing
) -> None:
    learned = read_book(json.dumps(BOOK_OF_ONE))
    store.insert("calls", [call(1, response_model="gpt-9", **UNKNOWN), call(2)])
    outcome = repricing.apply(MONTH, learned)
    total = totals(outcome.differences)
    assert (total.newly_priced_calls, total.no_longer_priced_calls) == (1, 1)
    new, old = stored(store)
    assert (new.price_status, new.cost_usd) == ("priced", Decimal("0.0019"))
    assert new.cost_parts_usd == {
        "input": Decimal("0.0007"),
        "cached_input": Decimal("0.0003"),
        "output": Decimal("0.0009"),
    }
    assert (old.price_status, old.cost_usd, old.cost_parts_usd) == ("unknown_model", None, {})


BOOK_OF_ONE: dict[str, Any] = {
    "book": {"name": "one"},
    "rows": [
        {
            "model": "gpt-9",
            "tier": "standard",
            "context": "short",
            "from": None,
            "to": None,
            "per": 1_000_000,
            "usd": {"input": "1", "cached_input": "1", "output": "9"},
            "source": "test",
        }
    ],
    "aliases": {},
    "snapshots": {},
    "minimums": [],
    "rules": {
        "free": {"models": []},
        "long_context": {"models": [], "above_input_tokens": 272000},
        "search_block": {"models": [], "tokens": 8000},
        "region": {"hosts": "eu", "models": [], "factor": "1.1"},
    },
}


def test_what_no_book_has_the_last_word_on_stays_and_is_counted(
    store: Store, repricing: Repricing
) -> None:
    kept = [
        call(1, price_book=""),
        call(2, quantities={}),
        call(3, price_status="invalid_usage", cost_usd=None, list_cost_usd=None),
        call(4, price_status="not_billed", cost_usd=None, cost_parts_usd={}),
        call(6, price_status="estimated", cost_usd=None, cost_parts_usd={}, quantities={}),
        call(5, price_status="", cost_usd=None, price_book="", status="error"),
    ]
    store.insert("calls", kept)
    before = stored(store)
    total = totals(repricing.apply(MONTH, CONTRACT).differences)
    assert (total.calls, total.changed_calls, total.untouched_calls) == (6, 0, 2)
    assert stored(store) == before


def test_only_the_named_models_are_priced_again(store: Store, repricing: Repricing) -> None:
    store.insert("calls", [call(1), call(2, response_model="gpt-5.4"), call(3, started_at=AT)])
    scope = Scope(date(2026, 11, 10), date(2026, 11, 11), ("gpt-4o*", "o?"))
    outcome = repricing.apply(scope, CONTRACT)
    assert outcome.changed_calls == 2
    assert [row.price_overrides for row in stored(store)] == [("acme",), ("acme",), ()]


def test_a_price_that_changes_within_a_day_changes_at_its_second(
    store: Store, repricing: Repricing
) -> None:
    noon = AT.isoformat().replace("+00:00", "Z")
    text = ACME.replace("percent_off", f"from = {noon}\npercent_off")
    book = LIST.contracted(read_overrides(text))
    just = timedelta(microseconds=1)
    store.insert("calls", [call(1, started_at=AT - just), call(2, started_at=AT)])
    repricing.apply(MONTH, book)
    assert [row.price_overrides for row in stored(store)] == [(), ("acme",)]


def test_every_step_is_in_the_audit_log_with_who_and_what(
    store: Store, repricing: Repricing
) -> None:
    store.insert("calls", [call(1)])
    outcome = repricing.apply(MONTH, CONTRACT)
    assert outcome.run
    repricing.undo(outcome.run.run_id)
    steps = store._client.query("SELECT * FROM audit_log ORDER BY at").result_rows
    assert [(row[1], row[2], row[3]) for row in steps] == [
        ("the-accountant", f"reprice.{step}", str(outcome.run.run_id))
        for step in ("started", "applied", "undone")
    ]
    applied, undone = (json.loads(row[4]) for row in steps[1:])
    assert applied == {
        "since": "2026-11-01",
        "until": "2026-12-01",
        "models": [],
        "book": CONTRACT.version,
        "overrides": ["acme"],
        "changed_calls": 1,
        "before_usd": "0.00009375",
        "after_usd": str(totals(outcome.differences).new_usd),
    }
    assert (undone["before_usd"], undone["after_usd"]) == (
        applied["after_usd"],
        applied["before_usd"],
    )


def test_a_rate_with_too_many_digits_is_refused_and_nothing_stays(
    store: Store, repricing: Repricing
) -> None:
    store.insert("calls", [call(1)])
    fine = ACME.replace("12.3456789", f"12.{'3' * 45}")
    with pytest.raises(Rejected, match="has more than 38 digits; write the override"):
        repricing.apply(MONTH, LIST.contracted(read_overrides(fine)))
    assert rows_of(store, "reprice_calls") == rows_of(store, "audit_log") == 0


def run(store: Store, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    """Run the command on the store of the test."""
    monkeypatch.setenv("COSTSPAN_CLICKHOUSE_URL", store.url)
    parser = argparse.ArgumentParser()
    add_reprice(parser.add_subparsers())
    parsed = parser.parse_args(["reprice", *arguments])
    assert parsed.run(parsed) == 0


def test_the_command_previews_applies_and_takes_back(
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    store.insert("calls", [call(number) for number in range(4)])
    before = stored(store)
    file = tmp_path / "overrides.toml"
    file.write_text(ACME)
    monkeypatch.setenv("COSTSPAN_ACTOR", "finance")
    days = ("--from", "2026-11-01", "--to", "2026-12-01", "--overrides", str(file))
    run(store, monkeypatch, *days, "--dry-run")
    shown = capsys.readouterr().out
    assert "a preview: nothing was written" in shown
    assert "gpt-4o-mini-2024-07-18      4        4     0.000375" in shown
    run(store, monkeypatch, *days, "--apply", "--json")
    told = json.loads(capsys.readouterr().out)
    total = told["total"]
    assert Decimal(total["old_usd"]) + Decimal(total["difference_usd"]) == Decimal(total["new_usd"])
    assert (total["calls"], total["changed_calls"], told["outcome"]) == (4, 4, "applied")
    assert told["price_book"] == CONTRACT.version
    run(store, monkeypatch, "--undo", told["run"])
    assert f"run {told['run']} undone" in capsys.readouterr().out
    assert prices(stored(store)) == prices(before)
    assert Repricing(store, "").runs()[UUID(told["run"])].actor == "finance"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--apply"], "say which days"),
        (["--from", "2026-11-02", "--to", "2026-11-02", "--dry-run"], "say which days"),
        (["--undo", str(uuid4()), "--from", "2026-11-02"], "takes a whole run back"),
        (
            ["--from", "2026-11-02", "--to", "2026-11-03", "--book", "none.json", "--dry-run"],
            "cannot read the price book none.json",
        ),
    ],
)
def test_the_command_says_what_is_missing(
    arguments: list[str], why: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Rejected, match=why):
        run(store, monkeypatch, *arguments)


def test_quantities_survive_the_way_through_a_span(data: Path, wire: Any) -> None:
    cases = json.loads((data / "pricing" / "golden_dev.json").read_text())["cases"]
    bodies: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        case["id"]: (case["response"] or {}, case.get("request") or {}) for case in cases
    }
    for name, span in golden_spans(data, wire):
        (row,) = normalise(wire.request(span), received_at=wire.now, ingest_id=1).calls
        if row.price_status in {"invalid_usage", "missing_usage"}:
            continue
        usage = read_usage(*bodies[name]) or Usage(0, 0)
        assert row.quantities == {meter: Decimal(exact(q)) for meter, q in flat(usage).items()}
        assert flat(whole(flat(usage))) == flat(usage)
        if row.price_status == Status.PRICED:
            assert sum(row.cost_parts_usd.values()) == row.cost_usd == row.list_cost_usd


def test_the_columns_of_a_call_are_those_of_the_table(store: Store) -> None:
    store.insert("calls", [call(1)])
    found = store._client.query("SELECT * FROM calls").column_names
    assert found == tuple(field.name for field in fields(Call))
