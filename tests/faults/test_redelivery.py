import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2

SUMS = """
SELECT count() AS calls, sum(cost_usd) AS cost_usd, sum(input_tokens) AS input_tokens
FROM calls FINAL
"""


@dataclass(frozen=True)
class Sums:
    calls: int
    cost_usd: Decimal
    input_tokens: int


def test_a_call_sent_twice_counts_once(collector: Any, wire: Any) -> None:
    request = wire.request(*(wire.span(number) for number in range(100)))
    for _ in range(3):
        assert collector.post(request).status_code == 200
    assert collector.store.select(SUMS, Sums) == [Sums(100, Decimal("0.021"), 100_000)]
    assert collector.total("spans_accepted_total") == 100
    assert collector.total("spans_redelivered_total") == 200


def test_calls_that_come_again_in_other_batches_at_once_count_once(
    collector: Any, wire: Any
) -> None:
    spans = [wire.span(number) for number in range(200)]
    requests = [wire.request(*spans[n % 7 :: 2 + n % 5]) for n in range(20)]
    requests += [wire.request(*spans[:100]), wire.request(*spans[100:])]
    with ThreadPoolExecutor(8) as pool:
        statuses = {sent.status_code for sent in pool.map(collector.post, requests)}
    assert statuses == {200}
    assert collector.store.select(SUMS, Sums) == [Sums(200, Decimal("0.042"), 200_000)]
    assert collector.total("spans_accepted_total") == 200


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path, wire: Any) -> None:
    data = tmp_path / "data"
    acknowledged = 0
    headers = {"content-type": "application/x-protobuf"}
    process = subprocess.Popen(
        [sys.executable, "-m", "costspan", "collector", "--port", "0", "--json"],
        env={**os.environ, "COSTSPAN_CLICKHOUSE_URL": f"chdb://{data}"},
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout
            url = json.loads(process.stdout.readline())["traces"]
            for number in range(15):
                body = wire.request(wire.span(2 * number), wire.span(2 * number + 1))
                sent = httpx2.post(url, content=body.SerializeToString(), headers=headers)
                acknowledged += 2 if sent.status_code == 200 else 0
        finally:
            process.kill()
    code = (
        "import sys\nfrom costspan_collector.store import connect\n"
        "from costspan_collector.record import Call\n"
        "print(len(connect(sys.argv[1]).select('SELECT * FROM calls FINAL', Call)))"
    )
    count = subprocess.run(
        [sys.executable, "-c", code, f"chdb://{data}"], capture_output=True, text=True, check=True
    )
    assert acknowledged == 30
    assert int(count.stdout) == acknowledged
