"""One call through the SDK, and what its span says."""

import argparse
import importlib
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlsplit

from costspan import semconv
from costspan.doctor.examination import Examination, heard, without_password
from costspan.errors import CostspanError
from costspan.money import from_pico, plain
from costspan.pricing import price
from costspan.settings import PREFIX, Settings
from costspan.usage import read_usage

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

_OPENAI: Final = "https://api.openai.com/v1"
_CALL_SECONDS: Final = 60.0


def make_call(found: Examination, settings: Settings, arguments: argparse.Namespace) -> None:
    """Make one call if nothing speaks against it."""
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
    with heard([]):  # the counters tell the same
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
    where = without_password(base_url)
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
