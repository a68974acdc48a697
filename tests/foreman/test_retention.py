"""Forgetting: only what is finished and old, with all that belongs to it, and never for long."""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from actors import store
from actors.mailbox import write
from actors.messages import Write
from foreman.artifacts import ArtifactFiles, describe
from foreman.commit import Committer
from foreman.database import open_writer
from foreman.executor import inline
from foreman.jobs import FailureCode, JobId, JobIds
from foreman.metrics.counts import Metrics
from foreman.retention import DEAD_LETTERS, LONGEST, MOST, Retention
from foreman.rows import Result
from foreman.tables import JobRef, Transaction, check, claim, fail, finish, start, submit
from tests.fakes.disk import failing_connection
from tests.fakes.jobs import new_job

NOW = 1_800_000_000_000_000
HOUR = 3_600_000_000
DAY = 24 * HOUR
BESIDE = ("labels", "requests", "results", "artifacts", "events", "outbox", "deliveries")
HOOK = '{"url":"http://127.0.0.1:9/","events":["job.done","job.failed"]}'


@dataclass
class Shelf:
    """A database with jobs of all ages; what is older than a day is to be forgotten."""

    committer: Committer
    files: ArtifactFiles
    retention: Retention
    ids: JobIds = field(default_factory=JobIds)

    @property
    def connection(self) -> sqlite3.Connection:
        return self.committer.database.connection

    def queued(self, age: int, **changes: Any) -> JobRef:
        return submit(self._at(age), new_job(self.ids.new(), **changes))

    def working(self, age: int, **changes: Any) -> JobRef:
        ref = claim(self._at(age), self.queued(age, **changes), resident=True)
        return start(self._at(age), ref, load_s=None)

    def done(self, age: int, body: bytes = b"{}", **changes: Any) -> JobId:
        ref = self.working(age, **changes)
        result = Result(200, "application/json", body)
        artifact = describe(result, 1, inline=True)
        finish(self._at(age), ref, result=result, artifact=artifact)
        return ref.id

    def fetched(self, age: int) -> JobId:
        """Done, with its result in a file."""
        ref = self.working(age)
        artifact = self.files.publish(ref.id, 1, Result(200, "application/json", b"{}"))
        finish(self._at(age), ref, artifact=artifact)
        return ref.id

    def failed(self, age: int) -> JobId:
        return fail(self._at(age), self.queued(age), FailureCode.CANCELLED, "x").id

    def settle(self, job: JobId, state: str, age: int) -> None:
        """Its webhooks have come to this end."""
        query = "UPDATE outbox SET state = ?, due_at = NULL, settled_at = ? WHERE job = ?"
        self.connection.execute(query, (state, NOW - age, job))

    def prune(self) -> set[str]:
        """Forget all there is to forget; the jobs that are left."""
        while self.retention.step(self.committer, NOW):
            pass
        return self.jobs()

    def jobs(self) -> set[str]:
        return {job for (job,) in self.connection.execute("SELECT id FROM jobs").fetchall()}

    def number(self, query: str) -> int:
        [(found,)] = self.connection.execute(query).fetchall()
        return int(found)

    def _at(self, age: int) -> Transaction:
        return Transaction(self.connection, NOW - age, self.committer.database.epoch)


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    with open_writer(tmp_path, now=NOW, ballast=4096) as database:
        database.connection.execute("PRAGMA synchronous = 0")  # hundreds of small steps
        files = ArtifactFiles(tmp_path / "artifacts")
        files.sweep(database.connection)
        yield Shelf(Committer(database, keep_free=0), files, Retention(files, 86400))


def test_what_finished_longer_ago_than_that_is_deleted_and_nothing_else(shelf: Shelf) -> None:
    shelf.done(2 * DAY)
    shelf.failed(25 * HOUR)
    young = {shelf.done(23 * HOUR), shelf.failed(0)}
    unfinished = {shelf.queued(900 * DAY).id, shelf.working(900 * DAY).id}
    assert shelf.prune() == young | unfinished
    assert check(shelf.connection, None) == []


def test_everything_that_belongs_to_a_job_goes_with_it(shelf: Shelf) -> None:
    job = shelf.done(2 * DAY, webhook=HOOK, labels={"run": "7"})
    shelf.connection.execute(
        "INSERT INTO deliveries (message, attempt, at) SELECT id, 1, 0 FROM outbox"
    )
    assert all(shelf.number(f"SELECT count(*) FROM {table}") for table in BESIDE)
    shelf.settle(job, "delivered", DAY)
    assert shelf.prune() == set()
    assert not any(shelf.number(f"SELECT count(*) FROM {table}") for table in BESIDE)
    assert shelf.connection.execute("PRAGMA foreign_key_check").fetchall() == []


def test_a_job_whose_webhooks_are_not_delivered_is_kept(shelf: Shelf) -> None:
    job = shelf.done(900 * DAY, webhook=HOOK)
    assert shelf.prune() == {job}
    shelf.settle(job, "delivered", 0)
    assert shelf.prune() == set()


def test_a_job_with_a_dead_letter_is_kept_for_a_month(shelf: Shelf) -> None:
    young, old = (shelf.done(900 * DAY, webhook=HOOK) for _ in range(2))
    shelf.settle(young, "dead", DEAD_LETTERS - HOUR)
    shelf.settle(old, "dead", DEAD_LETTERS + HOUR)
    assert shelf.prune() == {young}


def test_the_store_remembers_up_to_which_event_its_log_has_gaps(shelf: Shelf) -> None:
    shelf.done(3 * DAY)
    shelf.queued(0)
    shelf.done(2 * DAY)
    last = shelf.number("SELECT seq FROM store")
    shelf.done(0)
    assert shelf.number("SELECT pruned_seq FROM store") == 0
    shelf.prune()
    assert shelf.number("SELECT pruned_seq FROM store") == last
    assert shelf.number("SELECT min(seq) FROM events") == 5
    assert shelf.number("SELECT seq FROM store") > last


def test_a_look_that_finds_nothing_is_no_commit(shelf: Shelf) -> None:
    shelf.done(0)
    assert not shelf.retention.step(shelf.committer, NOW)
    assert shelf.committer.commits == 0


def test_the_oldest_go_first_and_a_few_at_a_time(shelf: Shelf) -> None:
    by_age = [shelf.done(age * DAY) for age in range(40, 2, -1)]
    assert shelf.retention.step(shelf.committer, NOW)
    left = shelf.jobs()
    assert 0 < len(left) < len(by_age)
    assert left == set(by_age[-len(left) :])


def test_the_file_of_a_result_goes_with_its_job(shelf: Shelf) -> None:
    old, young = shelf.fetched(2 * DAY), shelf.fetched(0)
    shelf.prune()
    shelf.files.open(young, 1).close()
    with pytest.raises(FileNotFoundError):
        shelf.files.open(old, 1)


def test_when_the_rows_cannot_be_deleted_the_files_stay(tmp_path: Path, shelf: Shelf) -> None:
    job = shelf.fetched(2 * DAY)
    database = shelf.committer.database
    database.connection.close()
    database.connection = failing_connection(database.directory.database)
    database.connection.fail(4, sqlite3.SQLITE_BUSY)
    assert not shelf.retention.step(shelf.committer, NOW)
    assert shelf.jobs() == {job}
    shelf.files.open(job, 1).close()


def test_a_step_that_held_up_the_others_makes_the_next_ones_smaller(shelf: Shelf) -> None:
    times = iter([0, 2 * LONGEST] * 3 + [0, 0] * 20)
    retention = Retention(shelf.files, 86400, lambda: next(times))
    for _ in range(MOST):
        shelf.done(2 * DAY)
    sizes, left = list[int](), MOST
    while retention.step(shelf.committer, NOW):
        sizes.append(left - len(shelf.jobs()))
        left = len(shelf.jobs())
    assert sizes[:7] == [10, 5, 2, 1, 2, 4, 8]


async def test_the_store_forgets_by_itself_while_it_takes_new_jobs(
    autojump_clock: MockClock, shelf: Shelf
) -> None:
    for _ in range(50):
        shelf.done(2 * DAY)
    inbox, messages = trio.open_memory_channel[Write[Any]](16)
    run = partial(
        store.run,
        messages,
        shelf.committer.database,
        lambda events: None,
        Metrics(),
        post=lambda: None,
        execute=inline,
        now=lambda: NOW,
        keep_free=0,
        retention=shelf.retention,
    )
    with messages:
        async with trio.open_nursery() as nursery:
            await nursery.start(run)
            with inbox:
                ref = await write(inbox, lambda tx: submit(tx, new_job(shelf.ids.new())))
                await trio.sleep(3)
                assert shelf.jobs() == {ref.id}
