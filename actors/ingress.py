"""The ingress: the listening socket, and the desk where the HTTP surface meets the actors.

Inbox:  none; clients come through the socket.
Owns:   the connections, the ids of new jobs. The socket itself outlives a crash.
Crash:  open connections are cut; the next incarnation accepts new ones.
"""

import socket
import sqlite3
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import trio

from actors.listener import EdgeLimits, serve
from actors.mailbox import ask, put
from actors.messages import (
    Call,
    Describe,
    Drain,
    EmbedCall,
    Gone,
    PollerMessage,
    Refresh,
    Reply,
    Unloaded,
    WorkerMessage,
)
from foreman import tables
from foreman.admission import Admitted
from foreman.api import app
from foreman.api.exchange import ASGIApp, Message, Receive, Scope, Send
from foreman.api.lazy import LazyApp
from foreman.api.ports import Ports, Queued
from foreman.inventory import Inventory
from foreman.jobs import JobIds
from foreman.metrics import Metrics
from foreman.queue_view import QueueView, with_batch
from foreman.reader import Reader
from foreman.target import Target
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
GOODBYE = 1.0  # seconds to tell the worker that a client has gone


@dataclass(frozen=True, slots=True)
class Channels:
    """Where the ingress sends."""

    worker: trio.MemorySendChannel[WorkerMessage]
    poller: trio.MemorySendChannel[PollerMessage]
    embed: trio.MemorySendChannel[EmbedCall]


class Desk:
    """`foreman.api.ports.Desk` on the actors' inboxes."""

    def __init__(
        self, channels: Channels, reader: Reader, inventory: Callable[[], Inventory]
    ) -> None:
        self._channels = channels
        self._reader = reader
        self._ids = JobIds()
        self.inventory = inventory

    async def refresh(self) -> Inventory:
        return await ask(self._channels.poller, Refresh)

    @asynccontextmanager
    async def call(
        self, route: Route, admitted: Admitted, request: Request
    ) -> AsyncGenerator[Queued]:
        job = self._ids.new()
        worker = self._channels.worker
        parts, answer = trio.open_memory_channel[ResponsePart](PARTS)

        def question(reply: Reply[int]) -> WorkerMessage:
            return Call(job, route, admitted, request, parts, reply)

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
    async def embed(self, request: Request) -> AsyncGenerator[AsyncIterator[ResponsePart]]:
        parts, answer = trio.open_memory_channel[ResponsePart](EMBED_PARTS)
        scope = trio.CancelScope()
        with answer:
            try:
                await put(self._channels.embed, EmbedCall(request, parts, scope))
                yield answer
            finally:
                scope.cancel("nobody waits for it any more")

    async def unloaded(self, model_key: str) -> None:
        await self._channels.worker.send(Unloaded(model_key))

    async def queue(self) -> QueueView:
        view = await ask(self._channels.worker, Describe)
        lanes = await self._reader.read(tables.lane_counts)
        return with_batch(view, lanes, time.time_ns() // 1000)

    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        return await self._reader.read(query)


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


async def run(
    listener: socket.socket,
    channels: Channels,
    reader: Reader,
    target: Target,
    inventory: Callable[[], Inventory],
    metrics: Metrics,
    door: app.Door,
    limits: EdgeLimits,
    grace: float,
    stopping: trio.Event,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until `stopping` is set; then finish what runs, for at most `grace` seconds."""
    ports = Ports(Desk(channels, reader, inventory), target)
    own = LazyApp(ports, metrics.exposition)
    asgi = app.build(ports, door, own, metrics.answered)

    async def stop() -> None:
        await stopping.wait()
        await channels.worker.send(Drain())

    await serve(
        while_connected(asgi),
        listener.dup(),
        limits,
        shutdown=stop,
        grace=grace,
        task_status=task_status,
    )


def while_connected(asgi: ASGIApp) -> ASGIApp:
    """Cancel the app when its client hangs up: what it waits for is nobody's any more."""

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await asgi(scope, receive, send)
            return
        async with trio.open_nursery() as nursery:

            async def hang_up() -> None:
                await receive()  # after the whole body there is only the disconnect
                nursery.cancel_scope.cancel("the client hung up")

            async def receive_and_watch() -> Message:
                message = await receive()
                if not message.get("more_body", False):
                    nursery.start_soon(hang_up)
                return message

            await asgi(scope, receive_and_watch, send)
            nursery.cancel_scope.cancel("answered")

    return watched
