"""The connection loop, byte by byte."""

import trio
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

from foreman.embedded.clock import Clock
from foreman.embedded.http1 import Exchange, Handle, converse

HEAD = b"POST /x HTTP/1.1\r\nHost: localhost\r\n"


async def echo(exchange: Exchange) -> None:
    await exchange.respond(
        200, [(b"X-Path", exchange.request.path.encode())], await exchange.read_all()
    )


async def talk(request: bytes, handle: Handle = echo) -> bytes:
    """All that comes back on one connection."""
    ours, theirs = memory_stream_pair()
    answer = b""
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(converse, theirs, Clock(), handle)
            await ours.send_all(request)
            await wait_all_tasks_blocked()
            await ours.send_eof()
            async for part in ours:
                answer += part
    return answer


async def test_pipelined_requests_are_answered_in_order() -> None:
    first = b"POST /1 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab"
    second = b"POST /2 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\ncd"
    answer = await talk(first + second)
    assert answer.count(b"HTTP/1.1 200") == 2
    assert answer.index(b"X-Path: /1") < answer.index(b"ab") < answer.index(b"X-Path: /2")


async def test_a_body_is_asked_for_when_the_client_waits_to_be() -> None:
    ours, theirs = memory_stream_pair()
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(converse, theirs, Clock(), echo)
            await ours.send_all(HEAD + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
            assert (await ours.receive_some()).startswith(b"HTTP/1.1 100 ")
            await ours.send_all(b"ab")
            assert (await ours.receive_some()).endswith(b"\r\n\r\nab")
            await ours.aclose()


async def test_a_chunked_body_is_joined() -> None:
    chunked = b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
    assert (await talk(HEAD + chunked)).endswith(b"\r\n\r\nabc")


async def test_head_has_the_length_and_no_body() -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.respond(200, body=b"abc")

    got = await talk(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n", answer)
    assert b"Content-Length: 3" in got and got.endswith(b"\r\n\r\n")


async def test_rubbish_gets_400_and_a_close() -> None:
    assert (await talk(b"\x16\x03\x01 hello\r\n\r\n")).startswith(b"HTTP/1.1 400 ")


async def test_header_names_reach_the_handler_as_they_were_sent() -> None:
    seen: list[tuple[bytes, bytes]] = []

    async def look(exchange: Exchange) -> None:
        seen.extend(exchange.request.headers)
        await exchange.respond(200)

    await talk(b"GET / HTTP/1.1\r\nHost: x\r\nX-mIxEd: a  b\r\n\r\n", look)
    assert (b"X-mIxEd", b"a  b") in seen


async def test_a_client_that_leaves_cancels_its_handler() -> None:
    cancelled = trio.Event()

    async def wait(exchange: Exchange) -> None:
        await exchange.read_all()
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    assert await talk(HEAD + b"Content-Length: 0\r\n\r\n", wait) == b""
    assert cancelled.is_set()


async def test_a_client_that_leaves_in_its_body_is_no_error() -> None:
    assert await talk(HEAD + b"Content-Length: 10\r\n\r\nabc") == b""


async def test_a_handler_that_fails_costs_its_connection_only() -> None:
    async def fail(exchange: Exchange) -> None:
        raise RuntimeError("a bug")

    assert await talk(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", fail) == b""
