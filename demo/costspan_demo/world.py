"""The demo's world: a local OpenAI, costspan serving, two weeks of history, and apps at work."""

import json
import os
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

from pydantic import SecretStr

from costspan.errors import Rejected
from costspan_collector.jobs import run_job
from costspan_collector.settings import ClickHouse, Pricing, Receiver, read_settings
from costspan_collector.store.rollups import refresh
from costspan_dashboards.alerts import evaluate
from costspan_dashboards.alerts.settings import Alerts
from costspan_dashboards.serve import Serving, Settings, serving
from costspan_demo import traffic
from costspan_demo.children import Child
from costspan_demo.history import ENVIRONMENT, load
from costspan_demo.organization import LIVE_KEY, NIGHTLY_FEATURE, Organization, organization
from costspan_reconcile import schedule
from costspan_reconcile.settings import Reconcile

_OTHERS_PREFIXES = ("COSTSPAN_", "OPENAI_", "OTEL_")
_BAR_WIDTH = 40


@dataclass(frozen=True, slots=True)
class World:
    """Everything that runs."""

    organization: Organization
    openai_url: str
    serving: Serving
    settings: Settings
    since: datetime
    """When the history ends and live calls begin."""
    history_calls: int
    """Calls of the history that were sent as spans."""

    def app(self, calls: int | None) -> Child:
        """Start the app that has costspan's import."""
        arguments = [] if calls is None else ["--calls", str(calls)]
        environ = {
            **self._openai(LIVE_KEY),
            "COSTSPAN_CAPTURE_PRICED_HOSTS": "127.0.0.1",
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.serving.url,
            "OTEL_SERVICE_NAME": self.organization.key(LIVE_KEY).service,
            "OTEL_RESOURCE_ATTRIBUTES": f"deployment.environment.name={ENVIRONMENT}",
            "OTEL_BSP_SCHEDULE_DELAY": "1000",
        }
        return Child.start("app", arguments, environ)

    def untraced(self, calls: int | None) -> Child:
        """Start the script that nobody traced."""
        arguments = [] if calls is None else ["--calls", str(calls)]
        return Child.start("untraced", arguments, self._openai(NIGHTLY_FEATURE))

    def settle(self) -> datetime:
        """Reconcile and evaluate now, since the scheduler's first runs saw no history; return when."""
        store, settings = self.serving.store, self.settings
        self.serving.pipeline.settle()
        refresh(store)  # alerts are judged against the rollups of the history
        now = datetime.now(UTC)
        run_job(
            store,
            schedule.JOB,
            lambda: schedule.reconcile_now(store, settings.reconcile, now).line(),
        )
        run_job(
            store, evaluate.JOB, lambda: str(evaluate.evaluate_now(store, settings.alerts, now))
        )
        return now

    def truth(self, path: str = "/_demo/ledger") -> Any:  # noqa: ANN401 - JSON
        """Return what the local OpenAI's ledger says, amounts as text."""
        with urlopen(f"{self.openai_url}{path}", timeout=30) as answer:  # noqa: S310 - our own
            return json.load(answer)

    def _openai(self, key: str) -> dict[str, str]:
        return {
            "OPENAI_BASE_URL": f"{self.openai_url}/v1",
            "OPENAI_API_KEY": self.organization.key(key).secret,
        }


@contextmanager
def running(*, port: int, days: int, seed: int, data: Path | None) -> Generator[World]:
    """Start it all and load the history; when the block ends, stop and remove what was made.

    Raises:
        Rejected: the port is taken, or `data` holds something already.
    """
    _leave_environment()
    who = organization(seed)
    now = datetime.now(UTC)
    with ExitStack() as stack:
        directory = _directory(data, stack)
        arguments = ["--seed", str(seed), "--now", now.isoformat(), "--days", str(days)]
        openai = stack.enter_context(Child.start("local_openai", arguments, {}))
        openai_url = str(json.loads(openai.line())["url"])
        settings = Settings(
            clickhouse=ClickHouse(url=f"chdb://{quote(str(directory.absolute() / 'store'))}"),
            receiver=read_settings(Receiver, port=port),
            reconcile=Reconcile(
                admin_key=SecretStr(who.admin_secret),
                base_url=f"{openai_url}/v1",
                lookback_days=days + 2,
                interval_seconds=60,
            ),
            pricing=Pricing(overrides=None),
            # The faults are in the history already: who looks now need not wait for them to last.
            alerts=Alerts(interval_seconds=30, for_seconds=0),
        )
        server = stack.enter_context(serving(settings))
        calls = traffic.history(who, seed=seed, now=now, days=days)
        bar = _Bar("loading history", sum(call.key.traced for call in calls))
        loaded = load(
            calls, who, collector_url=server.url, openai_url=openai_url, progress=bar.show
        )
        bar.end()
        yield World(who, openai_url, server, settings, now, loaded)


def _leave_environment() -> None:
    """Forget variables that are meant for real services, and keep proxies off the loopback."""
    for name in [name for name in os.environ if name.startswith(_OTHERS_PREFIXES)]:
        del os.environ[name]
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), "127.0.0.1")))


def _directory(data: Path | None, stack: ExitStack) -> Path:
    if data is None:
        made = tempfile.TemporaryDirectory(prefix="costspan-demo-", ignore_cleanup_errors=True)
        return Path(stack.enter_context(made))
    try:
        data.mkdir(parents=True, exist_ok=True)
        taken = any(data.iterdir())
    except OSError as error:
        msg = f"cannot use {data}: {error.strerror}"
        raise Rejected(msg) from error
    if taken:
        msg = f"{data} is not empty; the demo needs a directory of its own, so name another"
        raise Rejected(msg)
    return data


class _Bar:
    """A progress bar, on a terminal only."""

    def __init__(self, what: str, total: int) -> None:
        self._what = what
        self._total = max(1, total)
        self._started = time.monotonic()
        self._shows = sys.stderr.isatty()

    def show(self, done: int) -> None:
        """Show how far it got."""
        if self._shows:
            full = "█" * (_BAR_WIDTH * done // self._total)
            line = f"\r{self._what} {full:<{_BAR_WIDTH}} {done:,} of {self._total:,} calls"
            sys.stderr.write(line)
            sys.stderr.flush()

    def end(self) -> None:
        """Go to the next line."""
        if self._shows:
            sys.stderr.write(f" in {time.monotonic() - self._started:.0f} s\n")
