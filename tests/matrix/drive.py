"""Acts out every behaviour with the SDK of this environment and prints what happened.

Each behaviour runs twice: bare, before costspan is imported at all, and captured. One line of
JSON for each behaviour and mode. Run by `test_matrix.py`, once for each SDK.
"""

import asyncio
import gc
import hashlib
import json
import logging
import random
import sys
import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

sys.path.insert(0, str(Path(__file__).parent))

import openai
from behaviours import BEHAVIOURS, KEY, STREAM, App, Behaviour, at_once, done
from openai_server import OpenAiServer
from pydantic import BaseModel

_LONG = 10_000


def told(value: Any) -> Any:
    """Return everything the app can see of `value`, as JSON."""
    kind = [_name(value.__class__), _name(cast("Any", type)(value))]
    if _is(value, type):
        return _name(value)
    if _is(value, bytes):
        return f"{len(value)} bytes {hashlib.sha256(value).hexdigest()[:16]}"
    if _is(value, str):
        return value if len(value) <= _LONG else told(value.encode())
    if _is(value, dict):
        return {name: told(item) for name, item in value.items()}
    if _is(value, list):
        return [told(item) for item in value]
    if _is(value, BaseException):
        return kind + _told_error(value)
    if _is(value, BaseModel):
        return kind + _told_model(value)
    if hasattr(value, "http_response"):
        headers = [[name, text] for name, text in value.headers.items() if name != "date"]
        return [
            *kind,
            value.status_code,
            headers,
            told(value.content),
            type(value.http_response).__name__,
        ]
    return value


def _is(value: Any, kind: type) -> bool:
    return isinstance(value, kind)


def _name(kind: Any) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _told_model(model: Any) -> list[Any]:
    choices: Any = getattr(model, "choices", None) or []
    messages = [getattr(choice, "message", None) for choice in choices]
    return [
        told(model.to_dict(warnings=False)) if hasattr(model, "to_dict") else None,
        sorted(model.model_fields_set),
        told(repr(model)),
        getattr(model, "_request_id", None),
        [told(getattr(message, "parsed", None)) for message in messages],
    ]


def _told_error(error: BaseException) -> list[Any]:
    request = getattr(error, "request", None)
    response = getattr(error, "response", None)
    return [
        str(error),
        [str(argument) for argument in error.args],
        getattr(error, "body", None),
        getattr(error, "code", None),
        getattr(error, "status_code", None),
        getattr(error, "request_id", None),
        None if request is None else str(request.url),
        None if response is None else response.text,
        [told(each) for each in (error.__cause__,) if each is not None],
        error.__suppress_context__,
        type(error.__context__).__name__,
    ]


@contextmanager
def noise() -> Generator[list[str]]:
    """Collect warnings, log lines and exceptions that nobody caught."""
    heard: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(f"{record.name}: {record.getMessage()}")

    listener = Listener(logging.WARNING)

    def unraisable(fault: Any) -> None:
        heard.append(f"unraisable: {fault.exc_value!r}")

    before, sys.unraisablehook = sys.unraisablehook, unraisable
    logging.getLogger().addHandler(listener)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", ResourceWarning)  # of sockets: the collector's timing
        try:
            yield heard
        finally:
            logging.getLogger().removeHandler(listener)
            sys.unraisablehook = before
            heard.extend(f"{item.category.__name__}: {item.message}" for item in warned)


class Clients:
    """The clients of a run; a mode has one connection pool."""

    def __init__(self, server: OpenAiServer) -> None:
        url = f"http://127.0.0.1:{server.port}/v1"
        self._server = server
        self._of_mode: dict[str, Any] = {
            "sync": openai.OpenAI(api_key=KEY, base_url=url),
            "async": openai.AsyncOpenAI(api_key=KEY, base_url=url),
        }

    def app(self, early: "Clients", name: str, mode: str, phase: str) -> App:
        behaviour = BEHAVIOURS[name]
        while self._server.waiting.acquire(blocking=False):
            pass  # what hung in an earlier behaviour
        headers = {"x-run": f"{name}/{mode}/{phase}", "x-script": behaviour.script}
        if behaviour.answer:
            headers["x-answer"] = json.dumps(behaviour.answer)
        if behaviour.pad:
            headers["x-pad"] = str(behaviour.pad)
        return App(
            client=self._of_mode[mode].with_options(default_headers=headers),
            early=early._of_mode[mode].with_options(default_headers=headers),
            is_async=mode == "async",
            port=self._server.port,
            hanging=self._server.until_hanging,
        )


def lacking(client: Any, path: str) -> bool:
    """Return whether the SDK has no such API."""
    for name in path.split("."):
        try:
            client = getattr(client, name)
        except AttributeError:
            return True
    return False


def cells() -> Iterator[tuple[str, Behaviour, str]]:
    """Yield every behaviour in each of its modes, the sync ones first."""
    for mode in ("sync", "async"):
        for name, behaviour in BEHAVIOURS.items():
            if mode in behaviour.modes:
                yield name, behaviour, mode


async def act(behaviour: Behaviour, app: App) -> Any:
    """Return what the app sees; a behaviour that breaks off says so in its cell only."""
    try:
        return told(await behaviour.run(app))
    except Exception as error:  # noqa: BLE001
        return ["BROKE OFF", told(error)]
    finally:
        for client in app.clients:
            await done(client.close())


Cell = tuple[str, str]


async def bare(clients: Clients, mode: str) -> dict[Cell, Any]:
    """Act everything out without costspan."""
    seen: dict[Cell, Any] = {}
    for name, behaviour, its_mode in cells():
        app = clients.app(clients, name, mode, "bare")
        if its_mode != mode or lacking(app.client, behaviour.needs):
            continue
        with noise() as heard:
            seen[name, mode] = [await act(behaviour, app), heard]
    return seen


class Traced:
    """The same with costspan installed, and with an app that traces its own work."""

    def __init__(self) -> None:
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        import costspan

        self.exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = provider.get_tracer("app")
        self.installation = costspan.install(
            span_exporter=self.exporter, priced_hosts=("127.0.0.1",), http_spans=True
        )
        if not self.installation.active:
            msg = "costspan is not installed; the log says why"
            raise RuntimeError(msg)

    @contextmanager
    def inside(self, feature: str) -> Generator[None]:
        """The app's span, with its calls attributed to the name of it; a service above set the team."""
        from opentelemetry import baggage, context

        import costspan

        token = context.attach(baggage.set_baggage("costspan.team", "search"))
        try:
            with self.tracer.start_as_current_span(feature), costspan.attribute(feature=feature):
                yield
        finally:
            context.detach(token)

    @contextmanager
    def suppressed(self) -> Generator[None]:
        """OpenTelemetry's own way to say: not this one."""
        from opentelemetry.instrumentation.utils import suppress_instrumentation

        with suppress_instrumentation():
            yield

    def spans(self) -> list[Any]:
        """Return the spans that ended since the last time, as JSON."""
        self.installation.flush()
        ended: Any = self.exporter.get_finished_spans()
        self.exporter.clear()
        return [
            {
                "name": span.name,
                "scope": span.instrumentation_scope.name if span.instrumentation_scope else None,
                "id": span.get_span_context().span_id,
                "trace": span.get_span_context().trace_id,
                "parent": span.parent.span_id if span.parent else None,
                "links": [link.context.span_id for link in span.links],
                "kind": span.kind.name,
                "status": [span.status.status_code.name, span.status.description],
                "seconds": ((span.end_time or 0) - (span.start_time or 0)) / 1e9,
                "attributes": dict(span.attributes or {}),
                "events": [[event.name, dict(event.attributes or {})] for event in span.events],
            }
            for span in ended
        ]


async def captured(early: Clients, clients: Clients, traced: Traced, mode: str) -> dict[Cell, Any]:
    """Act everything out with costspan."""
    from opentelemetry import context

    from costspan.counters import counters

    seen: dict[Cell, Any] = {}
    for name, behaviour, its_mode in cells():
        app = clients.app(early, name, mode, "captured")
        if its_mode != mode or lacking(app.client, behaviour.needs):
            continue
        app = replace(
            app,
            inside=traced.inside,
            suppressed=traced.suppressed,
            spans_of_child=traced.spans,
        )
        counted = counters()
        with noise() as heard, traced.inside(name):
            before = context.get_current()
            outcome = await act(behaviour, app)
            restored = context.get_current() is before
        seen[name, mode] = {
            "seen": [outcome, heard],
            "spans": traced.spans() + app.adopted,
            "restored": restored,
            "counted": {
                reason: times - counted.get(reason, 0)
                for reason, times in counters().items()
                if times != counted.get(reason, 0)
            },
        }
    return seen


async def storm(clients: Clients, traced: Traced) -> dict[str, Any]:
    """Make 100 streams at once and cancel a third of them at random moments.

    A third of those wait for their headers when it comes, a third for a chunk, and a third are
    in the app's own hands.
    """
    chance = random.Random(7)  # noqa: S311
    loop = asyncio.get_running_loop()
    moments = ("headers", "chunk", "own hands")
    unlucky = {number: chance.choice(moments) for number in chance.sample(range(100), 33)}
    client = clients.app(clients, "stream", "async", "storm").client
    read: dict[int, int] = {}

    async def one(number: int, moment: str) -> None:
        script = {"headers": "hang", "chunk": "pause"}.get(moment, "ok")
        with traced.inside(f"stream-{number}"):
            read[number] = 0
            made = client.chat.completions.create(**STREAM, extra_headers={"x-script": script})
            last = chance.randrange(8)
            async for _ in await made:
                read[number] += 1
                if moment == "own hands" and read[number] > last:
                    tasks[number].cancel()
                    await asyncio.sleep(0)

    tasks = [asyncio.create_task(one(number, unlucky.get(number, ""))) for number in range(100)]
    for number, moment in unlucky.items():
        if moment != "own hands":
            loop.call_later(chance.uniform(0, 0.5), tasks[number].cancel)
    await asyncio.wait(tasks)
    broken = [task for task in tasks if not task.cancelled() and task.exception()]
    await _settled()
    return {
        "started": len(read),
        "cancelled": sum(1 for task in tasks if task.cancelled()),
        "due": len(unlucky),
        "broken": [repr(task.exception()) for task in broken],
        "spans": traced.spans(),
    }


async def _settled() -> None:
    """Let the garbage collector find what is not held, and the loop close it."""
    for _ in range(3):
        gc.collect()
        await asyncio.sleep(0)


def main(out: Any) -> None:
    """Print one line for each cell, then one for the storm."""
    with OpenAiServer().listening() as server, asyncio.Runner() as runner:
        gc.freeze()  # the collector is called often; it need not look at the SDK each time
        early = Clients(server)
        without = at_once(bare(early, "sync"))
        gc.freeze()  # nor at what the SDK made when it was first used
        without |= runner.run(bare(early, "async"))
        assert "costspan" not in sys.modules
        traced = Traced()
        late = Clients(server)
        gc.freeze()
        with_us = at_once(captured(early, late, traced, "sync"))
        with_us |= runner.run(captured(early, late, traced, "async"))
        with noise() as heard:
            storm_seen = {**runner.run(storm(late, traced)), "heard": heard}
    for name, behaviour, mode in cells():
        line: dict[str, Any] = {"behaviour": name, "mode": mode, "port": server.port}
        if (name, mode) in without:
            line |= with_us[name, mode] | {
                "bare": without[name, mode],
                "sent": server.sent[f"{name}/{mode}/captured"],
                "bare_sent": server.sent[f"{name}/{mode}/bare"],
            }
        else:
            line["lacking"] = behaviour.needs
        out.write(json.dumps(line) + "\n")
    out.write(json.dumps({"storm": storm_seen, "sdk": openai.__version__}) + "\n")


if __name__ == "__main__":
    main(sys.stdout)
