"""The daemon's answers about jobs, as far as they are shown; unknown members are passed over."""

from datetime import datetime

import msgspec

from foreman import names
from foreman.jobs import LIVE, State


class Failure(msgspec.Struct, frozen=True):
    """Why a job failed."""

    code: str
    message: str | None = None

    def __str__(self) -> str:
        return f"{self.code}: {self.message}" if self.message else self.code


class Webhook(msgspec.Struct, frozen=True):
    """Who is told of the job's events."""

    url: str
    events: list[str] = []


class Artifact(msgspec.Struct, frozen=True):
    """A result, to fetch by its name."""

    name: str
    content_type: str
    size: int  # bytes
    sha256: str
    url: str = ""


class Job(msgspec.Struct, frozen=True, rename={"job_class": "class"}):
    """GET /jobs/{id}, or one entry of GET /jobs."""

    id: str
    state: State
    job_class: str
    model: str
    attempt: int
    created_at: datetime
    endpoint: str = ""
    fingerprint: str = ""
    priority: int = 0
    labels: dict[str, str] = {}
    position: int | None = None  # jobs ahead of it
    reason: str | None = None  # of its last requeue
    not_before: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime | None = None
    resident: bool | None = None
    load_s: float | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    incomplete: bool = False
    webhook: Webhook | None = None
    error: Failure | None = None
    artifacts: list[Artifact] = []
    result: msgspec.Raw = msgspec.Raw(b"null")

    @property
    def ended(self) -> bool:
        return self.state not in LIVE


class DamagedJob(msgspec.Struct, frozen=True):
    """A job that the daemon has and cannot read."""

    id: str
    detail: str


class Page(msgspec.Struct, frozen=True):
    """The answer of GET /jobs; `next` continues with older ones."""

    jobs: list[Job]
    next: str | None = None
    damaged: list[DamagedJob] = []


class Event(msgspec.Struct, frozen=True, rename={"job_class": "class"}):
    """One transition of one job."""

    seq: int
    job: str
    state: State
    attempt: int
    at: datetime
    model: str
    job_class: str
    resident: bool | None = None
    load_s: float | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    incomplete: bool = False
    reason: str | None = None
    message: str | None = None
    not_before: datetime | None = None
    error: Failure | None = None


def as_written(fingerprint: str) -> str:
    """A fingerprint with the model's name as people write it."""
    key, _, runner = fingerprint.partition(" ")
    try:
        return f"{names.display(key)} {runner}".strip()
    except names.InvalidName:
        return fingerprint
