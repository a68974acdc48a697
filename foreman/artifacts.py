"""Results as files: published whole or not at all, under names that no client has a part in.

A file is written under a draft's name, synced, renamed, and its directory synced; only then may
the row that speaks of it be committed. So a crash leaves files without a row, which `sweep`
removes, and never a row without its file.
"""

import errno
import hashlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from foreman.disk import sync_directory
from foreman.errors import StoreError, StoreFull
from foreman.jobs import JobId
from foreman.rows import Artifact, Result

DRAFT = ".draft"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_OPEN = os.O_CLOEXEC | os.O_NOFOLLOW
_NAMES = {
    "application/json": "result.json",
    "application/x-ndjson": "result.ndjson",
    "text/event-stream": "result.sse",
}

Place = tuple[JobId, int]
"""Whose file it is: the job, and the attempt that it is the result of."""


def describe(result: Result, attempt: int, *, inline: bool) -> Artifact:
    """What is said of a result: its name by its type, its size, its SHA-256."""
    kind = result.content_type.partition(";")[0].strip().lower()
    digest = hashlib.sha256(result.body).digest()
    name = _NAMES.get(kind, "result.txt")
    return Artifact(name, attempt, result.content_type, len(result.body), digest, inline)


class Disk(Protocol):
    """The calls that change the disk, in the order in which they must reach it."""

    def make_directory(self, path: Path) -> None:
        """Raises FileExistsError."""
        ...

    def create(self, path: Path) -> int:
        """Open a new, empty file for writing, in place of what was there."""
        ...

    def write(self, descriptor: int, body: memoryview) -> int: ...

    def sync(self, descriptor: int) -> None: ...

    def rename(self, old: Path, new: Path) -> None: ...

    def sync_directory(self, path: Path) -> None: ...


class RealDisk:
    """The disk."""

    def make_directory(self, path: Path) -> None:
        path.mkdir(mode=0o700)

    def create(self, path: Path) -> int:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _OPEN, 0o600)

    def write(self, descriptor: int, body: memoryview) -> int:
        return os.write(descriptor, body)

    def sync(self, descriptor: int) -> None:
        os.fsync(descriptor)

    def rename(self, old: Path, new: Path) -> None:
        old.rename(new)

    def sync_directory(self, path: Path) -> None:
        sync_directory(path)


@dataclass(frozen=True, slots=True)
class Swept:
    """What a start found: files it removed or put aside, and results whose file is gone."""

    removed: int
    missing: list[Place]


class ArtifactFiles:
    """The files in this directory, spread over 1024 others by the end of the job's id."""

    def __init__(self, directory: Path, disk: Disk | None = None) -> None:
        self._root = directory
        self._disk = disk or RealDisk()

    def publish(self, job: JobId, attempt: int, result: Result) -> Artifact:
        """Put the result where `open` finds it; when this returns it is on disk.

        What an earlier run of the attempt left there is replaced. Raises StoreFull or StoreError;
        then nothing was published.
        """
        path = self._path(job, attempt)
        draft = path.with_name(path.name + DRAFT)
        try:
            self._make(path.parent)
            self._write(draft, result.body)
            self._disk.rename(draft, path)
            self._disk.sync_directory(path.parent)
        except OSError as error:
            with suppress(OSError):
                draft.unlink(missing_ok=True)
            text = f"the result of job {job} cannot be kept: {error.strerror}"
            raise (StoreFull if error.errno in _NO_ROOM else StoreError)(text) from error
        return describe(result, attempt, inline=False)

    def open(self, job: JobId, attempt: int) -> BinaryIO:
        """The file, unbuffered. Raises OSError when it is not there or no file of ours."""
        return os.fdopen(os.open(self._path(job, attempt), os.O_RDONLY | _OPEN), "rb", 0)

    def remove(self, job: JobId, attempt: int) -> None:
        """Once its row is gone. What cannot be removed now falls to the next start's sweep."""
        with suppress(OSError):
            self._path(job, attempt).unlink()

    def sweep(self, connection: sqlite3.Connection, keep: Path | None = None) -> Swept:
        """Remove what a crash left without a row; to be called before anything is published.

        With `keep` only drafts are removed, and whole files moved to that folder: after a restore
        they may be results of jobs that the older database does not know.
        """
        self._make(self._root)
        self._disk.sync_directory(self._root)  # a crash may have come before its own sync
        wanted = {
            self._path(JobId(job), attempt)
            for job, attempt in connection.execute(_IN_FILES).fetchall()
        }
        found = set(self._ours())
        for path in found - wanted:
            if keep is None or path.suffix == DRAFT:
                path.unlink(missing_ok=True)
            else:
                _move(path, keep / path.parent.name)
        missing = [(JobId(path.stem), int(path.suffix[1:])) for path in wanted - found]
        return Swept(len(found - wanted), sorted(missing))

    def _ours(self) -> Iterator[Path]:
        """Every file that `publish` may have written, finished or not."""
        with os.scandir(self._root) as shards:
            names = [shard.name for shard in shards if shard.is_dir(follow_symlinks=False)]
        for name in names:
            with os.scandir(self._root / name) as files:
                for file in files:
                    plain = file.name.removesuffix(DRAFT)
                    if len(name) == 2 and plain.partition(".")[0].endswith(name):
                        yield self._root / name / file.name

    def _path(self, job: JobId, attempt: int) -> Path:
        return self._root / job[-2:] / f"{job}.{attempt}"

    def _make(self, directory: Path) -> None:
        with suppress(FileExistsError):
            self._disk.make_directory(directory)
            self._disk.sync_directory(directory.parent)

    def _write(self, path: Path, body: bytes) -> None:
        descriptor = self._disk.create(path)
        try:
            left = memoryview(body)
            while left:
                left = left[self._disk.write(descriptor, left) :]
            self._disk.sync(descriptor)
        finally:
            os.close(descriptor)


def _move(path: Path, folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.rename(folder / path.name)
    sync_directory(folder)


_IN_FILES = "SELECT job, attempt FROM artifacts INDEXED BY artifacts_in_files WHERE inline = 0"
