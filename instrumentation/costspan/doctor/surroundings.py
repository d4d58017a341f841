"""What is around a call: other instrumentations, and where spans go."""

import base64
import os
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from importlib.metadata import distributions, entry_points
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from costspan.doctor.examination import Examination, without_password

_OTHERS: Final = frozenset({"openlit", "logfire", "langfuse", "ddtrace"})
"""They instrument the SDK too, and their names do not say so."""
_ANSWER_SECONDS: Final = 5.0


def look_for_others(found: Examination) -> None:
    """Find what else instruments the SDK."""
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


def look_at_destination(found: Examination, endpoint: str | None) -> None:
    """Send an empty request where spans would go."""
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
    found.destination |= {"url": without_password(url), **answer}
    if answer.get("status") != 200:
        found.findings.append(
            f"no spans arrive at {without_password(url)}: {answer.get('error') or 'it answered'}"
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
