"""Requests that no honest client sends: answered with a refusal, and the connection closed."""

import pytest
import trio

from tests.edge.serving import echo, read_head, read_to_end, running

START = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = START + b"Transfer-Encoding: chunked\r\n\r\n"

BAD = {
    "both-framings": START + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two-lengths": START + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nhello",
    "length-list": START + b"Content-Length: 4, 5\r\n\r\nhello",
    "negative-length": START + b"Content-Length: -1\r\n\r\n",
    "bad-chunk-size": CHUNKED + b"zz\r\nhello\r\n0\r\n\r\n",
    "chunk-without-end": CHUNKED + b"2\r\nhello\r\n0\r\n\r\n",
    "folded-field": START + b"X-A: one\r\n two\r\n\r\n",
    "nul-in-a-value": START + b"X-A: a\x00b\r\n\r\n",
    "nul-in-the-path": b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
    "bare-line-feeds": b"GET / HTTP/1.1\nHost: a\n\n",
    "one-bare-line-feed": START + b"X-A: b\nX-C: d\r\n\r\n",
    "space-before-colon": START + b"Content-Length : 4\r\n\r\nhell",
    "no-host": b"GET / HTTP/1.1\r\n\r\n",
    "chunked-in-http-1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "not-http": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}

TOO_LARGE = {
    "100-kb-field": START + b"X-A: " + b"a" * 100_000 + b"\r\n\r\n",
    "17-kb-field-in-one-piece": START + b"X-A: " + b"a" * 17_000 + b"\r\n\r\n",
    "10000-fields": START + b"".join(b"X-%d: a\r\n" % i for i in range(10_000)) + b"\r\n",
    "64-kb-url": b"GET /" + b"a" * 65536 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
}


@pytest.mark.parametrize("request_", BAD.values(), ids=BAD.keys())
async def test_a_request_that_parsers_disagree_about_is_refused(request_: bytes) -> None:
    async with running(echo) as edge:
        assert (await edge.ask(request_)).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("request_", TOO_LARGE.values(), ids=TOO_LARGE.keys())
async def test_a_head_too_large_is_refused(request_: bytes) -> None:
    async with running(echo) as edge:
        assert (await edge.ask(request_)).startswith(b"HTTP/1.1 431 ")


async def test_http_2_is_refused() -> None:
    preface = b"PRI * HTTP/2.0\r\nHost: a\r\n\r\nSM\r\n\r\n"
    async with running(echo) as edge:
        assert (await edge.ask(preface)).startswith(b"HTTP/1.1 505 ")


async def test_an_offer_of_http_2_is_answered_in_http_1() -> None:
    offer = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    async with running(echo) as edge, await edge.connect() as stream:
        await stream.send_all(offer + b"HTTP2-Settings: \r\n\r\n")
        assert (await read_head(stream)).startswith(b"HTTP/1.1 200 ")


async def test_a_refusal_reaches_a_client_that_is_still_sending() -> None:
    async with running(echo) as edge, await edge.connect() as stream:
        await stream.send_all(BAD["both-framings"])
        for _ in range(100):
            await stream.send_all(b"x" * 10_000)
        assert (await read_to_end(stream)).startswith(b"HTTP/1.1 400 ")


async def test_a_websocket_message_too_large_ends_the_websocket() -> None:
    # A client's frame: text, masked with zeros, 70,000 bytes; the limit is 65,536.
    frame = b"\x81\xff" + (70_000).to_bytes(8, "big") + bytes(4) + b"a" * 70_000
    handshake = (
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    async with running(echo) as edge, await edge.connect() as stream:
        await stream.send_all(handshake)
        await read_head(stream)
        await stream.send_all(frame)
        with trio.fail_after(5):
            closing = await read_to_end(stream)
    assert closing.endswith(b"\x88\x02" + (1009).to_bytes(2, "big"))
