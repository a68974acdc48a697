"""The embedded target without sockets: a network for httpcore that ends in the same process.

Nothing waits for the kernel here, so `trio.testing.MockClock` runs through hours of scripted
loads in no time: the daemon's HTTP code, unchanged, on virtual time.
"""

from collections.abc import AsyncGenerator, Generator, Iterable
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpcore
import trio
from trio.testing import memory_stream_pair

from foreman.embedded.app import EmbeddedTarget


class MemoryStream(httpcore.AsyncNetworkStream):
    """One end of a connection, as httpcore wants it. Its deadlines are trio's."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        """The next bytes, b"" at the end. Raises ReadTimeout, ReadError."""
        with _deadline(timeout, httpcore.ReadTimeout), _mapped(httpcore.ReadError):
            return bytes(await self._stream.receive_some(max_bytes))

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Send it all. Raises WriteTimeout, WriteError."""
        with _deadline(timeout, httpcore.WriteTimeout), _mapped(httpcore.WriteError):
            await self._stream.send_all(buffer)

    async def aclose(self) -> None:
        """Close both directions."""
        await self._stream.aclose()


class MemoryNetwork(httpcore.AsyncNetworkBackend):
    """Every host and port leads to the one target. Made by `in_memory`."""

    def __init__(self, target: EmbeddedTarget, nursery: trio.Nursery) -> None:
        self._target = target
        self._nursery = nursery
        self._connections: set[trio.CancelScope] = set()
        self._down = False

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A new connection. Raises ConnectError in an outage."""
        await trio.lowlevel.checkpoint()
        if self._down:
            raise httpcore.ConnectError("connection refused")
        ours, theirs = memory_stream_pair()
        self._nursery.start_soon(self._converse, theirs)
        return MemoryStream(ours)

    async def sleep(self, seconds: float) -> None:
        """httpcore's pauses between its attempts."""
        await trio.sleep(seconds)

    async def follow_outages(self) -> None:
        """Go down and come back as the engine says; for ever."""
        while True:
            await self._target.engine.wait_down()
            self._down = True
            for scope in tuple(self._connections):
                scope.cancel("a scripted outage")
            await self._target.engine.wait_up()
            self._down = False

    async def _converse(self, stream: trio.abc.Stream) -> None:
        with trio.CancelScope() as scope:
            self._connections.add(scope)
            try:
                await self._target.converse(stream)
            finally:
                self._connections.discard(scope)


@asynccontextmanager
async def in_memory(target: EmbeddedTarget) -> AsyncGenerator[MemoryNetwork]:
    """Run the target for the block; give the network to httpcore as its `network_backend`."""
    try:
        async with trio.open_nursery() as nursery:
            network = MemoryNetwork(target, nursery)
            nursery.start_soon(target.residency.expire_idle)
            nursery.start_soon(network.follow_outages)
            yield network
            nursery.cancel_scope.cancel()
    finally:
        target.residency.clear()


@contextmanager
def _deadline(seconds: float | None, late: type[Exception]) -> Generator[None]:
    try:
        with trio.fail_after(float("inf") if seconds is None else seconds):
            yield
    except trio.TooSlowError as error:
        raise late from error


@contextmanager
def _mapped(broken: type[Exception]) -> Generator[None]:
    try:
        yield
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        raise broken from error
