"""Connections to one server: reused while they are good, replaced when they are not."""

import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress
from typing import Self

import h11
import pytest
import trio
import trio.testing
import trustme

from foreman.upstream import READ_PIECE, Address, Connection, Pool

GET = h11.Request(method="GET", target="/", headers=[("Host", "x")])
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
Tls = ssl.SSLContext | None
Play = Callable[[trio.abc.Stream], Awaitable[None]]


class Server:
    """Plays `play` on each connection; `accepted` counts them."""

    def __init__(self, play: Play) -> None:
        self._play = play
        self.accepted = 0

    async def serve(self, stream: trio.abc.Stream) -> None:
        self.accepted += 1
        await self._play(stream)

    @asynccontextmanager
    async def pool(self, host: str = "127.0.0.1", tls: Tls = None) -> AsyncGenerator[Pool]:
        """A pool with room for one connection to it, while it serves."""
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, self.serve, listeners)
            with closing(Pool(Address(host, port, tls), 5.0, trio.Semaphore(1))) as pool:
                yield pool
            nursery.cancel_scope.cancel("the test is over")


class Unwanted:
    """An upload that ends as a write to a server does which has hung up."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        raise trio.BrokenResourceError


async def answering(stream: trio.abc.Stream) -> None:
    while await stream.receive_some(READ_PIECE):
        await stream.send_all(OK)


async def ask(connection: Connection) -> bytes:
    await connection.ask(GET, b"", None)
    return b"".join([piece async for piece in connection])


async def exchange(pool: Pool) -> bytes:
    connection = await pool.take()
    try:
        return await ask(connection)
    finally:
        pool.give_back(connection)


async def test_a_second_request_uses_the_connection_of_the_first() -> None:
    server = Server(answering)
    async with server.pool() as pool:
        assert [await exchange(pool), await exchange(pool)] == [b"ok", b"ok"]
    assert server.accepted == 1


async def test_a_connection_that_the_server_closed_meanwhile_is_replaced() -> None:
    async def answer_once(stream: trio.abc.Stream) -> None:
        await stream.receive_some(READ_PIECE)
        await stream.send_all(OK)
        await stream.aclose()

    server = Server(answer_once)
    async with server.pool() as pool:
        kept = await pool.take()
        assert await ask(kept) == b"ok"
        pool.give_back(kept)
        while True:  # until the end of the stream has arrived
            await trio.lowlevel.checkpoint()
            if not kept.is_fresh():
                break
        assert await exchange(pool) == b"ok"
    assert server.accepted == 2


async def test_a_connection_left_within_an_answer_is_closed() -> None:
    hung_up = trio.Event()

    async def stall(stream: trio.abc.Stream) -> None:
        await stream.receive_some(READ_PIECE)
        await stream.send_all(OK[:-1])
        assert await stream.receive_some(READ_PIECE) == b""
        hung_up.set()

    async with Server(stall).pool() as pool:
        connection = await pool.take()
        await connection.ask(GET, b"", None)
        pool.give_back(connection)
        await hung_up.wait()


async def test_who_finds_no_room_waits_until_a_connection_is_given_back() -> None:
    async with Server(answering).pool() as pool, trio.open_nursery() as nursery:
        first = await pool.take()
        nursery.start_soon(exchange, pool)
        await trio.testing.wait_all_tasks_blocked()
        assert pool.places.statistics().tasks_waiting == 1
        pool.give_back(first)
    assert pool.places.value == 1


async def test_a_refusal_is_read_although_the_body_was_not_wanted() -> None:
    async def refuse(stream: trio.abc.Stream) -> None:
        await stream.receive_some(READ_PIECE)
        await stream.send_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")

    headers = [("Host", "x"), ("Transfer-Encoding", "chunked")]
    request = h11.Request(method="POST", target="/", headers=headers)
    async with Server(refuse).pool() as pool:
        connection = await pool.take()
        assert (await connection.ask(request, b"", Unwanted())).status_code == 413
        pool.give_back(connection)


async def test_an_interim_response_is_not_taken_for_the_answer() -> None:
    async def hesitate(stream: trio.abc.Stream) -> None:
        await stream.receive_some(READ_PIECE)
        await stream.send_all(b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK)

    async with Server(hesitate).pool() as pool:
        assert await exchange(pool) == b"ok"


async def test_a_connection_that_failed_leaves_its_room_to_others() -> None:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    pool = Pool(Address("127.0.0.1", port), 5.0, trio.Semaphore(1))
    for _ in range(2):
        with pytest.raises(OSError, match="all attempts"):
            await pool.take()


@pytest.mark.parametrize("name", ["localhost", "elsewhere.example"])
async def test_a_certificate_has_to_be_for_the_host(name: str) -> None:
    authority = trustme.CA()
    theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(theirs)
    ours = ssl.create_default_context()
    authority.configure_trust(ours)

    async def play(stream: trio.abc.Stream) -> None:
        with suppress(trio.BrokenResourceError):  # it did not like the certificate, or hung up
            await answering(trio.SSLStream(stream, theirs, server_side=True))

    async with Server(play).pool("localhost", ours) as pool:
        if name == "localhost":
            assert await exchange(pool) == b"ok"
        else:
            with pytest.raises(trio.BrokenResourceError):
                await pool.take()
