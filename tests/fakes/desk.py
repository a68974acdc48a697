"""The part of the actors' desk that reads, on a database in memory; and a client on bare ASGI."""

import sqlite3
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import trio

from foreman.api.exchange import Exchange, Message
from foreman.api.ports import Desk
from foreman.api.results import Results
from foreman.artifacts import ArtifactFiles, describe
from foreman.event_tail import EventTail
from foreman.executor import inline
from foreman.jobs import FailureCode, JobId, JobIds, Requeue
from foreman.live_output import LiveOutputs
from foreman.migrations import apply
from foreman.rows import Result
from foreman.schema import MIGRATIONS
from foreman.tables import JobRef, Transaction, claim, fail, finish, requeue, start, submit
from tests.fakes.jobs import new_job

T = TypeVar("T")
NOW = 1_800_000_000_000_000
PATIENCE = 10.0  # seconds that an exchange may take; nothing in it waits for a clock


@dataclass
class Heard:
    """What one client got. `whole` when the answer came to its proper end."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""
    pieces: list[bytes] = field(default_factory=list[bytes])
    whole: bool = False

    def take(self, piece: bytes) -> None:
        self.body += piece
        self.pieces.append(piece)

    @property
    def lines(self) -> list[bytes]:
        return self.body.splitlines()


class ReadingDesk:
    """`foreman.api.ports.Desk` as far as results need it, and jobs to be read."""

    def __init__(self, folder: Path) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        apply(self.connection, MIGRATIONS)
        self.tail = EventTail()
        self.live = LiveOutputs()
        self.artifacts = ArtifactFiles(folder / "artifacts")
        self.artifacts.sweep(self.connection)
        self.ids = JobIds()
        self.results = Results(cast(Desk, self), inline)

    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        await trio.lowlevel.checkpoint()
        return query(self.connection)

    # ------------------------------------------------------------ what the jobs do

    def queued(self, **changes: Any) -> JobRef:
        return self._commit(lambda tx: submit(tx, new_job(self.ids.new(), **changes)))

    def working(self, ref: JobRef | None = None, **changes: Any) -> JobRef:
        queued = ref or self.queued(**changes)
        loading = self._commit(lambda tx: claim(tx, queued, resident=True))
        return self._commit(lambda tx: start(tx, loading, load_s=None))

    def done(self, ref: JobRef, body: bytes, kind: str, *, in_file: bool = False) -> JobId:
        result = Result(200, kind, body)
        artifact = describe(result, 1, inline=not in_file)
        if in_file:
            self.artifacts.publish(ref.id, 1, result)
        kept = None if in_file else result
        self._commit(lambda tx: finish(tx, ref, result=kept, artifact=artifact))
        return ref.id

    def lost(self, ref: JobRef, reason: Requeue = Requeue.RESTART) -> JobRef:
        return self._commit(lambda tx: requeue(tx, ref, reason))

    def failed(self, ref: JobRef) -> JobRef:
        return self._commit(lambda tx: fail(tx, ref, FailureCode.TARGET_ERROR, "boom"))

    def _commit(self, step: Callable[[Transaction], JobRef]) -> JobRef:
        tx = Transaction(self.connection, NOW, 1)
        ref = step(tx)
        self.tail.publish(tx.events)
        return ref

    # ------------------------------------------------------------ what a client sees

    async def get(
        self,
        path: str,
        *,
        query: str = "",
        method: str = "GET",
        owner: str | None = None,
        heard: Heard | None = None,
        **headers: str,
    ) -> Heard:
        """One exchange to its end; `heard` fills while it goes on."""
        answer = heard or Heard()

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            await trio.lowlevel.checkpoint()
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                answer.headers = {k.decode(): v.decode() for k, v in message["headers"]}
                return
            assert not answer.whole
            answer.whole = not message["more_body"]
            answer.take(message["body"])

        scope = {
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "headers": [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()],
        }
        with trio.fail_after(PATIENCE):
            await self.results.handle(Exchange(scope, receive, send), owner)
        return answer

    @asynccontextmanager
    async def following(self, path: str, query: str = "") -> AsyncGenerator[Heard]:
        """A client that stays until its answer ends; so does the block."""
        heard = Heard()

        async def get() -> None:
            await self.get(path, query=query, heard=heard)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(get)
            yield heard
