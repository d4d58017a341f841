"""The dead man's switch: after each evaluation that worked, somebody outside is asked for a page.

Whoever answers there (Healthchecks' protocol: a plain GET) raises the alarm when it stays away, as
this process cannot when it is dead. Its grace is best three intervals.
"""

from costspan_dashboards.alerts.settings import Alerts
from costspan_dashboards.alerts.wire import Outcome, send

HEARTBEAT = "heartbeat"


def beat(settings: Alerts) -> Outcome:
    """Say that an evaluation worked."""
    return send("GET", settings.heartbeat_url.get_secret_value(), settings.notify_timeout_seconds)
