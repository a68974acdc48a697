"""What the HTTP surface stands on. `actors.ingress` provides it; nothing here knows an actor."""

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from foreman.admission import Admitted
from foreman.inventory import Inventory
from foreman.jobs import JobId
from foreman.queue_view import QueueView
from foreman.target import Target
from foreman.wire import Request, ResponsePart, Route

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Queued:
    """A call that waits or runs: its id, the jobs ahead of it, and its answer in parts."""

    job: JobId
    position: int
    parts: AsyncIterator[ResponsePart]


class Desk(Protocol):
    """The actors, as the HTTP surface sees them."""

    def inventory(self) -> Inventory: ...

    async def refresh(self) -> Inventory:
        """Have the target looked at once more."""
        ...

    def call(
        self, route: Route, admitted: Admitted, request: Request
    ) -> AbstractAsyncContextManager[Queued]:
        """Queue a call. Leaving the block before its end drops or cancels it."""
        ...

    def embed(self, request: Request) -> AbstractAsyncContextManager[AsyncIterator[ResponsePart]]:
        """Run an embedding beside the queue."""
        ...

    async def unloaded(self, model_key: str) -> None:
        """The target was told to drop this model."""
        ...

    async def queue(self) -> QueueView: ...

    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Ask the database."""
        ...


@dataclass(frozen=True, slots=True)
class Ports:
    """The actors' desk, and the target for what is never queued."""

    desk: Desk
    target: Target
