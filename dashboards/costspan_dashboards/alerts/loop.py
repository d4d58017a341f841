"""The evaluation that goes on by itself, and what it tells while the store does not answer.

All alerts are kept in the store. While it is away nothing can be said of calls; what there is to
say of the store itself is kept here, told, and handed over when it answers again, where the same
alert goes on. Only a process that ends meanwhile tells it once more.
"""

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from threading import Event
from typing import Any

from apscheduler.schedulers.base import BaseScheduler

from costspan.errors import CostspanError, Unavailable
from costspan.pricing import Book
from costspan_collector.jobs import run_job
from costspan_collector.store import Store
from costspan_dashboards.alerts.alertmanager import push
from costspan_dashboards.alerts.channels import Channel, open_channels
from costspan_dashboards.alerts.evaluate import (
    JOB,
    NOBODY,
    Key,
    evaluate_now,
    keep,
    key_of,
    one_sender,
    step,
)
from costspan_dashboards.alerts.frame import Frame, Plumbing
from costspan_dashboards.alerts.outbox import Notification, send_due, send_unkept
from costspan_dashboards.alerts.rules import judge
from costspan_dashboards.alerts.settings import Alerts
from costspan_dashboards.alerts.state import Alert, Transition

_RETRY_SECONDS = 5
_STORE: Key = ("store_unhealthy", "")
_log = logging.getLogger("costspan.alerts")


class Loop:
    """Evaluates, minute by minute; it knows what it found last."""

    def __init__(
        self,
        store: Store,
        settings: Alerts,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        *,
        book: Book | None = None,
        store_failing_since: Callable[[], datetime | None] = lambda: None,
    ) -> None:
        """Take the channels and the limits.

        Raises:
            Rejected: a notification URL is not understood, or a limit in the file is wrong.
        """
        self._store, self._settings, self._clock = store, settings, clock
        self._book, self._store_failing_since = book, store_failing_since
        self._channels: Sequence[Channel] = open_channels(settings)
        self._limits = settings.limits
        self._unsent = Event()
        self._alerts: dict[Key, Alert] = {}
        self._people = NOBODY
        self._away_since: datetime | None = None
        self._steps: list[Transition] = []
        self._told: list[Notification] = []

    @property
    def alerts(self) -> Sequence[Alert]:
        """The alerts that went on at the last evaluation, whether the store answered or not."""
        return tuple(self._alerts.values())

    def schedule(self, scheduler: BaseScheduler) -> None:
        """Evaluate every `COSTSPAN_ALERTS_INTERVAL_SECONDS`, beginning one interval from now."""
        once: dict[str, Any] = {"trigger": "interval", "max_instances": 1, "coalesce": True}
        scheduler.add_job(
            lambda: run_job(self._store, JOB, self.evaluate),
            seconds=self._settings.interval_seconds,
            id=JOB,
            **once,
        )
        scheduler.add_job(self.send_again, seconds=_RETRY_SECONDS, id="alert_messages", **once)

    def evaluate(self) -> str:
        """Evaluate once; say what came of it.

        Raises:
            Unavailable: the store does not answer; people are told of that.
        """
        now = self._clock()
        try:
            self._hand_over()
            done = evaluate_now(
                self._store,
                self._settings,
                now,
                book=self._book,
                store_failing_since=self._store_failing_since(),
            )
        except Unavailable:
            self._without_store(now)
            raise
        self._away_since, self._people = None, done.people
        self._alerts = {key_of(alert.finding): alert for alert in done.alerts}
        if done.sent.failed or done.sent.waiting:
            self._unsent.set()
        return str(done)

    def send_again(self) -> None:
        """Send what did not arrive and is due."""
        if self._unsent.is_set() and one_sender.acquire(blocking=False):
            try:
                left = send_due(self._store, self._channels, self._settings, self._clock())
            except CostspanError as error:
                _log.warning("messages wait: %s", error)
            else:
                if not left.failed and not left.waiting:
                    self._unsent.clear()
            finally:
                one_sender.release()

    def _without_store(self, now: datetime) -> None:
        """Judge what is known without it, and tell; alerts about calls stay as they are."""
        self._away_since = self._away_since or now
        since = min(self._away_since, self._store_failing_since() or now)
        settings, limits = self._settings, self._limits
        frame = Frame.of_nothing(now, Plumbing(store_failing_since=since))
        alerts, steps = step(
            judge(frame, limits, only=_STORE[0]),
            {key: alert for key, alert in self._alerts.items() if key == _STORE},
            fresh=False,
            now=now,
            timing=settings.timing,
            limits=limits,
            people=self._people,
        )
        self._alerts = self._alerts | alerts
        self._steps += steps
        told = [one for one in self._steps if one.tells]
        with one_sender:
            if told:
                self._told += send_unkept(told[-1], self._channels, settings, self._told, now)
            if settings.alertmanager_url.get_secret_value():  # what it knows would end there
                push(settings, self._alerts.values(), now)

    def _hand_over(self) -> None:
        """Give the store what happened without it: first who was told, so that nobody is again."""
        if not self._steps:
            return
        token = f"{self._told[-1].claim_id}" if self._told else ""
        self._store.insert("notifications", self._told, token=token)
        mine = self._alerts.get(_STORE)
        keep(self._store, [mine] if mine else [], self._steps)
        self._steps, self._told = [], []
