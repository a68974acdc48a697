"""How actors talk: ask and respond with a reply slot, nudge for hints, write for the store.

A reply slot is a channel of capacity one. The asker gives its sending end away and keeps none, so
that an actor which crashes while holding a question wakes the asker instead of hanging it.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import outcome
import trio

from actors.messages import Reply, Write
from foreman.errors import NoReply
from foreman.tables import Transaction

M = TypeVar("M")
T = TypeVar("T")

StoreInbox = trio.MemorySendChannel[Write[Any]]


async def ask(inbox: trio.MemorySendChannel[M], question: Callable[[Reply[T]], M]) -> T:
    """Send a question and wait for its answer; the deadline is the caller's own.

    Giving up does not undo it: the question may still be carried out. Raises NoReply when the
    actor dropped it, trio.BrokenResourceError when nobody reads that inbox any more.
    """
    pending: Pending[T] = await post(inbox, question)
    with pending.slot:
        return await pending.answer()


@dataclass(frozen=True, slots=True)
class Pending(Generic[T]):
    """An answer that has not been waited for yet."""

    slot: trio.MemoryReceiveChannel[T]

    async def answer(self) -> T:
        """Wait for it, again if the first wait was cancelled.

        Raises NoReply when the actor dropped the question.
        """
        try:
            return await self.slot.receive()
        except trio.EndOfChannel:
            raise NoReply from None


async def post(inbox: trio.MemorySendChannel[M], question: Callable[[Reply[T]], M]) -> Pending[T]:
    """Send a question now, to wait for its answer later or never."""
    reply: Reply[T]
    reply, slot = trio.open_memory_channel[T](1)
    await put(inbox, question(reply))  # from here `reply` belongs to the actor
    return Pending(slot)


async def put(inbox: trio.MemorySendChannel[M], message: M) -> None:
    """Send; where there is room, at once: `send` would cost a turn of the whole event loop."""
    try:
        inbox.send_nowait(message)
    except trio.WouldBlock:
        await inbox.send(message)


def respond(reply: Reply[T], value: T) -> None:
    """Answer. Never blocks; an asker that has gone is not an error."""
    with reply, suppress(trio.BrokenResourceError):
        reply.send_nowait(value)


def nudge(inbox: trio.MemorySendChannel[M], message: M) -> None:
    """A hint that may be lost: if the inbox is full, one that says the same is waiting."""
    with suppress(trio.WouldBlock, trio.BrokenResourceError):
        inbox.send_nowait(message)


async def write(store: StoreInbox, do: Callable[[Transaction], T]) -> T:
    """Run `do` in the store's next transaction and return its result once that is on disk.

    Raises what `do` raised (its writes are rolled back), StoreFull, StoreBusy or NoReply.
    """
    pending = await write_later(store, do)
    with pending.slot:
        return (await pending.answer()).unwrap()


async def write_later(
    store: StoreInbox, do: Callable[[Transaction], T]
) -> Pending[outcome.Maybe[T]]:
    """Queue `do` behind what was sent before, without waiting for the disk."""
    message, pending = writing(do)
    await put(store, message)
    return pending


def writing(do: Callable[[Transaction], T]) -> tuple[Write[T], Pending[outcome.Maybe[T]]]:
    """The message that asks for a write, and its answer; for who must know of it before it is sent.

    Whoever does not send it after all closes its `reply`.
    """
    reply: Reply[outcome.Maybe[T]]
    reply, slot = trio.open_memory_channel[outcome.Maybe[T]](1)
    return Write(do, reply), Pending(slot)
