"""An Ollama that does, connection by connection, exactly what a test tells it to."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import trio


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: its head, and the connection with `begun`, what came of the body with it."""

    method: str
    path: str
    head: bytes
    begun: bytes
    stream: trio.SocketStream


Handler = Callable[[Asked], Awaitable[None]]
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
)


@asynccontextmanager
async def upstream(handle: Handler) -> AsyncGenerator[str]:
    """Serve at the URL given; after `handle` returns, or the client has gone, it hangs up."""

    async def converse(stream: trio.SocketStream) -> None:
        async with stream:
            received = b""
            while b"\r\n\r\n" not in received:
                data = await stream.receive_some()
                if not data:
                    return
                received += data
            head, begun = received.split(b"\r\n\r\n", 1)
            method, path, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
            with suppress(trio.BrokenResourceError):  # it did not wait for the end
                await handle(Asked(method, path, head, begun, stream))

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(_serve, converse)
        host, port = listener.socket.getsockname()
        yield f"http://{host}:{port}"
        nursery.cancel_scope.cancel("the test is over")


async def _serve(
    converse: Callable[[trio.SocketStream], Awaitable[None]],
    *,
    task_status: trio.TaskStatus[list[trio.SocketListener]],
) -> None:
    await trio.serve_tcp(converse, 0, host="127.0.0.1", task_status=task_status)


def chunk(data: bytes) -> bytes:
    """One piece of a chunked body; of b"", its end."""
    return b"%x\r\n%s\r\n" % (len(data), data)
