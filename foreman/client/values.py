"""What a client hands out: jobs, events, artifacts, records of output, outcomes of a map."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar, cast

import msgspec

from foreman.client.errors import ClientError
from foreman.jobs import LIVE, JobClass, Requeue, State

T = TypeVar("T")

_CLASS = {"job_class": "class"}  # a keyword of Python


class Failure(msgspec.Struct, frozen=True):
    """Why a job failed; the codes are in docs/reference/job-states.md."""

    code: str
    message: str | None = None


class Artifact(msgspec.Struct, frozen=True):
    """What a job left behind. `sha256` is in hexadecimal, `size` in bytes."""

    name: str
    content_type: str
    size: int
    sha256: str
    url: str = ""


class Webhook(msgspec.Struct, frozen=True):
    """Who is told, and of which events."""

    url: str
    events: tuple[str, ...] = ()


class Job(msgspec.Struct, frozen=True, kw_only=True, rename=_CLASS):
    """A job as it stood when it was asked for. Times are UTC, `load_s` is in seconds.

    `position` is how many jobs are ahead, None unless it is queued, and in lists. `result` is
    there once it is done, if it is kept inline: `Client.result` gets it wherever it is.
    """

    id: str
    state: State
    job_class: JobClass
    endpoint: str
    model: str
    fingerprint: str = ""
    priority: int = 0
    labels: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    position: int | None = None
    attempt: int = 1
    reason: Requeue | None = None
    not_before: datetime | None = None
    created_at: datetime
    claimed_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime | None = None
    resident: bool | None = None
    load_s: float | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    incomplete: bool = False
    webhook: Webhook | None = None
    last_seq: int = 0
    error: Failure | None = None
    artifacts: tuple[Artifact, ...] = ()
    result: Any = None

    @property
    def ended(self) -> bool:
        """Whether it is done or failed, and will not change again."""
        return self.state not in LIVE


class Event(msgspec.Struct, frozen=True, kw_only=True, rename=_CLASS):
    """One transition of a job. `seq` counts all events, `n` those of the job, from 1.

    From `resident` on: what only some transitions have to tell.
    """

    seq: int
    n: int
    previous_seq: int
    job: str
    type: str
    state: State
    attempt: int
    at: datetime
    model: str
    job_class: JobClass
    labels: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    resident: bool | None = None
    load_s: float | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    incomplete: bool = False
    reason: Requeue | None = None
    message: str | None = None
    not_before: datetime | None = None
    error: Failure | None = None
    artifacts: tuple[Artifact, ...] = ()

    @property
    def ended(self) -> bool:
        """Whether it is the job's last."""
        return self.state not in LIVE


class Record(msgspec.Struct, frozen=True):
    """One piece of a job's output, number `n` (from 0) of the run that makes it.

    Where a run was abandoned, by a restart or a failure of the target, the next begins at 0 again:
    what came before is void. `data` is the JSON value that the target sent.
    """

    run: str
    n: int
    data: Any


class Progress(msgspec.Struct, frozen=True):
    """How far a map has come; `submitted` includes those that have ended."""

    submitted: int
    done: int
    failed: int


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """What became of input number `index` (from 0) of a map: a value, or an error.

    `job` is None when the daemon did not take the input.
    """

    index: int
    request: Mapping[str, Any]
    job: Job | None
    value: T | None
    error: ClientError | None = None

    def result(self) -> T:
        """The value. Raises the error, if that is what became of it."""
        if self.error is not None:
            raise self.error
        return cast(T, self.value)
