"""Every question to the database. Answers are complete: no open cursor is left to pin the WAL."""

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from foreman.encoding import COLUMNS, loaded, verified
from foreman.errors import StoreError
from foreman.jobs import Fingerprint, JobClass, JobId, State
from foreman.rows import NEVER, Artifact, Detail, Event, JobRef, JobRow, Microseconds, Result

_JOB = f"{', '.join(f'jobs.{column}' for column in COLUMNS)}, jobs.sum"
_EVENT = "seq, job, n, previous_seq, epoch, state, attempt, at, detail, sum"
LONGEST_BACKOFF = 3600 * 1_000_000  # microseconds; a job is never put back for longer
_detail = msgspec.json.Decoder(Detail).decode


@dataclass(frozen=True, slots=True)
class LaneHead:
    """The first batch job of a lane that is due, or else the one that will be due first."""

    fingerprint: Fingerprint
    ref: JobRef
    arrived_at: Microseconds
    oldest_at: Microseconds  # when the lane's oldest waiting job arrived
    priority: int
    not_before: Microseconds

    @property
    def job_id(self) -> JobId:
        """The job's id."""
        return self.ref.id

    def is_due(self, now: Microseconds) -> bool:
        """Whether it has backed off long enough; also when the clock was set back meanwhile."""
        return self.not_before <= now or now + LONGEST_BACKOFF <= self.not_before < NEVER


@dataclass(frozen=True, slots=True)
class DamagedJob:
    """A job whose row cannot be read, and why."""

    id: JobId
    detail: str


@dataclass(frozen=True, slots=True)
class Lane:
    """How many batch jobs wait for one load."""

    fingerprint: Fingerprint
    queued: int
    oldest_at: Microseconds


def lane_heads(connection: sqlite3.Connection, now: Microseconds) -> list[LaneHead]:
    """Each lane's next batch job: a few index seeks per lane, however many jobs wait in it."""
    beyond = {"never_so_far": now + LONGEST_BACKOFF, "never": NEVER - 1}
    rows = connection.execute(_LANE_HEADS, {"now": now} | beyond).fetchall()
    return [
        LaneHead(
            Fingerprint(model, runner),
            JobRef(job, State.QUEUED, epoch, version),
            arrived_at,
            oldest_at,
            priority,
            not_before,
        )
        for model, runner, job, epoch, version, arrived_at, oldest_at, priority, not_before in rows
    ]


def lane_counts(connection: sqlite3.Connection) -> list[Lane]:
    """The lanes with waiting batch jobs."""
    return [
        Lane(Fingerprint(model, runner), queued, oldest_at)
        for model, runner, queued, oldest_at in connection.execute(_LANE_COUNTS).fetchall()
    ]


def jobs_ahead(
    connection: sqlite3.Connection,
    job: JobRow,
    is_resident: Callable[[Fingerprint], bool] = lambda _: False,
    *,
    counted: int = -1,
) -> int:
    """How many batch jobs run before this waiting one, as things stand.

    Those of its lane that come first; those of the resident lane; and those of every lane with an
    older job, unless this lane is the resident one. Its place in its lane is counted from either
    end, at most `counted` jobs far; one in between then counts as the last.
    """
    own = job.fingerprint
    lanes = {lane.fingerprint: lane for lane in lane_counts(connection)}
    if own not in lanes:
        return 0
    ahead = _ahead_in_lane(connection, job, lanes[own].queued, counted)
    if is_resident(own):
        return ahead
    return ahead + sum(
        lane.queued
        for lane in lanes.values()
        if is_resident(lane.fingerprint) or lane.oldest_at < lanes[own].oldest_at
    )


def _ahead_in_lane(connection: sqlite3.Connection, job: JobRow, queued: int, counted: int) -> int:
    def count(first: str, second: str) -> int:
        lane = (job.model_key, job.runner, job.priority)
        [(others,)] = connection.execute(first, (*lane, counted)).fetchall()
        [(equals,)] = connection.execute(second, (*lane, job.id, counted)).fetchall()
        return int(others) + int(equals)

    behind = count(_LOWER, _LATER)
    if counted < 0 or behind < counted:
        return queued - 1 - behind
    ahead = count(_HIGHER, _EARLIER)
    return ahead if ahead < counted else queued - 1


def has_expired(connection: sqlite3.Connection, now: Microseconds) -> bool:
    """Whether a job waits longer than it was given."""
    query = """SELECT 1 FROM jobs INDEXED BY jobs_expiring
        WHERE state = 'queued' AND expires_at <= ? LIMIT 1"""
    return bool(connection.execute(query, (now,)).fetchall())


def queued_total(connection: sqlite3.Connection) -> int:
    """How many batch jobs wait."""
    [(queued,)] = connection.execute("SELECT queued FROM store").fetchall()
    return int(queued)


def get_job(connection: sqlite3.Connection, job: JobId) -> JobRow | None:
    """The job's row. Raises StoreError when it is damaged."""
    for values in connection.execute(f"SELECT {_JOB} FROM jobs WHERE id = ?", (job,)).fetchall():
        return loaded(values)
    return None


def last_step(connection: sqlite3.Connection, job: JobRow) -> Microseconds:
    """When the job came to be in the state that it is in."""
    if job.version > 1:
        for (at,) in connection.execute("SELECT at FROM events WHERE seq = ?", (job.last_seq,)):
            return int(at)
    return job.submitted_at


def find_by_key(connection: sqlite3.Connection, owner: str, key: str) -> JobRow | None:
    """The job that this owner submitted with this Idempotency-Key."""
    query = f"SELECT {_JOB} FROM jobs WHERE owner = ? AND idempotency_key = ?"
    for values in connection.execute(query, (owner, key)).fetchall():
        return loaded(values)
    return None


def get_request(connection: sqlite3.Connection, job: JobId) -> bytes:
    """The body as it was submitted. Raises StoreError when there is none or it is damaged."""
    body: bytes
    (body,) = _beside(connection, "requests", job)
    return body


def get_result(connection: sqlite3.Connection, job: JobId) -> Result:
    """The answer as it was kept. Raises StoreError when there is none or it is damaged."""
    return Result(*_beside(connection, "results", job))


def artifacts_of(connection: sqlite3.Connection, job: JobId) -> list[Artifact]:
    """What the job left behind, by name. Raises StoreError for a damaged row."""
    query = "SELECT * FROM artifacts WHERE job = ? ORDER BY name"
    found: list[Artifact] = []
    for row in connection.execute(query, (job,)).fetchall():
        fields = verified(row, f"an artifact of job {job}")
        _, name, attempt, content_type, size, sha256, inline, _ = fields
        found.append(Artifact(name, attempt, content_type, size, sha256, bool(inline)))
    return found


def _beside(connection: sqlite3.Connection, table: str, job: JobId) -> Sequence[Any]:
    for row in connection.execute(f"SELECT * FROM {table} WHERE job = ?", (job,)).fetchall():
        return verified(row, f"the row of job {job} in {table}")[1:]
    raise StoreError(f"job {job} has no row in {table}")


def list_jobs(
    connection: sqlite3.Connection,
    *,
    state: State | None = None,
    job_class: JobClass | None = None,
    owner: str | None = None,
    model: str | None = None,
    label: tuple[str, str] | None = None,
    before: JobId | None = None,
    limit: int = 100,
) -> list[JobRow | DamagedJob]:
    """Newest first. `model` is a normalised name; the next page is `before` the last id of this.

    Jobs whose rows are damaged are among them, as such: they do not take the others with them.
    """
    wanted = {
        "jobs.state = ?": state and state.value,
        "jobs.class = ?": job_class and job_class.value,
        "jobs.owner = ?": owner,
        "jobs.model_key = ?": model,
        "jobs.id < ?": before,
    }
    terms = {term: value for term, value in wanted.items() if value is not None}
    source, values = "jobs", list[object](terms.values())
    if label is not None:
        source = "labels JOIN jobs ON jobs.id = labels.job"
        terms |= {"labels.name = ?": label[0], "labels.value = ?": label[1]}
        values += label
    where = f"WHERE {' AND '.join(terms)}" if terms else ""
    order = "labels.job" if label else "jobs.id"
    query = f"SELECT {_JOB} FROM {source} {where} ORDER BY {order} DESC LIMIT ?"
    return [_listed(row) for row in connection.execute(query, (*values, limit)).fetchall()]


def _listed(values: Sequence[Any]) -> JobRow | DamagedJob:
    try:
        return loaded(values)
    except StoreError as damage:
        return DamagedJob(JobId(_text(str(values[0]))), _text(str(damage)))


def _text(text: str) -> str:
    """What a flipped bit left of it, as text that can be told."""
    return text.encode(errors="replace").decode()


def events_of(connection: sqlite3.Connection, job: JobId) -> list[Event]:
    """The job's whole log, oldest first; empty for an unknown job."""
    row = get_job(connection, job)
    return [] if row is None else log_of(connection, row)


def log_of(connection: sqlite3.Connection, job: JobRow) -> list[Event]:
    """`events_of` for a job whose row is at hand."""
    query = f"SELECT {_EVENT} FROM events WHERE job = ? ORDER BY n"
    return [read_event(each, job) for each in connection.execute(query, (job.id,)).fetchall()]


def read_event(values: Sequence[Any], job: JobRow) -> Event:
    """The event of these stored values. Raises StoreError when they are damaged."""
    fields = verified(values, f"event {values[0]}")
    seq, _, n, previous_seq, epoch, state, attempt, at, detail = fields
    return Event(
        seq=seq,
        n=n,
        previous_seq=previous_seq,
        job=job.id,
        state=State(state),
        attempt=attempt,
        at=at,
        epoch=epoch,
        model=job.model,
        job_class=job.job_class,
        labels=job.labels,
        owner=job.owner,
        detail=_detail(detail),
    )


_HEAD_OF_LANE = """SELECT id FROM jobs INDEXED BY jobs_waiting
    WHERE state = 'queued' AND class = 'batch'
    AND model_key = lanes.model_key AND runner = lanes.runner"""
_OF_LANE = """SELECT count(*) FROM (SELECT 1 FROM jobs INDEXED BY jobs_waiting
    WHERE state = 'queued' AND class = 'batch' AND model_key = ? AND runner = ? AND {} LIMIT ?)"""
_LOWER = _OF_LANE.format("priority < ?")
_HIGHER = _OF_LANE.format("priority > ?")
_LATER = _OF_LANE.format("priority = ? AND id > ?")
_EARLIER = _OF_LANE.format("priority = ? AND id < ?")
_OLDEST_OF_LANE = """(SELECT submitted_at FROM jobs INDEXED BY jobs_oldest
    WHERE state = 'queued' AND class = 'batch'
    AND model_key = lanes.model_key AND runner = lanes.runner ORDER BY id LIMIT 1)"""
_LANE_COUNTS = f"SELECT model_key, runner, queued, {_OLDEST_OF_LANE} FROM lanes"
_LANE_HEADS = f"""
SELECT lanes.model_key, lanes.runner, jobs.id, jobs.epoch, jobs.version, jobs.submitted_at,
    {_OLDEST_OF_LANE}, jobs.priority, jobs.not_before
FROM lanes JOIN jobs ON jobs.id = ifnull(
    ({_HEAD_OF_LANE} AND (not_before <= :now OR not_before BETWEEN :never_so_far AND :never)
        ORDER BY priority DESC, id LIMIT 1),
    ({_HEAD_OF_LANE} ORDER BY not_before LIMIT 1))
"""
