"""Durable jobs: submit, look, wait, result, cancel, list."""

import math
from collections.abc import AsyncGenerator
from typing import Any, TypeVar

import msgspec

from foreman.client import answers, fetching, requests
from foreman.client.asking import ask_for
from foreman.client.errors import JobFailed, WaitTimeout
from foreman.client.requests import JobFilter, JobOrId
from foreman.client.transport import Request, Transport
from foreman.client.values import Job
from foreman.jobs import State

T = TypeVar("T")

POLL = 30.0  # seconds of one long poll
MARGIN = 15.0  # seconds an answer may be late
PAGE = 200  # jobs asked for at a time


class _Page(msgspec.Struct):
    jobs: list[Job]
    next: str | None = None


async def get(transport: Transport, job: JobOrId) -> Job:
    """The job as it stands. Raises Unreachable, Refused (404: there is none)."""
    return await ask_for(transport, Request("GET", requests.job_path(job)), Job)


async def wait(transport: Transport, job: JobOrId, limit: float | None) -> Job:
    """The job once it has ended. Raises WaitTimeout after `limit` seconds."""
    end = math.inf if limit is None else transport.clock() + limit
    while True:
        left = max(0.0, end - transport.clock())
        poll = min(POLL, left)
        path = requests.job_path(job, "/wait")
        request = Request("GET", path, {"timeout": f"{poll:g}"}, silence=poll + MARGIN)
        found = await ask_for(transport, request, Job, left)
        if found.ended:
            return found
        if limit is not None and transport.clock() >= end:
            raise WaitTimeout(found, limit)


async def result(
    transport: Transport, job: JobOrId, kind: type[T] | None, limit: float | None
) -> Any:
    """What the job was answered. Raises JobFailed and WaitTimeout."""
    return await result_of(transport, await wait(transport, job, limit), kind)


async def result_of(transport: Transport, job: Job, kind: type[T] | None) -> Any:
    """The same of a job that has ended."""
    if job.state is State.FAILED:
        raise JobFailed(job)
    document = job.result
    if document is None and job.artifacts:
        document = await fetching.document(transport, job, job.artifacts[0])
    return answers.convert(document, job.endpoint, kind)


async def cancel(transport: Transport, job: JobOrId) -> Job:
    """The job, failed as cancelled or about to be. Raises Refused (`already_done`)."""
    return await ask_for(transport, Request("DELETE", requests.job_path(job)), Job)


async def listed(transport: Transport, filters: JobFilter) -> AsyncGenerator[Job]:
    """The jobs, the newest first, page by page."""
    query = requests.query(filters, limit=str(PAGE))
    while True:
        page = await ask_for(transport, Request("GET", "/jobs", query), _Page)
        for job in page.jobs:
            yield job
        if page.next is None:
            return
        query = {**query, "before": page.next}
