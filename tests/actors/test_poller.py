"""The poller: what it remembers, when it looks, whom it tells."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from actors import poller
from actors.mailbox import ask
from actors.messages import PollerMessage, Refresh, Wake
from actors.supervisor import Child, RestartBudget, keep_running
from foreman.errors import NoReply
from foreman.inventory import Inventory
from foreman.target import Target
from tests.fakes.target import JSON, TAGS, FakeTarget, Says

A = "registry.ollama.ai/library/a:latest"


@dataclass
class Polled:
    """A running poller and what it published."""

    inbox: trio.MemorySendChannel[PollerMessage]
    wakes: trio.MemoryReceiveChannel[Wake]
    published: list[Inventory] = field(default_factory=list[Inventory])

    @property
    def now(self) -> Inventory:
        return self.published[-1]

    async def refresh(self) -> Inventory:
        return await ask(self.inbox, Refresh)

    def woken(self) -> bool:
        try:
            self.wakes.receive_nowait()
        except trio.WouldBlock:
            return False
        return True


@asynccontextmanager
async def polling(
    target: Target, interval: float = 30, embed_model: str | None = None
) -> AsyncGenerator[Polled]:
    """A poller under supervision; its inbox is closed at the end, and it must return."""
    inbox, questions = trio.open_memory_channel[PollerMessage](64)
    worker, wakes = trio.open_memory_channel[Wake](1)
    polled = Polled(inbox, wakes)
    ports = poller.Ports(target, polled.published.append, worker)
    run = partial(poller.run, questions, ports, interval, embed_model)
    with questions, worker, wakes:
        async with trio.open_nursery() as nursery:
            await nursery.start(keep_running, Child("poller", run), RestartBudget(3, 60), 0.5)
            with inbox:
                yield polled


async def test_it_looks_at_once_and_at_every_interval(autojump_clock: MockClock) -> None:
    target = FakeTarget()
    async with polling(target):
        await trio.sleep(100)
    looks = target.asked("/api/tags")
    assert looks[0] == 0
    assert 4 <= len(looks) <= 5


async def test_a_target_that_is_away_leaves_the_last_inventory_degraded(
    autojump_clock: MockClock,
) -> None:
    target = FakeTarget()
    async with polling(target) as polled:
        await trio.sleep(1)
        assert not polled.now.degraded
        target.up = False
        await trio.sleep(31)
        assert (polled.now.degraded, polled.now.tags) == (True, TAGS)
        assert polled.now.find(A) is not None


async def test_the_return_of_the_target_is_seen_within_five_seconds_and_wakes_the_worker(
    autojump_clock: MockClock,
) -> None:
    target = FakeTarget()
    target.up = False
    async with polling(target) as polled:
        await trio.sleep(1000)
        assert not polled.woken()
        target.up = True
        await trio.sleep(5)
        assert not polled.now.degraded
        assert polled.woken()


@pytest.mark.parametrize(
    "answer",
    [
        Says([b"<html>"]),
        Says([b'{"models":[{"digest":1}]}']),
        Says([b"oops"], status=500),
        Says(before=[10_000]),
    ],
)
async def test_garbage_an_error_or_silence_is_as_good_as_away(
    autojump_clock: MockClock, answer: Says
) -> None:
    target = FakeTarget()
    target.plays("/api/tags", answer)
    async with polling(target) as polled:
        await trio.sleep(6)
        assert polled.now.degraded
        assert polled.now.reason


async def test_a_slow_list_of_what_is_loaded_means_busy_and_not_away(
    autojump_clock: MockClock,
) -> None:
    target = FakeTarget()
    target.plays("/api/ps", Says(before=[10_000]))
    async with polling(target) as polled:
        await trio.sleep(6)
        assert not polled.now.degraded


async def test_any_number_of_misses_share_one_look(autojump_clock: MockClock) -> None:
    target = FakeTarget()
    async with polling(target) as polled:
        await trio.sleep(1)
        target.plays("/api/tags", Says([TAGS], content_type=JSON, before=[2]))
        async with trio.open_nursery() as askers:
            for _ in range(50):
                askers.start_soon(polled.refresh)
        assert trio.current_time() <= 5
    assert len(target.asked("/api/tags")) <= 3


async def test_an_asker_that_has_gone_disturbs_nobody(autojump_clock: MockClock) -> None:
    target = FakeTarget()
    target.plays("/api/tags", Says([TAGS], content_type=JSON, before=[2]))
    async with polling(target) as polled:
        with trio.move_on_after(1):
            await polled.refresh()
        assert (await polled.refresh()).find(A) is not None


async def test_a_crash_tells_who_waited_and_loses_no_mail(autojump_clock: MockClock) -> None:
    target = FakeTarget()
    good = Says([TAGS], content_type=JSON)
    target.plays("/api/tags", good, Says(before=[1, RuntimeError("unforeseen")]), good)
    async with polling(target) as polled:
        await trio.sleep(1)
        outcomes: list[str] = []

        async def asker(after: float) -> None:
            await trio.sleep(after)
            try:
                await polled.refresh()
                outcomes.append("answered")
            except NoReply:
                outcomes.append("told")

        async with trio.open_nursery() as askers:
            askers.start_soon(asker, 0)
            askers.start_soon(asker, 0.5)  # in the inbox when it crashes
        assert outcomes == ["told", "answered"]


async def test_the_embedding_model_is_brought_in_where_it_is_missing(
    autojump_clock: MockClock,
) -> None:
    target = FakeTarget()
    target.plays("/api/embed", Says([b"{}"], content_type=JSON))
    async with polling(target, embed_model="a"):
        await trio.sleep(1)
        assert target.asked("/api/embed") == [0]
        target.plays("/api/ps", Says([b'{"models":[{"name":"a:latest"}]}'], content_type=JSON))
        await trio.sleep(100)
    assert len(target.asked("/api/embed")) <= 2


async def test_an_embedding_model_that_never_loads_does_not_stop_the_looks(
    autojump_clock: MockClock,
) -> None:
    target = FakeTarget()
    target.plays("/api/embed", Says(before=[10_000]))
    async with polling(target, embed_model="a") as polled:
        await trio.sleep(1)
        asked = trio.current_time()
        await polled.refresh()
        assert trio.current_time() <= asked + poller.KEEP_TIMEOUT
        await trio.sleep(200)
    assert len(target.asked("/api/tags")) >= 4
