"""Traces: where a request spent its time. What the daemon says of it; who keeps it is another's.

A span is begun with its parent's context, a value that travels in messages, and told when it has
ended. Where nobody traces, and for a request that is not traced, all of that is NO_SPAN. Names and
attributes are OpenTelemetry's conventions for HTTP and GenAI, or begin with `foreman.`. Prompts,
answers, bodies, header values and the texts of errors are never among them.
"""

import re
from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple, Protocol

from ulid import ULID

Value = str | int | float | bool
Attributes = Mapping[str, Value]


class SpanContext(NamedTuple):
    """Which span of which trace; both ids as numbers, never 0. That it exists means: traced."""

    trace_id: int  # 128 bits
    span_id: int  # 64 bits


class Role(IntEnum):
    """What a span is to those beside it, numbered as in OTLP."""

    INTERNAL = 1
    SERVER = 2
    CLIENT = 3
    CONSUMER = 5


class Span(Protocol):
    """Something that takes time. Once it has ended, nothing changes it."""

    name: str

    @property
    def context(self) -> SpanContext | None:
        """What its children are begun with; None where nothing is recorded."""
        ...

    def set(self, attributes: Attributes) -> None:
        """Add attributes, or change them."""
        ...

    def event(self, name: str) -> None:
        """Something happened within it, now."""
        ...

    def link(self, to: SpanContext) -> None:
        """It caused something in another trace."""
        ...

    def begin_anew(self) -> None:
        """It begins only now."""
        ...

    def fail(self, why: str) -> None:
        """It will end in an error; `why` is one of a few codes."""
        ...

    def end(self) -> None:
        """It is over; one that is never told so is never reported."""
        ...


class Tracer(Protocol):
    """Begins spans."""

    def request(self, traceparent: bytes) -> Span:
        """The span of a request that came in, with this W3C header or without (empty)."""
        ...

    def begin(
        self,
        name: str,
        parent: SpanContext | None,
        role: Role = Role.INTERNAL,
        at: int | None = None,
        attributes: dict[str, Value] | None = None,
    ) -> Span:
        """A child of `parent`, begun `at` nanoseconds since 1970, or now; it keeps `attributes`."""
        ...

    def job(self, job: str) -> SpanContext | None:
        """The root of a durable job's own trace: the same for one id, also after a restart."""
        ...

    def job_ended(self, name: str, job: str) -> Span:
        """That root, begun when the id was made: for a job that ends now."""
        ...


class NoSpan:
    """Nothing is recorded."""

    name = ""
    context = None

    def set(self, attributes: Attributes) -> None: ...
    def event(self, name: str) -> None: ...
    def link(self, to: SpanContext) -> None: ...
    def begin_anew(self) -> None: ...
    def fail(self, why: str) -> None: ...
    def end(self) -> None: ...


NO_SPAN: Span = NoSpan()


class NoTracer:
    """Nobody traces."""

    def request(self, traceparent: bytes) -> Span:
        return NO_SPAN

    def begin(
        self,
        name: str,
        parent: SpanContext | None,
        role: Role = Role.INTERNAL,
        at: int | None = None,
        attributes: dict[str, Value] | None = None,
    ) -> Span:
        return NO_SPAN

    def job(self, job: str) -> SpanContext | None:
        return None

    def job_ended(self, name: str, job: str) -> Span:
        return NO_SPAN


NO_TRACER: Tracer = NoTracer()


# ---------------------------------------------------------------- ids on the wire

TRACEPARENT = b"traceparent"
_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_HALF = (1 << 64) - 1


class Incoming(NamedTuple):
    """A caller's span, and whether the caller records it."""

    context: SpanContext
    sampled: bool


def parse_traceparent(header: bytes) -> Incoming | None:
    """What the header says, None where it says nothing that W3C Trace Context would accept."""
    match = _TRACEPARENT.fullmatch(header.strip())
    if match is None or match[1] == b"ff" or (match[1] == b"00" and match[5] is not None):
        return None
    context = SpanContext(int(match[2], 16), int(match[3], 16))
    if not all(context):
        return None
    return Incoming(context, bool(int(match[4], 16) & 1))


def traceparent(context: SpanContext) -> bytes:
    """The header that makes the receiver's spans children of this one."""
    return b"00-%032x-%016x-01" % context


def context_of_job(job: str) -> SpanContext:
    """A ULID has as many bits as a trace id, and its lower half is as random as a span id."""
    number = int(ULID.from_str(job))
    return SpanContext(number or 1, number & _HALF or 1)


def birth_of_job(job: str) -> int:
    """When the ULID was made: nanoseconds since 1970, to the millisecond."""
    return ULID.from_str(job).milliseconds * 1_000_000
