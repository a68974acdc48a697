"""The deadlines of one connection, in virtual time."""

from contextlib import suppress

import pytest
import trio
from trio.testing import MockClock, lockstep_stream_pair

from actors.exchange import Message, Receive, Send
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
