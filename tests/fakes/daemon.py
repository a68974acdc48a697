"""The real daemon in front of the embedded target: real HTTP, a real database, one trio loop.

    async with daemon(tmp_path, max_waiting=2) as foreman:
        answer = await foreman.client.post("/api/chat", json=...)

`foreman.engine` scripts and gates the target, `foreman.oracle` tells what the target saw.
"""

import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from subprocess import PIPE
from typing import Any

import httpx
import trio

from actors import system
from foreman.config import Address, Settings
from foreman.embedded import server
from foreman.embedded.app import EmbeddedTarget
from foreman.embedded.oracle import Oracle
from foreman.embedded.script import Script
from tests.fakes.gates import GatedEngine

SMALL: dict[str, Any] = {"ballast": 4096, "min_free_disk": 1}  # a test needs little of a disk
PATIENCE = 30.0  # seconds that a test may take; nothing in it waits for a clock that long


@dataclass(frozen=True, slots=True)
class Daemon:
    """A daemon that serves. `client` talks to it, `direct` to its target."""

    url: str
    target_url: str
    data_dir: Path
    target: EmbeddedTarget
    engine: GatedEngine
    client: httpx.AsyncClient
    direct: httpx.AsyncClient

    @property
    def port(self) -> int:
        """Where it listens, on 127.0.0.1."""
        return httpx.URL(self.url).port or 0

    @property
    def oracle(self) -> Oracle:
        """What the target saw and did."""
        return self.target.oracle

    async def queue(self) -> Any:
        """The body of GET /queue."""
        return (await self.client.get("/queue")).json()

    async def waits(self, count: int) -> None:
        """Return when exactly `count` calls wait behind the one that runs."""

        async def that_many() -> bool:
            return len((await self.queue())["calls"]) == count

        await until(that_many)

    @asynccontextmanager
    async def crowd(self, count: int, model: str = "small") -> AsyncGenerator[None]:
        """Clients that chat: one runs, the others wait; they hang up at the end of the block."""
        async with trio.open_nursery() as clients:
            for number in range(count):
                body = {"model": model, "messages": [{"role": "user", "content": str(number)}]}
                clients.start_soon(partial(self.client.post, "/api/chat", json=body))
            await self.waits(count - 1)
            await until(self._is_running)
            yield
            clients.cancel_scope.cancel("the crowd leaves")

    async def _is_running(self) -> bool:
        return bool((await self.queue())["running"])

    async def polled(self) -> None:
        """Return when the daemon has seen its target."""

        async def healthy() -> bool:
            return bool((await self.client.get("/healthz")).json()["status"] == "ok")

        await until(healthy)

    async def jobs(self, **filters: str) -> list[Any]:
        """The jobs as GET /jobs lists them, the newest first."""
        jobs: list[Any] = (await self.client.get("/jobs", params=filters)).json()["jobs"]
        return jobs

    async def job_ended(self, job: str) -> Any:
        """The job as GET /jobs/{id} shows it, once it is done or failed."""

        async def ended() -> bool:
            return (await self.job(job))["state"] in ("done", "failed")

        await until(ended)
        return await self.job(job)

    async def job(self, job: str) -> Any:
        """The job as GET /jobs/{id} shows it now."""
        return (await self.client.get(f"/jobs/{job}")).json()


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Return when `condition` holds; it is asked again and again, never by the clock."""
    while not await condition():
        await trio.lowlevel.checkpoint()


@asynccontextmanager
async def daemon(
    data_dir: Path,
    *,
    script: Script | None = None,
    upstream: str | None = None,
    max_loaded: int = 3,
    **settings: Any,
) -> AsyncGenerator[Daemon]:
    """Run the daemon until the block ends; `settings` are those of foreman.config.

    In front of the embedded target (which keeps `max_loaded` models), or of the server at the URL
    `upstream`. Raises TooSlowError when the block takes longer than PATIENCE.
    """
    engine = GatedEngine(script)
    target = EmbeddedTarget(engine, max_loaded=max_loaded)
    async with trio.open_nursery() as nursery:
        target_url = upstream or await nursery.start(server.serve, target)
        config = Settings(
            ollama_url=target_url,
            listen=Address("127.0.0.1", 0),
            data_dir=data_dir,
            **(SMALL | settings),
        )
        async with trio.open_nursery() as running:
            url = await running.start(system.serve, config)
            async with connected(url) as client, connected(target_url) as direct:
                with trio.fail_after(PATIENCE):
                    yield Daemon(url, target_url, data_dir, target, engine, client, direct)
            signal.raise_signal(signal.SIGTERM)  # what it does on a stop is under test, too
        nursery.cancel_scope.cancel("the test is over")


def connected(url: str) -> httpx.AsyncClient:
    """A client with enough connections for a crowd, and no limit but the test's."""
    limits = httpx.Limits(max_connections=None)
    return httpx.AsyncClient(base_url=url, timeout=None, limits=limits, trust_env=False)


@dataclass(frozen=True, slots=True)
class Process:
    """A daemon in a process of its own."""

    url: str
    process: trio.Process


@asynccontextmanager
async def spawned(data_dir: Path, target_url: str, **variables: str) -> AsyncGenerator[Process]:
    """Run `foreman serve` as a process, killed at the end of the block if it still runs.

    `variables` are settings as they stand in the environment, without their prefix.
    """
    plain = {name: value for name, value in os.environ.items() if not name.startswith("FOREMAN_")}
    wanted = {
        "FOREMAN_OLLAMA_URL": target_url,
        "FOREMAN_LISTEN": "127.0.0.1:0",
        "FOREMAN_DATA_DIR": str(data_dir),
        "FOREMAN_LOG_FORMAT": "json",
        **{f"FOREMAN_{name.upper()}": str(value) for name, value in SMALL.items()},
    } | {f"FOREMAN_{name.upper()}": value for name, value in variables.items()}
    command = [sys.executable, "-m", "actors", "serve"]
    async with trio.open_nursery() as nursery:
        process = await nursery.start(
            _run_process, command, {name: value for name, value in wanted.items() if value} | plain
        )
        lines = _Lines(process.stderr)
        try:
            with trio.fail_after(PATIENCE):
                url = await lines.url()
                nursery.start_soon(lines.drain)  # a full pipe would stop the daemon
                yield Process(url, process)
        finally:
            nursery.cancel_scope.cancel("the test is over")


async def _run_process(
    command: list[str],
    environment: dict[str, str],
    *,
    task_status: trio.TaskStatus[trio.Process],
) -> None:
    start = trio.run_process
    await start(
        command,
        env=environment,
        stderr=PIPE,
        check=False,
        deliver_cancel=_kill,
        task_status=task_status,
    )


async def _kill(process: trio.Process) -> None:
    process.kill()


class _Lines:
    """The log of a daemon."""

    def __init__(self, pipe: trio.abc.ReceiveStream) -> None:
        self._pipe = pipe

    async def url(self) -> str:
        """The address in the line that says where it serves."""
        seen = b""
        async for data in self._pipe:
            seen += data
            for line in seen.split(b"\n")[:-1]:
                event = str(json.loads(line).get("event", ""))
                if event.startswith("serving on "):
                    return event.removeprefix("serving on ")
        raise AssertionError(f"the daemon did not start: {seen.decode()}")

    async def drain(self) -> None:
        async for _ in self._pipe:
            pass
