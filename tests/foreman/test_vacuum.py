"""What is deleted is given back to the disk, in quiet times, without anybody's waiting for it."""

import itertools
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from foreman.artifacts import ArtifactFiles
from foreman.commit import Committer
from foreman.database import open_writer
from foreman.jobs import FailureCode, JobIds
from foreman.retention import Retention
from foreman.tables import Transaction, check, fail, submit
from foreman.vacuum import LONGEST, MOST, SPARE, Vacuum
from tests.fakes.disk import failing_connection
from tests.fakes.jobs import new_job

NOW = 1_800_000_000_000_000
DAY = 86_400_000_000
BODY = b"x" * 60_000


class House:
    """A store that forgets after a day and vacuums when it is idle."""

    def __init__(self, committer: Committer, files: ArtifactFiles) -> None:
        self.committer = committer
        self.ids = JobIds()
        self.retention = Retention(files, 86_400)
        self.now = NOW

    def work(self, jobs: int) -> None:
        def one(tx: Transaction) -> None:
            ref = submit(tx, new_job(self.ids.new(), request=BODY))
            fail(tx, ref, FailureCode.CANCELLED, "")

        for _ in range(jobs):
            [answer] = self.committer.commit([one], self.now).answers
            answer.unwrap()

    def forget(self) -> None:
        while self.retention.step(self.committer, self.now):
            pass

    def rest(self, vacuum: Vacuum) -> int:
        """A quiet time; in how many steps the database became smaller."""
        self.committer.tend()
        self.committer.tend()
        steps = 0
        while vacuum.step(self.committer):
            steps += 1
        self.committer.tend()
        return steps

    def size(self) -> int:
        return self.committer.database.directory.database.stat().st_size


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with open_writer(tmp_path, now=NOW, ballast=4096) as database:
        database.connection.execute("PRAGMA synchronous = 0")  # hundreds of small steps
        files = ArtifactFiles(tmp_path / "artifacts")
        files.sweep(database.connection)
        yield House(Committer(database, keep_free=0), files)


def test_a_year_under_retention_leaves_the_database_as_large_as_a_day(house: House) -> None:
    sizes: list[int] = []
    for _ in range(60):
        house.work(10)
        house.now += DAY + 1
        house.forget()
        house.rest(Vacuum())
        sizes.append(house.size())
    assert max(sizes[2:]) <= sizes[1] + (SPARE << 12)
    assert max(sizes[30:]) <= max(sizes[2:30])
    assert check(house.committer.database.connection, None) == []


def test_a_burst_is_given_back_in_small_steps(house: House) -> None:
    house.work(600)
    house.committer.tend()
    house.committer.tend()
    full = house.size()
    house.now += DAY + 1
    house.forget()
    assert house.rest(Vacuum(lambda: 0.0)) > 1
    assert house.size() < full - (30_000_000 - (SPARE << 12))
    [(free,)] = house.committer.database.connection.execute("PRAGMA freelist_count")
    assert free == SPARE


def test_whoever_writes_ends_it(house: House) -> None:
    house.work(600)
    house.now += DAY + 1
    house.forget()
    assert not Vacuum().step(house.committer)  # just now something was written
    house.committer.tend()
    assert Vacuum().step(house.committer)
    house.work(1)
    assert not Vacuum().step(house.committer)


def test_a_step_ends_when_its_time_is_over_but_does_something(house: House) -> None:
    house.work(600)
    house.now += DAY + 1
    house.forget()
    house.committer.tend()
    connection = house.committer.database.connection
    taken: list[int] = []
    for each in (0.0, LONGEST / 4.5, LONGEST / 1.5, 2 * LONGEST):
        times = itertools.count(0.0, each)
        [(before,)] = connection.execute("PRAGMA freelist_count")
        assert Vacuum(times.__next__).step(house.committer)
        [(after,)] = connection.execute("PRAGMA freelist_count")
        taken.append(before - after)
    assert taken == [MOST, 5, 2, 1]


def test_a_database_that_cannot_shrink_now_is_left_as_it_is(house: House) -> None:
    house.work(600)
    house.now += DAY + 1
    house.forget()
    house.committer.tend()
    database = house.committer.database
    database.connection.close()
    connection = failing_connection(database.directory.database)
    database.connection = connection
    connection.fail(3, sqlite3.SQLITE_FULL)
    assert not Vacuum().step(house.committer)
    assert connection.fired
    assert Vacuum().step(house.committer)
