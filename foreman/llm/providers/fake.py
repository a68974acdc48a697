"""A provider that does what a script says, for the tests of whoever uses the library.

Outcomes queue up per model, each good for one call; when none is left the provider does its
`otherwise`. Time passes through `sleep`: anyio's, so that a loop with a virtual clock works, or a
`Clock`'s.
"""

from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
)
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Self

import anyio
import anyio.lowlevel
import msgspec

from foreman.llm.capabilities import Capabilities
from foreman.llm.errors import Closed, ModelNotFound
from foreman.llm.model import Listed, Stream, whole
from foreman.llm.providers.script import (
    Cut,
    EndEarly,
    ErrorLine,
    Garble,
    Hang,
    Outcome,
    Refuse,
    Say,
    Status,
    Step,
    steps,
)
from foreman.llm.request import Request
from foreman.llm.response import Event, Response

__all__ = [
    "Call",
    "Clock",
    "Cut",
    "End",
    "EndEarly",
    "ErrorLine",
    "FakeModel",
    "FakeProvider",
    "Garble",
    "Hang",
    "Outcome",
    "Refuse",
    "Say",
    "Status",
]


class End(StrEnum):
    """How a call went, so far."""

    OPEN = "open"
    ANSWERED = "answered"
    FAILED = "failed"
    LEFT = "left"  # cancelled, or its reader went away


class Call(msgspec.Struct):
    """One call that was made."""

    model: str
    request: Request
    streamed: bool
    end: End = End.OPEN


class Clock:
    """Seconds that pass only when somebody sleeps on it, or advances it; no time is spent.

    >>> clock = Clock()
    >>> await clock.sleep(30)
    >>> clock()
    30.0
    """

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds

    async def sleep(self, seconds: float) -> None:
        await anyio.lowlevel.checkpoint()
        self.now += seconds


class FakeProvider:
    """Plays the outcomes scripted for each model, and remembers who asked what.

    Without `models` it has every model there is; with them, those and no other.

    >>> fake = FakeProvider(models={"m": [Status(503), Say("Hello there")]})
    >>> await fake.model("m").complete(Request.of("Hi"))
    Traceback (most recent call last):
    foreman.llm.errors.ServerError: fake/m: scripted failure
    >>> (await fake.model("m").complete(Request.of("Hi"))).text
    'Hello there'
    >>> [str(call.end) for call in fake.calls]
    ['failed', 'answered']
    """

    def __init__(
        self,
        name: str = "fake",
        *,
        models: Mapping[str, Iterable[Outcome]] | None = None,
        otherwise: Outcome = Say(),  # noqa: B008 - frozen
        capabilities: Mapping[str, Capabilities] | None = None,
        sleep: Callable[[float], Awaitable[object]] = anyio.sleep,
    ) -> None:
        self.name = name
        self.otherwise = otherwise
        self.calls: list[Call] = []
        self.closed = False
        self._known = models is not None
        self._outcomes = {each: deque(script) for each, script in (models or {}).items()}
        self._capabilities = capabilities or {}
        self._sleep = sleep

    def script(self, model: str, *outcomes: Outcome) -> None:
        """More outcomes for this model, after those it has."""
        self._outcomes.setdefault(model, deque()).extend(outcomes)

    def made(self, model: str) -> int:
        """Calls made to this model."""
        return sum(call.model == model for call in self.calls)

    def model(self, name: str) -> "FakeModel":
        return FakeModel(self, name, self._capabilities.get(name, Capabilities()))

    async def models(self) -> tuple[Listed, ...] | None:
        await anyio.lowlevel.checkpoint()
        if not self._known:
            return None
        return tuple(Listed(name, self.model(name).capabilities) for name in self._outcomes)

    async def aclose(self) -> None:
        await anyio.lowlevel.checkpoint()
        self.closed = True

    @asynccontextmanager
    async def play(self, call: Call) -> AsyncGenerator[AsyncIterator[Event]]:
        """One call. Raises Closed; whatever the outcome raises comes from the events."""
        if self.closed:
            raise Closed(f"{self.name} is closed")
        self.calls.append(call)
        await anyio.lowlevel.checkpoint()
        playing = _Playing(steps(self._next(call), f"{self.name}/{call.model}"), self._sleep, call)
        try:
            yield playing
        finally:
            if call.end is End.OPEN:
                call.end = End.LEFT

    def _next(self, call: Call) -> Outcome:
        script = self._outcomes.get(call.model)
        if script is None and self._known:
            return ModelNotFound("no such model", target=f"{self.name}/{call.model}", status=404)
        return script.popleft() if script else self.otherwise


class FakeModel:
    """One model of a fake provider."""

    def __init__(self, provider: FakeProvider, model: str, capabilities: Capabilities) -> None:
        self._provider = provider
        self._model = model
        self.name = f"{provider.name}/{model}"
        self.capabilities = capabilities

    async def complete(self, request: Request) -> Response:
        return await whole(self._provider.play(Call(self._model, request, streamed=False)))

    def stream(self, request: Request) -> Stream:
        return self._provider.play(Call(self._model, request, streamed=True))


class _Playing:
    """The events of one call, as its steps say."""

    def __init__(
        self, steps: Iterator[Step], sleep: Callable[[float], Awaitable[object]], call: Call
    ) -> None:
        self._steps = steps
        self._sleep = sleep
        self._call = call

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        await anyio.lowlevel.checkpoint()
        seconds, what = next(self._steps, (0.0, StopAsyncIteration()))
        if seconds > 0:
            await self._sleep(seconds)
        if what is None:
            await anyio.sleep_forever()
        if isinstance(what, Event):
            self._call.end = End.OPEN if what.response is None else End.ANSWERED
            return what
        if not isinstance(what, StopAsyncIteration):
            self._call.end = End.FAILED
        assert what is not None
        raise what
