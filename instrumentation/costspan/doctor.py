"""`costspan doctor`: make one call and show what would be sent, where, and at which price."""

import argparse
import base64
import importlib
import json
import logging
import os
import platform
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from http.client import HTTPException
from importlib.metadata import PackageNotFoundError, distributions, entry_points, version
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import unquote, urlsplit

from costspan import semconv
from costspan.counters import counters
from costspan.errors import CostspanError
from costspan.money import from_pico, plain
from costspan.pricing import price
from costspan.settings import PREFIX, Settings, from_environment
from costspan.usage import read_usage

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from costspan.cli import Commands

_PACKAGES: Final = (
    "costspan",
    "openai",
    "httpx2",
    "httpx",
    "opentelemetry-sdk",
    "opentelemetry-exporter-otlp-proto-http",
    "opentelemetry-instrumentation-httpx",
)
_OTHERS: Final = frozenset({"openlit", "logfire", "langfuse", "ddtrace"})
"""They instrument the SDK too, and their names do not say so."""
_OPENAI: Final = "https://api.openai.com/v1"
_ANSWER_SECONDS: Final = 5.0
_CALL_SECONDS: Final = 60.0


def add_doctor(commands: "Commands") -> None:
    """Add `costspan doctor`."""
    parser = commands.add_parser("doctor", help="make one call, show what is sent and what it cost")
    parser.add_argument(
        "--base-url", metavar="URL", help="where to call; OPENAI_BASE_URL or OpenAI"
    )
    parser.add_argument("--model", default="gpt-5.4-nano", metavar="NAME", help="%(default)s")
    parser.add_argument("--endpoint", metavar="URL", help="an OTLP endpoint in place of OTEL_'s")
    parser.add_argument("--yes", action="store_true", help="do not ask before a call that costs")
    parser.add_argument("--json", action="store_true", help="print for a machine")
    parser.set_defaults(run=_doctor)


@dataclass
class Examination:
    """What was found. Each finding is one line that says what to do."""

    versions: dict[str, str | None] = field(default_factory=dict[str, str | None])
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    other_instrumentations: list[str] = field(default_factory=list[str])
    destination: dict[str, Any] = field(default_factory=dict[str, Any])
    call: dict[str, Any] | None = None
    price: dict[str, Any] | None = None
    counters: dict[str, int] = field(default_factory=dict[str, int])
    findings: list[str] = field(default_factory=list[str])


def _doctor(arguments: argparse.Namespace) -> int:
    found = Examination()
    with _heard(found.findings):
        settings = from_environment(os.environ)
    found.settings = asdict(settings)
    found.settings.pop("redact")
    found.versions = {"python": platform.python_version()} | {
        name: _installed(name) for name in _PACKAGES
    }
    _look_for_others(found)
    _look_at_destination(found, arguments.endpoint)
    _make_call(found, settings, arguments)
    found.counters = counters()
    for reason, times in found.counters.items():
        found.findings.append(f"costspan swallowed a fault of its own: {reason} ({times} times)")
    text = json.dumps(asdict(found), indent=2, default=str) if arguments.json else _text(found)
    sys.stdout.write(f"{text}\n")
    return 1 if found.findings else 0


# Around the call.


class _Ear(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(record.getMessage().removeprefix("costspan: "))


@contextmanager
def _heard(lines: list[str]) -> Generator[None]:
    """Take what costspan logs for a finding, in place of the log."""
    log, ear = logging.getLogger("costspan"), _Ear(lines)
    propagated, log.propagate = log.propagate, False
    log.addHandler(ear)
    try:
        yield
    finally:
        log.removeHandler(ear)
        log.propagate = propagated


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _look_for_others(found: Examination) -> None:
    names = {str(each.metadata["Name"]).lower() for each in distributions()}
    found.other_instrumentations = sorted(
        name
        for name in names
        if name in _OTHERS or ("instrumentation" in name and "openai" in name)
    )
    for point in entry_points(group="opentelemetry_instrumentor"):
        if "openai" not in point.name:
            continue
        try:
            active = point.load()().is_instrumented_by_opentelemetry
        except Exception:  # noqa: BLE001, S112  a broken one instruments nothing
            continue
        if active:
            found.findings.append(
                f"{point.name} instruments openai in this process as well, so calls are counted"
                f" twice; add {point.name} to OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"
            )


def _look_at_destination(found: Examination, endpoint: str | None) -> None:
    from opentelemetry.util.re import parse_env_headers

    from costspan.export import otlp_protocol

    told = os.environ.get
    named = told("OTEL_TRACES_EXPORTER") or "otlp"
    protocol = otlp_protocol(os.environ)
    found.destination = {"exporter": named, "protocol": protocol}
    if endpoint is None and (named.strip().lower() != "otlp" or not protocol.startswith("http")):
        return  # not ours to try
    base = endpoint or told("OTEL_EXPORTER_OTLP_ENDPOINT") or "http://localhost:4318"
    url = f"{base.rstrip('/').removesuffix('/v1/traces')}/v1/traces"
    if endpoint is None:
        url = told("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or url
    headers = told("OTEL_EXPORTER_OTLP_TRACES_HEADERS") or told("OTEL_EXPORTER_OTLP_HEADERS") or ""
    answer = _post(url, parse_env_headers(headers, liberal=True))
    found.destination |= {"url": _without_password(url), **answer}
    if answer.get("status") != 200:
        found.findings.append(
            f"no spans arrive at {_without_password(url)}: {answer.get('error') or 'it answered'}"
            f" {answer.get('status', '')}".rstrip()
            + "; start a collector there (costspan serve) or set OTEL_EXPORTER_OTLP_ENDPOINT"
        )


def _post(url: str, headers: Mapping[str, str]) -> dict[str, Any]:
    """Send an empty OTLP request, which every receiver accepts."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"}:
        return {"error": "it is not an http(s) URL"}
    login, _, place = parts.netloc.rpartition("@")
    if login:  # the exporter sends it as a header too
        login = base64.b64encode(unquote(login).encode()).decode()
        headers = {"Authorization": f"Basic {login}", **headers}
    authority = os.environ.get("OTEL_EXPORTER_OTLP_CERTIFICATE")
    started = time.perf_counter()
    try:
        request = urllib.request.Request(  # noqa: S310
            parts._replace(netloc=place).geturl(),
            data=b"",
            headers={**headers, "Content-Type": "application/x-protobuf"},
            method="POST",
        )
        with urllib.request.urlopen(  # noqa: S310
            request, timeout=_ANSWER_SECONDS, context=ssl.create_default_context(cafile=authority)
        ) as response:
            status = int(response.status)
    except urllib.error.HTTPError as error:
        error.close()
        status = error.code
    except (OSError, ValueError, HTTPException) as error:
        return {"error": str(getattr(error, "reason", None) or error)}
    return {"status": status, "seconds": round(time.perf_counter() - started, 4)}


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()


# The call.


def _make_call(found: Examination, settings: Settings, arguments: argparse.Namespace) -> None:
    base_url = arguments.base_url or os.environ.get("OPENAI_BASE_URL") or _OPENAI
    host = (urlsplit(base_url).hostname or "").lower()
    key = os.environ.get("OPENAI_API_KEY")
    say = found.findings.append
    if not settings.enabled:
        say(f"capture is off; unset {PREFIX}ENABLED and OTEL_SDK_DISABLED")
    elif found.versions["openai"] is None:
        say("openai is not installed here; run `pip install openai` where the app runs")
    elif key is None and settings.prices(host):
        say("OPENAI_API_KEY is not set; set it, or give --base-url of a server that needs no key")
    elif settings.prices(host) and not arguments.yes and not _agreed(arguments.model, host):
        say(f"no call was made, since {host} charges for it; run again with --yes")
    else:
        _observe(found, settings, base_url, key or "no-key", arguments.model)


def _agreed(model: str, host: str) -> bool:
    if not sys.stdin.isatty():
        return False
    sys.stderr.write(
        f"One short call of {model} to {host}, for a fraction of a cent. Go on? [y/N] "
    )
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def _observe(found: Examination, settings: Settings, base_url: str, key: str, model: str) -> None:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from costspan.install import install

    kept = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    body: dict[str, Any] = {}
    with _heard([]):  # the counters tell the same
        installation = install(tracer_provider=provider)
        try:
            body = _called(base_url, key, model)
        except Exception as error:  # noqa: BLE001  whatever the SDK raises is what is looked for
            found.findings.append(_failure(error, base_url))
        finally:
            installation.uninstall()
    spans = kept.get_finished_spans()
    _describe(found, spans)
    if body:
        _price(found, settings, body)


def _called(base_url: str, key: str, model: str) -> dict[str, Any]:
    openai: Any = importlib.import_module("openai")
    with openai.OpenAI(
        api_key=key, base_url=base_url, max_retries=0, timeout=_CALL_SECONDS
    ) as client:
        answer = client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "Answer with OK."}]
        )
    return cast("dict[str, Any]", answer.to_dict())


def _failure(error: Exception, base_url: str) -> str:
    """Say what went wrong without the words of the answer, which may quote the key."""
    kind, status = type(error).__name__, getattr(error, "status_code", None)
    where = _without_password(base_url)
    advice = {
        400: "try another --model",
        401: "check OPENAI_API_KEY",
        403: "check what the key is allowed to do",
        404: "check --base-url and --model",
        429: "the quota is used up or the rate limit reached; try later",
    }.get(status or 0, "try later" if status else "check --base-url and the network")
    return f"the call to {where} failed: {kind}{f' {status}' if status else ''}; {advice}"


def _describe(found: Examination, spans: "tuple[ReadableSpan, ...]") -> None:
    calls = [span for span in spans if _scope(span) == "costspan"]
    if len(calls) != 1:
        found.findings.append(
            f"the call made {len(calls)} spans, not 1: openai"
            f" {found.versions['openai']} is not captured; see the counters"
        )
        return
    (call,) = calls
    found.call = {
        "span": call.name,
        "seconds": _seconds(call),
        "status": call.status.status_code.name,
        "attributes": dict(call.attributes or {}),
        "http_attempts": [
            {
                "span": span.name,
                "seconds": _seconds(span),
                "attributes": dict(span.attributes or {}),
            }
            for span in spans
            if span is not call
        ],
    }


def _price(found: Examination, settings: Settings, body: Mapping[str, Any]) -> None:
    """Price the answer again, for the arithmetic, and hold it against what the span says."""
    span: dict[str, Any] = (found.call or {}).get("attributes", {})
    status, host = span.get(semconv.PRICE_STATUS), str(span.get(semconv.SERVER_ADDRESS, ""))
    found.price = {
        "status": status,
        "book": span.get(semconv.PRICE_BOOK),
        "path": span.get(semconv.PRICE_PATH),
        "usd": span.get(semconv.COST_USD),
        "parts": [],
    }
    if not settings.prices(host):
        found.findings.append(
            f"{host} is not known to charge OpenAI's prices, so its calls have no cost;"
            f" if it does, set {PREFIX}PRICED_HOSTS={','.join((*settings.priced_hosts, host))}"
        )
        return
    try:
        tier = body.get("service_tier")
        priced = price(
            read_usage(body),
            model=str(span.get(semconv.RESPONSE_MODEL)),
            at=datetime.now(UTC),
            tier=tier if isinstance(tier, str) else None,
            host=host,
        )
    except CostspanError as error:
        found.findings.append(f"the call has no cost: {status}: {error}")
        return
    found.price["parts"] = [
        {
            "meter": part.meter,
            "quantity": part.quantity,
            "usd_per_million": plain(from_pico(round(part.pico_per_unit * 1_000_000))),
            "usd": plain(from_pico(part.pico)),
        }
        for part in priced.parts
    ]
    if priced.usd is None:
        found.findings.append(f"the call has no cost: {status}: {priced.reason}")
    elif plain(priced.usd) != span.get(semconv.COST_USD):
        found.findings.append(
            f"the span says {span.get(semconv.COST_USD)} USD, the price book {plain(priced.usd)};"
            " please report this"
        )


def _scope(span: "ReadableSpan") -> str:
    return "" if span.instrumentation_scope is None else span.instrumentation_scope.name


def _seconds(span: "ReadableSpan") -> float:
    return ((span.end_time or 0) - (span.start_time or 0)) / 1e9


# The page.


def _text(found: Examination) -> str:
    others = found.other_instrumentations
    return "\n\n".join(
        section
        for section in (
            _section("Versions", {name: each or "-" for name, each in found.versions.items()}),
            _section("Settings in force", found.settings),
            _section("Spans go to", found.destination),
            _call_text(found.call),
            _price_text(found.price),
            _section(
                "Other instrumentations (switched on as well they count calls twice)",
                {name: _installed(name) for name in others},
            ),
            _section("Counted faults", found.counters),
            "\n".join(["To do", *(f"  ! {each}" for each in found.findings)])
            if found.findings
            else "All is well.",
        )
        if section
    )


def _section(title: str, values: Mapping[str, Any]) -> str:
    if not values:
        return ""
    width = max(map(len, values))
    lines = (f"  {name:<{width}}  {_shown(value)}" for name, value in values.items())
    return "\n".join([title, *lines])


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def _call_text(call: Mapping[str, Any] | None) -> str:
    if call is None:
        return ""
    spans = [_section(f"Span: {call['span']} ({call['seconds']:.3f} s)", call["attributes"])]
    spans += [
        _section(f"HTTP attempt: {each['span']} ({each['seconds']:.3f} s)", each["attributes"])
        for each in call["http_attempts"]
    ]
    return "\n\n".join(spans)


def _price_text(priced: Mapping[str, Any] | None) -> str:
    if priced is None:
        return ""
    lines = [f"Price: {priced['path'] or 'none'}, book {priced['book']}, {priced['status']}"]
    lines += [
        f"  {part['meter']:<20} {part['quantity']:>12,} x {part['usd_per_million']} / 1,000,000"
        f" = {part['usd']} USD"
        for part in priced["parts"]
    ]
    if priced["usd"] is not None:
        lines.append(f"  total {priced['usd']} USD")
    return "\n".join(lines)
