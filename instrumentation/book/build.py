"""Build the price book: genai-prices, plus our supplement, checked cell by cell against a witness.

    uv run python instrumentation/book/build.py            write the book, print what changed
    uv run python instrumentation/book/build.py --check    fail if the book is not what this builds

Works offline on the pinned wheel of genai-prices and the pruned witness beside this file. Two
sources that differ in a cell need a written ruling, in rulings.toml.
"""

import argparse
import json
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from fnmatch import fnmatchcase
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, cast

from genai_prices import types
from genai_prices.data import providers

HERE = Path(__file__).parent
BOOK = HERE.parent / "costspan" / "pricing" / "book.json"
MILLION = 1_000_000

# genai-prices' unit -> our meter, and how many units its amount buys
_UNITS = {
    "input_mtok": ("input", MILLION),
    "cache_read_mtok": ("cached_input", MILLION),
    "cache_write_mtok": ("cache_write_30m", MILLION),
    "output_mtok": ("output", MILLION),
    "input_audio_mtok": ("audio_input", MILLION),
    "cache_audio_read_mtok": ("cached_audio_input", MILLION),
    "output_audio_mtok": ("audio_output", MILLION),
    "input_image_mtok": ("image_input", MILLION),
    "cache_image_read_mtok": ("cached_image_input", MILLION),
    "output_image_mtok": ("image_output", MILLION),
    "input_mchars": ("characters", MILLION),
    "audio_hours": ("audio_seconds", 3_600),
    "input_audio_hours": ("audio_seconds", 3_600),
    "web_searches_kcount": ("web_search", 1_000),
    "storage_searches_kcount": ("file_search", 1_000),
}
# the witness's field -> our meter, and how many units we quote
_FIELDS = {
    "input_cost_per_token": ("input", MILLION),
    "cache_read_input_token_cost": ("cached_input", MILLION),
    "cache_creation_input_token_cost": ("cache_write_30m", MILLION),
    "cache_creation_input_token_cost_above_12hr": ("cache_write_12h", MILLION),
    "output_cost_per_token": ("output", MILLION),
    "input_cost_per_audio_token": ("audio_input", MILLION),
    "cache_read_input_audio_token_cost": ("cached_audio_input", MILLION),
    "output_cost_per_audio_token": ("audio_output", MILLION),
    "input_cost_per_image_token": ("image_input", MILLION),
    "cache_read_input_image_token_cost": ("cached_image_input", MILLION),
    "output_cost_per_image_token": ("image_output", MILLION),
    "input_cost_per_character": ("characters", MILLION),
    "input_cost_per_second": ("audio_seconds", 3_600),
    "output_cost_per_video_per_second": ("video_seconds_720", 1),
    "code_interpreter_cost_per_session": ("container_minutes_1g", 1),
}
_NOT_RATES = {
    "cache_creation_input_audio_token_cost": "the cached audio rate under another name",
    "output_cost_per_second": "an estimate, or the input rate again",
    "regional_processing_uplift_multiplier_eu": "checked against the region rule",
    "regional_processing_uplift_multiplier_us": "checked against the region rule",
}
_WITNESS_NAMES = {
    "openai/container": ("resource", "container_minutes_1g", 20),
    "sora-2-pro-high-res": ("sora-2-pro", "video_seconds_1024", 1),
}
_TIERS = {"batches": "batch", "flex": "flex", "priority": "priority", "ultrafast": "ultrafast"}
_ANY_TIER = frozenset({"video_seconds_720", "video_seconds_1024"})


class Key(NamedTuple):
    """What a rate holds for. `start` and `end` are ISO instants, empty where open."""

    model: str
    tier: str
    context: str
    start: str
    end: str
    meter: str

    def __str__(self) -> str:
        since = f" {self.start or '...'} to {self.end or '...'}" if self.start or self.end else ""
        return f"{self.model}/{self.tier}/{self.context}{since} {self.meter}"


@dataclass(frozen=True, slots=True)
class Cell:
    """One rate: `usd` for `per` units, who says so, and who else."""

    usd: Decimal
    per: int
    source: str
    origin: str
    seen_in: frozenset[str] = frozenset()

    @property
    def rate(self) -> Fraction:
        """Return dollars a unit."""
        return Fraction(self.usd) / self.per

    def __str__(self) -> str:
        return f"{_plain(self.usd)} per {self.per:,} ({self.origin})"


@dataclass(slots=True)
class Table:
    """The cells of a book in the making, and the differences nobody has ruled on."""

    rulings: list[dict[str, Any]]
    cells: dict[Key, Cell] = field(default_factory=dict[Key, Cell])
    faults: list[str] = field(default_factory=list[str])
    _used: set[int] = field(default_factory=set[int])

    def put(self, key: Key, cell: Cell) -> None:
        """Add a cell, confirm the one that is there, or let a ruling decide between the two."""
        known = self.cells.get(key)
        number, ruling = self._ruling(key)
        if known is not None and known.rate == cell.rate:
            witness = {cell.origin} - {known.origin, "supplement", "rule"}
            self.cells[key] = replace(known, seen_in=known.seen_in | witness)
            return
        keep = ruling["keep"] if ruling else None
        if keep == "neither":
            self._used.add(number)
            self.cells.pop(key, None)
        elif known is None:
            self.cells[key] = cell
        elif keep:
            self._used.add(number)
            if keep == cell.origin:
                self.cells[key] = cell
        else:
            self.faults.append(f"{key}: {known} or {cell}? needs a ruling in rulings.toml")

    def unused(self) -> Iterator[str]:
        """Yield the rulings that no difference needed."""
        for number, ruling in enumerate(self.rulings):
            if number not in self._used:
                yield f"rulings.toml: nothing differs for {ruling['models']} {ruling.get('meters')}"

    def today(self, model: str, tier: str, context: str) -> tuple[str, str]:
        """Return the open-ended segment that a model's rates of today belong to."""
        starts = {
            key.start
            for key in self.cells
            if key.model == model and not key.end and key.context == context
            if key.tier in {tier, "standard"}
        }
        return max(starts, default=""), ""

    def _ruling(self, key: Key) -> tuple[int, dict[str, Any] | None]:
        for number, ruling in enumerate(self.rulings):
            if all(
                _matches(value, ruling.get(name, ["*"]))
                for name, value in (
                    ("models", key.model),
                    ("tiers", key.tier),
                    ("contexts", key.context),
                    ("meters", key.meter),
                )
            ):
                return number, ruling
        return -1, None


@dataclass(slots=True)
class Names:
    """What models are called: the book's own names, aliases, and families with dated snapshots."""

    aliases: dict[str, str] = field(default_factory=dict[str, str])
    snapshots: dict[str, str] = field(default_factory=dict[str, str])
    """A name that may carry a date OpenAI appends, and its model."""


def build() -> tuple[dict[str, Any], list[str]]:
    """Return the book as a document, and what stands in the way of writing it."""
    supplement = _toml("supplement.toml")
    rulings: list[dict[str, Any]] = _toml("rulings.toml")["ruling"]
    table, names = Table(rulings), Names()
    long_context = set(supplement["rule"]["long_context"]["also"])
    _check_pins(supplement["book"], table)
    _read_genai(supplement, table, names, long_context)
    _read_supplement(supplement, table)
    for model, others in supplement["alias"].items():
        names.aliases |= dict.fromkeys(others, model)
    witness = _read_witness(supplement, names, table)
    _derive(supplement["derive"], table)
    _confirm_web_search(supplement, witness, names, table)
    document = _document(supplement, table, names, long_context)
    _check_names(document, witness, names, table)
    return document, [*table.faults, *table.unused()]


def render(document: Mapping[str, Any]) -> str:
    """Return the book as JSON text, a row on a line, so that a change of a rate is a line."""
    lines: list[str] = []
    for name, part in document.items():
        if isinstance(part, list):
            rows = ",\n".join(f"  {_json(row)}" for row in cast("list[object]", part))
            lines.append(f'"{name}": [\n{rows}\n]')
        else:
            lines.append(f'"{name}": {_json(part)}')
    return "{\n" + ",\n".join(lines) + "\n}\n"


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return what changed between two books, a line a rate, name or rule."""
    before, after = _facts(old), _facts(new)
    return [
        *(f"- {name}: {before[name]}" for name in sorted(before.keys() - after.keys())),
        *(f"+ {name}: {after[name]}" for name in sorted(after.keys() - before.keys())),
        *(
            f"! {name}: {before[name]} -> {after[name]}"
            for name in sorted(before.keys() & after.keys())
            if before[name] != after[name]
        ),
    ]


def main() -> int:
    """Build, compare with the book that is there, and write it unless only asked to check."""
    parser = argparse.ArgumentParser(description="Build the price book.")
    parser.add_argument("--check", action="store_true", help="write nothing")
    arguments = parser.parse_args()
    document, faults = build()
    text = render(document)
    old = BOOK.read_text(encoding="utf-8") if BOOK.exists() else "{}"
    changed = differences(json.loads(old), document)
    one_witness = sum(row["confidence"] == "B" for row in document["rows"])
    _print(*changed, *faults)
    _print(
        f"{len(document['rows'])} rows, {one_witness} of them with one witness; "
        f"{len(changed)} differences to the last book; {len(faults)} faults"
    )
    if faults or (arguments.check and text != old):
        return 1
    if not arguments.check:
        BOOK.write_text(text, encoding="utf-8")
    return 0


def _check_pins(pins: Mapping[str, Any], table: Table) -> None:
    installed = version("genai-prices")
    if installed != pins["genai_prices"]:
        table.faults.append(
            f"genai-prices is {installed}, the book is built on {pins['genai_prices']}"
        )


def _read_genai(
    supplement: Mapping[str, Any], table: Table, names: Names, long_context: set[str]
) -> None:
    source = f"genai-prices=={supplement['book']['genai_prices']}"
    separate: Mapping[str, str] = supplement["separate"]
    openai = next(provider for provider in providers if provider.id == "openai")
    for info in openai.models:
        if info.id == "moderation":  # free, which is a rule and not a rate
            continue
        model = supplement["rename"].get(info.id, info.id)
        _read_names(info.match, model, separate, names)
        for key, cell, tiered in _genai_cells(info, model, source):
            if key.meter in {"web_search", "file_search"}:
                key = Key("*", "any", "any", "", "", key.meter)
            elif key.meter == "output":
                key = key._replace(meter=_what_comes_out(model, supplement["output_is"]))
            table.put(key, cell)
            if tiered:
                long_context.add(model)
            for name, of in separate.items():
                if of == model and key.model == model and key.tier == "standard":
                    table.put(key._replace(model=name), cell)
    decisions = next(provider for provider in providers if provider.id == "openai-decisions")
    for info in decisions.models:  # the same models at another endpoint: all input, nothing else
        for key, cell, _ in _genai_cells(info, info.id, source):
            where = f"{source}:{decisions.id}/{info.id}"
            table.put(key._replace(meter="decision_input"), replace(cell, source=where))


def _genai_cells(
    info: types.ModelInfo, model: str, source: str
) -> Iterator[tuple[Key, Cell, bool]]:
    """Yield key, cell and whether long context costs more."""
    for tier, start, end, prices in _genai_offers(info):
        for unit, price in vars(prices).items():
            meter, per = _UNITS[unit]
            key = Key(model, tier, "short", start, end, meter)
            tiered = isinstance(price, types.TieredPrices)
            rates = (
                {"short": price.base, "long": price.tiers[0].price} if tiered else {"short": price}
            )
            for context, usd in rates.items():
                cell = Cell(usd, per, f"{source}:openai/{info.id}", "genai-prices")
                yield key._replace(context=context), cell, tiered


def _genai_offers(info: types.ModelInfo) -> Iterator[tuple[str, str, str, types.ModelPrice]]:
    """Yield tier, start, end and prices.

    A tier's own start is the day it was read, not the day it began: it holds since the last change
    of the model's price.
    """
    if isinstance(info.prices, list):
        dated = [(_start(entry.constraint), entry.prices) for entry in info.prices]
    else:
        dated = [("", info.prices)]
    ends = [start for start, _ in dated[1:]] + [""]
    for (start, prices), end in zip(dated, ends, strict=True):
        yield "standard", start, end, prices
    for variant in info.price_variants or []:
        if tier := _variant_tier(variant.when):
            yield tier, dated[-1][0], "", variant.prices


def _start(constraint: object) -> str:
    return _instant(
        constraint.start_date if isinstance(constraint, types.StartDateConstraint) else None
    )


def _variant_tier(when: Mapping[str, str]) -> str | None:
    tier = "batch" if when.get("processing") == "batch" else when["service_tier"]
    return {"fast": "priority", "default": None}.get(tier, tier)


def _what_comes_out(model: str, output_is: Mapping[str, list[str]]) -> str:
    return next((meter for meter, models in output_is.items() if _matches(model, models)), "output")


def _read_names(match: object, model: str, separate: Mapping[str, str], names: Names) -> None:
    """Take over what is matched whole or by a date; the rest is in the supplement by name."""
    dated = "-\\d{4}-\\d{2}-\\d{2}$"
    for clause in getattr(match, "or_", [match]):
        name: str = getattr(clause, "equals", model)
        regex: str = getattr(clause, "regex", "")
        if name != model and name not in separate:
            names.aliases[name] = model
        if regex.endswith(dated):
            names.snapshots[regex.removesuffix(dated).lstrip("^").replace("\\", "")] = model


def _read_supplement(supplement: Mapping[str, Any], table: Table) -> None:
    for row in supplement["row"]:
        models: list[str] = row.get("models") or sorted(
            {
                key.model
                for key in table.cells
                if key.meter == "output" and _matches(key.model, row["expand"])
            }
        )
        for model in models:
            for tier in row.get("tiers", ["standard"]):
                key = Key(
                    model,
                    tier,
                    "any" if tier == "any" else "short",
                    _instant(row.get("from")),
                    _instant(row.get("to")),
                    "",
                )
                for meter, usd in row["amounts"].items():
                    cell = Cell(Decimal(usd), row.get("per", MILLION), row["source"], "supplement")
                    table.put(key._replace(meter=meter), cell)


def _read_witness(
    supplement: Mapping[str, Any], names: Names, table: Table
) -> Mapping[str, Mapping[str, str]]:
    pin = supplement["book"]["witness"]
    rows: Mapping[str, Mapping[str, str]] = json.loads(
        (HERE / "witness" / f"{pin}.json").read_text(encoding="utf-8")
    )
    origin = _origin(supplement)
    for name, fields in rows.items():
        model, own_meter, per = _WITNESS_NAMES.get(name, (names.aliases.get(name, name), "", 1))
        for label, text in fields.items():
            found = _witness_meter(label)
            usd = Decimal(text)
            if found is None or not usd:
                continue
            tier, context, meter, quoted = found
            if own_meter:
                tier, context, meter, quoted = "any", "any", own_meter, per
                usd = usd / per  # the witness's amount is for `per` units
            segment = table.today(model, tier, context)
            cell = Cell((usd * quoted).normalize(), quoted, f"{origin}:{name}", origin)
            table.put(Key(model, tier, context, *segment, meter), cell)
    return rows


def _origin(supplement: Mapping[str, Any]) -> str:
    return supplement["book"]["witness"].replace("-", "==")


def _witness_meter(label: str) -> tuple[str, str, str, int] | None:
    """Return tier, context, meter and the units quoted, or None for a field that is no rate."""
    base, context, tier = label, "short", "standard"
    stem, _, suffix = base.rpartition("_")
    if suffix in _TIERS:
        base, tier = stem, _TIERS[suffix]
    elif suffix == "decisions":  # caches and output cost nothing there, whatever the witness says
        contexts = {
            "input_cost_per_token": "short",
            "input_cost_per_token_above_272k_tokens": "long",
        }
        return ("standard", contexts[stem], "decision_input", MILLION) if stem in contexts else None
    if base.endswith("_above_272k_tokens"):
        base, context = base.removesuffix("_above_272k_tokens"), "long"
    if base in _NOT_RATES or base == "search_cost_per_query":
        return None
    meter, quoted = _FIELDS[base]
    if meter in _ANY_TIER:
        tier = context = "any"
    return tier, context, meter, quoted


def _confirm_web_search(
    supplement: Mapping[str, Any],
    witness: Mapping[str, Mapping[str, str]],
    names: Names,
    table: Table,
) -> None:
    """Check the fee of a search, which the witness has per model and for one version of the tool."""
    for name, fields in witness.items():
        if "search_cost_per_query" not in fields:
            continue
        usd = Decimal(fields["search_cost_per_query"]) * 1_000
        model = names.aliases.get(name, name)
        for meter in ("search_request", "web_search_preview"):
            key = Key(model, "any", "any", "", "", meter)
            if key in table.cells:
                table.put(key, Cell(usd, 1_000, name, _origin(supplement)))
                break


def _derive(rules: Iterable[Mapping[str, Any]], table: Table) -> None:
    """Fill in what OpenAI states as a factor, and check what is there already."""
    for rule in rules:
        sold = {(*key[:3], key.meter) for key in table.cells if not key.end}
        for key, cell in list(table.cells.items()):
            to_tier = rule.get("to_tier", key.tier)
            if (
                not _matches(key.model, rule["models"])
                or not _matches(key.context, rule.get("contexts", ["short"]))
                or not _matches(key.meter, rule.get("from_meters", ["*"]))
                or key.tier != ("standard" if "from_meters" not in rule else to_tier)
                or key.tier == "any"
            ):
                continue
            target = key._replace(
                tier=to_tier,
                context=rule.get("to_context", key.context),
                start=_instant(rule.get("from")) or key.start,
                end=_instant(rule.get("to")) or key.end,
                meter=rule.get("to_meter", key.meter),
            )
            tier_sells = {meter for *offer, meter in sold if tuple(offer) == target[:3]}
            if to_tier != key.tier and tier_sells and target.meter not in tier_sells:
                continue  # what a tier does not sell today it did not sell before
            times = rule[
                "times_output" if key.meter == "output" and "times_output" in rule else "times"
            ]
            derived = Cell(
                (cell.usd * Decimal(times)).normalize(), cell.per, rule["source"], "rule"
            )
            known = table.cells.get(target)
            if known is None or known.rate != derived.rate:
                table.put(target, derived)
            elif known.origin.startswith("litellm"):
                table.cells[target] = replace(derived, seen_in=known.seen_in | {known.origin})


def _document(
    supplement: Mapping[str, Any], table: Table, names: Names, long_context: set[str]
) -> dict[str, Any]:
    models = {key.model for key in table.cells}
    rule = supplement["rule"]
    region = sorted(model for model in models if _matches(model, rule["region"]["models"]))
    free_writes = sorted(model for model in models if _matches(model, rule["cache_writes"]["free"]))
    return {
        "book": {"name": supplement["book"]["name"], "currency": "usd"},
        "rows": _rows(table, supplement["review"]),
        "aliases": dict(sorted(names.aliases.items())),
        "snapshots": dict(sorted(names.snapshots.items())),
        "rules": {
            "long_context": {
                "above_input_tokens": rule["long_context"]["above_input_tokens"],
                "models": sorted(long_context & models),
                "source": rule["long_context"]["source"],
            },
            "region": rule["region"] | {"models": region},
            "cache_writes": rule["cache_writes"] | {"free": free_writes},
            "search_block": rule["search_block"],
            "free": rule["free"],
        },
        "minimums": [
            minimum | {"from": _instant(minimum.get("from")), "to": _instant(minimum.get("to"))}
            for minimum in supplement["minimum"]
        ],
    }


def _rows(table: Table, reviews: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the cells as rows: those of one model, tier, context, time and source together."""
    rows: dict[tuple[Any, ...], dict[str, str]] = {}
    for key, cell in table.cells.items():
        who = (cell.per, cell.source, tuple(sorted(cell.seen_in)), "A" if cell.seen_in else "B")
        rows.setdefault((*key[:5], *who), {})[key.meter] = _plain(cell.usd)
    found: list[dict[str, Any]] = []
    for (model, tier, context, start, end, per, source, seen, confidence), usd in sorted(
        rows.items()
    ):
        row: dict[str, Any] = {"model": model, "tier": tier, "context": context}
        row |= {"from": start} if start else {}
        row |= {"to": end} if end else {}
        for review in reviews:
            if review["model"] == model and _instant(review["from"]) == start:
                row["review_by"] = review["review_by"].isoformat()
        row |= {"usd": dict(sorted(usd.items())), "per": per, "source": source}
        row |= {"seen_in": list(seen)} if seen else {}
        found.append(row | {"confidence": confidence})
    return found


def _check_names(
    document: Mapping[str, Any],
    witness: Mapping[str, Mapping[str, str]],
    names: Names,
    table: Table,
) -> None:
    models = {row["model"] for row in document["rows"]} | set(document["rules"]["free"]["models"])
    for name, model in names.aliases.items():
        if model not in models:
            table.faults.append(f"{name} is called another name of {model}, which has no row")
        if name in models:
            table.faults.append(f"{name} has rows of its own and is an alias of {model}")
    region = document["rules"]["region"]
    for name, fields in witness.items():
        raised = {value for label, value in fields.items() if label.startswith("regional_")}
        if raised and (
            names.aliases.get(name, name) not in region["models"] or raised != {region["factor"]}
        ):
            table.faults.append(
                f"{name}: the witness has regional rates {raised}, the book has none"
            )


def _facts(document: Mapping[str, Any]) -> dict[str, str]:
    facts = {
        str(Key(row["model"], row["tier"], row["context"], row.get("from", ""), row.get("to", ""), meter)):
            f"{usd} per {row['per']:,}"
        for row in document.get("rows", [])
        for meter, usd in row["usd"].items()
    }  # fmt: skip
    facts |= {f"alias {name}": model for name, model in document.get("aliases", {}).items()}
    facts |= {
        f"snapshots of {name}": model for name, model in document.get("snapshots", {}).items()
    }
    return facts | {f"rule {name}": _json(rule) for name, rule in document.get("rules", {}).items()}


def _matches(value: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(value, pattern) for pattern in patterns)


def _instant(day: date | datetime | None) -> str:
    """Return a day, which begins at midnight UTC, or an instant as ISO text; "" for none."""
    if day is None:
        return ""
    moment = day if isinstance(day, datetime) else datetime.combine(day, time(), UTC)
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _plain(amount: Decimal) -> str:
    text = format(amount, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _json(value: object) -> str:
    return json.dumps(value, default=str)


def _toml(name: str) -> dict[str, Any]:
    return tomllib.loads((HERE / name).read_text(encoding="utf-8"))


def _print(*lines: str) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)


if __name__ == "__main__":
    raise SystemExit(main())
