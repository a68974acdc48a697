"""What Prometheus may ask for. The constructors are the table; docs/reference/metrics.md shows it.

Here is what is counted when it happens, in `foreman.metrics.gauges` what is looked up at a scrape.
A series begins at 0 wherever that can be: its first increase would be no increase otherwise. Each
`Metrics` has a registry of its own. Every label has few values: a model is named only if the target
has it installed, a route only if it is in the table of routes; the rest is `other`.
"""

import platform
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter

from foreman import __version__, names
from foreman.breaker import State as BreakerState
from foreman.delivery import Attempt, Verdict
from foreman.inventory import Inventory
from foreman.metrics.gauges import Depth, Gauges, Stock
from foreman.metrics.http_series import HttpSeries
from foreman.metrics.job_series import JobSeries
from foreman.metrics.series import OTHER, Series
from foreman.queue_view import QueueView

_CALL_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_COMMIT_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)
_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_LAG_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)


@dataclass(slots=True)
class Embedding:
    """One embedding call under way; set `status` when it is known."""

    status: int = 0


class Metrics:
    """Counts for one daemon; `inventory` says what the target has, and whether it is up."""

    def __init__(self, inventory: Callable[[], Inventory] = Inventory) -> None:
        self._inventory = inventory
        self._series = series = Series()
        self.table = series.table
        self._gauges = Gauges(series, inventory, self._label)
        self.jobs = JobSeries(series, self._label)
        self._make_embeddings(series)
        self._make_webhooks(series)
        self._make_store(series)
        self.http = HttpSeries(series)
        self._make_process(series)
        self._trace_spans = series.counter(
            "foreman_trace_spans_total",
            "Spans of traces: exported, or dropped because the collector did not take them.",
            "outcome",
        )

    def traced(self, outcome: str, spans: int) -> None:
        """So many spans were `exported` to the collector, or `dropped`."""
        self._trace_spans.labels(outcome).inc(spans)

    def _make_embeddings(self, series: Series) -> None:
        self._embed_requests = series.counter(
            "foreman_embed_requests_total",
            "Embedding calls beside the queue: ok, refused (4xx), failed (5xx) or cancelled.",
            "outcome",
        )
        for outcome in ("ok", "refused", "failed", "cancelled"):
            self._embed_requests.labels(outcome)
        self._embed_seconds = series.histogram(
            "foreman_embed_seconds", "How long an embedding call took.", _CALL_SECONDS
        )
        self._embed_in_flight = series.gauge(
            "foreman_embed_in_flight",
            "Embedding calls under way, those that wait for a place included.",
        )

    def _make_webhooks(self, series: Series) -> None:
        self._webhooks = series.counter(
            "foreman_webhook_attempts_total",
            "Attempts at webhooks: delivered, retry (it failed), gone (410), blocked by the rules.",
            "outcome",
        )
        for verdict in Verdict:
            self._webhooks.labels(verdict)
        self._webhook_seconds = series.histogram(
            "foreman_webhook_seconds", "How long an attempt at a webhook took.", _CALL_SECONDS
        )
        self._dead_letters = series.counter(
            "foreman_webhook_dead_letters_total", "Webhooks given up at an attempt."
        )

    def _make_store(self, series: Series) -> None:
        self._commit_seconds = series.histogram(
            "foreman_store_commit_seconds",
            "How long a commit took, fsync included.",
            _COMMIT_SECONDS,
        )
        self._sync_seconds = series.histogram(
            "foreman_store_sync_seconds",
            "How long COMMIT alone took: the fsync, and at times a checkpoint.",
            _COMMIT_SECONDS,
        )
        self._batch_size = series.histogram(
            "foreman_store_batch_size", "Writes that shared a commit.", _BATCH_SIZES
        )
        self._low_disk = series.gauge(
            "foreman_low_disk",
            "1 while new durable jobs are refused because the disk is almost full.",
        )
        self._backup_at = series.gauge(
            "foreman_backup_last_success_timestamp_seconds",
            "When the last good backup was made, Unix time; 0 where none is known.",
        )
        self._backup_seconds = series.gauge(
            "foreman_backup_seconds", "How long the last backup took, good or bad."
        )
        self._backup_failures = series.counter(
            "foreman_backup_failures_total", "Backups that came to nothing."
        )
        self._findings = series.gauge(
            "foreman_check_findings", "What the last check of the whole database found wrong."
        )

    def _make_process(self, series: Series) -> None:
        self._restarts = series.counter(
            "foreman_actor_restarts_total", "Crashes of an actor that was started again.", "actor"
        )
        self._loop_lag = series.histogram(
            "foreman_loop_lag_seconds",
            "How late the event loop came to something due, looked at once a second.",
            _LAG_SECONDS,
        )
        info = series.gauge("foreman_build_info", "1, for what runs here.", "version", "python")
        info.labels(__version__, platform.python_version()).set(1)
        series.process()

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

    # ---------------------------------------------------------------- what goes out and stays

    def posted(self, attempt: Attempt, *, dead: bool) -> None:
        """An attempt at a webhook has ended, and with it, if `dead`, the last hope for it."""
        self._webhooks.labels(attempt.verdict).inc()
        self._webhook_seconds.observe(attempt.seconds)
        self._dead_letters.inc(dead)

    def committed(self, writes: int, seconds: float, sync_s: float | None) -> None:
        """A transaction of `writes` operations is on disk; `sync_s` of it took its COMMIT."""
        self._batch_size.observe(writes)
        self._commit_seconds.observe(seconds)
        if sync_s is not None:
            self._sync_seconds.observe(sync_s)

    def disk_is_low(self, low: bool) -> None:
        """Whether new durable jobs are refused for want of room."""
        self._low_disk.set(low)

    def backed_up(self, when_unix_s: float, seconds: float, ok: bool) -> None:
        """A backup was tried, or the last one of an earlier run was found; when it ended."""
        self._backup_seconds.set(seconds)
        if ok:
            self._backup_at.set(when_unix_s)
        else:
            self._backup_failures.inc()

    def checked(self, findings: int) -> None:
        """The whole database was looked at, and so many things found wrong."""
        self._findings.set(findings)

    # ---------------------------------------------------------------- the actors

    def supervises(self, actors: Iterable[str]) -> None:
        """These run: a series that begins at its first crash would show no increase."""
        for actor in actors:
            self._restarts.labels(actor)

    def restarted(self, actor: str) -> None:
        """An actor crashed and is started again."""
        self._restarts.labels(actor).inc()

    def lagged(self, seconds: float) -> None:
        """Something in the event loop ran `seconds` after it was due."""
        self._loop_lag.observe(seconds)

    def watch_mailbox(self, name: str, depth: Callable[[], Depth]) -> None:
        """From now on tell how full it is."""
        self._gauges.mailboxes[name] = depth

    def watch_breaker(self, state: Callable[[], BreakerState]) -> None:
        """From now on tell of this one; it is that of the embeddings beside the queue."""
        self._gauges.breaker = state

    # ---------------------------------------------------------------- the scrape

    def fill(self, queue: QueueView | None, stock: Stock | None) -> None:
        """Look everything up that is told as it stands now; None is what is not known."""
        self._gauges.fill(queue, stock)
        self.jobs.begin(each.name for each in self._inventory().models.values() if not each.remote)

    def text(self) -> bytes:
        """All of it in Prometheus' text format. Any thread may ask."""
        return self._series.text()

    def _label(self, model: str) -> str:
        """What the target calls the model, however a client spells it."""
        try:
            installed = self._inventory().find(names.key(model))
        except names.InvalidName:
            return OTHER
        return installed.name if installed else OTHER


def _outcome(status: int) -> str:
    if status == 0:
        return "cancelled"
    return "ok" if status < 400 else "refused" if status < 500 else "failed"
