"""The edge under test: a small app, served on a free port, with what it saw."""

import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import trio

from actors.exchange import ASGIApp, Message, Receive, Send
from actors.listener import EdgeLimits, open_listener, serve


@dataclass(slots=True)
class Edge:
    """A running edge. `stop` asks for the shutdown; `stopped` is set when `serve` returned."""

    port: int
    stop: trio.Event = field(default_factory=trio.Event)
    stopped: trio.Event = field(default_factory=trio.Event)

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    async def ask(self, request: bytes) -> bytes:
        """All that the server says to `request` until it closes."""
        async with await self.connect() as stream:
            with suppress(trio.BrokenResourceError):
                await stream.send_all(request)
            return await read_to_end(stream)


@asynccontextmanager
async def running(
    app: ASGIApp, limits: EdgeLimits | None = None, grace: float = 5
) -> AsyncGenerator[Edge]:
    """Serve `app`; anything that leaves `serve` fails the test, and so does not stopping."""
    limits = limits or EdgeLimits()
    listener = open_listener("127.0.0.1", 0, limits)
    edge = Edge(listener.getsockname()[1])
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_serve, app, listener, limits, edge, grace)
            try:
                yield edge
            finally:
                edge.stop.set()


async def _serve(
    app: ASGIApp, listener: socket.socket, limits: EdgeLimits, edge: Edge, grace: float
) -> None:
    await serve(app, listener, limits, shutdown=edge.stop.wait, grace=grace)
    edge.stopped.set()


async def read_to_end(stream: trio.abc.ReceiveStream) -> bytes:
    """What the peer sends until it closes; a reset counts as a close."""
    received = bytearray()
    with suppress(trio.BrokenResourceError):
        async for data in stream:
            received += data
    return bytes(received)


async def read_head(stream: trio.abc.ReceiveStream) -> bytes:
    """The bytes up to the first blank line, and whatever came with them."""
    received = bytearray()
    while b"\r\n\r\n" not in received:
        data = await stream.receive_some()
        assert data, bytes(received)
        received += data
    return bytes(received)


async def read_body(receive: Receive) -> int:
    """Read the request; the number of bytes in it, or -1 when the client left first."""
    length = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return -1
        length += len(message["body"])
        if not message["more_body"]:
            return length


async def echo(scope: Message, receive: Receive, send: Send) -> None:
    """Answers with the length of the body; echoes what a websocket says."""
    if scope["type"] == "websocket":
        await _echo_messages(receive, send)
        return
    length = await read_body(receive)
    if length >= 0:
        await respond(send, b"%d" % length)


async def respond(send: Send, body: bytes, status: int = 200) -> None:
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _echo_messages(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})
