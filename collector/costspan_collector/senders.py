"""What apps say became of their spans. Every batch of the shim tells it, in its scope."""

from collections.abc import Iterator
from datetime import datetime
from itertools import islice

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from costspan import semconv
from costspan_collector.attributes import LONGEST_TEXT, MOST_ATTRIBUTES
from costspan_collector.record import SenderCount

_LONGEST_ID = 64


def told(request: ExportTraceServiceRequest, received_at: datetime) -> Iterator[SenderCount]:
    """Yield what the scopes of a request tell; what is no number is none."""
    hour = received_at.replace(minute=0, second=0, microsecond=0)
    for resource_spans in request.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            if not scope_spans.spans or not scope_spans.scope.attributes:
                continue  # so that there are no more of these than of spans, which are bounded
            some = islice(scope_spans.scope.attributes, MOST_ATTRIBUTES)
            said = {pair.key: pair.value for pair in some}
            if semconv.SENDER not in said:
                continue
            made, exported, queue_full, failed = (
                max(0, said[name].int_value) if name in said else 0
                for name in (
                    semconv.SENDER_MADE,
                    semconv.SENDER_EXPORTED,
                    semconv.SENDER_QUEUE_FULL,
                    semconv.SENDER_FAILED,
                )
            )
            services = (
                pair.value.string_value
                for pair in islice(resource_spans.resource.attributes, MOST_ATTRIBUTES)
                if pair.key == semconv.SERVICE_NAME
            )
            yield SenderCount(
                hour=hour,
                service_name=next(services, "")[:LONGEST_TEXT],
                sender=said[semconv.SENDER].string_value[:_LONGEST_ID],
                made=made,
                exported=exported,
                queue_full=queue_full,
                failed=failed,
            )
