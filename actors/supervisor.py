"""Supervision: restart what crashes, one for one, within a budget; start and stop in tiers."""

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import trio

from foreman.errors import TooManyRestarts

log = logging.getLogger("foreman.supervisor")


Told = Callable[[str], None]
"""Hears the name of an actor that crashed and is started again."""


class Run(Protocol):
    """An actor with its ports bound: starts, reports that it serves, returns when drained."""

    def __call__(self, *, task_status: trio.TaskStatus[None]) -> Awaitable[None]: ...


@dataclass(frozen=True, slots=True)
class Child:
    """One actor of a tier. `drain` closes what feeds it: the signal to finish and return."""

    name: str
    run: Run
    drain: Callable[[], None] = lambda: None


@dataclass(slots=True)
class RestartBudget:
    """At most `restarts` crashes in any `within` seconds, shared by the siblings of a tier."""

    restarts: int
    within: float
    _spent: deque[float] = field(default_factory=deque[float])

    def spend(self, now: float) -> bool:
        """Record a crash at `now` (seconds); False when that was one too many."""
        self._spent.append(now)
        while self._spent[0] < now - self.within:
            self._spent.popleft()
        return len(self._spent) <= self.restarts


async def keep_running(
    child: Child,
    budget: RestartBudget,
    pause: float,
    restarted: Told = lambda actor: None,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run `child` and, after a crash, run it again `pause` seconds later.

    A crash before it ever served is a boot failure and propagates. So does the crash that spends
    the budget, as TooManyRestarts: the process ends and the service manager restarts it.
    """
    ready = False
    while True:
        try:
            async with trio.open_nursery() as incarnation:
                await incarnation.start(child.run)
                if not ready:
                    ready = True
                    task_status.started()
            return  # inbox closed and drained: an end, not a crash
        except Exception as crash:  # ExceptionGroup too; Cancelled passes through
            if not ready:
                raise
            log.exception("%s crashed", child.name, extra={"actor": child.name})
            if not budget.spend(trio.current_time()):
                raise TooManyRestarts(child.name) from crash
            restarted(child.name)
        await trio.sleep(pause)


@dataclass(frozen=True, slots=True)
class Tier:
    """Actors that start together and stop together, and how long a stop may take them (s)."""

    children: Sequence[Child]
    grace: float
    budget: Callable[[], RestartBudget]
    restarted: Told = lambda actor: None
    pause: float = 0.5


async def run_until(
    stop: trio.Event, tiers: Sequence[Tier], ready: Callable[[], None] = lambda: None
) -> None:
    """Start the tiers left to right, call `ready`; when `stop` is set, end them right to left.

    A tier is told to end by closing what feeds its actors; its grace is the deadline for those
    that do not return by themselves.
    """
    if not tiers:
        ready()
        await stop.wait()
        return
    tier, *rest = tiers
    budget = tier.budget()
    async with trio.open_nursery() as nursery:
        for child in tier.children:
            await nursery.start(keep_running, child, budget, tier.pause, tier.restarted)
        await run_until(stop, rest, ready)
        nursery.cancel_scope.deadline = trio.current_time() + tier.grace
        for child in tier.children:
            child.drain()
