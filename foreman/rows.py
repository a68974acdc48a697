"""The values behind the rows: a job, a reference to it, an event."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Self

import msgspec

from foreman.jobs import FailureCode, Fingerprint, JobClass, JobId, Requeue, State

Microseconds = int
"""Since 1970, UTC, by the wall clock."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


NEVER: Microseconds = 1 << 62
"""When a job that was set aside is due."""


def moment(at: Microseconds) -> datetime:
    """The instant, without the rounding of a float."""
    return _EPOCH + timedelta(microseconds=at)


def microseconds(at: datetime) -> Microseconds:
    """The inverse of `moment`."""
    return (at - _EPOCH) // timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class JobRef:
    """Which job, and exactly where this writer left it: the guard of its next transition."""

    id: JobId
    state: State
    epoch: int
    version: int

    def then(self, state: State, *, epoch: int | None = None) -> Self:
        """The reference after one transition, to send the next write without awaiting the first.

        `epoch` is the current boot's; it may be left out when this boot wrote the job before.
        """
        here = self.epoch if epoch is None else epoch
        return type(self)(self.id, state, here, self.version + 1)


@dataclass(frozen=True, slots=True)
class Idempotency:
    """The client's key, and the hash of the body it came with."""

    key: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class NewJob:
    """What `submit` stores. `request` is None for interactive jobs: journalled without body."""

    id: JobId
    job_class: JobClass
    endpoint: str
    model: str
    fingerprint: Fingerprint
    request: bytes | None = None
    streamed: bool = False
    priority: int = 0
    labels: dict[str, str] = field(default_factory=dict[str, str])
    webhook: str | None = None  # JSON
    artifacts: str | None = None  # "inline" or "fetch"
    expires_at: Microseconds | None = None
    owner: str = ""  # the name of the client's token
    idempotency: Idempotency | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What the target answered, kept for a batch job."""

    status: int
    content_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Artifact:
    """What a job left behind. Its bytes lie in the job's Result when `inline`, else in a file."""

    name: str
    attempt: int
    content_type: str
    size: int  # bytes
    sha256: bytes
    inline: bool


class Failure(msgspec.Struct, frozen=True):
    """Why a job failed: a code to branch on and a sentence to read."""

    code: FailureCode
    message: str


class Detail(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one transition adds to the event; unset fields are not published."""

    resident: bool | None = None  # loading
    load_s: float | None = None  # working; None when nothing had to be loaded
    tokens_in: int | None = None  # done
    tokens_out: int | None = None
    incomplete: bool = False
    reason: Requeue | None = None  # queued again
    message: str | None = None
    not_before: datetime | None = None
    error: Failure | None = None  # failed


NOTHING = Detail()


@dataclass(frozen=True, slots=True)
class Event:
    """One transition, as stored and as published; `epoch` and `owner` stay inside."""

    seq: int
    n: int
    previous_seq: int
    job: JobId
    state: State
    attempt: int
    at: Microseconds
    epoch: int
    model: str
    job_class: JobClass
    labels: dict[str, str]
    owner: str
    detail: Detail

    @property
    def type(self) -> str:
        """`job.working`: the name subscribers filter by."""
        return f"job.{self.state.value}"

    def to_json(self) -> bytes:
        """The object that websocket, NDJSON and webhooks carry."""
        head = {
            "seq": self.seq,
            "n": self.n,
            "previous_seq": self.previous_seq,
            "job": self.job,
            "type": self.type,
            "state": self.state,
            "attempt": self.attempt,
            "at": moment(self.at),
            "model": self.model,
            "class": self.job_class,
            "labels": self.labels,
        }
        return msgspec.json.encode(head | msgspec.to_builtins(self.detail))


class JobRow(msgspec.Struct, frozen=True):
    """A job as its row has it: first what was submitted, then what its events made of it."""

    id: JobId
    job_class: JobClass = msgspec.field(name="class")
    endpoint: str
    model: str
    model_key: str
    runner: str
    streamed: bool
    priority: int
    labels: dict[str, str]
    webhook: str | None
    artifacts: str | None
    expires_at: Microseconds | None
    owner: str
    idempotency_key: str | None
    idempotency_hash: bytes | None
    submitted_at: Microseconds
    state: State = State.QUEUED
    epoch: int = 0
    version: int = 0
    last_seq: int = 0
    attempt: int = 1
    crashes: int = 0
    not_before: Microseconds = 0
    reason: str | None = None
    claimed_at: Microseconds | None = None
    working_at: Microseconds | None = None
    finished_at: Microseconds | None = None
    resident: bool | None = None
    load_s: float | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    incomplete: bool = False
    error_code: str | None = None
    error_message: str | None = None

    @property
    def fingerprint(self) -> Fingerprint:
        """The lane it waits in."""
        return Fingerprint(self.model_key, self.runner)

    @property
    def ref(self) -> JobRef:
        """The guard for its next transition."""
        return JobRef(self.id, self.state, self.epoch, self.version)


def as_submitted(job: NewJob, now: Microseconds) -> JobRow:
    """The row before its first event."""
    once = job.idempotency
    return JobRow(
        id=job.id,
        job_class=job.job_class,
        endpoint=job.endpoint,
        model=job.model,
        model_key=job.fingerprint.model,
        runner=job.fingerprint.runner,
        streamed=job.streamed,
        priority=job.priority,
        labels=job.labels,
        webhook=job.webhook,
        artifacts=job.artifacts,
        expires_at=job.expires_at,
        owner=job.owner,
        idempotency_key=once.key if once else None,
        idempotency_hash=once.digest if once else None,
        submitted_at=now,
    )
