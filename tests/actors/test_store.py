"""The store actor: batches, order, failures, its end, and what survives a crash of it."""

import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trio
from trio.testing import MockClock

from actors import store
from actors.mailbox import StoreInbox, write, write_later
from actors.messages import Write
from actors.supervisor import Child, RestartBudget, keep_running
from foreman.commit import DiskFailed
from foreman.database import Database, open_writer
from foreman.errors import NoReply, QueueFull, StoreFull
from foreman.executor import Executor, inline, threaded
from foreman.jobs import Fingerprint, JobClass, JobId
from foreman.tables import Event, NewJob, Transaction, get_job, submit
from tests.fakes.disk import failing_connection

NOW = 1_800_000_000_000_000
T = TypeVar("T")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with open_writer(tmp_path / "data", now=NOW, ballast=4096) as opened:
        yield opened


@dataclass
class Seen:
    """What the store told the others."""

    published: list[int] = field(default_factory=list[int])
    sizes: list[int] = field(default_factory=list[int])
    low: list[bool] = field(default_factory=list[bool])

    def publish(self, events: Sequence[Event]) -> None:
        self.published += [event.seq for event in events]

    def committed(self, operations: int, seconds: float, sync_s: float | None) -> None:
        assert sync_s is None or 0 <= sync_s <= seconds
        self.sizes.append(operations)

    def disk_is_low(self, low: bool) -> None:
        self.low.append(low)


def runner(
    inbox: trio.MemoryReceiveChannel[Write[Any]],
    database: Database,
    seen: Seen,
    execute: Executor = inline,
    keep_free: int = 0,
) -> Callable[..., Any]:
    async def run(*, task_status: trio.TaskStatus[None]) -> None:
        await store.run(
            inbox,
            database,
            lambda events: seen.publish(events),  # noqa: PLW0108  a test replaces it meanwhile
            seen,
            post=lambda: None,
            execute=execute,
            now=lambda: NOW,
            keep_free=keep_free,
            task_status=task_status,
        )

    return run


@asynccontextmanager
async def running(
    database: Database, execute: Executor = inline, keep_free: int = 0
) -> AsyncIterator[tuple[StoreInbox, Seen]]:
    """A store that ends when the block does."""
    seen = Seen()
    inbox, messages = trio.open_memory_channel[Write[Any]](1024)
    with messages:
        async with trio.open_nursery() as nursery:
            await nursery.start(runner(messages, database, seen, execute, keep_free))
            with inbox, trio.fail_after(30):
                yield inbox, seen


def accept(number: int) -> Callable[[Transaction], int]:
    """A submission that returns the number of its event."""
    fingerprint = Fingerprint("m")
    job = NewJob(JobId(f"{number:026d}"), JobClass.BATCH, "/", "m", fingerprint, b"{}")

    def run(tx: Transaction) -> int:
        submit(tx, job)
        return tx.events[-1].seq

    return run


def refuse(tx: Transaction) -> None:
    submit(tx, NewJob(JobId("x"), JobClass.BATCH, "/", "m", Fingerprint("m")))
    raise QueueFull(0)


def accepted(path: Path) -> int:
    """Asked of the file, as somebody else sees it."""
    connection = sqlite3.connect(path)
    [(count,)] = connection.execute("SELECT count(*) FROM jobs").fetchall()
    connection.close()
    return int(count)


@pytest.fixture(params=["inline", "threaded"])
def execute(request: pytest.FixtureRequest) -> Callable[[], Executor]:
    return {"inline": lambda: inline, "threaded": lambda: threaded(1)}[request.param]


async def test_an_answer_means_that_it_is_on_disk(
    database: Database, execute: Callable[[], Executor]
) -> None:
    async with running(database, execute()) as (inbox, _):
        assert await write(inbox, accept(1)) == 1
        assert accepted(database.directory.database) == 1


async def test_what_waits_together_is_committed_together(database: Database) -> None:
    async with running(database) as (inbox, seen):
        for number in range(300):
            reply, _ = trio.open_memory_channel[Any](1)
            inbox.send_nowait(Write(accept(number), reply))
    assert seen.sizes == [store.BATCH, 300 - store.BATCH]


async def test_answers_and_events_keep_the_order_of_arrival(
    database: Database, execute: Callable[[], Executor]
) -> None:
    async with running(database, execute()) as (inbox, seen):
        pending = [await write_later(inbox, accept(number)) for number in range(100)]
        assert [(await each.answer()).unwrap() for each in pending] == list(range(1, 101))
    assert seen.published == list(range(1, 101))


async def test_a_bad_operation_goes_back_to_its_asker_alone(database: Database) -> None:
    async with running(database) as (inbox, seen):
        before = await write_later(inbox, accept(1))
        with pytest.raises(QueueFull):
            await write(inbox, refuse)
        assert (await before.answer()).unwrap() == 1
        assert await write(inbox, accept(2)) == 2
    assert seen.published == [1, 2]


async def test_nothing_is_published_before_it_is_on_disk(database: Database) -> None:
    async with running(database, threaded(1)) as (inbox, seen):
        counts: list[int] = []
        seen.publish = lambda events: counts.append(accepted(database.directory.database))  # type: ignore[method-assign]
        await write(inbox, accept(1))
    assert counts == [1]


async def test_a_closed_inbox_is_drained_and_the_database_closed_in_good_order(
    database: Database,
) -> None:
    async with running(database) as (inbox, seen):
        for number in range(10):
            await write_later(inbox, accept(number))
    assert len(seen.published) == 10
    assert not database.directory.wal.exists()
    with sqlite3.connect(database.directory.database) as connection:
        assert connection.execute("SELECT dirty FROM store").fetchone() == (0,)


async def test_an_asker_that_has_gone_disturbs_nobody(database: Database) -> None:
    async with running(database) as (inbox, _):
        gone = await write_later(inbox, accept(1))
        gone.slot.close()
        assert await write(inbox, accept(2)) == 2


async def test_a_crash_loses_no_mail_and_answers_those_it_took(database: Database) -> None:
    seen = Seen()

    def publish(events: Sequence[Event]) -> None:
        seen.publish(events)
        if 1 in seen.published and len(seen.published) == 1:
            raise RuntimeError

    inbox, messages = trio.open_memory_channel[Write[Any]](10)
    broken = Seen()
    broken.publish = publish  # type: ignore[method-assign]
    child = Child("store", runner(messages, database, broken))
    with messages:
        async with trio.open_nursery() as nursery:
            await nursery.start(keep_running, child, RestartBudget(3, 60), 0)
            with inbox:
                assert await write(inbox, accept(1)) == 1
                assert await write(inbox, accept(2)) == 2
    assert seen.published == [1, 2]


async def test_a_transaction_that_a_crash_left_open_is_rolled_back(database: Database) -> None:
    database.connection.execute("BEGIN IMMEDIATE")
    accept(1)(Transaction(database.connection, NOW, 1))
    async with running(database) as (inbox, _):
        assert await write(inbox, accept(2)) == 1


async def test_a_batch_that_is_cancelled_before_it_began_answers_nobody_silently(
    database: Database,
) -> None:
    """The slots are closed, so an asker is told instead of left to wait."""
    stuck = trio.Event()

    async def never(work: Callable[[], T], /) -> T:
        if isinstance(work, partial):  # the commit; the rest of what it runs takes no arguments
            stuck.set()
            await trio.sleep_forever()
        return await inline(work)

    inbox, messages = trio.open_memory_channel[Write[Any]](10)
    with inbox, messages, trio.fail_after(5):
        async with trio.open_nursery() as asker:

            @asker.start_soon
            async def _() -> None:
                with pytest.raises(NoReply):
                    await write(inbox, accept(1))

            async with trio.open_nursery() as nursery:
                await nursery.start(runner(messages, database, Seen(), never))
                await stuck.wait()
                nursery.cancel_scope.cancel()


async def test_cancelled_in_the_middle_of_a_commit_it_still_answers(database: Database) -> None:
    began, go_on = threading.Event(), threading.Event()

    def slow(tx: Transaction) -> int:
        began.set()
        assert go_on.wait(5)
        return accept(1)(tx)

    inbox, messages = trio.open_memory_channel[Write[Any]](10)
    with inbox, messages:
        async with trio.open_nursery() as nursery:
            await nursery.start(runner(messages, database, Seen(), threaded(1)))
            pending = await write_later(inbox, slow)
            await trio.to_thread.run_sync(began.wait, 5)
            nursery.cancel_scope.cancel()
            go_on.set()
        assert (await pending.answer()).unwrap() == 1
    assert get_job(database.connection, JobId(f"{1:026d}")) is not None


async def test_a_lost_write_ends_the_process_and_not_only_the_store(database: Database) -> None:
    database.connection.close()
    connection = failing_connection(database.directory.database)
    database.connection = connection
    inbox, messages = trio.open_memory_channel[Write[Any]](10)
    child = Child("store", runner(messages, database, Seen()))
    with pytest.raises(BaseExceptionGroup) as ended, inbox, messages:
        async with trio.open_nursery() as nursery:
            await nursery.start(keep_running, child, RestartBudget(3, 60), 0)
            connection.fail(3, sqlite3.SQLITE_IOERR_FSYNC)
            with pytest.raises(NoReply):
                await write(inbox, accept(1))
            await trio.sleep_forever()
    assert ended.group_contains(DiskFailed)


async def test_new_jobs_are_refused_while_room_is_short_and_taken_again_by_themselves(
    database: Database, autojump_clock: MockClock
) -> None:
    connection = failing_connection(database.directory.database)
    database.connection.close()
    database.connection = connection
    async with running(database) as (inbox, seen):
        connection.fail(2, sqlite3.SQLITE_FULL)
        with pytest.raises(StoreFull):
            await write(inbox, accept(1))
        with pytest.raises(StoreFull):
            await write(inbox, accept(1))
        assert seen.low[-1]
        await trio.sleep(store.TEND_EVERY)
        assert await write(inbox, accept(1)) == 1
        assert not seen.low[-1]


async def test_a_question_that_is_given_up_is_carried_out_all_the_same(database: Database) -> None:
    async with running(database) as (inbox, _):
        pending = await write_later(inbox, accept(1))
        with trio.CancelScope() as scope:
            scope.cancel()
            await pending.answer()
    assert accepted(database.directory.database) == 1
