from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import httpx
import pytest
import trio

from foreman.embedded.app import EmbeddedTarget
from foreman.embedded.memory import in_memory
from foreman.embedded.script import Script
from foreman.embedded.scripted import ScriptedEngine
from foreman.embedded.server import serve

TEST_SECONDS = 20  # no test may hang


class Rig:
    """A scripted target on a real port, and a client for it."""

    def __init__(self, engine: ScriptedEngine, target: EmbeddedTarget, url: str) -> None:
        self.engine = engine
        self.target = target
        self.oracle = target.oracle
        self.url = url
        self.client = httpx.AsyncClient(base_url=url)


Start = Callable[..., Awaitable[Rig]]


@pytest.fixture
async def start(nursery: trio.Nursery) -> AsyncGenerator[Start, None]:
    """Start a rig with this script."""
    rigs: list[Rig] = []

    async def start(script: Script | None = None, *, max_loaded: int = 3) -> Rig:
        engine = ScriptedEngine(script)
        target = EmbeddedTarget(engine, max_loaded=max_loaded)
        rigs.append(Rig(engine, target, await nursery.start(partial(serve, target))))
        return rigs[-1]

    with trio.fail_after(TEST_SECONDS):
        yield start
        for rig in rigs:
            await rig.client.aclose()


@pytest.fixture
async def rig(start: Start) -> Rig:
    """A rig with the default script."""
    return await start()


@asynccontextmanager
async def virtual(target: EmbeddedTarget) -> AsyncGenerator[httpx.AsyncClient, None]:
    """A client without sockets: for tests on the autojump clock."""
    async with (
        in_memory(target) as network,
        httpx.AsyncClient(base_url="http://localhost", timeout=None) as client,
    ):
        pool = client._transport._pool  # type: ignore[attr-defined]
        pool._network_backend = network
        yield client


@pytest.fixture
def open_virtual() -> Callable[..., object]:
    """`virtual`, for test modules."""
    return virtual
