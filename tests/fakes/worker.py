"""A worker on a real store and a real database, in virtual time, before a scripted target."""

import sqlite3
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import trio

from actors import store, worker
from actors.mailbox import ask, nudge, write
from actors.messages import Call, Cancel, Describe, Drain, Gone, Reply, Wake, WorkerMessage, Write
from actors.slot import Ports, Rules
from actors.supervisor import Child, RestartBudget, keep_running
from foreman import tables
from foreman.admission import admit
from foreman.artifacts import ArtifactFiles, Disk
from foreman.attempt import SilenceLimits
from foreman.database import open_writer
from foreman.executor import Executor, inline
from foreman.jobs import JobClass, JobId, JobIds
from foreman.live_output import LiveOutputs
from foreman.metrics.counts import Metrics
from foreman.queue_view import QueueView
from foreman.reader import Reader
from foreman.rows import JobRow
from foreman.scheduling import Limits
from foreman.tables import NewJob
from foreman.target import Target
from foreman.wire import Request, ResponsePart, Route, route_for

EPOCH = 1_800_000_000_000_000  # microseconds: where the wall clock of these tests begins


def wall() -> int:
    """A wall clock that goes with trio's."""
    return EPOCH + round(trio.current_time() * 1e6)


@dataclass
class Client:
    """One waiting client and what it got."""

    job: JobId
    position: int
    parts: trio.MemoryReceiveChannel[ResponsePart]
    got: list[ResponsePart] = field(default_factory=list[ResponsePart])

    async def read(self) -> list[ResponsePart]:
        """Everything, up to the end."""
        async for part in self.parts:
            self.got.append(part)
        return self.got


@dataclass
class Shop:
    """The worker and its surroundings."""

    inbox: trio.MemorySendChannel[WorkerMessage]
    hints: trio.MemorySendChannel[Wake]
    writes: trio.MemorySendChannel[Write[Any]]
    path: Path
    room: int
    live: LiveOutputs
    ids: JobIds = field(default_factory=JobIds)

    async def call(self, model: str = "a", **fields: Any) -> Client:
        """Queue a chat, as the ingress does."""
        body = {"model": model, "messages": [{"role": "user", "content": "x"}], **fields}
        route = route_for("POST", "/api/chat")
        assert route is not None
        parts, answer = trio.open_memory_channel[ResponsePart](self.room)
        job = self.ids.new()

        def question(reply: Reply[int]) -> Call:
            return _call(job, route, body, parts, reply)

        return Client(job, await ask(self.inbox, question), answer)

    async def submit(self, model: str = "a", priority: int = 0, **fields: Any) -> JobId:
        """Store a batch job and say so."""
        job = await self.store(model, priority, **fields)
        nudge(self.hints, Wake())
        return job

    async def store(
        self,
        model: str = "a",
        priority: int = 0,
        expires_at: float | None = None,
        **fields: Any,
    ) -> JobId:
        """Store a batch job without a word; it expires at a time of trio's clock."""
        body = msgspec.json.encode({"model": model, "messages": [1], "stream": False, **fields})
        route = route_for("POST", "/api/chat")
        assert route is not None
        fingerprint = admit(route, (), body).fingerprint
        job = self.ids.new()
        new = NewJob(
            job,
            JobClass.BATCH,
            "/api/chat",
            model,
            fingerprint,
            body,
            priority=priority,
            expires_at=None if expires_at is None else EPOCH + round(expires_at * 1e6),
        )
        await write(self.writes, partial(tables.submit, job=new))
        return job

    async def leave(self, client: Client) -> None:
        """The client hangs up."""
        client.parts.close()
        await self.inbox.send(Gone(client.job))

    async def cancel(self, job: JobId) -> bool:
        """Ask the worker to end a job; whether it was its to end."""
        return await ask(self.inbox, partial(Cancel, job))

    async def drain(self, refuse_at: float) -> None:
        """The daemon stops; `refuse_at` is trio's time."""
        await self.inbox.send(Drain(refuse_at))

    async def view(self) -> QueueView:
        return await ask(self.inbox, Describe)

    def row(self, job: JobId) -> JobRow:
        """The job as it is on disk."""
        row: JobRow | None = self.ask(lambda db: tables.get_job(db, job))
        assert row is not None
        return row

    def history(self, job: JobId) -> list[str]:
        """The states it went through, with the reasons for going back."""
        events = self.ask(lambda db: tables.events_of(db, job))
        return [each.detail.reason or each.state for each in events]

    def ask(self, question: Callable[[sqlite3.Connection], Any]) -> Any:
        connection = sqlite3.connect(self.path)
        try:
            return question(connection)
        finally:
            connection.close()


def _call(
    job: JobId,
    route: Route,
    body: dict[str, Any],
    parts: trio.MemorySendChannel[ResponsePart],
    reply: Reply[int],
) -> Call:
    encoded = msgspec.json.encode(body)
    request = Request(b"POST", b"/api/chat", (), encoded)
    return Call(job, route, admit(route, (), encoded), request, parts, reply)


def rules(**changes: Any) -> Rules:
    settings: dict[str, Any] = {
        "scheduling": Limits(max_wait=600, linger=15),
        "silence": SilenceLimits(300, 60, 20, 3600),
        "max_attempts": 3,
        "max_waiting": 10,
        "max_output": 1 << 20,
        "inline_result": 1 << 18,
    }
    return Rules(**settings | changes)


@asynccontextmanager
async def working(
    folder: Path,
    target: Target,
    *,
    room: int = 16,
    restarts: int = 3,
    execute: Executor = inline,
    disk: Disk | None = None,
    reader: Callable[[Path], Reader] = lambda path: Reader(path, inline),
    **changes: Any,
) -> AsyncGenerator[Shop]:
    """Run a worker, supervised, until the block ends; then its inbox is closed and it drains.

    `room` is that of a client's channel, `execute` the store's, `disk` that of the artifacts,
    `changes` are to the rules.
    """
    writes, written = trio.open_memory_channel[Write[Any]](64)
    inbox, messages = trio.open_memory_channel[WorkerMessage](64)
    hints, wakes = trio.open_memory_channel[Wake](1)
    with open_writer(folder, now=EPOCH, ballast=4096) as database:
        path = database.directory.database
        run_store = partial(
            store.run,
            written,
            database,
            lambda events: None,
            Metrics(),
            post=lambda: None,
            execute=execute,
            now=wall,
            keep_free=0,
        )
        with reader(path) as reading, written, messages, wakes, hints:
            files = ArtifactFiles(folder / "artifacts", disk)
            files.sweep(database.connection)
            live = LiveOutputs()
            ports = Ports(writes, reading, target, Metrics(), files, live, execute, wall)
            run_worker = partial(worker.run, messages, wakes, ports, rules(**changes))
            async with trio.open_nursery() as outer:
                budget = RestartBudget(99, 60)
                await outer.start(keep_running, Child("store", run_store), budget, 0.5)
                async with trio.open_nursery() as inner:
                    child = Child("worker", run_worker)
                    await inner.start(keep_running, child, RestartBudget(restarts, 60), 0.5)
                    with inbox:
                        yield Shop(inbox, hints, writes, path, room, live)
                writes.close()
