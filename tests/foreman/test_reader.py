"""Reading beside the writer."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from foreman.database import Database, open_writer
from foreman.executor import inline
from foreman.reader import READERS, Reader

COUNT = "SELECT epoch FROM store"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with open_writer(tmp_path / "data", now=1, ballast=4096) as opened:
        yield opened


def epoch(connection: sqlite3.Connection) -> int:
    [(found,)] = connection.execute(COUNT).fetchall()
    return int(found)


async def test_it_sees_what_was_committed_last(database: Database) -> None:
    with Reader(database.directory.database) as reader:
        assert await reader.read(epoch) == 1
        database.connection.execute("UPDATE store SET epoch = 7")
        assert await reader.read(epoch) == 7


async def test_all_of_one_question_is_answered_from_one_moment(database: Database) -> None:
    def twice(connection: sqlite3.Connection) -> tuple[int, int]:
        before = epoch(connection)
        database.connection.execute("UPDATE store SET epoch = epoch + 1")
        return before, epoch(connection)

    with Reader(database.directory.database, inline) as reader:
        assert await reader.read(twice) == (1, 1)
        assert await reader.read(epoch) == 2


async def test_it_cannot_write(database: Database) -> None:
    with (
        Reader(database.directory.database, inline) as reader,
        pytest.raises(sqlite3.OperationalError, match="readonly"),
    ):
        await reader.read(lambda connection: connection.execute("DELETE FROM store"))


async def test_a_question_that_fails_spoils_nothing(database: Database) -> None:
    def fail(connection: sqlite3.Connection) -> None:
        raise LookupError(epoch(connection))

    with Reader(database.directory.database) as reader:
        for _ in range(READERS + 1):
            with pytest.raises(LookupError):
                await reader.read(fail)
        assert await reader.read(epoch) == 1


async def test_many_questions_at_once_are_all_answered(database: Database) -> None:
    answers: list[int] = []
    with Reader(database.directory.database) as reader:

        async def one() -> None:
            answers.append(await reader.read(epoch))

        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(one)
    assert answers == [1] * 100


async def test_no_question_pins_the_log_after_its_answer(database: Database) -> None:
    with Reader(database.directory.database) as reader:
        await reader.read(epoch)
        database.connection.execute("UPDATE store SET epoch = 7")
        [(busy, _, _)] = database.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    assert busy == 0
