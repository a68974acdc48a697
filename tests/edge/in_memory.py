"""A connection without a socket, so that its deadlines run on a mock clock."""

import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, cast

import trio
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext
from trio.testing import lockstep_stream_pair

from actors.connection import ClientStream, Connection, Patience
from actors.exchange import ASGIApp

PATIENCE = Patience(head=5, idle=120, write=10)


class FakeSocket:
    """The part of trio's socket that a connection touches."""

    family = socket.AF_INET

    def __init__(self, stream: trio.StapledStream[Any, Any]) -> None:
        self._stream = stream

    def getpeername(self) -> tuple[str, int]:
        return ("192.0.2.1", 50000)

    def getsockname(self) -> tuple[str, int]:
        return ("192.0.2.2", 80)

    def shutdown(self, _how: int) -> None:
        self._stream.send_stream.close()

    def close(self) -> None:
        self._stream.send_stream.close()
        self._stream.receive_stream.close()


class FakeStream:
    """A stream whose `send_all` ends when the peer has read everything."""

    def __init__(self, stream: trio.StapledStream[Any, Any]) -> None:
        self.socket = FakeSocket(stream)
        self.send_all = stream.send_all
        self.receive_some = stream.receive_some

    def has_bytes(self) -> bool:
        return False  # lockstep: what was sent has been received

    def send_nowait(self, _data: bytes) -> int:
        return 0  # nothing is buffered: the peer has to read it


def connection_on(app: ASGIApp, stream: object) -> Connection:
    """A connection that `app` will serve on `stream`, which has what a FakeStream has."""
    config = Config()
    config.errorlog = None
    return Connection(app, config, WorkerContext(None), PATIENCE, cast(ClientStream, stream))


@asynccontextmanager
async def connected(app: ASGIApp) -> AsyncGenerator[trio.abc.HalfCloseableStream]:
    """The client's end of a connection that `app` serves."""
    client, server = lockstep_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection_on(app, FakeStream(server)).run)
        yield client
