"""One job's way to the disk: every step, cancelled or refused anywhere, and how it ends."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import outcome
import pytest
import trio
from trio.testing import MockClock

from actors import store
from actors.journal import RETRY_FIRST, Journal, put_back, take_over
from actors.mailbox import Pending, StoreInbox, write, write_later
from actors.messages import Write
from foreman import tables
from foreman.attempt import Fail, Finish
from foreman.database import Database, open_writer
from foreman.errors import NoReply, StoreBusy, StoreFull
from foreman.executor import inline
from foreman.jobs import FailureCode, Fingerprint, JobClass, JobId, State
from foreman.metrics.counts import Metrics
from foreman.streams import Verdict
from foreman.tables import JobRow, NewJob

JOB = JobId("0" * 26)
DONE = Finish(Verdict(True, tokens_in=1, tokens_out=2), incomplete=False)
GONE = Fail(FailureCode.CANCELLED, "the client hung up")


def new(job_class: JobClass = JobClass.INTERACTIVE) -> NewJob:
    body = b"{}" if job_class is JobClass.BATCH else None
    return NewJob(JOB, job_class, "/api/chat", "m", Fingerprint("m"), body)


@asynccontextmanager
async def storing(folder: Path) -> AsyncGenerator[tuple[StoreInbox, Database]]:
    inbox, writes = trio.open_memory_channel[Write[Any]](8)
    with open_writer(folder, now=1, ballast=4096) as database, writes:
        run = partial(
            store.run,
            writes,
            database,
            lambda events: None,
            Metrics(),
            post=lambda: None,
            execute=inline,
            now=lambda: 1,
            keep_free=0,
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(run)
            with inbox:
                yield inbox, database


def row(database: Database) -> JobRow:
    found = tables.get_job(database.connection, JOB)
    assert found is not None
    return found


async def test_a_new_job_on_a_loaded_model_is_working_after_one_write(tmp_path: Path) -> None:
    async with storing(tmp_path) as (inbox, database):
        journal = Journal(inbox, JOB, new=new())
        await journal.claim(resident=True)
        assert (await journal.confirm()).state == "working"
        await journal.end(DONE)
        assert (row(database).state, row(database).tokens_out) == ("done", 2)
        assert tables.check(database.connection, None) == []


async def test_a_submitted_job_is_claimed_loaded_started_and_ended_in_order(
    tmp_path: Path,
) -> None:
    async with storing(tmp_path) as (inbox, database):
        submitted = await write_later(inbox, partial(tables.submit, job=new()))
        journal = Journal(inbox, JOB, submitted=submitted)
        await journal.claim(resident=False)
        await journal.start(2.5)
        await journal.end(DONE)
        events = tables.events_of(database.connection, JOB)
        assert [each.state for each in events] == ["queued", "loading", "working", "done"]


@pytest.mark.parametrize("steps", range(12))
async def test_cancelled_at_any_step_its_end_still_reaches_the_row(
    tmp_path: Path, steps: int
) -> None:
    """A client that hangs up between a step and its fsync must not leave a job running."""
    async with storing(tmp_path) as (inbox, database):
        submitted = await write_later(inbox, partial(tables.submit, job=new()))
        journal = Journal(inbox, JOB, submitted=submitted)

        async def begin() -> None:
            await journal.claim(resident=False)
            await journal.start(None)
            await journal.confirm()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(begin)
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        await journal.end(GONE)
        assert row(database).error_code == "cancelled"


async def test_an_end_is_written_again_and_again_until_it_is_on_disk(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    troubles: list[Exception] = [StoreFull("full"), StoreBusy("held"), StoreFull("full")]
    inbox, writes = trio.open_memory_channel[Write[Any]](8)

    async def refusing() -> None:
        async for message in writes:
            with message.reply:
                answer = outcome.Error(troubles.pop(0)) if troubles else outcome.Value(None)
                message.reply.send_nowait(answer)

    ref = tables.JobRef(JOB, State.WORKING, 1, 3)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(refusing)
        await Journal(inbox, JOB, ref=ref).end(GONE)
        assert trio.current_time() == RETRY_FIRST * (1 + 2 + 4)
        inbox.close()


async def test_a_claim_the_store_refused_is_as_if_it_had_never_been_sent(tmp_path: Path) -> None:
    async with storing(tmp_path) as (inbox, database):
        ref = await write(inbox, partial(tables.submit, job=new(JobClass.BATCH)))
        stale = tables.JobRef(ref.id, ref.state, ref.epoch, ref.version + 7)
        journal = Journal(inbox, JOB, ref=stale)
        await journal.claim(resident=True)
        await journal.end(put_back(JobClass.BATCH))
        assert row(database).state == "queued"


async def test_where_the_store_crashed_with_a_step_in_hand_the_row_itself_tells(
    tmp_path: Path,
) -> None:
    async with storing(tmp_path) as (inbox, database):
        ref = await write(inbox, partial(tables.submit, job=new()))
        await write(inbox, lambda tx: tables.claim(tx, ref, resident=False))
        lost, slot = trio.open_memory_channel[outcome.Maybe[tables.JobRef]](1)
        lost.close()
        journal = Journal(inbox, JOB, submitted=Pending(slot))
        with pytest.raises(NoReply):
            await journal.confirm()
        await journal.end(GONE)
        assert row(database).error_code == "cancelled"


async def test_a_worker_that_begins_settles_what_a_crashed_one_left(tmp_path: Path) -> None:
    async with storing(tmp_path) as (inbox, database):
        ref = await write(inbox, partial(tables.submit, job=new(JobClass.BATCH)))
        await write(inbox, lambda tx: tables.claim(tx, ref, resident=False))
        await take_over(inbox)
        assert (row(database).state, row(database).crashes) == ("queued", 1)
        await take_over(inbox)
        assert row(database).crashes == 1
