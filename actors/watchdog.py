"""The watchdog: tells the service manager that the daemon works, after having seen that it does.

Inbox:  none; it asks the store.
Owns:   nothing.
Crash:  a sign of life comes late; the next incarnation gives it.
"""

import logging

import trio

from actors.mailbox import StoreInbox, write
from foreman.errors import NoReply, StoreError
from foreman.notify import Notifier
from foreman.tables import Transaction

log = logging.getLogger("foreman.watchdog")

SHARE = 1 / 3  # of the time allowed between two signs of life; the rest is the store's, to answer


class _Unchanged(StoreError):
    """Why the transaction is rolled back: there was nothing to write, and nothing to sync."""


async def run(
    store: StoreInbox,
    notifier: Notifier,
    stopping: trio.Event,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Give signs of life until `stopping` is set, each after a round trip through the store.

    A timer alone would go on while the disk hangs. Returns at once when nobody wants any.
    """
    task_status.started()
    if notifier.watchdog is None:
        return
    pause = notifier.watchdog * SHARE
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_feed, store, notifier, pause)
        await stopping.wait()
        nursery.cancel_scope.cancel("the daemon stops")


async def _feed(store: StoreInbox, notifier: Notifier, pause: float) -> None:
    while True:
        if await _answers(store, pause):
            notifier.alive()
        await trio.sleep(pause)


async def _answers(store: StoreInbox, patience: float) -> bool:
    """Whether the store took a transaction to its writer and came back, however long it took."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_complain, patience)
        answered = await _round_trip(store)
        nursery.cancel_scope.cancel("nothing to complain of")
    return answered


async def _round_trip(store: StoreInbox) -> bool:
    try:
        await write(store, _nothing)
    except (NoReply, trio.BrokenResourceError):
        return False  # it crashed with the question in hand: ask its next incarnation
    except StoreError:
        pass  # it said something, if only that somebody else holds the database
    return True


async def _complain(patience: float) -> None:
    await trio.sleep(patience)
    log.error("the store has not answered for %.0f s: no sign of life until it does", patience)


def _nothing(_tx: Transaction) -> None:
    raise _Unchanged
