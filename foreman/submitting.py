"""How a job begins: `queued`, with its first event, its request and its labels.

Synchronous, inside the store's transaction, like `foreman.transitions`. Many durable jobs at once
are numbered and stored together, a statement for all rows of a table.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from foreman.encoding import COLUMNS, stored
from foreman.errors import KeyReused, QueueFull, StoreError, StoreFull
from foreman.folding import follow
from foreman.jobs import JobClass, State
from foreman.queries import find_by_key, queued_total
from foreman.rows import NOTHING, Event, JobRef, JobRow, NewJob, as_submitted
from foreman.transitions import (
    AT_ONCE,
    JOIN_LANE,
    Transaction,
    advance,
    insert,
    marks,
    next_event,
    record,
    take_numbers,
)


@dataclass(frozen=True, slots=True)
class Accepted:
    """A job that was taken, now or (`anew` is False) when its Idempotency-Key came first."""

    row: JobRow
    anew: bool = True


def submit_once(tx: Transaction, job: NewJob, max_queue: int | None = None) -> Accepted:
    """Accept a durable job, unless its owner's Idempotency-Key names one that is there already.

    Raises KeyReused when that one came with another body, and what `submit` raises.
    """
    [answer] = submit_each(tx, [job], max_queue)
    if isinstance(answer, StoreError):
        raise answer
    return answer


def submit_each(
    tx: Transaction, jobs: Sequence[NewJob], max_queue: int | None = None
) -> list[Accepted | StoreError]:
    """What `submit_once` returns or raises for each of these batch jobs, in their order.

    Together they cost about half as much.
    """
    parts = _without_repeats(jobs)
    return [answer for part in parts for answer in _submit_part(tx, part, max_queue)]


def _without_repeats(jobs: Sequence[NewJob]) -> Iterator[list[NewJob]]:
    """The jobs, parted where a key comes again: its first job is in the table by then."""
    part: list[NewJob] = []
    keys: set[tuple[str, str]] = set()
    for job in jobs:
        if job.idempotency is not None:
            key = (job.owner, job.idempotency.key)
            if key in keys:
                yield part
                part = []
                keys.clear()
            keys.add(key)
        part.append(job)
    yield part


def _submit_part(
    tx: Transaction, jobs: Sequence[NewJob], max_queue: int | None
) -> list[Accepted | StoreError]:
    queued = queued_total(tx.connection)
    taken, answers = list[NewJob](), list[Accepted | StoreError | None]()
    for job in jobs:
        answer = _known(tx.connection, job) or _no_room(tx, queued + len(taken), max_queue)
        if answer is None:
            taken.append(job)
        answers.append(answer)
    rows = iter(_accept(tx, taken))
    return [answer or Accepted(next(rows)) for answer in answers]


def _known(connection: sqlite3.Connection, job: NewJob) -> Accepted | StoreError | None:
    """The job that came first with this one's key, or what is wrong with that."""
    once = job.idempotency
    if once is None:
        return None
    try:
        found = find_by_key(connection, job.owner, once.key)
    except StoreError as damaged:
        return damaged
    if found is None:
        return None
    same = found.idempotency_hash == once.digest
    return Accepted(found, anew=False) if same else KeyReused(found.id)


def submit(tx: Transaction, job: NewJob, max_queue: int | None = None) -> JobRef:
    """Accept a job: it is `queued`.

    A batch job raises QueueFull when `max_queue` of them wait already, and StoreFull when the disk
    is needed for ending those that were accepted before.
    """
    if job.job_class is JobClass.BATCH:
        refusal = _no_room(tx, queued_total(tx.connection), max_queue)
        if refusal is not None:
            raise refusal
    [row] = _accept(tx, [job])
    return row.ref


def submit_running(tx: Transaction, job: NewJob) -> JobRef:
    """Accept a call that has the slot already, its model loaded: it is `working`.

    As `submit` and then `claim_resident`, with its row written once: every call that finds the
    daemon idle begins with this.
    """
    first, *others = take_numbers(tx, 1 + len(AT_ONCE), 0)
    born = _birth(tx, job, first)
    entries = [born, *advance(tx, born[1], AT_ONCE, others)]
    row = entries[-1][1]
    insert(tx.connection, _INSERT_JOB, [stored(row)])
    _store_beside(tx.connection, [job])
    record(tx, entries)
    return row.ref


def _no_room(tx: Transaction, queued: int, max_queue: int | None) -> StoreError | None:
    """Why no batch job is taken beside the `queued` ones that wait."""
    if tx.low_disk:
        return StoreFull("the disk is almost full: no new jobs until there is room")
    if max_queue is not None and queued >= max_queue:
        return QueueFull(max_queue)
    return None


def _accept(tx: Transaction, jobs: Sequence[NewJob]) -> list[JobRow]:
    """Store them and their first events, numbered in their order."""
    if not jobs:
        return []
    waiting = Counter(job.fingerprint for job in jobs if job.job_class is JobClass.BATCH)
    lanes = [(lane.model, lane.runner, queued) for lane, queued in waiting.items()]
    tx.connection.executemany(JOIN_LANE, lanes)
    numbers = take_numbers(tx, len(jobs), waiting.total())
    entries = [_birth(tx, job, seq) for job, seq in zip(jobs, numbers, strict=True)]
    insert(tx.connection, _INSERT_JOB, (stored(row) for _, row in entries))
    _store_beside(tx.connection, jobs)
    record(tx, entries)
    return [row for _, row in entries]


def _birth(tx: Transaction, job: NewJob, seq: int) -> tuple[Event, JobRow]:
    unborn = as_submitted(job, tx.now)
    event = next_event(tx, unborn, State.QUEUED, 1, NOTHING, seq)
    return event, follow(unborn, event)


def _store_beside(connection: sqlite3.Connection, jobs: Sequence[NewJob]) -> None:
    requests = ((job.id, job.request) for job in jobs if job.request is not None)
    insert(connection, _INSERT_REQUEST, requests)
    labels = [(name, value, job.id) for job in jobs for name, value in job.labels.items()]
    connection.executemany(_INSERT_LABEL, labels)


_INSERT_JOB = f"INSERT INTO jobs ({', '.join(COLUMNS)}, sum) VALUES ({marks(len(COLUMNS) + 1)})"
_INSERT_REQUEST = f"INSERT INTO requests VALUES ({marks(3)})"
_INSERT_LABEL = f"INSERT INTO labels VALUES ({marks(3)})"
