"""A websocket on which nothing happens, in virtual time."""

import math
from typing import cast

import pytest
import trio
from trio.testing import MockClock
from trio_websocket import CloseReason, ConnectionClosed, WebSocketConnection

from foreman.client.errors import Unreachable
from foreman.client.suspending import PONG_LIMIT, SocketMessages
from foreman.client.transport import SILENCE_LIMIT


class Socket:
    """Silent for so many seconds, then says one thing, then is closed with this code."""

    def __init__(self, silent: float = 0, code: int = 1000, *, answers: bool = True) -> None:
        self._silent = silent
        self._code = code
        self._answers = answers
        self._said = False
        self.pinged: list[float] = []

    async def get_message(self) -> str:
        if self._said:
            await trio.lowlevel.checkpoint()
            raise ConnectionClosed(CloseReason(self._code, None))
        await trio.sleep_until(self._silent)
        self._said = True
        return "{}"

    async def ping(self) -> None:
        self.pinged.append(trio.current_time())
        await trio.sleep(0 if self._answers else math.inf)


def messages(socket: Socket) -> SocketMessages:
    return SocketMessages("http://x", cast(WebSocketConnection, socket))


async def test_a_peer_that_says_nothing_but_is_there_is_waited_for(
    autojump_clock: MockClock,
) -> None:
    socket = Socket(silent=3.5 * SILENCE_LIMIT)
    assert [each async for each in messages(socket)] == [b"{}"]
    assert socket.pinged == [SILENCE_LIMIT, 2 * SILENCE_LIMIT, 3 * SILENCE_LIMIT]


async def test_a_peer_that_vanished_is_noticed(autojump_clock: MockClock) -> None:
    with pytest.raises(Unreachable, match="no pong") as caught:
        await anext(messages(Socket(silent=1e6, answers=False)))
    assert trio.current_time() == SILENCE_LIMIT + PONG_LIMIT
    assert caught.value.sent


@pytest.mark.parametrize("code", [1001, 1006, 1013])
async def test_only_a_normal_close_is_the_end(code: int) -> None:
    said = messages(Socket(code=code))
    assert await anext(said) == b"{}"
    with pytest.raises(Unreachable):
        await anext(said)
