"""A Transport that blocks, and how conversations run over it.

The conversations are written once, as coroutines. Over a transport whose methods never suspend, a
coroutine runs to its end in one step: no event loop is needed.
"""

import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterator,
)
from contextlib import asynccontextmanager
from typing import Self, TypeVar

import httpx

from foreman.client import asking
from foreman.client.http import options, unreachable
from foreman.client.transport import Reply, Request

T = TypeVar("T")


def run(conversation: Awaitable[T]) -> T:
    """What the conversation comes to."""
    step = conversation.__await__()
    try:
        next(step)
    except StopIteration as end:
        value: T = end.value
        return value
    raise AssertionError("a blocking transport has suspended")


def iterate(items: AsyncGenerator[T]) -> Generator[T, None, None]:
    """The items, one at a time; closing it ends the conversation."""
    try:
        while True:
            try:
                item = run(anext(items))
            except StopAsyncIteration:
                return
            yield item
    finally:
        run(items.aclose())


class _Chunks:
    """A body's bytes as they come."""

    def __init__(self, url: str, body: Iterator[bytes]) -> None:
        self._url = url
        self._body = body

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            return next(self._body)
        except StopIteration:
            raise StopAsyncIteration from None
        except httpx.HTTPError as error:
            raise unreachable(self._url, error) from None


class BlockingTransport:
    """A Transport that blocks where another would suspend."""

    def __init__(self, client: httpx.Client, patience: float) -> None:
        self._client = client
        self._url = str(client.base_url)
        self.patience = patience

    @asynccontextmanager
    async def open(self, request: Request) -> AsyncGenerator[Reply]:
        """See Transport."""
        try:
            response = self._client.send(
                self._client.build_request(**options(request)), stream=True
            )
        except httpx.HTTPError as error:
            raise unreachable(self._url, error) from None
        try:
            yield Reply(
                response.status_code, response.headers, _Chunks(self._url, response.iter_raw())
            )
        finally:
            response.close()

    @asynccontextmanager
    async def subscribe(self, request: Request) -> AsyncGenerator[AsyncIterator[bytes]]:
        """As NDJSON."""
        async with self.open(request) as reply:
            await asking.accept(reply)
            yield reply.lines()

    async def blocking(self, call: Callable[[], T]) -> T:
        """At once."""
        return call()

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251  to block is what it is for

    def clock(self) -> float:
        """See Transport."""
        return time.monotonic()
