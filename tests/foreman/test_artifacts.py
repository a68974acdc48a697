"""Results as files: whole or not there, whatever ends the machine, and no other files but ours."""

import errno
import hashlib
import itertools
import os
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from foreman.artifacts import DRAFT, ArtifactFiles, Place, RealDisk, describe
from foreman.errors import StoreError, StoreFull
from foreman.jobs import JobId
from foreman.migrations import apply
from foreman.rows import Artifact, Result
from foreman.schema import MIGRATIONS
from foreman.tables import Transaction, claim, finish, start, submit
from tests.fakes.jobs import new_job
from tests.fakes.power import PowerCut, PoweredDisk

NOW = 1_800_000_000_000_000
A, B, C = (JobId(f"01J00000000000000000000{end}") for end in ("0AA", "1AA", "0BB"))


def result(body: bytes = b'{"message":{"content":"hello"}}') -> Result:
    return Result(200, "application/json; charset=utf-8", body)


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    with closing(_database()) as opened:
        yield opened


def done(connection: sqlite3.Connection, job: JobId, artifact: Artifact) -> None:
    tx = Transaction(connection, NOW, 1)
    ref = start(tx, claim(tx, submit(tx, new_job(job)), resident=True), load_s=None)
    finish(tx, ref, artifact=artifact)


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def artifacts(tmp_path: Path, connection: sqlite3.Connection) -> ArtifactFiles:
    found = ArtifactFiles(tmp_path / "artifacts")
    found.sweep(connection)
    return found


@pytest.mark.parametrize(
    ("content_type", "name"),
    [
        ("application/json; charset=utf-8", "result.json"),
        ("Application/X-NDJSON", "result.ndjson"),
        ("text/event-stream", "result.sse"),
        ("text/plain; charset=utf-8", "result.txt"),
        ("text/html", "result.txt"),
        ("../../etc/passwd", "result.txt"),
        ("", "result.txt"),
    ],
)
def test_the_name_says_what_it_is_and_nothing_else(content_type: str, name: str) -> None:
    artifact = describe(Result(200, content_type, b"abc"), 2, inline=True)
    digest = hashlib.sha256(b"abc").digest()
    assert artifact == Artifact(name, 2, content_type, 3, digest, True)


def test_what_was_published_can_be_read(artifacts: ArtifactFiles) -> None:
    artifact = artifacts.publish(A, 1, result())
    assert artifact == describe(result(), 1, inline=False)
    with artifacts.open(A, 1) as file:
        assert file.read() == result().body


def test_only_the_owner_can_read_it(artifacts: ArtifactFiles, tmp_path: Path) -> None:
    artifacts.publish(A, 1, result())
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "artifacts").rglob("*")}
    assert modes == {0o700, 0o600}


def test_the_repeated_run_of_an_attempt_replaces_the_file(artifacts: ArtifactFiles) -> None:
    artifacts.publish(A, 1, result(b"a longer answer"))
    artifacts.publish(A, 1, result(b"short"))
    with artifacts.open(A, 1) as file:
        assert file.read() == b"short"


def test_a_symlink_in_its_place_is_never_followed(artifacts: ArtifactFiles, tmp_path: Path) -> None:
    artifacts.publish(A, 1, result())
    place = tmp_path / "artifacts/AA" / f"{A}.1"
    place.unlink()
    (tmp_path / "secret").write_bytes(b"secret")
    place.symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="symbolic"):
        artifacts.open(A, 1)
    (place.parent / (place.name + DRAFT)).symlink_to(tmp_path / "secret")
    with pytest.raises(StoreError):
        artifacts.publish(A, 1, result())
    assert (tmp_path / "secret").read_bytes() == b"secret"


def test_what_was_removed_is_gone_and_removing_it_again_is_no_error(
    artifacts: ArtifactFiles,
) -> None:
    artifacts.publish(A, 1, result())
    artifacts.remove(A, 1)
    artifacts.remove(A, 1)
    with pytest.raises(FileNotFoundError):
        artifacts.open(A, 1)


class FullDisk(RealDisk):
    """Takes ten bytes, then fails."""

    def __init__(self, code: int) -> None:
        self._code = code
        self._left = 10

    def write(self, descriptor: int, body: memoryview) -> int:
        written = os.write(descriptor, body[: self._left])
        self._left -= written
        if not written:
            raise OSError(self._code, os.strerror(self._code))
        return written


@pytest.mark.parametrize(
    ("code", "error"),
    [(errno.ENOSPC, StoreFull), (errno.EDQUOT, StoreFull), (errno.EIO, StoreError)],
)
def test_a_disk_that_fails_is_the_stores_refusal_and_leaves_nothing(
    tmp_path: Path, connection: sqlite3.Connection, code: int, error: type[StoreError]
) -> None:
    artifacts = ArtifactFiles(tmp_path / "artifacts", FullDisk(code))
    artifacts.sweep(connection)
    with pytest.raises(error, match=f"job {A} cannot be kept") as caught:
        artifacts.publish(A, 1, result())
    assert type(caught.value) is error
    assert files(tmp_path / "artifacts") == set()


# ---------------------------------------------------------------- sweeping


def test_a_start_removes_what_no_row_speaks_of_and_reports_what_is_missing(
    artifacts: ArtifactFiles, connection: sqlite3.Connection, tmp_path: Path
) -> None:
    root = tmp_path / "artifacts"
    for job, attempt in ((A, 1), (A, 2), (B, 1)):
        artifacts.publish(job, attempt, result())
    done(connection, A, describe(result(), 2, inline=False))
    done(connection, C, describe(result(), 1, inline=False))
    (root / "AA" / f"{B}.2{DRAFT}").write_bytes(b"half")
    swept = artifacts.sweep(connection)
    assert (swept.removed, swept.missing) == (3, [(C, 1)])
    assert files(root) == {f"AA/{A}.2"}


def test_a_start_leaves_alone_what_is_not_its_own(
    artifacts: ArtifactFiles, connection: sqlite3.Connection, tmp_path: Path
) -> None:
    root = tmp_path / "artifacts"
    strangers = {"README", "AA/notes.txt", "backup/AA/x.1", f"backup/{A}.1"}
    for name in strangers:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"mine")
    assert artifacts.sweep(connection).removed == 0
    assert files(root) == strangers


def test_a_result_in_its_row_needs_no_file(
    artifacts: ArtifactFiles, connection: sqlite3.Connection
) -> None:
    done(connection, A, describe(result(), 1, inline=True))
    assert artifacts.sweep(connection).missing == []


# ---------------------------------------------------------------- power cuts

BODIES = {(A, 1): b"first" * 100, (B, 1): b"second" * 100, (C, 3): b"third" * 100}


def live(disk: PoweredDisk, root: Path, connection: sqlite3.Connection) -> set[Place]:
    """Publish until the lights go out; whose row was committed. One run has to be repeated."""
    artifacts, rows = ArtifactFiles(root, disk), set[Place]()
    try:
        artifacts._make(root)
        artifacts.publish(A, 1, result(b"of a run that came to nothing"))
        for (job, attempt), body in BODIES.items():
            artifact = artifacts.publish(job, attempt, result(body))
            done(connection, job, artifact)
            rows.add((job, attempt))
    except PowerCut:
        pass
    return rows


def test_a_power_cut_during_publication_leaves_no_row_without_its_file(tmp_path: Path) -> None:
    """Row A11: at every call, with everything that was not synced lost, torn or reordered."""
    root = Path("/data/artifacts")
    for cut in itertools.count(1):
        disk = PoweredDisk(root, cut)
        with closing(_database()) as connection:
            rows = live(disk, root, connection)
            for seed in range(6):
                folder = tmp_path / f"{cut}-{seed}"
                found = ArtifactFiles(disk.after_the_cut(folder, random.Random(seed)))
                assert found.sweep(connection).missing == []
                assert len(files(folder)) == len(rows)
                for place in rows:
                    with found.open(*place) as file:
                        assert file.read() == BODIES[place]
        if disk.calls < cut:
            break
    assert cut > 30


def _database() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    apply(connection, MIGRATIONS)
    return connection
