"""`opentelemetry-instrument python app.py`: the app itself knows nothing of costspan."""

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from costspan.instrumentor import CostspanInstrumentor

APP = """
import json, openai
from opentelemetry import trace
from costspan import counters
client = openai.OpenAI(max_retries=0)
client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "a"}])
print(json.dumps([type(trace.get_tracer_provider()).__name__, counters()]))
"""
CONFIGURATOR = """
from opentelemetry.sdk._configuration import _OTelSDKConfigurator


class Configurator(_OTelSDKConfigurator):
    pass
"""


@pytest.fixture
def distribution(tmp_path: Path) -> Path:
    """What an OpenTelemetry distribution brings: the entry point that sets the SDK up."""
    tmp_path.joinpath("a_distribution.py").write_text(CONFIGURATOR, encoding="utf-8")
    metadata = tmp_path / "a_distribution-1.dist-info"
    metadata.mkdir()
    metadata.joinpath("METADATA").write_text("Name: a-distribution\nVersion: 1\n")
    metadata.joinpath("entry_points.txt").write_text(
        "[opentelemetry_configurator]\nconfigurator = a_distribution:Configurator\n"
    )
    return tmp_path


def instrumented(loopback: Any, app: str = APP, **environment: str) -> str:
    command = [str(Path(sys.executable).with_name("opentelemetry-instrument"))]
    ended = subprocess.run(
        [*command, sys.executable, "-c", app],
        env=loopback.environment(OTEL_SERVICE_NAME="shop", **environment),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "Traceback" not in ended.stderr
    return ended.stdout


def calls(loopback: Any) -> list[tuple[str, str]]:
    return [(service, span.name) for service, span in loopback.spans if span.name != "POST"]


def test_the_entry_point_is_found() -> None:
    (point,) = entry_points(group="opentelemetry_instrumentor", name="costspan")
    assert point.load() is CostspanInstrumentor


def test_without_a_distribution_spans_go_through_a_provider_of_ours(loopback: Any) -> None:
    told = instrumented(loopback)
    assert told.strip() == '["ProxyTracerProvider", {}]'
    assert calls(loopback) == [("shop", "chat gpt-4o-mini")]


def test_with_one_they_go_through_the_global_provider(loopback: Any, distribution: Path) -> None:
    told = instrumented(
        loopback,
        PYTHONPATH=str(distribution),
        OTEL_TRACES_EXPORTER="otlp",
        OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
    )
    assert told.strip() == '["TracerProvider", {}]'
    assert calls(loopback) == [("shop", "chat gpt-4o-mini")]


def test_an_app_that_imports_us_as_well_is_counted_once(loopback: Any) -> None:
    instrumented(loopback, "import costspan.auto\n" + APP)
    assert len(calls(loopback)) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "costspan"),
        ("OTEL_SDK_DISABLED", "true"),
        ("COSTSPAN_CAPTURE_ENABLED", "false"),
        ("OTEL_TRACES_EXPORTER", "none"),
    ],
)
def test_each_way_to_switch_it_off_does(loopback: Any, name: str, value: str) -> None:
    instrumented(loopback, **{name: value})
    assert len(loopback.asked) == 1
    assert loopback.spans == []


def test_it_is_switched_on_and_off_as_the_other_instrumentors_are(
    loopback: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import openai

    kept, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    monkeypatch.setenv("COSTSPAN_CAPTURE_PRICED_HOSTS", "127.0.0.1")
    instrumentor = CostspanInstrumentor()
    with openai.OpenAI(api_key="k", base_url=f"{loopback.url}/v1") as client:
        instrumentor.instrument(tracer_provider=provider, http_spans=False, unknown_to_us=1)
        client.chat.completions.create(model="gpt-4o-mini", messages=[])
        instrumentor.uninstrument()
        client.chat.completions.create(model="gpt-4o-mini", messages=[])
    provider.shutdown()
    assert [span.name for span in kept.get_finished_spans()] == ["chat gpt-4o-mini"]
