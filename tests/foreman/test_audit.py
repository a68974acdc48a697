"""What a check of the whole database finds, and that the one after a crash does not take long."""

import logging
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from foreman.artifacts import ArtifactFiles
from foreman.audit import check, examine, quick_check
from foreman.database import Database, open_reader, open_writer
from foreman.jobs import JobIds
from foreman.rows import Result
from foreman.schema import MIGRATIONS
from foreman.tables import Transaction, claim, finish, start, submit
from tests.fakes.jobs import new_job
from tests.golden.database import NOW, restore


def test_a_check_that_takes_too_long_is_cut_short_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE t (a)")
    connection.executemany("INSERT INTO t VALUES (?)", [(n,) for n in range(1000)])
    connection.set_progress_handler(lambda: 1, 10)  # as connection.interrupt does
    with caplog.at_level(logging.WARNING):
        assert quick_check(connection) == ["ok"]
    assert "its newest jobs were checked" in caplog.text
    connection.close()


def test_what_is_sound_is_ok() -> None:
    connection = sqlite3.connect(":memory:")
    assert quick_check(connection) == ["ok"]
    connection.close()


@pytest.fixture
def sound(tmp_path: Path) -> Iterator[Database]:
    """A database with something in every table, the larger result in a file."""
    restore(MIGRATIONS[-1].name, tmp_path)
    files = ArtifactFiles(tmp_path / "artifacts")
    with open_writer(tmp_path, now=NOW, ballast=4096) as database:
        files.sweep(database.connection)
        tx = Transaction(database.connection, NOW, database.epoch)
        ref = submit(tx, new_job(JobIds().new()))
        ref = start(tx, claim(tx, ref, resident=True), load_s=None)
        file = files.publish(ref.id, 1, Result(200, "application/json", b"{}"))
        finish(tx, ref, artifact=file)
        yield database


@pytest.mark.parametrize("at", ["min", "max"])
def test_an_id_that_is_no_text_any_more_is_a_finding_like_others(sound: Database, at: str) -> None:
    statement = f"UPDATE jobs SET id = CAST(x'ff30' AS TEXT) WHERE id = (SELECT {at}(id) FROM jobs)"
    sound.connection.execute("PRAGMA foreign_keys = 0")
    sound.connection.execute(statement)
    assert "the id of job '\\udcff0' is damaged" in found(sound)


def found(database: Database) -> list[str]:
    return list(examine(database.connection, database.directory.path / "artifacts"))


DAMAGES = [
    ("UPDATE requests SET body = x'00'", "in requests is damaged"),
    ("UPDATE results SET status = 201", "in results is damaged"),
    ("UPDATE artifacts SET size = 1 WHERE inline = 0", "in artifacts is damaged"),
    ("UPDATE outbox SET attempts = 7", "webhook msg_.* is damaged"),
    ("UPDATE labels SET value = 'green'", "are not those of its row"),
    ("DELETE FROM events WHERE job = (SELECT min(id) FROM jobs)", "without gaps"),
    ("DELETE FROM jobs WHERE id = (SELECT min(id) FROM jobs)", "rows of events belong to no"),
]


@pytest.mark.parametrize(("damage", "words"), DAMAGES)
def test_every_table_is_looked_at(sound: Database, damage: str, words: str) -> None:
    assert found(sound) == []
    sound.connection.execute("PRAGMA foreign_keys = 0")
    sound.connection.execute(damage)
    assert any(re.search(words, line) for line in found(sound))


def test_the_files_of_results_have_to_be_what_was_written(sound: Database) -> None:
    [path] = (sound.directory.path / "artifacts").glob("*/*")
    path.write_bytes(b"[]")
    [line] = found(sound)
    assert "is damaged: its SHA-256 does not match" in line
    path.unlink()
    [line] = found(sound)
    assert "cannot be read: No such file" in line


def test_what_sqlite_cannot_read_is_told_like_all_the_rest(sound: Database) -> None:
    path = sound.directory.database
    sound.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    [(page,)] = sound.connection.execute(
        "SELECT rootpage FROM sqlite_master WHERE name = 'jobs'"
    ).fetchall()
    content = bytearray(path.read_bytes())
    content[4096 * (page - 1) : 4096 * page] = b"\xff" * 4096
    path.write_bytes(content)
    with closing(open_reader(path)) as connection:
        lines = list(examine(connection))
    assert len(lines) > 1
    assert "some of it cannot be read: database disk image is malformed" in lines


def test_a_check_rests_where_it_is_told_to_and_ends_when_that_raises(sound: Database) -> None:
    rests = [None] * 3

    def pause() -> None:
        rests.pop()

    with pytest.raises(IndexError):
        check(sound.connection, None, pause)
    assert rests == []
