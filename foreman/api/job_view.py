"""A job as the API shows it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from foreman.api.problems import ProblemView
from foreman.intake import Webhook
from foreman.jobs import FailureCode, JobClass, JobId, Requeue, State
from foreman.queue_view import shown
from foreman.rows import Artifact, JobRow, Microseconds, moment


class FailureView(msgspec.Struct, frozen=True):
    """Why a job failed."""

    code: FailureCode
    message: str


class ArtifactView(msgspec.Struct, frozen=True):
    """What a job left behind: `size` in bytes, `sha256` in hex, `url` relative to the daemon's."""

    name: str
    content_type: str
    size: int
    sha256: str
    url: str


class JobView(msgspec.Struct, frozen=True, rename={"job_class": "class"}):
    """A job: times in RFC 3339 UTC, durations in seconds.

    `position` counts the jobs that run before it while it waits; `result` is the answer as JSON
    where it is kept inline.
    """

    id: JobId
    state: State
    job_class: JobClass
    endpoint: str
    model: str
    fingerprint: str
    priority: int
    labels: dict[str, str]
    position: int | None
    attempt: int
    reason: Requeue | None
    not_before: datetime | None
    created_at: datetime
    claimed_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime | None
    resident: bool | None
    load_s: float | None
    tokens_in: int | None
    tokens_out: int | None
    incomplete: bool
    webhook: Webhook | None
    last_seq: int
    error: FailureView | None
    artifacts: tuple[ArtifactView, ...]
    result: Any


class DamagedJobView(msgspec.Struct, frozen=True):
    """A job that is kept, but of which what was stored can no longer be read."""

    id: JobId
    detail: str


class JobPage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Jobs, the newest first; `next` is what `before` has to be for the page after this one.

    `damaged` names those of the page that cannot be shown; it is left out where there are none.
    """

    jobs: list[JobView]
    next: JobId | None
    damaged: list[DamagedJobView] = []


class ArtifactList(msgspec.Struct, frozen=True):
    """All that a job left behind."""

    artifacts: list[ArtifactView]


class BulkJob(msgspec.Struct, frozen=True):
    """A job that a line of a bulk submission became."""

    id: JobId
    state: State


class BulkLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of a line of a bulk submission: a job, or an error; lines count from 1."""

    line: int
    status: int
    job: BulkJob | None = None
    error: ProblemView | None = None


def job_view(
    row: JobRow,
    *,
    position: int | None = None,
    artifacts: Sequence[Artifact] = (),
    result: object = None,
) -> JobView:
    """The row as it is shown."""
    return JobView(
        id=row.id,
        state=row.state,
        job_class=row.job_class,
        endpoint=row.endpoint,
        model=row.model,
        fingerprint=shown(row.fingerprint),
        priority=row.priority,
        labels=row.labels,
        position=position,
        attempt=row.attempt,
        reason=Requeue(row.reason) if row.reason else None,
        not_before=_time(row.not_before or None),
        created_at=moment(row.submitted_at),
        claimed_at=_time(row.claimed_at),
        started_at=_time(row.working_at),
        finished_at=_time(row.finished_at),
        expires_at=_time(row.expires_at),
        resident=row.resident,
        load_s=row.load_s,
        tokens_in=row.tokens_in,
        tokens_out=row.tokens_out,
        incomplete=row.incomplete,
        webhook=_webhook(row.webhook) if row.webhook else None,
        last_seq=row.last_seq,
        error=_failure(row),
        artifacts=tuple(artifact_view(row.id, artifact) for artifact in artifacts),
        result=result,
    )


def artifact_view(job: JobId, artifact: Artifact) -> ArtifactView:
    """The artifact as it is shown."""
    return ArtifactView(
        artifact.name,
        artifact.content_type,
        artifact.size,
        artifact.sha256.hex(),
        f"/jobs/{job}/artifacts/{artifact.name}",
    )


_webhook = msgspec.json.Decoder(Webhook).decode


def _failure(row: JobRow) -> FailureView | None:
    if row.error_code is None:
        return None
    return FailureView(FailureCode(row.error_code), row.error_message or "")


def _time(at: Microseconds | None) -> datetime | None:
    return None if at is None else moment(at)
