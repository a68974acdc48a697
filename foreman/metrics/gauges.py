"""What is looked up when Prometheus asks: the queue, the mailboxes, the disk, the outbox.

A look costs the same however many jobs there are. What could not be found out is NaN, or absent.
"""

import math
import sqlite3
from collections.abc import Callable
from typing import NamedTuple, Protocol

from foreman.breaker import State as BreakerState
from foreman.disk import DataDir, free_bytes
from foreman.inventory import Inventory
from foreman.jobs import JobClass
from foreman.ledger import Backlog, backlog
from foreman.metrics.series import Series
from foreman.queue_view import QueueView, RunningJob, WaitingLane
from foreman.rows import Microseconds

UNKNOWN = math.nan


class Stock(NamedTuple):
    """What the disk holds; sizes in bytes."""

    webhooks: Backlog
    database: int
    wal: int
    free: int


def take_stock(
    connection: sqlite3.Connection, directory: DataDir, now: Callable[[], Microseconds]
) -> Stock:
    """Look at the disk. It may block, and raises OSError or sqlite3.Error when that cannot be."""
    return Stock(
        backlog(connection, now()),
        directory.database.stat().st_size,
        directory.wal.stat().st_size if directory.wal.exists() else 0,
        free_bytes(directory.path),
    )


class Depth(Protocol):
    """How full a mailbox is; trio's statistics of a memory channel."""

    @property
    def current_buffer_used(self) -> int: ...
    @property
    def tasks_waiting_send(self) -> int: ...
    @property
    def max_buffer_size(self) -> int | float: ...


class Gauges:
    """The gauges that are filled at a scrape. `label` names a model of the target, or `other`."""

    def __init__(
        self, series: Series, inventory: Callable[[], Inventory], label: Callable[[str], str]
    ) -> None:
        self.mailboxes: dict[str, Callable[[], Depth]] = {}
        self.breaker: Callable[[], BreakerState] = lambda: BreakerState.CLOSED
        self._inventory = inventory
        self._label = label
        self._avoided = 0  # what its counter says: the difference in a view may fall, that not
        self._ran = set[tuple[str, str, str]]()  # those stay at 0, or their mean would be 1 always
        self._make_queue(series)
        self._make_disk(series)

    def _make_queue(self, series: Series) -> None:
        gauge = series.gauge
        self._queue_jobs = gauge(
            "foreman_queue_jobs", "Jobs that wait, clients' calls included.", "model", "class"
        )
        self._queue_oldest = gauge(
            "foreman_queue_oldest_seconds",
            "How long the oldest job that waits has done so.",
            "class",
        )
        self._clients_waiting = gauge(
            "foreman_clients_waiting", "Connected clients whose call waits for its turn."
        )
        self._running = gauge(
            "foreman_running",
            "1 for the job that has the slot (state loading or working), else 0.",
            "model",
            "class",
            "state",
        )
        self._swaps_avoided = series.counter(
            "foreman_swaps_avoided_total",
            "Loads that first come, first served would have cost on top, for the same arrivals.",
        )
        self._target_up = gauge(
            "foreman_target_up", "1 if the target answered the last poll, else 0."
        )
        self._breaker_open = gauge(
            "foreman_embed_breaker_open",
            "1 while embeddings are refused at once because the target kept failing them, else 0.",
        )
        self._mailbox = gauge(
            "foreman_mailbox_messages",
            "Messages that an actor has not looked at, those without room in its mailbox included.",
            "mailbox",
        )
        self._capacity = gauge(
            "foreman_mailbox_capacity", "Room in a mailbox; beyond it senders wait.", "mailbox"
        )

    def _make_disk(self, series: Series) -> None:
        gauge = series.gauge
        self._pending = gauge(
            "foreman_webhook_pending",
            "Webhooks that are not delivered yet, of the 1,000 endpoints that wait longest.",
        )
        self._lag = gauge(
            "foreman_webhook_lag_seconds",
            "For how long the oldest webhook has been due, the pauses of its endpoint included.",
        )
        self._dead = gauge(
            "foreman_webhook_dead", "Dead letters that are kept and can be replayed, up to 10,000."
        )
        self._endpoints = gauge(
            "foreman_webhook_endpoints",
            "Endpoints: waiting (webhooks are on their way), held (its breaker is open), disabled "
            "(nothing is sent until somebody enables it).",
            "state",
        )
        self._database = gauge("foreman_database_bytes", "Size of the database file.")
        self._wal = gauge("foreman_wal_bytes", "Size of its write-ahead log.")
        self._free = gauge("foreman_disk_free_bytes", "Room left where the data lies.")

    def fill(self, queue: QueueView | None, stock: Stock | None) -> None:
        """Set them all; None is what could not be found out."""
        self._fill_queue(queue)
        self._fill_disk(stock)
        self._target_up.set(not self._inventory().degraded)
        self._breaker_open.set(self.breaker() is BreakerState.OPEN)
        for name, depth in self.mailboxes.items():
            now = depth()
            waiting = now.current_buffer_used + now.tasks_waiting_send
            self._mailbox.labels(name).set(waiting)
            self._capacity.labels(name).set(now.max_buffer_size)

    def _fill_queue(self, queue: QueueView | None) -> None:
        self._queue_jobs.clear()
        self._fill_running(queue.running if queue else None)
        if queue is None:
            self._queue_oldest.clear()
            self._clients_waiting.set(UNKNOWN)
            return
        for lane in queue.lanes:
            self._queue_jobs.labels(self._label(lane.model), lane.job_class).inc(lane.jobs)
        for job_class in JobClass:
            self._queue_oldest.labels(job_class).set(_oldest(queue.lanes, job_class))
        self._clients_waiting.set(len(queue.calls))
        avoided = max(self._avoided, queue.fcfs_loads - queue.loads)
        self._swaps_avoided.inc(avoided - self._avoided)
        self._avoided = avoided

    def _fill_running(self, job: RunningJob | None) -> None:
        now = (self._label(job.model), job.job_class, job.state) if job else None
        self._ran |= {now} if now else set()
        for each in self._ran:
            self._running.labels(*each).set(each == now)

    def _fill_disk(self, stock: Stock | None) -> None:
        webhooks = stock.webhooks if stock else None
        self._pending.set(webhooks.pending if webhooks else UNKNOWN)
        self._lag.set(webhooks.lag_s if webhooks else UNKNOWN)
        self._dead.set(webhooks.dead if webhooks else UNKNOWN)
        for state in ("waiting", "held", "disabled"):
            count = getattr(webhooks, state) if webhooks else UNKNOWN
            self._endpoints.labels(state).set(count)
        self._database.set(stock.database if stock else UNKNOWN)
        self._wal.set(stock.wal if stock else UNKNOWN)
        self._free.set(stock.free if stock else UNKNOWN)


def _oldest(lanes: tuple[WaitingLane, ...], job_class: JobClass) -> float:
    ages = [lane.oldest_seconds for lane in lanes if lane.job_class is job_class]
    return max(ages, default=0.0)
