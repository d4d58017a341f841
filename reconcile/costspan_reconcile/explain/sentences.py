"""What is said of a line, in words."""

from collections.abc import Sequence
from fractions import Fraction

from costspan_reconcile.amounts import dollars
from costspan_reconcile.explain.classes import Class, Component
from costspan_reconcile.explain.surroundings import WINDOW, Surroundings
from costspan_reconcile.line_items import Form
from costspan_reconcile.match import Line


def text(line: Line, components: Sequence[Component], around: Surroundings) -> str:
    """Return why a line differs, in one paragraph."""
    sentences = [_sentence(part, line, around) for part in components]
    if not sentences:
        sentences = ["Billed and estimated are equal to the last digit."]
    if line.item.form is Form.SERVICE and components:
        sentences.append(_driver(line))
    if line.level == "M2":
        sentences.append("Compared by family: the bill and the spans name the model differently.")
    if line.level == "M3":
        which = f" ({', '.join(line.pooled_keys)})" if line.pooled_keys else ""
        sentences.append(f"Compared for the project as a whole{which}: the key is not known.")
    if line.level == "M4":
        sentences.append("Compared without the tier: the bill and the spans tell another one.")
    if line.spans and line.spans.unpriced_calls:
        sentences.append(f"{line.spans.unpriced_calls:,} calls have no price.")
    return " ".join(filter(None, sentences))


def _sentence(part: Component, line: Line, around: Surroundings) -> str:
    traffic = around.traffic_of(line) if part.component == "coverage" else None
    return _SENTENCES[part.cause].format(
        amount=dollars(part.usd),
        detail=part.detail,
        about=f" ({part.detail})" if part.detail else "",
        named=_named(line, around),
        project=line.project,
        what=line.item.surface or line.line_item,
        tokens=_tokens(line),
        requests=_requests(traffic.requests if traffic else None),
        calls=f"{traffic.calls:,}" if traffic else "",
        unseen=f"{traffic.unseen_calls:,}" if traffic else "",
        retries=f"{traffic.retries:,}" if traffic else "",
        hints=_hints(line, around),
        first=around.day - WINDOW,
        last=around.day + WINDOW,
    )


def _named(line: Line, around: Surroundings) -> str:
    names = [around.key_names.get(key, "") for key in line.keys]
    return ", ".join(
        f'"{name}" ({key})' if name else key or "no key"
        for key, name in zip(line.keys, names, strict=True)
    )


def _tokens(line: Line) -> str:
    """Return both counts; nothing where the spans do not tell one."""
    billed = line.bill.quantity if line.bill else None
    seen = line.usage_quantity if line.usage_quantity is not None else billed
    held = line.spans.quantity if line.spans else 0
    if seen is None or held is None:
        return ""
    return f" ({_count(seen)} tokens counted, {_count(held)} in the spans)"


def _hints(line: Line, around: Surroundings) -> str:
    hints = around.unnamed.get(line.project, ())
    if not hints:
        return ""
    return f" Spans with key hint {', '.join(hints)} belong to no single listed key."


def _driver(line: Line) -> str:
    """Return what a service was billed for, as far as it is counted."""
    counted = line.usage_quantity
    if not counted:
        return ""
    each = f", {dollars(line.billed / counted)} each" if line.billed else ""
    return f"OpenAI counted {_count(counted)}{each}."


def _requests(requests: int | None) -> str:
    return "an unknown number of" if requests is None else f"{requests:,}"


def _count(value: Fraction | int) -> str:
    whole = Fraction(value)
    return f"{whole.numerator:,}" if whole.denominator == 1 else f"{float(whole):,.3f}"


_COUNTED = " OpenAI counted {requests} requests, the spans hold {calls} calls with usage{tokens}."

_SENTENCES = {
    Class.MATCHED: "",
    Class.OPEN: "{amount} so far: the day is not over, so this is no verdict.",
    Class.AWAITING_PROVIDER: "{amount}: not on the bill yet; OpenAI may take days.",
    Class.CREDIT_OR_CORRECTION: "{amount}: OpenAI gave back or corrected this.",
    Class.ORG_LEVEL_FEE: "{amount} for {what}, a fee of the organization that belongs to no project.",
    Class.PLATFORM_SURFACE: "{amount} was used through {what}, not through a traced program.",
    Class.TOOL_FEE: "{amount} for {what}, a fee by the call.",
    Class.STORAGE: "{amount} for {what}, which is billed by size and time.",
    Class.TRANSCRIPTION: "{amount} for {what}, which is billed by the length of the audio.",
    Class.UNCLASSIFIED: "{amount} for {what!r}, a line item that is not understood.",
    Class.UNINSTRUMENTED_KEY: (
        "{amount} went to key {named}, which no span carries from {first} to {last}: "
        "add `import costspan.auto` to the program that uses it."
    ),
    Class.UNINSTRUMENTED_PROJECT: (
        "{amount} went to project {project}, which no span carries from {first} to {last}: "
        "add `import costspan.auto` to the programs of it."
    ),
    Class.UNPRICED_CALLS: "{amount}: these calls were seen, but have no price.",
    Class.AGENTS_API: "{amount} was used by OpenAI's own agents with {named}.",
    Class.BATCH_UNTRACED: "{amount} was used by batches of {named}, and no span is of a batch.",
    Class.CUTOFF: (
        "{amount}: a neighbouring day makes up for it, so these calls are counted on one side of "
        "midnight here and on the other there."
    ),
    Class.ABORTED_OR_TIMED_OUT: (
        "{amount}: {unseen} calls of {named} ended before they told their usage, and were billed."
        + _COUNTED
    ),
    Class.RETRIES_OR_MISSING_SPANS: (
        "{amount} was used by requests of {named} that no span reports: another program with the "
        "same key, sampled spans, or retries ({retries} in the spans)." + _COUNTED + "{hints}"
    ),
    Class.TOKEN_CAPTURE: (
        "{amount}: as many calls as OpenAI counted, but other tokens{tokens}: usage that did not "
        "arrive, or cached tokens that were not told apart."
    ),
    Class.PRICED_FAILURES: "{amount}: failed calls were estimated, and are not billed.",
    Class.DUPLICATE_SPANS: "{amount}: two spans report the same answer." + _COUNTED,
    Class.COVERAGE_UNKNOWN: "{amount}: the cause is not known." + _COUNTED + "{hints}",
    Class.FREE_TOKENS: "{amount}: tokens that OpenAI gave away for free{about}.",
    Class.UNIT: "{amount}: the bill counts in another unit than tokens.",
    Class.BUNDLED: "{amount}: served by a tier that is paid for by a fee.",
    Class.LAG: "{amount}: the bill and the Usage endpoint count differently, and may still meet.",
    Class.METERING_BASIS: "{amount}: the bill counts other tokens than OpenAI's own Usage endpoint.",
    Class.TIER_MISMATCH: "{amount}: billed at the price of tier {detail}.",
    Class.LONG_CONTEXT: "{amount}: billed at the price of {detail} context.",
    Class.WRONG_KIND: "{amount}: billed at the price of {detail}.",
    Class.RESIDENCY: "{amount}: billed {detail}, the surcharge where data stay in a region.",
    Class.PRICE_VERSION: "{amount}: billed at a price of another time than ours ({detail}).",
    Class.MIX: "{amount}: billed at several prices under one name ({detail}).",
    Class.CONTRACT_DISCOUNT: "{amount}: billed {detail} below the list, as other models are.",
    Class.RATE_UNKNOWN: "{amount}: the bill has a price that nothing here explains.",
    Class.ROUNDING: "{amount}: rounding.",
    Class.UNEXPLAINED: (
        "{amount}: counted and not billed, or without a quantity or a price: the cause cannot be told."
    ),
}
