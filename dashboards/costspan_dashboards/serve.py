"""One process, one port: OTLP in, the scheduler, the pages."""

import logging
import os
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.resources import files
from typing import Any

from apscheduler.schedulers.background import BackgroundScheduler
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from costspan.errors import CostspanError
from costspan.pricing import Book
from costspan_collector import upkeep
from costspan_collector.grpc_receiver import running_grpc
from costspan_collector.listening import bracketed, listen, running
from costspan_collector.pipeline import Pipeline
from costspan_collector.receiver import routes
from costspan_collector.reports import figures, reporting
from costspan_collector.settings import (
    Audit,
    ClickHouse,
    Pricing,
    Receiver,
    Upkeep,
    read_settings,
    unknown_variables,
)
from costspan_collector.store import Store, attach, migrate
from costspan_collector.store.door import open_door
from costspan_collector.telemetry import render
from costspan_dashboards.alerts.desk import open_desk
from costspan_dashboards.alerts.loop import Loop
from costspan_dashboards.alerts.metrics import exposition, states
from costspan_dashboards.alerts.settings import Alerts
from costspan_reconcile import schedule
from costspan_reconcile.allocate.settings import Allocation
from costspan_reconcile.settings import Reconcile
from costspan_reconcile.tolerances import Tolerances

_log = logging.getLogger("costspan.serve")


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything the serving process reads from its environment."""

    clickhouse: ClickHouse = field(default_factory=lambda: read_settings(ClickHouse))
    receiver: Receiver = field(default_factory=lambda: read_settings(Receiver))
    upkeep: Upkeep = field(default_factory=lambda: read_settings(Upkeep))
    pricing: Pricing = field(default_factory=lambda: read_settings(Pricing))
    reconcile: Reconcile = field(default_factory=lambda: read_settings(Reconcile))
    allocation: Allocation = field(default_factory=lambda: read_settings(Allocation))
    alerts: Alerts = field(default_factory=lambda: read_settings(Alerts))


@dataclass(frozen=True, slots=True)
class Serving:
    """A running server."""

    url: str
    grpc: str
    """Where spans come in by gRPC; empty where they do not."""
    door: str
    """Where the store is read beside; empty where it is not."""
    store: Store
    pipeline: Pipeline


@contextmanager
def serving(settings: Settings) -> Generator[Serving]:
    """Serve until the block ends; then stop intake, write what was accepted, and let go.

    Raises:
        Rejected: the port or the engine's directory is taken, or the file of negotiated prices or
            of allocation rules is wrong; the message names it. A server that does not answer is waited for, beside.
    """
    for line in unknown_variables(
        os.environ,
        (Audit, ClickHouse, Receiver, Upkeep, Pricing, Reconcile, Tolerances, Allocation, Alerts),
    ):
        _log.warning(line)
    book, policy = settings.pricing.book(), settings.allocation.read()
    with ExitStack() as stack:
        listener = stack.enter_context(listen(settings.receiver))
        store = attach(settings.clickhouse.url, migrate)
        stack.callback(store.close)
        # Handles of their own, so that no query of a job holds up an insert, nor a recompute an alert.
        written, kept_up = store.another(), store.another()
        stack.callback(written.close)
        stack.callback(kept_up.close)
        pipeline = Pipeline(written, settings.receiver)
        stack.callback(pipeline.close)
        alerts = settings.alerts
        if not alerts.dashboard_url:  # without one, links in messages would lead nowhere
            host, port = listener.getsockname()[:2]
            alerts = alerts.model_copy(update={"dashboard_url": f"http://{bracketed(host)}:{port}"})
        since = partial(failing_since, pipeline)
        loop = Loop(store, alerts, book=book, store_failing_since=since)
        url = stack.enter_context(running(_app(settings, store, pipeline, loop, book), listener))
        grpc = stack.enter_context(running_grpc(pipeline, settings.receiver, book=book))
        stack.enter_context(reporting(kept_up, pipeline))
        door = stack.enter_context(open_door(store, settings.upkeep))
        stack.enter_context(open_desk(store))
        scheduler = BackgroundScheduler(timezone="UTC")
        upkeep.add_jobs(scheduler, kept_up, settings.upkeep, pipeline.counters)
        schedule.add_jobs(scheduler, store, settings.reconcile, book, policy)
        loop.schedule(scheduler)
        scheduler.start()
        stack.callback(scheduler.shutdown)  # pyright: ignore  apscheduler 3 ships no types
        yield Serving(url, grpc, door, store, pipeline)


def _app(settings: Settings, store: Store, pipeline: Pipeline, loop: Loop, book: Book) -> Any:  # noqa: ANN401 - Streamlit types it lazily
    import streamlit as st  # slow to import, and only serving needs it
    from streamlit import config

    for option, value in {
        "browser.gatherUsageStats": False,
        "server.fileWatcherType": "none",
        "server.headless": True,
        "client.toolbarMode": "minimal",
        "runner.magicEnabled": False,
    }.items():
        config.set_option(option, value)
    # The pages open the store by the same setting, in this process and so on the same engine.
    os.environ["COSTSPAN_CLICKHOUSE_URL"] = settings.clickhouse.url
    script = files("costspan_dashboards").joinpath("app.py")
    return st.App(
        str(script),
        routes=[
            Route(
                "/metrics", partial(_metrics, settings, store, pipeline, loop)
            ),  # before the receiver's
            *routes(pipeline, settings.receiver, book=book),
        ],
    )


def failing_since(pipeline: Pipeline) -> datetime | None:
    """Return since when rows wait for a store that takes none."""
    if not pipeline.behind:
        return None
    return datetime.now(UTC) - timedelta(seconds=pipeline.backlog.oldest_seconds)


def _metrics(
    settings: Settings, store: Store, pipeline: Pipeline, loop: Loop, request: Request
) -> Response:
    """Answer with the collector's figures and those of alerts; without the store, their states."""
    del request
    text = render(figures(pipeline))
    try:
        text += exposition(store, settings.alerts, datetime.now(UTC))
    except CostspanError as error:
        _log.warning("/metrics has only what is known without the store: %s", error)
        text += states(loop.alerts)
    return PlainTextResponse(text, media_type="text/plain; version=0.0.4")
