"""What the HTTP surface stands on. `actors.ingress` provides it; nothing here knows an actor."""

import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from foreman.admission import Admitted
from foreman.artifacts import ArtifactFiles
from foreman.delivery import Tested
from foreman.errors import StoreError
from foreman.event_tail import EventTail
from foreman.inventory import Inventory
from foreman.jobs import JobId
from foreman.live_output import LiveOutputs
from foreman.queue_view import QueueView
from foreman.tables import Accepted, NewJob
from foreman.target import Target
from foreman.tracing import NO_TRACER, Tracer
from foreman.wire import Request, ResponsePart, Route

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Queued:
    """A call that waits or runs: its id, the jobs ahead of it, and its answer in parts."""

    job: JobId
    position: int
    parts: AsyncIterator[ResponsePart]


@dataclass(frozen=True, slots=True)
class Placed:
    """A durable job that was taken, and how many durable jobs run before it as things stand."""

    accepted: Accepted
    position: int


class Desk(Protocol):
    """The actors, as the HTTP surface sees them."""

    @property
    def tail(self) -> EventTail:
        """The events as they are committed."""
        ...

    @property
    def live(self) -> LiveOutputs:
        """The answer of the running durable job as it grows."""
        ...

    @property
    def artifacts(self) -> ArtifactFiles:
        """The results that are files."""
        ...

    def inventory(self) -> Inventory: ...

    async def refresh(self) -> Inventory:
        """Have the target looked at once more."""
        ...

    def call(
        self, route: Route, admitted: Admitted, request: Request, owner: str = ""
    ) -> AbstractAsyncContextManager[Queued]:
        """Queue a call of this client's. Leaving the block before its end drops or cancels it."""
        ...

    def embed(
        self, request: Request, model: str = ""
    ) -> AbstractAsyncContextManager[AsyncIterator[ResponsePart]]:
        """Run an embedding beside the queue."""
        ...

    async def unloaded(self, model_key: str) -> None:
        """The target was told to drop this model."""
        ...

    async def queue(self) -> QueueView: ...

    def new_id(self) -> JobId:
        """The id of a job that is to be submitted."""
        ...

    async def submit(self, job: NewJob) -> Placed:
        """Take a durable job; when this returns it is on disk. Raises StoreError."""
        ...

    async def submit_each(self, jobs: Sequence[NewJob]) -> list[Accepted | StoreError]:
        """Take durable jobs in one commit, each for itself; what was accepted is on disk."""
        ...

    async def cancel(self, job: JobId) -> None:
        """End a job that has not ended yet; the running one ends a little later."""
        ...

    # webhooks

    async def test_webhook(self, url: str) -> Tested:
        """Send one message to this URL now."""
        ...

    async def replay(self, ids: Sequence[str]) -> int:
        """Have these messages sent again; how many that could be said of."""
        ...

    async def enable_endpoint(self, url: str) -> bool:
        """Serve a disabled endpoint again. False when there is none."""
        ...

    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Ask the database."""
        ...


@dataclass(frozen=True, slots=True)
class Ports:
    """The actors' desk, the target for what is never queued, and who traces requests."""

    desk: Desk
    target: Target
    tracer: Tracer = NO_TRACER
