"""Both clients behind one face: `call` for what returns, `collect` for what comes in pieces."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from itertools import islice
from typing import Any, Protocol

import trio

from foreman import AsyncClient, Client

KINDS = ("sync", "trio")


class Driver(Protocol):
    async def call(self, method: str, *arguments: Any, **options: Any) -> Any: ...

    async def collect(
        self,
        method: str,
        *arguments: Any,
        count: int | None = None,
        into: list[Any] | None = None,
        **options: Any,
    ) -> list[Any]:
        """At most `count` items, appended to `into` as they come."""
        ...


class Blocking:
    """foreman.Client, in a thread."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        bound = partial(getattr(self._client, method), *arguments, **options)
        return await trio.to_thread.run_sync(bound)

    async def collect(
        self,
        method: str,
        *arguments: Any,
        count: int | None = None,
        into: list[Any] | None = None,
        **options: Any,
    ) -> list[Any]:
        found: list[Any] = [] if into is None else into

        def listed() -> list[Any]:
            items = getattr(self._client, method)(*arguments, **options)
            found.extend(islice(items, count))
            items.close()
            return found

        return await trio.to_thread.run_sync(listed)


class Suspending:
    """foreman.AsyncClient."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        return await getattr(self._client, method)(*arguments, **options)

    async def collect(
        self,
        method: str,
        *arguments: Any,
        count: int | None = None,
        into: list[Any] | None = None,
        **options: Any,
    ) -> list[Any]:
        found: list[Any] = [] if into is None else into
        async with getattr(self._client, method)(*arguments, **options) as items:
            while count is None or len(found) < count:
                try:
                    found.append(await items.receive())
                except trio.EndOfChannel:
                    break
        return found


@asynccontextmanager
async def connect(kind: str, url: str, **options: Any) -> AsyncGenerator[Driver]:
    """The client of that kind, one of KINDS."""
    if kind == "sync":
        with Client(url, **options) as client:
            yield Blocking(client)
    else:
        async with AsyncClient(url, **options) as client:
            yield Suspending(client)


Connect = Callable[..., AbstractAsyncContextManager[Driver]]
"""`connect` of one kind."""
