"""Group commit, and what becomes of it on a full, failing or shared disk."""

import logging
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import outcome
import pytest

from foreman.commit import WAL_PATIENCE, Committer, DiskFailed
from foreman.database import BUSY_TIMEOUT, Database, open_reader, open_writer
from foreman.disk import read_mark
from foreman.errors import QueueFull, StaleJob, StoreBusy, StoreError, StoreFull
from foreman.jobs import Fingerprint, JobClass, JobId, State
from foreman.tables import JobRef, NewJob, Transaction, check, claim, finish, get_job, start, submit
from tests.fakes.disk import FailingConnection, failing_connection

NOW = 1_800_000_000_000_000
BALLAST = 1 << 20


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with open_writer(tmp_path / "data", now=NOW, ballast=BALLAST) as opened:
        yield opened


def failing(database: Database) -> FailingConnection:
    database.connection.close()
    connection = failing_connection(database.directory.database)
    database.connection = connection
    return connection


def new(number: int, size: int = 10) -> NewJob:
    fingerprint = Fingerprint("m")
    body = b"x" * size
    return NewJob(JobId(f"{number:026d}"), JobClass.BATCH, "/", "m", fingerprint, body)


def accept(number: int, size: int = 10) -> Any:
    return lambda tx: submit(tx, new(number, size))


def running(committer: Committer, number: int) -> JobRef:
    def run(tx: Transaction) -> JobRef:
        return start(tx, claim(tx, submit(tx, new(number)), resident=True), load_s=None)

    ref = committer.commit([run], NOW).answers[0].unwrap()
    assert isinstance(ref, JobRef)
    return ref


def broken(tx: Transaction) -> None:
    submit(tx, new(999))
    raise QueueFull(0)


def is_there(database: Database, number: int) -> bool:
    return get_job(database.connection, JobId(f"{number:026d}")) is not None


def errors(answers: list[outcome.Maybe[Any]]) -> list[type[BaseException] | None]:
    return [type(a.error) if isinstance(a, outcome.Error) else None for a in answers]


def test_a_bad_operation_fails_alone(database: Database) -> None:
    done = Committer(database, 0).commit([accept(1), broken, accept(2)], NOW)
    assert errors(done.answers) == [None, QueueFull, None]
    assert [event.seq for event in done.events] == [1, 2]
    assert [is_there(database, n) for n in (1, 2, 999)] == [True, True, False]


@pytest.mark.parametrize("count", [1, 3])
def test_operations_that_all_fail_leave_nothing(database: Database, count: int) -> None:
    committer = Committer(database, 0)
    done = committer.commit([broken] * count, NOW)
    assert errors(done.answers) == [QueueFull] * count
    assert done.events == []
    assert not is_there(database, 999)
    assert check(database.connection) == []


def test_every_promise_is_noted_outside_the_database(database: Database) -> None:
    Committer(database, 0).commit([accept(1), accept(2)], NOW)
    assert read_mark(database.directory.mark) == 2


def test_an_operation_that_breaks_a_constraint_fails_alone(database: Database) -> None:
    done = Committer(database, 0).commit([accept(1), accept(1), accept(2)], NOW)
    assert errors(done.answers) == [None, sqlite3.IntegrityError, None]


@pytest.mark.parametrize(
    ("code", "afterwards"),
    [
        (sqlite3.SQLITE_FULL, False),
        (sqlite3.SQLITE_IOERR_WRITE, False),
        (sqlite3.SQLITE_IOERR_WRITE, True),
    ],
)
def test_a_fault_at_any_statement_gives_true_answers(
    tmp_path: Path, code: int, afterwards: bool
) -> None:
    """Every n in turn: what was answered as written is there, what was refused is not."""
    at, fired = 0, True
    while fired:
        at += 1
        with open_writer(tmp_path / str(at), now=NOW, ballast=4096) as database:
            committer = Committer(database, 0)
            job = running(committer, 1)
            connection = failing(database)
            connection.fail(at, code, afterwards=afterwards)
            operations = [accept(2), lambda tx, job=job: finish(tx, job), broken, accept(3)]
            done = committer.commit(operations, NOW)
            fired = connection.fired
            connection.fail(0, code)
            answers = errors(done.answers)
            _answers_are_true(database, answers)
            assert answers[1] is None  # what ends a job gets through
            committer.low_disk = False
            assert errors(committer.commit([accept(4)], NOW).answers) == [None]
    assert at > 20


def _answers_are_true(database: Database, answers: list[type[BaseException] | None]) -> None:
    assert is_there(database, 2) == (answers[0] is None)
    assert is_there(database, 3) == (answers[3] is None)
    ended = get_job(database.connection, JobId(f"{1:026d}"))
    assert ended is not None
    assert (ended.state is State.DONE) == (answers[1] is None)
    assert not is_there(database, 999)
    assert check(database.connection) == []


def test_an_io_error_after_the_commit_landed_is_still_a_success(database: Database) -> None:
    connection = failing(database)
    committer = Committer(database, 0)
    connection.fail(
        _statements_of_one_submit(committer), sqlite3.SQLITE_IOERR_WRITE, afterwards=True
    )
    done = committer.commit([accept(1)], NOW)
    assert errors(done.answers) == [None]
    assert [event.job for event in done.events] == [new(1).id]
    assert not committer.low_disk


def _statements_of_one_submit(committer: Committer) -> int:
    seen: list[str] = []
    committer.database.connection.set_trace_callback(seen.append)
    committer.commit([accept(500)], NOW)
    committer.database.connection.set_trace_callback(None)
    return len([text for text in seen if not text.startswith("--")])


@pytest.mark.parametrize("code", [sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_CORRUPT])
def test_a_disk_that_lost_a_write_ends_the_process(database: Database, code: int) -> None:
    failing(database).fail(3, code)
    with pytest.raises(DiskFailed):
        Committer(database, 0).commit([accept(1)], NOW)
    assert not issubclass(DiskFailed, Exception)  # no supervisor restarts it


def test_a_full_disk_costs_the_ballast_and_then_only_new_jobs(database: Database) -> None:
    committer = Committer(database, 0)
    job = running(committer, 1)
    failing(database).fail(2, sqlite3.SQLITE_FULL)
    done = committer.commit([accept(2), lambda tx: finish(tx, job)], NOW)
    assert errors(done.answers) == [StoreFull, None]
    assert not database.directory.ballast.exists()


def test_the_store_resumes_by_itself_when_there_is_room(database: Database) -> None:
    committer = Committer(database, 0, low_disk=True)
    database.ballast.release()
    committer.tend()
    assert not committer.low_disk
    assert database.directory.ballast.stat().st_size == BALLAST


def test_little_room_refuses_new_jobs_before_the_disk_is_full(database: Database) -> None:
    committer = Committer(database, keep_free=1 << 60)
    committer.tend()
    assert errors(committer.commit([accept(1)], NOW).answers) == [StoreFull]


def test_a_lock_held_by_somebody_else_is_waited_for_and_named(database: Database) -> None:
    database.connection.execute("PRAGMA busy_timeout = 1")
    human = sqlite3.connect(database.directory.database, isolation_level=None)
    human.execute("BEGIN IMMEDIATE")
    committer = Committer(database, 0)
    assert errors(committer.commit([accept(1), accept(2)], NOW).answers) == [StoreBusy, StoreBusy]
    human.close()
    assert errors(committer.commit([accept(1)], NOW).answers) == [None]


def test_a_reader_that_does_not_end_stalls_nothing_and_is_reported(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    reader = open_reader(database.directory.database)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM store").fetchall()
    committer = Committer(database, 0)
    for number in range(7):
        committer.commit([accept(number, 10 << 20)], NOW)
    committer.tend()
    began = perf_counter()
    with caplog.at_level(logging.WARNING):
        committer.tend()
        assert perf_counter() - began < BUSY_TIMEOUT / 1000  # SQLite would wait for the reader
        assert caplog.text == ""  # it may well be a backup
        for _ in range(WAL_PATIENCE):
            committer.tend()
    assert caplog.text.count("a reader that does not end keeps the log at") == 1
    reader.close()
    committer.tend()
    assert database.directory.wal.stat().st_size == 0


def test_an_idle_log_is_shortened_and_a_busy_one_left_alone(database: Database) -> None:
    committer = Committer(database, 0)
    committer.commit([accept(1, 20 << 20)], NOW)
    committer.tend()
    assert database.directory.wal.stat().st_size > 20 << 20
    committer.tend()
    assert database.directory.wal.stat().st_size == 0


def test_with_litestream_nobody_else_moves_the_log(tmp_path: Path) -> None:
    """It holds its place in the log: whoever restarts that makes it begin anew."""
    path = tmp_path / "data"
    with open_writer(path, now=NOW, ballast=BALLAST) as made:
        made.close()
    before = made.directory.database.read_bytes()
    with open_writer(path, now=NOW, ballast=BALLAST, checkpoints=False) as database:
        committer = Committer(database, 0)
        for number in range(3):
            committer.commit([accept(number, 10 << 20)], NOW)  # each is far beyond 1000 pages
            committer.tend()
            committer.tend()
        database.reopen()
        committer.commit([accept(4, 10 << 20)], NOW)
        assert database.directory.wal.stat().st_size > 40 << 20
        database.close()
    assert made.directory.database.read_bytes() == before
    with open_writer(path, now=NOW, ballast=BALLAST, checkpoints=False) as database:
        assert is_there(database, 4)
        assert database.epoch == 3


def test_what_was_rolled_back_leaves_an_idle_log_idle(database: Database) -> None:
    def nothing(_tx: Transaction) -> None:
        raise StaleJob("nobody")

    committer = Committer(database, 0)
    committer.commit([accept(1, 20 << 20)], NOW)
    committer.tend()
    committer.commit([nothing], NOW)
    committer.tend()
    assert database.directory.wal.stat().st_size == 0


def test_a_transaction_left_open_by_a_crash_is_rolled_back(database: Database) -> None:
    database.connection.execute("BEGIN IMMEDIATE")
    submit(Transaction(database.connection, NOW, 1), new(1))
    committer = Committer(database, 0)
    committer.reset()
    assert errors(committer.commit([accept(2)], NOW).answers) == [None]
    assert not is_there(database, 1)


_LIMITED = """
import resource, sys
from pathlib import Path
from time import perf_counter
import outcome
from foreman.commit import Committer
from foreman.database import open_writer
from foreman.disk import read_mark
from foreman.errors import StoreError
from foreman.jobs import Fingerprint, JobClass, JobId
from foreman.tables import NewJob, check, get_job, submit

def accept(number):
    job = NewJob(JobId(f"{number:026d}"), JobClass.BATCH, "/", "m", Fingerprint("m"), b"x" * 5000)
    return lambda tx: submit(tx, job)

with open_writer(Path(sys.argv[1]), now=1, ballast=4096) as database:
    committer = Committer(database, 0)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
    answers = {}
    for number in range(100):
        committer.low_disk = False
        [answer] = committer.commit([accept(number)], 1).answers
        answers[number] = answer
    refused = [n for n, answer in answers.items() if isinstance(answer, outcome.Error)]
    assert refused and all(isinstance(answers[n].error, StoreError) for n in refused)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    committer.low_disk = False
    assert isinstance(committer.commit([accept(1000)], 1).answers[0], outcome.Value)
    for number, answer in answers.items():
        there = get_job(database.connection, JobId(f"{number:026d}")) is not None
        assert there == isinstance(answer, outcome.Value), number
    assert check(database.connection, None) == []
    database.close()
print(len(refused))
"""


def test_a_file_size_limit_of_the_kernel_loses_nothing_and_is_survived(tmp_path: Path) -> None:
    """SQLite reports it as an I/O error, not as a full disk."""
    command = [sys.executable, "-c", _LIMITED, str(tmp_path / "data")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) > 10


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB of its own."""
    command = ["mount", "-t", "tmpfs", "-o", "size=8m,mode=0700", "tmpfs", str(tmp_path)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("cannot mount a tmpfs here; the same path is walked with a failing connection")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_disk_that_really_fills_up_loses_nothing_and_lets_running_jobs_end(
    small_disk: Path,
) -> None:
    with open_writer(small_disk / "data", now=NOW, ballast=BALLAST) as database:
        committer = Committer(database, 0)
        job = running(committer, 0)
        taken = 0
        while errors(committer.commit([accept(taken + 1, 200_000)], NOW).answers) == [None]:
            taken += 1
        assert taken > 5
        filler = small_disk / "filler"  # somebody else takes what the ballast gave back
        filler.write_bytes(bytes(600_000))
        assert errors(committer.commit([lambda tx: finish(tx, job)], NOW).answers) == [None]
        committer.tend()
        assert errors(committer.commit([accept(900)], NOW).answers) == [StoreFull]
        assert all(is_there(database, number) for number in range(taken + 1))
        assert check(database.connection, None) == []
        filler.unlink()


def test_a_start_on_a_full_disk_uses_the_ballast(small_disk: Path) -> None:
    with open_writer(small_disk / "data", now=NOW, ballast=BALLAST) as database:
        running(Committer(database, 0), 1)
    with pytest.raises(OSError, match="space"):
        (small_disk / "filler").write_bytes(bytes(8 << 20))
    with open_writer(small_disk / "data", now=NOW, ballast=BALLAST) as database:
        assert database.recovered.requeued == 1


def test_an_unknown_error_of_the_database_is_answered_and_survived(database: Database) -> None:
    def misuse(tx: Transaction) -> None:
        tx.connection.execute("SELECT nonsense")

    done = Committer(database, 0).commit([misuse, accept(1)], NOW)
    assert errors(done.answers) == [sqlite3.OperationalError, None]
    assert not issubclass(sqlite3.OperationalError, StoreError)
