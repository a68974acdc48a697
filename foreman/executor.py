"""Where blocking database work runs: in a thread, or, under a mock clock, on the spot."""

from collections.abc import Callable
from typing import Protocol, TypeVar

import trio

T = TypeVar("T")


class Executor(Protocol):
    """Runs a blocking function and returns what it returned. Cancellation waits for its end."""

    async def __call__(self, work: Callable[[], T], /) -> T: ...


def threaded(threads: int) -> Executor:
    """At most this many functions at a time, each in a worker thread."""
    limiter = trio.CapacityLimiter(threads)

    async def run(work: Callable[[], T], /) -> T:
        return await trio.to_thread.run_sync(work, limiter=limiter)

    return run


async def inline(work: Callable[[], T], /) -> T:
    """For tests with a mock clock: while a thread works, that clock would run away."""
    await trio.lowlevel.checkpoint()
    return work()
