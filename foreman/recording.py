"""Spans that are kept until somebody delivers them: the tracer of a daemon that traces.

Bounded: what ends while LIMIT spans wait is dropped, and counted. No thread, no clock but the wall
clock, nothing of OpenTelemetry's: that is `foreman.otlp`, and only the delivery needs it.
"""

import random
import time
from collections import deque
from collections.abc import Callable

from foreman.tracing import (
    NO_SPAN,
    Attributes,
    Role,
    Span,
    SpanContext,
    Value,
    birth_of_job,
    context_of_job,
    parse_traceparent,
)

LIMIT = 8192  # spans that wait for delivery: a few MB, and two seconds of a daemon at its limit
MOST_LINKS = 128  # of one span, as in OpenTelemetry; a bulk submission has thousands of jobs
DUE = 256  # from so many on, they are delivered without waiting for the time to come
_HALF = (1 << 64) - 1

Event = tuple[str, int]


class Recorded:
    """A `foreman.tracing.Span` that is recorded. Times are nanoseconds since 1970."""

    __slots__ = (
        "attributes",
        "began",
        "context",
        "ended",
        "error",
        "events",
        "links",
        "name",
        "parent_id",
        "role",
        "tracer",
    )

    def __init__(
        self,
        tracer: "Recording",
        name: str,
        role: Role,
        context: SpanContext,
        parent_id: int = 0,
        at: int | None = None,
        attributes: dict[str, Value] | None = None,
    ) -> None:
        self.tracer = tracer
        self.name = name
        self.role = role
        self.context = context
        self.parent_id = parent_id  # 0 = it has none
        self.began = time.time_ns() if at is None else at
        self.ended = 0  # until then
        self.error = ""
        self.attributes = {} if attributes is None else attributes
        self.events: tuple[Event, ...] = ()  # most spans have neither
        self.links: tuple[SpanContext, ...] = ()

    def set(self, attributes: Attributes) -> None:
        self.attributes.update(attributes)

    def event(self, name: str) -> None:
        self.events += ((name, time.time_ns()),)

    def link(self, to: SpanContext) -> None:
        if len(self.links) < MOST_LINKS:
            self.links += (to,)

    def begin_anew(self) -> None:
        self.began = time.time_ns()

    def fail(self, why: str) -> None:
        self.error = why

    def end(self) -> None:
        if not self.ended:
            self.ended = max(self.began, time.time_ns())  # the wall clock may be set back
            self.tracer.ended(self)


class Recording:
    """A `foreman.tracing.Tracer` for the share `sample` (0 to 1) of all requests.

    A caller that says whether it samples is followed. `dropped(n)` hears of spans that found no
    room, `due()` that there is enough for a delivery.
    """

    def __init__(
        self, sample: float, dropped: Callable[[int], None], due: Callable[[], None] = lambda: None
    ) -> None:
        self._bound = round(sample * (1 << 64))
        self._dropped = dropped
        self._due = due
        self._waiting = deque[Recorded]()

    def request(self, traceparent: bytes) -> Span:
        incoming = parse_traceparent(traceparent) if traceparent else None
        span_id = random.getrandbits(64) or 1
        if incoming is not None:
            if not incoming.sampled:
                return NO_SPAN
            (trace_id, parent_id), _ = incoming
            return Recorded(self, "", Role.SERVER, SpanContext(trace_id, span_id), parent_id)
        trace_id = random.getrandbits(128) or 1
        if not self._samples(trace_id):
            return NO_SPAN
        return Recorded(self, "", Role.SERVER, SpanContext(trace_id, span_id))

    def begin(
        self,
        name: str,
        parent: SpanContext | None,
        role: Role = Role.INTERNAL,
        at: int | None = None,
        attributes: dict[str, Value] | None = None,
    ) -> Span:
        if parent is None:
            return NO_SPAN
        context = SpanContext(parent[0], random.getrandbits(64) or 1)
        return Recorded(self, name, role, context, parent[1], at, attributes)

    def job(self, job: str) -> SpanContext | None:
        context = context_of_job(job)
        return context if self._samples(context.trace_id) else None

    def job_ended(self, name: str, job: str) -> Span:
        context = self.job(job)
        if context is None:
            return NO_SPAN
        return Recorded(self, name, Role.CONSUMER, context, at=birth_of_job(job))

    def _samples(self, trace_id: int) -> bool:
        """By the random half of the id, as OpenTelemetry's TraceIdRatioBased does."""
        return trace_id & _HALF < self._bound

    def ended(self, span: Recorded) -> None:
        """Keep it for the next delivery."""
        if len(self._waiting) >= LIMIT:
            self._dropped(1)
            return
        self._waiting.append(span)
        if len(self._waiting) % DUE == 0:
            self._due()

    @property
    def waiting(self) -> int:
        """How many spans have ended and were not taken yet."""
        return len(self._waiting)

    def take(self, most: int) -> list[Recorded]:
        """The oldest of those that wait, at most so many; they wait no longer."""
        return [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
