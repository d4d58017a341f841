"""What to call a cause: the new value that it is about, and the feature that a value belongs to."""

from dataclasses import replace

from costspan_dashboards.alerts.cause import DIMENSIONS, Explanation
from costspan_dashboards.alerts.frame import DAY_MINUTES, Ints
from costspan_dashboards.alerts.scopes import View

_NEWS = ("model", "prompt", "user", "key", "service")


def newest(view: View, explanation: Explanation) -> Explanation:
    """Return the explanation with the new value that its first cause is about, if there is one.

    Where nearly all calls of a feature have a model or a prompt that the feature never had before,
    that is what changed; and a prompt is named with its feature.
    """
    where, also = dict(explanation.where), dict(explanation.shared)
    if not where or "user" in where:
        return explanation
    if "feature" not in where and "prompt" in where and "feature" in also:
        where["feature"] = also["feature"]
    if "feature" in where:
        for name in ("model", "prompt"):
            if (
                name in also
                and name not in where
                and is_new(view, where["feature"], name, also[name])
            ):
                where[name] = also[name]
                break
    return named_as(explanation, where)


def named_as(explanation: Explanation, where: dict[str, str]) -> Explanation:
    """Return the explanation with other words for its first cause."""
    first = explanation.contributors[0]
    pairs = tuple((name, where[name]) for name in DIMENSIONS if name in where)
    also = tuple(pair for pair in first.also if pair[0] not in where)
    renamed = replace(first, where=pairs, also=also)
    return replace(explanation, contributors=(renamed, *explanation.contributors[1:]))


def is_new(view: View, feature: str, dimension: str, value: str) -> bool:
    """Say whether a feature that is known from other days never had this value on them."""
    names, days = view.frame.names, view.past.history.days
    before = days.between(0, view.frame.until - view.frame.until % DAY_MINUTES)
    mine = before.code("feature") == names.code("feature", feature)
    its = mine & (before.code(dimension) == names.code(dimension, value))
    return bool(mine.any()) and not bool(its.any())


def changes(view: View, explanation: Explanation) -> list[str]:
    """Return what is new in the calls of the first cause, in words."""
    days = view.past.history.days
    if not len(days.between(0, view.frame.until - view.frame.until % DAY_MINUTES)):
        return []  # where there are no other days nothing is new
    where = dict((*explanation.shared, *explanation.where))
    feature = where.get("feature", "")
    return [
        f"New: {name}={where[name]} was not seen on other days"
        + (f" in feature={feature}." if feature else ".")
        for name in _NEWS
        if name in where
        and name != "user"
        and (
            is_new(view, feature, name, where[name])
            if feature
            else is_unseen(view, name, where[name])
        )
    ]


def is_unseen(view: View, dimension: str, value: str) -> bool:
    """Say whether no call of other days had a value."""
    days = view.past.history.days
    before = days.between(0, view.frame.until - view.frame.until % DAY_MINUTES)
    code: Ints = before.code(dimension)
    return not bool((code == view.frame.names.code(dimension, value)).any())
