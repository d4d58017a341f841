"""What the app's own MeterProvider is told of each call: durations, tokens, cost.

The SDK takes several microseconds for each number, and its locks are not safe inside a garbage
collection, where an abandoned stream ends. So a call only leaves a note here, and the notes are
worked off when the app's readers collect, or little by little if they collect too seldom.
"""

import os
import threading
import time
import weakref
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from typing import Any, Final

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation

from costspan import semconv
from costspan.counters import count

MOST_NOTES: Final = 4096
"""So many calls may wait for the next collection; beyond, each call works off two."""
LOOK_EVERY_SECONDS: Final = 0.1
"""How often to look whether the app has set a global MeterProvider by now."""

_DIMENSIONS: Final = (
    semconv.OPERATION,
    semconv.PROVIDER,
    semconv.REQUEST_MODEL,
    semconv.RESPONSE_MODEL,
    semconv.SERVER_ADDRESS,
    semconv.ERROR_TYPE,
)
_MEASURES: Final = (
    semconv.INPUT_TOKENS,
    semconv.OUTPUT_TOKENS,
    semconv.TIME_TO_FIRST_CHUNK,
    semconv.COST_USD,
    semconv.PRICE_STATUS,
)
_HAS_A_PRICE: Final = frozenset({None, "priced", "not_billed", "deferred"})
_SECONDS: Final = tuple(0.01 * 2**power for power in range(14))
_TOKENS: Final = tuple(4**power for power in range(14))
"""The boundaries that the conventions give for seconds and for tokens."""

_Note = tuple[tuple[Any, ...], tuple[Any, ...], float]

_made: "weakref.WeakKeyDictionary[MeterProvider, Instruments]" = weakref.WeakKeyDictionary()
"""By provider, since an instrument must not be made twice, however often we are installed."""
_making = threading.RLock()  # a stream collected in here ends its call, which asks again
if hasattr(os, "register_at_fork"):  # a child must not inherit a lock that nobody will release
    os.register_at_fork(
        before=_making.acquire, after_in_parent=_making.release, after_in_child=_making.release
    )


class Metrics:
    """Records calls where the app has a MeterProvider; costs next to nothing where not."""

    def __init__(self, meter_provider: MeterProvider | None = None) -> None:
        self._given = meter_provider
        self._instruments: Instruments | None = None
        self._look_at = 0.0

    @property
    def listened(self) -> bool:
        """Whether anybody is to be told."""
        return self._instruments is not None or self._found() is not None

    def record(self, attributes: Mapping[str, Any], seconds: float) -> None:
        """Note one ended call by the attributes of its span. Never raises."""
        try:
            instruments = self._instruments or self._found()
            if instruments is not None:
                instruments.note(attributes, seconds)
        except Exception as error:  # noqa: BLE001
            count("metrics_failed", error)

    def _found(self) -> "Instruments | None":
        provider = self._given
        if provider is None:
            now = time.monotonic()
            if now < self._look_at:
                return None
            self._look_at = now + LOOK_EVERY_SECONDS
            provider = metrics.get_meter_provider()
            if type(provider).__module__.startswith("opentelemetry.metrics"):
                return None  # the stand-in of the API: nobody listens
        with _making:
            if provider not in _made:
                _made[provider] = Instruments(provider)
            self._instruments = _made[provider]
        return self._instruments


class Instruments:
    """The instruments of one MeterProvider, and the calls they have not been told of."""

    def __init__(self, provider: MeterProvider) -> None:
        self.notes: deque[_Note] = deque()
        self._unpriced: Counter[str] = Counter()
        if hasattr(os, "register_at_fork"):  # the parent tells of its own calls
            os.register_at_fork(after_in_child=self.notes.clear)
        meter = provider.get_meter("costspan")
        self._duration = meter.create_histogram(
            semconv.METRIC_DURATION,
            "s",
            "Duration of an OpenAI call, with its retries; a stream's to its end.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._tokens = meter.create_histogram(
            semconv.METRIC_TOKENS,
            "{token}",
            "Input and output tokens of a call, as OpenAI reports them.",
            explicit_bucket_boundaries_advisory=_TOKENS,
        )
        self._first_chunk = meter.create_histogram(
            semconv.METRIC_FIRST_CHUNK,
            "s",
            "Time until the first chunk of a stream.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._cost = meter.create_counter(
            semconv.METRIC_COST,
            "{USD}",
            "List price of the calls. A metric is floating point: the exact amount is on the span.",
        )
        # Readers ask for it at each collection, which is when the notes have to be worked off.
        meter.create_observable_counter(
            semconv.METRIC_UNPRICED,
            [self._collected],
            "{call}",
            "Calls that used something but whose cost is unknown, by the reason.",
        )

    def note(self, attributes: Mapping[str, Any], seconds: float) -> None:
        """Keep what a call has to tell until it is asked for."""
        known = attributes.get
        self.notes.append((tuple(map(known, _DIMENSIONS)), tuple(map(known, _MEASURES)), seconds))
        if len(self.notes) > MOST_NOTES:
            self._settle(2)

    def _settle(self, most: int) -> None:
        for _ in range(most):
            try:
                note = self.notes.popleft()
            except IndexError:  # another thread took the last one
                return
            try:
                self._record(*note)
            except Exception as error:  # noqa: BLE001
                count("metrics_failed", error)

    def _record(
        self, dimensions: tuple[Any, ...], measures: tuple[Any, ...], seconds: float
    ) -> None:
        by = {
            name: value
            for name, value in zip(_DIMENSIONS, dimensions, strict=True)
            if value is not None
        }
        input_tokens, output_tokens, first_chunk, cost_usd, status = measures
        self._duration.record(seconds, by)
        for kind, tokens in (("input", input_tokens), ("output", output_tokens)):
            if tokens is not None:
                self._tokens.record(tokens, {**by, semconv.TOKEN_TYPE: kind})
        if first_chunk is not None:
            self._first_chunk.record(first_chunk, by)
        if cost_usd is not None:
            self._cost.add(float(cost_usd), by)
        if status not in _HAS_A_PRICE:
            self._unpriced[status] += 1

    def _collected(self, _options: CallbackOptions) -> Iterable[Observation]:
        self._settle(len(self.notes))
        return [
            Observation(number, {semconv.PRICE_STATUS: status})
            for status, number in self._unpriced.items()
        ]
