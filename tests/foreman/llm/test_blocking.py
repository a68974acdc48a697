"""The blocking facade, over a loop of either kind."""

import threading
from collections.abc import AsyncGenerator, AsyncIterator
from concurrent.futures import CancelledError
from contextlib import asynccontextmanager, suppress
from typing import Literal

import anyio
import anyio.lowlevel
import pytest

from foreman.llm import Blocking, Capabilities, Event, Request, ServerError, StreamBroken
from foreman.llm.providers.fake import Cut, End, FakeModel, FakeProvider, Hang, Say, Status

HI = Request.of("Hi")
Backend = Literal["trio", "asyncio"]

pytestmark = pytest.mark.parametrize("backend", ["trio", "asyncio"])


def test_a_call_returns_when_it_is_done(backend: Backend) -> None:
    with Blocking(FakeProvider(otherwise=Say("Hello")).model("m"), backend=backend) as model:
        assert model.complete(HI).text == "Hello"
        assert model.complete(HI).text == "Hello"


def test_a_call_raises_what_the_model_raises(backend: Backend) -> None:
    with Blocking(FakeProvider(otherwise=Status(503)).model("m"), backend=backend) as model:
        with pytest.raises(ServerError):
            model.complete(HI)
        with pytest.raises(ServerError), model.stream(HI) as events:
            list(events)


def test_a_stream_gives_its_events_and_then_its_error(backend: Backend) -> None:
    heard: list[str] = []
    with Blocking(FakeProvider(otherwise=Cut(2)).model("m"), backend=backend) as model:
        with pytest.raises(StreamBroken), model.stream(HI) as events:
            for event in events:
                heard.append(event.delta)

    assert heard == ["token ", "token "]


def test_a_long_stream_waits_for_a_slow_reader(backend: Backend) -> None:
    words = tuple(str(n) for n in range(200))
    with Blocking(FakeProvider(otherwise=Say(tokens=words)).model("m"), backend=backend) as model:
        with model.stream(HI) as events:
            assert [event.delta for event in events] == [*words, ""]


def test_leaving_a_stream_early_ends_the_call(backend: Backend) -> None:
    fake = FakeProvider(otherwise=Hang(1))
    with Blocking(fake.model("m"), backend=backend) as model:
        with model.stream(HI) as events:
            next(events)
        assert fake.calls[0].end is End.LEFT


def test_an_error_of_the_readers_ends_the_call_and_passes(backend: Backend) -> None:
    fake = FakeProvider(otherwise=Hang(1))
    with Blocking(fake.model("m"), backend=backend) as model:
        with pytest.raises(ZeroDivisionError), model.stream(HI) as events:
            next(events)
            raise ZeroDivisionError
        assert fake.calls[0].end is End.LEFT


class Slow(FakeModel):
    """Takes a few steps to let go of a call."""

    closed = False

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncGenerator[AsyncIterator[Event]]:
        try:
            async with super().stream(request) as events:
                yield events
        finally:
            with anyio.CancelScope(shield=True):
                for _ in range(1000):
                    await anyio.lowlevel.checkpoint()
            self.closed = True


def test_a_stream_is_over_when_its_block_is(backend: Backend) -> None:
    slow = Slow(FakeProvider(otherwise=Hang(1)), "m", Capabilities())
    with Blocking(slow, backend=backend) as model:
        with model.stream(HI) as events:
            next(events)
        assert slow.closed


def test_an_error_in_the_block_cancels_what_is_under_way(backend: Backend) -> None:
    fake = FakeProvider(otherwise=Hang())
    threads: list[threading.Thread] = []

    with pytest.raises(ZeroDivisionError), Blocking(fake.model("m"), backend=backend) as model:
        threads.append(threading.Thread(target=_ask_in_vain, args=(model,)))
        threads[0].start()
        while not fake.calls:
            pass
        raise ZeroDivisionError

    threads[0].join(10)
    assert not threads[0].is_alive()
    assert fake.calls[0].end is End.LEFT


def _ask_in_vain(model: Blocking) -> None:
    with suppress(CancelledError):
        model.complete(HI)


def test_the_provider_is_closed_with_the_block(backend: Backend) -> None:
    fake = FakeProvider()
    with Blocking(fake.model("m"), aclose=fake.aclose, backend=backend):
        assert not fake.closed

    assert fake.closed


def test_nothing_runs_outside_of_the_block(backend: Backend) -> None:
    model = Blocking(FakeProvider().model("m"), backend=backend)
    with pytest.raises(RuntimeError, match="inside its `with` block"):
        model.complete(HI)
    with model:
        pass
    with pytest.raises(RuntimeError, match="inside its `with` block"), model.stream(HI):
        pass


def test_any_thread_may_call(backend: Backend) -> None:
    answers: list[str] = []
    with Blocking(FakeProvider(otherwise=Say("Hello")).model("m"), backend=backend) as model:
        threads = [
            threading.Thread(target=lambda: answers.append(model.complete(HI).text))
            for _ in range(4)
        ]
        for each in threads:
            each.start()
        for each in threads:
            each.join()

    assert answers == ["Hello"] * 4
