"""kill -9 at every step of publishing a result: no row without its file, no file without a row."""

import hashlib
import itertools
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from foreman.artifacts import ArtifactFiles
from tests.crash.artifact_victim import ANSWER

ROOT = Path(__file__).parents[2]


class Victim:
    """The process that forks the children."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.artifact_victim"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, folder: Path, die: int) -> bool:
        """One child; whether it was killed."""
        assert self.process.stdin and self.process.stdout
        print(folder, die, file=self.process.stdin, flush=True)
        status = int(self.process.stdout.readline())
        assert status in (0, signal.SIGKILL)
        return status != 0


@pytest.fixture
def victim() -> Iterator[Victim]:
    started = Victim()
    yield started
    started.process.communicate()


def test_a_kill_at_any_step_of_publishing_loses_no_result_and_leaves_no_rubbish(
    tmp_path: Path, victim: Victim
) -> None:
    """Row A7."""
    for step in itertools.count(1):
        folder = tmp_path / str(step)
        killed = victim.run(folder, step)
        assert all(is_whole(folder, row) for row in rows(folder))
        if not killed:
            break
        ended = [row["state"] for row in rows(folder)] == ["done"]
        assert len(swept(folder)) == ended
        assert not victim.run(folder, 0)
        first, *others = rows(folder)
        assert len(others) == ended  # what was done stays as it was, and the next job is another
        for row in (first, *others):
            assert row["state"] == "done"
            assert is_whole(folder, row)
        assert len(files(folder)) == 1 + ended
    assert step > 9  # two directories, a draft in two pieces, a rename, a row


def rows(folder: Path) -> list[dict[str, Any]]:
    """The jobs and what is said of their results, by a reading of its own."""
    with closing(sqlite3.connect(f"file:{folder}/foreman.db?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        query = """SELECT id, state, artifacts.attempt, sha256, size FROM jobs
            LEFT JOIN artifacts ON job = id AND inline = 0 ORDER BY id"""
        return [dict(row) for row in connection.execute(query).fetchall()]


def is_whole(folder: Path, row: dict[str, Any]) -> bool:
    """A job that is done has its file, byte for byte; another says nothing of one."""
    if row["state"] != "done":
        return row["sha256"] is None
    job = row["id"]
    body = (folder / "artifacts" / job[-2:] / f"{job}.{row['attempt']}").read_bytes()
    return (body, len(body)) == (ANSWER.body, row["size"]) and (
        hashlib.sha256(body).digest() == row["sha256"]
    )


def files(folder: Path) -> list[Path]:
    return [path for path in (folder / "artifacts").rglob("*") if path.is_file()]


def swept(folder: Path) -> list[Path]:
    """What a start would leave of the files; tried on a copy."""
    copy = folder / "copy"
    shutil.copytree(folder / "artifacts", copy / "artifacts")
    with closing(sqlite3.connect(f"file:{folder}/foreman.db?mode=ro", uri=True)) as connection:
        assert ArtifactFiles(copy / "artifacts").sweep(connection).missing == []
    return files(copy)
