"""A hundred thousand damaged requests: none is an error of ours, and no neighbour is lost.

What the engine takes of them for spans of our shim, it makes the rows of that `normalise` makes.

uv run pytest -m bench tests/bench/bench_fuzz.py
"""

import json
from random import Random
from typing import Any

import pytest
from google.protobuf import json_format

from costspan.errors import Rejected
from costspan_collector import otlp
from costspan_collector.normalise import normalise
from costspan_collector.pipeline import SCHEMA
from costspan_collector.record import Call, Sent
from costspan_collector.sent import read, statement, take
from costspan_collector.store import Store

INPUTS = 100_000
BOTH_WAYS = 20_000


def damaged(dice: Random, body: bytes) -> bytes:
    """Return `body` with bytes changed, doubled, dropped or cut off."""
    data = bytearray(body)
    for _ in range(dice.randrange(1, 6)):
        at = dice.randrange(len(data) or 1)
        match dice.randrange(4):
            case 0:
                data[at : at + 1] = bytes([dice.randrange(256)])
            case 1:
                data[at:at] = data[at : at + dice.randrange(20)]
            case 2:
                del data[at : at + dice.randrange(4)]
            case _:
                if dice.random() < 0.1:
                    del data[at:]
    return bytes(data)


@pytest.mark.bench
@pytest.mark.timeout(900)
def test_damaged_requests_are_read_or_refused_and_neighbours_are_kept(wire: Any) -> None:
    dice = Random(1)  # noqa: S311 - it only damages
    good = wire.request(wire.span(1))
    (alone,) = normalise(good, received_at=wire.now, ingest_id=1).calls
    spans = wire.request(wire.span(2), wire.span(3, **{"costspan.usage.search": 3}))
    forms = [
        (spans.SerializeToString(), otlp.PROTOBUF),
        (json.dumps(json_format.MessageToDict(spans)).encode(), otlp.JSON),
    ]
    kept = refused = unread = 0
    for number in range(INPUTS):
        body, kind = forms[number % 2]
        try:
            request, unreadable = otlp.decode(damaged(dice, body), kind, most_spans=1000)
        except Rejected:
            unread += 1
            continue
        total = sum(len(s.spans) for r in request.resource_spans for s in r.scope_spans)
        request.resource_spans.extend(good.resource_spans)
        result = normalise(request, received_at=wire.now, ingest_id=1)
        assert result.calls[-1] == alone
        assert len(result) == total + 1
        kept += len(result.calls) - 1
        refused += len(result.refused) + len(unreadable)
    print(f"{INPUTS} inputs: {unread} refused whole; spans: {kept} kept, {refused} refused")
    assert min(kept, refused, unread) > 1000


@pytest.mark.bench
@pytest.mark.timeout(900)
def test_what_the_engine_reads_of_damaged_requests_are_the_rows_they_make_by_hand(
    store: Store, wire: Any
) -> None:
    dice = Random(2)  # noqa: S311 - it only damages
    body = wire.request(
        wire.span(1), wire.span(2, **{"gen_ai.response.time_to_first_chunk": 0.25})
    ).SerializeToString()
    found: list[Sent] = []
    for number in range(BOTH_WAYS):
        sent = damaged(dice, body)
        try:
            request, _ = otlp.decode(sent, otlp.PROTOBUF, most_spans=1000)
        except Rejected:
            continue
        found += take(sent, request, received_at=wire.now, ingest_id=number + 1)[0]
    same, by_hand = compare(store, list({sent.block: sent for sent in found}.values()))
    print(f"{BOTH_WAYS} inputs: {same} blocks read by the engine, {by_hand} given back")
    assert (same > 1000, by_hand > 50) == (True, True)


def compare(store: Store, some: list[Sent]) -> tuple[int, int]:
    """Return how many blocks the engine read, rightly, and how many it gave back."""
    data = b"".join(sent.block for sent in some)
    try:
        store.insert_read("calls", data, statement=statement("calls"), schema=SCHEMA, at_once=8)
    except Rejected:
        if len(some) == 1:
            return 0, 1
        halves = [compare(store, some[: len(some) // 2]), compare(store, some[len(some) // 2 :])]
        return halves[0][0] + halves[1][0], halves[0][1] + halves[1][1]
    calls = store.select("SELECT * FROM calls FINAL", Call)
    store.command("TRUNCATE TABLE calls")
    results = [read(sent.block) for sent in some]
    assert not any(result.refused or result.passed_by or result.truncated for result in results)
    assert last(calls) == last([call for result in results for call in result.calls])
    return len(some), 0


def last(calls: list[Call]) -> dict[tuple[object, ...], Call]:
    """Return of each call that came several times the one that the store keeps."""
    five_minutes = 300
    return {
        (call.started_at.timestamp() // five_minutes, call.trace_id, call.span_id): call
        for call in sorted(calls, key=lambda call: call.ingest_id)
    }
