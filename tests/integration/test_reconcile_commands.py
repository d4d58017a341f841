"""`costspan reconcile`, as a person and as a program read it."""

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from costspan.cli import main
from costspan_collector.settings import Upkeep
from costspan_collector.store import Store
from costspan_collector.store.door import open_door

NOW = datetime.now(UTC)
DAY = NOW.date() - timedelta(days=2)
ITEM = "gpt-4o-mini-2024-07-18, input"

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(
    store: Store,
    provider: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Run a command before a bill of one day; give its status, and what it printed."""
    provider.keys = {"proj_a": [("key_1", "nightly", "aaaa")]}
    provider.charge(
        DAY, ITEM, "1.2300000000000000000000000000000001", api_key_id="key_1", quantity=8_200_000
    )
    provider.charge(DAY, "Something new", "3")
    monkeypatch.setenv("COSTSPAN_CLICKHOUSE_URL", store.url)
    monkeypatch.setenv("COSTSPAN_RECONCILE_BASE_URL", provider.url)
    monkeypatch.setenv("OPENAI_ADMIN_KEY", provider.ADMIN_KEY)

    def run(*arguments: str) -> tuple[int, str]:
        status = main(["reconcile", *arguments])
        told = capsys.readouterr()
        return status, told.out + told.err

    return run


def test_show_is_a_table_with_a_total_the_classes_and_what_to_look_at(run: Run) -> None:
    assert run("show", "--days", "4")[1].splitlines() == [
        "bill read: never",
        "stale: the bill was never asked for; start `costspan serve` with an admin key",
        "nothing is reconciled in these days; run `costspan reconcile run`",
    ]
    status, text = run("run", "--days", "4")
    assert (status, text[:27]) == (0, "4 days read (4 changed); 4 ")
    status, text = run("show", "--days", "4")
    assert status == 0
    table = [line.split() for line in text.splitlines()]
    (day,) = (cells for cells in table if cells[:1] == [str(DAY)])
    assert day[1:7] == ["PROVISIONAL", "REVIEW", "4.230000", "0.000000", "4.230000", "0.0%"]
    (total,) = (cells for cells in table if cells[:1] == ["total"])
    assert total[1:4] == ["4.230000", "0.000000", "4.230000"]
    assert ["UNCLASSIFIED", "3.000000"] in table
    assert ["billed", "less", "estimated", "4.230000"] in table
    assert 'key "nightly" (key_1) of proj_a is not instrumented: 1.230000 billed' in text
    assert "line item 'Something new' is not understood: 3.000000" in text
    assert "100.0% of what was billed is nobody's, 4.230000: instrument the keys below" in text
    assert "as a whole EXPLAINED:" in text
    widths = {len(line) for line in text.splitlines() if line.startswith(f"{DAY:%Y-%m}")}
    assert len(widths) <= 2  # the columns line up; a month has fewer
    assert max(map(len, text.splitlines())) <= 100
    text = run("show", "--days", "1")[1]
    assert "as a whole OPEN: " in text
    assert "days left out of the total, open or without a bill: 1" in text
    assert "no day is over and has a bill, so nothing is compared" in text


def test_why_a_day_is_blocked_is_said_in_full(run: Run, provider: Any) -> None:
    provider.charge(DAY, ITEM, "1", currency="EUR")
    run("run", "--days", "4")
    told = " ".join(run("show", "--days", "4")[1].split())
    why = "a row is in 'eur', and only 'usd' can be compared; there is no earlier bill"
    assert f"{DAY}: BLOCKED_CURRENCY: {why}" in told


def test_days_that_were_never_reconciled_are_awaited(run: Run) -> None:
    earlier = DAY - timedelta(days=7)
    run("run", "--since", str(earlier), "--until", str(earlier + timedelta(days=1)))
    text = run("show", "--days", "12")[1]
    assert "bill of older days read: " in text
    assert "stale: the bill of today and yesterday was never asked for" in text
    run("run", "--days", "4")
    assert "as a whole AWAITING, 5 days never reconciled: " in run("show", "--days", "12")[1]
    assert "as a whole EXPLAINED: " in run("show", "--days", "4")[1]


def test_show_for_a_machine_leaves_no_line_out(run: Run, provider: Any) -> None:
    for number in range(1001):
        provider.charge(DAY, f"fee {number}", "1")
    status, text = run("run", "--days", "4", "--json")
    assert (status, json.loads(text)["settled"]) == (0, [])
    assert len(json.loads(run("show", "--days", "4", "--json")[1])["lines"]) == 1003


def test_show_for_a_machine_has_every_digit(run: Run) -> None:
    run("run", "--days", "4")
    status, text = run("show", "--days", "4", "--json")
    assert status == 0
    shown = json.loads(text)
    (day,) = (row for row in shown["days"] if row["day"] == str(DAY))
    assert day["billed_usd"] == "4.2300000000000000000000000000000001"
    assert {row["line_item"] for row in shown["lines"]} == {ITEM, "Something new"}
    assert shown["months"][0]["state"] == "OPEN"


def test_explain_goes_line_by_line_to_the_row_that_was_sent(run: Run) -> None:
    run("run", "--days", "4")
    status, text = run("explain", str(DAY), "--line", "gpt-4o-mini")
    assert status == 0
    assert "B  billed            1.2300000000000000000000000000000001 USD for Qb = 8200000" in text
    assert "B - E = 1.2300000000000000000000000000000001" in text
    assert "is UNINSTRUMENTED_KEY" in text
    sent = ", page 1, row 1 of the day, sent as 1.2300000000000000000000000000000001"
    assert sent in " ".join(text.split())
    assert "Something new" not in text
    found = json.loads(run("explain", str(DAY), "--json")[1])
    for line in found["lines"]:
        classes = sum(Fraction(row["amount_usd"]) for row in line["classes"])
        assert classes == Fraction(line["line"]["billed_usd"])
        assert len(line["sent"]) == 1


def test_a_day_that_nothing_is_known_of_says_what_to_do(run: Run) -> None:
    assert run("explain", "2020-01-01") == (
        1,
        "costspan: 2020-01-01 is not reconciled; run `costspan reconcile run`\n",
    )


def test_a_dry_run_writes_nothing(run: Run) -> None:
    status, text = run("fetch", "--days", "4", "--dry-run")
    assert (status, text[:41]) == (0, "4 days read, 4 changed, 13 pages would be"), text
    assert "nothing is reconciled" in run("show")[1]
    assert run("fetch", "--since", str(DAY))[0] == 0
    assert run("run", "--days", "4", "--dry-run") == (
        0,
        "3 of 3 days would be reconciled anew; nothing was kept\n",
    )
    assert "nothing is reconciled" in run("show")[1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["show", "--days", "0"], "'0' is not a number of days from 1 to 400"),
        (["explain", "1969-12-31"], "'1969-12-31' is not a day such as 2026-10-05"),
        (["explain", "yesterday"], "'yesterday' is not a day such as 2026-10-05"),
        (["explain"], "the following arguments are required: DAY"),
        (["close", "October"], "'October' is not a month such as 2026-10"),
        (["close", "2026-13"], "'2026-13' is not a month such as 2026-10"),
        (["verify"], "the following arguments are required: PACK"),
    ],
)
def test_wrong_use_is_told_in_a_line_and_ends_with_two(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["reconcile", *arguments])
    assert ended.value.code == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["show", "--until", "2026-10-01"], "--until needs --since"),
        (["fetch", "--since", "2026-10-02", "--until", "2026-10-01"], "there is no day from"),
        (["fetch", "--since", "2026-10-02", "--days", "3"], "not both"),
        (["close", "2026-10", "--invoice-total", "12,50"], "'12,50' is not a decimal number"),
        (["close", "2026-10", "--invoice-total", "9", "--credit", "-1"], "without a sign"),
        (["close", "2026-10", "--invoice-total", "9", "--opening", "1"], "not both"),
        (["close", "2026-10", "--opening", "1"], "--opening and --closing, once"),
        (["close", "2026-10", "--invoice-id", "INV-7"], "with --invoice-total"),
        (["close", "2026-10", "--invoice", "/no/such.pdf"], "cannot read /no/such.pdf: No such"),
        (["close", "2026-10", "--sign"], "2026-10 is OPEN: state its invoice first"),
        (["close", "2026-10", "--pack", "x.zip"], "2026-10 cannot be closed yet: 31 days"),
        (["verify", "/no/such.zip"], "cannot read /no/such.zip: No such file"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_line_and_ends_with_one(
    run: Run, arguments: list[str], says: str
) -> None:
    status, text = run(*arguments)
    assert status == 1
    assert says in text
    assert text.count("\n") == 1


def test_without_an_admin_key_nothing_is_read(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_ADMIN_KEY")
    for action in ("fetch", "run"):
        status, text = run(action)
        assert (status, text[:22]) == (1, "costspan: no admin key")


def test_a_directory_that_another_process_has_is_said_with_the_way_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"chdb://{tmp_path}/taken"
    monkeypatch.setenv("COSTSPAN_CLICKHOUSE_URL", url)
    script = (
        f"from costspan_collector.store import connect; s = connect({url!r}); print(1); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-uc", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        for arguments, way in (
            (["close", "2026-10"], "stop `costspan serve` (apps keep their spans meanwhile)"),
            (["show"], "set COSTSPAN_STORE_DOOR_TOKEN for it"),
        ):
            done = subprocess.run(
                [sys.executable, "-m", "costspan", "reconcile", *arguments],
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
            assert done.returncode == 1
            assert "is in use by another costspan process" in done.stderr
            assert way in done.stderr
        other.communicate("\n")


def test_through_the_door_of_serve_one_can_read_and_not_write(
    run: Run, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("run", "--days", "4")
    with open_door(store, Upkeep.model_validate({"door_token": "t", "door_port": 0})) as url:
        monkeypatch.setenv("COSTSPAN_CLICKHOUSE_URL", url.replace("//", "//reader:t@"))
        assert str(DAY) in run("show")[1]
        assert "UNCLASSIFIED" in run("explain", str(DAY))[1]
        status, text = run("close", "2026-10")
        assert status == 1
        assert "can only be read; this command writes" in text
