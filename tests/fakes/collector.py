"""A collector of traces: takes OTLP over HTTP, decodes it with OpenTelemetry's own messages."""

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import h11
import trio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.fakes.gates import Gate

Tree = tuple[str, list[Any]]
"""The name of a span, and its children in the order in which they began."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A span as it was exported; ids in hex, the parent's empty where there is none."""

    trace: str
    id: str
    parent: str
    name: str
    kind: str
    began: int
    ended: int
    attributes: dict[str, Any]
    events: tuple[str, ...]
    links: tuple[tuple[str, str], ...]
    failed: bool

    @property
    def context(self) -> tuple[str, str]:
        return self.trace, self.id

    @property
    def error(self) -> Any:
        """Its error.type; whoever has one is marked as failed, and nobody else."""
        assert self.failed == ("error.type" in self.attributes)
        return self.attributes.get("error.type")


@dataclass
class Collector:
    """What came; `gate` holds back the answers, `status` is what they say."""

    url: str
    gate: Gate = field(default_factory=Gate)
    status: int = 200
    spans: list[Seen] = field(default_factory=list[Seen])
    bodies: list[bytes] = field(default_factory=list[bytes])
    heads: list[tuple[bytes, dict[str, str]]] = field(
        default_factory=list[tuple[bytes, dict[str, str]]]
    )
    resources: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    _arrival: trio.Event = field(default_factory=trio.Event)

    def take(self, body: bytes) -> None:
        self.bodies.append(body)
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resources.append(_values(group.resource.attributes))
            for scope in group.scope_spans:
                self.spans += map(_seen, scope.spans)
        self._arrival.set()
        self._arrival = trio.Event()

    async def until(self, there: Callable[[], bool]) -> None:
        """Return when what came makes it true."""
        while not there():
            await self._arrival.wait()

    def named(self, name: str, **attributes: Any) -> list[Seen]:
        """The spans of that name, in the order in which they began."""
        return sorted(
            (each for each in self.spans if each.name == name), key=lambda each: each.began
        )

    def one(self, name: str) -> Seen:
        """The only one of that name."""
        [found] = self.named(name)
        return found

    def children(self, span: Seen) -> list[Seen]:
        below = (e for e in self.spans if (e.trace, e.parent) == span.context)
        return sorted(below, key=lambda each: each.began)

    def child(self, span: Seen, name: str) -> Seen:
        [found] = [each for each in self.children(span) if each.name == name]
        return found

    def tree(self, span: Seen) -> Tree:
        return span.name, [self.tree(each) for each in self.children(span)]

    def size(self, span: Seen) -> int:
        """How many spans its trace has."""
        return sum(each.trace == span.trace for each in self.spans)


@asynccontextmanager
async def collector() -> AsyncGenerator[Collector]:
    """Listen on 127.0.0.1 until the block ends."""
    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        found = Collector(f"http://127.0.0.1:{port}")
        nursery.start_soon(trio.serve_listeners, partial(_serve, found), [listener])
        yield found
        nursery.cancel_scope.cancel("the test is over")


async def _serve(collector: Collector, stream: trio.SocketStream) -> None:
    wire = h11.Connection(h11.SERVER)
    async with stream:
        try:
            while wire.our_state is not h11.MUST_CLOSE:
                await _answer(collector, stream, wire)
        except (trio.BrokenResourceError, h11.RemoteProtocolError):
            pass  # the daemon has gone


async def _answer(collector: Collector, stream: trio.SocketStream, wire: h11.Connection) -> None:
    body = b""
    while True:
        match wire.next_event():
            case h11.Request() as head:
                named = {name.decode(): value.decode() for name, value in head.headers}
                collector.heads.append((bytes(head.target), named))
            case h11.Data() as part:
                body += part.data
            case h11.NEED_DATA:
                wire.receive_data(await stream.receive_some())
            case h11.EndOfMessage():
                break
            case _:
                return
    await collector.gate.passed()
    if collector.status == 200:
        collector.take(body)
    said = ExportTraceServiceResponse().SerializeToString()
    headers = [("content-type", "application/x-protobuf"), ("content-length", str(len(said)))]
    answer = h11.Response(status_code=collector.status, headers=headers)
    for event in (answer, h11.Data(said), h11.EndOfMessage()):
        await stream.send_all(wire.send(event) or b"")
    wire.start_next_cycle()


def _seen(span: Span) -> Seen:
    return Seen(
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.name,
        Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        _values(span.attributes),
        tuple(event.name for event in span.events),
        tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        span.status.code == Status.STATUS_CODE_ERROR,
    )


def _values(pairs: Iterator[KeyValue] | Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, str(each.value.WhichOneof("value"))) for each in pairs}
