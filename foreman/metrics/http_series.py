"""What is counted of HTTP: how many requests, how they ended, how long they took, how many run."""

from functools import cache
from time import perf_counter
from types import TracebackType
from typing import Protocol, Self

from prometheus_client import Gauge

from foreman.metrics.series import OTHER, Series
from foreman.wire import Kind, Route

CUT = 499  # nginx's number: the client left before the answer began
CRASHED = 500

_HEAD_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_WHOLE_SECONDS = (*_HEAD_SECONDS, 60, 120, 300, 600, 1800, 3600)


class Answered(Protocol):
    """What is read of an exchange when it is over: 0 is what never came to be."""

    method: str
    status: int
    head_at: float  # perf_counter


class Asked:
    """A request under way, from its head to the end of its answer: a context manager."""

    def __init__(self, series: "HttpSeries", answered: Answered) -> None:
        self._series = series
        self._answered = answered
        self._began = perf_counter()
        self._route: Route | None = None

    def enter(self, route: Route) -> None:
        """It may ask this route."""
        self._route = route
        self._series.under_way(route).inc()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._route is not None:
            self._series.under_way(self._route).dec()
        without = CRASHED if isinstance(error, Exception) else CUT
        status = self._answered.status or without
        self._series.ended(self._route, self._answered, status, self._began)


class HttpSeries:
    """Requests by route. A subscription to events has no duration: its client ends it."""

    def __init__(self, series: Series) -> None:
        self._requests = cache(
            series.counter(
                "foreman_http_requests_total",
                "Requests answered; 499: the client left before the answer began.",
                "route",
                "method",
                "status",
            ).labels
        )
        self._head_seconds = cache(
            series.histogram(
                "foreman_http_first_byte_seconds",
                "From a request's head to that of its answer, which goes out after "
                "FOREMAN_COMMIT_AFTER at the latest.",
                _HEAD_SECONDS,
                "route",
                "method",
            ).labels
        )
        self._seconds = cache(
            series.histogram(
                "foreman_http_request_seconds",
                "From a request's head to the last byte of its answer, or to where it was cut; "
                "without subscriptions to events.",
                _WHOLE_SECONDS,
                "route",
                "method",
            ).labels
        )
        self._in_flight = cache(
            series.gauge(
                "foreman_http_in_flight",
                "Requests that are being answered, subscriptions to events apart.",
                "route",
            ).labels
        )
        self._subscribers = series.gauge(
            "foreman_event_subscribers", "Subscriptions to events that are open."
        )
        self._connections = series.gauge("foreman_connections", "Clients' connections.")

    def connected(self, change: int) -> None:
        """A client's connection was opened (1) or closed (-1)."""
        self._connections.inc(change)

    def request(self, answered: Answered) -> Asked:
        """Around one request, from its head to the end of its answer."""
        return Asked(self, answered)

    def under_way(self, route: Route) -> Gauge:
        """Where a request to this route counts while it is answered."""
        if route.kind is Kind.EVENTS:
            return self._subscribers
        return self._in_flight(route.path)

    def ended(self, route: Route | None, answered: Answered, status: int, began: float) -> None:
        """A request is over; `began` by perf_counter."""
        if route is None:
            self._requests(OTHER, OTHER, status).inc()
            return
        path, method = route.path, answered.method
        self._requests(path, method, status).inc()
        if answered.head_at:
            self._head_seconds(path, method).observe(answered.head_at - began)
        if route.kind is not Kind.EVENTS:
            self._seconds(path, method).observe(perf_counter() - began)
