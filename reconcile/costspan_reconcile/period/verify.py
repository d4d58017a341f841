"""Check an evidence pack with nothing but the pack: no store, no network.

The bill is read from the raw answers once more, by other code than read it first; OpenAI's count of
use is read again too. Each check says in plain words what does not hold.
"""

import hashlib
import json
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

from costspan.errors import CostspanError, Rejected
from costspan.money import plain
from costspan_reconcile.amounts import kept, read_amount
from costspan_reconcile.period import pack
from costspan_reconcile.period.bridge import BALANCE, TOLERANCE_USD, Kind
from costspan_reconcile.period.month import Month, read_month
from costspan_reconcile.usage_pages import ENDPOINTS, UsageRow

_MOST_BYTES = 4 * 2**30
"""Of all documents together: a small zip can hold a great deal."""
_MOST_FAULTS = 20
"""That are told of one check."""
_CONTROL_TOLERANCE_USD = Fraction(1, 10**9)
"""Two groupings of one day, printed as floats, may differ by as much."""
_SETTLED_AFTER, _STABLE_FOR = timedelta(hours=72), timedelta(hours=24)

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold, and where it does not."""

    name: str
    faults: tuple[str, ...]
    more_faults: int = 0
    """Beyond those that are told."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What a pack says of itself, and whether that holds."""

    month: str
    locked_by: str
    locked_at: str
    lock_sha256: str
    billed_usd: Decimal | None
    invoice_usd: Decimal | None
    checks: tuple[Check, ...]

    @property
    def holds(self) -> bool:
        """Return whether every check found nothing."""
        return not any(check.faults for check in self.checks)


@dataclass(frozen=True, slots=True)
class _Pack:
    texts: Mapping[str, str]
    month: Month
    sign_off: Row

    def one(self, name: str) -> Row:
        return _object(self._text(name), name)

    def rows(self, name: str) -> list[Row]:
        return [
            _object(line, f"{name}, line {number}")
            for number, line in enumerate(self._text(name).splitlines(), 1)
        ]

    def by_day(self, folder: str) -> Iterator[tuple[date, list[Row]]]:
        for day in self.month.days:
            yield day, self.rows(f"{folder}/{day}.jsonl")

    def _text(self, name: str) -> str:
        if name not in self.texts:
            msg = f"{name} is not in the pack"
            raise Rejected(msg)
        return self.texts[name]


def verify(path: Path, invoice: Path | None = None) -> Verified:
    """Check the pack at `path`, and that `invoice` is the file it was closed with.

    Raises:
        Rejected: it is no evidence pack at all.
    """
    texts = _read(path)
    manifest = _object(texts[pack.MANIFEST], pack.MANIFEST)
    sign_off = _object(texts[pack.SIGN_OFF], pack.SIGN_OFF)
    if manifest.get("format") != pack.FORMAT:
        msg = f"{path} is a pack of format {manifest.get('format')!r}; this program reads {pack.FORMAT}"
        raise Rejected(msg)
    found = _Pack(texts, read_month(str(manifest.get("month"))), sign_off)
    checks = [
        _check("every document is the one that was signed", _signed(found, manifest)),
        *(_check(name, rule(found)) for name, rule in _RULES),
    ]
    if invoice is not None:
        checks.append(_check("the invoice is the file it was closed with", _file(found, invoice)))
    return Verified(
        month=str(found.month),
        locked_by=str(sign_off.get("locked_by")),
        locked_at=str(sign_off.get("locked_at")),
        lock_sha256=str(sign_off.get("manifest_sha256")),
        billed_usd=_stated(lambda: _sum(found.rows(pack.BILL), "amount_usd")),
        invoice_usd=_stated(lambda: _usd(found.one(pack.INVOICE), "usd")),
        checks=tuple(checks),
    )


def _stated(read: Callable[[], Fraction]) -> Decimal | None:
    try:
        return kept(read())
    except CostspanError:  # a check has said so
        return None


def _read(path: Path) -> dict[str, str]:
    try:
        with zipfile.ZipFile(path) as source:
            entries = source.infolist()
            names = [entry.filename for entry in entries]
            if sum(entry.file_size for entry in entries) > _MOST_BYTES:
                msg = f"{path} holds more than any month"
                raise Rejected(msg)
            if len(set(names)) != len(names):
                msg = f"{path} holds a document twice"
                raise Rejected(msg)
            texts = {name: source.read(name).decode() for name in names}
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror or error}"
        raise Rejected(msg) from error
    except (zipfile.BadZipFile, UnicodeDecodeError, NotImplementedError, RuntimeError) as error:
        msg = f"{path} is not a whole zip of texts: {error}"
        raise Rejected(msg) from error
    for name in (pack.MANIFEST, pack.SIGN_OFF):
        if name not in texts:
            msg = f"{path} is no evidence pack: it has no {name}"
            raise Rejected(msg)
    return texts


def _check(name: str, faults: Iterable[str]) -> Check:
    told: list[str] = []
    try:
        told += faults
    except CostspanError as error:
        told.append(str(error))
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        told.append(f"a document is not what it should be: {type(error).__name__} {error}")
    return Check(name, tuple(told[:_MOST_FAULTS]), max(0, len(told) - _MOST_FAULTS))


def _signed(found: _Pack, manifest: Row) -> Iterator[str]:
    named = cast("Mapping[str, Row]", manifest["documents"])
    rest = found.texts.keys() - {pack.MANIFEST, pack.SIGN_OFF}
    for name in sorted(named.keys() - rest):
        yield f"{name} is missing"
    for name in sorted(rest - named.keys()):
        yield f"{name} was added: the manifest does not name it"
    for name in sorted(rest & named.keys()):
        if pack.digest(found.texts[name]) != named[name]["sha256"]:
            yield f"{name} was changed: its hash is not the one in the manifest"
    if pack.digest(found.texts[pack.MANIFEST]) != found.sign_off["manifest_sha256"]:
        yield "manifest.json was changed: its hash is not the one that was signed"
    if found.sign_off["month"] != str(found.month):
        yield f"the sign-off is of {found.sign_off['month']}, the documents are of {found.month}"


def _chain(found: _Pack) -> Iterator[str]:
    """Walk the records; two may follow the same one, where two processes read at once."""
    known: set[str] = set()
    records = found.rows(pack.CHAIN)
    first = last = records[0]["sequence"] if records else 0
    for record in records:
        number = record["sequence"]
        if _record_sha256(record) != record["record_sha256"]:
            yield f"record {number} was changed: its hash is not that of its content"
        if number > last + 1:
            yield f"records between {last} and {number} were taken out"
        if number > first and known.isdisjoint(record["previous_sha256"].split(",")):
            yield f"record {number} follows none of the records before it"
        known.add(record["record_sha256"])
        last = number


def _record_sha256(record: Row) -> str:
    at = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=record["fetched_at_us"])
    content = [
        record["sequence"],
        record["fetch_id"],
        record["endpoint"],
        record["parameters"],
        record["page"],
        record["request_id"],
        at.isoformat(),
        record["body_sha256"],
        record["previous_sha256"],
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _bodies(found: _Pack) -> Iterator[str]:
    records = {_body_name(record): record for record in found.rows(pack.CHAIN)}
    for name, body in found.texts.items():
        if not name.startswith(pack.BODIES):
            continue
        if name not in records:
            yield f"{name} is of no record in the chain"
        elif pack.digest(body) != records[name]["body_sha256"]:
            yield f"{name} was changed: it is not the answer that was received"


def _body_name(record: Row) -> str:
    return f"{pack.BODIES}/{record['sequence']:010d}-{record['record_sha256'][:12]}.json"


_Line = tuple[str, str, str, str, str, str]
"""Day, project, key, line item, unit, currency."""


def _bill(found: _Pack) -> Iterator[str]:
    """Read the bill from the raw answers and hold it against the lines."""
    readings = {
        (row["day"], row["fetch_id"]): row
        for row in found.rows(pack.READINGS)
        if row["source"] == "costs"
    }
    lines: defaultdict[_Line, Fraction] = defaultdict(Fraction)
    fetches: dict[str, str] = {}
    for row in found.rows(pack.BILL):
        fetches[row["day"]] = row["fetch_id"]
        if read_amount_sum(row["amount"]) != _usd(row, "amount_usd"):
            yield f"{_named(row)}: {row['amount']!r} was sent, {row['amount_usd']} is in the books"
        if not row["vanished"]:
            lines[_line(row)] += _usd(row, "amount_usd")
    sent: defaultdict[_Line, Fraction] = defaultdict(Fraction)
    control: defaultdict[str, Fraction] = defaultdict(Fraction)
    for record, page in _pages(found, "costs"):
        by = json.loads(record["parameters"])["group_by"]
        for day, result in _results(page):
            reading = readings.get((day, record["fetch_id"]))
            if fetches.get(day, record["fetch_id"]) != record["fetch_id"] or reading is None:
                continue  # an answer that holds another revision of this day
            if reading["revision_fetch_id"] != record["fetch_id"]:
                continue
            amount = read_amount(str(result["amount"]["value"]))
            if not by:
                control[day] += amount
            elif list(by) == list(reading["grouped_by"]):
                sent[_sent_line(day, result)] += amount
    for line in sorted(lines.keys() | sent.keys()):
        if lines.get(line) != (kept_fraction(sent[line]) if line in sent else None):
            yield (
                f"{' '.join(filter(None, line[:4]))}: the raw answers say "
                f"{_text(sent.get(line))}, the bill says {_text(lines.get(line))}"
            )
    for day, whole in sorted(control.items()):
        parts = sum((usd for line, usd in sent.items() if line[0] == day), Fraction(0))
        if abs(whole - parts) > _CONTROL_TOLERANCE_USD:
            yield f"{day}: the rows add up to {_text(parts)}, the day as a whole is {_text(whole)}"


def _usage(found: _Pack) -> Iterator[str]:
    """Read OpenAI's count from the raw answers and hold it against the rows."""
    standing = {
        (row["source"], row["day"]): row["revision_fetch_id"]
        for row in found.rows(pack.READINGS)  # oldest first
        if row["status"] == "ok"
    }
    results: defaultdict[tuple[str, str], list[Row]] = defaultdict(list)
    for record, page in _pages(found, *_ENDPOINTS):
        for day, result in _results(page):
            if standing.get((record["endpoint"], day)) == record["fetch_id"]:
                results[record["endpoint"], day].append(result)
    sent = {
        (source, *(str(getattr(row, name)) for name in _COUNTED)): row.quantity
        for (source, day), rows in results.items()
        for row in _ENDPOINTS[source].rows(date.fromisoformat(day), rows)
    }
    kept_rows = {
        (row["source"], *(str(row[name]) for name in _COUNTED)): row["quantity"]
        for row in found.rows(pack.USAGE)
    }
    for place in sorted(sent.keys() | kept_rows.keys()):
        if sent.get(place) != kept_rows.get(place):
            yield (
                f"{' '.join(filter(None, place))}: the raw answers count "
                f"{sent.get(place, 'nothing')}, the books {kept_rows.get(place, 'nothing')}"
            )


_ENDPOINTS = {endpoint.name: endpoint for endpoint in ENDPOINTS}
_COUNTED = tuple(field.name for field in fields(UsageRow) if field.name != "quantity")


def _pages(found: _Pack, *endpoints: str) -> Iterator[tuple[Row, Row]]:
    for record in found.rows(pack.CHAIN):
        name = _body_name(record)
        if record["endpoint"] in endpoints and name in found.texts:
            yield record, _object(found.texts[name], name)


def _results(page: Row) -> Iterator[tuple[str, Row]]:
    for bucket in page["data"]:
        day = datetime.fromtimestamp(int(bucket["start_time"]), UTC).date().isoformat()
        for result in bucket["results"]:
            yield day, result


def _sent_line(day: str, result: Row) -> _Line:
    return (
        day,
        result.get("project_id") or "",
        result.get("api_key_id") or "",
        result.get("line_item") or "",
        result.get("quantity_unit") or "",
        result["amount"]["currency"].lower(),
    )


def _line(row: Row) -> _Line:
    return (
        row["day"],
        row["project"],
        row["api_key_id"],
        row["line_item"],
        row["quantity_unit"],
        row["currency"],
    )


def _classes(found: _Pack) -> Iterator[str]:
    components = dict(found.by_day(pack.COMPONENTS))
    for day, lines in found.by_day(pack.LINES):
        classes: defaultdict[tuple[str, ...], Fraction] = defaultdict(Fraction)
        for row in components[day]:
            classes[_key(row)] += _usd(row, "amount_usd")
        for row in lines:
            difference = _usd(row, "billed_usd") - _usd(row, "estimated_usd")
            classed = classes.pop(_key(row), Fraction(0))
            if classed != difference:
                yield (
                    f"{_named(row)}: billed less estimated is {_text(difference)}, "
                    f"its classes add up to {_text(classed)}"
                )
            parts = [row[f"{name}_usd"] for name in ("coverage", "metering", "rate", "unsplit")]
            if any(part is not None for part in parts):
                split = sum((Fraction(part) for part in parts if part is not None), Fraction(0))
                if split != difference:
                    yield (
                        f"{_named(row)}: billed less estimated is {_text(difference)}, "
                        f"its parts add up to {_text(split)}"
                    )
        for key in classes:
            yield f"{day} {' '.join(key)}: has a class and no line"


def _days(found: _Pack) -> Iterator[str]:
    """Check that the lines of each day are its bill."""
    billed: defaultdict[str, Fraction] = defaultdict(Fraction)
    for row in found.rows(pack.BILL):
        billed[row["day"]] += _usd(row, "amount_usd")
    runs = {row["day"]: row for row in found.rows(pack.RUNS)}
    for day, lines in found.by_day(pack.LINES):
        run = runs.get(str(day))
        if run is None:
            yield f"{day} was never reconciled"
            continue
        whole, summed = _usd(run, "billed_usd"), _sum(lines, "billed_usd")
        if not whole == summed == billed[str(day)]:
            yield (
                f"{day}: the bill is {_text(billed[str(day)])}, the run says {_text(whole)}, "
                f"its lines add up to {_text(summed)}"
            )


def _final(found: _Pack) -> Iterator[str]:
    """Check that each day had stopped changing when it was locked."""
    locked_at = datetime.fromisoformat(found.sign_off["locked_at"])
    read: defaultdict[str, list[tuple[datetime, str]]] = defaultdict(list)
    for row in found.rows(pack.READINGS):
        if row["source"] == "costs" and row["status"] == "ok":
            at = datetime.fromisoformat(row["fetched_at"]).replace(tzinfo=UTC)
            read[row["day"]].append((at, row["content_sha256"]))
    for day in found.month.days:
        end = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
        if locked_at < end + _SETTLED_AFTER:
            yield f"{day} was locked before it was 72 hours old"
        stable: list[datetime] = []
        for at, content in reversed(read[str(day)]):
            if content != read[str(day)][-1][1]:
                break
            stable.append(at)
        if not stable or stable[0] - stable[-1] < _STABLE_FOR:
            yield f"{day} has no two equal readings a day apart"


def _allocations(found: _Pack) -> Iterator[str]:
    allocated: defaultdict[tuple[str, ...], Fraction] = defaultdict(Fraction)
    for row in found.rows(pack.ALLOCATIONS):
        parts = sum((_usd(row, f"{kind}_usd") for kind in _SHARES), Fraction(0))
        if parts != _usd(row, "amount_usd"):
            yield f"{_named(row)}: the kinds of its shares do not add up to {row['amount_usd']}"
        allocated[row["day"], *_key(row)] += _usd(row, "amount_usd")
    for day, lines in found.by_day(pack.LINES):
        for row in lines:
            shares = allocated.pop((str(day), *_key(row)), Fraction(0))
            if shares != _usd(row, "billed_usd"):
                yield (
                    f"{_named(row)}: {row['billed_usd']} was billed, "
                    f"its shares add up to {_text(shares)}"
                )
    for key in allocated:
        yield f"{' '.join(key)}: has shares and no line"


_SHARES = ("direct", "shared", "unattributed")


def _bridge(found: _Pack) -> Iterator[str]:
    lines, owed = found.rows(pack.BRIDGE), _usd(found.one(pack.INVOICE), "usd")
    of = defaultdict(Fraction, {kind: Fraction(0) for kind in Kind})
    for row in lines:
        of[Kind(row["kind"])] += _usd(row, "amount_usd")
    charges = sum((usd for kind, usd in of.items() if kind not in BALANCE), Fraction(0))
    if charges != owed:
        yield f"the bridge adds up to {_text(charges)} and must end at {_text(owed)}"
    drawn = sum((of[kind] for kind in BALANCE), Fraction(0))
    if found.one(pack.INVOICE)["prepaid"] and drawn != owed:
        yield f"{_text(drawn)} was drawn from the balance, {_text(owed)} was charged"
    billed = _sum(found.rows(pack.BILL), "amount_usd")
    if of[Kind.BILLED] != billed:
        yield f"the bridge starts at {_text(of[Kind.BILLED])}, the bill is {_text(billed)}"
    corrections = _sum(found.rows(pack.ADJUSTMENTS), "amount_usd")
    if of[Kind.CORRECTION] != corrections:
        yield (
            f"the bridge has corrections of {_text(of[Kind.CORRECTION])}, "
            f"{_text(corrections)} are booked"
        )
    if abs(of[Kind.ROUNDING]) > TOLERANCE_USD:
        yield f"{_text(of[Kind.ROUNDING])} is called rounding, and is more than a cent"


def _file(found: _Pack, invoice: Path) -> Iterator[str]:
    stated = found.one(pack.INVOICE)
    if file_sha256(invoice) != stated["sha256"]:
        yield f"{invoice} is not {stated['file'] or 'any file'} that the month was closed with"


def file_sha256(path: Path) -> str:
    """Return the hash of a file.

    Raises:
        Rejected: it cannot be read.
    """
    try:
        with path.open("rb") as source:
            return hashlib.file_digest(source, "sha256").hexdigest()
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror}"
        raise Rejected(msg) from error


_RULES: tuple[tuple[str, Callable[[_Pack], Iterable[str]]], ...] = (
    ("the chain of answers is whole", _chain),
    ("every raw answer is the one that was received", _bodies),
    ("the raw answers say what was billed", _bill),
    ("the raw answers say what was counted", _usage),
    ("the lines of each day are its bill", _days),
    ("the classes of each line are its difference", _classes),
    ("the shares of each line are what it was billed", _allocations),
    ("every day was final", _final),
    ("the bridge ends at the invoice", _bridge),
)


def _object(text: str, what: str) -> Row:
    try:
        # Numbers with a point stay the text they were sent as; a float would lose digits.
        content: object = json.loads(text, parse_float=str)
    except (ValueError, RecursionError) as error:
        msg = f"{what} is not JSON: {error}"
        raise Rejected(msg) from error
    if not isinstance(content, dict):
        msg = f"{what} is not an object"
        raise Rejected(msg)
    return cast("Row", content)


def read_amount_sum(text: str) -> Fraction:
    """Return the sum that the amounts of equal rows state, joined by ` + `, as it is kept."""
    return kept_fraction(sum(map(read_amount, text.split(" + ")), Fraction(0)))


def kept_fraction(value: Fraction) -> Fraction:
    """Return `value` with the forty places that are kept."""
    return Fraction(kept(value))


def _key(row: Row) -> tuple[str, str, str]:
    return row["project"], row["api_key_id"], row["line_item"]


def _named(row: Row) -> str:
    return " ".join(filter(None, (row["day"], *_key(row))))


def _usd(row: Row, name: str) -> Fraction:
    return Fraction(0) if row[name] is None else read_amount(str(row[name]))


def _sum(rows: Iterable[Row], name: str) -> Fraction:
    return sum((_usd(row, name) for row in rows), Fraction(0))


def _text(usd: Fraction | None) -> str:
    return "nothing" if usd is None else plain(kept(usd))
