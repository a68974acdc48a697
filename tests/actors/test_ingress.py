"""The desk: what the HTTP surface asks of the actors, and what happens when a client leaves."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.desk import Channels, Desk
from actors.mailbox import respond
from actors.messages import (
    Call,
    EmbedCall,
    Gone,
    PollerMessage,
    TestWebhook,
    Wake,
    WorkerMessage,
    Write,
)
from foreman.admission import admit
from foreman.artifacts import ArtifactFiles
from foreman.database import open_writer
from foreman.event_tail import EventTail
from foreman.executor import inline
from foreman.inventory import Inventory
from foreman.live_output import LiveOutputs
from foreman.reader import Reader
from foreman.wire import Request, ResponseEnd, ResponseFailed, ResponsePart, route_for

BODY = b'{"model":"a","messages":[1]}'
ASK = Request(b"POST", b"/api/chat", (), BODY)


@dataclass
class Counter:
    """A desk, and the inboxes behind it."""

    desk: Desk
    worker: trio.MemoryReceiveChannel[WorkerMessage]
    embed: trio.MemoryReceiveChannel[EmbedCall]

    async def taken(self) -> Call:
        """The next call, as the worker takes it."""
        call = await self.worker.receive()
        assert isinstance(call, Call)
        respond(call.position, 3)
        return call

    async def call(self, leave_after: int = -1) -> list[ResponsePart]:
        """A client that reads its answer, or leaves after so many parts."""
        route = route_for("POST", "/api/chat")
        assert route is not None
        got: list[ResponsePart] = []
        async with self.desk.call(route, admit(route, (), BODY), ASK) as queued:
            assert queued.position == 3
            while len(got) != leave_after:
                try:
                    got.append(await anext(queued.parts))
                except StopAsyncIteration:
                    break
        return got


@asynccontextmanager
async def counter(folder: Path) -> AsyncGenerator[Counter]:
    to_worker, worker = trio.open_memory_channel[WorkerMessage](8)
    to_poller, poller = trio.open_memory_channel[PollerMessage](8)
    to_embed, embed = trio.open_memory_channel[EmbedCall](8)
    with open_writer(folder, now=1, ballast=4096) as database, to_worker, to_poller, to_embed:
        with Reader(database.directory.database, inline) as reader, worker, poller, embed:
            to_store, _ = trio.open_memory_channel[Write[Any]](0)
            wakes, _ = trio.open_memory_channel[Wake](0)
            to_webhooks, _ = trio.open_memory_channel[TestWebhook](0)
            channels = Channels(to_store, to_worker, wakes, to_poller, to_embed, to_webhooks)
            files = ArtifactFiles(folder / "artifacts")
            desk = Desk(channels, reader, Inventory, EventTail(), LiveOutputs(), files, 10)
            yield Counter(desk, worker, embed)


async def test_a_call_that_was_answered_to_its_end_says_no_goodbye(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with counter(tmp_path) as at, trio.open_nursery() as nursery:
        nursery.start_soon(at.call)
        call = await at.taken()
        for part in (b"x", ResponseEnd()):
            await call.parts.send(part)
        call.parts.close()
        await wait_all_tasks_blocked()
        with pytest.raises(trio.WouldBlock):
            at.worker.receive_nowait()


@pytest.mark.parametrize("parts", [0, 1])
async def test_a_client_that_leaves_is_reported_with_its_own_job(
    autojump_clock: MockClock, tmp_path: Path, parts: int
) -> None:
    async with counter(tmp_path) as at, trio.open_nursery() as nursery:
        nursery.start_soon(at.call, parts)
        call = await at.taken()
        if parts:
            await call.parts.send(b"x")
        assert await at.worker.receive() == Gone(call.job)


async def test_a_client_that_is_cancelled_is_reported_too(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with counter(tmp_path) as at:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(at.call)
            call = await at.taken()
            nursery.cancel_scope.cancel()
        assert at.worker.receive_nowait() == Gone(call.job)


async def test_a_goodbye_that_nobody_takes_is_given_up(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with counter(tmp_path) as at:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(at.call)
            await at.taken()
            for _ in range(8):
                await at.desk.unloaded("a")
            nursery.cancel_scope.cancel()
        assert trio.current_time() == 1


async def test_a_worker_that_drops_a_call_ends_its_answer(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with counter(tmp_path) as at, trio.open_nursery() as nursery:
        answers: list[list[ResponsePart]] = []

        async def client() -> None:
            answers.append(await at.call())

        nursery.start_soon(client)
        call = await at.taken()
        await call.parts.send(ResponseFailed(503, "try again"))
        call.parts.close()
        await wait_all_tasks_blocked()
        assert answers == [[ResponseFailed(503, "try again")]]


async def test_an_embedding_whose_client_leaves_is_cancelled(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with counter(tmp_path) as at:
        async with at.desk.embed(ASK):
            call = at.embed.receive_nowait()
            assert not call.scope.cancel_called
        assert call.scope.cancel_called
