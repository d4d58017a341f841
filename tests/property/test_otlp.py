import contextlib
import json
from collections.abc import Iterator
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from costspan import semconv
from costspan.errors import Rejected
from costspan.money import from_pico
from costspan_collector import otlp
from costspan_collector.normalise import normalise
from costspan_collector.pipeline import Pipeline
from costspan_collector.record import Call
from costspan_collector.settings import Receiver
from costspan_collector.store import Store

MOST = Receiver().max_request_spans

ON_THE_ENGINE = hypothesis_settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
def pipeline(store: Store, settings: Receiver) -> Iterator[Pipeline]:
    pipeline = Pipeline(store, settings)
    yield pipeline
    pipeline.close()


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[list[int], list[list[int]]]:
    """Costs by call in pico-USD, and batches that hold each call once or more, in any order."""
    costs = draw(st.lists(st.integers(0, 10**15), min_size=1, max_size=12))
    numbers = list(range(len(costs)))
    again = draw(st.lists(st.sampled_from(numbers), max_size=12))
    order = draw(st.permutations(numbers + again))
    cuts = sorted(draw(st.lists(st.integers(0, len(order)), max_size=5)))
    edges = [0, *cuts, len(order)]
    return costs, [order[a:b] for a, b in pairwise(edges)]


@ON_THE_ENGINE
@given(deliveries())
def test_any_order_repetition_and_split_gives_the_same_rows(
    pipeline: Pipeline, store: Store, wire: Any, delivered: tuple[list[int], list[list[int]]]
) -> None:
    costs, batches = delivered
    store.command("TRUNCATE TABLE calls")
    for batch in batches:
        spans = [
            wire.span(
                number,
                "costspan.cost.part.output",
                **{
                    "costspan.cost.usd": format(from_pico(costs[number]), "f"),
                    "costspan.cost.part.input": costs[number],
                },
            )
            for number in batch
        ]
        result = normalise(
            wire.request(*spans), received_at=wire.now, ingest_id=pipeline.next_ingest_id()
        )
        assert len(result.calls) == len(batch)
        pipeline.submit(result).result(20)
    assert pipeline.settle()
    calls = store.select("SELECT * FROM calls FINAL ORDER BY span_id", Call)
    assert [call.cost_usd for call in calls] == [from_pico(cost) for cost in costs]
    assert sum((call.cost_usd or Decimal(0) for call in calls), Decimal(0)) == from_pico(sum(costs))


NAMES = st.sampled_from(
    sorted(value for name, value in vars(semconv).items() if name.isupper() and value is str(value))
    + ["costspan.cost.part.input", "gen_ai.system", "gen_ai.usage.prompt_tokens"]
)
VALUES = st.one_of(
    st.text(max_size=20),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(0, 1000),
    st.floats(),
    st.booleans(),
    st.lists(st.text(max_size=5), max_size=3),
    st.sampled_from(["0.1", "1e5", "-1", "stop", "chat", "gpt-4.1", "openai", "default"]),
)
NANOSECONDS = st.integers(0, 2**64 - 1) | st.integers(1_700_000_000, 1_763_000_000).map(
    lambda seconds: seconds * 10**9
)


@st.composite
def fields(draw: st.DrawFn) -> dict[str, Any]:
    """Anything protobuf can carry where a span belongs."""
    found: dict[str, Any] = {
        name: draw(values)
        for name, values in {
            "trace_id": st.binary(max_size=20),
            "span_id": st.binary(max_size=10),
            "parent_span_id": st.binary(max_size=10),
            "start_time_unix_nano": NANOSECONDS,
            "end_time_unix_nano": NANOSECONDS,
            "status": st.builds(Status, code=st.sampled_from([0, 1, 2])),
        }.items()
        if draw(st.booleans())
    }
    return found | draw(st.dictionaries(NAMES, VALUES, max_size=6))


@ON_THE_ENGINE
@given(st.lists(fields(), max_size=8))
def test_every_span_is_kept_refused_or_passed_by_and_what_passes_can_be_stored(
    pipeline: Pipeline, wire: Any, anything: list[dict[str, Any]]
) -> None:
    spans = [wire.span(number, **changes) for number, changes in enumerate(anything)]
    result = normalise(
        wire.request(*spans), received_at=wire.now, ingest_id=pipeline.next_ingest_id()
    )
    kept = len(result.calls) + len(result.attempts)
    assert kept + len(result.refused) + result.passed_by.total() == len(spans)
    pipeline.submit(result).result(20)
    assert pipeline.settle()
    assert pipeline.backlog.quarantined == 0


@given(fields())
def test_a_span_of_anything_does_not_cost_its_neighbours(
    wire: Any, anything: dict[str, Any]
) -> None:
    good = [wire.span(1), wire.span(3)]
    alone = normalise(wire.request(*good), received_at=wire.now, ingest_id=1)
    request = wire.request(good[0], wire.span(2, **anything), good[1])
    result = normalise(request, received_at=wire.now, ingest_id=1)
    assert [result.calls[0], result.calls[-1]] == alone.calls
    assert len(result) == 3


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_refused(body: bytes) -> None:
    with contextlib.suppress(Rejected):
        otlp.decode(body, otlp.PROTOBUF, most_spans=MOST)
    with contextlib.suppress(Rejected):
        otlp.decode(body, otlp.JSON, most_spans=MOST)


KEYS = st.sampled_from(
    ["resourceSpans", "scopeSpans", "spans", "resource", "attributes", "key", "value", "traceId"]
    + ["spanId", "stringValue", "intValue", "arrayValue", "startTimeUnixNano", "status", "code"]
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
DOCUMENTS = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)
NESTED = DOCUMENTS.map(lambda inner: {"resourceSpans": [{"scopeSpans": [{"spans": [inner]}]}]})


@given(DOCUMENTS | NESTED)
def test_any_json_is_a_request_or_refused(document: object) -> None:
    with contextlib.suppress(Rejected):
        otlp.decode(json.dumps(document).encode(), otlp.JSON, most_spans=MOST)


@given(
    st.binary(min_size=16, max_size=16),
    st.binary(min_size=8, max_size=8),
    st.integers(0, 2**64 - 1),
)
def test_json_ids_are_hex_and_times_are_whole(trace: bytes, span: bytes, start: int) -> None:
    document = {"traceId": trace.hex(), "spanId": span.hex(), "startTimeUnixNano": str(start)}
    body = {"resourceSpans": [{"scopeSpans": [{"spans": [document]}]}]}
    request, unreadable = otlp.decode(json.dumps(body).encode(), otlp.JSON, most_spans=MOST)
    assert unreadable == []
    read = request.resource_spans[0].scope_spans[0].spans[0]
    assert read == Span(trace_id=trace, span_id=span, start_time_unix_nano=start)
