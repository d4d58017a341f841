"""The classes that a dollar of difference can be in, and the verdicts on top of them."""

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction


class Class(StrEnum):
    """Why dollars differ. Of two that fit, the one that is asked about first holds."""

    MATCHED = "MATCHED"
    OPEN = "OPEN"
    AWAITING_PROVIDER = "AWAITING_PROVIDER"

    # A whole line has one cause
    CREDIT_OR_CORRECTION = "CREDIT_OR_CORRECTION"
    ORG_LEVEL_FEE = "ORG_LEVEL_FEE"
    PLATFORM_SURFACE = "PLATFORM_SURFACE"
    TOOL_FEE = "TOOL_FEE"
    STORAGE = "STORAGE"
    TRANSCRIPTION = "TRANSCRIPTION"
    UNCLASSIFIED = "UNCLASSIFIED"
    UNINSTRUMENTED_KEY = "UNINSTRUMENTED_KEY"
    UNINSTRUMENTED_PROJECT = "UNINSTRUMENTED_PROJECT"

    # Coverage: what the provider counted and the spans did not
    UNPRICED_CALLS = "UNPRICED_CALLS"
    AGENTS_API = "AGENTS_API"
    BATCH_UNTRACED = "BATCH_UNTRACED"
    CUTOFF = "CUTOFF"
    ABORTED_OR_TIMED_OUT = "ABORTED_OR_TIMED_OUT"
    RETRIES_OR_MISSING_SPANS = "RETRIES_OR_MISSING_SPANS"
    TOKEN_CAPTURE = "TOKEN_CAPTURE"  # noqa: S105
    PRICED_FAILURES = "PRICED_FAILURES"
    DUPLICATE_SPANS = "DUPLICATE_SPANS"
    COVERAGE_UNKNOWN = "COVERAGE_UNKNOWN"

    # Metering: what the bill counts other than the Usage endpoint
    FREE_TOKENS = "FREE_TOKENS"
    UNIT = "UNIT"
    BUNDLED = "BUNDLED"
    LAG = "LAG"
    METERING_BASIS = "METERING_BASIS"

    # Rate: another price than ours
    TIER_MISMATCH = "TIER_MISMATCH"
    LONG_CONTEXT = "LONG_CONTEXT"
    WRONG_KIND = "WRONG_KIND"
    RESIDENCY = "RESIDENCY"
    PRICE_VERSION = "PRICE_VERSION"
    MIX = "MIX"
    CONTRACT_DISCOUNT = "CONTRACT_DISCOUNT"
    RATE_UNKNOWN = "RATE_UNKNOWN"

    # The rest
    ROUNDING = "ROUNDING"
    UNEXPLAINED = "UNEXPLAINED"


UNKNOWN = frozenset(
    {Class.UNCLASSIFIED, Class.COVERAGE_UNKNOWN, Class.RATE_UNKNOWN, Class.UNEXPLAINED}
)
"""What nobody can explain yet."""

MEANING = {
    Class.OPEN: "the day is not over",
    Class.AWAITING_PROVIDER: "used, and not on the bill yet",
    Class.CREDIT_OR_CORRECTION: "money that OpenAI gave back or corrected",
    Class.ORG_LEVEL_FEE: "fees of the organization, of no project",
    Class.PLATFORM_SURFACE: "used through evals or another page of the platform",
    Class.TOOL_FEE: "searches and other tools, by the call",
    Class.STORAGE: "files that are stored",
    Class.TRANSCRIPTION: "audio, by its length",
    Class.UNCLASSIFIED: "line items that are not understood",
    Class.UNINSTRUMENTED_KEY: "billed to a key that no span carries",
    Class.UNINSTRUMENTED_PROJECT: "billed to a project that no span carries",
    Class.UNPRICED_CALLS: "calls that were seen and have no price",
    Class.AGENTS_API: "used by OpenAI's own agents",
    Class.BATCH_UNTRACED: "used by batches that no span tells of",
    Class.CUTOFF: "counted on the day before or after; two days cancel out",
    Class.ABORTED_OR_TIMED_OUT: "calls that ended before they told their usage",
    Class.RETRIES_OR_MISSING_SPANS: "requests that OpenAI counted and no span reported",
    Class.TOKEN_CAPTURE: "calls whose spans hold other tokens than OpenAI counted",
    Class.PRICED_FAILURES: "failed calls that were estimated and not billed",
    Class.DUPLICATE_SPANS: "answers that two spans report",
    Class.COVERAGE_UNKNOWN: "tokens in the spans other than counted, cause not known",
    Class.FREE_TOKENS: "counted, and given away by OpenAI",
    Class.UNIT: "billed in another unit than it is counted in",
    Class.BUNDLED: "paid for by a fee for a tier, not by the token",
    Class.LAG: "the bill and the Usage endpoint may still meet: the day is not final",
    Class.METERING_BASIS: "the bill counts other tokens than OpenAI's Usage endpoint",
    Class.TIER_MISMATCH: "billed at the price of another tier",
    Class.LONG_CONTEXT: "billed at the price of another length of context",
    Class.WRONG_KIND: "billed at the price of cached or other tokens",
    Class.RESIDENCY: "billed with the surcharge for data that stay in a region",
    Class.PRICE_VERSION: "billed at a price of another time than ours",
    Class.MIX: "billed at two prices under one name",
    Class.CONTRACT_DISCOUNT: "billed at the same share of the list price as other models",
    Class.RATE_UNKNOWN: "billed at a price that nothing here explains",
    Class.ROUNDING: "less than a millionth of a dollar",
    Class.UNEXPLAINED: "counted and not billed, or without a quantity or a price: cause not known",
}  # fmt: skip


class Verdict(StrEnum):
    """What a person has to do about it: nothing, unless it says review."""

    OPEN = "OPEN"
    AWAITING = "AWAITING"
    MATCHED = "MATCHED"
    EXPLAINED = "EXPLAINED"
    REVIEW = "REVIEW"
    BLOCKED = "BLOCKED"


@dataclass(frozen=True, slots=True)
class Component:
    """A part of a difference and its class."""

    component: str
    """whole, coverage, metering, rate or unsplit."""
    cause: Class
    usd: Fraction
    detail: str = ""
    """What the class is about, such as the tier."""
