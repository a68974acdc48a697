"""The watchdog: a sign of life for each round trip through the store, and none without."""

import os
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trio
from trio.testing import MockClock

from actors import store, watchdog
from actors.messages import Write
from foreman.database import open_writer
from foreman.executor import inline
from foreman.metrics.counts import Metrics
from foreman.notify import NOBODY, Notifier

T = TypeVar("T")

PERIOD = 30.0


@dataclass
class Disk:
    """Runs the store's work, unless it hangs; knows how much of it there was."""

    hangs: bool = False
    recovers: trio.Event = field(default_factory=trio.Event)
    works: int = 0

    async def execute(self, work: Callable[[], T], /) -> T:
        if self.hangs:
            await self.recovers.wait()
        self.works += 1
        return await inline(work)


@dataclass
class Watched:
    """A watchdog over a store, and what its service manager hears."""

    disk: Disk
    stopping: trio.Event
    heard: Callable[[], list[bytes]]
    writes: trio.MemorySendChannel[Write[Any]]


@asynccontextmanager
async def watched(folder: Path, period: float | None = PERIOD) -> AsyncGenerator[Watched]:
    writes, inbox = trio.open_memory_channel[Write[Any]](64)
    disk, stopping = Disk(), trio.Event()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"\0foreman-test-{os.getpid()}")
        receiver.setblocking(False)

        def heard() -> list[bytes]:
            """What came since the last time."""
            datagrams: list[bytes] = []
            while True:
                try:
                    datagrams.append(receiver.recv(1000))
                except BlockingIOError:
                    return datagrams

        notifier = Notifier(f"\0foreman-test-{os.getpid()}", period)
        with open_writer(folder, now=1, ballast=4096) as database, inbox:
            run_store = partial(
                store.run,
                inbox,
                database,
                lambda events: None,
                Metrics(),
                post=lambda: None,
                execute=disk.execute,
                now=lambda: 1,
                keep_free=0,
            )
            async with trio.open_nursery() as nursery:
                await nursery.start(run_store)
                await nursery.start(watchdog.run, writes, notifier, stopping)
                yield Watched(disk, stopping, heard, writes)
                disk.recovers.set()
                stopping.set()
                writes.close()


async def test_a_store_that_answers_is_a_sign_of_life_well_before_each_is_due(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with watched(tmp_path) as here:
        await trio.sleep(1)
        assert here.heard() == [b"WATCHDOG=1"]
        for _ in range(10):
            await trio.sleep(PERIOD / 2)
            assert b"WATCHDOG=1" in here.heard()


async def test_a_store_that_hangs_is_none_until_it_answers_again(
    autojump_clock: MockClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with watched(tmp_path) as here:
        await trio.sleep(1)
        here.heard()
        here.disk.hangs = True
        await trio.sleep(20 * PERIOD)
        assert here.heard() == []
        assert "the store has not answered for 10 s" in caplog.text
        here.disk.hangs = False
        here.disk.recovers.set()
        await trio.sleep(1)
        assert here.heard() == [b"WATCHDOG=1"]


async def test_each_sign_of_life_went_through_the_stores_writer(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with watched(tmp_path, 3.0) as here:  # much more often than the store tends its files
        await trio.sleep(0.5)
        before = here.disk.works
        here.heard()
        await trio.sleep(4)
        assert here.disk.works - before >= len(here.heard()) == 4


async def test_signs_of_life_leave_no_trace_on_the_disk(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with watched(tmp_path) as here:
        log = tmp_path / "foreman.db-wal"
        before = log.stat()
        await trio.sleep(65)
        assert len(here.heard()) == 7
        after = log.stat()
        assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


async def test_a_store_that_crashes_with_the_question_is_asked_again(
    autojump_clock: MockClock,
) -> None:
    writes, inbox = trio.open_memory_channel[Write[Any]](64)
    stopping = trio.Event()
    with writes, inbox:
        async with trio.open_nursery() as nursery:
            await nursery.start(watchdog.run, writes, Notifier("/nowhere", PERIOD), stopping)
            for turn in range(3):
                (await inbox.receive()).reply.close()
                assert trio.current_time() == turn * PERIOD / 3
            stopping.set()


@pytest.mark.parametrize("notifier", [NOBODY, Notifier("/nowhere")])
async def test_where_nobody_wants_signs_of_life_nobody_is_asked(notifier: Notifier) -> None:
    writes, inbox = trio.open_memory_channel[Write[Any]](64)
    with writes, inbox:
        await watchdog.run(writes, notifier, trio.Event())
        assert inbox.statistics().current_buffer_used == 0
