"""The request log: every request, answered or not, as a row in SQLite.

    with RequestLog(Path("llm.db")) as log:
        model = Observed(chain, log.write, prices=table)

A thread of its own writes, so neither a loop nor a call ever waits for the disk. What it cannot
keep up with, or cannot store, is left out with a warning: the log is for looking back, not for
billing. `foreman.llm.log_queries` reads it, while it is written or afterwards.
"""

import logging
import queue
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from threading import Lock, Thread
from types import TracebackType
from typing import Self

from foreman.llm.attempts import Attempt, Skip
from foreman.llm.log_schema import COLUMNS, FORGET, INSERT_REQUEST, INSERT_STEP, create
from foreman.llm.record import Outcome, Record

AHEAD = 1024  # records that may wait to be written; then new ones are left out
BATCH = 256  # records a transaction
KEPT = 100_000  # requests; the oldest go
CLOSING = 5.0  # seconds that the last records may take
LONGEST = 2_000  # characters of an error

_log = logging.getLogger("foreman.llm")


class RequestLog:
    """Writes records into the file, which is made when there is none.

    Without a usable file it warns once and lets everything pass. `lost`: records left out so far.
    """

    def __init__(self, path: Path, *, keep: int = KEPT, ahead: int = AHEAD) -> None:
        self._path = path
        self._keep = keep
        self._waiting: queue.Queue[Record | None] = queue.Queue(ahead)
        self._thread: Thread | None = None
        self._starting = Lock()
        self._closed = False
        self.lost = 0

    def write(self, record: Record) -> None:
        """An observer: it never waits and never fails."""
        if self._closed:
            self._lose(1, "it is closed")
            return
        self._start()
        try:
            self._waiting.put_nowait(record)
        except queue.Full:
            self._lose(1, f"{self._waiting.maxsize} others wait to be written")

    def close(self) -> None:
        """Write what waits, for `CLOSING` seconds at most. May be called again.

        It blocks: an async program that has more to do calls it by `anyio.to_thread.run_sync`.
        """
        self._closed = True
        if self._thread is None:
            return
        with suppress(queue.Full):
            self._waiting.put(None, timeout=CLOSING)
        self._thread.join(CLOSING)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = Thread(target=self._run, name="foreman.llm log", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        try:
            with closing(create(self._path)) as connection:
                for batch in self._batches():
                    self._store(connection, batch)
        except (sqlite3.Error, OSError) as error:
            _log.warning("requests are not logged: %s: %s", self._path, error)
            for batch in self._batches():
                self.lost += len(batch)

    def _batches(self) -> Iterator[list[Record]]:
        """What waits, at most BATCH at once, until the log is closed."""
        while (first := self._waiting.get()) is not None:
            batch = [first]
            with suppress(queue.Empty):
                while len(batch) < BATCH:
                    record = self._waiting.get_nowait()
                    if record is None:
                        yield batch
                        return
                    batch.append(record)
            yield batch

    def _store(self, connection: sqlite3.Connection, batch: list[Record]) -> None:
        """All of the batch or, after an error, nothing of it."""
        try:
            with connection:
                for record in batch:
                    connection.execute(INSERT_REQUEST, _row(record))
                    connection.execute("DELETE FROM steps WHERE request = ?", (record.id,))
                    connection.executemany(INSERT_STEP, _steps(record))
                self._prune(connection)
        except (sqlite3.Error, ValueError, OverflowError) as error:  # values SQLite cannot hold
            self._lose(len(batch), str(error))

    def _prune(self, connection: sqlite3.Connection) -> None:
        """Counted by `rowid`, which grows with each row: no scan, and no clock that may go back."""
        [(newest,)] = connection.execute("SELECT max(rowid) FROM requests").fetchall()
        for statement in FORGET:
            connection.execute(statement, (newest - self._keep,))

    def _lose(self, count: int, reason: str) -> None:
        if not self.lost:
            _log.warning("%s: a request is not logged: %s", self._path, reason)
        self.lost += count


def _row(record: Record) -> tuple[object, ...]:
    cost = record.cost
    values: dict[str, object] = {
        "id": record.id,
        "at": round(record.at * 1_000_000),
        "asked": record.asked,
        "provider": record.provider,
        "model": record.model,
        "policy": record.policy,
        "tier": record.tier,
        "score": record.score,
        "streamed": record.streamed,
        "outcome": record.outcome.value,
        "success": record.outcome is Outcome.ANSWERED,
        "input": record.usage.input,
        "cache_read": record.usage.cache_read,
        "cache_write": record.usage.cache_write,
        "output": record.usage.output,
        "cost": None if cost is None else cost.amount,
        "unit": None if cost is None else cost.unit,
        "reported_cost": record.reported_cost,
        "latency_ms": None if record.latency is None else record.latency * 1000,
        "duration_ms": record.seconds * 1000,
        "status": record.status,
        "code": record.code,
        "error": record.error[:LONGEST],
    }
    return tuple(values[column] for column in COLUMNS)


def _steps(record: Record) -> Iterator[tuple[object, ...]]:
    for number, step in enumerate(record.history):
        yield (record.id, number, step.target, *_reason(step))


def _reason(step: Attempt | Skip) -> tuple[bool, str, str, float | None]:
    """Whether it was called, why that came to nothing, more about it, and milliseconds."""
    if isinstance(step, Skip):
        return False, str(step.reason), step.detail, None
    return True, step.error.reason[:LONGEST], "", step.seconds * 1000
