"""The embedded target, and a real daemon in front of it, in a thread with a trio loop of its own.

So that whoever calls them may run on any loop.
"""

import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import trio

from foreman.embedded import server
from foreman.embedded.app import EmbeddedTarget
from foreman.embedded.script import AnyFault, ModelScript, Script
from tests.fakes.daemon import spawned
from tests.fakes.gates import GatedEngine

STARTING = 30.0  # seconds
EMBEDDER = ModelScript(name="e", capabilities=("embedding",))
_numbers = count(1)


@dataclass
class Home:
    """A server on another thread's loop."""

    url: str
    engine: GatedEngine
    target: EmbeddedTarget
    loop: trio.lowlevel.TrioToken

    def play(self, *faults: AnyFault, **play: Any) -> str:
        """The model that does it, which is new: a loaded one would go on with its old play."""
        name = f"m{next(_numbers)}"
        able = ("completion", "tools", "thinking", "vision")
        model = ModelScript(name=name, capabilities=able, **play)
        script = Script(models=(model, EMBEDDER), faults=faults)
        self._on_loop(lambda: setattr(self.engine, "script", script))
        return name

    def hold(self) -> None:
        """No token comes any more."""
        self._on_loop(self.engine.tokens.close)

    def release(self) -> None:
        """They come again."""
        self._on_loop(self.engine.tokens.open)

    def _on_loop(self, call: Callable[[], object]) -> None:
        done = threading.Event()

        def report() -> None:
            call()
            done.set()

        self.loop.run_sync_soon(report)
        assert done.wait(STARTING)


@contextmanager
def embedded() -> Generator[Home]:
    """The embedded target by itself."""
    with _in_thread(_target()) as home:
        yield home


@contextmanager
def foreman(data_dir: Path, **variables: str) -> Generator[Home]:
    """A daemon, in a process of its own, in front of it. `variables`: see `spawned`."""
    with _in_thread(_daemon(data_dir, variables)) as home:
        yield home


@asynccontextmanager
async def _target() -> AsyncGenerator[Home]:
    engine = GatedEngine()
    target = EmbeddedTarget(engine)
    async with trio.open_nursery() as nursery:
        url = await nursery.start(server.serve, target)
        yield Home(url, engine, target, trio.lowlevel.current_trio_token())
        nursery.cancel_scope.cancel("the tests are over")


@asynccontextmanager
async def _daemon(data_dir: Path, variables: dict[str, str]) -> AsyncGenerator[Home]:
    async with _target() as home, spawned(data_dir, home.url, **variables) as process:
        yield Home(process.url, home.engine, home.target, home.loop)


@contextmanager
def _in_thread(start: AbstractAsyncContextManager[Home]) -> Generator[Home]:
    ready: SimpleQueue[Home | BaseException] = SimpleQueue()
    over = trio.Event()

    async def run() -> None:
        async with start as home:
            ready.put(home)
            await over.wait()

    def body() -> None:
        try:
            trio.run(run)
        except BaseException as error:  # noqa: ASYNC103, BLE001  raised where it is waited for
            ready.put(error)

    thread = threading.Thread(target=body)
    thread.start()
    home: Any = ready.get(timeout=STARTING)
    if isinstance(home, BaseException):
        raise home
    try:
        yield home
    finally:
        home.loop.run_sync_soon(over.set)
        thread.join()
    if not ready.empty():
        raise AssertionError("the server failed") from ready.get()  # type: ignore[misc]
