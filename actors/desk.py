"""The desk: where the HTTP surface meets the actors.

Questions go to whoever knows, writes to the store, and what is published is read where it stands.
"""

import sqlite3
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import trio

from actors.mailbox import StoreInbox, ask, nudge, put, write
from actors.messages import (
    Call,
    Cancel,
    Describe,
    EmbedCall,
    Gone,
    PollerMessage,
    Refresh,
    Reply,
    TestWebhook,
    Unloaded,
    Wake,
    WorkerMessage,
)
from foreman import endpoints, outbox, tables
from foreman.admission import Admitted
from foreman.api.ports import Placed, Queued
from foreman.artifacts import ArtifactFiles
from foreman.delivery import Tested
from foreman.errors import StaleJob, StoreError
from foreman.event_tail import EventTail
from foreman.inventory import Inventory
from foreman.jobs import JobId, JobIds
from foreman.live_output import LiveOutputs
from foreman.queue_view import QueueView, with_batch
from foreman.reader import Reader
from foreman.tables import Accepted, NewJob, Transaction
from foreman.wire import (
    Request,
    ResponseEnd,
    ResponseFailed,
    ResponsePart,
    ResponseWhole,
    Route,
)

T = TypeVar("T")

PARTS = 16  # pieces of an answer between worker and client: some slack, not a second copy of it
EMBED_PARTS = 1  # the whole, or that it failed: the embed actor never waits for a client
COUNTED = 1000  # jobs of a lane, for the place of a new one: the store must not be held up by it
REPLAYED_AT_ONCE = 200  # webhooks in one transaction: jobs must not wait for thousands
GOODBYE = 1.0  # seconds to tell the worker that a client has gone


@dataclass(frozen=True, slots=True)
class Channels:
    """Where the ingress sends."""

    store: StoreInbox
    worker: trio.MemorySendChannel[WorkerMessage]
    wakes: trio.MemorySendChannel[Wake]
    poller: trio.MemorySendChannel[PollerMessage]
    embed: trio.MemorySendChannel[EmbedCall]
    webhooks: trio.MemorySendChannel[TestWebhook]


@dataclass(frozen=True, slots=True)
class Desk:
    """`foreman.api.ports.Desk` on the actors' inboxes."""

    channels: Channels
    reader: Reader
    inventory: Callable[[], Inventory]
    tail: EventTail
    live: LiveOutputs
    artifacts: ArtifactFiles
    max_queue: int
    ids: JobIds = field(default_factory=JobIds)

    async def refresh(self) -> Inventory:
        return await ask(self.channels.poller, Refresh)

    @asynccontextmanager
    async def call(
        self, route: Route, admitted: Admitted, request: Request, owner: str = ""
    ) -> AsyncGenerator[Queued]:
        job = self.ids.new()
        worker = self.channels.worker
        parts, answer = trio.open_memory_channel[ResponsePart](PARTS)

        def question(reply: Reply[int]) -> WorkerMessage:
            return Call(job, route, admitted, request, parts, reply, owner)

        with answer:
            watched = _Watched(answer)
            try:
                position = await ask(worker, question)
                yield Queued(job, position, watched)
            finally:
                if not watched.ended:
                    with trio.move_on_after(GOODBYE, shield=True):
                        await worker.send(Gone(job))

    @asynccontextmanager
    async def embed(
        self, request: Request, model: str = ""
    ) -> AsyncGenerator[AsyncIterator[ResponsePart]]:
        parts, answer = trio.open_memory_channel[ResponsePart](EMBED_PARTS)
        scope = trio.CancelScope()
        with answer:
            try:
                await put(self.channels.embed, EmbedCall(request, parts, scope, model))
                yield answer
            finally:
                scope.cancel("nobody waits for it any more")

    async def unloaded(self, model_key: str) -> None:
        await self.channels.worker.send(Unloaded(model_key))

    async def queue(self) -> QueueView:
        view = await ask(self.channels.worker, Describe)
        lanes = await self.reader.read(tables.lane_counts)
        return with_batch(view, lanes, time.time_ns() // 1000)

    def new_id(self) -> JobId:
        return self.ids.new()

    async def submit(self, job: NewJob) -> Placed:
        placed = await write(self.channels.store, partial(self._take, job=job))
        nudge(self.channels.wakes, Wake())
        return placed

    async def submit_each(self, jobs: Sequence[NewJob]) -> list[Accepted | StoreError]:
        take = partial(tables.submit_each, jobs=jobs, max_queue=self.max_queue)
        answers = await write(self.channels.store, take)
        nudge(self.channels.wakes, Wake())
        return answers

    def _take(self, tx: Transaction, job: NewJob) -> Placed:
        accepted = tables.submit_once(tx, job, self.max_queue)
        ahead = tables.jobs_ahead(tx.connection, accepted.row, counted=COUNTED)
        return Placed(accepted, ahead)

    async def cancel(self, job: JobId) -> None:
        # What runs and what waits for a client is the worker's, what waits in the table anyone's:
        # a job that is claimed between the two questions has become the worker's.
        while not await ask(self.channels.worker, partial(Cancel, job)):
            with suppress(StaleJob):
                await write(self.channels.store, partial(tables.cancel, job=job))
                return

    async def test_webhook(self, url: str) -> Tested:
        return await ask(self.channels.webhooks, partial(TestWebhook, url))

    async def replay(self, ids: Sequence[str]) -> int:
        replayed = 0
        for first in range(0, len(ids), REPLAYED_AT_ONCE):
            some = ids[first : first + REPLAYED_AT_ONCE]
            do = partial(_replay, ids=some, ahead=replayed)
            replayed += await write(self.channels.store, do)
        return replayed

    async def enable_endpoint(self, url: str) -> bool:
        return await write(self.channels.store, partial(_enable, url=url))

    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        return await self.reader.read(query)


def _replay(tx: Transaction, ids: Sequence[str], ahead: int) -> int:
    tx.posted = True
    return outbox.replay(tx.connection, ids, tx.now, ahead)


def _enable(tx: Transaction, url: str) -> bool:
    tx.posted = True
    return endpoints.enable(tx.connection, url, tx.now)


class _Watched:
    """An answer's parts, and whether the last of them was taken."""

    def __init__(self, parts: trio.MemoryReceiveChannel[ResponsePart]) -> None:
        self._parts = parts
        self.ended = False

    def __aiter__(self) -> "_Watched":
        return self

    async def __anext__(self) -> ResponsePart:
        try:
            part = await self._next()
        except trio.EndOfChannel:
            self.ended = True
            raise StopAsyncIteration from None
        self.ended = isinstance(part, ResponseEnd | ResponseWhole | ResponseFailed)
        return part

    async def _next(self) -> ResponsePart:
        try:
            return self._parts.receive_nowait()  # a turn of the event loop less for what is there
        except trio.WouldBlock:
            return await self._parts.receive()
