"""Asking, answering and hinting: who waits for whom, and who never does."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import trio
from trio.testing import MockClock

from actors.mailbox import Pending, ask, nudge, post, respond
from actors.messages import Reply
from foreman.errors import NoReply


@dataclass(frozen=True)
class Double:
    number: int
    reply: Reply[int]


def double(number: int) -> Callable[[Reply[int]], Double]:
    return lambda reply: Double(number, reply)


async def test_an_answer_comes_back_to_its_asker() -> None:
    send, receive = trio.open_memory_channel[Double](1)

    async def actor() -> None:
        question = await receive.receive()
        respond(question.reply, 2 * question.number)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(actor)
        assert await ask(send, double(21)) == 42
    send.close()
    receive.close()


async def test_a_dropped_question_wakes_its_asker() -> None:
    send, receive = trio.open_memory_channel[Double](1)
    pending: Pending[int] = await post(send, double(1))
    (await receive.receive()).reply.close()
    with pytest.raises(NoReply):
        await pending.answer()


async def test_a_wait_that_was_given_up_can_be_taken_up_again(autojump_clock: MockClock) -> None:
    send, receive = trio.open_memory_channel[Double](1)
    pending: Pending[int] = await post(send, double(1))
    with trio.move_on_after(1):
        await pending.answer()
    respond((await receive.receive()).reply, 2)
    assert await pending.answer() == 2


async def test_answering_somebody_who_has_gone_is_no_error(autojump_clock: MockClock) -> None:
    send, receive = trio.open_memory_channel[Double](1)
    with trio.move_on_after(1):
        await ask(send, double(1))
    respond((await receive.receive()).reply, 2)


async def test_a_question_to_an_inbox_nobody_reads_is_an_error() -> None:
    send, receive = trio.open_memory_channel[Double](1)
    receive.close()
    with pytest.raises(trio.BrokenResourceError):
        await ask(send, double(1))


async def test_a_nudge_never_blocks_and_may_be_lost() -> None:
    send, receive = trio.open_memory_channel[str](1)
    for _ in range(3):
        nudge(send, "look")
    assert receive.statistics().current_buffer_used == 1
    receive.close()
    nudge(send, "look")
