"""Forgetting: what finished long ago is deleted, a little at a time, with everything beside it."""

import logging
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from time import perf_counter

from foreman import endpoints
from foreman.artifacts import ArtifactFiles, Place
from foreman.commit import Committer
from foreman.jobs import JobId
from foreman.rows import Microseconds
from foreman.transitions import Transaction

log = logging.getLogger("foreman.retention")

MOST = 200  # jobs in one transaction
LONGEST = 0.004  # seconds that one transaction may hold up the others; the next one is smaller
DEAD_LETTERS = 30 * 86400 * 1_000_000  # microseconds that a job is kept for its dead letters


@dataclass(frozen=True, slots=True)
class Pruned:
    """How many jobs were deleted, and the files that belonged to them."""

    jobs: int
    files: list[Place]


def prune(tx: Transaction, older_than_us: Microseconds, limit: int) -> Pruned:
    """Delete up to `limit` jobs that finished before `older_than_us`, the oldest first.

    Never one that has not ended, has webhooks to deliver, or a dead letter of the last 30 days.
    """
    found = _finished(tx.connection, older_than_us, tx.now, limit)
    if not found:
        return Pruned(0, [])
    ids = [job for job, _ in found]
    marks = ", ".join("?" * len(ids))
    files = tx.connection.execute(_FILES.format(marks), ids).fetchall()
    tx.connection.execute(_DELETE.format(marks), ids)
    tx.connection.execute(_PRUNED, (max(last_seq for _, last_seq in found),))
    endpoints.forget(tx.connection, older_than_us)
    return Pruned(len(ids), [(JobId(job), attempt) for job, attempt in files])


def _finished(
    connection: sqlite3.Connection, before: Microseconds, now: Microseconds, limit: int
) -> list[tuple[JobId, int]]:
    terms = {"before": before, "recent": now - DEAD_LETTERS, "limit": limit}
    return connection.execute(_FINISHED, terms).fetchall()


class Retention:
    """Deletes what is older than `seconds`, at a pace at which nobody waits for it."""

    def __init__(
        self, files: ArtifactFiles, seconds: float, clock: Callable[[], float] = perf_counter
    ) -> None:
        self._files = files
        self._age = round(seconds * 1e6)
        self._clock = clock
        self._limit = 10  # jobs; with results of 256 KiB that is work enough to begin with

    def step(self, committer: Committer, now: Microseconds) -> bool:
        """Delete a few jobs, in a transaction of their own; whether there may be more."""
        before, limit = now - self._age, self._limit
        if not _finished(committer.database.connection, before, now, 1):
            return False  # without a commit: the store would never look idle
        began = self._clock()
        work = partial(prune, older_than_us=before, limit=limit)
        [answer] = committer.commit([work], now).answers
        self._learn(self._clock() - began)
        try:
            pruned: Pruned = answer.unwrap()
        except Exception as error:  # noqa: BLE001  a later step may do better
            log.warning("finished jobs could not be deleted: %s", error)
            return False
        for job, attempt in pruned.files:
            self._files.remove(job, attempt)
        return pruned.jobs == limit

    def _learn(self, seconds: float) -> None:
        if seconds > LONGEST:
            self._limit = max(1, self._limit // 2)
        elif seconds < LONGEST / 2:
            self._limit = min(MOST, 2 * self._limit)


_FINISHED = """SELECT id, last_seq FROM jobs INDEXED BY jobs_finished
    WHERE state IN ('done', 'failed') AND finished_at < :before
    AND NOT EXISTS (SELECT 1 FROM outbox WHERE job = jobs.id
        AND (state = 'pending' OR state = 'dead' AND settled_at > :recent))
    ORDER BY finished_at LIMIT :limit"""
_FILES = "SELECT job, attempt FROM artifacts WHERE inline = 0 AND job IN ({})"
_DELETE = "DELETE FROM jobs WHERE id IN ({})"
_PRUNED = "UPDATE store SET pruned_seq = max(pruned_seq, ?)"
