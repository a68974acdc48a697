"""Runs a coroutine function under trio or asyncio, on a clock that is real or jumps."""

import asyncio
import selectors
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio
import trio.testing

T = TypeVar("T")

BACKENDS = ("trio", "asyncio")
LIMIT = 20.0  # seconds a test may take; a hung one fails instead, at once on a clock that jumps


class _JumpingSelector(selectors.DefaultSelector):
    """Where a loop would wait for its next timer, the time it would have waited has passed."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0 if timeout is not None else None)
        if not ready and timeout is not None:
            self.now += max(0.0, timeout)
        return ready


class JumpingLoop(asyncio.SelectorEventLoop):
    """asyncio's answer to trio's MockClock: jumps to the next timer when nothing else is ready."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


def run(function: Callable[[], Awaitable[T]], backend: str = "trio", virtual: bool = False) -> T:
    """What it returns. `virtual`: the clock jumps; not for tests with threads or sockets."""

    async def limited() -> T:
        with anyio.fail_after(LIMIT * 1000 if virtual else LIMIT):
            return await function()

    options: dict[str, Any] = {}
    if virtual and backend == "trio":
        options = {"clock": trio.testing.MockClock(autojump_threshold=0)}
    elif virtual:
        options = {"loop_factory": JumpingLoop}
    return anyio.run(limited, backend=backend, backend_options=options)
