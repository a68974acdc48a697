"""The store: the only connection that writes; many operations, one fsync.

Inbox:  Write. Each fails alone; answered after the commit that holds it, in the order of arrival.
Owns:   the writing connection, the write-ahead log, the disk space held in reserve.
Crash:  the open batch is rolled back and its askers get NoReply; what was answered stands.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from time import perf_counter
from typing import Any, Protocol

import trio

from actors.mailbox import respond
from actors.messages import Write
from foreman.commit import Committed, Committer
from foreman.database import Database
from foreman.executor import Executor
from foreman.retention import Retention
from foreman.tables import Event, Microseconds
from foreman.vacuum import Vacuum

BATCH = 256  # operations; beyond it one fsync more costs less than the wait of the first
TEND_EVERY = 5.0  # seconds
BITE_PAUSE = 0.02  # seconds between two deletions, of a few milliseconds each, while there are more

Inbox = trio.MemoryReceiveChannel[Write[Any]]
Publish = Callable[[Sequence[Event]], None]
Post = Callable[[], None]


class Measured(Protocol):
    """Who hears how it goes: foreman.metrics."""

    def committed(self, writes: int, seconds: float, sync_s: float | None) -> None:
        """How many operations a commit held, how long it took, and COMMIT alone."""
        ...

    def disk_is_low(self, low: bool) -> None:
        """Whether new batch jobs get StoreFull."""
        ...


async def run(
    inbox: Inbox,
    database: Database,
    publish: Publish,
    measured: Measured,
    *,
    post: Post,
    execute: Executor,
    now: Callable[[], Microseconds],
    keep_free: int,
    retention: Retention | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Commit what arrives until the inbox is closed, then close the database in good order.

    `publish` gets committed events in commit order; `post` is called when webhooks are due for
    some of them; `measured` hears of each commit. Below `keep_free` bytes of disk new batch jobs
    get StoreFull. `retention` None keeps every job for ever. `execute` runs one thing at a time.
    Raises DiskFailed, which no supervisor catches, when the disk lost a write.
    """
    committer = Committer(database, keep_free)
    with inbox.clone() as messages:
        await execute(committer.reset)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_tend, committer, execute, measured)
            if retention is not None:
                nursery.start_soon(_forget, retention, committer, execute, now)
            nursery.start_soon(_shrink, Vacuum(), committer, execute)
            task_status.started()
            async for first in messages:
                batch = [first, *_waiting(messages)]
                committed = await _commit(batch, committer, execute, now, measured)
                publish(committed.events)
                if committed.posted:
                    post()
            nursery.cancel_scope.cancel()
    await execute(database.close)


def _waiting(messages: Inbox) -> list[Write[Any]]:
    """What arrived while the last commit ran: no sleep, its fsync was the window."""
    batch: list[Write[Any]] = []
    with suppress(trio.WouldBlock, trio.EndOfChannel):
        while len(batch) < BATCH - 1:
            batch.append(messages.receive_nowait())
    return batch


async def _commit(
    batch: Sequence[Write[Any]],
    committer: Committer,
    execute: Executor,
    now: Callable[[], Microseconds],
    measured: Measured,
) -> Committed:
    """One transaction, then its answers. A slot left without one is closed: nobody hangs."""
    with ExitStack() as slots:
        for write in batch:
            slots.enter_context(write.reply)
        began = perf_counter()
        operations = [write.do for write in batch]
        committed = await execute(partial(committer.commit, operations, now()))
        measured.committed(len(batch), perf_counter() - began, committed.sync_s)
        measured.disk_is_low(committer.low_disk)
        for write, answer in zip(batch, committed.answers, strict=True):
            respond(write.reply, answer)
    return committed


async def _tend(committer: Committer, execute: Executor, measured: Measured) -> None:
    while True:
        await execute(committer.tend)
        measured.disk_is_low(committer.low_disk)
        await trio.sleep(TEND_EVERY)


async def _forget(
    retention: Retention,
    committer: Committer,
    execute: Executor,
    now: Callable[[], Microseconds],
) -> None:
    """Between two bites the commits that wait have their turn."""
    while True:
        more = await execute(partial(retention.step, committer, now()))
        await trio.sleep(BITE_PAUSE if more else TEND_EVERY)


async def _shrink(vacuum: Vacuum, committer: Committer, execute: Executor) -> None:
    """What arrives meanwhile ends it: the database is idle no longer."""
    while True:
        more = await execute(partial(vacuum.step, committer))
        await trio.sleep(BITE_PAUSE if more else TEND_EVERY)
