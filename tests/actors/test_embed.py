"""The embed bypass: beside the queue, a few at a time, never for a client that has gone."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import trio
from trio.testing import MockClock

from actors import embed
from actors.messages import EmbedCall
from actors.supervisor import Child, RestartBudget, keep_running
from foreman.errors import TargetUnreachable
from foreman.metrics.counts import Metrics
from foreman.target import Target
from foreman.wire import Request, ResponseFailed, ResponsePart, ResponseWhole
from tests.fakes.target import JSON, FakeTarget, Says

VECTOR = b'{"embeddings":[[1]]}'
ASK = Request(b"POST", b"/api/embed", (), b'{"model":"a","input":"x"}')
SLOW = Says([10, VECTOR], content_type=JSON)


@dataclass
class Embedder:
    inbox: trio.MemorySendChannel[EmbedCall]
    metrics: Metrics

    def told(self, line: str) -> bool:
        """Whether a scrape would show it."""
        self.metrics.fill(None, None)
        return line in self.metrics.text().decode().splitlines()

    async def ask(self, scope: trio.CancelScope | None = None) -> list[ResponsePart]:
        """All parts of one answer."""
        parts, answer = trio.open_memory_channel[ResponsePart](1)
        await self.inbox.send(EmbedCall(ASK, parts, scope or trio.CancelScope()))
        with answer:
            return [part async for part in answer]


@asynccontextmanager
async def embedding(
    target: Target, concurrency: int = 2, limit: float = 60
) -> AsyncGenerator[Embedder]:
    inbox, calls = trio.open_memory_channel[EmbedCall](256)
    metrics = Metrics()
    run = partial(embed.run, calls, embed.Ports(target, metrics), concurrency, limit)
    with calls:
        async with trio.open_nursery() as nursery:
            await nursery.start(keep_running, Child("embed", run), RestartBudget(3, 60), 0.5)
            with inbox:
                yield Embedder(inbox, metrics)


def status(parts: list[ResponsePart]) -> int:
    [part] = parts
    assert isinstance(part, ResponseWhole | ResponseFailed)
    head = part.head if isinstance(part, ResponseWhole) else part
    return head.status


async def test_an_embedding_comes_back_whole(autojump_clock: MockClock) -> None:
    target = FakeTarget()
    target.plays("/api/embed", Says([VECTOR], content_type=JSON))
    async with embedding(target) as embedder:
        [whole] = await embedder.ask()
    assert isinstance(whole, ResponseWhole)
    assert whole.body == VECTOR


async def test_as_many_run_at_once_as_may_and_the_others_wait(autojump_clock: MockClock) -> None:
    target = FakeTarget()
    target.plays("/api/embed", SLOW)
    async with embedding(target) as embedder, trio.open_nursery() as clients:
        for _ in range(6):
            clients.start_soon(embedder.ask)
    assert target.asked("/api/embed") == [0, 0, 10, 10, 20, 20]


async def test_a_client_that_leaves_gives_its_place_to_the_next(
    autojump_clock: MockClock,
) -> None:
    target = FakeTarget()
    target.plays("/api/embed", SLOW)
    async with embedding(target, concurrency=1) as embedder, trio.open_nursery() as clients:
        scope = trio.CancelScope()
        clients.start_soon(embedder.ask, scope)
        await trio.sleep(1)
        clients.start_soon(embedder.ask)
        scope.cancel()
    assert trio.current_time() == 11


async def test_a_client_that_has_gone_while_it_waited_is_never_asked_for(
    autojump_clock: MockClock,
) -> None:
    target = FakeTarget()
    target.plays("/api/embed", SLOW)
    async with embedding(target, concurrency=1) as embedder, trio.open_nursery() as clients:
        clients.start_soon(embedder.ask)
        await trio.sleep(1)
        scope = trio.CancelScope()
        clients.start_soon(embedder.ask, scope)
        await trio.sleep(1)
        scope.cancel()
    assert len(target.asked("/api/embed")) == 1


async def test_a_silent_target_is_cut_at_the_limit(autojump_clock: MockClock) -> None:
    target = FakeTarget()
    target.plays("/api/embed", Says(before=[10_000]))
    async with embedding(target, limit=60) as embedder:
        assert status(await embedder.ask()) == 503
    assert trio.current_time() == 60


async def test_a_dead_target_is_refused_after_a_few_failures_and_tried_again_later(
    autojump_clock: MockClock,
) -> None:
    target = FakeTarget()
    target.plays("/api/embed", Says(before=[TargetUnreachable("refused")]))
    async with embedding(target) as embedder:
        for _ in range(3):
            assert status(await embedder.ask()) == 503
        [refused] = await embedder.ask()
        assert refused == ResponseFailed(
            503, "the Ollama server does not answer embeddings at the moment", retry_after=30
        )
        assert len(target.asked("/api/embed")) == 3
        assert embedder.told("foreman_embed_breaker_open 1.0")
        target.plays("/api/embed", Says([VECTOR], content_type=JSON))
        await trio.sleep(30)
        assert status(await embedder.ask()) == 200
        assert embedder.told("foreman_embed_breaker_open 0.0")


async def test_a_refusal_of_the_target_is_an_answer_and_no_failure(
    autojump_clock: MockClock,
) -> None:
    target = FakeTarget()
    target.plays("/api/embed", Says([b'{"error":"no"}'], 400, JSON))
    async with embedding(target) as embedder:
        for _ in range(10):
            assert status(await embedder.ask()) == 400


async def test_a_closed_inbox_lets_the_calls_under_way_end(autojump_clock: MockClock) -> None:
    target = FakeTarget()
    target.plays("/api/embed", SLOW)
    parts, answer = trio.open_memory_channel[ResponsePart](1)
    async with embedding(target) as embedder:
        await embedder.inbox.send(EmbedCall(ASK, parts, trio.CancelScope()))
    assert [type(part) async for part in answer] == [ResponseWhole]
    assert trio.current_time() == 10


async def test_a_crash_cuts_the_calls_under_way_and_serves_the_mail(
    autojump_clock: MockClock,
) -> None:
    target = FakeTarget()
    good = Says([VECTOR], content_type=JSON)
    target.plays("/api/embed", Says([1, RuntimeError("unforeseen")]), good)
    async with embedding(target) as embedder:
        assert await embedder.ask() == []
        assert status(await embedder.ask()) == 200
        assert trio.current_time() == 1.5
