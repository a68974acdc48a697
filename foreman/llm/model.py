"""What answers: models, and the providers that have them. A chain is a model like any other.

The rules every model keeps, so that one can stand in another's place:

- **Errors**: a call raises a `CallError` (one target's answer) or an `LLMError` of the chain's;
  the vendor's exception is its `__cause__`. Bugs and cancellation pass through as they are.
- **One try**: a provider never retries and never decides who is healthy; the chain does both.
- **Deadlines are the caller's**: `with anyio.fail_after(30): await model.complete(...)`. A provider
  limits only what a caller cannot see, such as the time to connect, and raises `TimedOut` then.
- **Cancellation**: any call may be cancelled at any await, under trio and under asyncio. It gives
  its connection back before it lets the cancellation out, within `CLOSING` seconds.
- **Streaming has one form**: `async with model.stream(request) as events: async for event in
  events`. Leaving the block, early or not, ends the call and closes all it opened; nobody else
  has to. Before the first event an error may come from entering as well as from the first step.
  The events end with the one that has the response; ending without it raises `StreamBroken`.
- **Sharing**: a model takes any number of calls at once. One loop uses it: connections belong to
  the loop that opened them.
"""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec

from foreman.llm.capabilities import Capabilities
from foreman.llm.errors import StreamBroken
from foreman.llm.request import Request
from foreman.llm.response import Event, Response

CLOSING = 2.0  # seconds that giving back a connection may take once a call is over or cancelled

Stream = AbstractAsyncContextManager[AsyncIterator[Event]]
"""Entering it makes the call, leaving it ends the call. Good for one `async with`."""


class Model(Protocol):
    """Something that can be asked."""

    @property
    def name(self) -> str:
        """`provider/model`, or a chain's spec."""
        ...

    @property
    def capabilities(self) -> Capabilities: ...

    async def complete(self, request: Request) -> Response:
        """The whole answer. Raises LLMError."""
        ...

    def stream(self, request: Request) -> Stream:
        """The answer as it comes. Raises LLMError from the block, not from this call."""
        ...


class Listed(msgspec.Struct, frozen=True):
    """A model that a provider says it has. `name` is verbatim, without the provider's."""

    name: str
    capabilities: Capabilities = Capabilities()


class Provider(Protocol):
    """One target, under the name a program gave it."""

    @property
    def name(self) -> str: ...

    def model(self, name: str) -> Model:
        """The model of this name, taken verbatim. Nothing is called: a call will tell."""
        ...

    async def models(self) -> tuple[Listed, ...] | None:
        """What it has; None when it cannot say, which is not the same as none. Raises CallError."""
        ...

    async def aclose(self) -> None:
        """Give everything back. May be called again; calls made later raise `Closed`."""
        ...


async def whole(stream: Stream) -> Response:
    """The response of a streamed call. Raises StreamBroken when the events end without one.

    >>> from foreman.llm.providers.fake import FakeProvider, Say
    >>> model = FakeProvider(models={"m": [Say("Hello!")]}).model("m")
    >>> (await whole(model.stream(Request.of("Hi")))).text
    'Hello!'
    """
    response: Response | None = None
    async with stream as events:
        async for event in events:
            response = event.response
    if response is None:
        raise StreamBroken("the stream ended before the answer did")
    return response
