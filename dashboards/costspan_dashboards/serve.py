"""One process, one port: OTLP in, the scheduler, the pages."""

import logging
import os
import socket
import threading
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.resources import files

import uvicorn
from apscheduler.schedulers.background import BackgroundScheduler

from costspan.errors import Rejected
from costspan_collector.pipeline import Pipeline
from costspan_collector.receiver import routes
from costspan_collector.settings import ClickHouse, Receiver, unknown_variables
from costspan_collector.store import Store, connect, migrate
from costspan_dashboards.alerts import evaluate
from costspan_dashboards.alerts.settings import Alerts
from costspan_reconcile import schedule
from costspan_reconcile.settings import Reconcile

_log = logging.getLogger("costspan.serve")
_GRACE_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything the serving process reads from its environment."""

    clickhouse: ClickHouse = field(default_factory=ClickHouse)
    receiver: Receiver = field(default_factory=Receiver)
    reconcile: Reconcile = field(default_factory=Reconcile)
    alerts: Alerts = field(default_factory=Alerts)


@dataclass(frozen=True, slots=True)
class Serving:
    """A running server."""

    url: str
    store: Store
    pipeline: Pipeline


@contextmanager
def serving(settings: Settings) -> Generator[Serving]:
    """Serve until the block ends; then stop intake, write what was accepted, and let go.

    Raises:
        Rejected: the port or the engine's directory is taken; the message names it.
        Unavailable: the ClickHouse server does not answer.
    """
    for line in unknown_variables(os.environ, (ClickHouse, Receiver, Reconcile, Alerts)):
        _log.warning(line)
    with ExitStack() as stack:
        listener = stack.enter_context(_listen(settings.receiver))
        store = connect(settings.clickhouse.url)
        stack.callback(store.close)
        migrate(store)
        pipeline = Pipeline(store, settings.receiver)
        stack.callback(pipeline.close)
        scheduler = BackgroundScheduler(timezone="UTC")
        schedule.add_jobs(scheduler, store, settings.reconcile)
        evaluate.add_jobs(scheduler, store, settings.alerts)
        server = _server(settings, pipeline)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="serve")
        thread.start()
        stack.callback(_stop, server, thread)
        scheduler.start()
        stack.callback(scheduler.shutdown, wait=False)
        host, port = listener.getsockname()[:2]
        yield Serving(f"http://{host}:{port}", store, pipeline)


def _listen(receiver: Receiver) -> socket.socket:
    try:
        return socket.create_server((receiver.host, receiver.port))
    except OSError as error:
        msg = (
            f"port {receiver.port} on {receiver.host} cannot be used ({error.strerror}); "
            "stop what listens there, or choose another with --port or COSTSPAN_RECEIVER_PORT"
        )
        raise Rejected(msg) from error


def _server(settings: Settings, pipeline: Pipeline) -> uvicorn.Server:
    import streamlit as st  # noqa: PLC0415 - slow to import, and only serving needs it
    from streamlit import config  # noqa: PLC0415

    os.environ["COSTSPAN_CLICKHOUSE_URL"] = settings.clickhouse.url
    for option, value in {
        "browser.gatherUsageStats": False,
        "server.fileWatcherType": "none",
        "server.headless": True,
        "client.toolbarMode": "minimal",
    }.items():
        config.set_option(option, value)
    script = files("costspan_dashboards").joinpath("app.py")
    app = st.App(str(script), routes=routes(pipeline, settings.receiver))
    return uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="warning",
            ws="websockets-sansio",
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
    )


def _stop(server: uvicorn.Server, thread: threading.Thread) -> None:
    server.should_exit = True
    thread.join(timeout=2 * _GRACE_SECONDS)
