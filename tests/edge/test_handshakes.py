"""One malformed websocket handshake: fatal to Hypercorn's server, a closed connection to ours."""

from functools import partial
from typing import Any, cast

import h11
import pytest
import trio
from hypercorn.config import Config
from hypercorn.trio import serve as serve_stock

from tests.edge.handshakes import FATAL, HANDSHAKE
from tests.edge.serving import echo, read_head, read_to_end, running

ATTEMPTS = 20  # the race between the app's accept and the trailing bytes needs a few tries


async def test_stock_hypercorn_dies_of_each_of_the_five_handshakes() -> None:
    with trio.fail_after(30):
        for request in FATAL.values():
            # Which of its tasks fail, and so what is in the group, differs from run to run.
            with pytest.raises(ExceptionGroup) as death:
                await _offer_to_stock(request)
            assert death.value.subgroup((h11.LocalProtocolError, UnicodeDecodeError))


async def _offer_to_stock(request: bytes) -> None:
    """Returns if the server outlives `ATTEMPTS` connections."""
    config = Config()
    config.bind, config.errorlog = ["127.0.0.1:0"], None
    stock = partial(
        serve_stock, cast(Any, echo), config, shutdown_trigger=trio.sleep_forever, mode="asgi"
    )
    async with trio.open_nursery() as nursery:
        binds = cast(list[str], await nursery.start(stock))
        port = int(binds[0].rsplit(":", 1)[1])
        for _ in range(ATTEMPTS):
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(request)
                await stream.send_eof()
                await read_to_end(stream)  # also the point where its death cancels us
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("request_", FATAL.values(), ids=FATAL.keys())
async def test_a_handshake_fatal_to_stock_hypercorn_costs_only_its_connection(
    request_: bytes,
) -> None:
    async with running(echo) as edge:
        for _ in range(ATTEMPTS):
            await edge.ask(request_)
        assert b" 200 " in await edge.ask(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")


@pytest.mark.parametrize("name", [name for name in FATAL if name != "trailing-bytes"])
async def test_a_handshake_that_hypercorn_cannot_read_is_refused(name: str) -> None:
    async with running(echo) as edge:
        assert (await edge.ask(FATAL[name])).startswith(b"HTTP/1.1 400 ")


async def test_a_handshake_whose_body_has_yet_to_come_is_refused_at_once() -> None:
    async with running(echo) as edge, await edge.connect() as stream:
        await stream.send_all(HANDSHAKE + b"Content-Length: 5\r\n\r\n")
        assert (await read_head(stream)).startswith(b"HTTP/1.1 400 ")


async def test_the_offer_of_compression_is_not_taken_up() -> None:
    offer = HANDSHAKE + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
    async with running(echo) as edge, await edge.connect() as stream:
        await stream.send_all(offer)
        head = await read_head(stream)
    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"permessage-deflate" not in head


async def test_an_invalid_handshake_is_answered_and_closed() -> None:
    keyless = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    async with running(echo) as edge:
        assert (await edge.ask(keyless)).startswith(b"HTTP/1.1 400 ")
