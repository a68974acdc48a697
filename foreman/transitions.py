"""Every change to a job: one guarded update of its row and one event, in the caller's transaction.

All of it is synchronous and runs inside the store's transaction (`actors.store`). Whatever a
function here wrote before it raised must be rolled back, which the store does.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from foreman.encoding import COLUMNS, LIVED, SUBMITTED, checksum, loaded, stored
from foreman.errors import StaleJob
from foreman.folding import follow
from foreman.jobs import ENDED, TRANSITIONS, FailureCode, JobClass, JobId, Requeue, State
from foreman.outbox import enqueue
from foreman.queries import artifacts_of, get_job, get_result
from foreman.records import document
from foreman.rows import (
    NEVER,
    Artifact,
    Detail,
    Event,
    Failure,
    JobRef,
    JobRow,
    Microseconds,
    Result,
    moment,
)

CANCELLED = "cancelled on request"
EXPIRED = "not started in the time it was given"

Step = tuple[State, Detail]
AT_ONCE: tuple[Step, ...] = ((State.LOADING, Detail(resident=True)), (State.WORKING, Detail()))
"""From queued to working, where the model is loaded already."""


@dataclass(slots=True)
class Transaction:
    """An open write transaction: `now` is the wall clock, `epoch` counts the daemon's starts.

    `low_disk` keeps new batch jobs out. What is to be told once it is committed is collected:
    `events`, and `posted`, whether webhooks are due for them.
    """

    connection: sqlite3.Connection
    now: Microseconds
    epoch: int
    low_disk: bool = False
    events: list[Event] = field(default_factory=list[Event])
    posted: bool = False


def claim(tx: Transaction, ref: JobRef, *, resident: bool) -> JobRef:
    """queued -> loading: the job has the slot. `resident`: its model is loaded already."""
    return _move(tx, ref, (State.LOADING, Detail(resident=resident)))


def claim_resident(tx: Transaction, ref: JobRef) -> JobRef:
    """queued -> loading -> working: the job has the slot, and its model is loaded already."""
    return _move(tx, ref, *AT_ONCE)


def start(tx: Transaction, ref: JobRef, *, load_s: float | None) -> JobRef:
    """loading -> working, after a load of `load_s` seconds, or None where nothing was loaded."""
    return _move(tx, ref, (State.WORKING, Detail(load_s=load_s)))


def finish(
    tx: Transaction,
    ref: JobRef,
    *,
    result: Result | None = None,
    artifact: Artifact | None = None,
    tokens_in: int | None = None,
    tokens_out: int | None = None,
    incomplete: bool = False,
) -> JobRef:
    """working -> done, with the answer where somebody will fetch it.

    `result` holds the bytes of an `artifact` that is kept inline.
    """
    if result is not None:
        values = (ref.id, result.status, result.content_type, result.body)
        insert(tx.connection, _INSERT_RESULT, [values])
    if artifact is not None:
        _store_artifact(tx, ref.id, artifact)
    detail = Detail(tokens_in=tokens_in, tokens_out=tokens_out, incomplete=incomplete)
    return _move(tx, ref, (State.DONE, detail))


def fail(tx: Transaction, ref: JobRef, code: FailureCode, message: str) -> JobRef:
    """queued, loading or working -> failed, for good."""
    return _move(tx, ref, (State.FAILED, Detail(error=Failure(code, message))))


def cancel(tx: Transaction, job: JobId) -> None:
    """Fail a job that waits in the table; one that has ended, or is not there, is left alone.

    Raises StaleJob for one that runs: it is the worker's.
    """
    row = get_job(tx.connection, job)
    if row is None or row.state in ENDED:
        return
    if row.state is not State.QUEUED:
        raise StaleJob(job)
    fail(tx, row.ref, FailureCode.CANCELLED, CANCELLED)


def expire(tx: Transaction, most: int = 256) -> int:
    """Fail the jobs that have waited longer than they were given, the longest overdue first."""
    found = tx.connection.execute(_EXPIRED, (tx.now, most)).fetchall()
    for values in found:
        fail(tx, loaded(values).ref, FailureCode.EXPIRED, EXPIRED)
    return len(found)


def set_aside(tx: Transaction, job: JobId) -> None:
    """Keep a job whose row is damaged out of its lane's way: it can be neither run nor moved on.

    Its checksum stays wrong, so that it is still found.
    """
    tx.connection.execute("UPDATE jobs SET not_before = ? WHERE id = ?", (NEVER, job))


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
    return _move(tx, ref, (State.QUEUED, detail), charge=reason is Requeue.RETRY)


def _move(tx: Transaction, ref: JobRef, *steps: Step, charge: bool = False) -> JobRef:
    """One transition, or several of one moment. Raises StaleJob when `ref` is not where it is."""
    _check(ref.state, steps)
    before = _guarded(tx.connection, ref)
    queued = (steps[-1][0] is State.QUEUED) - (ref.state is State.QUEUED)
    numbers = take_numbers(tx, len(steps), _recount(tx.connection, before, queued))
    entries = advance(tx, before, steps, numbers, charge=charge)
    after = entries[-1][1]
    values = stored(after)
    lived = values[len(SUBMITTED) :]
    changed = tx.connection.execute(_UPDATE_JOB, (*lived, checksum(values), *_guard(ref)))
    if changed.rowcount != 1:
        raise StaleJob(ref.id)
    record(tx, entries)
    return after.ref


def _check(state: State, steps: Sequence[Step]) -> None:
    for to, _ in steps:
        if to not in TRANSITIONS[state]:
            raise ValueError(f"a job cannot go from {state} to {to}")
        state = to


def advance(
    tx: Transaction,
    row: JobRow,
    steps: Sequence[Step],
    numbers: Iterable[int],
    *,
    charge: bool = False,
) -> list[tuple[Event, JobRow]]:
    """Each step's event, with the job as that makes it."""
    entries: list[tuple[Event, JobRow]] = []
    for (to, detail), seq in zip(steps, numbers, strict=True):
        event = next_event(tx, row, to, row.attempt + charge, detail, seq)
        row = follow(row, event)
        entries.append((event, row))
    return entries


def _guarded(connection: sqlite3.Connection, ref: JobRef) -> JobRow:
    for values in connection.execute(_SELECT_GUARDED, _guard(ref)).fetchall():
        return loaded(values)
    raise StaleJob(ref.id)


def _guard(ref: JobRef) -> tuple[object, ...]:
    return (ref.id, ref.state.value, ref.epoch, ref.version)


def _recount(connection: sqlite3.Connection, row: JobRow, by: int) -> int:
    """Bring its lane's total up to date, `by` more waiting; what that adds to the store's total.

    Only batch jobs are counted.
    """
    if not by or row.job_class is not JobClass.BATCH:
        return 0
    lane = (row.model_key, row.runner)
    if by > 0:
        connection.execute(JOIN_LANE, (*lane, by))
    else:
        connection.execute(_LEAVE_LANE, lane)
        connection.execute(_DROP_EMPTY_LANE, lane)
    return by


def take_numbers(tx: Transaction, count: int, queued: int) -> range:
    """The next global event numbers, taken while `queued` more batch jobs are counted."""
    [(last,)] = tx.connection.execute(_NEXT_NUMBERS, (count, queued)).fetchall()
    return range(last - count + 1, last + 1)


def next_event(
    tx: Transaction, row: JobRow, to: State, attempt: int, detail: Detail, seq: int
) -> Event:
    """The job's next event."""
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
        owner=row.owner,
        detail=detail,
    )


def record(tx: Transaction, entries: Sequence[tuple[Event, JobRow]]) -> None:
    """Write the events, each with its job as that made it, and the webhooks that tell of them."""
    insert(tx.connection, _INSERT_EVENT, (event_values(event) for event, _ in entries))
    for event, row in entries:
        tx.events.append(event)
        if row.webhook is not None:
            tx.posted |= _post(tx.connection, event, row)


def event_values(event: Event) -> tuple[object, ...]:
    """The event's row without its checksum."""
    return (
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


def _post(connection: sqlite3.Connection, event: Event, row: JobRow) -> bool:
    """Put the event's webhook into the outbox; whether the job wants one for it."""
    if event.state is not State.DONE:
        return enqueue(connection, event, row)
    artifacts = artifacts_of(connection, row.id)
    wanted = row.artifacts == "inline" and any(artifact.inline for artifact in artifacts)
    result = _as_json(get_result(connection, row.id), row) if wanted else None
    return enqueue(connection, event, row, artifacts=artifacts, result=result)


def _as_json(result: Result, row: JobRow) -> bytes | None:
    """The answer as `GET /jobs/{id}` shows it, if it is what its type promises."""
    try:
        return _json(document(row.endpoint, result.content_type, result.body))
    except ValueError:
        return None


def _store_artifact(tx: Transaction, job: JobId, artifact: Artifact) -> None:
    values = (
        job,
        artifact.name,
        artifact.attempt,
        artifact.content_type,
        artifact.size,
        artifact.sha256,
        int(artifact.inline),
        tx.now,
    )
    insert(tx.connection, _INSERT_ARTIFACT, [values])


def insert(connection: sqlite3.Connection, insert: str, rows: Iterable[tuple[object, ...]]) -> None:
    """Write rows under their checksums."""
    connection.executemany(insert, [(*values, checksum(values)) for values in rows])


_json = msgspec.json.Encoder().encode


def marks(count: int) -> str:
    return ", ".join("?" * count)


_SELECT_GUARDED = f"""SELECT {", ".join(COLUMNS)}, sum FROM jobs
    WHERE id = ? AND state = ? AND epoch = ? AND version = ?"""
_UPDATE_JOB = f"""UPDATE jobs SET {", ".join(f"{column} = ?" for column in LIVED)}, sum = ?
    WHERE id = ? AND state = ? AND epoch = ? AND version = ?"""
_EXPIRED = f"""SELECT {", ".join(COLUMNS)}, sum FROM jobs INDEXED BY jobs_expiring
    WHERE state = 'queued' AND expires_at <= ? ORDER BY expires_at LIMIT ?"""
_INSERT_EVENT = f"INSERT INTO events VALUES ({marks(10)})"
_INSERT_RESULT = f"INSERT INTO results VALUES ({marks(5)})"
_INSERT_ARTIFACT = f"INSERT INTO artifacts VALUES ({marks(9)})"
_NEXT_NUMBERS = "UPDATE store SET seq = seq + ?, queued = queued + ? RETURNING seq"
JOIN_LANE = """INSERT INTO lanes VALUES (?, ?, ?)
    ON CONFLICT DO UPDATE SET queued = queued + excluded.queued"""
_LEAVE_LANE = "UPDATE lanes SET queued = queued - 1 WHERE model_key = ? AND runner = ?"
_DROP_EMPTY_LANE = "DELETE FROM lanes WHERE model_key = ? AND runner = ? AND queued = 0"
