"""The provider of ours, for an app that has none: in it, a call's span costs the app little.

The SDK's span checks, locks and copies at each step, since anybody may be watching it. A span of
this provider is seen by nobody before it is exported, so what a call tells is only kept, and the
exporter's thread makes the SDK's `ReadableSpan` of it.
"""

import time
from collections.abc import Callable, Mapping
from importlib.metadata import version

from opentelemetry import trace
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
)
from opentelemetry.util import types

from costspan.counters import count

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_NOT_SAMPLED = TraceFlags(TraceFlags.DEFAULT)
_UNSET = Status(StatusCode.UNSET)


class OwnProvider(TracerProvider):
    """The SDK's provider, with a second way to start a span.

    Its processors learn of a `CallSpan` when it ends, and export it in batches.
    """

    def __init__(self, resource: Resource) -> None:
        self.limits = SpanLimits()
        self.scope = InstrumentationScope("costspan", version("costspan"))
        self.processors: tuple[SpanProcessor, ...] = ()
        super().__init__(resource=resource, span_limits=self.limits)

    def add_span_processor(self, span_processor: SpanProcessor) -> None:
        """Add a processor for spans of both kinds."""
        super().add_span_processor(span_processor)
        self.processors = (*self.processors, span_processor)

    def start_call(
        self,
        name: str,
        context: Context,
        kind: SpanKind,
        attributes: types.Attributes,
        *,
        start_time: int,
    ) -> Span:
        """Start a span as a tracer does, with the same ids, parent and sampler."""
        parent = trace.get_current_span(context).get_span_context()
        ids = self.id_generator
        trace_id = parent.trace_id if parent.is_valid else ids.generate_trace_id()
        sampled = self.sampler.should_sample(context, trace_id, name, kind, attributes, ())
        is_sampled = sampled.decision.is_sampled()
        own = SpanContext(
            trace_id,
            ids.generate_span_id(),
            is_remote=False,
            trace_flags=_SAMPLED if is_sampled else _NOT_SAMPLED,
            trace_state=sampled.trace_state,
        )
        if not is_sampled:
            return NonRecordingSpan(own)
        span = CallSpan(own)
        span.provider = self
        span.parent = parent if parent.is_valid else None
        span.name = name
        span.kind = kind
        span.attributes = {**(sampled.attributes or {})}
        span.start_time = start_time
        return span


class CallSpan(NonRecordingSpan):
    """What is recorded of a call until it is exported."""

    provider: OwnProvider
    parent: SpanContext | None
    name: str
    kind: SpanKind
    attributes: dict[str, types.AttributeValue]
    start_time: int
    end_time: int | None = None
    status = _UNSET
    _told_later: Callable[[], Mapping[str, types.AttributeValue]] | None = None

    @property
    def context(self) -> SpanContext:
        """The ids, under the name by which a processor asks for them."""
        return self.get_span_context()

    def is_recording(self) -> bool:
        """Return whether the call goes on."""
        return self.end_time is None

    def set_attribute(self, key: str, value: types.AttributeValue) -> None:
        """Keep an attribute."""
        self.set_attributes({key: value})

    def set_attributes(self, attributes: Mapping[str, types.AttributeValue]) -> None:
        """Keep attributes. They are checked and cut to the limits when the span is exported."""
        if self.end_time is None:
            self.attributes.update(attributes)

    def tells_later(self, told: Callable[[], Mapping[str, types.AttributeValue]]) -> None:
        """Keep what gives attributes when the span is exported. Those that are set come first."""
        self._told_later = told

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Keep the status."""
        if self.end_time is None:
            self.status = status if isinstance(status, Status) else Status(status, description)

    def end(self, end_time: int | None = None) -> None:
        """Hand the span over to be exported."""
        if self.end_time is None:
            self.end_time = time.time_ns() if end_time is None else end_time
            for processor in self.provider.processors:
                processor.on_end(self)  # pyright: ignore[reportArgumentType]  # it asks for `context`

    def readable(self, scope: InstrumentationScope | None = None) -> ReadableSpan:
        """Return the SDK's form of it, in its provider's scope if no other is given."""
        limits = self.provider.limits
        attributes = BoundedAttributes(
            limits.max_span_attributes,
            self._all_attributes(),
            immutable=False,
            max_value_len=limits.max_span_attribute_length,
        )
        return ReadableSpan(
            self.name,
            self.context,
            self.parent,
            self.provider.resource,
            attributes,
            kind=self.kind,
            status=self.status,
            start_time=self.start_time,
            end_time=self.end_time,
            instrumentation_scope=scope or self.provider.scope,
        )

    def _all_attributes(self) -> Mapping[str, types.AttributeValue]:
        if self._told_later is not None:
            try:
                return {**self._told_later(), **self.attributes}
            except Exception as error:  # noqa: BLE001
                count("span_incomplete", error)
        return self.attributes
