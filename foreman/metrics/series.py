"""The series that a daemon exposes: each is made once, with its line in the table of them."""

from typing import NamedTuple

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

OTHER = "other"  # what has no series of its own


class Described(NamedTuple):
    """A line of the reference."""

    name: str
    kind: str
    labels: tuple[str, ...]
    text: str


class Series:
    """A registry of its own, and `table`: what is in it.

    Labels of what is counted for every call are looked up once: `cache(series.counter(...).labels)`
    is a quarter of the price of `labels`. That is for what is never cleared.
    """

    def __init__(self) -> None:
        # A second series for each counter, with the time it began, says nothing `up` does not.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.table: list[Described] = []
        self._registry = CollectorRegistry()

    def counter(self, name: str, text: str, *labels: str) -> Counter:
        """What only grows."""
        self.table.append(Described(name, "counter", labels, text))
        return Counter(name, text, labels, registry=self._registry)

    def gauge(self, name: str, text: str, *labels: str) -> Gauge:
        """What goes up and down."""
        self.table.append(Described(name, "gauge", labels, text))
        return Gauge(name, text, labels, registry=self._registry)

    def histogram(
        self, name: str, text: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        """How often what fell at or below each of `buckets`."""
        self.table.append(Described(name, "histogram", labels, text))
        return Histogram(name, text, labels, registry=self._registry, buckets=buckets)

    def process(self) -> None:
        """What Linux tells of this process, under the names that all clients of Prometheus use."""
        ProcessCollector(registry=self._registry)
        self.table += _PROCESS

    def text(self) -> bytes:
        """All of it as Prometheus reads it."""
        return generate_latest(self._registry)


_PROCESS = (
    Described("process_cpu_seconds_total", "counter", (), "CPU time of the daemon. Linux only."),
    Described(
        "process_resident_memory_bytes", "gauge", (), "Resident memory of the daemon. Linux only."
    ),
    Described(
        "process_virtual_memory_bytes", "gauge", (), "Address space of the daemon. Linux only."
    ),
    Described("process_open_fds", "gauge", (), "Open file descriptors of the daemon. Linux only."),
    Described("process_max_fds", "gauge", (), "File descriptors that it may have. Linux only."),
    Described(
        "process_start_time_seconds", "gauge", (), "When the daemon began, Unix time. Linux only."
    ),
)
