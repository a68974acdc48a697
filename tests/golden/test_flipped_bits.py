"""Row A17: a bit that flips in a row is found when the row is read, wherever in it it is."""

import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from foreman import outbox, tables
from foreman.audit import examine
from foreman.database import open_reader, open_writer
from foreman.errors import StoreError, StoreRefused
from foreman.jobs import JobId
from foreman.schema import MIGRATIONS
from tests.golden.database import NOW, restore

FLIPS = 1000

Answers = dict[str, Any]


def answers(connection: sqlite3.Connection, jobs: list[JobId]) -> Answers:
    """All that the API is told of these jobs; None where it was told that a row is damaged."""
    questions: dict[str, Callable[[sqlite3.Connection, JobId], object]] = {
        "row": tables.get_job,
        "request": tables.get_request,
        "result": tables.get_result,
        "artifacts": tables.artifacts_of,
        "events": tables.events_of,
        "messages": outbox.messages_of,
    }
    return {
        f"{name} of {job}": _told(ask, connection, job)
        for name, ask in questions.items()
        for job in jobs
    }


def _told(
    ask: Callable[[sqlite3.Connection, JobId], object], connection: sqlite3.Connection, job: JobId
) -> object:
    try:
        return ask(connection, job)
    except (StoreError, sqlite3.DatabaseError):
        return None


def found_by_doctor(path: Path) -> bool:
    """Whether a full check of SQLite's or of ours says that something is wrong."""
    try:
        with closing(open_reader(path)) as connection:
            return any(examine(connection))
    except sqlite3.DatabaseError:
        return True


def flipped(sound: Path, folder: Path, bit: int) -> Path:
    """A copy with this one bit turned over."""
    content = bytearray(sound.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    path = folder / "foreman.db"
    path.write_bytes(content)
    path.chmod(0o600)
    return path


def test_no_flipped_bit_is_served_as_if_nothing_had_happened(tmp_path: Path) -> None:
    """What is read is what was written, or is refused: at the start, or row by row."""
    sound = restore(MIGRATIONS[-1].name, tmp_path / "sound")
    with open_writer(sound.parent, now=NOW, ballast=4096) as database:
        database.close()
    with closing(open_reader(sound)) as connection:
        jobs = [JobId(job) for (job,) in connection.execute("SELECT id FROM jobs")]
        truth = answers(connection, jobs)
    random_, noticed = random.Random(17), 0
    for _ in range(FLIPS):
        path = flipped(sound, tmp_path / "flipped", random_.randrange(sound.stat().st_size * 8))
        try:
            with closing(open_reader(path)) as connection:
                told = answers(connection, jobs)
        except (StoreRefused, UnicodeDecodeError):  # the driver quotes a damaged schema
            noticed += 1
            continue
        wrong = [name for name, each in told.items() if each not in (None, truth[name])]
        if wrong:  # an index has lost rows: they are missing, never another's, and doctor finds it
            assert all(set(map(repr, told[name])) < set(map(repr, truth[name])) for name in wrong)
            assert found_by_doctor(path)
        noticed += told != truth
    assert noticed > FLIPS / 100


def test_a_flipped_bit_in_the_schema_is_refused_at_the_start(tmp_path: Path) -> None:
    path = restore(MIGRATIONS[-1].name, tmp_path)
    content = path.read_bytes()
    assert content.count(b"CREATE TABLE labels") == 1
    broken = b"CREATE TABLE \xeclabels"[:19]
    path.write_bytes(content.replace(b"CREATE TABLE labels", broken))
    with pytest.raises(StoreRefused, match=r"foreman\.db"):
        open_writer(tmp_path, now=NOW, ballast=4096)
