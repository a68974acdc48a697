"""Jobs as rows, where a test needs one and says only what matters."""

from typing import Any

import msgspec

from foreman.jobs import Fingerprint, JobClass, JobId
from foreman.rows import JobRow, NewJob, as_submitted

SOME_JOB = JobId("01J00000000000000000000000")


def new_job(job: JobId = SOME_JOB, **changes: Any) -> NewJob:
    """A durable chat with `small`."""
    fields: dict[str, Any] = {
        "job_class": JobClass.BATCH,
        "endpoint": "/api/chat",
        "model": "small",
        "fingerprint": Fingerprint("small:latest"),
        "request": b'{"model":"small","messages":[{"role":"user","content":"x"}]}',
    }
    return NewJob(job, **fields | changes)


def job_row(job: JobId = SOME_JOB, **changes: Any) -> JobRow:
    """Its row, with these members changed."""
    return msgspec.structs.replace(as_submitted(new_job(job), 0), **changes)
