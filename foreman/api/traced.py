"""The span around an exchange: what was asked, by whom, and how it was answered."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Literal

import trio

from foreman.api.exchange import ClientGone, Exchange
from foreman.tracing import NO_TRACER, TRACEPARENT, Tracer, Value
from foreman.wire import route_for

PROBES = frozenset({"/healthz", "/readyz", "/metrics"})  # asked every few seconds, and never slow
METHODS = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"}
)


class Traced:
    """Gives an exchange its span, and ends that with whatever became of the exchange.

    The route is said as the table of routes has it: what stands in its place may be anything.
    """

    __slots__ = ("_exchange", "_tracer")

    def __init__(self, tracer: Tracer, exchange: Exchange) -> None:
        self._tracer = tracer
        self._exchange = exchange

    def __enter__(self) -> None:
        self._exchange.span = self._tracer.request(self._exchange.header(TRACEPARENT))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> Literal[False]:
        exchange = self._exchange
        span, status = exchange.span, exchange.status
        if span.context is None or exchange.path in PROBES:
            return False
        method = exchange.method if exchange.method in METHODS else "_OTHER"
        said: dict[str, Value] = {"http.request.method": method}
        if route := route_for(exchange.method, exchange.path):
            said["http.route"] = route.path
        if exchange.client:
            said["foreman.client"] = exchange.client
        if status:
            said["http.response.status_code"] = status
        span.name = f"{method} {route.path}" if route else method
        span.set(said)
        if isinstance(error, trio.Cancelled | ClientGone):
            span.fail("cancelled")  # nobody is left who would read an answer
        elif error is not None:
            span.fail(type(error).__name__)
        elif status >= 500:
            span.fail(str(status))
        span.end()
        return False


def tracing(tracer: Tracer) -> Callable[[Exchange], AbstractContextManager[None]]:
    """What stands around each exchange."""
    if tracer is NO_TRACER:
        nothing = nullcontext()
        return lambda exchange: nothing
    return lambda exchange: Traced(tracer, exchange)
