"""A client that leaves, at each phase: the app hears of it, and nothing of the client stays."""

from pathlib import Path

import pytest
import trio
import trio.testing

from actors.exchange import INBOX, Message, Receive, Send
from actors.ingress import while_connected
from tests.edge.handshakes import HANDSHAKE
from tests.edge.serving import Edge, echo, read_body, read_head, read_to_end, running

POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n"
CLIENTS = 50
PATIENCE = 10.0  # seconds; far above what it takes, below what the server allows a silent client
TEXT_FRAME = b"\x81\x82\0\0\0\0hi"  # a client's, masked with zeros
CLOSE_FRAME = b"\x88\x82\0\0\0\0\x03\xe8"

LEAVING = {
    "before-the-head": b"",
    "in-the-head": POST[:20],
    "in-the-body": POST + b"hello",
    "in-a-chunk": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe",
    "after-the-body": POST + b"helloworld",
    "after-a-websocket-handshake": HANDSHAKE + b"\r\n",
}


async def never_answers(scope: Message, receive: Receive, send: Send) -> None:
    """Waits for the client's end, which a stuck app would never see."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
    while not (await receive())["type"].endswith(".disconnect"):
        pass


async def _leave(edge: Edge, sent: bytes, *, reset: bool) -> None:
    stream = await edge.connect()
    async with stream:
        await stream.send_all(sent)
        if reset:
            stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\1\0\0\0" + bytes(4))


def _descriptors() -> int:
    return len(list(Path("/dev/fd").iterdir()))


def _tasks() -> int:
    return trio.lowlevel.current_statistics().tasks_living


@pytest.mark.parametrize("reset", [False, True], ids=["closing", "resetting"])
@pytest.mark.parametrize("sent", LEAVING.values(), ids=LEAVING.keys())
async def test_a_client_that_leaves_takes_everything_with_it(sent: bytes, reset: bool) -> None:
    async with running(never_answers) as edge:
        await trio.testing.wait_all_tasks_blocked()
        before = _descriptors(), _tasks()
        async with trio.open_nursery() as nursery:
            for _ in range(CLIENTS):
                nursery.start_soon(lambda: _leave(edge, sent, reset=reset))
        while (_descriptors(), _tasks()) != before:
            await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("extra", [b"\r\n", b"GET / HTTP/1.1\r\n"], ids=["a-line", "a-request"])
async def test_a_client_that_sent_too_much_and_leaves_is_noticed(extra: bytes) -> None:
    heard = trio.Event()

    async def app(_scope: Message, receive: Receive, _send: Send) -> None:
        assert await read_body(receive) == 10
        assert (await receive())["type"] == "http.disconnect"
        heard.set()

    async with running(app) as edge:
        await _leave(edge, POST + b"helloworld" + extra, reset=False)
        await heard.wait()


async def test_a_client_that_leaves_within_an_answer_is_noticed() -> None:
    heard = trio.Event()

    async def app(_scope: Message, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a token", "more_body": True})
        assert await read_body(receive) == 0
        assert (await receive())["type"] == "http.disconnect"
        heard.set()

    async with running(app) as edge:
        async with await edge.connect() as stream:
            await stream.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await read_head(stream)
        await heard.wait()


async def never_ends(scope: Message, receive: Receive, send: Send) -> None:
    """Hears its request and then never listens again."""
    if scope["type"] == "websocket":
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
    else:
        await read_body(receive)
    await trio.sleep_forever()


@pytest.mark.parametrize("late", [False, True], ids=["after-it-was-heard", "before-it-was-heard"])
@pytest.mark.parametrize(
    "sent", [POST + b"helloworld", HANDSHAKE + b"\r\n"], ids=["a-body", "a-handshake"]
)
async def test_an_app_is_cancelled_when_its_client_has_gone(sent: bytes, late: bool) -> None:
    hears, gone = trio.Event(), trio.Event()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await hears.wait()
        try:
            await never_ends(scope, receive, send)
        finally:
            gone.set()

    async with running(while_connected(app)) as edge:
        if not late:
            hears.set()
        async with await edge.connect() as stream:
            await stream.send_all(sent)
            await trio.testing.wait_all_tasks_blocked()
            assert not gone.is_set()
        await trio.testing.wait_all_tasks_blocked()
        hears.set()
        with trio.fail_after(PATIENCE):
            await gone.wait()


async def test_what_a_client_says_on_a_websocket_is_dropped() -> None:
    async with running(while_connected(never_ends)) as edge, await edge.connect() as stream:
        await stream.send_all(HANDSHAKE + b"\r\n")
        await read_head(stream)
        for _ in range(5 * INBOX):
            await stream.send_all(TEXT_FRAME)
        await stream.send_all(CLOSE_FRAME)
        with trio.fail_after(PATIENCE):
            assert await read_to_end(stream)  # it was read in spite of all that came before it


@pytest.mark.parametrize("last", [b"", b"zz\r\n"], ids=["leaving", "sending-a-bad-chunk"])
async def test_an_app_that_only_sends_leaves_the_others_their_turn(last: bytes) -> None:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        if scope["path"] == "/":
            await echo(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": True})

    async with running(app, grace=0) as edge:
        async with await edge.connect() as stream:
            head = b"POST /endless HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            await stream.send_all(head)
            await read_head(stream)
            await stream.send_all(last)
            if last:
                await read_to_end(stream)
        answer = await edge.ask(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 ")


async def test_a_body_that_nobody_reads_does_not_hold_the_answer_back() -> None:
    async def refuses(_scope: Message, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 413, "headers": []})
        await send({"type": "http.response.body", "body": b"too much"})

    async with running(refuses) as edge, await edge.connect() as stream:
        head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4000000\r\n\r\n"
        await stream.send_all(head + b"x" * 4_000_000)
        assert (await read_head(stream)).startswith(b"HTTP/1.1 413 ")
