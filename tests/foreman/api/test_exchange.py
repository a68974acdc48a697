"""Reading a request's body, in virtual time: how much, how slowly, and when the client leaves."""

import math

import pytest
import trio
from trio.testing import MockClock

from foreman.api.exchange import (
    SLOWEST,
    BodyTooLarge,
    BodyTooSlow,
    ClientGone,
    Exchange,
    Message,
)


def exchange(
    size: int, every: float, length: int | None = None, pieces: float = math.inf
) -> Exchange:
    """A client that sends `size` bytes `every` so many seconds, and hangs up after `pieces`."""
    sent = 0

    async def receive() -> Message:
        nonlocal sent
        await trio.sleep(every)
        sent += 1
        if sent > pieces:
            return {"type": "http.disconnect"}
        more = length is None or sent * size < length
        return {"type": "http.request", "body": b"x" * size, "more_body": more}

    async def send(message: Message) -> None:
        raise AssertionError("nothing is answered here")

    headers = [] if length is None else [(b"content-length", b"%d" % length)]
    scope = {"method": "POST", "path": "/", "query_string": b"", "headers": headers}
    return Exchange(scope, receive, send)


async def test_a_body_comes_whole(autojump_clock: MockClock) -> None:
    assert await exchange(10, 1, length=30).body(100, 30) == b"x" * 30


async def test_one_byte_a_second_is_given_up_at_the_limit(autojump_clock: MockClock) -> None:
    with pytest.raises(BodyTooSlow):
        await exchange(1, 1).body(10**9, 30)
    assert trio.current_time() == pytest.approx(30, abs=0.1)


async def test_a_large_body_on_a_slow_line_has_the_time_it_needs(
    autojump_clock: MockClock,
) -> None:
    size = 100 * 2 * SLOWEST
    assert len(await exchange(2 * SLOWEST, 1, length=size).body(size, 30)) == size
    assert trio.current_time() == 100


async def test_a_body_beyond_the_limit_is_not_read_to_its_end(autojump_clock: MockClock) -> None:
    with pytest.raises(BodyTooLarge):
        await exchange(10, 1).body(100, 30)
    assert trio.current_time() == 11


async def test_a_declared_length_beyond_the_limit_is_not_read_at_all(
    autojump_clock: MockClock,
) -> None:
    with pytest.raises(BodyTooLarge):
        await exchange(10, 1, length=101).body(100, 30)
    assert trio.current_time() == 0


async def test_a_client_that_leaves_in_the_middle_is_gone(autojump_clock: MockClock) -> None:
    with pytest.raises(ClientGone):
        await exchange(10, 1, length=100, pieces=3).body(100, 30)
