"""For programs without a loop: a model whose calls block.

The model runs on a loop in a thread of its own, one for as long as the `with` block lasts, so its
connections are kept from call to call.
"""

from collections.abc import Awaitable, Callable, Generator, Iterator
from concurrent.futures import wait
from contextlib import AbstractContextManager, ExitStack, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

import anyio
import anyio.from_thread

from foreman.llm.model import Model
from foreman.llm.request import Request
from foreman.llm.response import Event, Response

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal
    from anyio.streams.memory import MemoryObjectSendStream

AHEAD = 16  # events that may wait for a slow reader; then the target waits


class Blocking:
    """The model's calls, each of which returns when it is done.

    `aclose`, a provider's or a registry's, is awaited on the same loop when the block ends. Calls
    raise what the model raises, and RuntimeError outside of the block. Any thread may call.

    >>> from foreman.llm.providers.fake import FakeProvider, Say
    >>> provider = FakeProvider(models={"m": [Say("Hello!")]})
    >>> with Blocking(provider.model("m"), aclose=provider.aclose) as model:
    ...     with model.stream(Request.of("Hi")) as events:
    ...         [event.delta for event in events]
    ['Hello!', '']
    """

    def __init__(
        self,
        model: Model,
        *,
        aclose: Callable[[], Awaitable[None]] | None = None,
        backend: Literal["asyncio", "trio"] = "asyncio",
    ) -> None:
        self._model = model
        self._aclose = aclose
        self._backend = backend
        self._portal: BlockingPortal | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        portal = anyio.from_thread.start_blocking_portal(self._backend)
        self._portal = self._stack.enter_context(portal)
        if self._aclose is not None:
            self._stack.callback(self._portal.call, self._aclose)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._portal = None
        self._stack.__exit__(kind, error, trace)  # an error cancels what is under way

    def complete(self, request: Request) -> Response:
        """The whole answer."""
        return self._running().call(self._model.complete, request)

    def stream(self, request: Request) -> AbstractContextManager[Iterator[Event]]:
        """The answer as it comes; leaving the block, early or not, ends the call."""
        return self._stream(self._running(), request)

    @contextmanager
    def _stream(self, portal: "BlockingPortal", request: Request) -> Generator[Iterator[Event]]:
        """One task lives through the whole stream: scopes opened on the way are left in order."""
        sending, receiving = portal.call(anyio.create_memory_object_stream[Event], AHEAD)
        scope = portal.call(anyio.CancelScope)
        task = portal.start_task_soon(self._pump, request, sending, scope)

        def events() -> Iterator[Event]:
            try:
                while True:
                    yield portal.call(receiving.receive)
            except anyio.EndOfStream:
                task.result()  # raises what ended it

        try:
            yield events()
        finally:
            portal.call(scope.cancel)
            wait([task])
            portal.call(receiving.close)

    async def _pump(
        self, request: Request, sending: "MemoryObjectSendStream[Event]", scope: anyio.CancelScope
    ) -> None:
        with scope, sending:
            async with self._model.stream(request) as events:
                async for event in events:
                    await sending.send(event)

    def _running(self) -> "BlockingPortal":
        if self._portal is None:
            raise RuntimeError("a Blocking model is used inside its `with` block")
        return self._portal
