"""What was found, for a person."""

from collections.abc import Mapping
from typing import Any

from costspan.doctor.examination import Examination, installed


def page(found: Examination) -> str:
    """Return it section by section, ending with what is to do."""
    others = found.other_instrumentations
    return "\n\n".join(
        section
        for section in (
            _section("Versions", {name: each or "-" for name, each in found.versions.items()}),
            _section("Settings in force", found.settings),
            _section("Spans go to", found.destination),
            _call_text(found.call),
            _price_text(found.price),
            _section(
                "Other instrumentations (switched on as well they count calls twice)",
                {name: installed(name) for name in others},
            ),
            _section("Counted faults", found.counters),
            "\n".join(["To do", *(f"  ! {each}" for each in found.findings)])
            if found.findings
            else "All is well.",
        )
        if section
    )


def _section(title: str, values: Mapping[str, Any]) -> str:
    if not values:
        return ""
    width = max(map(len, values))
    lines = (f"  {name:<{width}}  {_shown(value)}" for name, value in values.items())
    return "\n".join([title, *lines])


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def _call_text(call: Mapping[str, Any] | None) -> str:
    if call is None:
        return ""
    spans = [_section(f"Span: {call['span']} ({call['seconds']:.3f} s)", call["attributes"])]
    spans += [
        _section(f"HTTP attempt: {each['span']} ({each['seconds']:.3f} s)", each["attributes"])
        for each in call["http_attempts"]
    ]
    return "\n\n".join(spans)


def _price_text(priced: Mapping[str, Any] | None) -> str:
    if priced is None:
        return ""
    lines = [f"Price: {priced['path'] or 'none'}, book {priced['book']}, {priced['status']}"]
    lines += [
        f"  {part['meter']:<20} {part['quantity']:>12,} x {part['usd_per_million']} / 1,000,000"
        f" = {part['usd']} USD"
        for part in priced["parts"]
    ]
    if priced["usd"] is not None:
        lines.append(f"  total {priced['usd']} USD")
    return "\n".join(lines)
