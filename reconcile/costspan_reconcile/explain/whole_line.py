"""Steps 0 and 1: lines whose difference has one cause as a whole."""

from costspan_reconcile.explain.classes import Class
from costspan_reconcile.explain.states import DayState
from costspan_reconcile.explain.surroundings import Surroundings
from costspan_reconcile.line_items import Form
from costspan_reconcile.match import Line

SERVICES = {
    "web search": Class.TOOL_FEE,
    "file search": Class.TOOL_FEE,
    "vector storage": Class.STORAGE,
    "file search storage": Class.STORAGE,
    "transcription": Class.TRANSCRIPTION,
    "scale tier": Class.ORG_LEVEL_FEE,
    "reserved tier": Class.ORG_LEVEL_FEE,
}
_PREPAID_TIERS = frozenset({"scale"})


def whole_line(line: Line, around: Surroundings) -> Class | None:
    """Return the class of a line whose difference has one cause, None where it has to be split."""
    if around.state is DayState.OPEN:
        return Class.OPEN
    if line.bill is None and not around.settled:
        return Class.AWAITING_PROVIDER
    if line.billed < 0:
        return Class.CREDIT_OR_CORRECTION
    if line.bill and not line.project and _is_fee(line):
        return Class.ORG_LEVEL_FEE
    if line.item.surface and line.item.form is Form.TOKENS:
        return Class.PLATFORM_SURFACE
    if line.item.form is Form.SERVICE:
        return SERVICES[line.item.name]
    if line.item.surface:
        return Class.PLATFORM_SURFACE
    if line.item.form is Form.UNCLASSIFIED:
        return Class.UNCLASSIFIED
    return _not_instrumented(line, around)


def _is_fee(line: Line) -> bool:
    """Return whether a line that belongs to no project is a fee of the organization.

    Tokens that belong to none are those of a bill that is not split by project.
    """
    return line.item.form is Form.SERVICE or line.item.tier in _PREPAID_TIERS


def _not_instrumented(line: Line, around: Surroundings) -> Class | None:
    """Return that no span carries the key or project of a line.

    Spans whose key has no name may be its own, so they keep a key from being accused.
    """
    if line.spans is not None or not line.project or line.project in around.unnamed:
        return None
    if line.pooled_keys or not line.api_key_id:
        seen = any(project == line.project for project, _ in around.instrumented)
        return None if seen or not line.bill else Class.UNINSTRUMENTED_PROJECT
    if (line.project, line.api_key_id) not in around.instrumented:
        return Class.UNINSTRUMENTED_KEY
    return None
