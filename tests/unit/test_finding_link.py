"""Where a finding leads: to the calls of its cause, and of its scope where a cause is no place."""

from decimal import Decimal

import pytest

from costspan_dashboards.alerts.cause import Contributor, Pairs
from costspan_dashboards.alerts.finding import link
from costspan_dashboards.alerts.scopes import Scope

REVIEW = Scope("feature", "review")
TIMEOUT = ("error_kind", "timeout")


@pytest.mark.parametrize(
    ("scope", "where", "also", "narrowed"),
    [
        (REVIEW, (TIMEOUT,), (), "&feature=review"),
        (REVIEW, (TIMEOUT,), (("model", "small"),), "&feature=review&model=small"),
        (REVIEW, (("model", "small"), TIMEOUT), (), "&model=small"),
        (REVIEW, None, (), "&feature=review"),
        (Scope(), (TIMEOUT,), (), ""),
    ],
)
def test_the_link_narrows_to_what_the_alert_is_about(
    scope: Scope, where: Pairs | None, also: Pairs, narrowed: str
) -> None:
    causes = [Contributor(where, also, Decimal(9), Decimal(1), 1.0)] if where else []
    expected = f"/calls?range=last+24+hours{narrowed}&show=failed"
    assert link("errors", scope, causes) == expected
