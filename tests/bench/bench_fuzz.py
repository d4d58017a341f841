"""A hundred thousand damaged requests: none is an error of ours, and no neighbour is lost.

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

INPUTS = 100_000


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
