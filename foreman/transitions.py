"""Every change to a job: one guarded update of its row and one event, in the caller's transaction.

All of it is synchronous and runs inside the store's transaction (`actors.store`). Whatever a
function here wrote before it raised must be rolled back, which the store does.
"""

import sqlite3
from dataclasses import dataclass, field

import msgspec

from foreman.encoding import COLUMNS, LIVED, SUBMITTED, checksum, loaded, stored
from foreman.errors import QueueFull, StaleJob, StoreFull
from foreman.folding import follow
from foreman.jobs import TRANSITIONS, FailureCode, JobClass, Requeue, State
from foreman.queries import queued_total
from foreman.rows import (
    NOTHING,
    Detail,
    Event,
    Failure,
    JobRef,
    JobRow,
    Microseconds,
    NewJob,
    Result,
    as_submitted,
    moment,
)


@dataclass(slots=True)
class Transaction:
    """An open write transaction: `now` is the wall clock, `epoch` counts the daemon's starts.

    `low_disk` keeps new batch jobs out; `events` collects what is to be published once it is
    committed.
    """

    connection: sqlite3.Connection
    now: Microseconds
    epoch: int
    low_disk: bool = False
    events: list[Event] = field(default_factory=list[Event])


def submit(tx: Transaction, job: NewJob, max_queue: int | None = None) -> JobRef:
    """Accept a job: it is `queued`.

    A batch job raises QueueFull when `max_queue` of them wait already, and StoreFull when the disk
    is needed for ending those that were accepted before.
    """
    if job.job_class is JobClass.BATCH:
        _refuse_without_room(tx, max_queue)
    unborn = as_submitted(job, tx.now)
    event = _next_event(tx, unborn, State.QUEUED, 1, NOTHING, queued=_counts(unborn))
    row = follow(unborn, event)
    values = stored(row)
    tx.connection.execute(_INSERT_JOB, (*values, checksum(values)))
    _record(tx, event)
    _store_beside(tx.connection, job)
    return row.ref


def _refuse_without_room(tx: Transaction, max_queue: int | None) -> None:
    if tx.low_disk:
        raise StoreFull("the disk is almost full: no new jobs until there is room")
    if max_queue is not None and queued_total(tx.connection) >= max_queue:
        raise QueueFull(max_queue)


def claim(tx: Transaction, ref: JobRef, *, resident: bool) -> JobRef:
    """queued -> loading: the job has the slot. `resident`: its model is loaded already."""
    return _move(tx, ref, State.LOADING, Detail(resident=resident))


def start(tx: Transaction, ref: JobRef, *, load_s: float | None) -> JobRef:
    """loading -> working, after a load of `load_s` seconds, or None where nothing was loaded."""
    return _move(tx, ref, State.WORKING, Detail(load_s=load_s))


def finish(
    tx: Transaction,
    ref: JobRef,
    *,
    result: Result | None = None,
    tokens_in: int | None = None,
    tokens_out: int | None = None,
    incomplete: bool = False,
) -> JobRef:
    """working -> done, with the answer where somebody will fetch it."""
    if result is not None:
        values = (ref.id, result.status, result.content_type, result.body)
        tx.connection.execute(_INSERT_RESULT, (*values, checksum(values)))
    detail = Detail(tokens_in=tokens_in, tokens_out=tokens_out, incomplete=incomplete)
    return _move(tx, ref, State.DONE, detail)


def fail(tx: Transaction, ref: JobRef, code: FailureCode, message: str) -> JobRef:
    """queued, loading or working -> failed, for good."""
    return _move(tx, ref, State.FAILED, Detail(error=Failure(code, message)))


def requeue(
    tx: Transaction,
    ref: JobRef,
    reason: Requeue,
    *,
    not_before_us: Microseconds | None = None,
    message: str | None = None,
) -> JobRef:
    """loading or working -> queued, in its old place. Only RETRY charges an attempt.

    The lane skips the job until `not_before_us`; `message` tells a reader what went wrong.
    """
    due = None if not_before_us is None else moment(not_before_us)
    detail = Detail(reason=reason, message=message, not_before=due)
    return _move(tx, ref, State.QUEUED, detail, charge=reason is Requeue.RETRY)


def _move(
    tx: Transaction, ref: JobRef, to: State, detail: Detail, *, charge: bool = False
) -> JobRef:
    """One transition. Raises StaleJob when the row is not where `ref` says."""
    if to not in TRANSITIONS[ref.state]:
        raise ValueError(f"a job cannot go from {ref.state} to {to}")
    before = _guarded(tx.connection, ref)
    queued = _counts(before) * ((to is State.QUEUED) - (ref.state is State.QUEUED))
    event = _next_event(tx, before, to, before.attempt + charge, detail, queued=queued)
    after = follow(before, event)
    values = stored(after)
    lived = values[len(SUBMITTED) :]
    changed = tx.connection.execute(_UPDATE_JOB, (*lived, checksum(values), *_guard(ref)))
    if changed.rowcount != 1:
        raise StaleJob(ref.id)
    _record(tx, event)
    return after.ref


def _guarded(connection: sqlite3.Connection, ref: JobRef) -> JobRow:
    for values in connection.execute(_SELECT_GUARDED, _guard(ref)).fetchall():
        return loaded(values)
    raise StaleJob(ref.id)


def _guard(ref: JobRef) -> tuple[object, ...]:
    return (ref.id, ref.state.value, ref.epoch, ref.version)


def _counts(row: JobRow) -> int:
    """How many waiting batch jobs this is when it waits: the store counts no others."""
    return int(row.job_class is JobClass.BATCH)


def _next_event(
    tx: Transaction, row: JobRow, to: State, attempt: int, detail: Detail, *, queued: int
) -> Event:
    """The job's next event, with the next global number, and the totals brought up to date."""
    [(seq,)] = tx.connection.execute(_NEXT_SEQ, (queued,)).fetchall()
    if queued:
        lane = (row.model_key, row.runner)
        tx.connection.execute(_JOIN_LANE if queued > 0 else _LEAVE_LANE, lane)
        if queued < 0:
            tx.connection.execute(_DROP_EMPTY_LANE, lane)
    return Event(
        seq=seq,
        n=row.version + 1,
        previous_seq=row.last_seq,
        job=row.id,
        state=to,
        attempt=attempt,
        at=tx.now,
        epoch=tx.epoch,
        model=row.model,
        job_class=row.job_class,
        labels=row.labels,
        detail=detail,
    )


def _record(tx: Transaction, event: Event) -> None:
    values = (
        event.seq,
        event.job,
        event.n,
        event.previous_seq,
        event.epoch,
        event.state.value,
        event.attempt,
        event.at,
        _json(event.detail).decode(),
    )
    tx.connection.execute(_INSERT_EVENT, (*values, checksum(values)))
    tx.events.append(event)


def _store_beside(connection: sqlite3.Connection, job: NewJob) -> None:
    if job.request is not None:
        values = (job.id, job.request)
        connection.execute(_INSERT_REQUEST, (*values, checksum(values)))
    for name, value in job.labels.items():
        connection.execute(_INSERT_LABEL, (name, value, job.id))


_json = msgspec.json.Encoder().encode


def _marks(count: int) -> str:
    return ", ".join("?" * count)


_INSERT_JOB = f"INSERT INTO jobs ({', '.join(COLUMNS)}, sum) VALUES ({_marks(len(COLUMNS) + 1)})"
_SELECT_GUARDED = f"""SELECT {", ".join(COLUMNS)}, sum FROM jobs
    WHERE id = ? AND state = ? AND epoch = ? AND version = ?"""
_UPDATE_JOB = f"""UPDATE jobs SET {", ".join(f"{column} = ?" for column in LIVED)}, sum = ?
    WHERE id = ? AND state = ? AND epoch = ? AND version = ?"""
_INSERT_EVENT = f"INSERT INTO events VALUES ({_marks(10)})"
_INSERT_REQUEST = f"INSERT INTO requests VALUES ({_marks(3)})"
_INSERT_RESULT = f"INSERT INTO results VALUES ({_marks(5)})"
_INSERT_LABEL = f"INSERT INTO labels VALUES ({_marks(3)})"
_NEXT_SEQ = "UPDATE store SET seq = seq + 1, queued = queued + ? RETURNING seq"
_JOIN_LANE = """INSERT INTO lanes VALUES (?, ?, 1)
    ON CONFLICT DO UPDATE SET queued = queued + 1"""
_LEAVE_LANE = "UPDATE lanes SET queued = queued - 1 WHERE model_key = ? AND runner = ?"
_DROP_EMPTY_LANE = "DELETE FROM lanes WHERE model_key = ? AND runner = ? AND queued = 0"
