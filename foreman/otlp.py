"""Spans as OpenTelemetry's collectors take them: the one file that knows its protobuf messages.

Imported only where FOREMAN_TRACES is set: it needs the extra `otel`.

The encoding of a message is that of its parts, one after the other. So an attribute is turned into
bytes once and copied for every span that has it: most spans say what others said before.
"""

from functools import lru_cache

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from foreman import __version__
from foreman.recording import Recorded
from foreman.tracing import Value


class Export:
    """One request to a collector, filled with spans."""

    def __init__(self) -> None:
        self._request = ExportTraceServiceRequest()
        group = self._request.resource_spans.add()
        group.resource.attributes.extend(
            [_pair("service.name", "foreman"), _pair("service.version", __version__)]
        )
        scope = group.scope_spans.add()
        scope.scope.name, scope.scope.version = "foreman", __version__
        self._spans = scope.spans

    def add(self, span: Recorded) -> None:
        """Put it in, in some 4 us; or raise, and leave the others as they are."""
        try:
            _copy(span, self._spans.add())
        except Exception:
            del self._spans[-1]
            raise

    def body(self) -> bytes:
        """What is sent."""
        return self._request.SerializeToString()


def _copy(span: Recorded, into: Span) -> None:
    trace_id, span_id = span.context
    into.MergeFromString(b"".join([_attribute(*each) for each in span.attributes.items()]))
    into.trace_id = trace_id.to_bytes(16, "big")
    into.span_id = span_id.to_bytes(8, "big")
    if span.parent_id:
        into.parent_span_id = span.parent_id.to_bytes(8, "big")
    into.name = span.name
    into.kind = Span.SpanKind.ValueType(span.role)
    into.flags = 1  # sampled
    into.start_time_unix_nano = span.began
    into.end_time_unix_nano = span.ended
    for name, at in span.events:
        into.events.add(name=name, time_unix_nano=at)
    for linked in span.links:
        trace, other = linked.trace_id.to_bytes(16, "big"), linked.span_id.to_bytes(8, "big")
        into.links.add(trace_id=trace, span_id=other)
    if span.error:
        into.status.code = Status.STATUS_CODE_ERROR
        into.attributes.append(_pair("error.type", span.error))


@lru_cache(2048, typed=True)  # 1, 1.0 and True are three values here
def _attribute(name: str, value: Value) -> bytes:
    """A span that has this attribute and nothing else."""
    return Span(attributes=[_pair(name, value)]).SerializeToString()


def _pair(name: str, value: Value) -> KeyValue:
    match value:
        case bool():
            return KeyValue(key=name, value=AnyValue(bool_value=value))
        case int():
            return KeyValue(key=name, value=AnyValue(int_value=value))
        case float():
            return KeyValue(key=name, value=AnyValue(double_value=value))
        case str():
            return KeyValue(key=name, value=AnyValue(string_value=value))
