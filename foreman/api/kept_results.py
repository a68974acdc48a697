"""The kept answer of a durable job as the API reads it: from its row, or from its file."""

import os
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO, Protocol

from foreman import tables
from foreman.api.ports import Desk
from foreman.api.problems import Problem
from foreman.api.visibility import visible
from foreman.artifacts import ArtifactFiles
from foreman.executor import Executor
from foreman.jobs import JobId
from foreman.rows import Artifact, JobRow

BLOCK = 1 << 18  # bytes read at once: what one reader costs in memory


class Body(Protocol):
    """The bytes of an artifact."""

    async def read(self, start: int, count: int) -> bytes:
        """At most `count` bytes, and nothing but at the end."""
        ...


@dataclass(frozen=True, slots=True)
class Found:
    """A job, and what it left behind."""

    row: JobRow
    artifacts: list[Artifact]


async def find(desk: Desk, job: str, owner: str | None) -> Found:
    """Raises Problem when there is no such job, or it belongs to somebody else."""
    row, artifacts = await desk.read(partial(_look, job=JobId(job)))
    return Found(visible(row, job, owner), artifacts)


def _look(connection: sqlite3.Connection, job: JobId) -> tuple[JobRow | None, list[Artifact]]:
    return tables.get_job(connection, job), tables.artifacts_of(connection, job)


@asynccontextmanager
async def opened(
    desk: Desk, execute: Executor, job: JobId, artifact: Artifact
) -> AsyncGenerator[Body]:
    """The artifact's bytes. Raises Problem when they are gone or not what the row says."""
    if artifact.inline:
        yield _InRow((await desk.read(partial(tables.get_result, job=job))).body)
        return
    open_file = partial(_open, desk.artifacts, job, artifact)
    with await execute(open_file) as file:
        yield _InFile(file, execute)


def _open(files: ArtifactFiles, job: JobId, artifact: Artifact) -> BinaryIO:
    try:
        file = files.open(job, artifact.attempt)
    except OSError as error:
        raise _damaged(f"the file of {artifact.name} cannot be read: {error.strerror}") from None
    if (size := os.fstat(file.fileno()).st_size) != artifact.size:
        file.close()
        raise _damaged(f"the file of {artifact.name} has {size} bytes and not {artifact.size}")
    return file


def _damaged(text: str) -> Problem:
    return Problem(500, "artifact_damaged", text)


class _InRow:
    def __init__(self, body: bytes) -> None:
        self._body = body

    async def read(self, start: int, count: int) -> bytes:
        return self._body[start : start + count]


class _InFile:
    def __init__(self, file: BinaryIO, execute: Executor) -> None:
        self._file = file
        self._execute = execute

    async def read(self, start: int, count: int) -> bytes:
        return await self._execute(partial(os.pread, self._file.fileno(), count, start))
