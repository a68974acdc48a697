"""The deadlines of one connection, in virtual time."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trio
from trio.testing import MockClock, lockstep_stream_pair

from actors.connection import LAST_CALL, Connection
from actors.exchange import ASGIApp, Message, Receive, Send
from tests.edge.in_memory import FakeStream, connected, connection_on
from tests.edge.serving import echo, read_head, read_to_end

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def test_a_head_that_drips_is_cut_when_its_time_is_up(autojump_clock: MockClock) -> None:
    async with connected(echo) as client, trio.open_nursery() as nursery:
        nursery.start_soon(_drip, client)
        assert await read_to_end(client) == b""
        assert autojump_clock.current_time() == 5
        nursery.cancel_scope.cancel()


async def _drip(client: trio.abc.SendStream) -> None:
    with suppress(trio.BrokenResourceError):
        for _ in range(100):
            await client.send_all(b"GET ")
            await trio.sleep(1)


async def test_a_second_head_that_drips_has_no_more_time_than_the_first(
    autojump_clock: MockClock,
) -> None:
    async with connected(echo) as client, trio.open_nursery() as nursery:
        await client.send_all(GET)
        await read_head(client)
        await trio.sleep(60)
        nursery.start_soon(_drip, client)
        assert await read_to_end(client) == b""
        assert autojump_clock.current_time() == 65
        nursery.cancel_scope.cancel()


async def test_an_idle_connection_is_closed_after_its_time(autojump_clock: MockClock) -> None:
    async with connected(echo) as client:
        await client.send_all(GET)
        await read_head(client)
        assert await read_to_end(client) == b""
        assert autojump_clock.current_time() == 120


async def test_an_answer_may_take_hours(autojump_clock: MockClock) -> None:
    async def thinking(scope: Message, receive: Receive, send: Send) -> None:
        await trio.sleep(7200)
        await echo(scope, receive, send)

    async with connected(thinking) as client:
        await client.send_all(GET)
        assert (await read_head(client)).startswith(b"HTTP/1.1 200 ")
        assert autojump_clock.current_time() == 7200
        await client.aclose()


async def test_a_client_that_stops_reading_is_cut_and_the_app_hears_of_it(
    autojump_clock: MockClock,
) -> None:
    heard = trio.Event()

    async def flood(_scope: Message, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        heard.set()

    async with connected(flood) as client:
        await client.send_all(GET)
        await heard.wait()
        assert autojump_clock.current_time() == 10
        await client.aclose()


async def test_a_client_that_reads_slowly_but_reads_is_served(autojump_clock: MockClock) -> None:
    async def large(_scope: Message, _receive: Receive, send: Send) -> None:
        headers = [(b"content-length", b"200000")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"x" * 200_000})

    async with connected(large) as client:
        await client.send_all(GET)
        received = 0
        while received < 200_000:
            await trio.sleep(1)
            received += len(await client.receive_some(10_000))
        assert autojump_clock.current_time() > 20
        await client.aclose()


async def test_nothing_follows_a_write_that_the_app_gave_up(autojump_clock: MockClock) -> None:
    async def gives_up(_scope: Message, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        with trio.move_on_after(1):
            await send({"type": "http.response.body", "body": b"early", "more_body": True})
        await send({"type": "http.response.body", "body": b"late"})

    async with connected(gives_up) as client:
        await client.send_all(GET)
        await trio.sleep(2)
        assert b"late" not in await read_to_end(client)
    assert autojump_clock.current_time() == 2


# ---------------------------------------------------------------- the server stops


@asynccontextmanager
async def served(
    app: ASGIApp, stream: type[FakeStream] = FakeStream
) -> AsyncGenerator[tuple[trio.abc.HalfCloseableStream, Connection]]:
    """A client, and the connection at its other end, which is to be drained."""
    client, server = lockstep_stream_pair()
    connection = connection_on(app, stream(server))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.run)
        yield client, connection


async def test_an_idle_connection_may_ask_once_more_and_is_told_that_it_was_the_last(
    autojump_clock: MockClock,
) -> None:
    async with served(echo) as (client, connection):
        await client.send_all(GET)
        assert b"connection: close" not in await read_head(client)
        connection.drain()
        await trio.sleep(LAST_CALL / 2)
        await client.send_all(GET)
        assert b"\r\nconnection: close\r\n" in await read_head(client)
        assert await read_to_end(client) == b""
        assert trio.current_time() == LAST_CALL / 2


@pytest.mark.parametrize("asked", [True, False], ids=["idle", "just connected"])
async def test_a_connection_that_asks_nothing_is_closed_after_a_moment(
    autojump_clock: MockClock, asked: bool
) -> None:
    async with served(echo) as (client, connection):
        if asked:
            await client.send_all(GET)
            await read_head(client)
        await trio.sleep(3)
        connection.drain()
        assert await read_to_end(client) == b""
        assert trio.current_time() == 3 + LAST_CALL


async def test_a_connection_that_has_just_come_is_served(autojump_clock: MockClock) -> None:
    async with served(echo) as (client, connection):
        connection.drain()
        await client.send_all(GET[:5])
        await trio.sleep(2)  # longer than LAST_CALL: it has begun
        await client.send_all(GET[5:])
        assert b"\r\nconnection: close\r\n" in await read_head(client)


class Late(FakeStream):
    """Its second piece is there as the wait for it ends, but was not read before."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self.receive_some = self._receive
        self._inner = stream
        self._calls = 0

    def has_bytes(self) -> bool:
        return True

    async def _receive(self, max_bytes: int | None = None) -> bytes | bytearray:
        self._calls += 1
        if self._calls == 2:
            return await self._second(max_bytes)
        data: bytes | bytearray = await self._inner.receive_some(max_bytes)
        return data

    async def _second(self, max_bytes: int | None) -> bytes | bytearray:
        await trio.sleep_forever()
        raise AssertionError


class JustInTime(Late):
    """Its second piece is read in the very turn in which the wait for it ends."""

    async def _second(self, max_bytes: int | None) -> bytes | bytearray:
        with trio.CancelScope(shield=True):
            await trio.sleep_until(1 + LAST_CALL)
            data: bytes | bytearray = await self._inner.receive_some(max_bytes)
        return data


@pytest.mark.parametrize("stream", [Late, JustInTime])
async def test_a_request_that_comes_as_the_last_call_ends_is_answered(
    autojump_clock: MockClock, stream: type[Late]
) -> None:
    async def slow(scope: Message, receive: Receive, send: Send) -> None:
        await trio.sleep(1)
        await echo(scope, receive, send)

    async with served(slow, stream) as (client, connection):
        await client.send_all(GET)
        await read_head(client)
        connection.drain()
        await client.send_all(GET)
        assert b"\r\nconnection: close\r\n" in await read_head(client)
        assert await read_to_end(client) == b""
        assert trio.current_time() == 1 + LAST_CALL + 1


async def test_an_answer_that_had_begun_is_followed_by_one_that_says_it_is_the_last(
    autojump_clock: MockClock,
) -> None:
    """Its head is out and promised another: a client that believes it must not meet a close."""

    async def slow(scope: Message, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await trio.sleep(5)
        await send({"type": "http.response.body", "body": b"b"})

    async with served(slow) as (client, connection):
        await client.send_all(GET)
        assert b"connection: close" not in await read_head(client)
        connection.drain()
        rest = bytearray()
        while not rest.endswith(b"0\r\n\r\n"):
            rest += await client.receive_some()
        await client.send_all(GET)
        assert b"\r\nconnection: close\r\n" in await read_head(client)
        await read_to_end(client)
        assert trio.current_time() == 10


class BrokenStream(FakeStream):
    """Raises what nobody expects of a stream, where a parser's error would surface too."""

    def __init__(self) -> None:
        super().__init__(lockstep_stream_pair()[0])
        self.receive_some = self._fail

    async def _fail(self, max_bytes: int | None = None) -> bytes | bytearray:
        await trio.lowlevel.checkpoint()
        raise RuntimeError("a bug")


async def test_an_error_ends_its_connection_and_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    await connection_on(echo, BrokenStream()).run()
    assert [record.getMessage() for record in caplog.records] == [
        "connection from ('192.0.2.1', 50000) dropped: RuntimeError('a bug')"
    ]


async def test_a_cancelled_connection_passes_the_cancellation_on() -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await connection_on(echo, FakeStream(lockstep_stream_pair()[0])).run()
    assert scope.cancelled_caught
