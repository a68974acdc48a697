"""What Prometheus may ask for. The constructor is the table; docs/reference/metrics.md shows it.

Each `Metrics` has a registry of its own. Every label has few values: a model is named only if the
target has it installed, a route only if it is in the table of routes; the rest is `other`.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import NamedTuple

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

from foreman import names
from foreman.attempt import Again, Fail, Finish, Settlement
from foreman.delivery import Attempt
from foreman.inventory import Inventory
from foreman.jobs import JobClass, State
from foreman.queue_view import QueueView, WaitingLane

OTHER = "other"

_REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_WAIT_SECONDS = (0.01, 0.1, 1, 5, 15, 60, 300, 900, 3600, 14400)
_LOAD_SECONDS = (0.5, 1, 2, 5, 10, 20, 40, 80, 160, 320, 600)
_COMMIT_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)
_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Described(NamedTuple):
    """A line of the reference."""

    name: str
    kind: str
    labels: tuple[str, ...]
    text: str


@dataclass(slots=True)
class Embedding:
    """One embedding call under way; set `status` when it is known."""

    status: int = 0


class Metrics:
    """Counts for one daemon; `inventory` says what the target has, and whether it is up."""

    def __init__(self, inventory: Callable[[], Inventory] = Inventory) -> None:
        # A second series for each counter, with the time it began, says nothing `up` does not.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._inventory = inventory
        self._registry = CollectorRegistry()
        self._avoided = 0  # what its counter says: the difference in a view may fall, that not
        self.table: list[Described] = []
        self._queue_jobs = self._gauge(
            "foreman_queue_jobs", "Jobs that wait, clients' calls included.", "model", "class"
        )
        self._queue_oldest = self._gauge(
            "foreman_queue_oldest_seconds", "How long the oldest of them has waited.", "class"
        )
        self._clients_waiting = self._gauge(
            "foreman_clients_waiting", "Connected clients whose call waits for its turn."
        )
        self._target_up = self._gauge(
            "foreman_target_up", "1 if the target answered the last poll, else 0."
        )
        self._loads = self._counter("foreman_loads_total", "Times a model was loaded.", "model")
        self._load_seconds = self._histogram(
            "foreman_load_seconds", "How long a load took.", _LOAD_SECONDS
        )
        self._swaps_avoided = self._counter(
            "foreman_swaps_avoided_total",
            "Loads that first come, first served would have cost on top, for the same arrivals.",
        )
        self._wait_seconds = self._histogram(
            "foreman_wait_seconds", "From a job's arrival to its start.", _WAIT_SECONDS, "class"
        )
        self._jobs = self._counter(
            "foreman_jobs_total",
            "Ends of attempts: state done, failed (code: the error) or queued again "
            "(code: the reason).",
            "class",
            "state",
            "code",
        )
        self._tokens = self._counter(
            "foreman_tokens_total",
            "Tokens the target reported; direction in or out.",
            "model",
            "direction",
        )
        self._embed_requests = self._counter(
            "foreman_embed_requests_total",
            "Embedding calls beside the queue: ok, refused (4xx), failed (5xx) or cancelled.",
            "outcome",
        )
        self._embed_seconds = self._histogram(
            "foreman_embed_seconds", "How long such a call took.", _REQUEST_SECONDS
        )
        self._embed_in_flight = self._gauge(
            "foreman_embed_in_flight", "Such calls under way, those that wait for a place included."
        )
        self._webhooks = self._counter(
            "foreman_webhook_attempts_total",
            "Attempts at webhooks: delivered, retry (it failed), gone (410), blocked by the rules.",
            "outcome",
        )
        self._webhook_seconds = self._histogram(
            "foreman_webhook_seconds", "How long such an attempt took.", _REQUEST_SECONDS
        )
        self._dead_letters = self._counter(
            "foreman_webhook_dead_letters_total", "Webhooks given up at an attempt."
        )
        self._commit_seconds = self._histogram(
            "foreman_store_commit_seconds",
            "How long a commit took, fsync included.",
            _COMMIT_SECONDS,
        )
        self._batch_size = self._histogram(
            "foreman_store_batch_size", "Writes that shared a commit.", _BATCH_SIZES
        )
        self._http_requests = self._counter(
            "foreman_http_requests_total",
            "Requests answered; 499: the client left before the answer began.",
            "route",
            "status",
        )

    def loaded(self, model: str, seconds: float) -> None:
        """The target loaded `model`."""
        self._loads.labels(self._label(model)).inc()
        self._load_seconds.observe(seconds)

    def waited(self, job_class: JobClass, seconds: float) -> None:
        """A job was started after `seconds` in the queue."""
        self._wait_seconds.labels(job_class).observe(seconds)

    def concluded(self, model: str, job_class: JobClass, settlement: Settlement) -> None:
        """An attempt has ended."""
        match settlement:
            case Finish(verdict):
                self._jobs.labels(job_class, State.DONE, "").inc()
                label = self._label(model)
                self._tokens.labels(label, "in").inc(verdict.tokens_in or 0)
                self._tokens.labels(label, "out").inc(verdict.tokens_out or 0)
            case Fail(code):
                self._jobs.labels(job_class, State.FAILED, code).inc()
            case Again(reason):
                self._jobs.labels(job_class, State.QUEUED, reason).inc()

    @contextmanager
    def embedding(self) -> Generator[Embedding]:
        """Around one embedding call, from its arrival to its answer."""
        call, began = Embedding(), perf_counter()
        try:
            with self._embed_in_flight.track_inprogress():
                yield call
        finally:
            self._embed_requests.labels(_outcome(call.status)).inc()
            self._embed_seconds.observe(perf_counter() - began)

    def posted(self, attempt: Attempt, *, dead: bool) -> None:
        """An attempt at a webhook has ended, and with it, if `dead`, the last hope for it."""
        self._webhooks.labels(attempt.verdict).inc()
        self._webhook_seconds.observe(attempt.seconds)
        self._dead_letters.inc(dead)

    def committed(self, writes: int, seconds: float) -> None:
        """A transaction of `writes` operations is on disk."""
        self._batch_size.observe(writes)
        self._commit_seconds.observe(seconds)

    def answered(self, route: str, status: int) -> None:
        """A request to `route` (a path of the table; empty if none) got `status`."""
        self._http_requests.labels(route or OTHER, str(status)).inc()

    def exposition(self, queue: QueueView) -> bytes:
        """All of it in Prometheus' text format, the gauges filled from this moment's queue."""
        self._queue_jobs.clear()
        for lane in queue.lanes:
            self._queue_jobs.labels(self._label(lane.model), lane.job_class).inc(lane.jobs)
        for job_class in JobClass:
            self._queue_oldest.labels(job_class).set(_oldest(queue.lanes, job_class))
        self._clients_waiting.set(len(queue.calls))
        self._target_up.set(not self._inventory().degraded)
        avoided = max(self._avoided, queue.fcfs_loads - queue.loads)
        self._swaps_avoided.inc(avoided - self._avoided)
        self._avoided = avoided
        return generate_latest(self._registry)

    def _label(self, model: str) -> str:
        """What the target calls the model, however a client spells it."""
        try:
            installed = self._inventory().find(names.key(model))
        except names.InvalidName:
            return OTHER
        return installed.name if installed else OTHER

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        self.table.append(Described(name, "counter", labels, text))
        return Counter(name, text, labels, registry=self._registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        self.table.append(Described(name, "gauge", labels, text))
        return Gauge(name, text, labels, registry=self._registry)

    def _histogram(
        self, name: str, text: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        self.table.append(Described(name, "histogram", labels, text))
        return Histogram(name, text, labels, registry=self._registry, buckets=buckets)


def _oldest(lanes: tuple[WaitingLane, ...], job_class: JobClass) -> float:
    ages = [lane.oldest_seconds for lane in lanes if lane.job_class is job_class]
    return max(ages, default=0.0)


def _outcome(status: int) -> str:
    if status == 0:
        return "cancelled"
    return "ok" if status < 400 else "refused" if status < 500 else "failed"
