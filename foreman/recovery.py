"""What a start does to the jobs that an earlier boot left without an owner."""

import sqlite3
from dataclasses import dataclass

from foreman.encoding import COLUMNS, loaded
from foreman.jobs import FailureCode, JobClass, Requeue
from foreman.rows import JobRow
from foreman.transitions import Transaction, fail, requeue

CRASHES_ALLOWED = 2  # the third death of the daemon while it ran the same job is no coincidence


@dataclass(frozen=True, slots=True)
class Recovered:
    """How many jobs of earlier boots went back to the queue, and how many failed."""

    requeued: int = 0
    interrupted: int = 0
    crash_loops: int = 0


def recover(tx: Transaction, *, this_boot: bool = False) -> Recovered:
    """Settle every job that an earlier boot left without an owner; a second call changes nothing.

    Batch jobs go back to their place in the queue. Interactive jobs fail: their client is gone.
    `this_boot`: those of the current boot too; for a worker that begins and owns no job yet.
    """
    requeued = interrupted = crash_loops = 0
    for job in _orphans(tx.connection, tx.epoch + this_boot):
        if job.job_class is JobClass.INTERACTIVE:
            fail(tx, job.ref, FailureCode.INTERRUPTED, "the daemon stopped while the client waited")
            interrupted += 1
        elif job.crashes >= CRASHES_ALLOWED:
            fail(tx, job.ref, FailureCode.CRASH_LOOP, _POISON.format(job.crashes + 1))
            crash_loops += 1
        else:
            requeue(tx, job.ref, Requeue.RESTART)
            requeued += 1
    return Recovered(requeued, interrupted, crash_loops)


def _orphans(connection: sqlite3.Connection, epoch: int) -> list[JobRow]:
    rows = connection.execute(_ORPHANS, {"epoch": epoch}).fetchall()
    return sorted((loaded(values) for values in rows), key=lambda job: job.id)


_POISON = "the daemon died {} times while it ran this job"
_JOB = f"{', '.join(COLUMNS)}, sum"
_ORPHANS = f"""
SELECT {_JOB} FROM jobs INDEXED BY jobs_by_state
    WHERE state IN ('loading', 'working') AND epoch < :epoch
UNION ALL
SELECT {_JOB} FROM jobs INDEXED BY jobs_calling
    WHERE state = 'queued' AND class = 'interactive' AND epoch < :epoch
"""
