"""What the tests with real processes share: a target, jobs on the disk, an audit, raw HTTP."""

import json
import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
import trio

from foreman import tables
from foreman.admission import admit
from foreman.database import open_writer
from foreman.embedded import server
from foreman.embedded.app import EmbeddedTarget
from foreman.embedded.script import Script
from foreman.jobs import JobClass, JobId, JobIds
from foreman.tables import NewJob, Transaction
from foreman.wire import route_for
from tests.fakes.daemon import Process
from tests.fakes.gates import GatedEngine

NOW = 1_800_000_000_000_000
ENDED = ("done", "failed")


@dataclass(frozen=True)
class Upstream:
    """An embedded target in this process, for daemons in processes of their own."""

    url: str
    engine: GatedEngine
    target: EmbeddedTarget


@asynccontextmanager
async def upstream(script: Script | None = None) -> AsyncGenerator[Upstream]:
    engine = GatedEngine(script)
    target = EmbeddedTarget(engine)
    async with trio.open_nursery() as nursery:
        url = await nursery.start(server.serve, target)
        yield Upstream(url, engine, target)
        nursery.cancel_scope.cancel("the test is over")


def chat(model: str = "small", **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "x"}], **fields}


def seed(folder: Path, count: int, model: str = "small") -> list[JobId]:
    """Durable jobs in the database of a daemon that does not run."""
    route, ids = route_for("POST", "/api/chat"), JobIds()
    assert route is not None
    body = msgspec.json.encode(chat(model, stream=False))
    fingerprint = admit(route, (), body).fingerprint
    new = [
        NewJob(ids.new(), JobClass.BATCH, "/api/chat", model, fingerprint, body)
        for _ in range(count)
    ]
    with open_writer(folder, now=NOW, ballast=4096) as database:
        for each in new:
            tables.submit(Transaction(database.connection, NOW, database.epoch), each)
        database.close()
    return [each.id for each in new]


def audit(folder: Path) -> list[str]:
    """What is wrong with the database: foreman's own check, and the same in other words."""
    connection = sqlite3.connect(folder / "foreman.db")
    try:
        problems = tables.check(connection, None)
        for name, query in _AUDIT.items():
            problems += [f"{name}: {row}" for row in connection.execute(query).fetchall()]
        problems += [
            each for (each,) in connection.execute("PRAGMA integrity_check") if each != "ok"
        ]
        return problems
    finally:
        connection.close()


def rows(folder: Path, job_class: str = "interactive") -> list[dict[str, Any]]:
    """The jobs of a class as they stand on the disk, oldest first."""
    connection = sqlite3.connect(folder / "foreman.db")
    connection.row_factory = sqlite3.Row
    try:
        query = "SELECT * FROM jobs WHERE class = ? ORDER BY id"
        return [dict(row) for row in connection.execute(query, (job_class,)).fetchall()]
    finally:
        connection.close()


def reasons(folder: Path, job: JobId) -> list[str]:
    """The job's states in order, and the reasons for which it was queued again."""
    connection = sqlite3.connect(folder / "foreman.db")
    try:
        query = "SELECT state, detail FROM events WHERE job = ? ORDER BY n"
        log = connection.execute(query, (job,)).fetchall()
        return [json.loads(detail).get("reason", state) for state, detail in log]
    finally:
        connection.close()


async def until(condition: Callable[[], Awaitable[bool]] | Callable[[], bool]) -> None:
    """Return when it holds; asked again and again, with the test's own limit."""
    while True:
        found = condition()
        if found if isinstance(found, bool) else await found:
            return
        await trio.lowlevel.checkpoint()


async def state_of(foreman: Process, job: str) -> str:
    async with httpx.AsyncClient(base_url=foreman.url, trust_env=False) as client:
        answer = await client.get(f"/jobs/{job}")
        return str(answer.json().get("state", answer.status_code))


async def raw(url: str, pieces: Iterable[bytes]) -> bytes:
    """Send bytes to a server and return all it says until it closes."""
    at = httpx.URL(url)
    stream = await trio.open_tcp_stream(at.host, at.port or 80)
    received = bytearray()
    async with stream, trio.open_nursery() as nursery:

        async def send() -> None:
            try:
                for piece in pieces:
                    await stream.send_all(piece)
            except trio.BrokenResourceError:
                pass  # it has heard enough

        nursery.start_soon(send)
        try:
            async for data in stream:
                received += data
        except trio.BrokenResourceError:
            pass
        nursery.cancel_scope.cancel("it closed")
    return bytes(received)


_AUDIT = {
    "a gap in a log": """
        SELECT job, count(*), max(n) FROM events GROUP BY job
        HAVING count(*) != max(n) OR min(n) != 1""",
    "an event after the end": """
        SELECT a.job FROM events a JOIN events b ON a.job = b.job AND b.n > a.n
        WHERE a.state IN ('done', 'failed')""",
    "a step that is not allowed": """
        SELECT a.job, a.state, b.state FROM events a
        JOIN events b ON a.job = b.job AND b.n = a.n + 1
        WHERE a.state || '-' || b.state NOT IN ('queued-loading', 'queued-failed',
            'loading-working', 'loading-queued', 'loading-failed', 'working-done',
            'working-queued', 'working-failed')""",
    "a job without its last state": """
        SELECT id FROM jobs WHERE state != (
            SELECT state FROM events WHERE job = jobs.id ORDER BY n DESC LIMIT 1)""",
    "a sum that is wrong": """
        SELECT queued FROM store WHERE queued !=
            (SELECT count(*) FROM jobs WHERE state = 'queued' AND class = 'batch')""",
}
