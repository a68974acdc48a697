"""Restarts within a budget, boot failures, tiers that start in order and stop in reverse."""

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock

from actors.supervisor import Child, RestartBudget, Tier, keep_running, run_until
from foreman.errors import TooManyRestarts

PAUSE = 0.5
Started = trio.TaskStatus[None]


def generous() -> RestartBudget:
    return RestartBudget(3, 60)


def crashing(times: int, at: float = 1.0) -> tuple[Callable[..., Awaitable[None]], list[float]]:
    """An actor that serves, crashes `at` seconds later, so many times, and then returns."""
    starts: list[float] = []

    async def run(*, task_status: Started) -> None:
        starts.append(trio.current_time())
        task_status.started()
        await trio.sleep(at)
        if len(starts) <= times:
            raise RuntimeError("an error nobody foresaw")

    return run, starts


def test_the_budget_counts_the_crashes_of_the_last_while_only() -> None:
    budget = RestartBudget(2, 60)
    assert [budget.spend(at) for at in (0, 30, 59, 61, 200)] == [True, True, False, False, True]


async def test_a_crashed_child_is_restarted_after_a_pause(autojump_clock: MockClock) -> None:
    run, starts = crashing(2)
    await keep_running(Child("child", run), generous(), PAUSE)
    assert starts == [0, 1.5, 3]


async def test_a_child_that_crashes_too_often_ends_the_tree(autojump_clock: MockClock) -> None:
    run, starts = crashing(99)
    with pytest.raises(TooManyRestarts) as ended:
        await keep_running(Child("poller", run), generous(), PAUSE)
    assert ended.value.actor == "poller"
    assert len(starts) == 4


async def test_each_restart_is_told_but_not_the_crash_that_ends_it(
    autojump_clock: MockClock,
) -> None:
    run, _ = crashing(99)
    told: list[str] = []
    tier = Tier([Child("poller", run)], 1.0, generous, told.append)
    with pytest.raises(BaseExceptionGroup):
        await run_until(trio.Event(), [tier])
    assert told == ["poller"] * 3


async def test_crashes_far_apart_are_forgiven(autojump_clock: MockClock) -> None:
    run, starts = crashing(10, at=25)
    await keep_running(Child("child", run), generous(), PAUSE)
    assert len(starts) == 11


async def test_siblings_share_a_budget(autojump_clock: MockClock) -> None:
    budget = generous()
    with pytest.RaisesGroup(TooManyRestarts):
        async with trio.open_nursery() as nursery:
            for name in ("one", "two"):
                run, _ = crashing(2)
                nursery.start_soon(keep_running, Child(name, run), budget, PAUSE)


async def test_a_child_that_never_serves_is_a_boot_failure_and_not_restarted(
    autojump_clock: MockClock,
) -> None:
    starts = 0

    async def run(*, task_status: Started) -> None:
        nonlocal starts
        starts += 1
        await trio.lowlevel.checkpoint()
        raise OSError("no such file")

    with pytest.RaisesGroup(OSError):
        await keep_running(Child("child", run), generous(), PAUSE)
    assert starts == 1


async def test_a_child_that_returns_is_not_restarted(autojump_clock: MockClock) -> None:
    run, starts = crashing(0)
    await keep_running(Child("child", run), generous(), PAUSE)
    assert starts == [0]


async def test_a_group_of_errors_is_one_crash(autojump_clock: MockClock) -> None:
    starts = 0

    async def fail() -> None:
        await trio.sleep(1)
        raise RuntimeError

    async def run(*, task_status: Started) -> None:
        nonlocal starts
        starts += 1
        task_status.started()
        if starts == 1:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fail)
                nursery.start_soon(fail)

    await keep_running(Child("child", run), generous(), PAUSE)
    assert starts == 2


async def test_what_is_no_exception_is_not_restarted(autojump_clock: MockClock) -> None:
    async def run(*, task_status: Started) -> None:
        task_status.started()
        await trio.sleep(1)
        raise KeyboardInterrupt

    with pytest.raises(BaseExceptionGroup):
        await keep_running(Child("child", run), generous(), PAUSE)
    assert trio.current_time() == 1


class Tree:
    """Three tiers of one actor each, and what they did."""

    def __init__(self, **drains_in: float) -> None:
        self.seen: list[tuple[str, float]] = []
        self.drains_in = drains_in  # seconds; an actor that is not here never ends by itself
        self.drained = {name: trio.Event() for name in ("store", "worker", "ingress")}

    def tiers(self, grace: float) -> list[Tier]:
        return [
            Tier([Child(name, self.actor(name), event.set)], grace, generous)
            for name, event in self.drained.items()
        ]

    def actor(self, name: str) -> Callable[..., Awaitable[None]]:
        async def run(*, task_status: Started) -> None:
            await trio.sleep(1)
            self.seen.append((f"{name} up", trio.current_time()))
            task_status.started()
            try:
                await self.drained[name].wait()
                await trio.sleep(self.drains_in.get(name, 1000))
            finally:
                self.seen.append((f"{name} down", trio.current_time()))

        return run

    async def run(self, stop_at: float, grace: float) -> None:
        stop = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_until, stop, self.tiers(grace))
            await trio.sleep(stop_at)
            stop.set()


async def test_tiers_start_in_order_and_stop_in_reverse_each_drained_before_the_next(
    autojump_clock: MockClock,
) -> None:
    tree = Tree(store=1, worker=2, ingress=3)
    await tree.run(stop_at=10, grace=5)
    assert tree.seen == [
        ("store up", 1),
        ("worker up", 2),
        ("ingress up", 3),
        ("ingress down", 13),
        ("worker down", 15),
        ("store down", 16),
    ]


async def test_a_tier_that_does_not_drain_is_ended_by_its_grace(
    autojump_clock: MockClock,
) -> None:
    tree = Tree(store=1, ingress=0)
    await tree.run(stop_at=10, grace=5)
    assert tree.seen[3:] == [("ingress down", 10), ("worker down", 15), ("store down", 16)]


async def test_ready_is_told_when_everything_serves(autojump_clock: MockClock) -> None:
    tree, stop, at = Tree(store=0, worker=0, ingress=0), trio.Event(), list[float]()

    def ready() -> None:
        at.append(trio.current_time())
        stop.set()

    await run_until(stop, tree.tiers(5), ready)
    assert at == [3]
